"""Shutter fraction of a clip, estimated from its frames.

Motion by v pixels per frame interval, exposed for a fraction s of it, averages over v s pixels: the power
spectrum parallel to the motion is multiplied by sinc(f v s)^2, the perpendicular one is unchanged (Yitzhaky &
Kopeika 1997 use the same for single photos). v is known from optical flow; the likelihood of the parallel
spectra given the perpendicular ones (Whittle 1953) then gives s.

Codecs fill the zeros of the spectra, and slow motion has none below the Nyquist frequency. Therefore a
network trained on compressed clips (`models/deblur/shutter_net.py`) gives a first estimate, which the spectra
refine.
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

# The grid of all likelihoods; values above 1 only serve to fit the slope at 1.
SHUTTER_FRACTIONS = np.round(np.arange(0.02, 1.161, 0.02), 2)
_WINDOW = np.arange(-1.75, 1.76, 0.5)  # bins of frequency over which the Hann window spreads power
_WINDOW_RESPONSE = (np.sinc(_WINDOW) / (1 - _WINDOW**2)) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutterConfig:
    """Tunables of the likelihoods and of their combination.

    Nuisance parameters of the spectral likelihood are searched on grids: the fraction of power that stands in
    the zeros of the sinc (uneven speed leaves a little, compression much more), the exponent by which the
    spectrum of the scene falls off faster parallel to the motion than perpendicular to it, and the noise
    level relative to that of the highest frequencies.
    """

    null_fills: tuple[float, ...] = (0.02, 0.1, 0.25, 0.5)  # one for all frames of a clip
    fill_penalty: float = 2.0  # nats per step of `null_fills`
    slope_exponents: tuple[float, ...] = tuple(np.linspace(-2, 2, 13).tolist())
    slope_std: float = 0.7  # prior standard deviation of the exponent
    gain_std: float = 1.2  # prior standard deviation of the logarithm of the gain
    noise_factors: tuple[float, ...] = (
        0.8,
        1.2,
        1.8,
        2.7,
    )  # interpolation attenuates the highest frequencies
    max_frequency: float = 0.35  # cycles per pixel; above is mostly noise and interpolation
    profiles_per_sample: int = 120  # profiles per independent one: neighbours share their edges
    max_log_ratio: float = 4.0  # nats: no group of points may exclude a shutter fraction for good

    network_tolerance: float = 0.2  # half width of the interval around the network's estimate
    network_weight: float = 0.5  # of the network's log-likelihood within that interval
    max_penalty: float = 12.0  # nats: limit of the spectral log-likelihood ratio where the network sees blur
    # The same for network estimates up to `short_shutter`: lower, as sharpening a sharp clip does more harm
    # than leaving a little blur.
    short_shutter: float = 0.14
    max_penalty_short: float = 3.0
    min_log_likelihood: float = -10.0  # nats: floor of the network's, and its value for fractions above 1


_DEFAULT = ShutterConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutterEstimate:
    """Estimate of the shutter fraction, and its evidence."""

    fraction: float  # exposure time over frame interval, (0, 1]
    confidence: float  # probability that the true fraction is within 0.1; 0 where nothing moves
    # Log-likelihood of each of `null_fills` and SHUTTER_FRACTIONS by the spectra, [F, S] nats, at most 0.
    spectral_log_likelihood: Array
    # Log-likelihood of SHUTTER_FRACTIONS by the network, [S] nats; all 0 without patches.
    network_log_likelihood: Array

    def posterior_median(
        self, prior_mean: float, prior_std: float, *, config: ShutterConfig = _DEFAULT
    ) -> float:
        """Median of the posterior under a Gaussian prior of the fraction, truncated to (0, 1]."""
        log_posterior = _log_posterior(self.spectral_log_likelihood, self.network_log_likelihood, config)
        posterior = np.exp(log_posterior - ((SHUTTER_FRACTIONS - prior_mean) / prior_std) ** 2 / 2) * (
            SHUTTER_FRACTIONS <= 1
        )
        return float(SHUTTER_FRACTIONS[np.searchsorted(posterior.cumsum(), posterior.sum() / 2)])


def estimate_shutter(
    images: Tensor, flows: Mapping[tuple[int, int], Flow], *, config: ShutterConfig = _DEFAULT
) -> ShutterEstimate:
    """Estimate the shutter fraction of consecutive frames. Takes no gradient.

    Args:
        images: [T, 3, H, W] linear RGB. Four frames in fast motion are enough.
        flows: (i, j): flow from frame i to frame j, for neighbours i and j.
        config: Tunables.
    """
    velocity, confidence = velocities = estimate_velocities(flows, len(images))
    # Acceleration is only known of frames with two neighbours; the ends are used if there are no others.
    inner = range(1, len(images) - 1) if len(images) > 2 else range(len(images))
    spectral = sum(
        (_spectral_log_likelihood(images[i], velocity[i], confidence[i], config) for i in inner),
        _flat_likelihood(config),
    )
    return _combine(spectral, _network_log_likelihood(images, flows, velocities, config), config)


def pool_shutters(
    estimates: Sequence[ShutterEstimate], *, config: ShutterConfig = _DEFAULT
) -> ShutterEstimate:
    """One estimate from those of several samples of a clip: the sum of their log-likelihoods."""
    return _combine(
        sum((estimate.spectral_log_likelihood for estimate in estimates), _flat_likelihood(config)),
        sum((estimate.network_log_likelihood for estimate in estimates), np.zeros(len(SHUTTER_FRACTIONS))),
        config,
    )


def _spectral_log_likelihood(
    image: Tensor, velocity: Tensor, confidence: Tensor, config: ShutterConfig
) -> Array:
    """[F, S] nats, from the spectra of one frame."""
    luminance = np.tensordot(np.array(LUMA, np.float32), image.detach().cpu().numpy(), axes=1)
    field = velocity.detach().permute(1, 2, 0).cpu().numpy()
    groups = motion_spectra(luminance, field, confidence.detach().cpu().numpy())
    if not groups:
        return _flat_likelihood(config)
    # The mean, not the sum: groups of one frame share its scene and its errors.
    log_likelihood = np.mean([_log_likelihood(group, config) for group in groups], axis=0)
    return np.asarray(log_likelihood - log_likelihood.max())


def _network_log_likelihood(
    images: Tensor,
    flows: Mapping[tuple[int, int], Flow],
    velocities: tuple[Tensor, Tensor],
    config: ShutterConfig,
) -> Array:
    """[S] nats, from the network; all 0 without patches."""
    patches = extract_patches(images, flows, velocities=velocities)
    if not patches:
        return np.zeros(len(SHUTTER_FRACTIONS))
    network = _shutter_network()
    with torch.no_grad():
        votes = torch.cat([network(each.pixels, each.features) for each in patches])
        log_likelihood = network.combine(votes).numpy()
    log_likelihood = np.interp(SHUTTER_FRACTIONS, FRACTIONS, log_likelihood - log_likelihood.max())
    floor = config.min_log_likelihood
    return np.asarray(np.where(SHUTTER_FRACTIONS <= 1, np.maximum(log_likelihood, floor), floor))


@cache
def _shutter_network() -> ShutterNet:
    return read_shutter_net()


def _flat_likelihood(config: ShutterConfig) -> Array:
    return np.zeros((len(config.null_fills), len(SHUTTER_FRACTIONS)))


def _log_posterior(spectral: Array, network: Array, config: ShutterConfig) -> Array:
    """[S] nats of both log-likelihoods together, maximised over the null fill; the maximum is 0."""
    spectral = (spectral - config.fill_penalty * np.arange(len(config.null_fills))[:, None]).max(0)
    if network.any():
        network_best = SHUTTER_FRACTIONS[np.argmax(network)]
        near = np.abs(SHUTTER_FRACTIONS - network_best) <= config.network_tolerance
        limit = config.max_penalty if network_best > config.short_shutter else config.max_penalty_short
        # The spectra decide near the network's estimate; elsewhere they may lower a fraction, not raise it.
        spectral = np.clip(spectral - spectral[near].max(), -limit, 0)
        network = np.where(near, config.network_weight, 1) * (network - network.max())
    total = spectral + network
    return np.asarray(total - total.max())


def _combine(spectral: Array, network: Array, config: ShutterConfig) -> ShutterEstimate:
    log_posterior = _log_posterior(spectral, network, config)
    possible = SHUTTER_FRACTIONS <= 1
    best = int(np.argmax(log_posterior))
    posterior = np.exp(log_posterior)
    near_best = np.abs(SHUTTER_FRACTIONS - SHUTTER_FRACTIONS[best]) <= 0.1 + 1e-9
    # A flat posterior has `chance` of its mass there, which must give confidence 0.
    mass, chance = posterior[near_best].sum() / posterior.sum(), near_best.mean()
    return ShutterEstimate(
        fraction=float(min(SHUTTER_FRACTIONS[best], SHUTTER_FRACTIONS[possible][-1])),
        confidence=float(max(0.0, (mass - chance) / (1 - chance))),
        spectral_log_likelihood=spectral - spectral.max(),
        network_log_likelihood=network,
    )


def _log_likelihood(group: Spectra, config: ShutterConfig) -> Array:
    """[F, S] nats of `null_fills` and SHUTTER_FRACTIONS, maximised over slope exponent, gain and noise."""
    frequency = np.arange(len(group.parallel)) / group.length
    band = (frequency >= 1.9 / group.length) & (frequency <= config.max_frequency)
    noise_shape = np.sin(np.pi * frequency) ** 2  # first differences of white noise
    noise = min(
        (power / np.maximum(noise_shape, 1e-9))[frequency > 0.4].mean()
        for power in (group.parallel, group.perpendicular)
    )
    attenuation = _attenuation(frequency[band], group)
    exponents = np.array(config.slope_exponents)
    slope = (frequency[band] / 0.1) ** exponents[:, None, None]  # [E, 1, F]
    best = np.full((len(config.null_fills), len(SHUTTER_FRACTIONS)), -np.inf)
    for (k, fill), factor in product(enumerate(config.null_fills), config.noise_factors):
        transfer = fill + (1 - fill) * attenuation
        floor = factor * noise * noise_shape[band]
        scene = np.maximum(group.perpendicular[band] - floor, 0.05 * group.perpendicular[band])
        fit, gain = _whittle(group.parallel[band], scene * slope * transfer, floor)
        penalty = (exponents[:, None] / config.slope_std) ** 2 + (np.log(gain) / config.gain_std) ** 2
        best[k] = np.maximum(best[k], (fit * group.count / config.profiles_per_sample - penalty / 2).max(0))
    return np.asarray(np.maximum(best - best.max(), -config.max_log_ratio))


def _attenuation(frequency: Array, group: Spectra) -> Array:
    """[S, F] factor by which each shutter fraction attenuates power, averaged over speeds and Hann window."""
    shifted_frequency = np.abs(frequency[:, None] + _WINDOW / group.length)  # [F, W]
    cycles = SHUTTER_FRACTIONS[:, None, None, None] * shifted_frequency[None, :, :, None] * group.speeds
    return np.asarray((np.sinc(cycles) ** 2).mean(-1) @ _WINDOW_RESPONSE / _WINDOW_RESPONSE.sum())


def _whittle(power: Array, shape: Array, floor: Array) -> tuple[Array, Array]:
    """Log-likelihood per profile, [...], of power [F] as gain * shape [..., F] + floor [F]; the best gain."""
    # Single precision is half the work; the likelihood is flat around the best gain.
    unit = max(power.mean(), 1e-30)
    small_shape, small_power, small_floor = (
        (each / unit).astype(np.float32) for each in (shape, power, floor)
    )
    gain, ones = np.ones((*shape.shape[:-1], 1), np.float32), np.ones_like(small_power)
    for _ in range(12):  # multiplicative updates of NMF with an Itakura-Saito loss
        inverse = 1 / (gain * small_shape + small_floor)
        ratio = small_shape * inverse
        # Products with a vector: NumPy's sums over a short last axis take twice as long.
        gain = gain * (((ratio * inverse) @ small_power) / (ratio @ ones))[..., None] ** np.float32(0.7)
    gain = gain.astype(np.float64)
    model = gain * shape + floor
    return -np.asarray((power / model + np.log(model)).sum(-1)), gain[..., 0]
