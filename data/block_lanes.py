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

BLOCK = 4  # pixels on a side

_FLOATS = types.Array(types.float32, 1, "C")
_WEIGHTS = (types.float32, types.float32)
_FAST = ("fast",)


@intrinsic
def read_block_down(
    _typing: Any, pixel: Any, _acc: Any, _x: Any, _starts: Any, _weights: Any, _count: Any, _line: Any
) -> Any:
    """Fill the block `acc` with the sum of a * x from p and b * x one line further down, over p and (a, b).

    Lines of x lie `line` apart.
    """
    kind = _vector(pixel)

    def pairs(builder: Any, lanes: Any, p: Any, line: Any) -> Any:
        rows = [lanes(builder.add(p, builder.mul(line, _index(row)))) for row in range(BLOCK + 1)]
        return pairwise(rows)

    return _reading(pixel), _reader(kind, pairs)


@intrinsic
def read_block_right(
    _typing: Any, pixel: Any, _acc: Any, _x: Any, _starts: Any, _weights: Any, _count: Any, _line: Any
) -> Any:
    """`read_block_down` with b * x from one pixel further right."""
    kind = _vector(pixel)

    def pairs(builder: Any, lanes: Any, p: Any, line: Any) -> Any:
        rows = [builder.add(p, builder.mul(line, _index(row))) for row in range(BLOCK)]
        return [(lanes(row), lanes(builder.add(row, _index(pixel.count)))) for row in rows]

    return _reading(pixel), _reader(kind, pairs)


def _reading(pixel: Any) -> Any:
    places, weights = types.Array(types.intp, 1, "C"), types.Array(types.float32, 2, "C")
    return types.void(pixel, _FLOATS, _FLOATS, places, weights, types.intp, types.intp)


def _reader(kind: Any, pairs: Any) -> Any:
    """A loop over taps that keeps its four sums in registers."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, acc, x, starts, weights, count, line = args
        places, shares = (
            context.make_array(kind_of)(context, builder, array).data
            for kind_of, array in zip(signature.args[3:5], (starts, weights), strict=True)
        )
        sums = [
            cgutils.alloca_once_value(builder, ir.Constant(kind, [0.0] * kind.count)) for _ in range(BLOCK)
        ]
        with cgutils.for_range(builder, count) as loop:
            pair = builder.mul(loop.index, _index(2))
            near, far = (
                _spread(builder, kind, builder.load(builder.gep(shares, [builder.add(pair, _index(k))])))
                for k in range(2)
            )
            start = builder.load(builder.gep(places, [loop.index]))
            found = pairs(builder, lambda p: _load(builder, _at(context, builder, kind, x, p)), start, line)
            for total, (one, other) in zip(sums, found, strict=True):
                added = builder.fadd(
                    builder.fmul(near, one, flags=_FAST), builder.fmul(far, other, flags=_FAST), flags=_FAST
                )
                builder.store(builder.fadd(builder.load(total), added, flags=_FAST), total)
        for row, total in enumerate(sums):
            place = _at(context, builder, kind, acc, _index(row * kind.count))
            builder.store(builder.load(total), place).align = 4
        return context.get_dummy_value()

    return build


@intrinsic
def write_block_down(
    _typing: Any, pixel: Any, _acc: Any, _x: Any, _p: Any, _line: Any, _a: Any, _b: Any
) -> Any:
    """Add a * acc to x from p and b * acc to x one line further down: the transpose of `read_block_down`."""
    kind = _vector(pixel)

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        _, acc, x, p, line, a, b = args
        a, b = _spread(builder, kind, a), _spread(builder, kind, b)
        lines = _lines(context, builder, kind, acc)
        near = [builder.fmul(a, lanes, flags=_FAST) for lanes in lines]
        far = [builder.fmul(b, lanes, flags=_FAST) for lanes in lines]
        both = [builder.fadd(n, f, flags=_FAST) for n, f in zip(near[1:], far[:-1], strict=True)]
        for row, share in enumerate([near[0], *both, far[-1]]):
            index = builder.add(p, builder.mul(line, _index(row)))
            _add(builder, _at(context, builder, kind, x, index), share)
        return context.get_dummy_value()

    return types.void(pixel, _FLOATS, _FLOATS, types.intp, types.intp, *_WEIGHTS), build


@intrinsic
def write_block_right(
    _typing: Any, pixel: Any, _acc: Any, _x: Any, _p: Any, _line: Any, _a: Any, _b: Any
) -> Any:
    """Add a * acc to x from p and b * acc one pixel further right: the transpose of `read_block_right`."""
    kind, step = _vector(pixel), pixel.count
    last = ir.VectorType(ir.FloatType(), step)

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        _, acc, x, p, line, a, b = args
        a, b = _spread(builder, kind, a), _spread(builder, kind, b)
        none = ir.Constant(kind, [0.0] * kind.count)
        for row, lanes in enumerate(_lines(context, builder, kind, acc)):
            near, far = (builder.fmul(weight, lanes, flags=_FAST) for weight in (a, b))
            moved = _pick(builder, none, far, range(kind.count - step, 2 * kind.count - step))
            index = builder.add(p, builder.mul(line, _index(row)))
            _add(builder, _at(context, builder, kind, x, index), builder.fadd(near, moved, flags=_FAST))
            rest = _pick(builder, far, far, range(kind.count - step, kind.count))
            end = builder.add(index, _index(kind.count))
            _add(builder, _at(context, builder, last, x, end), rest)
        return context.get_dummy_value()

    return types.void(pixel, _FLOATS, _FLOATS, types.intp, types.intp, *_WEIGHTS), build


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
            builder.store(builder.fdiv(seen, floor, flags=_FAST), place).align = 4
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


def _add(builder: Any, place: Any, share: Any) -> None:
    builder.store(builder.fadd(_load(builder, place), share, flags=_FAST), place).align = 4


def _pick(builder: Any, one: Any, other: Any, lanes: Any) -> Any:
    """Some lanes of two vectors laid end to end."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
    return builder.shuffle_vector(one, other, mask)
