"""Samples with known truth, rendered by this project (`python -m benchmarks.release.render_samples`)."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

BURST_LENGTH = 6


def sample_clip() -> Path:
    """Two and a half seconds of blurred fast action, with sound. 640x360, 30 frames per second."""
    return _path("sports.mp4")


def sample_truth() -> Path:
    """The same frames as infinitely short exposures would show them."""
    return _path("sports_truth.mp4")


def sample_burst() -> list[Path]:
    """Six photos of one still subject, each shaken and aimed differently."""
    return [_path(f"burst_{number}.jpg") for number in range(1, BURST_LENGTH + 1)]


def sample_burst_truth(reference: int = 0) -> Path:
    """The subject without shake, on the pixel grid of photo number `reference` of `sample_burst`, from 0."""
    return _path(f"burst_truth_{reference + 1}.jpg")


def _path(name: str) -> Path:
    # A package is installed as files, so that the file outlives the context.
    with as_file(files(__name__) / name) as path:
        return path
