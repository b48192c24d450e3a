"""View-dependent colours by real spherical harmonics, in the order and with the signs of 3DGS."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

MAX_DEGREE = 3
CONSTANT = 0.28209479177387814
_C1 = 0.4886025119029199
_C2 = (1.0925484305920792, -1.0925484305920792, 0.31539156525252005, -1.0925484305920792, 0.5462742152960396)
_C3 = (
    -0.5900435899266435, 2.890611442640554, -0.4570457994644658, 0.3731763325901154,
    -0.4570457994644658, 1.445305721320277, -0.5900435899266435,
)  # fmt: skip


def colours(coefficients: Tensor, means: Tensor, viewmats: Tensor, *, degree: int) -> Tensor:
    """[C, N, 3] colour of each Gaussian towards each camera, clamped to 0 from below.

    Args:
        coefficients: [N, M, 3], M >= (degree + 1)^2.
        means: [N, 3].
        viewmats: World to camera. [C, 4, 4].
        degree: Highest degree used, 0 to 3.

    Raises:
        ValueError: The degree is out of range or needs more coefficients.
    """
    if not 0 <= degree <= MAX_DEGREE or coefficients.shape[-2] < (degree + 1) ** 2:
        raise ValueError(
            f"spherical harmonics of degree {degree}: use 0 to {MAX_DEGREE}, with (degree + 1)^2 coefficients"
        )
    centres = -(viewmats[:, :3, :3].mT @ viewmats[:, :3, 3:])[..., 0]
    # As in gsplat: view directions pass no gradient to the cameras.
    basis = harmonics(normalize(means - centres[:, None].detach(), dim=-1), degree=degree)
    return (torch.einsum("cnm,nmk->cnk", basis, coefficients[:, : basis.shape[-1]]) + 0.5).clamp_min(0)


def harmonics(directions: Tensor, *, degree: int) -> Tensor:
    """[..., (degree + 1)^2] real spherical harmonics of unit vectors [..., 3], orthonormal on the sphere."""
    x, y, z = directions.unbind(-1)
    basis = [torch.full_like(x, CONSTANT)]
    if degree > 0:
        basis += [-_C1 * y, _C1 * z, -_C1 * x]
    if degree > 1:
        polynomials = (x * y, y * z, 2 * z * z - x * x - y * y, x * z, x * x - y * y)
        basis += [c * shape for c, shape in zip(_C2, polynomials, strict=True)]
    if degree > 2:
        xx, yy, zz = x * x, y * y, z * z
        polynomials3 = (
            y * (3 * xx - yy), x * y * z, y * (4 * zz - xx - yy), z * (2 * zz - 3 * xx - 3 * yy),
            x * (4 * zz - xx - yy), z * (xx - yy), x * (xx - 3 * yy),
        )  # fmt: skip
        basis += [c * shape for c, shape in zip(_C3, polynomials3, strict=True)]
    return torch.stack(basis, dim=-1)
