"""Selection of a restorer: the degradations of a picture, and the installed model that removes them.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean

import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_encoded
from freezeframe.models.deblur.psf_estimator import MAX_OFFSET, NUM_RADII, RADIUS_STEP, cepstrum
from freezeframe.models.registry.bundled import read_psf_estimator
from freezeframe.models.store.catalog import CATALOGUE, Degradation, Release
from freezeframe.models.store.weights_cache import Weights, download_hint
from freezeframe.motion.diagnosis.diagnose import noise_level
from freezeframe.motion.diagnosis.jpeg_quality import estimate_jpeg_quality
from freezeframe.pipeline.config import GateConfig
from freezeframe.pipeline.stages.gate import blur_threshold
from freezeframe.pipeline.support.crops import center_crop

CLEAN_REASON = "No degradation found"

BY_NAME_ONLY = frozenset({"VarFormer", "DreamClear"})  # slow generative models: their detail is hallucinated


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionConfig:
    """Thresholds of detection and selection."""

    min_noise: float = 5.0  # standard deviation, of 255; finer grain is film's, networks are trained from 15
    max_jpeg_quality: int = 60  # JPEG quality from which the loss is not worth a restorer
    min_blur_px: float = 3.0  # pixels of motion blur; shorter blur is hardly visible
    min_radius_px: float = 1.0  # radius of defocus in pixels; likewise
    crop_size_px: int = 1536  # side in pixels of the middle that is examined
    max_level_ratio: float = 1.7  # level mismatch up to which a specialist beats a model for all levels


DEFAULT = SelectionConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradations:
    """Degradations of a picture."""

    noise: float = 0.0  # standard deviation of the code values of each channel, of 255
    quality: int | None = None  # JPEG quality of an earlier compression; None: not detectable
    blur: float = 0.0  # pixels of motion blur; 0 below what a single picture shows
    defocus: float = 0.0  # standard deviation in pixels; 0: in focus
    grayscale: bool = False

    @property
    def types(self) -> Mapping[Degradation, float]:
        """Severity by degradation, the worst first; for noise and JPEG the RMS error, of 255."""
        severities: dict[Degradation, float] = {}
        if self.noise >= DEFAULT.min_noise:
            severities["noise"] = self.noise
        if self.quality is not None and self.quality < DEFAULT.max_jpeg_quality:
            # An approximation for colour JPEG of photographs: 26 dB at quality 10, 30 dB at 40.
            severities["jpeg"] = 10 * (20 / self.quality) ** 0.4
        if self.blur:
            severities["blur"] = self.blur
        if self.defocus:
            severities["defocus"] = self.defocus
        return dict(sorted(severities.items(), key=lambda item: -item[1]))

    def text(self) -> str:
        """As text, such as `noise of 24.8 / 255 and JPEG of quality 20`."""
        phrases: dict[Degradation, str] = {
            "noise": f"noise of {self.noise:.1f} / 255",
            "jpeg": f"JPEG of quality {self.quality}",
            "blur": f"motion blur over {self.blur:.0f} px",
            "defocus": f"defocus of {self.defocus:.1f} px",
        }
        return " and ".join(phrases[type_name] for type_name in self.types) or "no degradation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The restorer selected for a picture, and the reason."""

    weights: Weights | None  # None: no restorer
    reason: str
    is_clean: bool = False  # no degradation was found


def unchanged_reason(choice: Choice) -> str:
    """The message for a picture that did not change."""
    if choice.weights is None:
        return choice.reason
    return f"{choice.weights.name} changed nothing; file copied unchanged"


def detect_degradations(linear: Tensor, config: SelectionConfig = DEFAULT) -> Degradations:
    """Estimate noise, JPEG quality, blur and defocus of a [3, H, W] linear RGB picture."""
    center = center_crop(linear, config.crop_size_px, multiple=8)  # JPEG's blocks stay aligned
    encoded = to_encoded(center, SRGB).clamp(0, 1).cpu()
    length, radius = _estimate_blur(encoded, config)
    min_blur = max(config.min_blur_px, blur_threshold((linear.shape[-2], linear.shape[-1]), GateConfig()))
    return Degradations(
        noise=255 * mean(noise_level(plane.numpy()) for plane in encoded),
        quality=estimate_jpeg_quality((255 * encoded).round().permute(1, 2, 0).numpy()),
        blur=length if length >= min_blur else 0.0,
        defocus=radius / 2,  # standard deviation of a uniform disk along one axis
        grayscale=bool(torch.equal(encoded[0], encoded[1]) and torch.equal(encoded[0], encoded[2])),
    )


def _estimate_blur(encoded: Tensor, config: SelectionConfig) -> tuple[float, float]:
    """Expected motion blur length and defocus radius in pixels; 0 if sharp is more probable."""
    with torch.no_grad():
        offset_probs, radius_probs = read_psf_estimator()(cepstrum(encoded[None]))
    lags = torch.arange(-MAX_OFFSET, MAX_OFFSET + 1.0)
    lengths, offset_probs = torch.hypot(lags[:, None], lags), offset_probs[0].exp()
    sizes, radius_probs = RADIUS_STEP * torch.arange(NUM_RADII), radius_probs[0].exp()
    sharp_length = float(offset_probs[lengths < config.min_blur_px].sum())
    sharp_radius = float(radius_probs[sizes < config.min_radius_px].sum())
    length, radius = float((offset_probs * lengths).sum()), float((radius_probs * sizes).sum())
    return length if sharp_length < 0.5 else 0.0, radius if sharp_radius < 0.5 else 0.0


def choose(degradations: Degradations, available: Sequence[Weights]) -> Choice:
    """The best of `available` for the degradations of a picture; none if it is clean or no model fits."""
    types = list(degradations.types)
    if not types:
        return Choice(weights=None, reason=f"{CLEAN_REASON}; file copied unchanged", is_clean=True)
    by_release = {weights.release: weights for weights in available if weights.release}
    # A specialist is better on a single degradation, an all-in-one model on several.
    order: list[Degradation] = ["all_in_one", *types] if len(types) > 1 else [*types, "all_in_one"]
    for type_name in order:
        best = _best(degradations, type_name, by_release)
        if best is not None:
            weights = by_release[best]
            return Choice(
                weights=weights, reason=f"{degradations.text()}: restored with {weights.name} ({best.task})"
            )
    reason = f"{degradations.text()}, but no restorer for that is installed; {_install_hint(degradations)}"
    return Choice(weights=None, reason=reason)


def _usable(release: Release | None, *, grayscale: bool) -> bool:
    """Whether a release may be selected automatically; checkpoints without a target only run by name."""
    if release is None or release.scale > 1 or release.architecture in BY_NAME_ONLY:
        return False
    return release.channels == 3 or grayscale


def _distance(degradations: Degradations, release: Release) -> tuple[float, bool]:
    """Sort key: log ratio of the restorer's level to the picture's; then RGB models on grayscale last."""
    needless_color = degradations.grayscale and release.channels == 3
    measured = {"noise": degradations.noise, "jpeg": degradations.quality}.get(release.target)
    if not release.level or not measured:
        return math.log(DEFAULT.max_level_ratio), needless_color
    return abs(math.log(release.level / measured)), needless_color


def _best(degradations: Degradations, type_name: Degradation, releases: Iterable[Release]) -> Release | None:
    candidates = [
        r for r in releases if r.target == type_name and _usable(r, grayscale=degradations.grayscale)
    ]
    return min(candidates, key=partial(_distance, degradations), default=None)


def _install_hint(degradations: Degradations) -> str:
    """The command or link for the best release of the catalogue; those with a download link come first."""
    ordered = sorted(CATALOGUE.values(), key=lambda release: release.url is None)
    best = next(
        filter(None, (_best(degradations, type_name, ordered) for type_name in degradations.types)), None
    )
    return download_hint(best) if best else "see `freezeframe models list`"
