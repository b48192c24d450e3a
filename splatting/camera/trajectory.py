"""Camera trajectories over the exposures of a clip, with the parameters that an optimiser changes.

All parameters are in pixels of image motion, so that one learning rate serves rotation, translation and zoom.
Poses are world to camera. Sub-frame times are fractions of the exposure: -1/2 at its start, 1/2 at its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from freezeframe.data.types import CameraPath

from .curves import bezier, hermite, spline_slopes
from .lie import compose_se3, se3_exp, so3_exp, so3_log

POSE_DOF = 7  # rotation (3), translation of the camera centre (3), zoom (1)
_ARC_SAMPLES = torch.linspace(-0.5, 0.5, 5)  # sub-frame times; blur is close to straight between them


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """Poses and intrinsics of M cameras."""

    viewmats: Tensor  # [M, 4, 4] world to camera
    Ks: Tensor  # [M, 3, 3] pixels, pixel centres at integers

    def __len__(self) -> int:
        return len(self.viewmats)

    def __getitem__(self, index: slice | list[int]) -> Views:
        """The cameras at a slice or a list of positions."""
        return Views(viewmats=self.viewmats[index], Ks=self.Ks[index])

    @staticmethod
    def cat(views: Sequence[Views]) -> Views:
        """The cameras of several `Views`, in order."""
        return Views(viewmats=torch.cat([v.viewmats for v in views]), Ks=torch.cat([v.Ks for v in views]))

    def to(self, device: torch.device | str) -> Views:
        return Views(viewmats=self.viewmats.to(device), Ks=self.Ks.to(device))

    def downscale(self, factor: int) -> Views:
        """The same cameras for images with `factor` times fewer pixels on a side."""
        if factor == 1:
            return self
        Ks = self.Ks.clone()
        Ks[:, :2] = Ks[:, :2] / factor
        Ks[:, :2, 2] = Ks[:, :2, 2] - (factor - 1) / (2 * factor)
        return replace(self, Ks=Ks)


class CameraTrajectory(Protocol):
    """Camera pose as a function of frame and sub-frame time."""

    readout: float  # frame intervals from the exposure of the first row to that of the last

    def at(self, frame: int, subframe_times: Tensor) -> Views:
        """Cameras at the sub-frame times [M] of a frame."""
        ...

    def subframe_times(self, frame: int, count: int) -> Tensor:
        """[count] sub-frame times; the mean of the images at them is the exposure."""
        ...

    def blur_length(self, frame: int) -> float:
        """Pixels of image motion during the exposure of a frame."""
        ...

    def regularization(self) -> Tensor:
        """Prior on the parameters: a mean square in pixels^2."""
        ...

    @property
    def shutter(self) -> Tensor:
        """Exposure time over frame interval, in (0, 1)."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> object: ...


class SplineTrajectory(nn.Module):
    """One cubic spline through all frames, plus an offset per exposure.

    The exposure of frame t covers the spline over [t - s/2, t + s/2], so the blur of a frame follows from the
    poses of its neighbours and the shutter fraction s. With a free curve per exposure, a steady pan is also
    explained by a blurred scene in front of a static camera.

    Args:
        path: Initial poses.
        size: Height and width of the frames in pixels.
        shutter: Initial exposure time over frame interval.
        depth: Distance at which translations are converted to pixels; 1 for a rotating camera.
        readout: Frame intervals from the exposure of the first row to that of the last (rolling shutter).
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
        zoom = torch.zeros_like(rotation_vectors[:, :1])
        self.knots = nn.Parameter(torch.cat([rotation_vectors, translations, zoom], dim=1) / self.scale)
        self.shutter_logit = nn.Parameter(torch.logit(torch.tensor(min(max(shutter, 0.03), 0.97))))
        self.exposure_offset = nn.Parameter(torch.zeros(len(self.knots), 2, POSE_DOF))

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
        """[2] pixels of rotation about x and y during the exposure, by the spline without its offset."""
        return (self.shutter * (self.slopes[frame] @ self.knots))[:2].detach()

    def subframe_times(self, frame: int, count: int) -> Tensor:
        # Midpoints: every part of the exposure has the same weight.
        return (torch.arange(count, device=self.knots.device) + 0.5) / count - 0.5

    def regularization(self) -> Tensor:
        return self.exposure_offset.square().mean()

    def _pixels(self, frame: int, subframe_times: Tensor) -> Tensor:
        # With a rolling shutter, the exposures of all rows together last shutter + readout.
        times = self.times[frame] + (self.shutter + self.readout) * subframe_times
        u = subframe_times[:, None]
        # Linear and quadratic offset have zero mean: the mean pose of the exposure stays on the spline.
        linear, quadratic = self.exposure_offset[frame]
        exposure_offset: Tensor = linear * u + quadratic * (u.square() - 1 / 12)
        return hermite(times, self.times, self.knots, self.slopes @ self.knots) + exposure_offset

    def _views(self, pixels: Tensor) -> Views:
        scaled = pixels * self.scale
        rotation_vectors, translations, zoom = scaled[:, :3], scaled[:, 3:6], scaled[:, 6:]
        rotation = so3_exp(rotation_vectors) @ self.reference[:3, :3]
        reference_centre = -(self.reference[:3, :3].mT @ self.reference[:3, 3])
        centre = reference_centre + translations @ self.reference[:3, :3]
        Ks = self.K * torch.ones(len(pixels), 3, 3).to(self.K)
        focal = zoom.exp()[..., None] * self.K[:2, :2]
        Ks = torch.cat([torch.cat([focal, Ks[:, :2, 2:]], dim=2), Ks[:, 2:]], dim=1)
        return Views(viewmats=compose_se3(rotation, -(rotation @ centre[..., None])[..., 0]), Ks=Ks)


class BezierTrajectory(nn.Module):
    """A free Bézier curve in SE(3) per frame, relative to its initial pose (DeblurGS; Lee et al. 2024).

    Independent of the time between frames: for photographs, and for comparison.

    Args:
        path: Initial poses.
        size: Height and width of the frames in pixels.
        order: Order of the curves, which have `order + 1` control points.
        count: Sub-frames with learned positions on the curve.
        depth: Distance at which translations are converted to pixels.
    """

    def __init__(
        self, path: CameraPath, size: tuple[int, int], *, order: int = 3, count: int = 9, depth: float = 1.0
    ) -> None:
        super().__init__()
        self.size, self.readout = size, 0.0
        self.register_buffer("K", path.intrinsics.float())
        self.register_buffer("first", compose_se3(path.rotations, path.translations))
        self.register_buffer("scale", pixel_scale(path.intrinsics, size, depth=depth)[:6])
        # Random directions: coincident control points all have the same gradient and never separate.
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
        """1: a curve covers its whole exposure, whatever the exposure time."""
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
        points = self.control_points
        second_differences = points[:, 2:] - 2 * points[:, 1:-1] + points[:, :-2]
        return second_differences.square().mean()


def pixel_scale(K: Tensor, size: tuple[int, int], *, depth: float) -> Tensor:
    """[7] rotation (radians), translation (scene units) and log zoom that move the image by one pixel.

    Takes no gradient.

    Rotation about the optical axis and zoom are measured halfway between the centre and a corner.
    """
    focal = float(K[0, 0] + K[1, 1]) / 2
    radius = (size[0] ** 2 + size[1] ** 2) ** 0.5 / 4
    lateral, axial = depth / focal, depth / radius
    return torch.tensor([1 / focal, 1 / focal, 1 / radius, lateral, lateral, axial, 1 / radius])


def _arc_length(points: Tensor) -> float:
    """Length of the polyline through points [M, D]."""
    return float(points.diff(dim=0).norm(dim=1).sum())


def _frame_interval(times: Tensor) -> Tensor:
    """Median interval between frames."""
    return times.diff().median() if len(times) > 1 else torch.ones(()).to(times)
