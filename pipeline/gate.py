"""Do no harm: what is sharp passes untouched, what is implausible falls back to the input.

Nothing here takes a gradient.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.exposure import blur, some_rows, within
from ..data.types import Frame, Verdict
from .config import Config, GateConfig

Finished = tuple[Frame, Verdict]

GAMMA = 1 / 2.2  # close to how the eye and every 8-bit code space light


@dataclass(frozen=True, slots=True, kw_only=True)
class Plausibility:
    """How a proposed frame relates to the input that it must explain."""

    finite: bool
    drift: float  # largest change of a channel's mean, gamma-coded
    residual: float  # re-blurred proposal against the input, over the re-blurred input against the input
    checkerboard: float  # energy at the pixel grid's own frequency, over that of the input


def blur_threshold(size: tuple[int, int], config: GateConfig) -> float:
    """Blur length in pixels from which a player or a ball is worked on, for `size` (height, width)."""
    return max(config.least, size[0] * config.blur)


def excess(lengths: Tensor, size: tuple[int, int], config: GateConfig) -> float:
    """How many times over the threshold the blur of a frame is; from 1 on it is worked on.

    Args:
        lengths: Blur length in pixels, of any places spread evenly over the frame.
        size: Height and width of the frame.
        config: Of how much of it how much blur is too much.
    """
    far, wide = quantiles(lengths, 1 - config.share, 1 - config.wide_share)
    wide_threshold = max(config.least, size[0] * config.wide_blur)
    return float(max(far / blur_threshold(size, config), wide / wide_threshold))


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
        residual=_reblur_residual(original, proposed, vectors),
        checkerboard=_checkerboard(after) / _checkerboard(before),
    )


def refusal(found: Plausibility, config: GateConfig) -> str | None:
    """The first reason not to let the frame out, or None."""
    if not found.finite:
        return "not a number"
    if found.drift > config.drift:
        return f"colour drifts by {found.drift:.3f}"
    if found.residual > config.residual:
        return f"re-blurred, it explains the input {found.residual:.2f} times as badly as the input itself"
    if found.checkerboard > config.checkerboard:
        return f"checkerboard pattern, {found.checkerboard:.1f} times the input's"
    return None


def let_out(frame: Frame, original: Tensor, proposed: Tensor, vectors: Tensor, *, config: Config) -> Finished:
    """The frame with the proposed light in it, or as it came; and why.

    Args:
        frame: As decoded.
        original: Its light. [3, H, W] linear RGB.
        proposed: What the stages made of it. [3, H, W] linear RGB.
        vectors: Path of each point while the shutter was open. [2, H, W] pixels.
        config: Thresholds, and the strength with which the proposal replaces the original.
    """
    found = plausibility(original, proposed, vectors)
    reason = refusal(found, config.gate)
    length = sustained_blur(vectors, share=config.gate.share)
    verdict = Verdict(
        index=frame.index,
        time=float(frame.time),
        action="fell back" if reason else "sharpened",
        reason=reason or f"blurred over {length:.1f} px",
        blur=length,
        figures=asdict(found),
    )
    if reason:
        return frame, verdict
    return frame.showing(torch.lerp(original, proposed, config.strength)), verdict


def untouched(frame: Frame, reason: str, *, blur: float = 0.0) -> Finished:
    """The frame as it came, bit for bit."""
    verdict = Verdict(index=frame.index, time=float(frame.time), action="untouched", reason=reason, blur=blur)
    return frame, verdict


def _coded(image: Tensor) -> Tensor:
    return image.clamp(0, 1).pow_(GAMMA)


def _reblur_residual(original: Tensor, proposed: Tensor, vectors: Tensor) -> float:
    # A frame that was truly sharpened gives the input again when the same shutter blurs it;
    # the input, blurred a second time, does not.
    size = original.shape[1:]
    step = max(1, min(size) // 360)  # half of a 720p frame's rows tell enough
    some, offset = some_rows(vectors, slice(None, None, step))
    again = blur(torch.stack([proposed.mean(0), original.mean(0)]), some, offset=offset)
    # Where light came from beyond the border, no picture can explain it.
    missed = (_coded(again) - _coded(original[:, ::step].mean(0))) * within(some, offset=offset, size=size)
    wrong, wrong_input = missed.square().mean(dim=(1, 2)).sqrt()
    return float(wrong / wrong_input.clamp_min(1e-6))


def _checkerboard(coded: Tensor) -> float:
    # Networks out of their depth and over-run deconvolutions both ring at the Nyquist corner.
    response = coded.mean(0).diff(dim=0).diff(dim=1) / 4
    return float(response.square().mean().sqrt().clamp_min(1e-4))
