"""Fit of a layer to the frames that recorded it, by re-blurring, coarse to fine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from freezeframe.splatting.optim.losses import sqrt_encode
from freezeframe.splatting.optim.optimizer import SubframeConfig

from .layer import Crops, Layer
from .loss import LossConfig, gradients_on


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFitConfig:
    """Tunables of the fit. Learning rates are per step of Adam."""

    steps: tuple[int, ...] = (100, 100, 120)  # at the coarse levels, and at full resolution
    batch_size: int = 4  # frames per step
    min_side: int = 10  # pixels of the shorter side of the texture at the coarsest level
    lr_colour: float = 0.25  # logits
    lr_alpha: float = 0.3  # logits
    lr_position: float = 0.15  # pixels of the level
    lr_edge: float = 0.15  # pixels that rotation and scale move the edge of the texture
    lr_deformation: float = 0.08  # pixels
    lr_shutter: float = 0.02  # logits
    node_spacing: float = 18.0  # pixels of a frame between the nodes of the mesh
    max_nodes: int = 14  # of a row or column
    final_lr_ratio: float = 0.15  # last learning rate over first
    loss: LossConfig = field(default_factory=LossConfig)
    spacing: float = 0.8  # pixels of motion between two instants of an exposure; from 1 on a texture ripples
    max_instants: int = 48
    min_island: float = 0.03  # share of the alpha of the largest part, below which a separate part is noise


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStart:
    """Start values of a fit."""

    position: Tensor  # [T, 2] frame coordinates (x, y) of the centre at each frame
    size: tuple[int, int]  # height and width of the texture, pixels
    shutter: float  # exposure time over frame interval, below 1
    shutter_known: bool = True  # otherwise it is fitted


DEFAULT = LayerFitConfig()
_INITIAL_ALPHA = (4.0, 0.6)  # slope and threshold of the logit of alpha by the mean difference


def fit_layer(
    crops: Crops,
    start: LayerStart,
    *,
    config: LayerFitConfig = DEFAULT,
    finest: int = 1,
    layer: Layer | None = None,
) -> Layer:
    """Fit texture and path of a layer to its crops.

    Args:
        crops: Frames, background and weights.
        start: Start values.
        config: Tunables.
        finest: Downscale of the last level, 1 or 2; small textures have one level only, of full resolution.
        layer: Result of such a fit, to continue from.
    """
    generator = torch.Generator().manual_seed(0)
    levels = _levels(start.size, config)
    with _one_thread():
        for downscale, steps in levels:
            if downscale < min(finest, levels[0][0]) or (layer is not None and downscale >= layer.downscale):
                continue
            level = shrink(crops, downscale)
            layer = (
                layer.resize(downscale)
                if layer is not None
                else initial_layer(level, start, downscale, config)
            )
            _fit_level(layer, level, steps=steps, start=start, config=config, generator=generator)
    assert layer is not None
    if layer.downscale == 1:
        remove_islands(layer, config)
    return layer


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: crops are small, and waiting for a second one takes longer than the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def shrink(crops: Crops, downscale: int) -> Crops:
    """The crops at 1 / `downscale` of their resolution; incomplete blocks at the end are cut off."""
    if downscale == 1:
        return crops
    images, background = (avg_pool2d(each, downscale) for each in (crops.images, crops.background))
    weight = avg_pool2d(crops.weight[:, None], downscale)[:, 0]
    return replace(crops, images=images, background=background, weight=weight)


def initial_layer(crops: Crops, start: LayerStart, downscale: int, config: LayerFitConfig = DEFAULT) -> Layer:
    """A layer of the mean of the crops along the path; its mask is their mean difference from the background.

    Args:
        crops: At the resolution of the layer.
        start: Start values.
        downscale: Of `crops`.
        config: Nodes of the mesh.
    """
    height, width = (max(6, math.ceil(side / downscale)) + 2 for side in start.size)
    frames = sqrt_encode(crops.images)
    difference = (frames - sqrt_encode(crops.background)).abs().amax(1, keepdim=True) * crops.weight[:, None]
    centre = (start.position - crops.origin + 0.5) / downscale - 0.5
    x = torch.arange(width) - (width - 1) / 2 + centre[:, :1]
    y = torch.arange(height) - (height - 1) / 2 + centre[:, 1:]
    grid = torch.stack(
        [
            (2 * x / (crops.size[1] - 1) - 1)[:, None, :].expand(-1, height, -1),
            (2 * y / (crops.size[0] - 1) - 1)[:, :, None].expand(-1, -1, width),
        ],
        dim=-1,
    )
    mean = grid_sample(
        torch.cat([frames, (difference / 0.06).clamp(0, 1)], 1), grid, align_corners=True
    ).mean(0)
    slope, threshold = _INITIAL_ALPHA
    logits = torch.cat([torch.logit(mean[:3].clamp(0.02, 0.98)), slope * (mean[3:] - threshold)])
    return Layer(
        logits,
        start.position,
        mesh_size=mesh_size(start.size, config),
        shutter=start.shutter,
        downscale=downscale,
    )


def mesh_size(size: tuple[int, int], config: LayerFitConfig = DEFAULT) -> tuple[int, int]:
    """Rows and columns of the nodes on a texture of `size` (height, width), pixels of a frame."""
    rows, columns = (min(config.max_nodes, max(3, round(side / config.node_spacing) + 1)) for side in size)
    return rows, columns


def time_offsets(layer: Layer, crops: Crops, config: LayerFitConfig = DEFAULT) -> Tensor:
    """Middles of the equal parts of an exposure, as fractions of it: [K]."""
    subframes = SubframeConfig(spacing_px=config.spacing, max_count=config.max_instants)
    count = subframes.count(layer.blur_length(crops.times) / layer.downscale)
    return (torch.arange(count) + 0.5) / count - 0.5


@torch.no_grad()
def remove_islands(layer: Layer, config: LayerFitConfig = DEFAULT) -> None:
    """Make parts of the mask transparent that are small and apart from the others: they explain noise."""
    alpha = layer.colour_and_alpha()[1][0].numpy()
    count, labels = cv2.connectedComponents((alpha > 0.1).astype(np.uint8))
    sums = np.bincount(labels.ravel(), alpha.ravel(), minlength=count)
    sums[0] = 0
    kept = np.isin(labels, np.flatnonzero(sums >= config.min_island * sums.max()))
    kept = cv2.dilate(kept.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    layer.texture_logits[3][torch.from_numpy(~kept)] = -12.0


def _levels(size: tuple[int, int], config: LayerFitConfig) -> list[tuple[int, int]]:
    """Downscale and steps of each level, coarse to fine."""
    halvings = max(0, math.floor(math.log2(min(size) / config.min_side)))
    halvings = min(halvings, len(config.steps) - 1)
    return [(2**k, config.steps[-1 - k]) for k in range(halvings, -1, -1)]


def _fit_level(  # noqa: PLR0913  # one level of the fit
    layer: Layer,
    crops: Crops,
    *,
    steps: int,
    start: LayerStart,
    config: LayerFitConfig,
    generator: torch.Generator,
) -> None:
    optimizer = torch.optim.Adam(_param_groups(layer, start, config), betas=(0.9, 0.95), fused=True)
    first_lrs = [group["lr"] for group in optimizer.param_groups]
    set_gradients = gradients_on(crops, config.loss)
    for step in range(steps):
        for group, first_lr in zip(optimizer.param_groups, first_lrs, strict=True):
            group["lr"] = first_lr * config.final_lr_ratio ** (step / steps)
        frames = torch.randperm(len(crops.images), generator=generator)[: config.batch_size].tolist()
        instants = time_offsets(layer, crops, config)
        jitter = (float(torch.rand(1, generator=generator)) - 0.5) / len(instants)
        set_gradients(layer, frames, instants + jitter)
        optimizer.step()


def _param_groups(layer: Layer, start: LayerStart, config: LayerFitConfig) -> list[dict[str, object]]:
    edge = config.lr_edge / (max(start.size) / 2)
    pixel = layer.downscale
    rates: Sequence[tuple[Tensor, float]] = (
        (layer.position, config.lr_position * math.sqrt(pixel)),
        (layer.rotation, edge),
        (layer.log_scale, edge / 2),
        # Blocks of four pixels are too coarse for parts of an object.
        (layer.deformation, config.lr_deformation if pixel <= 2 else 0.0),
        (layer.shutter_logit, 0.0 if start.shutter_known else config.lr_shutter),
        (layer.texture_logits, config.lr_colour),
    )
    return [{"params": [parameter], "lr": rate} for parameter, rate in rates]
