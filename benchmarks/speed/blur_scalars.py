"""The kernels of `blur_operator` on scalars, for LLVM's own vectorisers."""

from __future__ import annotations

from typing import Any

import numpy as np

F = np.float32
OPTIONS: dict[str, Any] = {"fastmath": {"nnan", "ninf", "nsz"}, "error_model": "numpy"}


def make_fma() -> Any:
    """The scalar a * b + c with one rounding, where the processor has the instruction."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def fma(_typing: Any, _a: Any, _b: Any, _c: Any) -> Any:
        def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()] * 3)
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.fmuladd.f32")
            return builder.call(function, args)

        return types.float32(types.float32, types.float32, types.float32), build

    return fma


def blur_kernels() -> tuple[Any, Any]:
    """Blur and adjoint, as in `freezeframe.data.blur.operator_numba`."""
    from numba import njit, prange

    from freezeframe.data.blur.operator_numba import segment_of, tap, tap_range

    fma = make_fma()

    @njit(parallel=True, **OPTIONS)
    def blur(image: Any, centre_offset: Any, blur_vector: Any, out: Any) -> None:
        height, width = image.shape[0], image.shape[1]
        x = image.reshape(-1)
        for row in prange(out.shape[0]):
            for column in range(out.shape[1]):
                s = segment_of(
                    F(column) + centre_offset[0, row, column], F(row) + centre_offset[1, row, column],
                    blur_vector[0, row, column], blur_vector[1, row, column],
                )  # fmt: skip
                last_along, last_across = (width - 1, height - 1) if s.flat else (height - 1, width - 1)
                step_along, step_across = (4, width * 4) if s.flat else (width * 4, 4)
                r = g = b = a = F(0)
                first, last = tap_range(s)
                for t in range(first, last + 1):
                    lower, w0, w1 = tap(t, s, last_across)
                    p = min(max(t, 0), last_along) * step_along + lower * step_across
                    q = p + (step_across if lower < last_across else 0)
                    r, g = fma(w1, x[q], fma(w0, x[p], r)), fma(w1, x[q + 1], fma(w0, x[p + 1], g))
                    b, a = fma(w1, x[q + 2], fma(w0, x[p + 2], b)), fma(w1, x[q + 3], fma(w0, x[p + 3], a))
                out[row, column, 0], out[row, column, 1], out[row, column, 2], out[row, column, 3] = (
                    r,
                    g,
                    b,
                    a,
                )

    @njit(parallel=True, **OPTIONS)
    def adjoint(image: Any, centre_offset: Any, blur_vector: Any, bands: Any) -> None:
        height, width = image.shape[0], image.shape[1]
        sums, firsts, band_height = bands.sums, bands.first, bands.height
        for band in prange(sums.shape[0]):
            x = sums[band].reshape(-1)
            x[:] = F(0)
            origin = firsts[band] * width * 4
            for row in range(band * band_height, min(height, (band + 1) * band_height)):
                for column in range(width):
                    s = segment_of(
                        F(column) + centre_offset[0, row, column], F(row) + centre_offset[1, row, column],
                        blur_vector[0, row, column], blur_vector[1, row, column],
                    )  # fmt: skip
                    last_along, last_across = (width - 1, height - 1) if s.flat else (height - 1, width - 1)
                    step_along, step_across = (4, width * 4) if s.flat else (width * 4, 4)
                    r, g = image[row, column, 0], image[row, column, 1]
                    b, a = image[row, column, 2], image[row, column, 3]
                    first, last = tap_range(s)
                    for t in range(first, last + 1):
                        lower, w0, w1 = tap(t, s, last_across)
                        p = min(max(t, 0), last_along) * step_along + lower * step_across - origin
                        q = p + (step_across if lower < last_across else 0)
                        r0, g0 = fma(w0, r, x[p]), fma(w0, g, x[p + 1])
                        b0, a0 = fma(w0, b, x[p + 2]), fma(w0, a, x[p + 3])
                        x[p], x[p + 1], x[p + 2], x[p + 3] = r0, g0, b0, a0
                        r1, g1 = fma(w1, r, x[q]), fma(w1, g, x[q + 1])
                        b1, a1 = fma(w1, b, x[q + 2]), fma(w1, a, x[q + 3])
                        x[q], x[q + 1], x[q + 2], x[q + 3] = r1, g1, b1, a1

    return blur, adjoint


def block_functions() -> dict[str, Any]:
    """Substitutes for the intrinsics on blocks, by name."""
    from numba import njit

    fma = make_fma()

    @njit(**OPTIONS)
    def gather(acc: Any, x: Any, taps: Any, line: Any, step: Any) -> None:
        starts, w0, w1 = taps
        near, far = np.zeros(64, F), np.zeros(64, F)
        for k in range(len(starts)):
            for row in range(4):
                start = starts[k] + row * line
                for i in range(16):
                    near[16 * row + i] = fma(w0[k], x[start + i], near[16 * row + i])
                for i in range(16):
                    far[16 * row + i] = fma(w1[k], x[start + step + i], far[16 * row + i])
        for i in range(64):
            acc[i] = near[i] + far[i]

    @njit(**OPTIONS)
    def scatter(acc: Any, x: Any, taps: Any, line: Any, step: Any) -> None:
        starts, w0, w1 = taps
        for phase in range(4):
            for k in range(phase, len(starts), 4):
                for row in range(4):
                    start = starts[k] + row * line
                    for i in range(16):
                        x[start + i] = fma(w0[k], acc[16 * row + i], x[start + i])
                    for i in range(16):
                        x[start + step + i] = fma(w1[k], acc[16 * row + i], x[start + step + i])

    def block_function(function: Any, *, down: bool) -> Any:
        @njit(**OPTIONS)
        def run(  # noqa: PLR0913, PLR0917  # the intrinsics' arguments
            _pixel: Any, acc: Any, x: Any, starts: Any, w0: Any, w1: Any, count: Any, line: Any
        ) -> None:
            function(acc, x, (starts[:count], w0[:count], w1[:count]), line, line if down else 4)

        return run

    @njit(**OPTIONS)
    def divide_block(_pixel: Any, acc: Any, x: Any, p: Any, line: Any, minimum: Any) -> None:
        for row in range(4):
            for i in range(16):
                acc[16 * row + i] = x[p + row * line + i] / max(acc[16 * row + i], minimum)

    return {
        "gather_block_down": block_function(gather, down=True),
        "gather_block_right": block_function(gather, down=False),
        "scatter_block_down": block_function(scatter, down=True),
        "scatter_block_right": block_function(scatter, down=False),
        "divide_block": divide_block,
    }
