"""Blurred clips with their sharp middle frame, as many as there are seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image
from torch import Tensor

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.video_in.stream_info import ffmpeg_url
from freezeframe.data.synthesis.degradations.camera_isp import Camera, apply_tone_curve, record_clip
from freezeframe.data.synthesis.scene2d.patterns import SrgbImage

from .random_scene import SceneExposure, random_scene

SINGLE_PHOTO_PROBABILITY = 0.25  # share of clips that are one photo
MIN_SIDE = 64  # pixels of the shorter side of a picture that is worth cutting from
MAX_SIDE = 1600  # pixels of the longer side; larger ones are made smaller, and sharper by it
_PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
_VIDEOS = (".mp4", ".mov", ".mkv")
_FRAMES_PER_VIDEO = 6  # frames taken from a video


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthClip:
    """What a camera recorded of a random scene, and everything that is true about it."""

    frames: tuple[SrgbImage, ...]  # [H, W, 3] sRGB codes, blurred; the middle one is at time 0
    truth: SrgbImage  # [H, W, 3] the middle frame at the middle of its exposure, sharp and free of noise
    exposure: SceneExposure
    camera: Camera

    @property
    def middle(self) -> int:
        return len(self.frames) // 2

    def flow(self, i: int, j: int) -> Tensor:
        """[2, H, W] where frame j shows what frame i shows; exact for a global shutter."""
        return self.exposure.scene.flow(i - self.middle, j - self.middle)

    def movers(self, i: int) -> Tensor:
        """[H, W] how much of each pixel of frame i moves otherwise than the camera."""
        return self.exposure.scene.movers(i - self.middle)


def synth_clip(seed: int, pictures: Sequence[SrgbImage], *, side: int, length: int = 5) -> SynthClip:
    """The clip of this seed.

    Args:
        seed: Every clip has one; the same seed and pictures give the same clip.
        pictures: To cut scenes from, see `load_pictures`.
        side: Of its frames, even, in pixels.
        length: Of clips that are more than one photo, odd, in frames.
    """
    rng = np.random.default_rng((seed, 1))
    exposure = random_scene(rng, pictures, side=side)
    camera = Camera.random(rng)
    half_length = 0 if rng.random() < SINGLE_PHOTO_PROBABILITY else length // 2
    scene, readout = exposure.scene, exposure.readout
    exposures = [
        scene.blurred(float(t), shutter=exposure.shutter, readout=readout)
        for t in range(-half_length, half_length + 1)
    ]
    return SynthClip(
        frames=tuple(record_clip(exposures, camera, seed=seed)),
        truth=apply_tone_curve(scene.sharp(0.0, readout=readout), camera),
        exposure=exposure,
        camera=camera,
    )


def load_pictures(folder: Path) -> list[SrgbImage]:
    """Every photo of a folder, and some frames of every video in it, as [h, w, 3] sRGB codes.

    Raises:
        UnreadableMedia: There is no picture in it, or one cannot be read.
    """
    pictures: list[SrgbImage] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix.lower() in _PHOTOS:
            pictures.append(_photo(path))
        elif path.suffix.lower() in _VIDEOS:
            pictures += _video_frames(path)
    pictures = [picture for picture in pictures if min(picture.shape[:2]) >= MIN_SIDE]
    if not pictures:
        raise UnreadableMedia(f"{folder}: holds no photo or video to train on; name a folder that does")
    return pictures


def _photo(path: Path) -> SrgbImage:
    try:
        with Image.open(path) as photo:
            photo.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
            # A copy: tensors must not share memory that is not theirs to write.
            return np.array(photo.convert("RGB"))
    except OSError as error:
        raise UnreadableMedia(f"{path}: cannot be read as a photo ({error}); take it out") from error


def _video_frames(path: Path) -> list[SrgbImage]:
    with av.open(ffmpeg_url(path)) as container:
        stream = container.streams.video[0]
        step = max(1, (stream.frames or 120) // _FRAMES_PER_VIDEO)
        chosen = (frame for i, frame in enumerate(container.decode(stream)) if i % step == step // 2)
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in chosen][
            :_FRAMES_PER_VIDEO
        ]
