"""Do no harm: what is sharp passes untouched, and a change is made no larger than is plausible.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from freezeframe.data.blur.operator import blur, some_rows, within
from freezeframe.data.types import Action, Frame, Verdict
from freezeframe.pipeline.config import GateConfig

Finished = tuple[Frame, Verdict]

GAMMA = 1 / 2.2  # close to how the eye and every 8-bit code space light
BISECTIONS = 5  # the largest plausible share of a change is found to within 1/32
TONED = 2.0  # times the allowed drift of colour up to which it is put back and costs no strength


@dataclass(frozen=True, slots=True, kw_only=True)
class Plausibility:
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
    found: Plausibility | None = None
    reason: str = "sharp enough"  # why it stays as it is, or why the limit is less than 1


def blur_threshold(size: tuple[int, int], config: GateConfig) -> float:
    """Blur length in pixels from which a player or a ball is worked on, for `size` (height, width)."""
    return max(config.least, size[0] * config.blur)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How far a frame is blurred, or how fast things in it move, in pixels."""

    far: float  # exceeded in a small part of the frame: a player
    wide: float  # exceeded in much of it

    def times(self, shutter: float) -> Extent:
        """Blur of what moves so fast, for an exposure of `shutter` frame intervals."""
        return Extent(far=self.far * shutter, wide=self.wide * shutter)

    def most(self, other: Extent) -> Extent:
        """The larger of both."""
        return Extent(far=max(self.far, other.far), wide=max(self.wide, other.wide))


def extent(lengths: Tensor, config: GateConfig) -> Extent:
    """Quantiles of lengths or speeds, of any places spread evenly over the frame."""
    far, wide = quantiles(lengths, 1 - config.share, 1 - config.wide_share)
    return Extent(far=far, wide=wide)


def excess(blur: Extent, size: tuple[int, int], config: GateConfig) -> float:
    """How many times over the threshold the blur of a frame of `size` (height, width) is; 1 is enough."""
    wide_threshold = max(config.least, size[0] * config.wide_blur)
    return max(blur.far / blur_threshold(size, config), blur.wide / wide_threshold)


def blur_weight(excess: float, config: GateConfig) -> float:
    """Share of its correction that a frame gets: none up to `soft` times the threshold, all of it from 1 on.

    A hard threshold would let frames of one steady movement flicker between both.
    """
    return min(1.0, max(0.0, (excess - config.soft) / (1 - config.soft)))


def sustained_blur(vectors: Tensor, *, share: float) -> float:
    """Blur length in pixels that at least `share` of the frame exceeds.

    A mean would hide a ball or a runner; the maximum would believe one wrong vector.

    Args:
        vectors: Path of each point while the shutter was open. [2, H, W] pixels.
        share: Part of the frame that must be blurred at least so much.
    """
    return quantiles(torch.hypot(*vectors[:, ::4, ::4]), 1 - share)[0]


def quantiles(values: Tensor, *shares: float) -> list[float]:
    """What these shares of all values lie below. By NumPy, which does not sort them all for it."""
    found: list[float] = np.quantile(values.cpu().numpy(), shares).tolist()
    return found


def plausibility(original: Tensor, proposed: Tensor, vectors: Tensor) -> Plausibility:
    """Compare a proposed frame with its input, both [3, H, W] linear RGB; `vectors` [2, H, W] blurred it."""
    if not bool(proposed.sum().isfinite()):  # nor is a sum with one that is not
        return Plausibility(
            finite=False, drift=float("inf"), residual=float("inf"), checkerboard=float("inf")
        )
    before, after = _coded(original), _coded(proposed)
    drift = (after - before).mean(dim=(1, 2)).abs().max()
    return Plausibility(
        finite=True,
        drift=float(drift),
        residual=_Reblurred(original, proposed, vectors).residual(),
        checkerboard=_checkerboard(after) / _checkerboard(before),
    )


def refusal(found: Plausibility, config: GateConfig) -> str | None:
    """The first reason not to let the frame out, or None."""
    if not found.finite:
        return "not a number"
    if found.drift > config.drift:
        return f"average colour would shift by {found.drift:.3f} (limit {config.drift:.3f})"
    if found.residual > config.residual:
        return f"re-blurred, it fits the recorded frame worse than before by {found.residual:.2f} times"
    if found.checkerboard > config.checkerboard:
        return f"checkerboard pattern of {found.checkerboard:.1f} times the input's"
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
    found = plausibility(original, proposed, vectors)
    reason = refusal(found, config)
    limit, image = 1.0, proposed
    if reason:
        image = toned(original, proposed, most=config.drift) if found.finite else original
        limit = plausible_share(original, image, vectors, found, config)
    return Proposal(
        frame=frame,
        blur=sustained_blur(vectors, share=config.share),
        limit=limit,
        original=original,
        image=image,
        found=found,
        reason=reason or "",
    )


def toned(original: Tensor, proposed: Tensor, *, most: float) -> Tensor:
    """`proposed`, its mean colour put back where it drifts further than `most` (gamma-coded).

    The gain is a number per channel, and 1 at the limit, so that neighbouring frames do not jump.
    """
    before, after = _coded(original).mean((1, 2)), _coded(proposed).mean((1, 2))
    allowed = after.clamp(before - most, before + most)
    gain = (allowed / after.clamp_min(1e-6)).pow(1 / GAMMA)
    return proposed * gain[:, None, None]


def plausible_share(
    original: Tensor, proposed: Tensor, vectors: Tensor, found: Plausibility, config: GateConfig
) -> float:
    """The largest share of a change, [0, 1], that passes the gate; 0 where none does.

    Args:
        original: [3, H, W] linear RGB.
        proposed: The whole change, its colour put back. [3, H, W] linear RGB.
        vectors: [2, H, W] pixels.
        found: What was found before the colour was put back.
        config: Thresholds.
    """
    if not found.finite:
        return 0.0
    # What explains the input so much worse than the input itself is not too strong but wrong.
    allowed = min(config.residual, max(1.0, 2 * config.residual - found.residual))
    reblurred = _Reblurred(original, proposed, vectors)
    pattern = _checkerboard(_coded(original))

    def passes(share: float) -> bool:
        mixed = _coded(torch.lerp(original, proposed, share))
        return reblurred.residual(share) <= allowed and _checkerboard(mixed) <= config.checkerboard * pattern

    most = min(1.0, TONED * config.drift / max(found.drift, 1e-6))
    if passes(most):
        return most
    low, high = 0.0, most
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def finished(proposal: Proposal, share: float) -> Finished:
    """The frame with `share` of its change in it, and why; bit for bit as it came where that is nothing."""
    frame, found = proposal.frame, proposal.found
    figures = asdict(found) if found else {}
    if proposal.original is None or proposal.image is None or share <= 0:
        action: Action = "fell back" if found and proposal.limit <= 0 else "untouched"
        return frame, _verdict(proposal, action, proposal.reason or "sharp enough", 0.0, figures)
    reason = f"blurred over {proposal.blur:.1f} px"
    if proposal.limit < 1:
        reason = f"{reason}; {share:.0%} of the change: {proposal.reason}"
    shown = frame.showing(torch.lerp(proposal.original, proposal.image, share))
    return shown, _verdict(proposal, "sharpened", reason, share, figures)


def _verdict(
    proposal: Proposal, action: Action, reason: str, share: float, figures: dict[str, float]
) -> Verdict:
    frame = proposal.frame
    return Verdict(
        index=frame.index, time=float(frame.time), action=action, reason=reason, blur=proposal.blur,
        strength=share, figures=figures,
    )  # fmt: skip


def _coded(image: Tensor) -> Tensor:
    return image.clamp(0, 1).pow_(GAMMA)


class _Reblurred:
    """A proposal and its input, blurred again as the input was; on some rows, which tell enough."""

    def __init__(self, original: Tensor, proposed: Tensor, vectors: Tensor) -> None:
        size = original.shape[1:]
        step = max(1, min(size) // 360)  # half of a 720p frame's rows
        some, offset = some_rows(vectors, slice(None, None, step))
        again = blur(torch.stack([proposed.mean(0), original.mean(0)]), some, offset=offset)
        self._proposed, self._original = again
        self._target = _coded(original[:, ::step].mean(0))
        # Where light came from beyond the border, no picture can explain it.
        self._inside = within(some, offset=offset, size=size)

    def residual(self, share: float = 1.0) -> float:
        """Error of the input with `share` of the change, re-blurred, over that of the re-blurred input.

        A frame that was truly sharpened gives the input again when the same shutter blurs it; the input,
        blurred a second time, does not. Blur is linear, so that one blur of each serves every share.
        """
        mixed = self._proposed if share == 1 else torch.lerp(self._original, self._proposed, share)
        missed = torch.stack([_coded(mixed), _coded(self._original)]).sub_(self._target).mul_(self._inside)
        wrong, wrong_input = missed.square().mean(dim=(1, 2)).sqrt()
        return float(wrong / wrong_input.clamp_min(1e-6))


def _checkerboard(coded: Tensor) -> float:
    # Networks out of their depth and over-run deconvolutions both ring at the Nyquist corner.
    response = coded.mean(0).diff(dim=0).diff(dim=1) / 4
    return float(response.square().mean().sqrt().clamp_min(1e-4))
