"""Splatting on the CPU, compiled: where Gaussians lie on the screens, and the gradients of that.

Blocks of Gaussians run in parallel; nothing is written by two threads, so that the same input gives the same
bits on any number of threads. `spread` goes before, `layers` follows.

A record holds what is known of one Gaussian on one screen, see `MEAN` to `COVARIANCE`. Semantics and symbols
follow gsplat 1.5: conic (a, b, c) is the inverse of the 2D covariance (xx, xy, yy).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange

from .projected import ALPHA_MIN

F = np.float32
MEAN, CONIC, OPACITY, DEPTH, POWER, EXTENT, COMPENSATION, COVARIANCE = 0, 2, 5, 6, 7, 8, 10, 11
SORTED_FLOATS, RECORD_FLOATS = (
    10,
    14,
)  # floats; REACH is 2 ln(255 opacity), SHRINK the factor of the antialiased mode
_HALF, _ONE, _TWO, _ZERO = F(0.5), F(1), F(2), F(0)
_FRUSTUM_MARGIN = F(0.15)  # of the frame: how far outside a Gaussian may lie before its perspective is held
_BLOCK = 512

_jit: Any = njit(parallel=True, fastmath=True, error_model="numpy", cache=True)
_inline: Any = njit(inline="always", fastmath=True, error_model="numpy")


@_inline
def _camera_space(v: Any, x: Any, y: Any, z: Any, row: Any) -> Any:
    return v[row, 0] * x + v[row, 1] * y + v[row, 2] * z + v[row, 3]


@_inline
def _clamp_to_frustum(ratio: Any, centre: Any, focal: Any, side: Any) -> Any:
    """X / z kept near the frame: the linear perspective of far-off Gaussians would explode."""
    margin = _FRUSTUM_MARGIN * side / focal
    return min(max(ratio, -(centre / focal + margin)), (side - centre) / focal + margin)


@_inline
def _jacobian_row(focal: Any, clamped: Any, v: Any, row: Any, inverse_depth: Any) -> Any:
    """One row of J R: how a screen coordinate changes with the world's, (x, y, z)."""
    j, k = focal * inverse_depth, -focal * clamped * inverse_depth
    return j * v[row, 0] + k * v[2, 0], j * v[row, 1] + k * v[2, 1], j * v[row, 2] + k * v[2, 2]


@_inline
def _times(cov: Any, n: Any, p: Any, q: Any, r: Any) -> Any:
    """The symmetric matrix (xx, xy, xz, yy, yz, zz) times a vector."""
    return (
        cov[n, 0] * p + cov[n, 1] * q + cov[n, 2] * r,
        cov[n, 1] * p + cov[n, 3] * q + cov[n, 4] * r,
        cov[n, 2] * p + cov[n, 4] * q + cov[n, 5] * r,
    )


@_jit
def project(  # noqa: PLR0917, PLR0913
    means: Any, cov: Any, opacities: Any, views: Any, intrinsics: Any, width: Any, height: Any, blur: Any,
    near: Any, far: Any, antialiased: Any, records: Any, radii: Any,
) -> None:  # fmt: skip
    """Fill `records` [C, N, RECORD], and `radii` [C, N] pixels, 0 for what is not seen."""
    cameras, count = views.shape[0], means.shape[0]
    for block in prange((count + _BLOCK - 1) // _BLOCK):
        for n in range(block * _BLOCK, min(count, block * _BLOCK + _BLOCK)):
            x, y, z = means[n, 0], means[n, 1], means[n, 2]
            for c in range(cameras):
                v, k = views[c], intrinsics[c]
                radii[c, n] = 0
                depth = _camera_space(v, x, y, z, 2)
                if not (depth > near and depth < far):
                    continue
                inverse = _ONE / depth
                across, down = _camera_space(v, x, y, z, 0) * inverse, _camera_space(v, x, y, z, 1) * inverse
                a0, a1, a2 = _jacobian_row(
                    k[0, 0], _clamp_to_frustum(across, k[0, 2], k[0, 0], width), v, 0, inverse
                )
                b0, b1, b2 = _jacobian_row(
                    k[1, 1], _clamp_to_frustum(down, k[1, 2], k[1, 1], height), v, 1, inverse
                )
                u0, u1, u2 = _times(cov, n, a0, a1, a2)
                w0, w1, w2 = _times(cov, n, b0, b1, b2)
                xx, xy = a0 * u0 + a1 * u1 + a2 * u2, b0 * u0 + b1 * u1 + b2 * u2
                yy = b0 * w0 + b1 * w1 + b2 * w2
                sharp = max(xx * yy - xy * xy, F(0))
                xx, yy = xx + blur, yy + blur
                det = max(xx * yy - xy * xy, F(1e-10))
                compensation = math.sqrt(sharp / det) if antialiased else _ONE
                opacity = opacities[n] * compensation
                if opacity < F(ALPHA_MIN):
                    continue
                mx, my = k[0, 0] * across + k[0, 2], k[1, 1] * down + k[1, 2]
                power = _TWO * math.log(opacity * F(255))
                ex, ey = math.sqrt(power * xx), math.sqrt(power * yy)
                if mx + ex <= _ZERO or mx - ex >= width or my + ey <= _ZERO or my - ey >= height:
                    continue
                radii[c, n] = np.int32(math.ceil(max(ex, ey)))
                r = records[c, n]
                r[0], r[1], r[2], r[3], r[4] = mx, my, yy / det, -xy / det, xx / det
                r[5], r[6], r[7], r[8], r[9], r[10] = opacity, depth, power, ex, ey, compensation
                r[11], r[12], r[13] = xx, xy, yy


@_jit
def project_gradients(  # noqa: PLR0917, PLR0913, PLR0915
    means: Any, cov: Any, opacities: Any, views: Any, intrinsics: Any, width: Any, height: Any, blur: Any,
    antialiased: Any, records: Any, radii: Any, grad_projected: Any, grad_depths: Any, by_mean: Any, by_cov: Any,
    by_opacity: Any, by_view: Any,
) -> None:  # fmt: skip
    """From gradients on the screens, [C, N, 6], and by depth, [C, N], to those in the world.

    `by_view` [blocks, C, 12] is summed by the caller, in float64 and in order.
    """
    cameras, count, blocks = views.shape[0], means.shape[0], by_view.shape[0]
    size = (count + blocks - 1) // blocks
    for block in prange(blocks):
        for n in range(block * size, min(count, block * size + size)):
            x, y, z = means[n, 0], means[n, 1], means[n, 2]
            for c in range(cameras):
                if radii[c, n] == 0:
                    continue
                v, k, r, g = views[c], intrinsics[c], records[c, n], grad_projected[c, n]
                inverse = _ONE / r[6]
                across, down = _camera_space(v, x, y, z, 0) * inverse, _camera_space(v, x, y, z, 1) * inverse
                clamped_x = _clamp_to_frustum(across, k[0, 2], k[0, 0], width)
                clamped_y = _clamp_to_frustum(down, k[1, 2], k[1, 1], height)
                a0, a1, a2 = _jacobian_row(k[0, 0], clamped_x, v, 0, inverse)
                b0, b1, b2 = _jacobian_row(k[1, 1], clamped_y, v, 1, inverse)
                # d inverse(S) = -inverse(S) dS inverse(S)
                p, q, s, half = r[2], r[3], r[4], g[3] * _HALF
                t00, t01 = p * g[2] + q * half, p * half + q * g[4]
                t10, t11 = q * g[2] + s * half, q * half + s * g[4]
                g00, g01, g11 = -(t00 * p + t01 * q), -(t00 * q + t01 * s), -(t10 * q + t11 * s)
                by_opacity[n] += g[5] * r[10]
                if antialiased:
                    # shrink^2 = sharp / det, both functions of (xx, xy, yy)
                    xx, xy, yy = r[11], r[12], r[13]
                    det = max(xx * yy - xy * xy, F(1e-10))
                    sharp = (xx - blur) * (yy - blur) - xy * xy
                    if sharp > _ZERO:
                        grad_det = g[5] * opacities[n] * _HALF / (r[10] * det)
                        ratio = sharp / det
                        g00 += grad_det * ((yy - blur) - ratio * yy)
                        g11 += grad_det * ((xx - blur) - ratio * xx)
                        g01 += grad_det * (ratio - _ONE) * xy
                # S = P cov P', P = J R
                w00, w01, w02 = g00 * a0 + g01 * b0, g00 * a1 + g01 * b1, g00 * a2 + g01 * b2
                w10, w11, w12 = g01 * a0 + g11 * b0, g01 * a1 + g11 * b1, g01 * a2 + g11 * b2
                by_cov[n, 0] += a0 * w00 + b0 * w10
                by_cov[n, 1] += a0 * w01 + b0 * w11 + a1 * w00 + b1 * w10
                by_cov[n, 2] += a0 * w02 + b0 * w12 + a2 * w00 + b2 * w10
                by_cov[n, 3] += a1 * w01 + b1 * w11
                by_cov[n, 4] += a1 * w02 + b1 * w12 + a2 * w01 + b2 * w11
                by_cov[n, 5] += a2 * w02 + b2 * w12
                p00, p01, p02 = _times(cov, n, w00, w01, w02)
                p10, p11, p12 = _times(cov, n, w10, w11, w12)
                p00, p01, p02 = _TWO * p00, _TWO * p01, _TWO * p02
                p10, p11, p12 = _TWO * p10, _TWO * p11, _TWO * p12
                # By the entries of J: (j0, 0, j02), (0, j1, j12), with j02 = -j0 held_x.
                j0, j1 = k[0, 0] * inverse, k[1, 1] * inverse
                by_j0, by_j1 = (
                    p00 * v[0, 0] + p01 * v[0, 1] + p02 * v[0, 2],
                    p10 * v[1, 0] + p11 * v[1, 1] + p12 * v[1, 2],
                )
                by_j02, by_j12 = (
                    p00 * v[2, 0] + p01 * v[2, 1] + p02 * v[2, 2],
                    p10 * v[2, 0] + p11 * v[2, 1] + p12 * v[2, 2],
                )
                gx, gy = j0 * g[0], j1 * g[1]
                gz = grad_depths[c, n] - (across * gx + down * gy) - inverse * (j0 * by_j0 + j1 * by_j1)
                gz += inverse * (j0 * clamped_x * by_j02 + j1 * clamped_y * by_j12)
                if clamped_x == across:
                    gx, gz = gx - j0 * inverse * by_j02, gz + j0 * across * inverse * by_j02
                if clamped_y == down:
                    gy, gz = gy - j1 * inverse * by_j12, gz + j1 * down * inverse * by_j12
                for i in range(3):
                    by_mean[n, i] += v[0, i] * gx + v[1, i] * gy + v[2, i] * gz
                j02, j12 = -j0 * clamped_x, -j1 * clamped_y
                out = by_view[block, c]
                out[0] += j0 * p00 + gx * x
                out[1] += j0 * p01 + gx * y
                out[2] += j0 * p02 + gx * z
                out[3] += gx
                out[4] += j1 * p10 + gy * x
                out[5] += j1 * p11 + gy * y
                out[6] += j1 * p12 + gy * z
                out[7] += gy
                out[8] += j02 * p00 + j12 * p10 + gz * x
                out[9] += j02 * p01 + j12 * p11 + gz * y
                out[10] += j02 * p02 + j12 * p12 + gz * z
                out[11] += gz
