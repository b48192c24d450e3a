"""Which restorer a picture needs: what ails it, and who of those at hand cures that.

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

MIN_NOISE = 5.0  # of 255, standard deviation; finer grain is film's, and no network here is trained below 15
MAX_JPEG_QUALITY = 60  # JPEG quality from which on the loss is not worth a restorer
MIN_BLUR_PX = 3.0  # pixels; shorter ways hardly show
MIN_RADIUS_PX = 1.0  # pixels of radius; likewise
CROP_SIZE_PX = 1536  # pixels; of larger pictures the middle is looked at
MAX_LEVEL_RATIO = 1.7  # times off its level a restorer still serves better than one that takes every level

CLEAN_REASON = "no damage detected"

BY_NAME_ONLY = frozenset({"VarFormer", "DreamClear"})  # slow, and they invent


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradations:
    """What ails a picture."""

    noise: float = 0.0  # standard deviation of each colour's codes, of 255
    quality: int | None = None  # of the JPEG it last was; None where that does not show
    blur: float = 0.0  # pixels of motion blur, 0 below what a lone picture tells
    defocus: float = 0.0  # pixels, standard deviation, 0 where it is in focus
    grayscale: bool = False

    @property
    def types(self) -> Mapping[Degradation, float]:
        """How bad each is, the worst first; for noise and JPEG the error it makes, of 255."""
        severities: dict[Degradation, float] = {}
        if self.noise >= MIN_NOISE:
            severities["noise"] = self.noise
        if self.quality is not None and self.quality < MAX_JPEG_QUALITY:
            # Near what colour JPEG loses of photographs: 26 dB at quality 10, 30 at 40.
            severities["jpeg"] = 10 * (20 / self.quality) ** 0.4
        if self.blur:
            severities["blur"] = self.blur
        if self.defocus:
            severities["defocus"] = self.defocus
        return dict(sorted(severities.items(), key=lambda item: -item[1]))

    def text(self) -> str:
        """In words, such as `noise of 24.8 / 255 and JPEG of quality 20`."""
        phrases: dict[Degradation, str] = {
            "noise": f"noise of {self.noise:.1f} / 255",
            "jpeg": f"JPEG of quality {self.quality}",
            "blur": f"motion blur over {self.blur:.0f} px",
            "defocus": f"defocus of {self.defocus:.1f} px",
        }
        return " and ".join(phrases[type_name] for type_name in self.types) or "no damage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Who restores a picture, None for nobody, and why."""

    weights: Weights | None
    reason: str
    is_clean: bool = False  # whether nothing ails it


def unchanged_reason(choice: Choice) -> str:
    """What to say of a picture that is the same as before."""
    return (
        choice.reason
        if choice.weights is None
        else f"{choice.weights.name} changed nothing; copied unchanged"
    )


def detect_degradations(linear: Tensor) -> Degradations:
    """Look at [3, H, W] linear RGB."""
    center = _center_crop(linear)
    encoded = to_encoded(center, SRGB).clamp(0, 1).cpu()
    length, radius = _blur(encoded)
    min_blur = max(MIN_BLUR_PX, blur_threshold((linear.shape[-2], linear.shape[-1]), GateConfig()))
    return Degradations(
        noise=255 * mean(noise_level(plane.numpy()) for plane in encoded),
        quality=estimate_jpeg_quality((255 * encoded).round().permute(1, 2, 0).numpy()),
        blur=length if length >= min_blur else 0.0,
        defocus=radius / 2,  # of a disk's light, either way
        grayscale=bool(torch.equal(encoded[0], encoded[1]) and torch.equal(encoded[0], encoded[2])),
    )


def _blur(encoded: Tensor) -> tuple[float, float]:
    """Length of the way and radius of the disk that blurred a picture, 0 where sharp is likelier. Pixels."""
    with torch.no_grad():
        offset_probs, radius_probs = read_psf_estimator()(cepstrum(encoded[None]))
    lags = torch.arange(-MAX_OFFSET, MAX_OFFSET + 1.0)
    lengths, offset_probs = torch.hypot(lags[:, None], lags), offset_probs[0].exp()
    sizes, radius_probs = RADIUS_STEP * torch.arange(NUM_RADII), radius_probs[0].exp()
    sharp = float(offset_probs[lengths < MIN_BLUR_PX].sum()), float(radius_probs[sizes < MIN_RADIUS_PX].sum())
    expected = float((offset_probs * lengths).sum()), float((radius_probs * sizes).sum())
    length, radius = (
        size if sharp_probability < 0.5 else 0.0
        for size, sharp_probability in zip(expected, sharp, strict=True)
    )
    return length, radius


def choose(degradations: Degradations, available: Sequence[Weights]) -> Choice:
    """The best of `available` for what ails a picture; nobody where nothing does, or nobody can help."""
    types = list(degradations.types)
    if not types:
        return Choice(weights=None, reason=f"{CLEAN_REASON}; copied unchanged", is_clean=True)
    by_release = {weights.release: weights for weights in available if weights.release}
    # Of one ill a specialist makes more than who cures several; of several, the other way round.
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
    """A file that nobody told what it cures serves only who names it."""
    if release is None or release.scale > 1 or release.architecture in BY_NAME_ONLY:
        return False
    return release.channels == 3 or grayscale


def _distance(degradations: Degradations, release: Release) -> tuple[float, bool]:
    """How far a restorer's level is from the picture's, as a ratio; then, whether it wastes colours."""
    measured = {"noise": degradations.noise, "jpeg": degradations.quality}.get(release.target)
    if not release.level or not measured:
        return math.log(MAX_LEVEL_RATIO), degradations.grayscale and release.channels == 3
    ratio = abs(math.log(release.level / measured))
    return ratio, degradations.grayscale and release.channels == 3


def _best(degradations: Degradations, type_name: Degradation, releases: Iterable[Release]) -> Release | None:
    candidates = [
        r for r in releases if r.target == type_name and _usable(r, grayscale=degradations.grayscale)
    ]
    return min(candidates, key=partial(_distance, degradations), default=None)


def _install_hint(degradations: Degradations) -> str:
    """How to get the release of the catalogue that fits best, with a link where one has it."""
    ordered = sorted(CATALOGUE.values(), key=lambda release: release.url is None)
    best = next(
        filter(None, (_best(degradations, type_name, ordered) for type_name in degradations.types)), None
    )
    return download_hint(best) if best else "see `freezeframe models list`"


def _center_crop(linear: Tensor) -> Tensor:
    height, width = linear.shape[-2:]
    top, left = (max(side - CROP_SIZE_PX, 0) // 2 // 8 * 8 for side in (height, width))
    return linear[:, top : top + CROP_SIZE_PX, left : left + CROP_SIZE_PX]
