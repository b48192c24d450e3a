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

STATIC = 0.4  # of all pixels, the least that must belong to the scene
FEWEST = 5  # frames
OVERLAP = 0.5  # of a frame, the least that the next one must show too
BLURRED = 1.5  # pixels: an exposure with less counts as sharp
UNLIKE = 2.0  # longest blur over shortest
TURNED = 20.0  # degrees between directions of blur
SHARP = 0.1  # of all frames
JITTER = (
    0.12  # of the logarithm of sharpness from frame to frame that the way between frames leaves unexplained
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What may be tried on a shot."""

    mode: Literal["free", "tied", "refused"]  # tied: each frame's blur follows from the way to its neighbours
    reason: str
    telling: bool = False  # blur differs from frame to frame, so that the shutter can be learned

    def __bool__(self) -> bool:
        return self.mode != "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was measured on a shot of T frames."""

    static: Tensor  # [T] share of each frame's pixels that belong to the scene
    overlap: Tensor  # [T - 1] share of each frame that the next one shows too
    blur: Tensor  # [T, 2] pixels that the picture moved while the shutter was open
    sharpness: Tensor  # [T] as `begin.sharpness` gives it
    kind: Literal["still", "rotation", "parallax"]


def too_few(count: int) -> str:
    """The reason why so many frames are not enough; empty where they are."""
    return (
        ""
        if count >= FEWEST
        else f"{count} {'frame is' if count == 1 else 'frames are'} too few (at least {FEWEST})"
    )


def rule(evidence: Evidence) -> Ruling:
    """Frames of one scene, enough of them, blurred in different ways; or blurred alike, then tied.

    Where all are blurred alike nothing tells blur from a blurred scene, except the way between the frames.
    Only where that way contradicts the frames' own sharpness, each exposure is given a motion of its own.
    """
    count, length, left = len(evidence.blur), evidence.blur.norm(dim=1), unexplained(evidence)
    for holds, reason in (
        (not too_few(count), too_few(count)),
        (evidence.kind != "still", "the camera is static, so a scene would add nothing to single frames"),
        (
            float(evidence.static.median()) >= STATIC,
            f"only {float(evidence.static.median()):.0%} of the picture belongs to a static scene (at least"
            f" {STATIC:.0%})",
        ),
        (
            not len(evidence.overlap) or float(evidence.overlap.min()) >= OVERLAP,
            _too_far(evidence.overlap),
        ),
        (
            float(length.max()) >= BLURRED or left > JITTER,
            f"no frame has more than {BLURRED:g} px of motion blur",
        ),
    ):
        if not holds:
            return Ruling(mode="refused", reason=reason)
    if left > JITTER:
        why = f"sharpness changes by {left:.0%} from frame to frame, more than the way between them tells"
        return Ruling(mode="free", reason=why, telling=True)
    if why := diverse(evidence):
        return Ruling(mode="tied", reason=why, telling=True)
    return Ruling(mode="tied", reason="all frames are blurred alike: blur follows from the way between them")


def _too_far(overlap: Tensor) -> str:
    if not len(overlap):
        return ""
    k = int(overlap.argmin())
    return (
        f"frame {k + 1} shows only {float(overlap[k]):.0%} of what frame {k} shows (at least {OVERLAP:.0%})"
    )


def unexplained(evidence: Evidence) -> float:
    """How much sharpness jumps from frame to frame beyond what the measured blur makes of it.

    Second differences: what comes into the picture and leaves it changes sharpness slowly.
    """
    if len(evidence.blur) < 3:
        return 0.0
    sharp = _jumps(evidence.sharpness.clamp_min(1e-12).log())
    blur = _jumps((1 + evidence.blur.square().sum(1)).log())
    slope = -((sharp * blur).sum() / blur.square().sum().clamp_min(1e-6)).clamp(-1, 0)
    # Of independent values, second differences have six times the variance.
    return float(((sharp + slope * blur).square().mean() / 6).sqrt())


def _jumps(values: Tensor) -> Tensor:
    return values[2:] - 2 * values[1:-1] + values[:-2]


def diverse(evidence: Evidence) -> str:
    """Why the frames are blurred in different ways; empty where they are not."""
    length = evidence.blur.norm(dim=1)
    sharp = float((length < BLURRED).float().mean())
    if sharp >= SHARP:
        return f"{sharp:.0%} of the frames are sharp"
    if float(length.max() / length.min().clamp_min(1e-6)) >= UNLIKE:
        return f"blur between {float(length.min()):.1f} and {float(length.max()):.1f} pixels long"
    spread = direction_spread(evidence.blur)
    if spread >= TURNED:
        return f"directions of blur that differ by {spread:.0f} degrees"
    return ""


def direction_spread(blur: Tensor) -> float:
    """Degrees, twice the standard deviation, by which the axes of blur [T, 2] differ."""
    angle = 2 * torch.atan2(blur[:, 1], blur[:, 0])  # an axis has no sign
    length = blur.norm(dim=1)
    mean = torch.stack([(length * angle.cos()).sum(), (length * angle.sin()).sum()]) / length.sum().clamp_min(
        1e-6
    )
    # Of a wrapped normal distribution (Mardia & Jupp 2000, 2.3).
    concentration = mean.norm().clamp(1e-6, 1)
    return float(torch.rad2deg((-2 * concentration.log()).sqrt()))


def overlaps(path: CameraPath, size: tuple[int, int], *, points: Tensor | None = None) -> Tensor:
    """[T - 1] share of each frame that the next one shows too.

    Args:
        path: Of a camera that only turns, unless there are points.
        size: Height and width of the frames.
        points: [P, 3] of a scene with depth: then the share of those that a frame shows.
    """
    pairs = range(len(path.times) - 1)
    if points is None:
        return torch.tensor([float(_shown(path, size, k, k + 1).mean()) for k in pairs])
    seen = torch.stack([_shows(path, size, k, points) for k in range(len(path.times))])
    both, own = (seen[1:] & seen[:-1]).sum(1), seen[:-1].sum(1)
    # Where no point is known nothing speaks against the frame.
    share: Tensor = torch.where(own > 0, both / own.clamp_min(1), torch.ones(len(own)))
    return share


def _shows(path: CameraPath, size: tuple[int, int], frame: int, points: Tensor) -> Tensor:
    """[P] whether a frame shows each point."""
    x, y, z = path.intrinsics @ (path.rotations[frame] @ points.T + path.translations[frame][:, None])
    height, width = size
    across, down = x / z.clamp_min(1e-6), y / z.clamp_min(1e-6)
    within = (across >= -0.5) & (across <= width - 0.5) & (down >= -0.5) & (down <= height - 0.5)
    shows: Tensor = within & (z > 0)
    return shows


def looks(path: CameraPath, size: tuple[int, int], frame: int) -> Tensor:
    """[H, W] how many frames show what each pixel of a frame shows, itself included, of what is far away."""
    count = torch.stack([_shown(path, size, frame, other) for other in range(len(path.times))]).sum(0)
    whole: Tensor = interpolate(count[None, None], size, mode="bilinear", align_corners=True)[0, 0]
    return whole


def _shown(path: CameraPath, size: tuple[int, int], frame: int, other: int) -> Tensor:
    """[33, 33] 1 at the places of a frame that another shows too."""
    height, width = size
    y, x = torch.meshgrid(torch.linspace(0, height - 1, 33), torch.linspace(0, width - 1, 33), indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)]).flatten(1)
    turn = path.rotations[other] @ path.rotations[frame].mT
    seen = path.intrinsics @ turn @ torch.linalg.inv(path.intrinsics) @ pixels
    where = seen[:2] / seen[2:].clamp_min(1e-6)
    # Half a pixel: rounding leaves no frame outside itself.
    limit = torch.tensor([width - 0.5, height - 0.5])[:, None]
    inside = ((where >= -0.5) & (where <= limit)).all(0) & (seen[2] > 0)
    shown: Tensor = inside.float().view(33, 33)
    return shown
