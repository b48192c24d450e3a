"""Sixteen pixels of a row at once inside numba kernels: compositing one Gaussian, and its gradients.

LLVM leaves these loops scalar, as they are full of selects. Buffers are planar and flat. Spans may exceed the
end of a row by less than `LANES` pixels, into padding.

The sign of a pixel's transmittance T marks pixels that are finished: once T falls to `TRANSMITTANCE_MIN`, no
Gaussian behind contributes (Kerbl et al. 2023), and -T is stored. A span therefore needs no branches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from freezeframe.data.kernels.simd import FLOATS, Vectors, index

from .projected import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN

LANES = 16
PROJECTED_GRADS = 6  # gradients of a projected Gaussian: mean x, y, conic a, b, c, opacity
MAX_EXPONENT = 6.0  # exponents that matter are at most ln 255 = 5.54


def _fit_exponential() -> list[float]:
    """Polynomial for exp(-t) on [0, 0.75]; its eighth power has a relative error of 1e-6."""
    nodes = (np.cos(np.pi * (np.arange(400) + 0.5) / 400) + 1) / 2 * MAX_EXPONENT / 8
    coefficients = np.polynomial.polynomial.polyfit(nodes, np.exp(-nodes), 5, w=np.exp(nodes))
    return [float(value) for value in coefficients]


_EXPONENTIAL = _fit_exponential()


@intrinsic
def colour_at(_typing: Any, colours: Any, at: Any, channels: Any) -> Any:
    """The K floats colours[at : at + K] as a tuple, in registers; K is the length of the tuple `channels`."""
    colour_type = types.UniTuple(types.float32, channels.count)

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        v = Vectors(context, builder, LANES, fast=True)
        values = [v.scalar(args[0], builder.add(args[1], index(k))) for k in range(channels.count)]
        return context.make_tuple(builder, colour_type, values)

    return colour_type(FLOATS, types.intp, channels), build


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
    signature = types.void(FLOATS, FLOATS, types.intp, types.intp, types.UniTuple(types.float32, 5), colour)

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        t_array, p_array, size, at, shape, values = args
        v = Vectors(context, builder, LANES, fast=True)
        t_pointer = v.pointer(t_array, at)
        _, _, _, weight, left = _alpha(v, builder, shape, v.load(t_pointer))
        v.store(left, t_pointer)
        for k in range(colour.count):
            pointer = v.pointer(p_array, builder.add(at, builder.mul(size, index(k))))
            value = v.splat(builder.extract_value(values, k))
            v.store(v.fma(weight, value, v.load(pointer)), pointer)
        return context.get_dummy_value()

    return signature, build


@intrinsic
def composite_span_gradients(  # noqa: PLR0913, PLR0917
    _typing: Any, transmittance: Any, behind: Any, upstream: Any, size: Any, at: Any, shape: Any, dy: Any,
    colour: Any, sums: Any,
) -> Any:  # fmt: skip
    """Add the gradients of one Gaussian over LANES pixels to `sums`; front to back, like `composite_span`.

    `behind` holds, per pixel, the inner product of the upstream gradient with the light composited from here
    on: one scalar replaces the colour buffer of the usual back-to-front pass.

    Args (inside numba):
        upstream: [(K + 1) * size] gradients by colour channels, then by alpha.
        dy: y distance of the mean from the row.
        sums: [(6 + K) * LANES] of s, s dx, s dx^2, s dy, s dx dy, s dy^2, where s is the gradient by the
            exponent, then weight times upstream by channel.
    """
    count = colour.count
    signature = types.void(
        FLOATS, FLOATS, FLOATS, types.intp, types.intp, types.UniTuple(types.float32, 5), types.float32,
        colour, FLOATS,
    )  # fmt: skip

    def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        t_array, b_array, u_array, size, at, shape, dy, values, s_array = args
        v = Vectors(context, builder, LANES, fast=True)
        t_pointer, b_pointer = v.pointer(t_array, at), v.pointer(b_array, at)
        t = v.load(t_pointer)
        dx, raw, alpha, weight, left = _alpha(v, builder, shape, t)
        v.store(left, t_pointer)
        upstreams = [
            v.load(v.pointer(u_array, builder.add(at, builder.mul(size, index(k))))) for k in range(count + 1)
        ]
        by_weight = upstreams[count]
        for k in range(count):
            value = v.splat(builder.extract_value(values, k))
            by_weight = v.fma(upstreams[k], value, by_weight)
        rest = v.sub(v.load(b_pointer), v.mul(weight, by_weight))
        v.store(rest, b_pointer)
        by_alpha = v.sub(v.mul(t, by_weight), v.div(rest, v.sub(v.constant(1), alpha)))
        unclamped = v.compare("<=", raw, v.constant(ALPHA_MAX))
        s = builder.select(unclamped, v.sub(v.constant(0), v.mul(alpha, by_alpha)), v.constant(0))
        down = v.splat(dy)
        sx, sy = v.mul(s, dx), v.mul(s, down)
        parts = [s, sx, v.mul(sx, dx), sy, v.mul(sx, down), v.mul(sy, down)]
        parts += [v.mul(weight, up) for up in upstreams[:count]]
        for i, part in enumerate(parts):
            pointer = v.pointer(s_array, index(i * LANES))
            v.store(v.add(v.load(pointer), part), pointer)
        return context.get_dummy_value()

    return signature, build


def _alpha(v: Vectors, builder: Any, shape: Any, t: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Per pixel of a span: dx, alpha before its limits, alpha, weight and remaining transmittance."""
    first, a, b_dy, c_dy, opacity = (builder.extract_value(shape, i) for i in range(5))
    dx = v.sub(v.splat(first), v.constant(*range(LANES)))
    exponent = v.fma(dx, v.fma(v.splat(a), dx, v.splat(b_dy)), v.splat(c_dy))
    raw = v.mul(v.splat(opacity), _exp_neg(v, exponent))
    alpha = v.minimum(raw, v.constant(ALPHA_MAX))
    visible = builder.and_(v.compare(">=", alpha, v.constant(ALPHA_MIN)), v.compare(">", t, v.constant(0)))
    alpha = builder.select(visible, alpha, v.constant(0))
    weight = v.mul(alpha, t)
    left = v.sub(t, weight)
    stop = builder.and_(visible, v.compare("<=", left, v.constant(TRANSMITTANCE_MIN)))
    none = v.constant(0)
    return (
        dx,
        raw,
        builder.select(stop, none, alpha),
        builder.select(stop, none, weight),
        builder.select(stop, v.sub(none, t), left),
    )


def _exp_neg(v: Vectors, exponent: Any) -> Any:
    """exp(-x) for x in [0, 6]; beyond, the value at the end."""
    limited = v.minimum(v.maximum(exponent, v.constant(0)), v.constant(MAX_EXPONENT))
    t = v.mul(limited, v.constant(1 / 8))
    value = v.constant(_EXPONENTIAL[5])
    for coefficient in _EXPONENTIAL[4::-1]:
        value = v.fma(value, t, v.constant(coefficient))
    for _ in range(3):
        value = v.mul(value, value)
    return value
