"""Error of the colour differences beside the edges of moving things, before and after deblurring.

Run: python -m benchmarks.accuracy.chroma [--keep FOLDER]   (needs ../shared/data; about ten minutes on two
cores)

Video in 4:2:0 records the colour differences Cb and Cr at half the size. Rendered clips and the REDS pairs
are encoded as H.264 in 4:2:0 and in 4:4:4 and deblurred. The error is the root mean square of the errors of
Cb and Cr, in 8-bit code values, within `BAND` pixels of the strong edges of the sharp frame that move. Where
things move before a background, only their edges count.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.color import SRGB, ColorSpec, to_encoded
from freezeframe.data.media.photo.files import read_photo
from freezeframe.data.media.video_in.source import open_video
from freezeframe.data.media.video_in.stream_info import ffmpeg_url
from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.demo.football import sports_scene
from freezeframe.data.synthesis.scene2d.cutouts import bar, premultiply
from freezeframe.data.synthesis.scene2d.layered_scene import HomographyFunction, Layer, Scene
from freezeframe.data.synthesis.scene2d.motion import translation, zoom
from freezeframe.pipeline.bench.methods import read
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.tasks.video import deblur_video

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SIZE = (256, 448)
FRAMES, SHUTTER = 9, 0.7
NOISE = 0.7  # standard deviation in 8-bit code values
BAND = 4  # pixels on either side of an edge
EDGE = 12.0  # code values per pixel: gradient of a strong edge, of luma or of a colour difference
MOVING = 3.0  # pixels per frame interval
ENCODINGS = ((18, "yuv420p"), (23, "yuv420p"), (18, "yuv444p"))
BT709 = ColorSpec(matrix=1, full=False, primaries=1, transfer=1, depth=8)

WHITE, GREY, GREEN = (235, 235, 235), (110, 110, 110), (58, 118, 44)
RED, BLUE, YELLOW, BLACK = (196, 30, 36), (28, 50, 170), (238, 206, 40), (22, 22, 24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A clip with its ground truth."""

    name: str
    blurred: list[Tensor]  # [3, H, W] R'G'B' in [0, 1], per frame
    sharp: list[Tensor]
    moving: list[np.ndarray]  # [H, W] bool
    shutter: float | None  # None: estimated


# Scenes


def bars(back: tuple[int, int, int], *fronts: tuple[int, int, int], side: int = 2000) -> SrgbImage:
    """Rounded bars and discs of the colours `fronts` on `back`: edges in every direction."""
    rng = np.random.default_rng(4)
    image = np.full((side // 2, side, 3), back, np.uint8)
    for k in range(150):
        x, y = (int(value) for value in rng.uniform(0, (side, side // 2)))
        angle, length = rng.uniform(0, math.pi), rng.uniform(0, 90)
        end = (round(x + length * math.cos(angle)), round(y + length * math.sin(angle)))
        cv2.line(image, (x, y), end, fronts[k % len(fronts)], int(rng.integers(8, 40)), cv2.LINE_AA)
    return image


def grass(side: int = 2000) -> SrgbImage:
    """Green with the grain of a lawn."""
    rng = np.random.default_rng(5)
    grain = cv2.GaussianBlur(rng.standard_normal((side // 2, side)), (0, 0), 4) * 260
    return np.clip(np.array(GREEN) + grain[..., None], 0, 255).astype(np.uint8)


def photo(name: str) -> SrgbImage:
    linear = read_photo(DATA / name).linear()
    encoded = (to_encoded(linear, SRGB).permute(1, 2, 0).numpy() * 255).round().clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(encoded, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC), np.uint8)


def background(texture: SrgbImage, motion: HomographyFunction) -> Layer:
    h, w = texture.shape[:2]
    placement = translation(SIZE[1] / 2, SIZE[0] / 2) @ zoom(0.5) @ translation(-w / 2, -h / 2)
    return Layer(
        texture=premultiply(texture, None), homography=lambda t: motion(t) @ placement, mirrored=True
    )


def mover(colour: tuple[int, int, int], mask: np.ndarray, motion: HomographyFunction) -> Layer:
    stripes = np.arange(mask.shape[1]) // 14 % 2 * 0.25 + np.arange(mask.shape[0])[:, None] // 18 % 2 * 0.15
    texture = (np.array(colour) * (1 - stripes[..., None])).astype(np.uint8)
    placement = zoom(0.5) @ translation(-mask.shape[1] / 2, -mask.shape[0] / 2)
    return Layer(texture=premultiply(texture, mask), homography=lambda t: motion(t) @ placement, mover=True)


def pan(texture: SrgbImage, dx: float, dy: float) -> Scene:
    return Scene(layers=(background(texture, lambda t: translation(dx * (t - 4), dy * (t - 4))),), size=SIZE)


def movers(
    texture: SrgbImage, colours: tuple[tuple[int, int, int], ...], speed: float, *, camera: float = 0.0
) -> Scene:
    """Bars and a disc that cross a background in both directions, shaded so that their motion is visible."""

    def across(row: int, sign: int) -> HomographyFunction:
        return lambda t: translation(SIZE[1] / 2 + sign * speed * (t - 4), (row + 0.5) * SIZE[0] / 4)

    shapes = (bar(34, 16), bar(24, 24), bar(40, 20), bar(30, 12))
    layers = (
        mover(colours[row % len(colours)], shapes[row], across(row, 1 - 2 * (row % 2))) for row in range(4)
    )
    still = background(texture, lambda t: translation(camera * (t - 4), 0))
    return Scene(layers=(still, *layers), size=SIZE)


SCENES: dict[str, Callable[[], Scene]] = {
    "pan, white on grey": lambda: pan(bars(GREY, WHITE), 14, 5),
    "pan, white on green": lambda: pan(bars(GREEN, WHITE), 14, -4),
    "pan, red, blue, yellow on white": lambda: pan(bars(WHITE, RED, BLUE, YELLOW), -13, 6),
    "pan, white and black on red": lambda: pan(bars(RED, WHITE, BLACK), 15, 0),
    "pan, kodim05": lambda: pan(photo("test/photos/kodim05.png"), 12, 4),
    "pan, kodim08": lambda: pan(photo("test/photos/kodim08.png"), -13, 3),
    "pan, kodim23": lambda: pan(photo("train/kodim23.webp"), 10, 9),
    "movers, white on grass": lambda: movers(grass(), (WHITE,), 11),
    "movers, red and yellow on grass": lambda: movers(grass(), (RED, YELLOW), 12, camera=-5),
    "movers, white and red on kodim19": lambda: movers(
        photo("test/photos/kodim19.png"), (WHITE, RED), 12, camera=4
    ),
    "movers, white and blue on kodim04": lambda: movers(
        photo("train/kodim04.webp"), (WHITE, BLUE), 10, camera=-4
    ),
    "football, seed 7": lambda: sports_scene(SIZE[1], SIZE[0], seed=7),
    "football, seed 3": lambda: sports_scene(SIZE[1], SIZE[0], seed=3),
    "football, seed 5": lambda: sports_scene(SIZE[1], SIZE[0], seed=5),
}


def render(name: str) -> Recording:
    scene, rng = SCENES[name](), np.random.default_rng(6)
    blurred, sharp, moving = [], [], []
    for t in range(FRAMES):
        light = to_encoded(scene.blurred(float(t), shutter=SHUTTER), SRGB)
        noise = torch.from_numpy(rng.normal(0, NOISE / 255, light.shape)).float()
        blurred.append((light + noise).clamp_(0, 1))
        sharp.append(to_encoded(scene.sharp(float(t)), SRGB))
        moving.append(moving_part(scene, float(t)))
    return Recording(name=name, blurred=blurred, sharp=sharp, moving=moving, shutter=SHUTTER)


def moving_part(scene: Scene, t: float) -> np.ndarray:
    """[H, W] bool: what moves, without the background where there are movers."""
    moving = (torch.hypot(*scene.flow(t, t + 0.1)) * 10).numpy() > MOVING
    if any(layer.mover for layer in scene.layers):
        moving &= scene.movers(t).numpy() > 0.5
    return _dilate(moving, 2)


def read_reds(folder: Path) -> Recording:
    blurred, sharp = (
        [
            torch.from_numpy(read(path)).permute(2, 0, 1) / 255
            for path in sorted((folder / kind).glob("*.png"))
        ]
        for kind in ("blur", "sharp")
    )
    moving = [np.ones(frame.shape[1:], bool) for frame in sharp]
    return Recording(name=f"REDS {folder.name}", blurred=blurred, sharp=sharp, moving=moving, shutter=None)


def recordings() -> Iterator[Recording]:
    yield from (render(name) for name in SCENES)
    yield from (read_reds(folder) for folder in sorted((DATA / "test" / "reds").iterdir()))


# Files


def code_values(encoded: Tensor) -> np.ndarray:
    """[3, H, W] code values of Y'CbCr of [3, H, W] R'G'B', not rounded."""
    gain, offset = BT709.encoder
    return torch.addmm(offset, gain, encoded.reshape(3, -1)).view(encoded.shape).numpy()


def half_size(plane: np.ndarray) -> np.ndarray:
    """Chroma as a camera records it: co-sited with every second column, midway between two rows."""
    padded = cv2.copyMakeBorder(plane, 0, 0, 1, 1, cv2.BORDER_REPLICATE)
    columns = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:])[:, ::2] / 4
    return (columns[::2] + columns[1::2]) / 2


def encode(frames: list[Tensor], clip: Path, *, crf: int, pix_fmt: str) -> Path:
    """Encode as H.264. Reproducible to the byte."""
    options = {"crf": str(crf), "threads": "1", "x264-params": "mbtree=0"}
    height, width = frames[0].shape[1:]
    with av.open(ffmpeg_url(clip), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
        for encoded in frames:
            luma, *chroma = code_values(encoded)
            planes = [luma, *(half_size(plane) if pix_fmt == "yuv420p" else plane for plane in chroma)]
            samples = [np.rint(plane).clip(0, 255).astype(np.uint8) for plane in planes]
            frame = av.VideoFrame(width, height, pix_fmt)
            for plane, values in zip(frame.planes, samples, strict=True):
                rows = np.zeros((plane.height, plane.line_size), np.uint8)
                rows[:, : plane.width] = values
                plane.update(rows)
            frame.colorspace = frame.color_primaries = frame.color_trc = frame.color_range = 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return clip


def decode(clip: Path) -> list[np.ndarray]:
    """[3, H, W] code values of Y'CbCr of every frame; chroma interpolated."""
    return [code_values(frame.picture.signal()) for frame in open_video(clip).frames()]


# Scores


def _dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    return cv2.dilate(mask.astype(np.uint8), kernel) > 0


def edge_band(truth: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """[H, W] bool: within `BAND` pixels of a moving edge of luma or of a colour difference."""
    gradient = [np.hypot(*np.gradient(cv2.GaussianBlur(plane, (0, 0), 0.7))) for plane in truth]
    return _dilate((np.max(gradient, axis=0) > EDGE) & moving, BAND)


def errors(frames: list[np.ndarray], recording: Recording) -> tuple[float, float]:
    """Root mean square error of chroma and of luma beside the edges, in code values."""
    chroma, luma = [], []
    for k in range(1, len(frames) - 1):
        truth = code_values(recording.sharp[k])
        square = (frames[k] - truth) ** 2
        band = edge_band(truth, recording.moving[k])
        chroma.append(square[1:, band].mean())
        luma.append(square[0, band].mean())
    return math.sqrt(np.mean(chroma)), math.sqrt(np.mean(luma))


def score(
    recording: Recording, folder: Path, *, crf: int, pix_fmt: str
) -> tuple[tuple[float, float], tuple[float, float]]:
    clip = encode(
        recording.blurred, folder / f"{recording.name} {crf} {pix_fmt}.mp4", crf=crf, pix_fmt=pix_fmt
    )
    config = replace(
        Config(),
        measure=replace(Config().measure, shutter=recording.shutter),
        output=replace(Config().output, force=True),
    )
    output = folder / f"{clip.stem} sharp.mp4"
    deblur_video(clip, output, config=config)
    return errors(decode(clip), recording), errors(decode(output), recording)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        folder.mkdir(exist_ok=True, parents=True)
        print("| clip | encoding | chroma in | chroma out | luma in | luma out |\n|---|---|---|---|---|---|")
        for recording in recordings():
            for crf, pix_fmt in ENCODINGS:
                before, after = score(recording, folder, crf=crf, pix_fmt=pix_fmt)
                numbers = " | ".join(f"{value:.2f}" for value in (before[0], after[0], before[1], after[1]))
                print(f"| {recording.name} | {pix_fmt} crf {crf} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
