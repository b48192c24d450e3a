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

from .homography import camera_flow

_STILL = 0.5  # pixels between frames, the least that counts as camera motion
_MISFIT = 0.75  # pixels that a turning camera's model may miss on average, plus a tenth of the motion
_WILD = 2.5  # times as much may be missed by single pairs of frames: unlike blur leads their match astray
_USUAL_LENS = 0.9  # focal length over the longer side of the frame: about 32 mm on film
_LENSES = (0.4, 6.0)  # range of focal lengths that are tried, over the longer side
_ROUNDS = 20  # of reweighted averaging
_TELLING = 0.97  # a focal length must fit better than the usual one by this factor to be believed


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
        parallax: Pixels that the flow of the background misses the homographies by, see `misfit`.
    """
    steps = _without_gaps(homographies)
    focal = focal or focal_length(steps, size)
    lens = intrinsics(focal, size)
    turns = [rotation_of(step, lens) for step in steps]
    rotations = [torch.eye(3, dtype=torch.float64)]
    for turn in turns:
        rotations.append(turn @ rotations[-1])
    return CameraPath(
        times=times,
        rotations=torch.stack(rotations).float(),
        translations=torch.zeros(len(rotations), 3),
        intrinsics=lens.float(),
        kind=_kind(steps, turns, lens, size, parallax=parallax),
    )


def pose(path: CameraPath, moment: Tensor) -> tuple[Tensor, Tensor]:
    """World-to-camera rotations [M, 3, 3] and translations [M, 3] at `moment`, [M] seconds.

    Turns at an even rate between the known times (the geodesic of SO(3)), and on at the same rate before the
    first and after the last. Differentiable.
    """
    if len(path.times) == 1:
        return path.rotations.expand(len(moment), 3, 3), path.translations.expand(len(moment), 3)
    k = (torch.searchsorted(path.times, moment, right=True) - 1).clamp(0, len(path.times) - 2)
    share = (moment - path.times[k]) / (path.times[k + 1] - path.times[k])
    before, after = path.rotations[k], path.rotations[k + 1]
    turn = So3.from_matrix(after @ before.mT).log()
    rotation = So3.exp(share[:, None].to(turn) * turn).matrix() @ before
    # Centres move straight; translations of a turning camera would not.
    centres = -(path.rotations.mT @ path.translations[..., None]).squeeze(-1)
    centre = torch.lerp(centres[k], centres[k + 1], share[:, None].to(centres))
    return rotation, -(rotation @ centre[..., None]).squeeze(-1)


def misfit(flow: Flow, matrix: Tensor) -> float:
    """Pixels by which half of the trusted flow misses a homography [3, 3]; a turning camera's does not."""
    off = (flow.shift - camera_flow(matrix, (*flow.trust.shape,)).to(flow.shift)).square().sum(0).sqrt()
    heard = flow.trust > 0.5
    return float(off[heard].median()) if bool(heard.any()) else 0.0


def intrinsics(focal: float, size: tuple[int, int]) -> Tensor:
    """[3, 3] float64 camera matrix in pixels, looking through the middle of a frame of `size` (H, W)."""
    height, width = size
    lens = [[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]]
    return torch.tensor(lens, dtype=torch.float64)


def rotation_of(matrix: Tensor, lens: Tensor) -> Tensor:
    """The rotation [3, 3] that takes places of the frame nearest to where a homography takes them.

    Takes no gradient.

    The best turn of one set of rays onto another (Kabsch 1976): in the matrix itself a millionth of
    perspective, which no picture tells, would outweigh pixels where the lens is long.
    """
    height, width = (float(2 * middle + 1) for middle in (lens[1, 2], lens[0, 2]))
    places = _places((height, width))
    rays = [ends @ torch.linalg.inv(lens.double()).mT for ends in (places, places @ matrix.double().mT)]
    before, after = (ray / ray.norm(dim=1, keepdim=True) * ray[:, 2:].sign() for ray in rays)
    return _nearest_rotation(after.mT @ before)


def focal_length(homographies: Sequence[Tensor], size: tuple[int, int]) -> float:
    """Focal length in pixels that makes the homographies rotations; the usual lens where they tell nothing.

    All frames are held against the first too: the wider the turn, the more it tells of the lens.
    """
    chained = [torch.eye(3, dtype=torch.float64)]
    for step in homographies:
        chained.append(step.double() @ chained[-1])
    wide = [*homographies, *chained[2:]]
    longer = max(size)
    low, high = (torch.tensor(bound, dtype=torch.float64).log() for bound in _LENSES)
    candidates = [*(torch.linspace(float(low), float(high), 60).exp() * longer).tolist()]
    errors = [_rotation_error(wide, intrinsics(focal, size), size) for focal in candidates]
    best = min(range(len(candidates)), key=errors.__getitem__)
    usual = _rotation_error(wide, intrinsics(_USUAL_LENS * longer, size), size)
    return candidates[best] if errors[best] < _TELLING * usual - 0.01 else _USUAL_LENS * longer


def _rotation_error(homographies: Sequence[Tensor], lens: Tensor, size: tuple[int, int]) -> float:
    """Pixels, root mean square at a few places, by which the nearest rotations miss the homographies."""
    if not homographies:
        return 0.0
    misses = [_corner_distance(h, _seen(rotation_of(h, lens), lens), size) for h in homographies]
    return float(torch.stack(misses).square().mean().sqrt())


def _seen(turn: Tensor, lens: Tensor) -> Tensor:
    seen: Tensor = lens @ turn @ torch.linalg.inv(lens)
    return seen


def _corner_distance(one: Tensor, other: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels between two maps of a few places around the frame, each in root mean square."""
    places = _places(size)
    ends = [places @ matrix.double().mT for matrix in (one, other)]
    gaps: Tensor = ends[0][:, :2] / ends[0][:, 2:] - ends[1][:, :2] / ends[1][:, 2:]
    distance: Tensor = gaps.square().sum(1).mean().sqrt()
    return distance


def _places(size: tuple[float, float]) -> Tensor:
    """[9, 3] a few places around the frame, in homogeneous pixels."""
    shares = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(shares * size[1], shares * size[0], indexing="ij"), dim=-1).reshape(
        -1, 2
    )
    return torch.cat((grid, torch.ones(len(grid), 1, dtype=torch.float64)), dim=1)


def _without_gaps(homographies: Sequence[Tensor | None]) -> list[Tensor]:
    last = next((h for h in homographies if h is not None), torch.eye(3, dtype=torch.float64))
    steps = []
    for found in homographies:
        last = last if found is None else found
        steps.append(last.double().cpu())
    return steps


def _kind(
    steps: Sequence[Tensor], turns: Sequence[Tensor], lens: Tensor, size: tuple[int, int], *, parallax: float
) -> Literal["still", "rotation", "parallax"]:
    rest = torch.eye(3, dtype=torch.float64)
    motion = [float(_corner_distance(step, rest, size)) for step in steps]
    if max(motion, default=0.0) < _STILL and parallax < _STILL:
        return "still"
    errors = [float(_corner_distance(s, _seen(t, lens), size)) for s, t in zip(steps, turns, strict=True)]
    allowed = _MISFIT + 0.1 * sum(motion) / max(len(motion), 1)
    usual = sorted(errors)[len(errors) // 2]
    turned = max(usual, parallax) < allowed and max(errors) < _WILD * allowed
    return "rotation" if turned else "parallax"


def averaged(turns: Mapping[tuple[int, int], Tensor], count: int) -> Tensor:
    """[N, 3, 3] rotations that many relative ones agree on (Hartley et al. 2013): robust, chordal.

    Takes no gradient.

    Args:
        turns: (i, j): the turn from camera i to camera j, [3, 3]. Every camera must be reachable from 0
            by pairs of consecutive ones.
        count: Cameras; the first is not turned.
    """
    found = [torch.eye(3, dtype=torch.float64)]
    for k in range(count - 1):
        found.append(turns[k, k + 1].double() @ found[-1])
    rotations = torch.stack(found)
    for _ in range(_ROUNDS):
        summed = torch.zeros_like(rotations)
        for (i, j), turn in turns.items():
            told = turn.double() @ rotations[i]
            # The root of the misfit as weight makes the sum of squares one of distances: outliers stay out.
            weight = 1 / (rotations[j] - told).norm().clamp_min(1e-6)
            summed[j] += weight * told
            summed[i] += weight * turn.double().T @ rotations[j]
        rotations = torch.stack([_nearest_rotation(each) for each in summed])
        rotations = rotations @ rotations[0].T
    return rotations


def _nearest_rotation(matrix: Tensor) -> Tensor:
    u, _, v = torch.linalg.svd(matrix)
    turn: Tensor = u @ torch.diag(torch.tensor([1, 1, float((u @ v).det().sign())], dtype=torch.float64)) @ v
    return turn
