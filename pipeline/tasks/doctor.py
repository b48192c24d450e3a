"""Check of the installation: versions, devices, codecs, and a generated clip, blurred and restored."""

from __future__ import annotations

import os
from fractions import Fraction
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.media.video_in.source import open_video
from freezeframe.data.media.video_in.stream_info import ffmpeg_url
from freezeframe.data.metrics.image import psnr
from freezeframe.data.srgb import linear_to_srgb
from freezeframe.data.synthesis.demo.football import sports_scene
from freezeframe.pipeline.support.extras import slow_notes
from freezeframe.pipeline.support.media import versions

from .video import deblur_video

ENCODERS = ("libx264", "libx265", "libsvtav1", "prores_ks", "ffv1")
MIN_GAIN_DB = 0.5  # smallest gain of the self-check in dB; a broken kernel or codec gains nothing
NUM_FRAMES = 4  # frames of the self-check: two of them have neighbours on both sides


def check_installation(*, min_gain_db: float = MIN_GAIN_DB) -> tuple[str, bool]:
    """A page of text, and whether the self-check gains `min_gain_db`."""
    gain = self_check()
    healthy = gain >= min_gain_db
    missing = [name for name in ENCODERS if name not in av.codecs_available]
    lines = [
        "versions  " + ", ".join(f"{name} {version}" for name, version in versions().items()),
        f"devices   {_devices()}",
        f"kernels   {'compiled by numba' if find_spec('numba') else 'torch'}",
        f"networks  {'OpenVINO or torch' if find_spec('openvino') else 'torch'}",
        *(f"slow      {note}" for note in slow_notes()),
        f"encoders  {', '.join(name for name in ENCODERS if name not in missing)}"
        + (f"; missing: {', '.join(missing)}" if missing else ""),
        f"check     a generated clip, blurred and restored: {gain:+.2f} dB, {'PASS' if healthy else 'FAIL'}",
    ]
    return "\n".join(lines), healthy


def self_check() -> float:
    """PSNR gain in dB of a short generated clip, by the whole pipeline, over its blurred input."""
    scene = sports_scene(320, 180, seed=1)
    sharp = [scene.sharp(float(t)) for t in range(NUM_FRAMES)]
    with TemporaryDirectory() as folder:
        blurry, restored = Path(folder, "blurry.mkv"), Path(folder, "restored.mkv")
        _write([scene.blurred(float(t), shutter=0.6) for t in range(NUM_FRAMES)], blurry)
        deblur_video(blurry, restored)
        before, after = _mean_psnr(blurry, sharp), _mean_psnr(restored, sharp)
    return after - before


def _write(images: list[Tensor], path: Path) -> None:
    """Write [3, H, W] linear RGB images as a lossless clip (FFV1)."""
    with av.open(ffmpeg_url(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[1:], "bgr0"
        for image in images:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(linear_to_srgb(image)), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode(None))


def _mean_psnr(clip: Path, truth: list[Tensor]) -> float:
    frames = zip(count(), open_video(clip).frames(), strict=False)
    return float(np.mean([psnr(frame.picture.linear(), truth[i]) for i, frame in frames]))


def _devices() -> str:
    cpu = f"CPU with {os.cpu_count()} cores"
    if not torch.cuda.is_available():
        return cpu
    cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join([cpu, *cards])
