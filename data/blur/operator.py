"""The motion blur operator and its exact adjoint, exposure integrals, and rolling shutter weights.

A point that moves by the blur vector u during the exposure spreads its light evenly over that segment. Pixel
x of the blurred image therefore averages the sharp image along x + k u, k in [-1/2, 1/2]. The average is
exact along the major axis of u (each pixel weighted by the length of the segment in it) and uses linear
interpolation across it, so that it costs as many samples as the blur is long.

There are three implementations: numba kernels (extra `fast`) on the CPU, tensors here for every device, and
the definition, pixel by pixel, in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

MIN_LENGTH = 1.0  # pixels: shorter blur vectors read one pixel
MIN_LINEAR = 1e-4  # linear light; less is noise, and a ratio of it has no meaning

Taps = Iterator[tuple[Tensor, Tensor]]


@cache
def has_numba() -> bool:
    """Whether the compiled kernels can be used (extra `fast`)."""
    return find_spec("numba") is not None


def blur(image: Tensor, vectors: Tensor, *, offset: Tensor | None = None, use_numba: bool = True) -> Tensor:
    """Blur a sharp image along the motion during the exposure.

    Args:
        image: [C, H, W] linear light.
        vectors: Blur vector of each pixel of the result. [2, H', W'] pixels; the result may be smaller than
            the image.
        offset: From each pixel of the result to the centre of its blur vector in `image`. [2, H', W'] pixels;
            None is zero.
        use_numba: Use the numba kernels where `use_kernels` allows it.

    Returns:
        [C, H', W']. Beyond the border, the border pixels repeat.
    """
    if use_numba and use_kernels(image, vectors, offset):
        from .operator_numba import blur_compiled

        return blur_compiled(image, vectors, offset)
    flat = image.flatten(1)
    out = image.new_zeros(len(image), vectors[0].numel())
    for index, weight in _taps(vectors, offset, image.shape[1:]):
        out += flat[:, index] * weight
    return out.view(-1, *vectors.shape[1:])


def blur_adjoint(
    image: Tensor, vectors: Tensor, *, offset: Tensor | None = None, use_numba: bool = True
) -> Tensor:
    """Apply the transpose of the blur operator B: <B x, y> = <x, B' y> for all images x and y.

    Every pixel adds its light to the pixels from which `blur` reads it. Arguments as for `blur`; all have one
    size.
    """
    if use_numba and use_kernels(image, vectors, offset):
        from .operator_numba import blur_adjoint_compiled

        return blur_adjoint_compiled(image, vectors, offset)
    flat = image.flatten(1)
    out = torch.zeros_like(flat)
    for index, weight in _taps(vectors, offset, image.shape[1:]):
        out.index_add_(1, index, flat * weight)
    return out.view_as(image)


def support_mask(
    vectors: Tensor, *, offset: Tensor | None = None, size: Sequence[int] | None = None
) -> Tensor:
    """[H', W'] 1 where all that `blur` reads for a pixel lies in the image, else 0. Takes no gradient.

    Args:
        vectors: As for `blur`. [2, H', W'] pixels.
        offset: As for `blur`.
        size: Height and width of the image; None is those of `vectors`.
    """
    half_extent = vectors.abs() / 2
    flat = half_extent[0] >= half_extent[1]
    inside = torch.ones_like(flat)
    last = [count - 1 for count in size or vectors.shape[1:]]
    for axis, is_major in ((0, flat), (1, ~flat)):
        position = _pixel_coordinates(vectors)[axis]
        if offset is not None:
            position = position + offset[axis]
        # Along the major axis whole pixels are read, to their edges; across it the two beside a position.
        along = (half_extent[axis] - MIN_LENGTH / 2).clamp_min(0)
        margin = torch.where(is_major, along, half_extent[axis])
        inside &= (position >= margin) & (position <= last[1 - axis] - margin)
    return inside.to(vectors)


def row_subset(field: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
    """Rows of a field [2, H, W], and the offset with which `blur` gives the same rows of its result."""
    some = field[:, rows].contiguous()
    height, count = field.shape[1], some.shape[1]
    offset = torch.zeros_like(some)
    offset[1] = (torch.arange(height)[rows] - torch.arange(count)).to(some)[:, None]
    return some, offset


def integrate(frames: Tensor) -> Tensor:
    """Exposure integral of equally long samples in time, [N, C, H, W] linear light: their mean, [C, H, W]."""
    return frames.mean(0)


def integrate_exposure(
    render: Callable[[float], Tensor], time: float, *, shutter: float, count: int
) -> Tensor:
    """Integrate `count` samples of an exposure centred on `time`.

    Args:
        render: The scene's linear light [C, H, W] at a time, in frame intervals.
        time: Middle of the exposure.
        shutter: Its length.
        count: Samples; enough that nothing moves by more than a pixel between two.
    """
    # Midpoints: an open shutter has no more light at its ends than in between.
    time_offsets = ((k + 0.5) / count - 0.5 for k in range(count))
    return integrate(torch.stack([render(time + shutter * time_offset) for time_offset in time_offsets]))


def rolling_shutter_weights(time_offsets: Tensor, height: int, *, shutter: float, readout: float) -> Tensor:
    """[M, H] weight of each sample in time in each row's exposure; the weights of a row add up to 1.

    A rolling shutter opens row by row: the last one `readout` later than the first.

    Args:
        time_offsets: Middles of M equal parts of the whole time from the first opening to the last closing,
            as fractions of it, -1/2 to 1/2. [M].
        height: Rows.
        shutter: Exposure time of a row, in frame intervals.
        readout: Frame intervals.
    """
    span = shutter + readout
    interval = span / len(time_offsets)
    middle = readout * ((torch.arange(height).to(time_offsets) + 0.5) / height - 0.5)
    opening = torch.maximum(span * time_offsets[:, None] - interval / 2, middle - shutter / 2)
    closing = torch.minimum(span * time_offsets[:, None] + interval / 2, middle + shutter / 2)
    weights = (closing - opening).clamp_min(0)
    return weights / weights.sum(0)


def use_kernels(*operands: Tensor | None) -> bool:
    """Whether the numba kernels apply: they take float32 on the CPU, and no gradients."""
    tensors = [operand for operand in operands if operand is not None]
    tracked = torch.is_grad_enabled() and any(operand.requires_grad for operand in tensors)
    applicable = all(each.is_cpu and each.dtype == torch.float32 for each in tensors)
    return has_numba() and applicable and not tracked


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segments:
    """The segment of every pixel [H, W], in coordinates along and across its major axis."""

    flat: Tensor  # the major axis is the row
    along: Tensor  # centre
    across: Tensor
    slope: Tensor  # across per along
    first: Tensor  # ends, along
    last: Tensor

    @classmethod
    def of(cls, vectors: Tensor, offset: Tensor | None) -> _Segments:
        middle = torch.stack([position.expand_as(vectors[0]) for position in _pixel_coordinates(vectors)])
        if offset is not None:
            middle = middle + offset
        flat = vectors[0].abs() >= vectors[1].abs()
        along, across = _by_axis(middle, flat)
        major, minor = _by_axis(vectors, flat)
        length = major.abs().clamp_min(MIN_LENGTH)
        # Over the length that is read, not the vector's own: near zero its direction is noise.
        slope = torch.where(major < 0, -minor, minor) / length
        half = length / 2
        return cls(flat=flat, along=along, across=across, slope=slope, first=along - half, last=along + half)


def _pixel_coordinates(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Columns [1, W] and rows [H, 1] of a field [2, H, W]."""
    height, width = vectors.shape[1:]
    return torch.arange(width).to(vectors)[None], torch.arange(height).to(vectors)[:, None]


def _taps(vectors: Tensor, offset: Tensor | None, size: Sequence[int]) -> Taps:
    """Source pixels [H' W'] (flat) and weights [H' W'], tap by tap."""
    segments = _Segments.of(vectors, offset)
    start, length = (segments.first + 0.5).floor(), segments.last - segments.first
    for k in range(int(length.max()) + 2):
        tap = start + k
        low, high = torch.maximum(tap - 0.5, segments.first), torch.minimum(tap + 0.5, segments.last)
        tap_weight = (high - low).clamp_min(0) / length
        cross = segments.across + segments.slope * ((low + high) / 2 - segments.along)
        yield from _split_across(tap, cross, tap_weight, segments.flat, size)


def _split_across(tap: Tensor, cross: Tensor, tap_weight: Tensor, flat: Tensor, size: Sequence[int]) -> Taps:
    """Split one tap between two pixels across the major axis; both are clamped to the image."""
    height, width = size
    last_along = torch.where(flat, width - 1, height - 1)
    last_across = torch.where(flat, height - 1, width - 1)
    tap = tap.long().clamp_min(0).minimum(last_along)
    cross = cross.clamp_min(0).minimum(last_across.to(cross))
    lower = cross.long()
    fraction = cross - lower
    for other, weight in (
        (lower, tap_weight * (1 - fraction)),
        ((lower + 1).minimum(last_across), tap_weight * fraction),
    ):
        index = torch.where(flat, other * width + tap, tap * width + other)
        yield index.flatten(), weight.flatten()


def _by_axis(pair: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
    """(x, y) as (along, across) the major axis."""
    return torch.where(flat, pair[0], pair[1]), torch.where(flat, pair[1], pair[0])
