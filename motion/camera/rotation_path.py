"""A camera's path over continuous time, from the homographies between its frames.

A camera that only turns sees every scene through K R K^-1 (Hartley & Zisserman, 8.4): the rotation and the
focal length follow from the homographies alone. Where that fails, the camera moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from kornia.geometry.liegroup import So3
from torch import Tensor

from freezeframe.data.types import CameraPath, Flow

from .homography import homography_to_flow

_MIN_MOTION = 0.5  # pixels between frames, the least that counts as camera motion
_MAX_RESIDUAL = 0.75  # pixels that a turning camera's model may miss on average, plus a tenth of the motion
_OUTLIER_FACTOR = (
    2.5  # times as much may be missed by single pairs of frames: unlike blur leads their match astray
)
_DEFAULT_FOCAL = 0.9  # focal length over the longer side of the frame: about 32 mm on film
_FOCAL_RANGE = (0.4, 6.0)  # range of focal lengths that are tried, over the longer side
_MAX_ITERATIONS = 20  # of reweighted averaging
_FOCAL_GAIN = 0.97  # a focal length must fit better than the usual one by this factor to be believed


def camera_path(
    homographies: Sequence[Tensor | None],
    times: Tensor,
    size: tuple[int, int],
    *,
    focal: float | None = None,
    parallax: float = 0.0,
) -> CameraPath:
    """The path of a camera through N frames. Takes no gradient.

    Args:
        homographies: N - 1 maps [3, 3] from each frame to the next; None where none was found, taken for
            more of the same motion.
        times: [N] seconds.
        size: (H, W) of the frames.
        focal: Pixels; None estimates it.
        parallax: Pixels that the flow of the background misses the homographies by, see `homography_residual`.
    """
    steps = _without_gaps(homographies)
    focal = focal or focal_length(steps, size)
    K = intrinsics(focal, size)
    relative_rotations = [fit_rotation(step, K) for step in steps]
    rotations = [torch.eye(3, dtype=torch.float64)]
    for rotation in relative_rotations:
        rotations.append(rotation @ rotations[-1])
    return CameraPath(
        times=times,
        rotations=torch.stack(rotations).float(),
        translations=torch.zeros(len(rotations), 3),
        intrinsics=K.float(),
        kind=_kind(steps, relative_rotations, K, size, parallax=parallax),
    )


def interpolate_pose(path: CameraPath, time: Tensor) -> tuple[Tensor, Tensor]:
    """World-to-camera rotations [M, 3, 3] and translations [M, 3] at `time`, [M] seconds.

    Turns at an even rate between the known times (the geodesic of SO(3)), and on at the same rate before the
    first and after the last. Differentiable.
    """
    if len(path.times) == 1:
        return path.rotations.expand(len(time), 3, 3), path.translations.expand(len(time), 3)
    k = (torch.searchsorted(path.times, time, right=True) - 1).clamp(0, len(path.times) - 2)
    fraction = (time - path.times[k]) / (path.times[k + 1] - path.times[k])
    before, after = path.rotations[k], path.rotations[k + 1]
    rotation_vector = So3.from_matrix(after @ before.mT).log()
    rotation = So3.exp(fraction[:, None].to(rotation_vector) * rotation_vector).matrix() @ before
    # Centres move straight; translations of a turning camera would not.
    centres = -(path.rotations.mT @ path.translations[..., None]).squeeze(-1)
    centre = torch.lerp(centres[k], centres[k + 1], fraction[:, None].to(centres))
    return rotation, -(rotation @ centre[..., None]).squeeze(-1)


def homography_residual(flow: Flow, matrix: Tensor) -> float:
    """Pixels by which half of the trusted flow misses a homography [3, 3]; a turning camera's does not."""
    residual = (
        (flow.uv - homography_to_flow(matrix, (*flow.confidence.shape,)).to(flow.uv)).square().sum(0).sqrt()
    )
    confident = flow.confidence > 0.5
    return float(residual[confident].median()) if bool(confident.any()) else 0.0


def intrinsics(focal: float, size: tuple[int, int]) -> Tensor:
    """[3, 3] float64 camera matrix in pixels, looking through the middle of a frame of `size` (H, W)."""
    height, width = size
    K = [[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]]
    return torch.tensor(K, dtype=torch.float64)


def fit_rotation(matrix: Tensor, K: Tensor) -> Tensor:
    """The rotation [3, 3] that takes places of the frame nearest to where a homography takes them.

    Takes no gradient.

    The best turn of one set of rays onto another (Kabsch 1976): in the matrix itself a millionth of
    perspective, which no picture tells, would outweigh pixels where the lens is long.
    """
    height, width = (float(2 * middle + 1) for middle in (K[1, 2], K[0, 2]))
    points = _grid_points((height, width))
    rays = [ends @ torch.linalg.inv(K.double()).mT for ends in (points, points @ matrix.double().mT)]
    before, after = (ray / ray.norm(dim=1, keepdim=True) * ray[:, 2:].sign() for ray in rays)
    return _nearest_rotation(after.mT @ before)


def focal_length(homographies: Sequence[Tensor], size: tuple[int, int]) -> float:
    """Focal length in pixels that makes the homographies rotations; the usual lens where they tell nothing.

    All frames are held against the first too: the wider the turn, the more it tells of the lens.
    """
    chained = [torch.eye(3, dtype=torch.float64)]
    for step in homographies:
        chained.append(step.double() @ chained[-1])
    all_homographies = [*homographies, *chained[2:]]
    longer = max(size)
    low, high = (torch.tensor(bound, dtype=torch.float64).log() for bound in _FOCAL_RANGE)
    candidates = [*(torch.linspace(float(low), float(high), 60).exp() * longer).tolist()]
    errors = [_rotation_error(all_homographies, intrinsics(focal, size), size) for focal in candidates]
    best = min(range(len(candidates)), key=errors.__getitem__)
    default_error = _rotation_error(all_homographies, intrinsics(_DEFAULT_FOCAL * longer, size), size)
    return candidates[best] if errors[best] < _FOCAL_GAIN * default_error - 0.01 else _DEFAULT_FOCAL * longer


def _rotation_error(homographies: Sequence[Tensor], K: Tensor, size: tuple[int, int]) -> float:
    """Pixels, root mean square at a few places, by which the nearest rotations miss the homographies."""
    if not homographies:
        return 0.0
    errors = [_corner_distance(h, _rotation_homography(fit_rotation(h, K), K), size) for h in homographies]
    return float(torch.stack(errors).square().mean().sqrt())


def _rotation_homography(rotation: Tensor, K: Tensor) -> Tensor:
    matrix: Tensor = K @ rotation @ torch.linalg.inv(K)
    return matrix


def _corner_distance(one: Tensor, other: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels between two maps of a few places around the frame, each in root mean square."""
    points = _grid_points(size)
    ends = [points @ matrix.double().mT for matrix in (one, other)]
    gaps: Tensor = ends[0][:, :2] / ends[0][:, 2:] - ends[1][:, :2] / ends[1][:, 2:]
    distance: Tensor = gaps.square().sum(1).mean().sqrt()
    return distance


def _grid_points(size: tuple[float, float]) -> Tensor:
    """[9, 3] a few places around the frame, in homogeneous pixels."""
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
    steps: Sequence[Tensor],
    relative_rotations: Sequence[Tensor],
    K: Tensor,
    size: tuple[int, int],
    *,
    parallax: float,
) -> Literal["still", "rotation", "parallax"]:
    rest = torch.eye(3, dtype=torch.float64)
    motion = [float(_corner_distance(step, rest, size)) for step in steps]
    if max(motion, default=0.0) < _MIN_MOTION and parallax < _MIN_MOTION:
        return "still"
    errors = [
        float(_corner_distance(s, _rotation_homography(t, K), size))
        for s, t in zip(steps, relative_rotations, strict=True)
    ]
    allowed = _MAX_RESIDUAL + 0.1 * sum(motion) / max(len(motion), 1)
    median_error = sorted(errors)[len(errors) // 2]
    is_rotation = max(median_error, parallax) < allowed and max(errors) < _OUTLIER_FACTOR * allowed
    return "rotation" if is_rotation else "parallax"


def average_rotations(relative_rotations: Mapping[tuple[int, int], Tensor], count: int) -> Tensor:
    """[N, 3, 3] rotations that many relative ones agree on (Hartley et al. 2013): robust, chordal.

    Takes no gradient.

    Args:
        relative_rotations: (i, j): the turn from camera i to camera j, [3, 3]. Every camera must be reachable from 0
            by pairs of consecutive ones.
        count: Cameras; the first is not turned.
    """
    chained = [torch.eye(3, dtype=torch.float64)]
    for k in range(count - 1):
        chained.append(relative_rotations[k, k + 1].double() @ chained[-1])
    rotations = torch.stack(chained)
    for _ in range(_MAX_ITERATIONS):
        weighted_sum = torch.zeros_like(rotations)
        for (i, j), rotation in relative_rotations.items():
            predicted = rotation.double() @ rotations[i]
            # The root of the misfit as weight makes the sum of squares one of distances: outliers stay out.
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
