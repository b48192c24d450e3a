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

from .simd4 import fma

BLOCK = 4  # pixels on a side

_FLOATS = types.Array(types.float32, 1, "C")


@intrinsic
def read_block_down(
    _typing: Any, pixel: Any, _acc: Any, _x: Any, _starts: Any, _w0: Any, _w1: Any, _count: Any, _line: Any
) -> Any:
    """Fill the block `acc` with near * x from a start and far * x one line further down, summed over taps.

    Lines of x lie `line` apart.
    """
    vector_type = _vector(pixel)

    def pairs(builder: Any, lanes: Any, p: Any, line: Any) -> Any:
        rows = [lanes(builder.add(p, builder.mul(line, _index(row)))) for row in range(BLOCK + 1)]
        return pairwise(rows)

    return _signature(pixel), _reader(vector_type, pairs)


@intrinsic
def read_block_right(
    _typing: Any, pixel: Any, _acc: Any, _x: Any, _starts: Any, _w0: Any, _w1: Any, _count: Any, _line: Any
) -> Any:
    """`read_block_down` with far * x from one pixel further right."""
    vector_type = _vector(pixel)

    def pairs(builder: Any, lanes: Any, p: Any, line: Any) -> Any:
        rows = [builder.add(p, builder.mul(line, _index(row))) for row in range(BLOCK)]
        return [(lanes(row), lanes(builder.add(row, _index(pixel.count)))) for row in rows]

    return _signature(pixel), _reader(vector_type, pairs)


def _reader(vector_type: Any, pairs: Any) -> Any:
    """A loop over taps that keeps its sums in registers: two for each line, as one would wait for itself."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, acc, x, *taps, count, line = args
        load_tap = _taps(context, builder, signature, taps)
        zero = ir.Constant(vector_type, [0.0] * vector_type.count)
        sums = [[cgutils.alloca_once_value(builder, zero) for _ in range(2)] for _ in range(BLOCK)]
        with cgutils.for_range(builder, count) as loop:
            start, *weights = load_tap(loop.index)
            weight_vectors = [_splat(builder, vector_type, weight) for weight in weights]
            operands = pairs(
                builder, lambda p: _load(builder, _at(context, builder, vector_type, x, p)), start, line
            )
            for totals, pair in zip(sums, operands, strict=True):
                for total, weight_vector, lanes in zip(totals, weight_vectors, pair, strict=True):
                    builder.store(fma(builder, weight_vector, lanes, builder.load(total)), total)
        for row, totals in enumerate(sums):
            pointer = _at(context, builder, vector_type, acc, _index(row * vector_type.count))
            one, other = (builder.load(total) for total in totals)
            builder.store(builder.fadd(one, other), pointer).align = 4
        return context.get_dummy_value()

    return build


@intrinsic
def write_block_down(
    _typing: Any, pixel: Any, _acc: Any, _x: Any, _starts: Any, _w0: Any, _w1: Any, _count: Any, _line: Any
) -> Any:
    """Add near * acc to x from a start and far * acc one line further down, over taps.

    The transpose of `read_block_down`.
    """

    def parts(_builder: Any, lines: Any) -> Any:
        pairs = zip([*lines, None], [None, *lines], strict=True)
        return [(row, 0, lanes0, lanes1) for row, (lanes0, lanes1) in enumerate(pairs)]

    return _signature(pixel), _writer(_vector(pixel), parts)


@intrinsic
def write_block_right(
    _typing: Any, pixel: Any, _acc: Any, _x: Any, _starts: Any, _w0: Any, _w1: Any, _count: Any, _line: Any
) -> Any:
    """`write_block_down` with far * acc one pixel further right: the transpose of `read_block_right`."""
    vector_type, step = _vector(pixel), pixel.count
    zero = ir.Constant(vector_type, [0.0] * vector_type.count)

    def parts(builder: Any, lines: Any) -> Any:
        for row, lanes in enumerate(lines):
            moved = _shuffle(
                builder, zero, lanes, range(vector_type.count - step, 2 * vector_type.count - step)
            )
            yield row, 0, lanes, moved
            yield (
                row,
                vector_type.count,
                None,
                _shuffle(builder, lanes, lanes, range(vector_type.count - step, vector_type.count)),
            )

    return _signature(pixel), _writer(vector_type, parts)


def _writer(vector_type: Any, parts: Any) -> Any:
    """A loop over taps, of which those a block apart follow one another: no write waits for one it overlaps.

    `parts` are, for each piece of x that a tap adds to: its line, how many floats further on it begins, and
    what near and far are multiplied by there.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, acc, x, *taps, count, line = args
        load_tap = _taps(context, builder, signature, taps)
        pieces = list(parts(builder, _lines(context, builder, vector_type, acc)))
        with (
            cgutils.for_range(builder, _index(BLOCK)) as phase,
            cgutils.for_range_slice(builder, phase.index, count, _index(BLOCK), inc=True) as (number, _),
        ):
            start, *weights = load_tap(number)
            for row, offset, *factors in pieces:
                piece_type = next(lanes.type for lanes in factors if lanes is not None)
                index = builder.add(start, builder.add(builder.mul(line, _index(row)), _index(offset)))
                pointer = _at(context, builder, piece_type, x, index)
                total = _load(builder, pointer)
                for weight, lanes in zip(weights, factors, strict=True):
                    if lanes is not None:
                        total = fma(builder, _splat(builder, piece_type, weight), lanes, total)
                builder.store(total, pointer).align = 4
        return context.get_dummy_value()

    return build


def _signature(pixel: Any) -> Any:
    indices = types.Array(types.intp, 1, "C")
    return types.void(pixel, _FLOATS, _FLOATS, indices, _FLOATS, _FLOATS, types.intp, types.intp)


def _taps(context: Any, builder: Any, signature: Any, taps: Any) -> Any:
    """What gives a tap's start and its two weights by its number."""
    starts, *weights = (
        context.make_array(array_type)(context, builder, array).data
        for array_type, array in zip(signature.args[3:6], taps, strict=True)
    )

    def load_tap(number: Any) -> Any:
        return [builder.load(builder.gep(values, [number])) for values in (starts, *weights)]

    return load_tap


@intrinsic
def divide_block(_typing: Any, pixel: Any, _acc: Any, _x: Any, _p: Any, _line: Any, _minimum: Any) -> Any:
    """Replace `acc` by x from p over `acc`, which counts as `minimum` at least."""
    vector_type = _vector(pixel)

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        _, acc, x, p, line, minimum = args
        minimum = _splat(builder, vector_type, minimum)
        for row in range(BLOCK):
            pointer = _at(context, builder, vector_type, acc, _index(row * vector_type.count))
            estimate = _load(builder, pointer)
            denominator = builder.select(builder.fcmp_ordered(">", estimate, minimum), estimate, minimum)
            index = builder.add(p, builder.mul(line, _index(row)))
            observed = _load(builder, _at(context, builder, vector_type, x, index))
            builder.store(builder.fdiv(observed, denominator), pointer).align = 4
        return context.get_dummy_value()

    return types.void(pixel, _FLOATS, _FLOATS, types.intp, types.intp, types.float32), build


def _vector(pixel: Any) -> Any:
    return ir.VectorType(ir.FloatType(), BLOCK * pixel.count)


def _index(value: int) -> Any:
    return ir.Constant(ir.IntType(64), value)


def _at(context: Any, builder: Any, vector_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(_FLOATS)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector_type.as_pointer())


def _load(builder: Any, pointer: Any) -> Any:
    lanes = builder.load(pointer)
    lanes.align = 4
    return lanes


def _splat(builder: Any, vector_type: Any, value: Any) -> Any:
    empty = ir.Constant(vector_type, ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector_type.count), [0] * vector_type.count)
    return builder.shuffle_vector(first, empty, zeros)


def _lines(context: Any, builder: Any, vector_type: Any, acc: Any) -> list[Any]:
    indices = [_index(row * vector_type.count) for row in range(BLOCK)]
    return [_load(builder, _at(context, builder, vector_type, acc, pointer)) for pointer in indices]


def _shuffle(builder: Any, one: Any, other: Any, lanes: Any) -> Any:
    """Some lanes of two vectors laid end to end."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
    return builder.shuffle_vector(one, other, mask)
