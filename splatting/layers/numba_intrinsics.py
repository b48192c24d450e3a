"""A bilinear sample of an image with four channels, and its gradients, as vector instructions."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from freezeframe.data.kernels.simd import FLOATS, Vectors, index

CHANNELS = 4  # floats of a texel
_PAIR = types.UniTuple(types.float32, 2)


@intrinsic
def add_sample(_typing: Any, _out: Any, _at: Any, _x: Any, _p: Any, _line: Any, _a: Any, _b: Any) -> Any:
    """Add to out[at : at + 4] the sample between the texels of x at p, p + 4, p + line and p + line + 4.

    `a` and `b` are the fractions to the right and down.
    """
    signature = types.void(
        FLOATS, types.intp, FLOATS, types.intp, types.intp, types.float32, types.float32
    )  # fmt: skip

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        out, at, x, p, line, a, b = args
        v = Vectors(context, builder, CHANNELS, fast=True)
        right, down = v.splat(a), v.splat(b)
        x00, x01, x10, x11 = _texels(v, builder, x, p, line)
        top = v.fma(right, v.sub(x01, x00), x00)
        bottom = v.fma(right, v.sub(x11, x10), x10)
        pointer = v.pointer(out, at)
        v.store(v.add(v.load(pointer), v.fma(down, v.sub(bottom, top), top)), pointer)
        return context.get_dummy_value()

    return signature, build


@intrinsic
def add_sample_gradients(
    _typing: Any, _by_x: Any, _g: Any, _at: Any, _x: Any, _p: Any, _line: Any, _a: Any, _b: Any, _share: Any
) -> Any:
    """Transpose of `add_sample` for the gradient share * g[at : at + 4]; it is added to `by_x`.

    Returns:
        The gradients by `a` and `b`.
    """
    signature = _PAIR(
        FLOATS, FLOATS, types.intp, FLOATS, types.intp, types.intp, types.float32, types.float32,
        types.float32,
    )  # fmt: skip

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        by_x, g_array, at, x, p, line, a, b, share = args
        v = Vectors(context, builder, CHANNELS, fast=True)
        right, down, one = v.splat(a), v.splat(b), v.constant(1)
        left, up = v.sub(one, right), v.sub(one, down)
        g = v.mul(v.splat(share), v.load(v.pointer(g_array, at)))
        x00, x01, x10, x11 = _texels(v, builder, x, p, line)
        by_a = v.fma(up, v.sub(x01, x00), v.mul(down, v.sub(x11, x10)))
        by_b = v.fma(left, v.sub(x10, x00), v.mul(right, v.sub(x11, x01)))
        weights = ((v.mul(left, up), 0, False), (v.mul(right, up), CHANNELS, False),
                   (v.mul(left, down), 0, True), (v.mul(right, down), CHANNELS, True))  # fmt: skip
        for weight, offset, below in weights:
            start = builder.add(p, line) if below else p
            pointer = v.pointer(by_x, builder.add(start, index(offset)))
            v.store(v.fma(weight, g, v.load(pointer)), pointer)
        return context.make_tuple(
            builder, _PAIR, [_sum_lanes(builder, v.mul(by_a, g)), _sum_lanes(builder, v.mul(by_b, g))]
        )

    return signature, build


def _texels(v: Vectors, builder: Any, x: Any, p: Any, line: Any) -> list[Any]:
    below = builder.add(p, line)
    starts = (p, builder.add(p, index(CHANNELS)), below, builder.add(below, index(CHANNELS)))
    return [v.load(v.pointer(x, start)) for start in starts]


def _sum_lanes(builder: Any, vector: Any) -> Any:
    lanes = [builder.extract_element(vector, ir.Constant(ir.IntType(32), k)) for k in range(CHANNELS)]
    first, second = (builder.fadd(lanes[k], lanes[k + 2]) for k in range(2))
    return builder.fadd(first, second)
