"""Perspective projection of Gaussians on the CPU, compiled, and its gradients.

Blocks of Gaussians run in parallel. No two threads write to one address, so that the same input gives the
same bits on any number of threads. `numba_covariance` computes the input, `numba_compositing` takes the
result.

Semantics and symbols follow gsplat 1.5: the conic (a, b, c) is the inverse of the 2D covariance (xx, xy, yy).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from freezeframe.data.kernels.numba_jit import cached_jit, inline_jit

from . import record_fields as field
from .projected import ALPHA_MIN, FRUSTUM_MARGIN

F = np.float32
_HALF, _ONE, _TWO, _ZERO = F(0.5), F(1), F(2), F(0)
_BLOCK = 512

_jit: Any = cached_jit(fastmath=True, parallel=True)
_inline: Any = inline_jit(fastmath=True)


class Gaussians(NamedTuple):
    """N Gaussians in the world."""

    means: Any  # [N, 3]
    cov: Any  # [N, 6] as (xx, xy, xz, yy, yz, zz)
    opacities: Any  # [N]


class Cameras(NamedTuple):
    """C cameras with one set of `RasterSettings`; floats are float32."""

    viewmats: Any  # [C, 4, 4] world to camera
    Ks: Any  # [C, 3, 3]
    width: Any  # pixels
    height: Any
    near: Any
    far: Any
    blur: Any  # pixels^2 added to every covariance
    antialiased: Any


class Gradients(NamedTuple):
    """Gradients by the Gaussians, and by the first three rows of the view matrices in blocks of Gaussians."""

    means: Any
    cov: Any
    opacities: Any
    views: Any  # [blocks, C, 12] float64; the caller sums the blocks in order


class Projection(NamedTuple):
    """Projected Gaussians."""

    records: Any  # [C, N, RECORD_FLOATS]
    radii: Any  # [C, N] int32 pixels, 0 for invisible Gaussians


class Upstream(NamedTuple):
    """Gradients by the projected Gaussians."""

    projected: Any  # [C, N, 6] by mean x, y, conic a, b, c, opacity
    depths: Any  # [C, N]


@_inline
def _camera_space(v: Any, x: Any, y: Any, z: Any, row: Any) -> Any:
    return v[row, 0] * x + v[row, 1] * y + v[row, 2] * z + v[row, 3]


@_inline
def _clamp_to_frustum(ratio: Any, centre: Any, focal: Any, side: Any) -> Any:
    """X / z clamped near the frame, as the linearised perspective diverges far outside it."""
    margin = F(FRUSTUM_MARGIN) * side / focal
    return min(max(ratio, -(centre / focal + margin)), (side - centre) / focal + margin)


@_inline
def _jacobian_row(focal: Any, clamped: Any, v: Any, row: Any, inverse_depth: Any) -> Any:
    """One row of J R, the derivative of an image coordinate by the world's (x, y, z)."""
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
def project(gaussians: Any, cameras: Any, projection: Any) -> None:
    """Fill `projection`, of which the records are zero before."""
    records, radii = projection.records, projection.radii
    means, cov, opacities = gaussians.means, gaussians.cov, gaussians.opacities
    views, intrinsics, width, height = cameras.viewmats, cameras.Ks, cameras.width, cameras.height
    near, far, blur, antialiased = cameras.near, cameras.far, cameras.blur, cameras.antialiased
    cameras_count, count = views.shape[0], means.shape[0]
    for block in prange((count + _BLOCK - 1) // _BLOCK):
        for n in range(block * _BLOCK, min(count, block * _BLOCK + _BLOCK)):
            x, y, z = means[n, 0], means[n, 1], means[n, 2]
            for c in range(cameras_count):
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
                r[field.MEAN_X], r[field.MEAN_Y] = mx, my
                r[field.CONIC_A], r[field.CONIC_B], r[field.CONIC_C] = yy / det, -xy / det, xx / det
                r[field.OPACITY], r[field.DEPTH], r[field.POWER] = opacity, depth, power
                r[field.EXTENT_X], r[field.EXTENT_Y], r[field.COMPENSATION] = ex, ey, compensation
                r[field.COV_XX], r[field.COV_XY], r[field.COV_YY] = xx, xy, yy


@_inline
def _cov2d_gradients(r: Any, g: Any, opacity: Any, blur: Any, antialiased: Any) -> Any:
    """Gradients by the 2D covariance (xx, xy, yy) of one record, from those `g` by its conic and opacity."""
    # d inverse(S) = -inverse(S) dS inverse(S)
    p, q, s, half = r[field.CONIC_A], r[field.CONIC_B], r[field.CONIC_C], g[3] * _HALF
    t00, t01 = p * g[2] + q * half, p * half + q * g[4]
    t10, t11 = q * g[2] + s * half, q * half + s * g[4]
    g00, g01, g11 = -(t00 * p + t01 * q), -(t00 * q + t01 * s), -(t10 * q + t11 * s)
    if antialiased:
        # compensation^2 = sharp / det, both functions of (xx, xy, yy)
        xx, xy, yy = r[field.COV_XX], r[field.COV_XY], r[field.COV_YY]
        det = max(xx * yy - xy * xy, F(1e-10))
        sharp = (xx - blur) * (yy - blur) - xy * xy
        if sharp > _ZERO:
            grad_det = g[5] * opacity * _HALF / (r[field.COMPENSATION] * det)
            ratio = sharp / det
            g00 += grad_det * ((yy - blur) - ratio * yy)
            g11 += grad_det * ((xx - blur) - ratio * xx)
            g01 += grad_det * (ratio - _ONE) * xy
    return g00, g01, g11


@_inline
def _add_cov_gradients(by_cov: Any, a: Any, b: Any, w0: Any, w1: Any) -> None:
    """Add the gradients by one covariance: S = P cov P', P = J R with rows a and b, dL/dS P with rows w."""
    by_cov[0] += a[0] * w0[0] + b[0] * w1[0]
    by_cov[1] += a[0] * w0[1] + b[0] * w1[1] + a[1] * w0[0] + b[1] * w1[0]
    by_cov[2] += a[0] * w0[2] + b[0] * w1[2] + a[2] * w0[0] + b[2] * w1[0]
    by_cov[3] += a[1] * w0[1] + b[1] * w1[1]
    by_cov[4] += a[1] * w0[2] + b[1] * w1[2] + a[2] * w0[1] + b[2] * w1[1]
    by_cov[5] += a[2] * w0[2] + b[2] * w1[2]


@_inline
def _add_view_gradients(by_view: Any, jacobian: Any, p: Any, q: Any, point: Any) -> None:
    """Add the gradients by one view matrix.

    Args (inside numba):
        by_view: [12], the result.
        jacobian: Entries (j0, j1, j02, j12) of J.
        p: Gradient by the first row of J R.
        q: Gradient by the second.
        point: Gradient by the mean in camera space, then the mean: six floats.
    """
    j0, j1, j02, j12 = jacobian
    gx, gy, gz, x, y, z = point
    by_view[0] += j0 * p[0] + gx * x
    by_view[1] += j0 * p[1] + gx * y
    by_view[2] += j0 * p[2] + gx * z
    by_view[3] += gx
    by_view[4] += j1 * q[0] + gy * x
    by_view[5] += j1 * q[1] + gy * y
    by_view[6] += j1 * q[2] + gy * z
    by_view[7] += gy
    by_view[8] += j02 * p[0] + j12 * q[0] + gz * x
    by_view[9] += j02 * p[1] + j12 * q[1] + gz * y
    by_view[10] += j02 * p[2] + j12 * q[2] + gz * z
    by_view[11] += gz


@_jit
def project_gradients(gaussians: Any, cameras: Any, projection: Any, upstream: Any, gradients: Any) -> None:
    """Fill `gradients`, zero before, from those by the projected Gaussians."""
    records, radii, by_view = projection.records, projection.radii, gradients.views
    means, cov, opacities = gaussians.means, gaussians.cov, gaussians.opacities
    views, intrinsics, width, height = cameras.viewmats, cameras.Ks, cameras.width, cameras.height
    blur, antialiased = cameras.blur, cameras.antialiased
    grad_projected, grad_depths = upstream.projected, upstream.depths
    by_mean, by_cov, by_opacity = gradients.means, gradients.cov, gradients.opacities
    cameras_count, count, blocks = views.shape[0], means.shape[0], by_view.shape[0]
    size = (count + blocks - 1) // blocks
    for block in prange(blocks):
        for n in range(block * size, min(count, block * size + size)):
            x, y, z = means[n, 0], means[n, 1], means[n, 2]
            for c in range(cameras_count):
                if radii[c, n] == 0:
                    continue
                v, k, r, g = views[c], intrinsics[c], records[c, n], grad_projected[c, n]
                inverse = _ONE / r[field.DEPTH]
                across, down = _camera_space(v, x, y, z, 0) * inverse, _camera_space(v, x, y, z, 1) * inverse
                clamped_x = _clamp_to_frustum(across, k[0, 2], k[0, 0], width)
                clamped_y = _clamp_to_frustum(down, k[1, 2], k[1, 1], height)
                a0, a1, a2 = _jacobian_row(k[0, 0], clamped_x, v, 0, inverse)
                b0, b1, b2 = _jacobian_row(k[1, 1], clamped_y, v, 1, inverse)
                by_opacity[n] += g[5] * r[field.COMPENSATION]
                g00, g01, g11 = _cov2d_gradients(r, g, opacities[n], blur, antialiased)
                w00, w01, w02 = g00 * a0 + g01 * b0, g00 * a1 + g01 * b1, g00 * a2 + g01 * b2
                w10, w11, w12 = g01 * a0 + g11 * b0, g01 * a1 + g11 * b1, g01 * a2 + g11 * b2
                _add_cov_gradients(by_cov[n], (a0, a1, a2), (b0, b1, b2), (w00, w01, w02), (w10, w11, w12))
                p00, p01, p02 = _times(cov, n, w00, w01, w02)
                p10, p11, p12 = _times(cov, n, w10, w11, w12)
                p00, p01, p02 = _TWO * p00, _TWO * p01, _TWO * p02
                p10, p11, p12 = _TWO * p10, _TWO * p11, _TWO * p12
                # By the entries of J: (j0, 0, j02), (0, j1, j12), j02 = -j0 clamped_x, j12 = -j1 clamped_y.
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
                _add_view_gradients(
                    by_view[block, c],
                    (j0, j1, j02, j12),
                    (p00, p01, p02),
                    (p10, p11, p12),
                    (gx, gy, gz, x, y, z),
                )
