"""Path of a rotating camera, from the homographies between its frames.

The homography of a camera that only rotates is K R K^-1 (Hartley & Zisserman, 8.4): rotation and focal length
follow from the homographies alone. Where that model fails, the camera translated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from freezeframe.data.types import CameraPath, Flow

from .homography import homography_to_flow


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationConfig:
    """Tunables of the rotation model."""

    min_motion: float = 0.5  # pixels between frames; less is a still camera
    max_residual: float = 0.75  # pixels: median error of a rotating camera, plus a tenth of the motion
    outlier_factor: float = 2.5  # times that error for single pairs: different blur disturbs registration
    default_focal: float = 0.9  # over the longer side of the frame: about 32 mm on film
    focal_range: tuple[float, float] = (0.4, 6.0)  # search interval, over the longer side
    focal_gain: float = 0.97  # error of an accepted focal length over that of the default one
    averaging_iterations: int = 20  # of iteratively reweighted averaging


_DEFAULT = RotationConfig()


def camera_path(  # noqa: PLR0913
    homographies: Sequence[Tensor | None],
    times: Tensor,
    size: tuple[int, int],
    *,
    focal: float | None = None,
    parallax: float = 0.0,
    config: RotationConfig = _DEFAULT,
) -> CameraPath:
    """Path of a camera over N frames. Takes no gradient.

    Args:
        homographies: N - 1 homographies [3, 3] from each frame to the next; None (not registered) repeats the
            previous one.
        times: [N] seconds.
        size: (H, W) of the frames.
        focal: Pixels; None estimates it.
        parallax: Pixels between the flow of the background and the homographies, see `homography_residual`.
        config: Tunables.
    """
    steps = _without_gaps(homographies)
    focal = focal or focal_length(steps, size, config=config)
    K = intrinsics(focal, size)
    relative_rotations = [fit_rotation(step, K) for step in steps]
    rotations = [torch.eye(3, dtype=torch.float64)]
    for rotation in relative_rotations:
        rotations.append(rotation @ rotations[-1])
    motion = [_grid_distance(step, torch.eye(3, dtype=torch.float64), size) for step in steps]
    errors = [
        _grid_distance(step, _rotation_homography(rotation, K), size)
        for step, rotation in zip(steps, relative_rotations, strict=True)
    ]
    return CameraPath(
        times=times,
        rotations=torch.stack(rotations).float(),
        translations=torch.zeros(len(rotations), 3),
        intrinsics=K.float(),
        kind=_kind([float(d) for d in motion], [float(d) for d in errors], parallax, config),
    )


def homography_residual(flow: Flow, matrix: Tensor) -> float:
    """Median distance in pixels between confident flow and that of a homography [3, 3]: parallax."""
    residual = (
        (flow.uv - homography_to_flow(matrix, (*flow.confidence.shape,)).to(flow.uv)).square().sum(0).sqrt()
    )
    confident = flow.confidence > 0.5
    return float(residual[confident].median()) if bool(confident.any()) else 0.0


def intrinsics(focal: float, size: tuple[int, int]) -> Tensor:
    """[3, 3] float64 intrinsics in pixels; the principal point is the centre of a frame of `size` (H, W)."""
    height, width = size
    K = [[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]]
    return torch.tensor(K, dtype=torch.float64)


def fit_rotation(matrix: Tensor, K: Tensor) -> Tensor:
    """Rotation [3, 3] nearest to a homography on a grid of points. Takes no gradient.

    Aligns the rays of the points before and after the homography (Kabsch 1976). Projecting K^-1 H K onto
    SO(3) fails at long focal lengths: perspective terms too small to be visible outweigh pixels there.
    """
    height, width = (float(2 * middle + 1) for middle in (K[1, 2], K[0, 2]))
    points = _grid_points((height, width))
    rays = [ends @ torch.linalg.inv(K.double()).mT for ends in (points, points @ matrix.double().mT)]
    before, after = (ray / ray.norm(dim=1, keepdim=True) * ray[:, 2:].sign() for ray in rays)
    return _nearest_rotation(after.mT @ before)


def focal_length(
    homographies: Sequence[Tensor], size: tuple[int, int], *, config: RotationConfig = _DEFAULT
) -> float:
    """Focal length in pixels for which the homographies are nearest to rotations.

    The default of `config` where they do not determine it. Homographies from the first frame to all others
    are used too: large rotations determine the focal length best.
    """
    chained = [torch.eye(3, dtype=torch.float64)]
    for step in homographies:
        chained.append(step.double() @ chained[-1])
    all_homographies = [*homographies, *chained[2:]]
    longer = max(size)
    low, high = (torch.tensor(bound, dtype=torch.float64).log() for bound in config.focal_range)
    candidates = [*(torch.linspace(float(low), float(high), 60).exp() * longer).tolist()]
    errors = [_rotation_error(all_homographies, intrinsics(focal, size), size) for focal in candidates]
    best = min(range(len(candidates)), key=errors.__getitem__)
    default = config.default_focal * longer
    default_error = _rotation_error(all_homographies, intrinsics(default, size), size)
    return candidates[best] if errors[best] < config.focal_gain * default_error - 0.01 else default


def _rotation_error(homographies: Sequence[Tensor], K: Tensor, size: tuple[int, int]) -> float:
    """Root mean square distance in pixels between the homographies and their nearest rotations."""
    if not homographies:
        return 0.0
    errors = [_grid_distance(h, _rotation_homography(fit_rotation(h, K), K), size) for h in homographies]
    return float(torch.stack(errors).square().mean().sqrt())


def _rotation_homography(rotation: Tensor, K: Tensor) -> Tensor:
    matrix: Tensor = K @ rotation @ torch.linalg.inv(K)
    return matrix


def _grid_distance(one: Tensor, other: Tensor, size: tuple[int, int]) -> Tensor:
    """Root mean square distance in pixels between two homographies on the grid of points."""
    points = _grid_points(size)
    ends = [points @ matrix.double().mT for matrix in (one, other)]
    gaps: Tensor = ends[0][:, :2] / ends[0][:, 2:] - ends[1][:, :2] / ends[1][:, 2:]
    distance: Tensor = gaps.square().sum(1).mean().sqrt()
    return distance


def _grid_points(size: tuple[float, float]) -> Tensor:
    """[9, 3] points across the frame, in homogeneous pixel coordinates."""
    fractions = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    grid = torch.stack(
        torch.meshgrid(fractions * size[1], fractions * size[0], indexing="ij"), dim=-1
    ).reshape(-1, 2)
    return torch.cat((grid, torch.ones(len(grid), 1, dtype=torch.float64)), dim=1)


def _without_gaps(homographies: Sequence[Tensor | None]) -> list[Tensor]:
    last = next((h for h in homographies if h is not None), torch.eye(3, dtype=torch.float64))
    steps = []
    for homography in homographies:
        last = last if homography is None else homography
        steps.append(last.double().cpu())
    return steps


def _kind(
    motion: Sequence[float], errors: Sequence[float], parallax: float, config: RotationConfig
) -> Literal["still", "rotation", "parallax"]:
    """Kind of the camera, by motion between frames, errors of the rotation model and parallax, in pixels."""
    if max(motion, default=0.0) < config.min_motion and parallax < config.min_motion:
        return "still"
    allowed = config.max_residual + 0.1 * sum(motion) / max(len(motion), 1)
    median_error = sorted(errors)[len(errors) // 2]
    is_rotation = max(median_error, parallax) < allowed and max(errors) < config.outlier_factor * allowed
    return "rotation" if is_rotation else "parallax"


def average_rotations(
    relative_rotations: Mapping[tuple[int, int], Tensor], count: int, *, config: RotationConfig = _DEFAULT
) -> Tensor:
    """Robust chordal average of relative rotations (Hartley et al. 2013). Takes no gradient.

    Args:
        relative_rotations: (i, j): rotation from camera i to camera j, [3, 3]. All pairs of consecutive
            cameras must be there.
        count: Number of cameras.
        config: Tunables.

    Returns:
        [N, 3, 3] absolute rotations; that of the first camera is the identity.
    """
    chained = [torch.eye(3, dtype=torch.float64)]
    for k in range(count - 1):
        chained.append(relative_rotations[k, k + 1].double() @ chained[-1])
    rotations = torch.stack(chained)
    for _ in range(config.averaging_iterations):
        weighted_sum = torch.zeros_like(rotations)
        for (i, j), rotation in relative_rotations.items():
            predicted = rotation.double() @ rotations[i]
            # Reweighting by 1 / distance minimises the sum of distances (L1), which is robust to outliers.
            weight = 1 / (rotations[j] - predicted).norm().clamp_min(1e-6)
            weighted_sum[j] += weight * predicted
            weighted_sum[i] += weight * rotation.double().T @ rotations[j]
        rotations = torch.stack([_nearest_rotation(each) for each in weighted_sum])
        rotations = rotations @ rotations[0].T
    return rotations


def _nearest_rotation(matrix: Tensor) -> Tensor:
    u, _, v = torch.linalg.svd(matrix)
    rotation: Tensor = (
        u @ torch.diag(torch.tensor([1, 1, float((u @ v).det().sign())], dtype=torch.float64)) @ v
    )
    return rotation
