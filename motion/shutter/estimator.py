"""How long the shutter stood open, measured on the frames themselves.

Moving v pixels per frame with the shutter open for a fraction s of it averages v s pixels of the scene,
which multiplies the power spectrum along the motion by sinc(f v s)^2 and leaves the spectrum across it
alone (Yitzhaky & Kopeika 1997 use the same mark for still photos). Flow tells v; the likelihood of the
spectra along the motion, given those across it, then tells s (Whittle 1953).

Codecs fill the gaps of spectra, and slow motion has none within reach. So a second witness, a network that
learned from compressed pictures (`models/deblur/shutter_net.py`), is heard first; spectra then say where
exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from freezeframe.data.color import LUMA
from freezeframe.data.types import Flow
from freezeframe.models.deblur.shutter_net import FRACTIONS, ShutterSense
from freezeframe.models.registry.bundled import read_shutter_sense
from freezeframe.motion.flow.velocity import velocities

from .patches import squares
from .spectra import Array, Spectra, motion_spectra

SHUTTERS = np.round(np.arange(0.02, 1.161, 0.02), 2)  # looked at; above 1 only to see the slope at 1
_TILTS = np.linspace(-2, 2, 13)  # exponents: how much steeper a scene falls along the motion than across it
_TILT_SPREAD, _GAIN_SPREAD = 0.7, 1.2  # how much scenes differ so, standard deviations
_HIGHEST = 0.35  # cycles per pixel; above is mostly noise and interpolation
# Shares of the power that stand in blur's gaps: uneven speed leaves a little, compression fills in much more.
_FILLS = np.array([0.02, 0.1, 0.25, 0.5])
_UNLIKELY = 2.0  # nats by which each is less likely than the one before; a clip has one for all its frames
_FLOORS = (
    0.8,
    1.2,
    1.8,
    2.7,
)  # noise between the highest frequencies and the rest, softened by interpolation
_OVERLAP = 120  # profiles per independent one: neighbours see the same edges
_CAP = 4.0  # nats: no group of points may rule out a shutter for good
_NEAR = 0.2  # how closely the network tells a shutter, in frame intervals
_CLOSELY = 0.5  # what its word is worth within that
_SECOND = 12.0  # nats that spectra may then say against a shutter
# The same where the network sees hardly any blur, up to so many frame intervals: sharpening what is sharp
# does more harm than leaving a little blur.
_SHORT, _DOUBT = 0.14, 3.0
_LEAST = -10.0  # nats that the network says of a shutter at worst, and of those longer than a frame interval
_WINDOW = np.arange(-1.75, 1.76, 0.5)  # bins over which the Hann window smears a frequency
_SMEAR = (np.sinc(_WINDOW) / (1 - _WINDOW**2)) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutterEstimate:
    """What the frames say about their shutter."""

    fraction: float  # exposure time over frame interval, (0, 1]
    confidence: float  # probability that the true fraction is within 0.1; 0 where nothing moves
    evidence: Array  # of spectra: log-likelihood of each of `_FILLS` and SHUTTERS, [F, S] nats, the best at 0
    sensed: Array  # of the network: log-likelihood of SHUTTERS, [S] nats; all 0 where it saw nothing

    def typical(self, usual: float, spread: float) -> float:
        """Median of what is probable after the evidence, where shutters are usually so long, give or take."""
        likely = _likely(self.evidence, self.sensed)
        belief = np.exp(likely - ((SHUTTERS - usual) / spread) ** 2 / 2) * (SHUTTERS <= 1)
        return float(SHUTTERS[np.searchsorted(belief.cumsum(), belief.sum() / 2)])


def shutter_fraction(images: Tensor, flows: Mapping[tuple[int, int], Flow]) -> ShutterEstimate:
    """Measure the shutter fraction of consecutive frames. Takes no gradient.

    Args:
        images: [T, 3, H, W] linear RGB. Four frames in brisk motion are enough.
        flows: (i, j): frame i found in frame j, for neighbours i and j.
    """
    velocity, belief = velocities(flows, len(images))
    # A frame seen from both sides tells how steadily it moved; the ends serve only where nothing else can.
    inner = range(1, len(images) - 1) if len(images) > 2 else range(len(images))
    spectral = sum((_spectral(images[i], velocity[i], belief[i]) for i in inner), _nothing())
    return _estimate(spectral, _sensed(images, flows))


def pool_shutters(estimates: Sequence[ShutterEstimate]) -> ShutterEstimate:
    """One shutter for several glimpses of a clip: their evidence added up, none with a veto."""
    return _estimate(
        sum((estimate.evidence for estimate in estimates), _nothing()),
        sum((estimate.sensed for estimate in estimates), np.zeros(len(SHUTTERS))),
    )


def blur_vectors(velocity: Tensor, shutter: float) -> Tensor:
    """The path of each point while the shutter was open: [..., 2, H, W] pixels, as `velocity` per frame."""
    return velocity * shutter


def _spectral(image: Tensor, velocity: Tensor, belief: Tensor) -> Array:
    """What the spectra of one frame say: [F, S] nats."""
    light = np.tensordot(np.array(LUMA, np.float32), image.detach().cpu().numpy(), axes=1)
    field = velocity.detach().permute(1, 2, 0).cpu().numpy()
    groups = motion_spectra(light, field, belief.detach().cpu().numpy())
    if not groups:
        return _nothing()
    # The mean, not the sum: groups of one frame share its scene and its mistakes.
    found = np.mean([_log_likelihood(group) for group in groups], axis=0)
    return np.asarray(found - found.max())


def _sensed(images: Tensor, flows: Mapping[tuple[int, int], Flow]) -> Array:
    """What the network says of consecutive frames: [S] nats, all 0 where it saw nothing."""
    seen = squares(images, flows)
    if not seen:
        return np.zeros(len(SHUTTERS))
    sense = _sense()
    with torch.no_grad():
        votes = torch.cat([sense(each.pictures, each.facts) for each in seen])
        found = sense.together(votes).numpy()
    likely = np.interp(SHUTTERS, FRACTIONS, found - found.max())
    return np.asarray(np.where(SHUTTERS <= 1, np.maximum(likely, _LEAST), _LEAST))


@cache
def _sense() -> ShutterSense:
    return read_shutter_sense()


def _nothing() -> Array:
    """No evidence at all."""
    return np.zeros((len(_FILLS), len(SHUTTERS)))


def _likely(evidence: Array, sensed: Array) -> Array:
    """[S] nats after both witnesses, each shutter with the fill that explains it best; the best at 0."""
    spectral = (evidence - _UNLIKELY * np.arange(len(_FILLS))[:, None]).max(0)
    if sensed.any():
        told = SHUTTERS[np.argmax(sensed)]
        near = np.abs(SHUTTERS - told) <= _NEAR
        most = _SECOND if told > _SHORT else _DOUBT
        # Spectra decide within reach of the network's answer, may doubt it, and never bring up another one.
        spectral = np.clip(spectral - spectral[near].max(), -most, 0)
        sensed = np.where(near, _CLOSELY, 1) * (sensed - sensed.max())
    both = spectral + sensed
    return np.asarray(both - both.max())


def _estimate(evidence: Array, sensed: Array) -> ShutterEstimate:
    likely = _likely(evidence, sensed)
    possible = SHUTTERS <= 1
    best = int(np.argmax(likely))
    belief = np.exp(likely)
    near = np.abs(SHUTTERS - SHUTTERS[best]) <= 0.1 + 1e-9
    # Chance alone would put so much there; no evidence is no confidence.
    share, chance = belief[near].sum() / belief.sum(), near.mean()
    return ShutterEstimate(
        fraction=float(min(SHUTTERS[best], SHUTTERS[possible][-1])),
        confidence=float(max(0.0, (share - chance) / (1 - chance))),
        evidence=evidence - evidence.max(),
        sensed=sensed,
    )


def _log_likelihood(group: Spectra) -> Array:
    """Log-likelihood of `_FILLS` and SHUTTERS, [F, S] nats, at the best tilt and noise of the scene."""
    frequency = np.arange(len(group.along)) / group.length
    band = (frequency >= 1.9 / group.length) & (frequency <= _HIGHEST)
    colour = np.sin(np.pi * frequency) ** 2  # of white noise in the steps from pixel to pixel
    noise = min(
        (power / np.maximum(colour, 1e-9))[frequency > 0.4].mean() for power in (group.along, group.across)
    )
    attenuation = _attenuation(frequency[band], group)
    tilted = (frequency[band] / 0.1) ** _TILTS[:, None, None]  # [T, 1, F]
    best = np.full((len(_FILLS), len(SHUTTERS)), -np.inf)
    for (k, fill), factor in product(enumerate(_FILLS), _FLOORS):
        kept = fill + (1 - fill) * attenuation
        floor = factor * noise * colour[band]
        scene = np.maximum(group.across[band] - floor, 0.05 * group.across[band])
        fit, gain = _whittle(group.along[band], scene * tilted * kept, floor)
        odd = (_TILTS[:, None] / _TILT_SPREAD) ** 2 + (np.log(gain) / _GAIN_SPREAD) ** 2
        best[k] = np.maximum(best[k], (fit * group.count / _OVERLAP - odd / 2).max(0))
    return np.asarray(np.maximum(best - best.max(), -_CAP))


def _attenuation(frequency: Array, group: Spectra) -> Array:
    """[S, F] power that each shutter leaves at each frequency, as the window of a profile sees it."""
    seen = np.abs(frequency[:, None] + _WINDOW / group.length)  # [F, W]
    turns = SHUTTERS[:, None, None, None] * seen[None, :, :, None] * group.speeds
    return np.asarray((np.sinc(turns) ** 2).mean(-1) @ _SMEAR / _SMEAR.sum())


def _whittle(power: Array, shape: Array, floor: Array) -> tuple[Array, Array]:
    """Log-likelihood per profile [...] of power [F] as gain * shape [..., F] + floor [F]; the best gain."""
    gain, ones = np.ones((*shape.shape[:-1], 1)), np.ones_like(power)
    for _ in range(12):  # multiplicative updates, as for non-negative factors with an Itakura-Saito loss
        inverse = 1 / (gain * shape + floor)
        share = shape * inverse
        # Products with a vector: NumPy's sums over a short last axis take twice as long.
        gain = gain * (((share * inverse) @ power) / (share @ ones))[..., None] ** 0.7
    model = gain * shape + floor
    return -np.asarray((power / model + np.log(model)).sum(-1)), gain[..., 0]
