"""The gate: frames without blur pass unchanged, and a correction is limited to a plausible strength.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.blur.operator import blur, row_subset, support_mask
from freezeframe.data.types import Action, Box, Frame, Method, RegionVerdict, Verdict
from freezeframe.pipeline.config import GateConfig

GatedFrame = tuple[Frame, Verdict]

LOCAL_AREA = 0.02  # fraction of the frame that must exceed `GateConfig.local_blur`
MAX_LOCAL_AREA = 0.5  # the same of the part of a frame in which something moves, at most
GLOBAL_AREA = 0.3  # fraction of the frame that must exceed `GateConfig.global_blur`
GAMMA = 1 / 2.2  # approximates the transfer function of 8-bit files and of perceived brightness
BISECTIONS = 5  # the largest plausible strength is accurate to 1/32
MIN_MASK_PX = 0.7  # pixels: blur vectors up to this length count as rest before a still camera
MASK_MARGIN = 9  # pixels: width of the soft border of what moves before a still camera
FREE_COLOR_CORRECTION = 2.0  # times the allowed drift up to which a colour correction costs no strength


@dataclass(frozen=True, slots=True, kw_only=True)
class SanityMetrics:
    """Comparison of a proposed frame with its input."""

    finite: bool  # no NaN, no infinity
    drift: float  # largest change of a channel's mean, gamma-coded
    residual: float  # error of the re-blurred proposal over the error of the re-blurred input
    checkerboard: float  # energy at the Nyquist frequency, over that of the input


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionProposal:
    """A change of one region of a frame."""

    verdict: RegionVerdict
    image: Tensor  # [3, h, w] linear RGB, of the box
    weight: Tensor  # [h, w] in [0, 1]; 0 where the frame stays as it is
    coverage: Tensor  # [h, w] in [0, 1]: the part of the image that is the layer, not the background
    background_is_deconvolved: bool = False  # otherwise it is the recorded one


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A frame and its proposed correction."""

    frame: Frame  # as decoded
    blur: float  # pixels, length of the strongest sustained blur
    weight: float = 1.0  # strength for the frame's blur, [0, 1]
    limit: float = 1.0  # largest plausible strength, [0, 1]
    original: Tensor | None = None  # [3, h, w] linear RGB; None without a correction
    image: Tensor | None = None  # [3, h, w] linear RGB; None without a correction
    box: Box | None = None  # part of the frame that both show; None: all of it
    mask: Tensor | None = None  # [h, w] in [0, 1] where the correction is applied; None: everywhere
    sanity: SanityMetrics | None = None
    reason: str = "sharp enough"  # why there is no correction, or why the limit is less than 1
    deconvolved: tuple[RegionVerdict, ...] = ()  # what `image` changes, at full strength
    regions: tuple[RegionProposal, ...] = ()  # changes beside that of the whole frame


def blur_threshold(size: tuple[int, int], config: GateConfig) -> float:
    """Local blur threshold in pixels, for a frame of `size` (height, width)."""
    return max(config.min_blur_px, size[0] * config.local_blur)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Blur lengths or speeds of a frame, in pixels."""

    local_px: float  # exceeded in a small part of the frame: a player
    global_px: float  # exceeded in much of the frame

    def scale(self, shutter: float) -> Extent:
        """Blur lengths of these speeds, for an exposure of `shutter` frame intervals."""
        return Extent(local_px=self.local_px * shutter, global_px=self.global_px * shutter)

    def maximum(self, other: Extent) -> Extent:
        """Element-wise maximum."""
        return Extent(
            local_px=max(self.local_px, other.local_px), global_px=max(self.global_px, other.global_px)
        )


def extent(lengths: Tensor, *, share: float = 1.0) -> Extent:
    """Local and global quantiles of lengths or speeds.

    Args:
        lengths: Sampled evenly over the frame, or over a part of it outside of which nothing moves.
        share: Area of that part over that of the frame.
    """
    local_px, global_px = (
        quantiles(lengths, 1 - area / share)[0] if area < share else 0.0 for area in (LOCAL_AREA, GLOBAL_AREA)
    )
    return Extent(local_px=local_px, global_px=global_px)


def blur_ratio(blur: Extent, size: tuple[int, int], config: GateConfig) -> float:
    """Blur of a frame of `size` (height, width) over its threshold: the larger of local and global."""
    global_threshold = max(config.min_blur_px, size[0] * config.global_blur)
    return max(blur.local_px / blur_threshold(size, config), blur.global_px / global_threshold)


def blur_weight(blur_ratio: float, config: GateConfig) -> float:
    """Strength for a blur ratio: 0 up to `ramp_start`, 1 from 1 on, linear between.

    With a hard threshold, frames of one steady motion would flicker.
    """
    return min(1.0, max(0.0, (blur_ratio - config.ramp_start) / (1 - config.ramp_start)))


def sustained_blur(vectors: Tensor, *, area_fraction: float) -> float:
    """Blur length in pixels that `area_fraction` of the frame exceeds.

    A mean would miss a ball or a runner; a maximum would be one outlier of the flow.

    Args:
        vectors: Blur vectors. [2, H, W] pixels.
        area_fraction: Fraction of the frame.
    """
    return quantiles(torch.hypot(*vectors[:, ::4, ::4]), 1 - area_fraction)[0]


def quantiles(values: Tensor, *fractions: float) -> list[float]:
    """Quantiles of all values. By NumPy, which selects without a full sort."""
    levels: list[float] = np.quantile(values.cpu().numpy(), fractions).tolist()
    return levels


def sanity_metrics(original: Tensor, proposed: Tensor, vectors: Tensor) -> SanityMetrics:
    """Compare a proposed frame with its input.

    Args:
        original: The input. [3, H, W] linear RGB.
        proposed: [3, H, W] linear RGB.
        vectors: Blur vectors of the input. [2, H, W] pixels.
    """
    if not bool(proposed.sum().isfinite()):  # a sum is finite only if all terms are
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
    """The first limit that a proposed frame exceeds, as a sentence; None if it exceeds none."""
    if not sanity.finite:
        return "the result is not finite"
    if sanity.drift > config.drift:
        return f"mean colour would shift by {sanity.drift:.3f} (limit {config.drift:.3f})"
    if sanity.residual > config.residual:
        return (
            f"re-blurring the result misses the input by {sanity.residual:.1f} times"
            f" (limit {config.residual:.1f})"
        )
    if sanity.checkerboard > config.checkerboard:
        return (
            f"checkerboard pattern of {sanity.checkerboard:.1f} times the input's"
            f" (limit {config.checkerboard:.1f})"
        )
    return None


def moving_mask(vectors: Tensor) -> Tensor:
    """[H, W] in [0, 1]: 1 where blur vectors, [2, H, W] pixels, are long, with soft borders; 0 at rest."""
    length = torch.hypot(*vectors)
    mask = ((length - MIN_MASK_PX) / MIN_MASK_PX).clamp(0, 1).cpu().numpy()
    spread = cv2.dilate(mask, np.ones((MASK_MARGIN, MASK_MARGIN), np.uint8))
    blurred = cv2.blur(spread, (MASK_MARGIN, MASK_MARGIN))
    return torch.from_numpy(np.asarray(blurred)).to(vectors)


def propose(  # noqa: PLR0913  # a correction, and where it is applied
    frame: Frame,
    original: Tensor,
    proposed: Tensor,
    vectors: Tensor,
    config: GateConfig,
    *,
    box: Box | None = None,
    mask: Tensor | None = None,
) -> Proposal:
    """Limit a correction to a plausible strength.

    Args:
        frame: As decoded.
        original: Its image, or that of `box`. [3, h, w] linear RGB.
        proposed: The corrected image. [3, h, w] linear RGB.
        vectors: Blur vectors. [2, h, w] pixels.
        config: Limits.
        box: Part of the frame that the images show, outside of which nothing moves; None: all of it.
        mask: Where the correction is applied, [h, w] in [0, 1]; None: everywhere.
    """

    def shown(image: Tensor) -> Tensor:
        return image if mask is None else torch.lerp(original, image, mask)

    sanity = sanity_metrics(original, shown(proposed), vectors)
    reason = rejection_reason(sanity, config)
    limit, image = 1.0, proposed
    if reason:
        image = correct_mean_color(original, proposed, limit=config.drift) if sanity.finite else original
        limit = max_plausible_strength(original, shown(image), vectors, sanity, config)
    share = vectors[0].numel() / math.prod(frame.picture.size)
    return Proposal(
        frame=frame,
        blur=sustained_blur(vectors, area_fraction=min(MAX_LOCAL_AREA, LOCAL_AREA / share)),
        limit=limit,
        original=original,
        image=image,
        box=box,
        mask=mask,
        sanity=sanity,
        reason=reason or "",
    )


def correct_mean_color(original: Tensor, proposed: Tensor, *, limit: float) -> Tensor:
    """Scale the channels of `proposed` so that their means drift by no more than `limit` (gamma-coded).

    The gain is one number per channel, and 1 at the limit, so that neighbouring frames do not jump.
    """
    before, after = _gamma_encode(original).mean((1, 2)), _gamma_encode(proposed).mean((1, 2))
    allowed = after.clamp(before - limit, before + limit)
    gain = (allowed / after.clamp_min(1e-6)).pow(1 / GAMMA)
    return proposed * gain[:, None, None]


def max_plausible_strength(
    original: Tensor, proposed: Tensor, vectors: Tensor, sanity: SanityMetrics, config: GateConfig
) -> float:
    """The largest strength, [0, 1], with which a correction passes the limits; 0 if none does.

    Args:
        original: [3, H, W] linear RGB.
        proposed: The full correction with corrected mean colour. [3, H, W] linear RGB.
        vectors: Blur vectors. [2, H, W] pixels.
        sanity: Metrics before the colour correction.
        config: Limits.
    """
    if not sanity.finite:
        return 0.0
    # A residual far above the limit means a wrong result, not too strong a correction.
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
    """The frame with its corrections, and the verdict; the decoded frame itself where nothing is corrected.

    Args:
        proposal: A frame and its corrections.
        strength: Fraction of the correction of the whole frame; that of a region is in its verdict.
    """
    frame, sanity = proposal.frame, proposal.sanity
    image, something_moves = None, proposal.mask is None or bool((proposal.mask > 0).any())
    strength = strength if proposal.image is not None else 0.0
    if proposal.original is not None and proposal.image is not None and strength > 0 and something_moves:
        image = torch.lerp(
            proposal.original, proposal.image, strength * (1 if proposal.mask is None else proposal.mask)
        )
        frame = _with_image(frame, image, proposal)
    for region in proposal.regions:
        frame = _apply_region(frame, region, image, proposal.box or _whole(frame))
    regions = [region.verdict for region in proposal.regions]
    changed = [each for each in regions if each.strength > 0]
    action: Action = "deblurred" if image is not None or changed else "passthrough"
    if action == "passthrough" and sanity and proposal.limit <= 0:
        action = "fallback"
    reason = proposal.reason or "sharp enough"
    if image is not None:
        reason = f"blurred over {proposal.blur:.1f} px"
        if proposal.limit < 1:
            reason = f"{reason}; {strength:.0%} of the correction: {proposal.reason}"
    elif changed:
        reason = f"{len(changed)} fast {'object' if len(changed) == 1 else 'objects'}"
    return frame, Verdict(
        index=frame.index,
        time=float(frame.time),
        action=action,
        reason=reason,
        blur=max([proposal.blur, *(each.blur for each in changed)]),
        strength=strength or max((each.strength for each in changed), default=0.0),
        metrics=asdict(sanity) if sanity else {},
        regions=(
            *(with_strength(each, strength, "deconvolution") for each in proposal.deconvolved),
            *regions,
        ),
    )


def with_strength(verdict: RegionVerdict, strength: float, method: Method) -> RegionVerdict:
    """The verdict on a region of which `strength` is applied by `method`: with 0, it shows the input."""
    return replace(verdict, strength=strength, method=method if strength > 0 else "input")


def _with_image(frame: Frame, image: Tensor, proposal: Proposal) -> Frame:
    """The frame with `image` in the box of the proposal, where its mask is above 0; all else bit for bit."""
    if proposal.mask is None:
        return frame.with_image(image)
    return frame.with_box(proposal.box or _whole(frame), image, proposal.mask > 0)


def _apply_region(frame: Frame, region: RegionProposal, image: Tensor | None, there: Box) -> Frame:
    """Blend a region into a frame, and into its corrected `image`, [3, h, w] of the box `there`, if any."""
    box, weight = region.verdict.box, region.verdict.strength * region.weight
    if not bool((weight > 0).any()):
        return frame
    base = frame.picture.linear_in(box)
    if image is None or not there.intersects(box):
        return frame.with_box(box, torch.lerp(base, region.image, weight), weight > 0)
    both = there.intersection(box)
    (rows, columns), (y, x) = (
        both.shift(-each.left, -each.top).slices((each.height, each.width)) for each in (box, there)
    )
    base[:, rows, columns] = image[:, y, x]
    blended = torch.lerp(base, region.image, weight)
    image[:, y, x] = blended[:, rows, columns]  # another region may overlap
    return frame.with_box(box, blended, weight > 0)


def _whole(frame: Frame) -> Box:
    height, width = frame.picture.size
    return Box(left=0, top=0, right=width, bottom=height)


def _gamma_encode(image: Tensor) -> Tensor:
    return image.clamp(0, 1).pow_(GAMMA)


class _ReblurComparison:
    """A proposal and its input, both blurred along the blur vectors, on a subset of the rows."""

    def __init__(self, original: Tensor, proposed: Tensor, vectors: Tensor) -> None:
        size = original.shape[1:]
        step = max(1, min(size) // 360)  # half of the rows at 720p
        row_vectors, offset = row_subset(vectors, slice(None, None, step))
        reblurred = blur(torch.stack([proposed.mean(0), original.mean(0)]), row_vectors, offset=offset)
        self._proposed, self._original = reblurred
        self._target = _gamma_encode(original[:, ::step].mean(0))
        # Pixels whose blur vector crosses the border recorded light from outside of the image.
        self._inside = support_mask(row_vectors, offset=offset, size=size)

    def residual(self, strength: float = 1.0) -> float:
        """Error of the re-blurred result at `strength`, over the error of the re-blurred input.

        A correctly deblurred frame re-blurs to the input; the input, blurred twice, does not. Blur is linear,
        so one re-blurring of each image serves every strength.
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
    # Networks outside of their training domain and diverging deconvolutions both ring at the Nyquist corner.
    response = encoded.mean(0).diff(dim=0).diff(dim=1) / 4
    return float(response.square().mean().sqrt().clamp_min(1e-4))
