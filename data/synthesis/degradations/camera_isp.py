"""From light to a file's numbers, and what is lost: noise, tone curve, sharpening, compression."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_encoded, to_linear
from freezeframe.data.metrics.image import linear_to_srgb
from freezeframe.data.synthesis.demo.scenes import add_poisson_gaussian_noise
from freezeframe.data.synthesis.scene2d.patterns import Generator, SrgbImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """What a camera does to the light of a clip."""

    contrast: float = 1.0  # exponent on light: below 1, the file's curve is flatter than it says
    shot: float = 0.0  # variance of light per light: one over the electrons of a white pixel
    read: float = 0.0  # standard deviation in the dark, as a part of white
    halo: float = 0.0  # unsharp mask
    jpeg: int | None = None  # quality of motion JPEG
    h264: int | None = None  # constant rate factor

    @classmethod
    def random(cls, rng: Generator) -> Camera:
        """Most clips nearly clean, as real ones are; half of them went through a video codec."""
        noisy = rng.random() < 0.45
        codec = rng.choice(["no", "jpeg", "h264"], p=[0.4, 0.12, 0.48])
        return cls(
            contrast=float(rng.uniform(0.65, 1.15)),
            shot=float(10 ** rng.uniform(-4.5, -2.8)) if noisy else 0.0,
            read=float(10 ** rng.uniform(-3.5, -2.3)) if noisy else 0.0,
            halo=float(rng.uniform(0.1, 0.6)) if rng.random() < 0.15 else 0.0,
            jpeg=int(rng.integers(60, 96)) if codec == "jpeg" else None,
            h264=int(rng.integers(14, 31)) if codec == "h264" else None,
        )


def apply_tone_curve(linear: Tensor, camera: Camera) -> SrgbImage:
    """Noise-free light [3, H, W] as [H, W, 3] sRGB codes under the camera's tone curve: the truth."""
    return linear_to_srgb(linear.clamp(0, 1) ** camera.contrast)


def record_clip(exposures: Sequence[Tensor], camera: Camera, *, seed: int) -> list[SrgbImage]:
    """The frames of a clip as a file shows them.

    Args:
        exposures: Each [3, H, W] linear RGB; sides even.
        camera: What happens to them.
        seed: Chooses the noise.
    """
    noisy = [
        add_poisson_gaussian_noise(linear, shot=camera.shot, read=camera.read, seed=seed + i)
        for i, linear in enumerate(exposures)
    ]
    frames = [apply_tone_curve(_unsharp_mask(linear, camera.halo), camera) for linear in noisy]
    if camera.jpeg is not None:
        return [jpeg(frame, camera.jpeg) for frame in frames]
    return frames if camera.h264 is None else h264(frames, crf=camera.h264)


def h264(frames: Sequence[SrgbImage], *, crf: int) -> list[SrgbImage]:
    """`frames` after a way through an H.264 encoder (4:2:0) and back."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        # With x264's macroblock tree the same frames become another file from run to run.
        options = {"crf": str(crf), "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as container:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]


def jpeg(frame: SrgbImage, quality: int) -> SrgbImage:
    """[H, W, 3] sRGB codes after a way through a JPEG file, colours at half the size."""
    _, jpeg_bytes = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(jpeg_bytes, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]


def _unsharp_mask(linear: Tensor, amount: float) -> Tensor:
    """Unsharp mask on gamma-coded light, as cameras do before they store."""
    if amount == 0:
        return linear
    encoded = to_encoded(linear.clamp(0, 1), SRGB).permute(1, 2, 0).numpy()
    sharper = encoded + amount * (encoded - cv2.GaussianBlur(encoded, (0, 0), 1.0))
    return to_linear(torch.from_numpy(np.clip(sharper, 0, 1)).permute(2, 0, 1), SRGB)
