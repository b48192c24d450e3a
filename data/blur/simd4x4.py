"""Vectors inside numba kernels: blocks of four lines, four pixels each, that share one way.

LLVM does not find these vectors by itself when the address depends on the data. Indices count floats and need
no alignment. `pixel` is a tuple with as many zeros as a pixel has floats: its type tells the width of a line.
Compiled kernels are kept by the file they stand in: after a change here, touch `exposure_step.py` as well.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .simd4 import fused

BLOCK = 4  # pixels on a side

_FLOATS = types.Array(types.float32, 1, "C")


@intrinsic
def read_block_down(
    _typing: Any, pixel: Any, _acc: Any, _x: Any, _starts: Any, _near: Any, _far: Any, _count: Any, _line: Any
) -> Any:
    """Fill the block `acc` with near * x from a start and far * x one line further down, summed over taps.

    Lines of x lie `line` apart.
    """
    kind = _vector(pixel)

    def pairs(builder: Any, lanes: Any, p: Any, line: Any) -> Any:
        rows = [lanes(builder.add(p, builder.mul(line, _index(row)))) for row in range(BLOCK + 1)]
        return pairwise(rows)

    return _signature(pixel), _reader(kind, pairs)


@intrinsic
def read_block_right(
    _typing: Any, pixel: Any, _acc: Any, _x: Any, _starts: Any, _near: Any, _far: Any, _count: Any, _line: Any
) -> Any:
    """`read_block_down` with far * x from one pixel further right."""
    kind = _vector(pixel)

    def pairs(builder: Any, lanes: Any, p: Any, line: Any) -> Any:
        rows = [builder.add(p, builder.mul(line, _index(row))) for row in range(BLOCK)]
        return [(lanes(row), lanes(builder.add(row, _index(pixel.count)))) for row in rows]

    return _signature(pixel), _reader(kind, pairs)


def _reader(kind: Any, pairs: Any) -> Any:
    """A loop over taps that keeps its sums in registers: two for each line, as one would wait for itself."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, acc, x, *taps, count, line = args
        tap_at = _taps(context, builder, signature, taps)
        nothing = ir.Constant(kind, [0.0] * kind.count)
        sums = [[cgutils.alloca_once_value(builder, nothing) for _ in range(2)] for _ in range(BLOCK)]
        with cgutils.for_range(builder, count) as loop:
            start, *weights = tap_at(loop.index)
            shares = [_spread(builder, kind, weight) for weight in weights]
            found = pairs(builder, lambda p: _load(builder, _at(context, builder, kind, x, p)), start, line)
            for totals, pair in zip(sums, found, strict=True):
                for total, share, lanes in zip(totals, shares, pair, strict=True):
                    builder.store(fused(builder, share, lanes, builder.load(total)), total)
        for row, totals in enumerate(sums):
            place = _at(context, builder, kind, acc, _index(row * kind.count))
            one, other = (builder.load(total) for total in totals)
            builder.store(builder.fadd(one, other), place).align = 4
        return context.get_dummy_value()

    return build


@intrinsic
def write_block_down(
    _typing: Any, pixel: Any, _acc: Any, _x: Any, _starts: Any, _near: Any, _far: Any, _count: Any, _line: Any
) -> Any:
    """Add near * acc to x from a start and far * acc one line further down, over taps.

    The transpose of `read_block_down`.
    """

    def parts(_builder: Any, lines: Any) -> Any:
        pairs = zip([*lines, None], [None, *lines], strict=True)
        return [(row, 0, near, far) for row, (near, far) in enumerate(pairs)]

    return _signature(pixel), _writer(_vector(pixel), parts)


@intrinsic
def write_block_right(
    _typing: Any, pixel: Any, _acc: Any, _x: Any, _starts: Any, _near: Any, _far: Any, _count: Any, _line: Any
) -> Any:
    """`write_block_down` with far * acc one pixel further right: the transpose of `read_block_right`."""
    kind, step = _vector(pixel), pixel.count
    none = ir.Constant(kind, [0.0] * kind.count)

    def parts(builder: Any, lines: Any) -> Any:
        for row, lanes in enumerate(lines):
            moved = _pick(builder, none, lanes, range(kind.count - step, 2 * kind.count - step))
            yield row, 0, lanes, moved
            yield row, kind.count, None, _pick(builder, lanes, lanes, range(kind.count - step, kind.count))

    return _signature(pixel), _writer(kind, parts)


def _writer(kind: Any, parts: Any) -> Any:
    """A loop over taps, of which those a block apart follow one another: no write waits for one it overlaps.

    `parts` are, for each piece of x that a tap adds to: its line, how many floats further on it begins, and
    what near and far are multiplied by there.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, acc, x, *taps, count, line = args
        tap_at = _taps(context, builder, signature, taps)
        pieces = list(parts(builder, _lines(context, builder, kind, acc)))
        with (
            cgutils.for_range(builder, _index(BLOCK)) as turn,
            cgutils.for_range_slice(builder, turn.index, count, _index(BLOCK), inc=True) as (number, _),
        ):
            start, *shares = tap_at(number)
            for row, further, *factors in pieces:
                kind_of = next(lanes.type for lanes in factors if lanes is not None)
                index = builder.add(start, builder.add(builder.mul(line, _index(row)), _index(further)))
                place = _at(context, builder, kind_of, x, index)
                total = _load(builder, place)
                for share, lanes in zip(shares, factors, strict=True):
                    if lanes is not None:
                        total = fused(builder, _spread(builder, kind_of, share), lanes, total)
                builder.store(total, place).align = 4
        return context.get_dummy_value()

    return build


def _signature(pixel: Any) -> Any:
    places = types.Array(types.intp, 1, "C")
    return types.void(pixel, _FLOATS, _FLOATS, places, _FLOATS, _FLOATS, types.intp, types.intp)


def _taps(context: Any, builder: Any, signature: Any, taps: Any) -> Any:
    """What gives a tap's start and its two weights by its number."""
    starts, *shares = (
        context.make_array(kind_of)(context, builder, array).data
        for kind_of, array in zip(signature.args[3:6], taps, strict=True)
    )

    def tap_at(number: Any) -> Any:
        return [builder.load(builder.gep(values, [number])) for values in (starts, *shares)]

    return tap_at


@intrinsic
def compare_block(_typing: Any, pixel: Any, _acc: Any, _x: Any, _p: Any, _line: Any, _least: Any) -> Any:
    """Replace `acc` by x from p over `acc`, which counts as `least` at least."""
    kind = _vector(pixel)

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        _, acc, x, p, line, least = args
        least = _spread(builder, kind, least)
        for row in range(BLOCK):
            place = _at(context, builder, kind, acc, _index(row * kind.count))
            given = _load(builder, place)
            floor = builder.select(builder.fcmp_ordered(">", given, least), given, least)
            index = builder.add(p, builder.mul(line, _index(row)))
            seen = _load(builder, _at(context, builder, kind, x, index))
            builder.store(builder.fdiv(seen, floor), place).align = 4
        return context.get_dummy_value()

    return types.void(pixel, _FLOATS, _FLOATS, types.intp, types.intp, types.float32), build


def _vector(pixel: Any) -> Any:
    return ir.VectorType(ir.FloatType(), BLOCK * pixel.count)


def _index(value: int) -> Any:
    return ir.Constant(ir.IntType(64), value)


def _at(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = context.make_array(_FLOATS)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


def _load(builder: Any, place: Any) -> Any:
    lanes = builder.load(place)
    lanes.align = 4
    return lanes


def _spread(builder: Any, kind: Any, value: Any) -> Any:
    empty = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, empty, zeros)


def _lines(context: Any, builder: Any, kind: Any, acc: Any) -> list[Any]:
    places = [_index(row * kind.count) for row in range(BLOCK)]
    return [_load(builder, _at(context, builder, kind, acc, place)) for place in places]


def _pick(builder: Any, one: Any, other: Any, lanes: Any) -> Any:
    """Some lanes of two vectors laid end to end."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
    return builder.shuffle_vector(one, other, mask)
