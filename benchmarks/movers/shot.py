"""A scene with the settings of its recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from freezeframe.data.synthesis.scene2d.layered_scene import Scene


def _steady(_frame: int, light: Tensor) -> Tensor:
    return light


@dataclass(frozen=True, slots=True)
class ClipFormat:
    """Height and width of the frames, and their number."""

    size: tuple[int, int]
    frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A scene, recorded at the times 0, 1, ... frames - 1. The first layer is the background."""

    scene: Scene
    frames: int
    shutter: float  # exposure time over frame interval
    light: Callable[[int, Tensor], Tensor] = _steady  # illumination of a frame
    whole_frame: bool = False  # no movers: the mask is the whole frame
