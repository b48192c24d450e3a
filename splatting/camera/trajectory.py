"""How the camera moved while the shutter was open: what an optimiser may change of it.

Everything is counted in pixels that the picture moves, so that one learning rate serves turns, ways and
zooms alike. Poses are world to camera; moments are fractions of the exposure, -1/2 where the shutter opens
and 1/2 where it closes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import comb
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from freezeframe.data.types import CameraPath

from .lie import compose_se3, se3_exp, so3_exp, so3_log

POSE_DOF = 7  # turn (3), way of the centre (3), zoom (1)
_ARC_SAMPLES = torch.linspace(-0.5, 0.5, 5)  # moments between which an exposure's way is straight enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """What the camera was at M moments."""

    viewmats: Tensor  # [M, 4, 4] world to camera
    Ks: Tensor  # [M, 3, 3] pixels, pixel centres at integers


class CameraTrajectory(Protocol):
    """Where the camera was during each frame's exposure."""

    readout: float  # frame intervals by which the last row is exposed later than the first

    def at(self, frame: int, subframe_times: Tensor) -> Views:
        """The camera at some moments [M] of the exposure of frame number `frame`."""
        ...

    def subframe_times(self, frame: int, count: int) -> Tensor:
        """[count] moments whose mean is the exposure."""
        ...

    def blur_length(self, frame: int) -> float:
        """Pixels that the picture moves while frame number `frame` is exposed."""
        ...

    def regularization(self) -> Tensor:
        """What the prior holds against this track: mean squares in pixels^2."""
        ...

    @property
    def shutter(self) -> Tensor:
        """Exposure time over frame interval, in (0, 1)."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> object: ...


class SplineTrajectory(nn.Module):
    """One cubic spline through all frames, and a sway of each exposure about it.

    The exposure of frame t covers the spline over [t - s/2, t + s/2]: how far a picture is blurred follows
    from how far its neighbours lie, times the shutter fraction s. That tie leaves no blurred scene before a
    camera at rest, the answer that free curves fall into on a steady pan.

    Args:
        path: First guess of the poses.
        size: Height and width of the frames in pixels.
        shutter: First guess of the exposure time over the frame interval.
        depth: Distance at which the centre's way is counted; 1 for a camera that only turns.
        readout: Frame intervals by which the last row is exposed later than the first (rolling shutter).
    """

    def __init__(
        self,
        path: CameraPath,
        size: tuple[int, int],
        *,
        shutter: float,
        depth: float = 1.0,
        readout: float = 0,
    ) -> None:
        super().__init__()
        middle = len(path.times) // 2
        base = compose_se3(path.rotations, path.translations)
        self.size, self.readout = size, readout
        self.register_buffer("K", path.intrinsics.float())
        self.register_buffer("reference", base[middle].clone())
        self.register_buffer("scale", pixel_scale(path.intrinsics, size, depth=depth))
        steps = (path.times - path.times[0]) / _frame_interval(path.times)
        self.register_buffer("times", steps.float())
        self.register_buffer("slopes", spline_slopes(steps.double()).float())
        rotation_vectors = so3_log(path.rotations @ path.rotations[middle].mT)
        centres = -(path.rotations.mT @ path.translations[..., None])[..., 0]
        translations = (centres - centres[middle]) @ path.rotations[middle].mT
        knots = (
            torch.cat([rotation_vectors, translations, torch.zeros_like(rotation_vectors[:, :1])], dim=1)
            / self.scale
        )
        self.knots = nn.Parameter(knots)
        self.shutter_logit = nn.Parameter(torch.logit(torch.tensor(min(max(shutter, 0.03), 0.97))))
        self.exposure_offset = nn.Parameter(torch.zeros(len(knots), 2, POSE_DOF))

    K: Tensor
    reference: Tensor
    scale: Tensor
    times: Tensor
    slopes: Tensor

    @property
    def shutter(self) -> Tensor:
        """Exposure time over frame interval, in (0, 1)."""
        return self.shutter_logit.sigmoid()

    def at(self, frame: int, subframe_times: Tensor) -> Views:
        return self._views(self._pixels(frame, subframe_times.to(self.K)))

    def blur_length(self, frame: int) -> float:
        with torch.no_grad():
            return _arc_length(self._pixels(frame, _ARC_SAMPLES.to(self.K)))

    def spline_motion(self, frame: int) -> Tensor:
        """[2] pixels that the spline alone turns (about x, about y) while a frame is exposed."""
        return (self.shutter * (self.slopes[frame] @ self.knots))[:2].detach()

    def subframe_times(self, frame: int, count: int) -> Tensor:
        # Midpoints: an open shutter has no more light at its ends than in between.
        return (torch.arange(count, device=self.knots.device) + 0.5) / count - 0.5

    def regularization(self) -> Tensor:
        return self.exposure_offset.square().mean()

    def _pixels(self, frame: int, subframe_times: Tensor) -> Tensor:
        # A rolling shutter's frame holds moments from before its first row opens to after its last closes.
        when = self.times[frame] + (self.shutter + self.readout) * subframe_times
        u = subframe_times[:, None]
        # Both have no mean: the middle of the exposure stays on the spline.
        exposure_offset = self.exposure_offset[frame, 0] * u + self.exposure_offset[frame, 1] * (
            u.square() - 1 / 12
        )
        return hermite(when, self.times, self.knots, self.slopes @ self.knots) + exposure_offset

    def _views(self, pixels: Tensor) -> Views:
        parameters_scaled = pixels * self.scale
        rotation_vectors, translations, zoom = (
            parameters_scaled[:, :3],
            parameters_scaled[:, 3:6],
            parameters_scaled[:, 6:],
        )
        rotation = so3_exp(rotation_vectors) @ self.reference[:3, :3]
        reference_centre = -(self.reference[:3, :3].mT @ self.reference[:3, 3])
        centre = reference_centre + translations @ self.reference[:3, :3]
        Ks = self.K * torch.ones(len(pixels), 3, 3).to(self.K)
        focal = zoom.exp()[..., None] * self.K[:2, :2]
        Ks = torch.cat([torch.cat([focal, Ks[:, :2, 2:]], dim=2), Ks[:, 2:]], dim=1)
        return Views(viewmats=compose_se3(rotation, -(rotation @ centre[..., None])[..., 0]), Ks=Ks)


class BezierTrajectory(nn.Module):
    """DeblurGS's own: a free Bezier curve in SE(3) per frame, on top of its first pose (Lee et al. 2024).

    Knows nothing of time between frames: for photographs, and for comparison.

    Args:
        path: First guess of the poses.
        size: Height and width of the frames in pixels.
        order: Of the curves; `order + 1` control points each.
        count: Sub-frames whose places on the curve are learned.
        depth: Distance at which ways are counted.
    """

    def __init__(
        self, path: CameraPath, size: tuple[int, int], *, order: int = 3, count: int = 9, depth: float = 1.0
    ) -> None:
        super().__init__()
        self.size, self.readout = size, 0.0
        self.register_buffer("K", path.intrinsics.float())
        self.register_buffer("first", compose_se3(path.rotations, path.translations))
        self.register_buffer("scale", pixel_scale(path.intrinsics, size, depth=depth)[:6])
        # From one place control points would not part: nothing tells an exposure's ends from each other.
        ends = torch.linspace(-1, 1, order + 1)[None, :, None]
        direction = torch.randn(len(path.times), 1, 6, generator=torch.Generator().manual_seed(0))
        self.control_points = nn.Parameter(0.3 * ends * direction)
        inner = (torch.arange(1, count - 1) / (count - 1)).logit()
        self.subframe_logits = nn.Parameter(inner.repeat(len(path.times), 1))

    K: Tensor
    first: Tensor
    scale: Tensor

    def at(self, frame: int, subframe_times: Tensor) -> Views:
        curve = bezier(self.control_points[frame], subframe_times.to(self.K) + 0.5)
        viewmats = se3_exp(curve * self.scale) @ self.first[frame]
        return Views(viewmats=viewmats, Ks=self.K.expand(len(subframe_times), 3, 3))

    @property
    def shutter(self) -> Tensor:
        # Its exposures are whole curves, however long they took.
        return torch.ones(())

    def blur_length(self, frame: int) -> float:
        with torch.no_grad():
            return _arc_length(bezier(self.control_points[frame], _ARC_SAMPLES.to(self.K) + 0.5))

    def subframe_times(self, frame: int, count: int) -> Tensor:
        learned = self.subframe_logits[frame].sigmoid().sort().values
        if count != len(learned) + 2:
            return torch.linspace(-0.5, 0.5, count, device=learned.device)
        return torch.cat([learned.new_zeros(1), learned, learned.new_ones(1)]) - 0.5

    def regularization(self) -> Tensor:
        second_differences = (
            self.control_points[:, 2:] - 2 * self.control_points[:, 1:-1] + self.control_points[:, :-2]
        )
        return second_differences.square().mean()


def pixel_scale(K: Tensor, size: tuple[int, int], *, depth: float) -> Tensor:
    """[7] turns (radians), ways (of the scene's unit) and log zoom that move the picture by one pixel.

    Takes no gradient.

    Turns about the optical axis and zooms are counted halfway between the middle and the corner.
    """
    focal = float(K[0, 0] + K[1, 1]) / 2
    reach = (size[0] ** 2 + size[1] ** 2) ** 0.5 / 4
    across, along = depth / focal, depth / reach
    return torch.tensor([1 / focal, 1 / focal, 1 / reach, across, across, along, 1 / reach])


def spline_slopes(times: Tensor) -> Tensor:
    """[T, T] matrix from the knots of a natural cubic spline to its slopes at them (de Boor 1978, IV).

    Takes no gradient.
    """
    count = len(times)
    if count == 1:
        return torch.zeros(1, 1).to(times)
    inverse_gaps = 1 / times.diff()
    left, right = torch.zeros(count, count).to(times), torch.zeros(count, count).to(times)
    for k, gap in enumerate(inverse_gaps):
        # Each span asks the slopes at its ends to bend no more than its neighbour does there.
        left[k : k + 2, k : k + 2] += gap * torch.tensor([[2.0, 1], [1, 2]]).to(times)
        right[k : k + 2, k : k + 2] += 3 * gap**2 * torch.tensor([[-1.0, 1], [-1, 1]]).to(times)
    slopes: Tensor = torch.linalg.solve(left, right)
    return slopes


def hermite(when: Tensor, times: Tensor, values: Tensor, slopes: Tensor) -> Tensor:
    """[M, D] a cubic spline at `when` [M]; a straight line before the first knot and after the last.

    Args:
        when: Any times.
        times: Of the knots, increasing. [T].
        values: At the knots. [T, D].
        slopes: Likewise.
    """
    if len(times) == 1:
        return values + (when[:, None] - times) * slopes
    inside = when.detach().clamp(times[0], times[-1])
    k = (torch.searchsorted(times, inside, right=True) - 1).clamp(0, len(times) - 2)
    clamped = torch.minimum(torch.maximum(when, times[0]), times[-1])
    gap = (times[k + 1] - times[k])[:, None]
    u = (clamped - times[k])[:, None] / gap
    start, end = values[k], values[k + 1]
    bend = (1 - u) * gap * slopes[k] - u * gap * slopes[k + 1] + (2 * u - 1) * (end - start)
    extrapolation = (when - clamped)[:, None] * torch.where(
        (when > times[-1])[:, None], slopes[-1], slopes[0]
    )
    return start + u * (end - start) + u * (1 - u) * bend + extrapolation


def bezier(control_points: Tensor, t: Tensor) -> Tensor:
    """[M, D] points of a Bezier curve with control points [N, D], at `t` [M] in [0, 1]."""
    order = len(control_points) - 1
    bernstein = [comb(order, k) * t**k * (1 - t) ** (order - k) for k in range(order + 1)]
    return torch.stack(bernstein, dim=-1) @ control_points


def _arc_length(points: Tensor) -> float:
    """Length of a line through points [M, D]."""
    return float(points.diff(dim=0).norm(dim=1).sum())


def _frame_interval(times: Tensor) -> Tensor:
    """The usual gap between frames."""
    return times.diff().median() if len(times) > 1 else torch.ones(()).to(times)
