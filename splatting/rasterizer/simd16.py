"""Sixteen pixels at once inside numba kernels: what one Gaussian adds to a run of a row, and its gradients.

LLVM leaves such loops scalar, for they are full of selects; written as vectors they are eight times as fast.
Buffers are planar and flat; runs may overhang the end of a row, into a margin of `LANES` pixels.

The sign of a pixel's transmittance T says whether it is finished: once T falls to `TRANSMITTANCE_MIN` no Gaussian behind
adds anything (Kerbl et al. 2023), and -T is kept. So a chunk has no branches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .projected import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN

LANES = 16
PROJECTED_GRADS = 6  # gradients of a Gaussian on the screen: mean x, y, conic a, b, c, opacity
MAX_EXPONENT = 6.0  # exponents that matter are at most ln 255 = 5.54

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_INT = ir.IntType(64)
_FAST = ("fast",)
_FLOATS = types.Array(types.float32, 1, "C")


def _fitted_exponential() -> list[float]:
    """Coefficients of exp(-t) on [0, 0.75], to be raised to the eighth power: relative error 1e-6."""
    nodes = (np.cos(np.pi * (np.arange(400) + 0.5) / 400) + 1) / 2 * MAX_EXPONENT / 8
    fitted = np.polynomial.polynomial.polyfit(nodes, np.exp(-nodes), 5, w=np.exp(nodes))
    return [float(value) for value in fitted]


_EXPONENTIAL = _fitted_exponential()


@intrinsic
def colour_at(_typing: Any, colours: Any, at: Any, channels: Any) -> Any:
    """The K floats colours[at : at + K] as a tuple, in registers; K is the length of the tuple `channels`."""
    found = types.UniTuple(types.float32, channels.count)

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v = _Vectors(context, builder)
        values = [
            v.scalar(args[0], builder.add(args[1], ir.Constant(_INT, k))) for k in range(channels.count)
        ]
        return context.make_tuple(builder, found, values)

    return found(_FLOATS, types.intp, channels), build


@intrinsic
def composite_span(  # noqa: PLR0913, PLR0917
    _typing: Any, transmittance: Any, planes: Any, size: Any, at: Any, shape: Any, colour: Any
) -> Any:  # fmt: skip
    """Composite one Gaussian onto the pixels [at, at + LANES) of every plane.

    Args (inside numba):
        transmittance: [n] float32.
        planes: [K * size] float32, one plane after the other.
        size: Pixels of a plane, with margin.
        at: First pixel.
        shape: Five floats: x from the first pixel to the mean, a / 2, b dy, c dy^2 / 2, opacity.
        colour: K floats, see `colour_at`.
    """
    signature = types.void(_FLOATS, _FLOATS, types.intp, types.intp, types.UniTuple(types.float32, 5), colour)

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        t_array, p_array, size, at, shape, values = args
        v = _Vectors(context, builder)
        t_pointer = v.pointer(t_array, at)
        _, _, _, weight, left = v.alpha(builder, shape, v.load(t_pointer))
        v.store(left, t_pointer)
        for k in range(colour.count):
            pointer = v.pointer(p_array, builder.add(at, builder.mul(size, ir.Constant(_INT, k))))
            value = v.splat(builder.extract_value(values, k))
            v.store(v.fma(weight, value, v.load(pointer)), pointer)
        return context.get_dummy_value()

    return signature, build


@intrinsic
def composite_span_gradients(  # noqa: PLR0913, PLR0917
    _typing: Any, transmittance: Any, behind: Any, upstream: Any, size: Any, at: Any, shape: Any, dy: Any,
    colour: Any, sums: Any,
) -> Any:  # fmt: skip
    """Add to `sums` what one Gaussian's run of pixels says about its gradients; front to back, as above.

    `behind` holds, per pixel, the inner product of the upstream gradient with all that is composited from
    here on: one scalar replaces the colour buffer of the usual back-to-front pass.

    Args (inside numba):
        upstream: [(K + 1) * size] gradients by colour channels, then by alpha.
        dy: y distance of the mean from the row.
        sums: [(6 + K) * LANES] of s, s dx, s dx^2, s dy, s dx dy, s dy^2, where s is the gradient by the
            exponent, then weight times upstream by channel.
    """
    count = colour.count
    signature = types.void(
        _FLOATS, _FLOATS, _FLOATS, types.intp, types.intp, types.UniTuple(types.float32, 5), types.float32,
        colour, _FLOATS,
    )  # fmt: skip

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        t_array, b_array, u_array, size, at, shape, dy, values, s_array = args
        v = _Vectors(context, builder)
        t_pointer, b_pointer = v.pointer(t_array, at), v.pointer(b_array, at)
        t = v.load(t_pointer)
        dx, raw, alpha, weight, left = v.alpha(builder, shape, t)
        v.store(left, t_pointer)
        upstreams = [
            v.load(v.pointer(u_array, builder.add(at, builder.mul(size, ir.Constant(_INT, k)))))
            for k in range(count + 1)
        ]
        seen = upstreams[count]
        for k in range(count):
            value = v.splat(builder.extract_value(values, k))
            seen = v.fma(upstreams[k], value, seen)
        rest = v.sub(v.load(b_pointer), v.mul(weight, seen))
        v.store(rest, b_pointer)
        by_alpha = v.sub(v.mul(t, seen), v.div(rest, v.sub(v.constant(1), alpha)))
        unclamped = v.compare("<=", raw, v.constant(ALPHA_MAX))
        s = builder.select(unclamped, v.sub(v.constant(0), v.mul(alpha, by_alpha)), v.constant(0))
        down = v.splat(dy)
        sx, sy = v.mul(s, dx), v.mul(s, down)
        parts = [s, sx, v.mul(sx, dx), sy, v.mul(sx, down), v.mul(sy, down)]
        parts += [v.mul(weight, up) for up in upstreams[:count]]
        for i, part in enumerate(parts):
            pointer = v.pointer(s_array, ir.Constant(_INT, i * LANES))
            v.store(v.add(v.load(pointer), part), pointer)
        return context.get_dummy_value()

    return signature, build


class _Vectors:
    """Vector instructions under short names."""

    def __init__(self, context: Any, builder: Any) -> None:
        self._context, self._builder = context, builder

    def constant(self, value: float) -> Any:
        return ir.Constant(_VECTOR, [ir.Constant(_FLOAT, float(np.float32(value)))] * LANES)

    def splat(self, value: Any) -> Any:
        empty = ir.Constant(_VECTOR, ir.Undefined)
        first = self._builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self._builder.shuffle_vector(first, empty, zeros)

    def pointer(self, array: Any, index: Any) -> Any:
        return self._builder.bitcast(self._address(array, index), _VECTOR.as_pointer())

    def scalar(self, array: Any, index: Any) -> Any:
        return self._builder.load(self._address(array, index))

    def load(self, pointer: Any) -> Any:
        value = self._builder.load(pointer)
        value.align = 4
        return value

    def store(self, value: Any, pointer: Any) -> None:
        self._builder.store(value, pointer).align = 4

    def add(self, a: Any, b: Any) -> Any:
        return self._builder.fadd(a, b, flags=_FAST)

    def sub(self, a: Any, b: Any) -> Any:
        return self._builder.fsub(a, b, flags=_FAST)

    def mul(self, a: Any, b: Any) -> Any:
        return self._builder.fmul(a, b, flags=_FAST)

    def div(self, a: Any, b: Any) -> Any:
        return self._builder.fdiv(a, b, flags=_FAST)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self.add(self.mul(a, b), c)

    def compare(self, how: str, a: Any, b: Any) -> Any:
        return self._builder.fcmp_ordered(how, a, b, flags=_FAST)

    def alpha(self, builder: Any, shape: Any, t: Any) -> tuple[Any, Any, Any, Any, Any]:
        """dx, alpha before its limits, alpha, weight and transmittance left, of a run of pixels."""
        first, a, b_dy, c_dy, opacity = (builder.extract_value(shape, i) for i in range(5))
        steps = ir.Constant(_VECTOR, [ir.Constant(_FLOAT, float(i)) for i in range(LANES)])
        dx = self.sub(self.splat(first), steps)
        exponent = self.fma(dx, self.fma(self.splat(a), dx, self.splat(b_dy)), self.splat(c_dy))
        raw = self.mul(self.splat(opacity), self._exp_neg(exponent))
        alpha = self._min(raw, self.constant(ALPHA_MAX))
        shown = builder.and_(
            self.compare(">=", alpha, self.constant(ALPHA_MIN)), self.compare(">", t, self.constant(0))
        )
        alpha = builder.select(shown, alpha, self.constant(0))
        weight = self.mul(alpha, t)
        left = self.sub(t, weight)
        stop = builder.and_(shown, self.compare("<=", left, self.constant(TRANSMITTANCE_MIN)))
        none = self.constant(0)
        return (
            dx,
            raw,
            builder.select(stop, none, alpha),
            builder.select(stop, none, weight),
            builder.select(stop, self.sub(none, t), left),
        )

    def _exp_neg(self, exponent: Any) -> Any:
        """exp(-x) for x in [0, 6]; beyond, the value at the end."""
        limited = self._min(self._max(exponent, self.constant(0)), self.constant(MAX_EXPONENT))
        t = self.mul(limited, self.constant(1 / 8))
        value = self.constant(_EXPONENTIAL[5])
        for coefficient in _EXPONENTIAL[4::-1]:
            value = self.fma(value, t, self.constant(coefficient))
        for _ in range(3):
            value = self.mul(value, value)
        return value

    def _min(self, a: Any, b: Any) -> Any:
        return self._builder.select(self.compare("<", a, b), a, b)

    def _max(self, a: Any, b: Any) -> Any:
        return self._builder.select(self.compare(">", a, b), a, b)

    def _address(self, array: Any, index: Any) -> Any:
        return self._builder.gep(
            self._context.make_array(_FLOATS)(self._context, self._builder, array).data, [index]
        )
