"""The blur field of one photograph: for each block of four by four pixels, how it is blurred.

Motion blur is a line, the same read from either end. The network (`blur_field_net.py`) therefore classifies
it into bins of direction and length (Sun et al., CVPR 2015; Gong et al., CVPR 2017), of which the vector is
read off between the bins.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad

from .blur_field_net import BLOCK, NUM_LINES, RADII
from .local_cepstrum import CELL, LENGTHS, NUM_DIRECTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class BlurFieldParams:
    """Tunables of the estimate."""

    max_pixels: float = 3e6  # of larger pictures a smaller copy is seen
    tile_px: int = 512  # of the copy, at once
    margin_px: int = 96  # around a tile: what the windows of its cells reach
    sure: float = 0.8  # probability of blur from which a block is surely blurred
    min_slope: float = 6 / 255  # code values of [0, 1]: mean slope around a block with texture
    min_share: float = 0.35  # of the blocks with texture that must surely be blurred


DEFAULT_PARAMS = BlurFieldParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class BlurField:
    """Blur of each block of a picture. Takes no gradient."""

    vectors: Tensor  # [2, H / 4, W / 4] (x, y) pixels, up to their sign; 0 where there is no motion
    radius: Tensor  # [H / 4, W / 4] pixels: of the defocus disk
    blurred: Tensor  # [H / 4, W / 4] in [0, 1]: probability of motion blur
    confidence: Tensor  # [H / 4, W / 4] in [0, 1]: probability near `vectors`


@torch.no_grad()
def estimate_blur_field(
    network: nn.Module, encoded: Tensor, *, params: BlurFieldParams = DEFAULT_PARAMS
) -> BlurField:
    """The blur field of a picture [3, H, W], sRGB-encoded in [0, 1]; 0 where it is not sure of blur."""
    size = tuple(-(-length // BLOCK) for length in encoded.shape[1:])
    reduction = math.ceil(math.sqrt(encoded[0].numel() / params.max_pixels))
    seen = avg_pool2d(encoded.float(), reduction, ceil_mode=True)
    field = _believe(_field_of_tiles(network, seen, params), seen, params)
    if reduction == 1:
        return field
    vectors, radius, blurred, confidence = (
        interpolate(each[None], scale_factor=float(reduction))[0, :, : size[0], : size[1]]
        for each in (field.vectors, field.radius[None], field.blurred[None], field.confidence[None])
    )
    return BlurField(
        vectors=reduction * vectors,
        radius=reduction * radius[0],
        blurred=blurred[0],
        confidence=confidence[0],
    )


def _field_of_tiles(network: nn.Module, encoded: Tensor, params: BlurFieldParams) -> BlurField:
    """The field of a picture, tile by tile; border pixels repeat up to multiples of 32."""
    height, width = encoded.shape[1:]
    padded = pad(encoded[None], (0, -width % CELL, 0, -height % CELL), mode="replicate")
    rows = []
    for top, bottom, above, below in _tiles(padded.shape[2], params):
        parts = []
        for left, right, before, after in _tiles(padded.shape[3], params):
            lines, _, radii = network(padded[:, :, above:below, before:after])
            inner = (
                slice((top - above) // BLOCK, (bottom - above) // BLOCK),
                slice((left - before) // BLOCK, (right - before) // BLOCK),
            )
            parts.append(read_blur_field(lines[0][:, *inner], radii[0][:, *inner]))
        rows.append(_concatenate(parts, axis=-1))
    whole = _concatenate(rows, axis=-2)
    blocks = slice(-(-height // BLOCK)), slice(-(-width // BLOCK))
    return BlurField(
        vectors=whole.vectors[:, *blocks], radius=whole.radius[blocks], blurred=whole.blurred[blocks],
        confidence=whole.confidence[blocks],
    )  # fmt: skip


def _tiles(length: int, params: BlurFieldParams) -> Iterator[tuple[int, int, int, int]]:
    """First and last pixel of each tile, and of the tile with its margins."""
    for first in range(0, length, params.tile_px):
        last = min(length, first + params.tile_px)
        yield first, last, max(0, first - params.margin_px), min(length, last + params.margin_px)


def _concatenate(parts: list[BlurField], *, axis: int) -> BlurField:
    return BlurField(
        vectors=torch.cat([part.vectors for part in parts], axis),
        radius=torch.cat([part.radius for part in parts], axis),
        blurred=torch.cat([part.blurred for part in parts], axis),
        confidence=torch.cat([part.confidence for part in parts], axis),
    )


def _believe(field: BlurField, encoded: Tensor, params: BlurFieldParams) -> BlurField:
    """The field of a picture [3, H, W] that is surely blurred; that of another is 0.

    Skies and what is out of focus look like anything; only blocks with texture have a say.
    """
    share = (field.blurred >= params.sure)[textured(encoded, params=params)].float().mean()
    believed = (field.blurred > 0.5) & (share >= params.min_share)  # no texture: the share is no number
    return replace(field, vectors=field.vectors * believed, blurred=field.blurred * believed)


def textured(encoded: Tensor, *, params: BlurFieldParams = DEFAULT_PARAMS) -> Tensor:
    """[H / 4, W / 4] whether a block of a picture [3, H, W] in [0, 1] has texture around it."""
    luma = encoded.mean(0)
    slope = (luma - luma.roll(1, -1)).abs() + (luma - luma.roll(1, -2)).abs()
    around = avg_pool2d(slope[None], 4 * BLOCK + 1, stride=1, padding=2 * BLOCK, count_include_pad=False)
    return avg_pool2d(around, BLOCK, ceil_mode=True)[0] > params.min_slope


@torch.no_grad()
def read_blur_field(line_logits: Tensor, radius_logits: Tensor) -> BlurField:
    """The most probable blur, by logits [NUM_LINES + 1, h, w] and [len(RADII), h, w]. Takes no gradient.

    The vector is the mean of the bins around the best one, weighted by their probabilities.
    """
    probabilities = line_logits.float().softmax(0)
    height, width = probabilities.shape[1:]
    bins = probabilities[:-1].view(NUM_DIRECTIONS, len(LENGTHS), height, width)
    neighbours = _bin_neighbours(bins)  # [9, A, L, h, w]
    mass = neighbours.sum(0).flatten(0, 1)
    best = mass.argmax(0)
    at = best[None].expand(9, -1, -1)[:, None]
    weights = neighbours.flatten(1, 2).gather(1, at)[:, 0]
    weights = weights / weights.sum(0).clamp_min(1e-9)
    direction, length = best // len(LENGTHS), best % len(LENGTHS)
    turn = torch.zeros_like(weights[0])
    mean_length = torch.zeros_like(weights[0])
    lengths = torch.tensor(LENGTHS, device=weights.device)
    for weight, (da, dl) in zip(weights, _OFFSETS, strict=True):
        turn += weight * da
        mean_length += weight * lengths[(length + dl).clamp(0, len(LENGTHS) - 1)]
    angle = math.pi / NUM_DIRECTIONS * (direction + turn)
    blurred = 1 - probabilities[-1]
    vectors = (blurred > 0.5) * mean_length * torch.stack([angle.cos(), angle.sin()])
    radius_probabilities = radius_logits.float().softmax(0)
    radius = torch.einsum("khw,k->hw", radius_probabilities, radius_probabilities.new_tensor(RADII))
    confidence = mass.gather(0, best[None])[0]
    return BlurField(
        vectors=vectors,
        radius=radius * (radius_probabilities[0] < 0.5),
        blurred=blurred,
        confidence=torch.where(blurred > 0.5, confidence, 1 - blurred),
    )


_OFFSETS = tuple((da, dl) for da in (-1, 0, 1) for dl in (-1, 0, 1))


def _bin_neighbours(bins: Tensor) -> Tensor:
    """[9, A, L, h, w] the bins around each bin of [A, L, h, w]; 0 beyond the shortest and longest."""
    padded = pad(bins, (0, 0, 0, 0, 1, 1))
    count = bins.shape[1]
    return torch.stack([padded.roll(-da, 0)[:, 1 + dl : 1 + dl + count] for da, dl in _OFFSETS])


def line_targets(vectors: Tensor) -> Tensor:
    """Soft classes [B, NUM_LINES + 1, h, w] of vectors [B, 2, h, w] (x, y), the same for v and -v.

    Linear weights of the two nearest directions and lengths. "No line" is the length 0. Takes no gradient.
    """
    x, y = vectors.float().unbind(1)
    batch, height, width = x.shape
    direction = (torch.atan2(y, x) / math.pi * NUM_DIRECTIONS) % NUM_DIRECTIONS
    directions = torch.arange(NUM_DIRECTIONS, device=x.device)[:, None, None]
    apart = (direction[:, None] - directions).abs()
    direction_weights = (1 - torch.minimum(apart, NUM_DIRECTIONS - apart)).clamp_min(0)
    length_weights = _linear_weights(torch.hypot(x, y), (0.0, *LENGTHS))
    lines = direction_weights[:, :, None] * length_weights[:, None, 1:]
    return torch.cat([lines.reshape(batch, NUM_LINES, height, width), length_weights[:, :1]], 1)


def radius_targets(radius: Tensor) -> Tensor:
    """Soft classes [B, len(RADII), h, w] of radii [B, h, w] in pixels. Takes no gradient."""
    return _linear_weights(radius.float(), RADII)


def _linear_weights(values: Tensor, bins: tuple[float, ...]) -> Tensor:
    """[B, K, h, w] weights of the two of the increasing `bins` around each value [B, h, w]."""
    at = torch.tensor(bins, device=values.device)
    values = values.clamp(bins[0], bins[-1])
    upper = torch.bucketize(values, at).clamp(1, len(bins) - 1)
    low, high = at[upper - 1], at[upper]
    part = (values - low) / (high - low)
    weights = torch.zeros(values.shape[0], len(bins), *values.shape[1:], device=values.device)
    weights.scatter_(1, (upper - 1)[:, None], (1 - part)[:, None])
    return weights.scatter_(1, upper[:, None], part[:, None])
