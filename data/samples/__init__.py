"""Bundled samples with ground truth, rendered by `python -m benchmarks.release.render_samples`."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

ClipName = Literal["handball", "sports"]

BURST_LENGTH = 6


def sample_clip(name: ClipName = "sports") -> Path:
    """A blurred clip with sound. 640x360, 30 frames per second.

    `sports`: two and a half seconds of football under a panning camera. `handball`: half a second of one fast
    player and a ball under a still camera.
    """
    return _path(f"{name}.mp4")


def sample_truth(name: ClipName = "sports") -> Path:
    """The frames of `sample_clip(name)` without motion blur."""
    return _path(f"{name}_truth.mp4")


def sample_burst() -> list[Path]:
    """Six photos of a static scene, each with its own camera shake and displacement."""
    return [_path(f"burst_{number}.jpg") for number in range(1, BURST_LENGTH + 1)]


def sample_burst_truth(reference: int = 0) -> Path:
    """The scene without shake, registered to photo number `reference` of `sample_burst`, from 0."""
    return _path(f"burst_truth_{reference + 1}.jpg")


def _path(name: str) -> Path:
    # Packages are installed as files, so that the path stays valid outside the context.
    with as_file(files(__name__) / name) as path:
        return path
