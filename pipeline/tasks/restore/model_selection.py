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

from freezeframe.data.color import SRGB, to_signal
from freezeframe.models.deblur.psf_estimator import RADII, REACH, STEP, cepstrum
from freezeframe.models.registry.bundled import read_estimator
from freezeframe.models.store.catalog import CATALOGUE, Ill, Release
from freezeframe.models.store.weights_cache import Weights, how_to_get
from freezeframe.motion.diagnosis.diagnose import noise_level
from freezeframe.motion.diagnosis.jpeg_quality import jpeg_quality
from freezeframe.pipeline.config import GateConfig
from freezeframe.pipeline.stages.gate import blur_threshold

NOISY = 5.0  # of 255, standard deviation; finer grain is film's, and no network here is trained below 15
COARSE = 60  # JPEG quality from which on the loss is not worth a restorer
BLURRED = 3.0  # pixels; shorter ways hardly show
UNSHARP = 1.0  # pixels of radius; likewise
SIDE = 1536  # pixels; of larger pictures the middle is looked at
FAR = 1.7  # times off its level a restorer still serves better than one that takes every level

CLEAN = "no damage detected"

BY_NAME_ONLY = frozenset({"VarFormer", "DreamClear"})  # slow, and they invent


@dataclass(frozen=True, slots=True, kw_only=True)
class Ailment:
    """What ails a picture."""

    noise: float = 0.0  # standard deviation of each colour's codes, of 255
    quality: int | None = None  # of the JPEG it last was; None where that does not show
    blur: float = 0.0  # pixels of motion blur, 0 below what a lone picture tells
    defocus: float = 0.0  # pixels, standard deviation, 0 where it is in focus
    grey: bool = False

    @property
    def ills(self) -> Mapping[Ill, float]:
        """How bad each is, the worst first; for noise and JPEG the error it makes, of 255."""
        found: dict[Ill, float] = {}
        if self.noise >= NOISY:
            found["noise"] = self.noise
        if self.quality is not None and self.quality < COARSE:
            # Near what colour JPEG loses of photographs: 26 dB at quality 10, 30 at 40.
            found["jpeg"] = 10 * (20 / self.quality) ** 0.4
        if self.blur:
            found["blur"] = self.blur
        if self.defocus:
            found["defocus"] = self.defocus
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def text(self) -> str:
        """In words, such as `noise of 24.8 / 255 and JPEG of quality 20`."""
        words: dict[Ill, str] = {
            "noise": f"noise of {self.noise:.1f} / 255",
            "jpeg": f"JPEG of quality {self.quality}",
            "blur": f"motion blur over {self.blur:.0f} px",
            "defocus": f"defocus of {self.defocus:.1f} px",
        }
        return " and ".join(words[ill] for ill in self.ills) or "no damage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Who restores a picture, None for nobody, and why."""

    weights: Weights | None
    reason: str
    sound: bool = False  # whether nothing ails it


def not_changed(choice: Choice) -> str:
    """What to say of a picture that is the same as before."""
    return (
        choice.reason
        if choice.weights is None
        else f"{choice.weights.name} changed nothing; copied unchanged"
    )


def examine(light: Tensor) -> Ailment:
    """Look at [3, H, W] linear RGB."""
    middle = _middle(light)
    codes = to_signal(middle, SRGB).clamp(0, 1).cpu()
    length, radius = _blur(codes)
    least = max(BLURRED, blur_threshold((light.shape[-2], light.shape[-1]), GateConfig()))
    return Ailment(
        noise=255 * mean(noise_level(plane.numpy()) for plane in codes),
        quality=jpeg_quality((255 * codes).round().permute(1, 2, 0).numpy()),
        blur=length if length >= least else 0.0,
        defocus=radius / 2,  # of a disk's light, either way
        grey=bool(torch.equal(codes[0], codes[1]) and torch.equal(codes[0], codes[2])),
    )


def _blur(codes: Tensor) -> tuple[float, float]:
    """Length of the way and radius of the disk that blurred a picture, 0 where sharp is likelier. Pixels."""
    with torch.no_grad():
        ways, radii = read_estimator()(cepstrum(codes[None]))
    lags = torch.arange(-REACH, REACH + 1.0)
    lengths, ways = torch.hypot(lags[:, None], lags), ways[0].exp()
    sizes, radii = STEP * torch.arange(RADII), radii[0].exp()
    sharp = float(ways[lengths < BLURRED].sum()), float(radii[sizes < UNSHARP].sum())
    expected = float((ways * lengths).sum()), float((radii * sizes).sum())
    length, radius = (size if share < 0.5 else 0.0 for size, share in zip(expected, sharp, strict=True))
    return length, radius


def choose(ailment: Ailment, at_hand: Sequence[Weights]) -> Choice:
    """The best of `at_hand` for what ails a picture; nobody where nothing does, or nobody can help."""
    ills = list(ailment.ills)
    if not ills:
        return Choice(weights=None, reason=f"{CLEAN}; copied unchanged", sound=True)
    by_release = {weights.release: weights for weights in at_hand if weights.release}
    # Of one ill a specialist makes more than who cures several; of several, the other way round.
    order: list[Ill] = ["several", *ills] if len(ills) > 1 else [*ills, "several"]
    for ill in order:
        best = _best(ailment, ill, by_release)
        if best is not None:
            weights = by_release[best]
            return Choice(
                weights=weights, reason=f"{ailment.text()}: restored with {weights.name} ({best.task})"
            )
    reason = f"{ailment.text()}, but no restorer for that is installed; {_advice(ailment)}"
    return Choice(weights=None, reason=reason)


def _usable(release: Release | None, *, grey: bool) -> bool:
    """A file that nobody told what it cures serves only who names it."""
    if release is None or release.scale > 1 or release.architecture in BY_NAME_ONLY:
        return False
    return release.channels == 3 or grey


def _distance(ailment: Ailment, release: Release) -> tuple[float, bool]:
    """How far a restorer's level is from the picture's, as a ratio; then, whether it wastes colours."""
    measured = {"noise": ailment.noise, "jpeg": ailment.quality}.get(release.cures)
    if not release.level or not measured:
        return math.log(FAR), ailment.grey and release.channels == 3
    ratio = abs(math.log(release.level / measured))
    return ratio, ailment.grey and release.channels == 3


def _best(ailment: Ailment, ill: Ill, releases: Iterable[Release]) -> Release | None:
    fitting = [r for r in releases if r.cures == ill and _usable(r, grey=ailment.grey)]
    return min(fitting, key=partial(_distance, ailment), default=None)


def _advice(ailment: Ailment) -> str:
    """How to get the release of the catalogue that fits best, with a link where one has it."""
    ordered = sorted(CATALOGUE.values(), key=lambda release: release.address is None)
    best = next(filter(None, (_best(ailment, ill, ordered) for ill in ailment.ills)), None)
    return how_to_get(best) if best else "see `freezeframe models list`"


def _middle(light: Tensor) -> Tensor:
    height, width = light.shape[-2:]
    top, left = (max(side - SIDE, 0) // 2 // 8 * 8 for side in (height, width))
    return light[:, top : top + SIDE, left : left + SIDE]
