"""What a single-image restorer learns: degraded patches of photos, and the photos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from freezeframe.data.synthesis.clips.clips import pictures_in
from freezeframe.data.synthesis.degradations.compose import HALF, KINDS, Kind, degrade
from freezeframe.data.synthesis.scene2d.patterns import Chance, Codes, pattern

from .loop import Trial
from .objective import matrices

# How often each kind is drawn: more where more is still to be gained.
SHARES: dict[Kind, float] = {
    "clean": 0.22, "noise": 0.04, "shot": 0.02, "jpeg": 0.30, "motion": 0.07, "shake": 0.06, "defocus": 0.05,
    "rain": 0.03, "haze": 0.04, "dark": 0.03, "mixed": 0.11, "uneven": 0.03,
}  # fmt: skip
DRAWN = 0.08  # share of patches that are drawn and not photographed
NEAREST, FARTHEST = 1.0, 2.0  # photo pixels per patch pixel: smaller is sharper, and more of it fits
DETAIL = 1.5  # codes; mean step between pixels below which another place is cut, up to a few times
TRIES = 4
EVEN = 0.2  # share of sound patches that show next to nothing
PALE = 0.05  # how far colours of such a patch lie from each other, standard deviation, codes
GRAVE = 20.0  # weight of the root: 1 / 20, or 26 dB, is where both have the same slope
FINE = 1e-4  # mean square error, 40 dB, below which little is left to gain
HARM = 300.0  # weight of what makes a picture worse than it came
TINY = 1e-8  # mean square error, 80 dB, below which there is no harm
SOUND = 0.05  # strength up to which a noise or JPEG is that of any sound photograph
JUDGED = 256  # pixels of the middle of each photo that trials look at
CEILING = 60.0  # dB; what a picture without any error counts as


@dataclass(frozen=True, slots=True)
class Patches:
    """The course of a restorer. `made` builds the network; everything else follows from the seed."""

    made: Callable[[], nn.Module]
    pictures: Sequence[Codes]
    size: int  # patches in a batch
    patch: int  # pixels
    seed: int
    judged: Path | None = None  # folder of photos that are never trained on
    inner = staticmethod(matrices)

    def network(self) -> nn.Module:
        return self.made()

    def batch(self, step: int, *, rank: int) -> Tensor:
        """[B, 6, P, P] codes: the patch made worse, and the patch."""
        rng = np.random.default_rng((self.seed, rank, step))
        return torch.stack([self._pair(rng) for _ in range(self.size)])

    def miss(self, model: nn.Module, batch: Tensor) -> Tensor:
        seen, truth = batch[:, :3], batch[:, 3:]
        with torch.autocast(batch.device.type, dtype=torch.bfloat16):
            answer = model(seen.to(memory_format=torch.channels_last))
        return likeness_lost(answer, truth) + HARM * harm_done(seen, answer, truth)

    def trials(self) -> list[Trial]:
        if self.judged is None:
            return []
        photos = [middle(as_codes(codes), JUDGED) for codes in pictures_in(self.judged)]
        return [lambda network: gains(network, photos)]

    def _pair(self, rng: Chance) -> Tensor:
        kind: Kind = rng.choice(list(SHARES), p=np.array(list(SHARES.values())) / sum(SHARES.values()))
        evenly = kind == "clean" and rng.random() < EVEN
        sharp = as_codes(even(rng, side=self.patch) if evenly else cut(rng, self.pictures, side=self.patch))
        seed = int(rng.integers(2**31))
        if kind == "clean" and rng.random() < 0.5:
            trace: Kind = "noise" if rng.random() < 0.5 else "jpeg"
            return torch.cat([degrade(sharp, trace, seed=seed, strength=SOUND * rng.random()), sharp])
        return torch.cat([degrade(sharp, kind, seed=seed), sharp])


def likeness_lost(answer: Tensor, truth: Tensor) -> Tensor:
    """Mean over the batch of log mean square error, decibels but for a factor, and of its root.

    To the logarithm a small improvement of a slight fault is worth a large one of a grave fault. By itself it
    leaves haze and darkness, whose slope is the least, to the last: the root has the same slope for all. Near
    perfection (`FINE`) both level off into the square.

    Args:
        answer: [B, 3, H, W] codes, not clamped.
        truth: [B, 3, H, W] codes in [0, 1].
    """
    error = (answer - truth).float().square().mean((1, 2, 3))
    total: Tensor = ((error + FINE).log() + GRAVE * (error + FINE).sqrt()).mean()
    return total


def harm_done(seen: Tensor, answer: Tensor, truth: Tensor) -> Tensor:
    """How much farther from the truth answers are than what was seen, root mean square codes, batch mean.

    Most of all it keeps sound pictures as they are, where their likeness to themselves says little.
    """
    before, after = (
        ((codes - truth).float().square().mean((1, 2, 3)) + TINY).sqrt() for codes in (seen, answer)
    )
    return (after - before).clamp_min(0).mean()


def even(rng: Chance, *, side: int) -> Codes:
    """A square of one colour, or of four that pass into each other."""
    spread = PALE * rng.integers(2) * rng.normal(0, 1, (2, 2, 3))
    corners = np.clip(rng.uniform(0, 1, 3) + spread, 0, 1).astype(np.float32)
    return np.asarray(cv2.resize(corners, (side, side)) * 255 + 0.5, np.uint8)


def cut(rng: Chance, pictures: Sequence[Codes], *, side: int) -> Codes:
    """A square of one of the pictures, made smaller, mirrored and turned by chance; with detail if it can."""
    if not pictures or rng.random() < DRAWN:
        return pattern(rng, side=side)
    for _ in range(TRIES):
        found = _square(rng, pictures[int(rng.integers(len(pictures)))], side=side)
        if np.abs(np.diff(found.astype(np.int16), axis=1)).mean() >= DETAIL:
            break
    return found


def _square(rng: Chance, picture: Codes, *, side: int) -> Codes:
    shorter = min(picture.shape[:2])
    reach = min(shorter, round(side * rng.uniform(NEAREST, FARTHEST)))
    top, left = (int(rng.integers(length - reach + 1)) for length in picture.shape[:2])
    piece = picture[top : top + reach, left : left + reach]
    if reach != side:
        piece = np.asarray(cv2.resize(piece, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    turned = np.rot90(piece, int(rng.integers(4)))
    return np.ascontiguousarray(turned[:, ::-1] if rng.random() < 0.5 else turned)


def as_codes(picture: Codes) -> Tensor:
    """[H, W, 3] bytes as [3, H, W] codes in [0, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def middle(codes: Tensor, side: int) -> Tensor:
    """The middle `side` x `side` pixels of [3, H, W], or all where it is smaller."""
    height, width = codes.shape[1:]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return codes[:, top : top + side, left : left + side].contiguous()


def gains(network: nn.Module, photos: Sequence[Tensor]) -> dict[str, float]:
    """Decibels gained over the degraded photo by kind, mean over `photos`, each at half strength.

    A clean photo that is changed counts against `CEILING`.
    """
    found: dict[str, float] = {}
    for kind in KINDS:
        pairs = [(degrade(photo, kind, seed=i, strength=HALF), photo) for i, photo in enumerate(photos)]
        each = [decibels(restored(network, worse), photo) - decibels(worse, photo) for worse, photo in pairs]
        found[kind] = sum(each) / len(each)
    return found


def restored(network: nn.Module, codes: Tensor) -> Tensor:
    """[3, H, W] codes in [0, 1] after the network, as whole 255ths. Takes no gradient."""
    device = next(network.parameters()).device
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
        answer: Tensor = network(codes[None].to(device, memory_format=torch.channels_last))[0]
    return (answer.float().cpu().clamp(0, 1) * 255).round() / 255


def decibels(codes: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio, at most `CEILING`. dB."""
    error = float((codes - truth).double().square().mean())
    return float(min(CEILING, -10 * np.log10(max(error, 1e-12))))
