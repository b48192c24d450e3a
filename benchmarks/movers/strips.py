"""Strips of consecutive frames around the movers, for viewing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from freezeframe.data.srgb import SrgbImage, linear_to_srgb
from freezeframe.pipeline.bench.methods import write

from .runs import Run
from .scenes import MoverClip
from .score import Mask

FRAMES = 5  # of a strip, in the middle of the clip
ZOOM = 3
MARGIN, MIN_SIDE, MAX_SIDE = 10, 48, 200  # pixels of a crop


def save_strips(clip: MoverClip, run: Run, path: Path) -> None:
    """Write the rows before, after and truth as one PNG; each column is a frame, cropped and magnified."""
    first = max(0, (len(clip.frames) - FRAMES) // 2)
    numbers = range(first, min(first + FRAMES, len(clip.frames)))
    boxes = [_centre(clip.masks[i].numpy()) for i in numbers]
    side = min(MAX_SIDE, max(MIN_SIDE, *(extent for _, _, extent in boxes)), *clip.masks[0].shape)
    truths = [linear_to_srgb(image) for image in clip.sharp]
    rows = [
        np.hstack([_crop(images[i], box[:2], side) for i, box in zip(numbers, boxes, strict=True)])
        for images in (run.before, run.after, truths)
    ]
    write(path, np.vstack(rows))


def _centre(mask: Mask) -> tuple[int, int, int]:
    """Row and column of the middle of a mask, and the side of a square around it."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return mask.shape[0] // 2, mask.shape[1] // 2, MIN_SIDE
    top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
    side = max(bottom - top, right - left) + 2 * MARGIN
    return int(top + bottom) // 2, int(left + right) // 2, int(side)


def _crop(image: SrgbImage, centre: tuple[int, int], side: int) -> SrgbImage:
    top, left = (
        int(np.clip(at - side // 2, 0, length - side))
        for at, length in zip(centre, image.shape[:2], strict=True)
    )
    crop = image[top : top + side, left : left + side]
    return np.asarray(cv2.resize(crop, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC), np.uint8)
