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
from freezeframe.data.media.video_in.stream_info import address
from freezeframe.data.synthesis.degradations.camera_isp import Camera, developed, recorded
from freezeframe.data.synthesis.scene2d.patterns import Codes

from .random_scene import Exposed, random_scene

SINGLE = 0.25  # share of clips that are one photo
LEAST = 64  # pixels of the shorter side of a picture that is worth cutting from
LARGEST = 1600  # pixels of the longer side; larger ones are made smaller, and sharper by it
_PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
_VIDEOS = (".mp4", ".mov", ".mkv")
_STILLS = 6  # frames taken from a video


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthClip:
    """What a camera recorded of a random scene, and everything that is true about it."""

    frames: tuple[Codes, ...]  # [H, W, 3] sRGB codes, blurred; the middle one is at time 0
    truth: Codes  # [H, W, 3] the middle frame at the middle of its exposure, sharp and free of noise
    exposed: Exposed
    camera: Camera

    @property
    def middle(self) -> int:
        return len(self.frames) // 2

    def flow(self, i: int, j: int) -> Tensor:
        """[2, H, W] where frame j shows what frame i shows; exact for a global shutter."""
        return self.exposed.scene.flow(i - self.middle, j - self.middle)

    def movers(self, i: int) -> Tensor:
        """[H, W] how much of each pixel of frame i moves otherwise than the camera."""
        return self.exposed.scene.movers(i - self.middle)


def synth_clip(seed: int, pictures: Sequence[Codes], *, side: int, length: int = 5) -> SynthClip:
    """The clip of this seed.

    Args:
        seed: Every clip has one; the same seed and pictures give the same clip.
        pictures: To cut scenes from, see `pictures_in`.
        side: Of its frames, even, in pixels.
        length: Of clips that are more than one photo, odd, in frames.
    """
    rng = np.random.default_rng((seed, 1))
    exposed = random_scene(rng, pictures, side=side)
    camera = Camera.by_chance(rng)
    around = 0 if rng.random() < SINGLE else length // 2
    scene, readout = exposed.scene, exposed.readout
    light = [
        scene.blurred(float(t), shutter=exposed.shutter, readout=readout) for t in range(-around, around + 1)
    ]
    return SynthClip(
        frames=tuple(recorded(light, camera, seed=seed)),
        truth=developed(scene.sharp(0.0, readout=readout), camera),
        exposed=exposed,
        camera=camera,
    )


def pictures_in(folder: Path) -> list[Codes]:
    """Every photo of a folder, and some frames of every video in it, as [h, w, 3] sRGB codes.

    Raises:
        UnreadableMedia: There is no picture in it, or one cannot be read.
    """
    found: list[Codes] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix.lower() in _PHOTOS:
            found.append(_photo(path))
        elif path.suffix.lower() in _VIDEOS:
            found += _stills(path)
    found = [picture for picture in found if min(picture.shape[:2]) >= LEAST]
    if not found:
        raise UnreadableMedia(f"{folder}: holds no photo or video to train on; name a folder that does")
    return found


def _photo(path: Path) -> Codes:
    try:
        with Image.open(path) as photo:
            photo.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
            # A copy: tensors must not share memory that is not theirs to write.
            return np.array(photo.convert("RGB"))
    except OSError as error:
        raise UnreadableMedia(f"{path}: cannot be read as a photo ({error}); take it out") from error


def _stills(path: Path) -> list[Codes]:
    with av.open(address(path)) as container:
        stream = container.streams.video[0]
        step = max(1, (stream.frames or 120) // _STILLS)
        chosen = (frame for i, frame in enumerate(container.decode(stream)) if i % step == step // 2)
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in chosen][:_STILLS]
