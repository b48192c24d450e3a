"""Covariances from rotations and scales, compiled: `projected.covariances`, and its gradients.

A covariance is stored as (xx, xy, xz, yy, yz, zz).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from freezeframe.data.kernels.numba_jit import cached_jit, inline_jit

F = np.float32
_ONE, _TWO, _TINY = F(1), F(2), F(1e-12)

_jit: Any = cached_jit(fastmath=True)
_inline: Any = inline_jit(fastmath=True)


@_inline
def _unit(quats: Any, n: Any) -> Any:
    """A quaternion (w, x, y, z) normalised to length one, and one over its length."""
    w, x, y, z = quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3]
    inverse = _ONE / max(F(math.sqrt(w * w + x * x + y * y + z * z)), _TINY)
    return w * inverse, x * inverse, y * inverse, z * inverse, inverse


@_inline
def _rotation(w: Any, x: Any, y: Any, z: Any) -> Any:
    """Rotation matrix of a unit quaternion, by rows."""
    return (
        (_ONE - _TWO * (y * y + z * z), _TWO * (x * y - w * z), _TWO * (x * z + w * y)),
        (_TWO * (x * y + w * z), _ONE - _TWO * (x * x + z * z), _TWO * (y * z - w * x)),
        (_TWO * (x * z - w * y), _TWO * (y * z + w * x), _ONE - _TWO * (x * x + y * y)),
    )


@_inline
def _dot(a: Any, b: Any) -> Any:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@_inline
def _scale_row(a: Any, scales: Any, n: Any) -> Any:
    return a[0] * scales[n, 0], a[1] * scales[n, 1], a[2] * scales[n, 2]


@_inline
def _column(g: Any, p: Any, q: Any, r: Any) -> Any:
    """The product (G + G') (p, q, r), where g holds G as (xx, xy, xz, yy, yz, zz)."""
    return (
        _TWO * g[0] * p + g[1] * q + g[2] * r,
        g[1] * p + _TWO * g[3] * q + g[4] * r,
        g[2] * p + g[4] * q + _TWO * g[5] * r,
    )


@_jit
def build_covariance(quats: Any, scales: Any, cov: Any) -> None:
    """Fill `cov` [N, 6]."""
    for n in range(quats.shape[0]):
        w, x, y, z, _ = _unit(quats, n)
        a, b, c = _rotation(w, x, y, z)
        a, b, c = _scale_row(a, scales, n), _scale_row(b, scales, n), _scale_row(c, scales, n)
        cov[n, 0], cov[n, 1], cov[n, 2] = _dot(a, a), _dot(a, b), _dot(a, c)
        cov[n, 3], cov[n, 4], cov[n, 5] = _dot(b, b), _dot(b, c), _dot(c, c)


@_jit
def build_covariance_gradients(quats: Any, scales: Any, by_cov: Any, by_quat: Any, by_scale: Any) -> None:
    """Fill `by_quat` [N, 4] and `by_scale` [N, 3] from the gradients by covariance [N, 6]."""
    for n in range(quats.shape[0]):
        w, x, y, z, inverse = _unit(quats, n)
        a, b, c = _rotation(w, x, y, z)
        g = by_cov[n]
        # cov = M M', M = R diag(s): the gradient by M is (G + G') M.
        p, q, r = _column(g, a[0], b[0], c[0]), _column(g, a[1], b[1], c[1]), _column(g, a[2], b[2], c[2])
        by_scale[n, 0] = scales[n, 0] * (p[0] * a[0] + p[1] * b[0] + p[2] * c[0])
        by_scale[n, 1] = scales[n, 1] * (q[0] * a[1] + q[1] * b[1] + q[2] * c[1])
        by_scale[n, 2] = scales[n, 2] * (r[0] * a[2] + r[1] * b[2] + r[2] * c[2])
        s, t, u = scales[n, 0] * scales[n, 0], scales[n, 1] * scales[n, 1], scales[n, 2] * scales[n, 2]
        d00, d10, d20 = s * p[0], s * p[1], s * p[2]
        d01, d11, d21 = t * q[0], t * q[1], t * q[2]
        d02, d12, d22 = u * r[0], u * r[1], u * r[2]
        by_w = x * (d21 - d12) + y * (d02 - d20) + z * (d10 - d01)
        by_x = y * (d01 + d10) + z * (d02 + d20) + w * (d21 - d12) - _TWO * x * (d11 + d22)
        by_y = x * (d01 + d10) + z * (d12 + d21) + w * (d02 - d20) - _TWO * y * (d00 + d22)
        by_z = x * (d02 + d20) + y * (d12 + d21) + w * (d10 - d01) - _TWO * z * (d00 + d11)
        along = w * by_w + x * by_x + y * by_y + z * by_z
        length = _TWO * inverse
        by_quat[n, 0], by_quat[n, 1] = length * (by_w - w * along), length * (by_x - x * along)
        by_quat[n, 2], by_quat[n, 3] = length * (by_y - y * along), length * (by_z - z * along)
