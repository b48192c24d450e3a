"""What moves before a camera that stands still: the part of a window that is deconvolved and may change.

Flow smears motion into the still background around a mover. A pixel may therefore change only near pixels
that differ from what the camera sees there in other frames.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.types import Box
from freezeframe.motion.flow.estimators import gamma_luma
from freezeframe.motion.flow.thumbnail import coarse_speeds
from freezeframe.motion.regions.background import BackgroundConfig
from freezeframe.motion.regions.changes import changes
from freezeframe.motion.regions.region_map import Array, RegionMap
from freezeframe.motion.regions.registration import largest_shift

from .gate import RegionProposal
from .layers.crops import chain
from .shots import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class MovingAreaParams:
    """Tunables of the area."""

    margin: int = 4  # pixels around a change that may change too
    invented: float = 0.08  # gamma-coded luma by which a layer may differ from the frame beside its changes
    border: int = 9  # pixels of the soft border around them
    cell: int = 8  # pixels of the reduced frame: side of the cells that the box is made of
    cell_fraction: float = 0.2  # of a cell that changes, where something moves
    min_blur_px: float = 1.0  # pixels: what is blurred less does not belong into the box
    context: int = 48  # pixels around what moves that flow and network see
    multiple: int = 16  # of pixels: edges of the box, so that its blocks and those of the frame coincide
    max_share: float = 0.5  # of the frame: larger boxes are the whole frame


_DEFAULT = MovingAreaParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class MovingArea:
    """The part of a window that may change."""

    box: Box | None  # outside of which nothing moves; None: the whole frame
    masks: Mapping[int, Tensor]  # by number of the frame, [h, w] in [0, 1] of the box: where it may change

    def limit(self, index: int, moving: Tensor) -> Tensor | None:
        """Where frame `index` may change of where flow finds motion, `moving`; None: everywhere."""
        mask = self.masks.get(index)
        return None if mask is None else mask * moving


def find_changes(window: Window, regions: RegionMap) -> dict[int, Array]:
    """Where the frames of a window differ from the background, by their numbers.

    Frames that the camera does not see from where it stands in the middle of the window are left out.

    Args:
        window: Frames of one shot.
        regions: Motion of the camera.

    Returns:
        [h, w] uint8 of 0 or 255 each, reduced.
    """
    anchor = window.frames[len(window.frames) // 2].index
    near = [frame for frame in window.frames if _is_registered(regions, frame.index, anchor, window)]
    masks = changes([frame.picture.luma().numpy() for frame in near])
    return {frame.index: mask for frame, mask in zip(near, masks, strict=False)}


def limit_layers(
    window: Window,
    layers: Mapping[int, Sequence[RegionProposal]],
    change_masks: Mapping[int, Array],
    *,
    params: MovingAreaParams = _DEFAULT,
) -> dict[int, list[RegionProposal]]:
    """The layers without what they show beside the changes of a frame, where it is as the background.

    Args:
        window: Frames of one shot.
        layers: Changes by layers, by the number of the frame.
        change_masks: Result of `find_changes`.
        params: Tunables.
    """
    pictures = {frame.index: frame.picture for frame in window.frames}

    def limit(layer: RegionProposal, index: int) -> RegionProposal:
        box, size = layer.verdict.box, pictures[index].size
        shown, recorded = gamma_luma(layer.image), gamma_luma(pictures[index].linear_in(box))
        differs = cv2.blur((shown - recorded).abs().numpy(force=True), (3, 3)) > params.invented
        invented = _soft(differs.astype(np.uint8), None, params)
        changed = _soft(_enlarge(change_masks[index], size), box, params)
        return replace(layer, weight=layer.weight * (1 - (1 - changed) * invented).to(layer.weight))

    return {
        index: [limit(layer, index) for layer in of_frame] if index in change_masks else list(of_frame)
        for index, of_frame in layers.items()
    }


def find_moving_area(  # noqa: PLR0913  # frames, and what is known of them
    part: Window,
    change_masks: Mapping[int, Array],
    layers: Mapping[int, Sequence[RegionProposal]],
    *,
    still: Container[int],
    shutter: float,
    crop: bool = True,
    params: MovingAreaParams = _DEFAULT,
) -> MovingArea:
    """The part of a window that may change.

    Args:
        part: Frames to be deconvolved, and those around them.
        change_masks: Result of `find_changes`.
        layers: Changes by layers, by the number of the frame; where one is complete, nothing else changes.
        still: Numbers of frames before which the camera stands still; all others may change everywhere.
        shutter: Longest plausible exposure time over frame interval.
        crop: Whether a box smaller than the frame is wanted.
        params: Tunables.
    """
    size, numbers = part.frames[0].picture.size, [frame.index for frame in part.frames]
    known = all(index in change_masks and index in still for index in numbers)
    box = _box(part, [change_masks[index] for index in numbers], shutter, params) if known and crop else None
    masks = {
        index: _soft(
            _without(_changed(change_masks.get(index), size), layers.get(index, ()), params), box, params
        )
        for index in numbers
        if index in still
    }
    return MovingArea(box=box, masks=masks)


def _is_registered(regions: RegionMap, index: int, anchor: int, window: Window) -> bool:
    """Whether the camera sees the background of frame `anchor` at the same pixels in frame `index`."""
    steps = regions.camera[min(index, anchor) : max(index, anchor)]
    if any(step is None for step in steps):
        return False
    shift = largest_shift(chain(regions, index, anchor), window.frames[0].picture.size)
    return shift < BackgroundConfig().still


def _box(part: Window, change_masks: Sequence[Array], shutter: float, params: MovingAreaParams) -> Box | None:
    """A box around all changes that flow sees move; None if it is large, or nothing moves."""
    size = part.frames[0].picture.size
    cells = [_cells(mask, params) for mask in change_masks]
    union = np.logical_or.reduce(cells) & _blurred(part, cells[0].shape, shutter, params)
    rows, columns = np.flatnonzero(union.any(1)), np.flatnonzero(union.any(0))
    if not len(rows):
        return None
    height, width = change_masks[0].shape
    across, down = size[1] / width * params.cell, size[0] / height * params.cell
    tight = Box(
        left=int(columns[0] * across),
        top=int(rows[0] * down),
        right=min(size[1], int(np.ceil((columns[-1] + 1) * across))),
        bottom=min(size[0], int(np.ceil((rows[-1] + 1) * down))),
    )
    box = _align(tight.widen(params.context, size), size, params.multiple)
    return box if box.width * box.height <= params.max_share * size[0] * size[1] else None


def _blurred(part: Window, shape: tuple[int, ...], shutter: float, params: MovingAreaParams) -> Array:
    """Cells, [rows, columns] bool, in or beside which a frame may be blurred, by flow of reduced frames."""
    lumas = [frame.picture.luma() for frame in part.frames]
    speeds = [coarse_speeds(before, after).numpy() for before, after in pairwise(lumas)]
    fastest = np.maximum.reduce(speeds or [np.zeros(shape, np.float32)])
    of_cells = cv2.resize(fastest, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    beside = cv2.dilate(of_cells, np.ones((3, 3), np.uint8))
    return np.asarray(beside * shutter >= params.min_blur_px)


def _cells(mask: Array, params: MovingAreaParams) -> Array:
    """Blocks in which more than a little changes, [rows, columns] bool; the last ones may be smaller."""
    height, width = (-(-side // params.cell) for side in mask.shape)
    padded = np.zeros((height * params.cell, width * params.cell), np.uint8)
    padded[: mask.shape[0], : mask.shape[1]] = mask > 0
    blocks = padded.reshape(height, params.cell, width, params.cell)
    return np.asarray(blocks.mean((1, 3)) >= params.cell_fraction)


def _align(box: Box, size: tuple[int, int], multiple: int) -> Box:
    """The box with edges at multiples of so many pixels, or at the border of the frame."""
    return Box(
        left=box.left // multiple * multiple,
        top=box.top // multiple * multiple,
        right=min(size[1], -(-box.right // multiple) * multiple),
        bottom=min(size[0], -(-box.bottom // multiple) * multiple),
    )


def _changed(change_masks: Array | None, size: tuple[int, int]) -> Array:
    """[H, W] uint8: 1 where a frame of `size` changes; everywhere if that is not known."""
    return np.ones(size, np.uint8) if change_masks is None else _enlarge(change_masks, size)


def _enlarge(change_masks: Array, size: tuple[int, int]) -> Array:
    large = cv2.resize(change_masks, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return (large > 127).astype(np.uint8)


def _without(changed: Array, layers: Sequence[RegionProposal], params: MovingAreaParams) -> Array:
    """`changed` without what complete layers show."""
    for layer in layers:
        if layer.verdict.strength == 1:
            shown = _grow((layer.weight > 0).numpy(force=True).astype(np.uint8), params)
            changed[layer.verdict.box.slices(changed.shape)][shown > 0] = 0
    return changed


def _soft(changed: Array, box: Box | None, params: MovingAreaParams) -> Tensor:
    """[h, w] in [0, 1] of the pixels of `box`: 1 around what changes, with a soft border."""
    height, width = changed.shape
    inner = box or Box(left=0, top=0, right=width, bottom=height)
    outer = inner.widen(params.margin + params.border, (height, width))
    grown = _grow(changed[outer.slices((height, width))], params).astype(np.float32)
    soft = cv2.blur(grown, (params.border, params.border))
    rows, columns = inner.shift(-outer.left, -outer.top).slices((outer.height, outer.width))
    return torch.from_numpy(np.ascontiguousarray(soft[rows, columns]))


def _grow(mask: Array, params: MovingAreaParams) -> Array:
    side = 2 * params.margin + 1
    return np.asarray(cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))))
