"""Crops around one mover in consecutive frames, and the background behind it.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from freezeframe.data.types import Box, Frame
from freezeframe.motion.regions.plate import Plate, background_plate, warp_crop
from freezeframe.motion.regions.region_map import Array, RegionMap, Track, project
from freezeframe.pipeline.solvers.observation import Observation
from freezeframe.pipeline.solvers.richardson_lucy import richardson_lucy
from freezeframe.splatting.layers.layer import Crops
from freezeframe.splatting.optim.losses import unsaturated_mask


@dataclass(frozen=True, slots=True, kw_only=True)
class CropParams:
    """Tunables of the crops."""

    margin: int = 10  # pixels around the silhouette
    reach: int = 8  # frames on either side that the background is made of
    max_frames: int = 11  # of them, evenly spread
    still_px: float = 0.3  # pixels: a smaller shift of a frame is none
    warp_margin: int = 4  # pixels around a crop that is warped
    camera_blur_px: float = 1.0  # pixels: a shorter blur of the background is left as it is
    background_steps: int = 15  # of Richardson-Lucy
    background_step_size: float = 1.6  # its relaxation


CROP_PARAMS = CropParams()


def crop_boxes(track: Track, indices: Sequence[int], size: tuple[int, int], params: CropParams) -> list[Box]:
    """Boxes of one size around the detections of a track in frames `indices`, inside frames of `size`."""
    boxes = [track.at(index).box for index in indices]
    height = min(size[0], max(box.height for box in boxes) + 2 * params.margin)
    width = min(size[1], max(box.width for box in boxes) + 2 * params.margin)
    crops = []
    for box in boxes:
        left = min(max(0, (box.left + box.right - width) // 2), size[1] - width)
        top = min(max(0, (box.top + box.bottom - height) // 2), size[0] - height)
        crops.append(Box(left=left, top=top, right=left + width, bottom=top + height))
    return crops


def make_crops(
    frames: Mapping[int, Frame],
    track: Track,
    indices: Sequence[int],
    regions: RegionMap,
    *,
    params: CropParams = CROP_PARAMS,
) -> Crops:
    """Crops of frames `indices` around a track.

    Args:
        frames: Frames of one shot by their numbers; the background is made of them.
        track: The mover.
        indices: Numbers of frames of the track.
        regions: Motion of the camera, and other movers, whose pixels have no weight.
        params: Tunables.
    """
    size = frames[indices[0]].picture.size
    boxes = crop_boxes(track, indices, size, params)
    images = torch.stack([frames[i].picture.linear_in(box) for i, box in zip(indices, boxes, strict=True)])
    plates = [plate_of(frames, i, box, regions, params) for i, box in zip(indices, boxes, strict=True)]
    weight = unsaturated_mask(images) * torch.stack([plate.known for plate in plates])
    for k, (index, box) in enumerate(zip(indices, boxes, strict=True)):
        for other in regions.tracks_at(index):
            if other.number != track.number:
                _erase(weight[k], other.at(index).box, box)
    return Crops(
        images=images,
        background=torch.stack([plate.image for plate in plates]),
        weight=weight,
        origin=torch.tensor([[box.left, box.top] for box in boxes], dtype=torch.float32),
        times=torch.tensor([float(index - indices[0]) for index in indices]),
    )


def plate_of(
    frames: Mapping[int, Frame], index: int, box: Box, regions: RegionMap, params: CropParams = CROP_PARAMS
) -> Plate:
    """The background in `box` of frame `index`."""
    near = sorted(k for k in frames if abs(k - index) <= params.reach)
    picks = np.linspace(0, len(near) - 1, min(len(near), params.max_frames)).round().astype(int)
    images, seen = [], []
    for k in sorted({near[pick] for pick in picks} | {index}):
        image, visible = _seen_from(frames[k], chain(regions, k, index), box, params)
        images.append(image)
        seen.append(visible)
    return background_plate(torch.stack(images), torch.stack(seen))


def chain(regions: RegionMap, source: int, target: int) -> Array:
    """Homography [3, 3] from frame `source` to frame `target` of one shot."""
    matrix = np.eye(3)
    for k in range(min(source, target), max(source, target)):
        step = regions.camera[k]
        if step is not None:
            matrix = step.numpy() @ matrix
    return matrix if target >= source else np.linalg.inv(matrix)


def sharpen_background(
    crops: Crops,
    indices: Sequence[int],
    regions: RegionMap,
    shutter: float,
    *,
    params: CropParams = CROP_PARAMS,
) -> Tensor | None:
    """The backgrounds of `crops` without the blur of the camera, [T, 3, H, W]; None where it stands still.

    Args:
        crops: Of frames `indices`.
        indices: Numbers of consecutive frames.
        regions: Motion of the camera.
        shutter: Exposure time over frame interval.
        params: Tunables.
    """
    vectors = [shutter * camera_velocity(regions, i, crop_box(crops, k)) for k, i in enumerate(indices)]
    if max(float(each.norm(dim=0).max()) for each in vectors) < params.camera_blur_px:
        return None
    return torch.stack(
        [
            richardson_lucy(
                background,
                [
                    Observation(
                        linear=background, offset=None, blur_vector=each, weight=torch.ones_like(each[0])
                    )
                ],
                steps=params.background_steps,
                step_size=torch.full_like(each[0], params.background_step_size),
            )
            for background, each in zip(crops.background, vectors, strict=True)
        ]
    )


def crop_box(crops: Crops, k: int) -> Box:
    """The pixels of crop `k`."""
    left, top = crops.origin[k].int().tolist()
    return Box(left=left, top=top, right=left + crops.size[1], bottom=top + crops.size[0])


def camera_velocity(regions: RegionMap, index: int, box: Box) -> Tensor:
    """Velocity of the background in a box of frame `index`, [2, h, w] pixels per frame interval."""
    grid = np.stack(np.meshgrid(np.arange(box.left, box.right), np.arange(box.top, box.bottom)), -1)
    points = grid.reshape(-1, 2).astype(float)
    sides = []
    for k, sign in ((index, 1), (index - 1, -1)):
        step = regions.camera[k] if 0 <= k < len(regions.camera) else None
        if step is not None:
            matrix = step.numpy() if sign > 0 else np.linalg.inv(step.numpy())
            sides.append(sign * (project(matrix, points) - points))
    velocity = np.mean(sides, axis=0) if sides else np.zeros_like(points)
    return torch.from_numpy(velocity.T.reshape(2, box.height, box.width)).float()


def _seen_from(frame: Frame, matrix: Array, box: Box, params: CropParams) -> tuple[Tensor, Tensor]:
    """A frame in the `box` of another one, [3, h, w], and where it is known, [h, w]."""
    corners = np.array(
        [[box.left, box.top], [box.right, box.top], [box.left, box.bottom], [box.right, box.bottom]]
    )
    there = project(np.linalg.inv(matrix), corners.astype(float))
    if np.abs(there - corners).max() < params.still_px:
        return frame.picture.linear_in(box), torch.ones(box.height, box.width, dtype=torch.bool)
    (left, top), (right, bottom) = np.floor(there.min(0)), np.ceil(there.max(0))
    height, width = frame.picture.size
    blank = torch.zeros(3, box.height, box.width), torch.zeros(box.height, box.width, dtype=torch.bool)
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        return blank
    part = Box(
        left=int(max(0, left)),
        top=int(max(0, top)),
        right=int(min(width, right)),
        bottom=int(min(height, bottom)),
    )
    part = part.widen(params.warp_margin, frame.picture.size)
    into = _translation(-box.left, -box.top) @ matrix @ _translation(part.left, part.top)
    crop = frame.picture.linear_in(part).permute(1, 2, 0).contiguous().numpy()
    image, seen = warp_crop(crop, into, (box.height, box.width))
    return torch.from_numpy(image).permute(2, 0, 1).clamp_min(0), torch.from_numpy(seen)


def _translation(x: float, y: float) -> Array:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def _erase(weight: Tensor, box: Box, crop: Box) -> None:
    """Set the part of `weight`, of the pixels of `crop`, to 0 that lies in `box`."""
    if box.intersects(crop):
        rows = slice(max(0, box.top - crop.top), max(0, box.bottom - crop.top))
        columns = slice(max(0, box.left - crop.left), max(0, box.right - crop.left))
        weight[rows, columns] = 0
