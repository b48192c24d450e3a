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
from freezeframe.models.deblur.shutter_net import FRACTIONS, ShutterNet
from freezeframe.models.registry.bundled import read_shutter_net
from freezeframe.motion.flow.velocity import estimate_velocities

from .patches import extract_patches
from .spectra import Array, Spectra, motion_spectra

SHUTTER_FRACTIONS = np.round(np.arange(0.02, 1.161, 0.02), 2)  # looked at; above 1 only to see the slope at 1
_SLOPE_EXPONENTS = np.linspace(
    -2, 2, 13
)  # exponents: how much steeper a scene falls along the motion than across it
_SLOPE_STD, _GAIN_STD = 0.7, 1.2  # how much scenes differ so, standard deviations
_MAX_FREQUENCY = 0.35  # cycles per pixel; above is mostly noise and interpolation
# Shares of the power that stand in blur's gaps: uneven speed leaves a little, compression fills in much more.
_NULL_FILLS = np.array([0.02, 0.1, 0.25, 0.5])
_FILL_PENALTY = (
    2.0  # nats by which each is less likely than the one before; a clip has one for all its frames
)
_NOISE_FACTORS = (
    0.8,
    1.2,
    1.8,
    2.7,
)  # noise between the highest frequencies and the rest, softened by interpolation
_PROFILES_PER_SAMPLE = 120  # profiles per independent one: neighbours see the same edges
_MAX_LOG_RATIO = 4.0  # nats: no group of points may rule out a shutter for good
_NETWORK_TOLERANCE = 0.2  # how closely the network tells a shutter, in frame intervals
_NETWORK_WEIGHT_NEAR = 0.5  # what its word is worth within that
_MAX_PENALTY = 12.0  # nats that spectra may then say against a shutter
# The same where the network sees hardly any blur, up to so many frame intervals: sharpening what is sharp
# does more harm than leaving a little blur.
_SHORT_SHUTTER, _MAX_PENALTY_SHORT = 0.14, 3.0
_MIN_LOG_LIKELIHOOD = (
    -10.0
)  # nats that the network says of a shutter at worst, and of those longer than a frame interval
_WINDOW = np.arange(-1.75, 1.76, 0.5)  # bins over which the Hann window smears a frequency
_WINDOW_RESPONSE = (np.sinc(_WINDOW) / (1 - _WINDOW**2)) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutterEstimate:
    """What the frames say about their shutter."""

    fraction: float  # exposure time over frame interval, (0, 1]
    confidence: float  # probability that the true fraction is within 0.1; 0 where nothing moves
    spectral_log_likelihood: (
        Array  # of spectra: log-likelihood of each of `_NULL_FILLS` and SHUTTERS, [F, S] nats, the best at 0
    )
    network_log_likelihood: (
        Array  # of the network: log-likelihood of SHUTTERS, [S] nats; all 0 where it saw nothing
    )

    def posterior_median(self, prior_mean: float, prior_std: float) -> float:
        """Median of what is probable after the evidence, where shutters are usually so long, give or take."""
        log_posterior = _log_posterior(self.spectral_log_likelihood, self.network_log_likelihood)
        posterior = np.exp(log_posterior - ((SHUTTER_FRACTIONS - prior_mean) / prior_std) ** 2 / 2) * (
            SHUTTER_FRACTIONS <= 1
        )
        return float(SHUTTER_FRACTIONS[np.searchsorted(posterior.cumsum(), posterior.sum() / 2)])


def estimate_shutter(images: Tensor, flows: Mapping[tuple[int, int], Flow]) -> ShutterEstimate:
    """Measure the shutter fraction of consecutive frames. Takes no gradient.

    Args:
        images: [T, 3, H, W] linear RGB. Four frames in brisk motion are enough.
        flows: (i, j): frame i found in frame j, for neighbours i and j.
    """
    velocity, confidence = estimate_velocities(flows, len(images))
    # A frame seen from both sides tells how steadily it moved; the ends serve only where nothing else can.
    inner = range(1, len(images) - 1) if len(images) > 2 else range(len(images))
    spectral = sum(
        (_spectral_log_likelihood(images[i], velocity[i], confidence[i]) for i in inner), _no_evidence()
    )
    return _estimate(spectral, _network_log_likelihood(images, flows))


def pool_shutters(estimates: Sequence[ShutterEstimate]) -> ShutterEstimate:
    """One shutter for several glimpses of a clip: their evidence added up, none with a veto."""
    return _estimate(
        sum((estimate.spectral_log_likelihood for estimate in estimates), _no_evidence()),
        sum((estimate.network_log_likelihood for estimate in estimates), np.zeros(len(SHUTTER_FRACTIONS))),
    )


def blur_vectors(velocity: Tensor, shutter: float) -> Tensor:
    """The path of each point while the shutter was open: [..., 2, H, W] pixels, as `velocity` per frame."""
    return velocity * shutter


def _spectral_log_likelihood(image: Tensor, velocity: Tensor, confidence: Tensor) -> Array:
    """What the spectra of one frame say: [F, S] nats."""
    luminance = np.tensordot(np.array(LUMA, np.float32), image.detach().cpu().numpy(), axes=1)
    field = velocity.detach().permute(1, 2, 0).cpu().numpy()
    groups = motion_spectra(luminance, field, confidence.detach().cpu().numpy())
    if not groups:
        return _no_evidence()
    # The mean, not the sum: groups of one frame share its scene and its mistakes.
    log_likelihood = np.mean([_log_likelihood(group) for group in groups], axis=0)
    return np.asarray(log_likelihood - log_likelihood.max())


def _network_log_likelihood(images: Tensor, flows: Mapping[tuple[int, int], Flow]) -> Array:
    """What the network says of consecutive frames: [S] nats, all 0 where it saw nothing."""
    patches = extract_patches(images, flows)
    if not patches:
        return np.zeros(len(SHUTTER_FRACTIONS))
    network = _shutter_network()
    with torch.no_grad():
        votes = torch.cat([network(each.pixels, each.features) for each in patches])
        log_likelihood = network.combine(votes).numpy()
    log_posterior = np.interp(SHUTTER_FRACTIONS, FRACTIONS, log_likelihood - log_likelihood.max())
    return np.asarray(
        np.where(SHUTTER_FRACTIONS <= 1, np.maximum(log_posterior, _MIN_LOG_LIKELIHOOD), _MIN_LOG_LIKELIHOOD)
    )


@cache
def _shutter_network() -> ShutterNet:
    return read_shutter_net()


def _no_evidence() -> Array:
    """No evidence at all."""
    return np.zeros((len(_NULL_FILLS), len(SHUTTER_FRACTIONS)))


def _log_posterior(spectral_log_likelihood: Array, network_log_likelihood: Array) -> Array:
    """[S] nats after both witnesses, each shutter with the fill that explains it best; the best at 0."""
    spectral = (spectral_log_likelihood - _FILL_PENALTY * np.arange(len(_NULL_FILLS))[:, None]).max(0)
    if network_log_likelihood.any():
        network_best = SHUTTER_FRACTIONS[np.argmax(network_log_likelihood)]
        near_network = np.abs(SHUTTER_FRACTIONS - network_best) <= _NETWORK_TOLERANCE
        max_penalty = _MAX_PENALTY if network_best > _SHORT_SHUTTER else _MAX_PENALTY_SHORT
        # Spectra decide within reach of the network's answer, may doubt it, and never bring up another one.
        spectral = np.clip(spectral - spectral[near_network].max(), -max_penalty, 0)
        network_log_likelihood = np.where(near_network, _NETWORK_WEIGHT_NEAR, 1) * (
            network_log_likelihood - network_log_likelihood.max()
        )
    total = spectral + network_log_likelihood
    return np.asarray(total - total.max())


def _estimate(spectral_log_likelihood: Array, network_log_likelihood: Array) -> ShutterEstimate:
    log_posterior = _log_posterior(spectral_log_likelihood, network_log_likelihood)
    possible = SHUTTER_FRACTIONS <= 1
    best = int(np.argmax(log_posterior))
    posterior = np.exp(log_posterior)
    near_best = np.abs(SHUTTER_FRACTIONS - SHUTTER_FRACTIONS[best]) <= 0.1 + 1e-9
    # Chance alone would put so much there; no evidence is no confidence.
    mass, chance = posterior[near_best].sum() / posterior.sum(), near_best.mean()
    return ShutterEstimate(
        fraction=float(min(SHUTTER_FRACTIONS[best], SHUTTER_FRACTIONS[possible][-1])),
        confidence=float(max(0.0, (mass - chance) / (1 - chance))),
        spectral_log_likelihood=spectral_log_likelihood - spectral_log_likelihood.max(),
        network_log_likelihood=network_log_likelihood,
    )


def _log_likelihood(group: Spectra) -> Array:
    """Log-likelihood of `_NULL_FILLS` and SHUTTERS, [F, S] nats, at the best tilt and noise of the scene."""
    frequency = np.arange(len(group.parallel)) / group.length
    band = (frequency >= 1.9 / group.length) & (frequency <= _MAX_FREQUENCY)
    noise_shape = np.sin(np.pi * frequency) ** 2  # of white noise in the steps from pixel to pixel
    noise = min(
        (power / np.maximum(noise_shape, 1e-9))[frequency > 0.4].mean()
        for power in (group.parallel, group.perpendicular)
    )
    attenuation = _attenuation(frequency[band], group)
    slope = (frequency[band] / 0.1) ** _SLOPE_EXPONENTS[:, None, None]  # [T, 1, F]
    best = np.full((len(_NULL_FILLS), len(SHUTTER_FRACTIONS)), -np.inf)
    for (k, fill), factor in product(enumerate(_NULL_FILLS), _NOISE_FACTORS):
        transfer = fill + (1 - fill) * attenuation
        floor = factor * noise * noise_shape[band]
        scene = np.maximum(group.perpendicular[band] - floor, 0.05 * group.perpendicular[band])
        fit, gain = _whittle(group.parallel[band], scene * slope * transfer, floor)
        penalty = (_SLOPE_EXPONENTS[:, None] / _SLOPE_STD) ** 2 + (np.log(gain) / _GAIN_STD) ** 2
        best[k] = np.maximum(best[k], (fit * group.count / _PROFILES_PER_SAMPLE - penalty / 2).max(0))
    return np.asarray(np.maximum(best - best.max(), -_MAX_LOG_RATIO))


def _attenuation(frequency: Array, group: Spectra) -> Array:
    """[S, F] power that each shutter leaves at each frequency, as the window of a profile sees it."""
    shifted_frequency = np.abs(frequency[:, None] + _WINDOW / group.length)  # [F, W]
    cycles = SHUTTER_FRACTIONS[:, None, None, None] * shifted_frequency[None, :, :, None] * group.speeds
    return np.asarray((np.sinc(cycles) ** 2).mean(-1) @ _WINDOW_RESPONSE / _WINDOW_RESPONSE.sum())


def _whittle(power: Array, shape: Array, floor: Array) -> tuple[Array, Array]:
    """Log-likelihood per profile [...] of power [F] as gain * shape [..., F] + floor [F]; the best gain."""
    gain, ones = np.ones((*shape.shape[:-1], 1)), np.ones_like(power)
    for _ in range(12):  # multiplicative updates, as for non-negative factors with an Itakura-Saito loss
        inverse = 1 / (gain * shape + floor)
        ratio = shape * inverse
        # Products with a vector: NumPy's sums over a short last axis take twice as long.
        gain = gain * (((ratio * inverse) @ power) / (ratio @ ones))[..., None] ** 0.7
    model = gain * shape + floor
    return -np.asarray((power / model + np.log(model)).sum(-1)), gain[..., 0]
