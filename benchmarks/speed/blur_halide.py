"""The blur operator and its adjoint in Halide: one algorithm, one schedule for the CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

CHANNELS, BANDS = 4, 16


class Taps(NamedTuple):
    """Tap number `t` of a pixel's segment, as Halide expressions."""

    count: Any  # taps of the segment
    near: tuple[Any, Any]  # x, y of the two source pixels
    far: tuple[Any, Any]
    near_weight: Any
    far_weight: Any


def blur_operations(inputs: dict[str, Array]) -> dict[str, Callable[[], Array]]:
    """The operations by name. Halide does not own `inputs`: they must live as long as the operations."""
    import halide as hl

    height, width, _ = inputs["image"].shape
    target = hl.get_jit_target_from_environment().with_feature(hl.TargetFeature.StrictFloat)
    result = hl.Buffer(hl.Float(32), [CHANNELS, width, height])
    functions = {"blur": blur(inputs), "adjoint": adjoint(inputs)}

    def realize(function: Any) -> Array:
        function.realize(result, target)
        return np.asarray(result)

    for function in functions.values():
        function.compile_jit(target)
    return {name: partial(realize, function) for name, function in functions.items()}


def blur(inputs: dict[str, Array]) -> Any:
    import halide as hl

    image = hl.Buffer(inputs["image"])  # Halide's axes are NumPy's in reverse order
    x, y, c = hl.Var("x"), hl.Var("y"), hl.Var("c")
    t = hl.RDom([(0, max_taps(inputs))])
    taps = make_taps(inputs, (x, y), t.x)
    t.where(t.x < taps.count)
    sums, out = hl.Func("sums"), hl.Func("out")
    sums[c, x, y] = hl.f32(0)
    near, far = taps.near_weight * image[c, *taps.near], taps.far_weight * image[c, *taps.far]
    sums[c, x, y] = sums[c, x, y] + near + far
    out[c, x, y] = sums[c, x, y]
    out.bound(c, 0, CHANNELS).reorder(c, x, y).vectorize(c, CHANNELS).parallel(y, 4)
    sums.compute_at(out, x).bound_storage(c, CHANNELS).vectorize(c, CHANNELS)
    sums.update().reorder(c, t.x).vectorize(c, CHANNELS)
    return out


def adjoint(inputs: dict[str, Array]) -> Any:
    """Bands of rows scatter into accumulators of their own, as in the numba kernel."""
    import halide as hl

    image = hl.Buffer(inputs["image"])
    height, width, _ = inputs["image"].shape
    rows = -(-height // BANDS)
    reach = int(np.abs(inputs["vectors"][1]).max() / 2 + np.abs(inputs["offset"][1]).max()) + 3
    span = rows + 2 * reach
    x, y, c, band = hl.Var("x"), hl.Var("y"), hl.Var("c"), hl.Var("band")
    q = hl.RDom([(0, 2), (0, max_taps(inputs)), (0, width), (0, rows)])
    row = hl.min(band * rows + q.w, height - 1)
    taps = make_taps(inputs, (q.z, row), q.y)
    q.where(band * rows + q.w < height)
    q.where(q.y < taps.count)
    column, line = (hl.select(q.x == 0, near, far) for near, far in zip(taps.near, taps.far, strict=True))
    line = hl.clamp(line - band * rows + reach, 0, span - 1)
    weight = hl.select(q.x == 0, taps.near_weight, taps.far_weight)
    sums, out = hl.Func("sums"), hl.Func("out")
    sums[c, x, y, band] = hl.f32(0)
    sums[c, column, line, band] = sums[c, column, line, band] + weight * image[c, q.z, row]
    s = hl.RDom([(0, BANDS)])
    inside = y - s.x * rows + reach
    s.where((inside >= 0) & (inside < span))
    out[c, x, y] = hl.f32(0)
    out[c, x, y] = out[c, x, y] + sums[c, x, hl.clamp(inside, 0, span - 1), s.x]
    out.bound(c, 0, CHANNELS).vectorize(c, CHANNELS).parallel(y)
    out.update().reorder(c, x, s.x, y).vectorize(c, CHANNELS).parallel(y)
    sums.compute_root().bound(c, 0, CHANNELS).vectorize(c, CHANNELS).parallel(band)
    sums.update().reorder(c, q.x, q.y, q.z, q.w, band).unroll(q.x).vectorize(c, CHANNELS).parallel(band)
    return out


def max_taps(inputs: dict[str, Array]) -> int:
    return int(np.abs(inputs["vectors"]).max()) + 3


def make_taps(inputs: dict[str, Array], pixel: tuple[Any, Any], t: Any) -> Taps:
    import halide as hl

    height, width, _ = inputs["image"].shape
    u, offset = hl.Buffer(inputs["vectors"]), hl.Buffer(inputs["offset"])
    half, floats, ints = hl.f32(0.5), partial(hl.cast, hl.Float(32)), partial(hl.cast, hl.Int(32))
    ux, uy = u[*pixel, 0], u[*pixel, 1]
    flat = hl.abs(ux) >= hl.abs(uy)
    middle_x, middle_y = floats(pixel[0]) + offset[*pixel, 0], floats(pixel[1]) + offset[*pixel, 1]
    along, across = hl.select(flat, middle_x, middle_y), hl.select(flat, middle_y, middle_x)
    major, minor = hl.select(flat, ux, uy), hl.select(flat, uy, ux)
    length = hl.max(hl.abs(major), hl.f32(1))
    slope = hl.select(major < 0, -minor, minor) * (hl.f32(1) / length)
    low, high = along - length * half, along + length * half
    first = ints(hl.floor(low + half))
    tap = first + t
    begin, end = hl.max(floats(tap) - half, low), hl.min(floats(tap) + half, high)
    last_along = hl.select(flat, width - 1, height - 1)
    last_across = hl.select(flat, height - 1, width - 1)
    cross = across - slope * along + slope * (half * (begin + end))
    cross = hl.clamp(cross, hl.f32(0), floats(last_across))
    lower = ints(cross)
    weight = hl.max(end - begin, hl.f32(0)) * (hl.f32(1) / length)
    part = (cross - floats(lower)) * weight
    side, upper = hl.clamp(tap, 0, last_along), hl.min(lower + 1, last_across)

    def position(other: Any) -> tuple[Any, Any]:
        column, row = hl.select(flat, side, other), hl.select(flat, other, side)
        return hl.clamp(column, 0, width - 1), hl.clamp(row, 0, height - 1)

    count = ints(hl.ceil(high - half)) - first + 1
    return Taps(count, position(lower), position(upper), weight - part, part)
