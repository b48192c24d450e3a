"""Blurred clips with their sharp middle frame, one per seed."""

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
from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.degradations.camera_isp import Camera, apply_tone_curve, record_clip

from .mover_scene import mover_scene
from .random_scene import SceneExposure, random_scene

SINGLE_PHOTO_PROBABILITY = 0.25  # of a clip of one frame
MIN_SIDE = 64  # pixels of the shorter side; smaller pictures are ignored
MAX_SIDE = 1600  # pixels of the longer side; larger photos are downsampled, which sharpens them
_PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
_VIDEOS = (".mp4", ".mov", ".mkv")
_FRAMES_PER_VIDEO = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthClip:
    """A recorded clip of a random scene, with its ground truth."""

    frames: tuple[SrgbImage, ...]  # [H, W, 3] blurred; the middle one is at time 0
    truth: SrgbImage  # [H, W, 3] latent image of the middle frame, without noise
    exposure: SceneExposure
    camera: Camera

    @property
    def middle(self) -> int:
        return len(self.frames) // 2

    def flow(self, i: int, j: int) -> Tensor:
        """Flow from frame i to frame j, [2, H, W] pixels; exact for a global shutter."""
        return self.exposure.scene.flow(i - self.middle, j - self.middle)

    def movers(self, i: int) -> Tensor:
        """[H, W] alpha in [0, 1] of the independently moving layers of frame i."""
        return self.exposure.scene.movers(i - self.middle)

    def swept_movers(self, i: int) -> Tensor:
        """[H, W] largest alpha of the moving layers while any row of frame i is exposed."""
        exposure = self.exposure
        return exposure.scene.swept_movers(i - self.middle, shutter=exposure.shutter + exposure.readout)


def synth_clip(
    seed: int, pictures: Sequence[SrgbImage], *, side: int, length: int = 5, mover_share: float = 0.0
) -> SynthClip:
    """Draw the clip of a seed.

    Args:
        seed: The same seed and pictures give the same clip.
        pictures: Sources of textures, see `load_pictures`.
        side: Of the frames, even, in pixels.
        length: Number of frames, odd, of clips that are no single photo.
        mover_share: Share of the seeds whose clips show small fast movers, see `mover_scene`; never photos.
    """
    rng = np.random.default_rng((seed, 1))
    small_movers = np.random.default_rng((seed, 3)).random() < mover_share
    exposure = (mover_scene if small_movers else random_scene)(rng, pictures, side=side)
    camera = Camera.random(rng)
    is_photo = rng.random() < SINGLE_PHOTO_PROBABILITY and not small_movers
    return _record(exposure, camera, half_length=0 if is_photo else length // 2, seed=seed)


def _record(exposure: SceneExposure, camera: Camera, *, half_length: int, seed: int) -> SynthClip:
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
    """All photos of a folder, and some frames of each of its videos, [h, w, 3] uint8 sRGB.

    Raises:
        UnreadableMedia: The folder has no photo or video, or one of them cannot be read.
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
            # A copy: arrays that share Pillow's memory are read-only, which torch warns of.
            return np.array(photo.convert("RGB"))
    except OSError as error:
        raise UnreadableMedia(f"{path}: cannot be read as a photo ({error}); remove it") from error


def _video_frames(path: Path) -> list[SrgbImage]:
    with av.open(ffmpeg_url(path)) as container:
        stream = container.streams.video[0]
        step = max(1, (stream.frames or 120) // _FRAMES_PER_VIDEO)
        samples = (frame for i, frame in enumerate(container.decode(stream)) if i % step == step // 2)
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in samples][
            :_FRAMES_PER_VIDEO
        ]
