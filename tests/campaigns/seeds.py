"""Small valid files of every readable format: rendered here, and the awkward and real ones of `shared`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from freezeframe.tests.campaigns.process import ROOT

SHARED = ROOT.parent / "shared"
LARGEST = 65_000  # bytes; larger files take too long for a thousand runs
PHOTOS = frozenset({".jpg", ".png", ".tif", ".webp", ".gif", ".heic", ".bmp"})
VIDEOS: Mapping[str, tuple[str, str, Mapping[str, str]]] = {  # name: codec, pixels, options of the container
    "h264.mp4": ("libx264", "yuv420p", {}),
    "fragments.mp4": ("libx264", "yuv420p", {"movflags": "frag_keyframe+empty_moov"}),
    "hevc.mp4": ("libx265", "yuv420p10le", {}),
    "prores.mov": ("prores_ks", "yuv422p10le", {}),
    "ffv1.mkv": ("ffv1", "bgr0", {}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {}),
    "mjpeg.avi": ("mjpeg", "yuvj420p", {}),
    "mpeg2.mpg": ("mpeg2video", "yuv420p", {}),
    "h264.ts": ("libx264", "yuv420p", {}),
}


def write_clip(
    path: Path, *, frames: int = 12, seed: int = 0, kind: str = "h264.mp4", sound: bool = True
) -> Path:
    """A pan of 6 pixels per frame over a random texture, blurred by 4 pixels: 160x120, 25 fps."""
    import av

    codec, pixels, options = VIDEOS[kind]
    with av.open(str(path), "w", container_options=dict(options)) as container:
        stream: Any = container.add_stream(codec, rate=25, options=_quiet(codec))
        stream.width, stream.height, stream.pix_fmt = 160, 120, pixels
        tone = (
            _tone(container, seed, frames / 25) if sound and path.suffix in {".mp4", ".mov", ".mkv"} else []
        )
        for number, picture in enumerate(pictures(frames, seed)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for packet in tone:
            container.mux(packet)
    return path


def pictures(count: int, seed: int) -> Iterator[Any]:
    """[120, 160, 3] uint8."""
    import cv2
    import numpy as np

    rough = np.random.default_rng(seed).random((120, 160 + 6 * count, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(rough, (0, 0), 2)
    soft = cv2.blur((soft - soft.min()) / (soft.max() - soft.min()), (4, 1))
    for number in range(count):
        yield np.ascontiguousarray((255 * soft[:, 6 * number : 6 * number + 160]).astype(np.uint8))


def write_folder(folder: Path, *, frames: int = 8, seed: int = 0) -> Path:
    """The same as numbered PNG files."""
    from PIL import Image

    folder.mkdir()
    for number, picture in enumerate(pictures(frames, seed)):
        Image.fromarray(picture).save(folder / f"{number:06d}.png")
    return folder


def whole_files(folder: Path) -> None:
    """Fill `folder` with valid files, named by their format."""
    folder.mkdir(exist_ok=True)
    for kind in VIDEOS:
        write_clip(folder / kind, kind=kind)
    _photos(folder)
    tool = SHARED / "tools" / "awkward_files.py"
    if tool.is_file():
        subprocess.run([sys.executable, tool, folder], check=True, capture_output=True)
    for real in sorted((SHARED / "data" / "files").glob("*")):
        (folder / real.name).write_bytes(real.read_bytes())
    for file in folder.iterdir():
        if file.stat().st_size > LARGEST:
            file.unlink()


def _photos(folder: Path) -> None:
    import numpy as np
    from PIL import Image

    (pixels,) = pictures(1, 3)
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    image.save(folder / "plain.jpg", exif=exif, quality=92)
    image.save(folder / "progressive.jpg", progressive=True)
    image.save(folder / "rgb.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(folder / "gray16.png")
    image.convert("RGBA").save(folder / "rgba.png")
    image.save(folder / "lzw.tif", compression="tiff_lzw")
    image.save(folder / "lossy.webp")
    image.convert("P").save(folder / "palette.gif")
    image.save(folder / "plain.bmp")
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.from_pillow(image).save(folder / "phone.heic")


def _tone(container: Any, seed: int, seconds: float) -> list[Any]:
    import av
    import numpy as np

    stream = container.add_stream("aac", rate=48000)
    time = np.arange(int(48000 * seconds)) / 48000
    wave = np.sin(2 * np.pi * (300 + 70 * seed) * time).astype(np.float32)
    packets: list[Any] = []
    for first in range(0, len(wave), 1024):
        chunk = np.stack([wave[first : first + 1024]] * 2)
        frame = av.AudioFrame.from_ndarray(chunk, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, first, Fraction(1, 48000)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _quiet(codec: str) -> dict[str, str]:
    return {"libx265": {"x265-params": "log-level=none:pools=none"}, "libx264": {"threads": "1"}}.get(
        codec, {}
    )
