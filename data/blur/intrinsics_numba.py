"""Weighted sums over image samples, and their transposes, as vector instructions inside numba kernels.

Single pixels have four floats: three colours and a spare one. Blocks are four rows of four pixels that share
one blur vector, so that one vector serves a row of them. Their argument `pixel` is a tuple with as many zeros
as a pixel has floats: its type gives the width of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from freezeframe.data.kernels.simd import FLOATS, Vectors, index

from .blocks import BLOCK_SIZE as BLOCK

CHANNELS = 4  # floats of a pixel

# Accumulator of a pixel. On the stack, not in a NumPy array: LLVM then keeps it in a register.
_PIXEL = types.CPointer(types.float32)
_PAIR = types.void(_PIXEL, FLOATS, types.intp, types.intp, types.float32, types.float32)


@intrinsic
def zero_pixel(_typing: Any) -> Any:
    """An accumulator of four zeros."""

    def build(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        storage = cgutils.alloca_once_value(builder, Vectors(context, builder, CHANNELS).constant(0))
        return builder.bitcast(storage, ir.FloatType().as_pointer())

    return _PIXEL(), build


@intrinsic
def load_pixel(_typing: Any, _x: Any, _p: Any) -> Any:
    """An accumulator that holds x[p : p + 4]."""

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v = Vectors(context, builder, CHANNELS)
        storage = cgutils.alloca_once_value(builder, v.load(v.pointer(*args)))
        return builder.bitcast(storage, ir.FloatType().as_pointer())

    return _PIXEL(FLOATS, types.intp), build


@intrinsic
def store_pixel(_typing: Any, _acc: Any, _x: Any, _p: Any) -> Any:
    """Store: x[p : p + 4] = acc."""

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        acc, x, p = args
        v = Vectors(context, builder, CHANNELS)
        v.store(builder.load(_vector_pointer(v, builder, acc)), v.pointer(x, p))
        return context.get_dummy_value()

    return types.void(_PIXEL, FLOATS, types.intp), build


@intrinsic
def gather_pair(_typing: Any, _acc: Any, _x: Any, _p: Any, _q: Any, _a: Any, _b: Any) -> Any:
    """Gather: acc += a * x[p : p + 4] + b * x[q : q + 4]."""

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        acc, x, p, q, a, b = args
        v = Vectors(context, builder, CHANNELS)
        pointer = _vector_pointer(v, builder, acc)
        total = builder.load(pointer)
        for position, weight in ((p, a), (q, b)):
            total = v.fma(v.splat(weight), v.load(v.pointer(x, position)), total)
        builder.store(total, pointer)
        return context.get_dummy_value()

    return _PAIR, build


@intrinsic
def scatter_pair(_typing: Any, _acc: Any, _x: Any, _p: Any, _q: Any, _a: Any, _b: Any) -> Any:
    """Scatter: x[p : p + 4] += a * acc; x[q : q + 4] += b * acc."""

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        acc, x, p, q, a, b = args
        v = Vectors(context, builder, CHANNELS)
        value = builder.load(_vector_pointer(v, builder, acc))
        # One after the other: at a border both may be the same pixel.
        for position, weight in ((p, a), (q, b)):
            pointer = v.pointer(x, position)
            v.store(v.fma(v.splat(weight), value, v.load(pointer)), pointer)
        return context.get_dummy_value()

    return _PAIR, build


def _vector_pointer(v: Vectors, builder: Any, acc: Any) -> Any:
    return builder.bitcast(acc, v.type.as_pointer())


@intrinsic
def gather_block_down(
    _typing: Any, pixel: Any, _acc: Any, _x: Any, _starts: Any, _w0: Any, _w1: Any, _count: Any, _line: Any
) -> Any:
    """Fill the block `acc` with the sum over taps of w0 * x from the tap's start and w1 * x one line below.

    Lines of x are `line` floats apart.
    """

    def pairs(_v: Vectors, builder: Any, load: Any, p: Any, line: Any) -> Any:
        return pairwise([load(_row(builder, p, line, row)) for row in range(BLOCK + 1)])

    return _taps_signature(pixel), _gather(pixel, pairs)


@intrinsic
def gather_block_right(
    _typing: Any, pixel: Any, _acc: Any, _x: Any, _starts: Any, _w0: Any, _w1: Any, _count: Any, _line: Any
) -> Any:
    """`gather_block_down` with w1 * x from one pixel to the right."""

    def pairs(_v: Vectors, builder: Any, load: Any, p: Any, line: Any) -> Any:
        rows = [_row(builder, p, line, row) for row in range(BLOCK)]
        return [(load(row), load(builder.add(row, index(pixel.count)))) for row in rows]

    return _taps_signature(pixel), _gather(pixel, pairs)


@intrinsic
def scatter_block_down(
    _typing: Any, pixel: Any, _acc: Any, _x: Any, _starts: Any, _w0: Any, _w1: Any, _count: Any, _line: Any
) -> Any:
    """Transpose of `gather_block_down`: add w0 * acc to x from a tap's start and w1 * acc one line below."""

    def parts(_v: Vectors, rows: list[Any]) -> Iterator[tuple[Any, ...]]:
        for row, (at_start, below) in enumerate(zip([*rows, None], [None, *rows], strict=True)):
            yield row, 0, at_start, below

    return _taps_signature(pixel), _scatter(pixel, parts)


@intrinsic
def scatter_block_right(
    _typing: Any, pixel: Any, _acc: Any, _x: Any, _starts: Any, _w0: Any, _w1: Any, _count: Any, _line: Any
) -> Any:
    """`scatter_block_down` with w1 * acc one pixel to the right: transpose of `gather_block_right`."""
    step = pixel.count

    def parts(v: Vectors, rows: list[Any]) -> Iterator[tuple[Any, ...]]:
        zero = v.constant(0)
        for row, value in enumerate(rows):
            yield row, 0, value, v.shuffle(zero, value, range(v.lanes - step, 2 * v.lanes - step))
            yield row, v.lanes, None, v.shuffle(value, value, range(v.lanes - step, v.lanes))

    return _taps_signature(pixel), _scatter(pixel, parts)


@intrinsic
def divide_block(_typing: Any, pixel: Any, _acc: Any, _x: Any, _p: Any, _line: Any, _minimum: Any) -> Any:
    """Replace the block `acc` by x from p over max(acc, minimum)."""

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        _, acc, x, p, line, minimum = args
        v = Vectors(context, builder, BLOCK * pixel.count)
        lowest = v.splat(minimum)
        for row in range(BLOCK):
            pointer = v.pointer(acc, index(row * v.lanes))
            denominator = v.maximum(v.load(pointer), lowest)
            v.store(v.div(v.load(v.pointer(x, _row(builder, p, line, row))), denominator), pointer)
        return context.get_dummy_value()

    return types.void(pixel, FLOATS, FLOATS, types.intp, types.intp, types.float32), build


def _gather(pixel: Any, pairs: Callable[..., Any]) -> Callable[..., Any]:
    """Build a loop over taps that keeps its sums in registers.

    Every row has two, as one would wait for its own previous addition. `pairs` loads the two vectors of each
    row.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, acc, x, *taps, count, line = args
        v = Vectors(context, builder, BLOCK * pixel.count)
        load_tap = _tap_loader(context, builder, signature, taps)
        sums = [[cgutils.alloca_once_value(builder, v.constant(0)) for _ in range(2)] for _ in range(BLOCK)]
        with cgutils.for_range(builder, count) as loop:
            start, *weights = load_tap(loop.index)
            weight_vectors = [v.splat(weight) for weight in weights]
            operands = pairs(v, builder, lambda p: v.load(v.pointer(x, p)), start, line)
            for totals, pair in zip(sums, operands, strict=True):
                for total, weight, value in zip(totals, weight_vectors, pair, strict=True):
                    builder.store(v.fma(weight, value, builder.load(total)), total)
        for row, totals in enumerate(sums):
            first, second = (builder.load(total) for total in totals)
            v.store(v.add(first, second), v.pointer(acc, index(row * v.lanes)))
        return context.get_dummy_value()

    return build


def _scatter(pixel: Any, parts: Callable[..., Any]) -> Callable[..., Any]:
    """Build a loop over taps, every fourth after another, so that no store waits for one that it overlaps.

    `parts` yields, for each vector of x that a tap adds to: its row, its offset in floats, and the vectors
    that w0 and w1 multiply there; None is none.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, acc, x, *taps, count, line = args
        v = Vectors(context, builder, BLOCK * pixel.count)
        load_tap = _tap_loader(context, builder, signature, taps)
        rows = [v.load(v.pointer(acc, index(row * v.lanes))) for row in range(BLOCK)]
        pieces = list(parts(v, rows))
        with (
            cgutils.for_range(builder, index(BLOCK)) as phase,
            cgutils.for_range_slice(builder, phase.index, count, index(BLOCK), inc=True) as (number, _),
        ):
            start, *weights = load_tap(number)
            for row, offset, *factors in pieces:
                lanes = next(value.type.count for value in factors if value is not None)
                piece = Vectors(context, builder, lanes)
                shift = builder.add(builder.mul(line, index(row)), index(offset))
                pointer = piece.pointer(x, builder.add(start, shift))
                total = piece.load(pointer)
                for weight, value in zip(weights, factors, strict=True):
                    if value is not None:
                        total = piece.fma(piece.splat(weight), value, total)
                piece.store(total, pointer)
        return context.get_dummy_value()

    return build


def _taps_signature(pixel: Any) -> Any:
    starts = types.Array(types.intp, 1, "C")
    return types.void(pixel, FLOATS, FLOATS, starts, FLOATS, FLOATS, types.intp, types.intp)


def _tap_loader(context: Any, builder: Any, signature: Any, taps: Any) -> Callable[[Any], list[Any]]:
    """A function that loads the start and the two weights of the tap with a number."""
    arrays = [
        context.make_array(array_type)(context, builder, array).data
        for array_type, array in zip(signature.args[3:6], taps, strict=True)
    ]
    return lambda number: [builder.load(builder.gep(values, [number])) for values in arrays]


def _row(builder: Any, start: Any, line: Any, row: int) -> Any:
    return builder.add(start, builder.mul(line, index(row)))
