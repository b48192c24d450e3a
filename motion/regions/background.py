"""The range of values of the background in each pixel, from registered frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .region_map import Array
from .registration import largest_shift


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundConfig:
    """Tunables of the range."""

    spread_factor: float = 2.0  # width of the range on each side, in widths of the half of the frames
    spread_side: int = 9  # pixels over which the spread is averaged
    floor: int = 3  # code values of difference that are always noise
    still: float = 0.35  # pixels that no frame of a window is shifted where the camera is still
    reach: int = 1  # pixels of the error of a registration, where the camera moves
    margin: float = 0.15  # of the sides: how much farther than its anchor a range reaches at most
    max_gain: float = 0.02  # change of contrast, and
    max_offset: float = 1.0  # code values of change of light, that need no correction


_DEFAULT = BackgroundConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundRange:
    """Smallest and largest plausible background, as seen from an anchor frame."""

    lower: Array  # [h, w] uint8
    upper: Array  # [h, w] uint8
    origin: Array  # [3, 3] from pixels of the anchor to those of the arrays
    still: bool  # the camera did not move: the frames of the window share one grid

    def seen_from(self, matrix: Array, size: tuple[int, ...]) -> tuple[Array, Array]:
        """`lower` and `upper` in a frame of `size`, where `matrix` maps the anchor to that frame.

        Where nothing is known, every value is plausible.
        """
        if self.still:
            return self.lower, self.upper
        into, (height, width) = matrix @ np.linalg.inv(self.origin), size
        lower = cv2.warpPerspective(self.lower, into, (width, height), borderValue=0)
        upper = cv2.warpPerspective(self.upper, into, (width, height), borderValue=255)
        return np.asarray(lower), np.asarray(upper)


def background_range(
    frames: Sequence[Array],
    matrices: Sequence[Array],
    anchor: int,
    block: Sequence[Array],
    *,
    config: BackgroundConfig = _DEFAULT,
) -> BackgroundRange:
    """Range of the background as seen from frame `anchor`.

    Per pixel: the narrowest interval that holds more than half of the frames (the shorth, Andrews et al.
    1972). Movers that cover a pixel in fewer than half of the frames do not change it, and whatever flutters
    there widens it.

    Args:
        frames: [H, W] uint8 each.
        matrices: Homographies from the anchor to each of `frames`.
        anchor: Index into `frames`.
        block: Homographies from the anchor to the frames that will be compared.
        config: Tunables.
    """
    size = frames[anchor].shape
    still = max(largest_shift(matrix, size) for matrix in (*matrices, *block)) < config.still
    if still:
        origin, registered = np.eye(3), list(frames)
    else:
        origin, canvas = _canvas(size, block, config)
        registered = _warp_all(frames, [origin @ np.linalg.inv(m) for m in matrices], canvas, anchor)
    low, high = shorth([equalise(image, registered[anchor], config=config) for image in registered])
    return _range(low, high, origin=origin, still=still, config=config)


def equalise(image: Array, reference: Array, *, config: BackgroundConfig = _DEFAULT) -> Array:
    """`image` with the contrast and brightness of `reference`; unchanged where they hardly differ."""
    x, y = (luma[4::8, 4::8].ravel().astype(np.float32) for luma in (image, reference))
    gain, offset = 1.0, 0.0
    kept = (x > 2) & (x < 253) & (y > 2) & (y < 253)  # not clipped
    for _ in range(2):
        if kept.sum() < 64 or x[kept].std() < 2:
            return image
        (mean_x, mean_y), covariance = (x[kept].mean(), y[kept].mean()), np.cov(x[kept], y[kept])
        gain = float(covariance[0, 1] / covariance[0, 0])
        offset = float(mean_y - gain * mean_x)
        error = np.abs(gain * x + offset - y)
        kept &= error <= 3 * np.median(error[kept]) + 1
    if abs(gain - 1) < config.max_gain and abs(offset + (gain - 1) * float(x.mean())) < config.max_offset:
        return image
    table = np.clip(gain * np.arange(256) + offset + 0.5, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table))


def shorth(images: Sequence[Array]) -> tuple[Array, Array]:
    """Ends of the narrowest interval that holds more than half of `images`, per pixel."""
    ranked = _sort(images)
    held = len(ranked) // 2
    low, high = ranked[0], ranked[held]
    width = cv2.subtract(high, low)
    for k in range(1, len(ranked) - held):
        other = cv2.subtract(ranked[k + held], ranked[k])
        narrower = cv2.compare(other, width, cv2.CMP_LT)
        low, high = _select(narrower, ranked[k], low), _select(narrower, ranked[k + held], high)
        width = cv2.min(width, other)
    return low, high


def _sort(images: Sequence[Array]) -> list[Array]:
    """Sort each pixel by odd-even transposition: exchanges of neighbours, on whole images."""
    ranked = list(images)
    for turn in range(len(ranked)):
        for k in range(turn % 2, len(ranked) - 1, 2):
            a, b = ranked[k], ranked[k + 1]
            ranked[k], ranked[k + 1] = np.asarray(cv2.min(a, b)), np.asarray(cv2.max(a, b))
    return ranked


def _select(mask: Array, yes: Array, no: Array) -> Array:
    result = no.copy()
    cv2.copyTo(yes, mask, result)
    return result


def _range(
    low: Array, high: Array, *, origin: Array, still: bool, config: BackgroundConfig
) -> BackgroundRange:
    spread = cv2.subtract(high, low)
    spread = cv2.max(spread, cv2.blur(spread, (config.spread_side,) * 2))
    slack = cv2.convertScaleAbs(spread, alpha=config.spread_factor, beta=config.floor)
    if not still:
        kernel = np.ones((2 * config.reach + 1,) * 2, np.uint8)
        low, high = cv2.erode(low, kernel), cv2.dilate(high, kernel)
    return BackgroundRange(
        lower=np.asarray(cv2.subtract(low, slack)),
        upper=np.asarray(cv2.add(high, slack)),
        origin=origin,
        still=still,
    )


def _canvas(
    size: tuple[int, ...], block: Sequence[Array], config: BackgroundConfig
) -> tuple[Array, tuple[int, int]]:
    """Shift of the anchor in a canvas that the frames of `block` fit into, and its size (columns, rows)."""
    shift = max(largest_shift(matrix, size) for matrix in block)
    margin = min(int(np.ceil(shift)) + 1, int(config.margin * max(size)))
    origin = np.array([[1.0, 0, margin], [0, 1, margin], [0, 0, 1]])
    return origin, (size[1] + 2 * margin, size[0] + 2 * margin)


def _warp_all(
    frames: Sequence[Array], matrices: Sequence[Array], canvas: tuple[int, int], anchor: int
) -> list[Array]:
    """Register frames, nearest to the anchor first; what a frame does not show is taken from the one before.

    While the camera pans, one of two frames on opposite sides of the anchor shows it.
    """
    order = sorted(range(len(frames)), key=lambda k: (abs(k - anchor), k))
    registered: dict[int, Array] = {}
    below = cv2.warpPerspective(frames[anchor], matrices[anchor], canvas, borderMode=cv2.BORDER_REPLICATE)
    for k in order:
        below = cv2.warpPerspective(
            frames[k], matrices[k], canvas, dst=below.copy(), borderMode=cv2.BORDER_TRANSPARENT
        )
        registered[k] = np.asarray(below)
    return [registered[k] for k in range(len(frames))]
