"""Exponential and logarithm maps of SO(3) and SE(3) (Hartley & Zisserman, A4.3; Blanco 2010, 7.4).

Differentiable at the zero vector, where optimisers start and the norm of a vector has no derivative.
"""

from __future__ import annotations

import torch
from kornia.geometry.liegroup import So3
from torch import Tensor

_EPS = 1e-12  # radians^2, added to the squared angle


def so3_exp(vectors: Tensor) -> Tensor:
    """[..., 3, 3] rotations about the axes `vectors` [..., 3] by their lengths in radians, of any length."""
    cross, sine, cosine, _ = _rodrigues(vectors)
    return torch.eye(3).to(vectors) + sine * cross + cosine * (cross @ cross)


def se3_exp(twists: Tensor) -> Tensor:
    """[..., 4, 4] exponentials of twists [..., 6], rotation first: constant-rate motions over unit time."""
    omega, v = twists[..., :3], twists[..., 3:]
    cross, _, cosine, left = _rodrigues(omega)
    left_jacobian = torch.eye(3).to(twists) + cosine * cross + left * (cross @ cross)
    return compose_se3(so3_exp(omega), (left_jacobian @ v[..., None])[..., 0])


def compose_se3(rotation: Tensor, translation: Tensor) -> Tensor:
    """[..., 4, 4] rigid transforms from rotations [..., 3, 3] and translations [..., 3]."""
    top = torch.cat([rotation, translation[..., None]], dim=-1)
    bottom = torch.tensor([0.0, 0, 0, 1]).to(top).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], dim=-2)


def so3_log(rotation: Tensor) -> Tensor:
    """[T, 3] rotation vectors in radians of [T, 3, 3], unwrapped along T. Takes no gradient."""
    vectors = So3.from_matrix(rotation.double()).log()
    unwrapped = [vectors[0]]
    for vector in vectors[1:]:
        unwrapped.append(_unwrap(vector, unwrapped[-1]))
    return torch.stack(unwrapped).to(rotation)


def _unwrap(vector: Tensor, previous: Tensor) -> Tensor:
    """The same rotation plus whole turns, nearest to `previous`."""
    angle = vector.norm()
    if float(angle) < 1e-9:
        return vector
    axis = vector / angle
    full_turns = ((previous @ axis - angle) / (2 * torch.pi)).round()
    unwrapped: Tensor = vector + 2 * torch.pi * full_turns * axis
    return unwrapped


def _rodrigues(vectors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cross-product matrix, sin a / a, (1 - cos a) / a^2, (a - sin a) / a^3 for vectors of length a."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*x.shape, 3, 3)
    square = vectors.square().sum(-1)[..., None, None] + _EPS
    angle = square.sqrt()
    sine = angle.sin() / angle
    # By the half angle: 1 - cos a cancels for small a.
    cosine = 2 * (angle / 2).sin().square() / square
    left = torch.where(square < 1e-3, 1 / 6 - square / 120, (1 - sine) / square)
    return cross, sine, cosine, left
