"""Do no harm: what is sharp passes untouched, and a change is made no larger than is plausible.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from freezeframe.data.blur.operator import blur, row_subset, support_mask
from freezeframe.data.types import Action, Frame, Verdict
from freezeframe.pipeline.config import GateConfig

GatedFrame = tuple[Frame, Verdict]

GAMMA = 1 / 2.2  # close to how the eye and every 8-bit code space light
BISECTIONS = 5  # the largest plausible share of a change is found to within 1/32
FREE_COLOR_CORRECTION = (
    2.0  # times the allowed drift of colour up to which it is put back and costs no strength
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SanityMetrics:
    """How a proposed frame relates to the input that it must explain."""

    finite: bool
    drift: float  # largest change of a channel's mean, gamma-coded
    residual: float  # re-blurred proposal against the input, over the re-blurred input against the input
    checkerboard: float  # energy at the pixel grid's own frequency, over that of the input


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A frame, and what the stages made of it."""

    frame: Frame  # as decoded
    blur: float  # pixels, length of the strongest sustained blur
    weight: float = 1.0  # share of the change that the frame's blur asks for, [0, 1]
    limit: float = 1.0  # largest share that is plausible, [0, 1]
    original: Tensor | None = None  # [3, H, W] linear RGB; None where nothing is to change
    image: Tensor | None = None  # [3, H, W] linear RGB
    sanity: SanityMetrics | None = None
    reason: str = "sharp enough"  # why it stays as it is, or why the limit is less than 1


def blur_threshold(size: tuple[int, int], config: GateConfig) -> float:
    """Blur length in pixels from which a player or a ball is worked on, for `size` (height, width)."""
    return max(config.min_blur_px, size[0] * config.local_blur)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How far a frame is blurred, or how fast things in it move, in pixels."""

    local_px: float  # exceeded in a small part of the frame: a player
    global_px: float  # exceeded in much of it

    def scale(self, shutter: float) -> Extent:
        """Blur of what moves so fast, for an exposure of `shutter` frame intervals."""
        return Extent(local_px=self.local_px * shutter, global_px=self.global_px * shutter)

    def maximum(self, other: Extent) -> Extent:
        """The larger of both."""
        return Extent(
            local_px=max(self.local_px, other.local_px), global_px=max(self.global_px, other.global_px)
        )


def extent(lengths: Tensor, config: GateConfig) -> Extent:
    """Quantiles of lengths or speeds, of any places spread evenly over the frame."""
    local_px, global_px = quantiles(lengths, 1 - config.area_fraction, 1 - config.global_area_fraction)
    return Extent(local_px=local_px, global_px=global_px)


def blur_ratio(blur: Extent, size: tuple[int, int], config: GateConfig) -> float:
    """How many times over the threshold the blur of a frame of `size` (height, width) is; 1 is enough."""
    global_threshold = max(config.min_blur_px, size[0] * config.global_blur)
    return max(blur.local_px / blur_threshold(size, config), blur.global_px / global_threshold)


def blur_weight(blur_ratio: float, config: GateConfig) -> float:
    """Share of its correction that a frame gets: none up to `ramp_start` times the threshold, all of it from 1 on.

    A hard threshold would let frames of one steady movement flicker between both.
    """
    return min(1.0, max(0.0, (blur_ratio - config.ramp_start) / (1 - config.ramp_start)))


def sustained_blur(vectors: Tensor, *, area_fraction: float) -> float:
    """Blur length in pixels that at least `area_fraction` of the frame exceeds.

    A mean would hide a ball or a runner; the maximum would believe one wrong vector.

    Args:
        vectors: Path of each point while the shutter was open. [2, H, W] pixels.
        area_fraction: Part of the frame that must be blurred at least so much.
    """
    return quantiles(torch.hypot(*vectors[:, ::4, ::4]), 1 - area_fraction)[0]


def quantiles(values: Tensor, *fractions: float) -> list[float]:
    """What these shares of all values lie below. By NumPy, which does not sort them all for it."""
    levels: list[float] = np.quantile(values.cpu().numpy(), fractions).tolist()
    return levels


def sanity_metrics(original: Tensor, proposed: Tensor, vectors: Tensor) -> SanityMetrics:
    """Compare a proposed frame with its input, both [3, H, W] linear RGB; `vectors` [2, H, W] blurred it."""
    if not bool(proposed.sum().isfinite()):  # nor is a sum with one that is not
        return SanityMetrics(
            finite=False, drift=float("inf"), residual=float("inf"), checkerboard=float("inf")
        )
    before, after = _gamma_encode(original), _gamma_encode(proposed)
    drift = (after - before).mean(dim=(1, 2)).abs().max()
    return SanityMetrics(
        finite=True,
        drift=float(drift),
        residual=_ReblurComparison(original, proposed, vectors).residual(),
        checkerboard=_checkerboard(after) / _checkerboard(before),
    )


def rejection_reason(sanity: SanityMetrics, config: GateConfig) -> str | None:
    """The first reason not to let the frame out, or None."""
    if not sanity.finite:
        return "not a number"
    if sanity.drift > config.drift:
        return f"average colour would shift by {sanity.drift:.3f} (limit {config.drift:.3f})"
    if sanity.residual > config.residual:
        return f"re-blurred, it fits the recorded frame worse than before by {sanity.residual:.2f} times"
    if sanity.checkerboard > config.checkerboard:
        return f"checkerboard pattern of {sanity.checkerboard:.1f} times the input's"
    return None


def propose(
    frame: Frame, original: Tensor, proposed: Tensor, vectors: Tensor, config: GateConfig
) -> Proposal:
    """How much of a change is plausible.

    Args:
        frame: As decoded.
        original: Its light. [3, H, W] linear RGB.
        proposed: What the stages made of it. [3, H, W] linear RGB.
        vectors: Path of each point while the shutter was open. [2, H, W] pixels.
        config: Thresholds.
    """
    sanity = sanity_metrics(original, proposed, vectors)
    reason = rejection_reason(sanity, config)
    limit, image = 1.0, proposed
    if reason:
        image = correct_mean_color(original, proposed, limit=config.drift) if sanity.finite else original
        limit = max_plausible_strength(original, image, vectors, sanity, config)
    return Proposal(
        frame=frame,
        blur=sustained_blur(vectors, area_fraction=config.area_fraction),
        limit=limit,
        original=original,
        image=image,
        sanity=sanity,
        reason=reason or "",
    )


def correct_mean_color(original: Tensor, proposed: Tensor, *, limit: float) -> Tensor:
    """`proposed`, its mean colour put back where it drifts further than `limit` (gamma-coded).

    The gain is a number per channel, and 1 at the limit, so that neighbouring frames do not jump.
    """
    before, after = _gamma_encode(original).mean((1, 2)), _gamma_encode(proposed).mean((1, 2))
    allowed = after.clamp(before - limit, before + limit)
    gain = (allowed / after.clamp_min(1e-6)).pow(1 / GAMMA)
    return proposed * gain[:, None, None]


def max_plausible_strength(
    original: Tensor, proposed: Tensor, vectors: Tensor, sanity: SanityMetrics, config: GateConfig
) -> float:
    """The largest share of a change, [0, 1], that passes the gate; 0 where none does.

    Args:
        original: [3, H, W] linear RGB.
        proposed: The whole change, its colour put back. [3, H, W] linear RGB.
        vectors: [2, H, W] pixels.
        sanity: What was found before the colour was put back.
        config: Thresholds.
    """
    if not sanity.finite:
        return 0.0
    # What explains the input so much worse than the input itself is not too strong but wrong.
    allowed = min(config.residual, max(1.0, 2 * config.residual - sanity.residual))
    reblurred = _ReblurComparison(original, proposed, vectors)
    pattern = _checkerboard(_gamma_encode(original))

    def passes(strength: float) -> bool:
        mixed = _gamma_encode(torch.lerp(original, proposed, strength))
        return (
            reblurred.residual(strength) <= allowed and _checkerboard(mixed) <= config.checkerboard * pattern
        )

    upper = min(1.0, FREE_COLOR_CORRECTION * config.drift / max(sanity.drift, 1e-6))
    if passes(upper):
        return upper
    low, high = 0.0, upper
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def apply_proposal(proposal: Proposal, strength: float) -> GatedFrame:
    """The frame with `strength` of its change in it, and why; bit for bit as it came where that is nothing."""
    frame, sanity = proposal.frame, proposal.sanity
    metrics = asdict(sanity) if sanity else {}
    if proposal.original is None or proposal.image is None or strength <= 0:
        action: Action = "fallback" if sanity and proposal.limit <= 0 else "passthrough"
        return frame, _verdict(proposal, action, proposal.reason or "sharp enough", 0.0, metrics)
    reason = f"blurred over {proposal.blur:.1f} px"
    if proposal.limit < 1:
        reason = f"{reason}; {strength:.0%} of the change: {proposal.reason}"
    sharpened_frame = frame.with_image(torch.lerp(proposal.original, proposal.image, strength))
    return sharpened_frame, _verdict(proposal, "deblurred", reason, strength, metrics)


def _verdict(
    proposal: Proposal, action: Action, reason: str, strength: float, metrics: dict[str, float]
) -> Verdict:
    frame = proposal.frame
    return Verdict(
        index=frame.index, time=float(frame.time), action=action, reason=reason, blur=proposal.blur,
        strength=strength, metrics=metrics,
    )  # fmt: skip


def _gamma_encode(image: Tensor) -> Tensor:
    return image.clamp(0, 1).pow_(GAMMA)


class _ReblurComparison:
    """A proposal and its input, blurred again as the input was; on some rows, which tell enough."""

    def __init__(self, original: Tensor, proposed: Tensor, vectors: Tensor) -> None:
        size = original.shape[1:]
        step = max(1, min(size) // 360)  # half of a 720p frame's rows
        row_vectors, offset = row_subset(vectors, slice(None, None, step))
        reblurred = blur(torch.stack([proposed.mean(0), original.mean(0)]), row_vectors, offset=offset)
        self._proposed, self._original = reblurred
        self._target = _gamma_encode(original[:, ::step].mean(0))
        # Where light came from beyond the border, no picture can explain it.
        self._inside = support_mask(row_vectors, offset=offset, size=size)

    def residual(self, strength: float = 1.0) -> float:
        """Error of the input with `strength` of the change, re-blurred, over that of the re-blurred input.

        A frame that was truly sharpened gives the input again when the same shutter blurs it; the input,
        blurred a second time, does not. Blur is linear, so that one blur of each serves every share.
        """
        mixed = self._proposed if strength == 1 else torch.lerp(self._original, self._proposed, strength)
        errors = (
            torch.stack([_gamma_encode(mixed), _gamma_encode(self._original)])
            .sub_(self._target)
            .mul_(self._inside)
        )
        error, input_error = errors.square().mean(dim=(1, 2)).sqrt()
        return float(error / input_error.clamp_min(1e-6))


def _checkerboard(encoded: Tensor) -> float:
    # Networks out of their depth and over-run deconvolutions both ring at the Nyquist corner.
    response = encoded.mean(0).diff(dim=0).diff(dim=1) / 4
    return float(response.square().mean().sqrt().clamp_min(1e-4))
