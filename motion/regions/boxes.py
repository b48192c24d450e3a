"""Boxes of pixels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Pixels of the full frame, half-open: columns [left, right), rows [top, bottom)."""

    left: int
    top: int
    right: int
    bottom: int

    def __post_init__(self) -> None:
        if self.left >= self.right or self.top >= self.bottom:
            raise ValueError(f"a box needs left < right and top < bottom, not {self}")

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def union(self, other: Box) -> Box:
        """The smallest box that holds both."""
        return Box(
            left=min(self.left, other.left),
            top=min(self.top, other.top),
            right=max(self.right, other.right),
            bottom=max(self.bottom, other.bottom),
        )

    def widen(self, margin: int, size: tuple[int, int]) -> Box:
        """The box with `margin` pixels more on each side, inside a frame of `size` (H, W)."""
        return Box(
            left=max(0, self.left - margin),
            top=max(0, self.top - margin),
            right=min(size[1], self.right + margin),
            bottom=min(size[0], self.bottom + margin),
        )

    def shift(self, dx: float, dy: float) -> Box:
        """The box moved by whole pixels."""
        x, y = round(dx), round(dy)
        return Box(left=self.left + x, top=self.top + y, right=self.right + x, bottom=self.bottom + y)

    def intersects(self, other: Box) -> bool:
        """Whether the boxes share a pixel."""
        return self.gap(other) < 0

    def gap(self, other: Box) -> int:
        """Pixels between the boxes, along the axis with the larger distance; negative where they overlap."""
        across = max(self.left, other.left) - min(self.right, other.right)
        down = max(self.top, other.top) - min(self.bottom, other.bottom)
        return max(across, down)
