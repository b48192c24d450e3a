"""Whether the scene of a shot can be rebuilt from its blur, and with which parameters.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from freezeframe.data.types import CameraPath

_GRID = 33  # pixels on a side of the grid on which overlap is sampled


@dataclass(frozen=True, slots=True, kw_only=True)
class FeasibilityConfig:
    """Thresholds of the feasibility check."""

    min_frames: int = 5
    min_static_fraction: float = 0.4  # median area of the static part over the area of a frame
    min_overlap: float = 0.5  # area of a frame that the next one contains
    min_blur_px: float = 1.5  # blur length; frames with less count as sharp
    max_unexplained_sharpness: float = 0.12  # RMS of the log sharpness that motion does not explain
    # Blur is diverse if one of these holds:
    min_sharp_fraction: float = 0.1  # of all frames
    min_length_ratio: float = 2.0  # longest blur over shortest
    min_direction_std_deg: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Feasibility:
    """Result of the feasibility check."""

    # per_frame: each exposure has an offset from the spline of its own; shared: blur follows from the spline
    # alone; rejected: no fit.
    mode: Literal["per_frame", "shared", "rejected"]
    reason: str
    shutter_observable: bool = (
        False  # blur differs between frames, so that the shutter fraction can be optimised
    )

    @property
    def rejected(self) -> bool:
        """Whether the shot cannot be rebuilt."""
        return self.mode == "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotStatistics:
    """Measurements of a shot of T frames."""

    static: Tensor  # [T] area fraction of the static part
    overlap: Tensor  # [T - 1] area fraction of each frame that the next one contains; empty if unknown
    blur: Tensor  # [T, 2] pixels of motion during the exposure
    sharpness: Tensor  # [T] of `optim.initialization.sharpness`
    kind: Literal["still", "rotation", "parallax"]


def too_few_frames(count: int, *, config: FeasibilityConfig = FeasibilityConfig()) -> str:
    """The reason to reject a shot of `count` frames; empty if they are enough."""
    if count >= config.min_frames:
        return ""
    return f"{count} {'frame is' if count == 1 else 'frames are'} too few (at least {config.min_frames})"


def assess_feasibility(
    statistics: ShotStatistics, *, config: FeasibilityConfig = FeasibilityConfig()
) -> Feasibility:
    """Check whether enough frames of one static scene are blurred by a moving camera.

    If all frames are blurred alike, only the motion between frames distinguishes blur from a blurred scene.
    Exposures get offsets of their own where that motion does not explain the sharpness of the frames.
    """
    if reason := _rejection_reason(statistics, config):
        return Feasibility(mode="rejected", reason=reason)
    residual = unexplained_sharpness(statistics)
    if residual > config.max_unexplained_sharpness:
        return Feasibility(
            mode="per_frame",
            reason=f"sharpness changes by {residual:.0%} from frame to frame beyond the effect of the motion",
            shutter_observable=True,
        )
    if reason := blur_diversity(statistics, config=config):
        return Feasibility(mode="shared", reason=reason, shutter_observable=True)
    return Feasibility(
        mode="shared", reason="all frames are blurred alike: their blur follows from the motion between them"
    )


def _rejection_reason(statistics: ShotStatistics, config: FeasibilityConfig) -> str:
    """The first violated requirement; empty if there is none."""
    if reason := too_few_frames(len(statistics.blur), config=config):
        return reason
    if statistics.kind == "still":
        return "the camera is static, so a scene adds nothing to the single frames"
    static_fraction = float(statistics.static.median())
    if not static_fraction >= config.min_static_fraction:
        return (
            f"only {static_fraction:.0%} of the frame is static (at least {config.min_static_fraction:.0%})"
        )
    if len(statistics.overlap) and not float(statistics.overlap.min()) >= config.min_overlap:
        return _overlap_reason(statistics.overlap, config)
    is_blurred = float(statistics.blur.norm(dim=1).max()) >= config.min_blur_px
    if not is_blurred and not unexplained_sharpness(statistics) > config.max_unexplained_sharpness:
        return f"no frame has more than {config.min_blur_px:g} px of motion blur"
    return ""


def _overlap_reason(overlap: Tensor, config: FeasibilityConfig) -> str:
    k = int(overlap.argmin())
    return (
        f"frame {k + 1} shows only {float(overlap[k]):.0%} of what frame {k} shows"
        f" (at least {config.min_overlap:.0%})"
    )


def unexplained_sharpness(statistics: ShotStatistics) -> float:
    """RMS of the log sharpness between frames after regression on the measured blur.

    On second differences, which ignore the slow change of the image content.
    """
    if len(statistics.blur) < 3:
        return 0.0
    sharp = _second_differences(statistics.sharpness.clamp_min(1e-12).log())
    blur = _second_differences((1 + statistics.blur.square().sum(1)).log())
    slope = -((sharp * blur).sum() / blur.square().sum().clamp_min(1e-6)).clamp(-1, 0)
    # The variance of second differences is six times that of independent values.
    return float(((sharp + slope * blur).square().mean() / 6).sqrt())


def _second_differences(values: Tensor) -> Tensor:
    return values[2:] - 2 * values[1:-1] + values[:-2]


def blur_diversity(statistics: ShotStatistics, *, config: FeasibilityConfig = FeasibilityConfig()) -> str:
    """How blur differs between frames; empty if all are blurred alike."""
    length = statistics.blur.norm(dim=1)
    sharp = float((length < config.min_blur_px).float().mean())
    if sharp >= config.min_sharp_fraction:
        return f"{sharp:.0%} of the frames are sharp"
    if float(length.max() / length.min().clamp_min(1e-6)) >= config.min_length_ratio:
        return f"blur lengths from {float(length.min()):.1f} to {float(length.max()):.1f} px"
    std_deg = direction_std_deg(statistics.blur)
    if std_deg >= config.min_direction_std_deg:
        return f"blur directions differ by {std_deg:.0f} degrees"
    return ""


def direction_std_deg(blur: Tensor) -> float:
    """Twice the circular standard deviation of the axes of blur vectors [T, 2], in degrees."""
    angle = 2 * torch.atan2(blur[:, 1], blur[:, 0])  # an axis has no sign
    length = blur.norm(dim=1)
    vector_sum = torch.stack([(length * angle.cos()).sum(), (length * angle.sin()).sum()])
    # Standard deviation of a wrapped normal distribution (Mardia & Jupp 2000, 2.3).
    concentration = (vector_sum / length.sum().clamp_min(1e-6)).norm().clamp(1e-6, 1)
    return float(torch.rad2deg((-2 * concentration.log()).sqrt()))


def frame_overlaps(path: CameraPath, size: tuple[int, int], *, points: Tensor | None = None) -> Tensor:
    """[T - 1] fraction of each frame that the next one contains.

    Args:
        path: Camera path; of a rotating camera if there are no points.
        size: Height and width of the frames.
        points: [P, 3] of a scene with depth: the fraction of the points in a frame.
    """
    pairs = range(len(path.times) - 1)
    if points is None:
        return torch.tensor([float(_pixels_visible(path, size, k, k + 1).mean()) for k in pairs])
    visible = torch.stack([_points_visible(path, size, k, points) for k in range(len(path.times))])
    common, total = (visible[1:] & visible[:-1]).sum(1), visible[:-1].sum(1)
    # 1 for frames that contain no point.
    fraction: Tensor = torch.where(total > 0, common / total.clamp_min(1), torch.ones(len(total)))
    return fraction


def _points_visible(path: CameraPath, size: tuple[int, int], frame: int, points: Tensor) -> Tensor:
    """[P] bool: points inside a frame."""
    x, y, z = path.intrinsics @ (path.rotations[frame] @ points.T + path.translations[frame][:, None])
    height, width = size
    x, y = x / z.clamp_min(1e-6), y / z.clamp_min(1e-6)
    within = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    visible: Tensor = within & (z > 0)
    return visible


def count_views(path: CameraPath, size: tuple[int, int], frame: int) -> Tensor:
    """[H, W] number of frames, itself included, that contain each pixel of a frame, at infinite depth."""
    visible = [_pixels_visible(path, size, frame, other) for other in range(len(path.times))]
    count = torch.stack(visible).sum(0)
    upsampled: Tensor = interpolate(count[None, None], size, mode="bilinear", align_corners=True)[0, 0]
    return upsampled


def _pixels_visible(path: CameraPath, size: tuple[int, int], frame: int, other: int) -> Tensor:
    """[33, 33] 1 on a grid of pixels of a frame that are inside another one, else 0."""
    height, width = size
    y, x = torch.meshgrid(
        torch.linspace(0, height - 1, _GRID), torch.linspace(0, width - 1, _GRID), indexing="ij"
    )
    pixels = torch.stack([x, y, torch.ones_like(x)]).flatten(1)
    rotation = path.rotations[other] @ path.rotations[frame].mT
    projected = path.intrinsics @ rotation @ torch.linalg.inv(path.intrinsics) @ pixels
    position = projected[:2] / projected[2:].clamp_min(1e-6)
    # Half a pixel of tolerance: rounding moves no pixel out of its own frame.
    limit = torch.tensor([width - 0.5, height - 0.5])[:, None]
    inside = ((position >= -0.5) & (position <= limit)).all(0) & (projected[2] > 0)
    visible: Tensor = inside.float().view(_GRID, _GRID)
    return visible
