"""Whether a shot can be rebuilt from its own blur, and how; with the reason.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from freezeframe.data.types import CameraPath

MIN_STATIC_FRACTION = 0.4  # of all pixels, the least that must belong to the scene
MIN_FRAMES = 5  # frames
MIN_OVERLAP = 0.5  # of a frame, the least that the next one must show too
MIN_BLUR_PX = 1.5  # pixels: an exposure with less counts as sharp
MIN_LENGTH_RATIO = 2.0  # longest blur over shortest
MIN_DIRECTION_STD_DEG = 20.0  # degrees between directions of blur
MIN_SHARP_FRACTION = 0.1  # of all frames
MAX_UNEXPLAINED_SHARPNESS = (
    0.12  # of the logarithm of sharpness from frame to frame that the way between frames leaves unexplained
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feasibility:
    """What may be tried on a shot."""

    mode: Literal[
        "per_frame", "shared", "rejected"
    ]  # tied: each frame's blur follows from the way to its neighbours
    reason: str
    shutter_observable: bool = False  # blur differs from frame to frame, so that the shutter can be learned

    def __bool__(self) -> bool:
        return self.mode != "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotStatistics:
    """What was measured on a shot of T frames."""

    static: Tensor  # [T] share of each frame's pixels that belong to the scene
    overlap: Tensor  # [T - 1] share of each frame that the next one shows too
    blur: Tensor  # [T, 2] pixels that the picture moved while the shutter was open
    sharpness: Tensor  # [T] as `begin.sharpness` gives it
    kind: Literal["still", "rotation", "parallax"]


def too_few_frames(count: int) -> str:
    """The reason why so many frames are not enough; empty where they are."""
    return (
        ""
        if count >= MIN_FRAMES
        else f"{count} {'frame is' if count == 1 else 'frames are'} too few (at least {MIN_FRAMES})"
    )


def assess_feasibility(statistics: ShotStatistics) -> Feasibility:
    """Frames of one scene, enough of them, blurred in different ways; or blurred alike, then tied.

    Where all are blurred alike nothing tells blur from a blurred scene, except the way between the frames.
    Only where that way contradicts the frames' own sharpness, each exposure is given a motion of its own.
    """
    count, blur_length, residual = (
        len(statistics.blur),
        statistics.blur.norm(dim=1),
        unexplained_sharpness(statistics),
    )
    for holds, reason in (
        (not too_few_frames(count), too_few_frames(count)),
        (statistics.kind != "still", "the camera is static, so a scene would add nothing to single frames"),
        (
            float(statistics.static.median()) >= MIN_STATIC_FRACTION,
            f"only {float(statistics.static.median()):.0%} of the picture belongs to a static scene (at least"
            f" {MIN_STATIC_FRACTION:.0%})",
        ),
        (
            not len(statistics.overlap) or float(statistics.overlap.min()) >= MIN_OVERLAP,
            _overlap_reason(statistics.overlap),
        ),
        (
            float(blur_length.max()) >= MIN_BLUR_PX or residual > MAX_UNEXPLAINED_SHARPNESS,
            f"no frame has more than {MIN_BLUR_PX:g} px of motion blur",
        ),
    ):
        if not holds:
            return Feasibility(mode="rejected", reason=reason)
    if residual > MAX_UNEXPLAINED_SHARPNESS:
        explanation = (
            f"sharpness changes by {residual:.0%} from frame to frame, more than the way between them tells"
        )
        return Feasibility(mode="per_frame", reason=explanation, shutter_observable=True)
    if explanation := blur_diversity(statistics):
        return Feasibility(mode="shared", reason=explanation, shutter_observable=True)
    return Feasibility(
        mode="shared", reason="all frames are blurred alike: blur follows from the way between them"
    )


def _overlap_reason(overlap: Tensor) -> str:
    if not len(overlap):
        return ""
    k = int(overlap.argmin())
    return f"frame {k + 1} shows only {float(overlap[k]):.0%} of what frame {k} shows (at least {MIN_OVERLAP:.0%})"


def unexplained_sharpness(statistics: ShotStatistics) -> float:
    """How much sharpness jumps from frame to frame beyond what the measured blur makes of it.

    Second differences: what comes into the picture and leaves it changes sharpness slowly.
    """
    if len(statistics.blur) < 3:
        return 0.0
    sharp = _second_differences(statistics.sharpness.clamp_min(1e-12).log())
    blur = _second_differences((1 + statistics.blur.square().sum(1)).log())
    slope = -((sharp * blur).sum() / blur.square().sum().clamp_min(1e-6)).clamp(-1, 0)
    # Of independent values, second differences have six times the variance.
    return float(((sharp + slope * blur).square().mean() / 6).sqrt())


def _second_differences(values: Tensor) -> Tensor:
    return values[2:] - 2 * values[1:-1] + values[:-2]


def blur_diversity(statistics: ShotStatistics) -> str:
    """Why the frames are blurred in different ways; empty where they are not."""
    length = statistics.blur.norm(dim=1)
    sharp = float((length < MIN_BLUR_PX).float().mean())
    if sharp >= MIN_SHARP_FRACTION:
        return f"{sharp:.0%} of the frames are sharp"
    if float(length.max() / length.min().clamp_min(1e-6)) >= MIN_LENGTH_RATIO:
        return f"blur between {float(length.min()):.1f} and {float(length.max()):.1f} pixels long"
    std_deg = direction_std_deg(statistics.blur)
    if std_deg >= MIN_DIRECTION_STD_DEG:
        return f"directions of blur that differ by {std_deg:.0f} degrees"
    return ""


def direction_std_deg(blur: Tensor) -> float:
    """Degrees, twice the standard deviation, by which the axes of blur [T, 2] differ."""
    angle = 2 * torch.atan2(blur[:, 1], blur[:, 0])  # an axis has no sign
    length = blur.norm(dim=1)
    mean = torch.stack([(length * angle.cos()).sum(), (length * angle.sin()).sum()]) / length.sum().clamp_min(
        1e-6
    )
    # Of a wrapped normal distribution (Mardia & Jupp 2000, 2.3).
    concentration = mean.norm().clamp(1e-6, 1)
    return float(torch.rad2deg((-2 * concentration.log()).sqrt()))


def frame_overlaps(path: CameraPath, size: tuple[int, int], *, points: Tensor | None = None) -> Tensor:
    """[T - 1] share of each frame that the next one shows too.

    Args:
        path: Of a camera that only turns, unless there are points.
        size: Height and width of the frames.
        points: [P, 3] of a scene with depth: then the share of those that a frame shows.
    """
    pairs = range(len(path.times) - 1)
    if points is None:
        return torch.tensor([float(_pixels_visible(path, size, k, k + 1).mean()) for k in pairs])
    visible = torch.stack([_points_visible(path, size, k, points) for k in range(len(path.times))])
    common, total = (visible[1:] & visible[:-1]).sum(1), visible[:-1].sum(1)
    # Where no point is known nothing speaks against the frame.
    fraction: Tensor = torch.where(total > 0, common / total.clamp_min(1), torch.ones(len(total)))
    return fraction


def _points_visible(path: CameraPath, size: tuple[int, int], frame: int, points: Tensor) -> Tensor:
    """[P] whether a frame shows each point."""
    x, y, z = path.intrinsics @ (path.rotations[frame] @ points.T + path.translations[frame][:, None])
    height, width = size
    across, down = x / z.clamp_min(1e-6), y / z.clamp_min(1e-6)
    within = (across >= -0.5) & (across <= width - 0.5) & (down >= -0.5) & (down <= height - 0.5)
    visible: Tensor = within & (z > 0)
    return visible


def count_views(path: CameraPath, size: tuple[int, int], frame: int) -> Tensor:
    """[H, W] how many frames show what each pixel of a frame shows, itself included, of what is far away."""
    count = torch.stack([_pixels_visible(path, size, frame, other) for other in range(len(path.times))]).sum(
        0
    )
    upsampled: Tensor = interpolate(count[None, None], size, mode="bilinear", align_corners=True)[0, 0]
    return upsampled


def _pixels_visible(path: CameraPath, size: tuple[int, int], frame: int, other: int) -> Tensor:
    """[33, 33] 1 at the places of a frame that another shows too."""
    height, width = size
    y, x = torch.meshgrid(torch.linspace(0, height - 1, 33), torch.linspace(0, width - 1, 33), indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)]).flatten(1)
    rotation = path.rotations[other] @ path.rotations[frame].mT
    projected = path.intrinsics @ rotation @ torch.linalg.inv(path.intrinsics) @ pixels
    position = projected[:2] / projected[2:].clamp_min(1e-6)
    # Half a pixel: rounding leaves no frame outside itself.
    limit = torch.tensor([width - 0.5, height - 0.5])[:, None]
    inside = ((position >= -0.5) & (position <= limit)).all(0) & (projected[2] > 0)
    visible: Tensor = inside.float().view(33, 33)
    return visible
