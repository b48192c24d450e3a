"""Bilinear samples of an image with four channels along a line, and their gradients, in vectors."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from freezeframe.data.kernels.simd import FLOATS, Vectors, index

CHANNELS = 4  # floats of a texel
_LINE = types.UniTuple(types.float32, 4)  # u, v of the first sample, and their steps
_SIZE = types.UniTuple(types.intp, 2)  # width and height of the image
_SUMS = types.UniTuple(types.float32, 4)
_INDEX, _FLOAT = ir.IntType(64), ir.FloatType()


@intrinsic
def add_samples(_typing: Any, _out: Any, _at: Any, _count: Any, _x: Any, _size: Any, _line: Any) -> Any:
    """Add `count` samples of the image x along a line to out[at : at + 4 * count].

    All samples lie between four texels.
    """
    signature = types.void(FLOATS, types.intp, types.intp, FLOATS, _SIZE, _LINE)

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        out, at, count, x, size, line = args
        v = Vectors(context, builder, CHANNELS, fast=True)
        with cgutils.for_range(builder, count) as loop:
            corner = _Corner(v, builder, (x, size, line), loop.index)
            x00, x01, x10, x11 = corner.texels
            top = v.fma(corner.right, v.sub(x01, x00), x00)
            bottom = v.fma(corner.right, v.sub(x11, x10), x10)
            pointer = v.pointer(out, builder.add(at, builder.mul(loop.index, index(CHANNELS))))
            v.store(v.add(v.load(pointer), v.fma(corner.down, v.sub(bottom, top), top)), pointer)
        return context.get_dummy_value()

    return signature, build


@intrinsic
def add_sample_gradients(
    _typing: Any, _by_x: Any, _g: Any, _at: Any, _count: Any, _x: Any, _size: Any, _line: Any, _share: Any
) -> Any:
    """Transpose of `add_samples` for the gradients share * g[at : at + 4 * count]; it is added to `by_x`.

    Returns:
        The sums of the gradients by u and v, and of their products with the number of the sample.
    """
    signature = _SUMS(
        FLOATS, FLOATS, types.intp, types.intp, FLOATS, _SIZE, _LINE, types.float32
    )  # fmt: skip

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        by_x, g_array, at, count, x, size, line, share = args
        v = Vectors(context, builder, CHANNELS, fast=True)
        sums = [cgutils.alloca_once_value(builder, v.constant(0)) for _ in range(4)]
        factor, one = v.splat(share), v.constant(1)
        with cgutils.for_range(builder, count) as loop:
            corner = _Corner(v, builder, (x, size, line), loop.index)
            right, down = corner.right, corner.down
            left, up = v.sub(one, right), v.sub(one, down)
            pointer = v.pointer(g_array, builder.add(at, builder.mul(loop.index, index(CHANNELS))))
            g = v.mul(factor, v.load(pointer))
            x00, x01, x10, x11 = corner.texels
            by_u = v.mul(g, v.fma(up, v.sub(x01, x00), v.mul(down, v.sub(x11, x10))))
            by_v = v.mul(g, v.fma(left, v.sub(x10, x00), v.mul(right, v.sub(x11, x01))))
            for start, weight in zip(
                corner.starts, (v.mul(left, up), v.mul(right, up), v.mul(left, down), v.mul(right, down)),
                strict=True,
            ):  # fmt: skip
                pointer = v.pointer(by_x, start)
                v.store(v.fma(weight, g, v.load(pointer)), pointer)
            terms = (by_u, by_v, v.mul(corner.number, by_u), v.mul(corner.number, by_v))
            for total, term in zip(sums, terms, strict=True):
                builder.store(v.add(builder.load(total), term), total)
        return context.make_tuple(
            builder, _SUMS, [_sum_lanes(builder, builder.load(total)) for total in sums]
        )

    return signature, build


class _Corner:
    """The four texels around sample `number` of a line, and its fractions between them."""

    def __init__(self, v: Vectors, builder: Any, image: tuple[Any, Any, Any], number: Any) -> None:
        x, size, line = image
        position = builder.sitofp(number, _FLOAT)
        columns, rows = (builder.extract_value(size, k) for k in range(2))
        (a, right), (b, down) = (
            _split(builder, (builder.extract_value(line, k), builder.extract_value(line, k + 2)), position, n)
            for k, n in ((0, columns), (1, rows))
        )
        stride = builder.mul(columns, index(CHANNELS))
        start = builder.add(builder.mul(b, stride), builder.mul(a, index(CHANNELS)))
        below = builder.add(start, stride)
        self.number, self.right, self.down = v.splat(position), v.splat(right), v.splat(down)
        self.starts = (
            start, builder.add(start, index(CHANNELS)), below, builder.add(below, index(CHANNELS))
        )  # fmt: skip
        self.texels = [v.load(v.pointer(x, each)) for each in self.starts]


def _split(builder: Any, line: tuple[Any, Any], position: Any, count: Any) -> tuple[Any, Any]:
    """Texel and fraction of a coordinate; rounding may put it on the last texel, which has no next one."""
    first, step = line
    coordinate = builder.fadd(first, builder.fmul(position, step, flags=("fast",)), flags=("fast",))
    texel = builder.fptosi(coordinate, _INDEX)
    last = builder.sub(count, index(2))
    texel = builder.select(builder.icmp_signed("<", texel, last), texel, last)
    return texel, builder.fsub(coordinate, builder.sitofp(texel, _FLOAT), flags=("fast",))


def _sum_lanes(builder: Any, vector: Any) -> Any:
    lanes = [builder.extract_element(vector, ir.Constant(ir.IntType(32), k)) for k in range(CHANNELS)]
    first, second = (builder.fadd(lanes[k], lanes[k + 2]) for k in range(2))
    return builder.fadd(first, second)
