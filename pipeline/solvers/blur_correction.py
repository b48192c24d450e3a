"""Correction of the blur vectors of a frame by its deconvolved neighbours.

Flow measures the velocity between frames; the motion during an exposure follows from it only through the
shutter fraction of the clip. The neighbours alone, deconvolved, estimate the latent image, and this image,
blurred along the correct vectors, equals the frame. Three parameters per frame are fitted by least squares: a
change of the shutter fraction, and a drift (dx, dy), such as shake that is faster during the exposure than
between the frames. On the REDS pairs the correction gains 0.7 dB.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from freezeframe.data.blur.operator import blur, row_subset


@dataclass(frozen=True, slots=True, kw_only=True)
class BlurCorrectionParams:
    """Tunables of the Gauss-Newton fit. Errors are differences of square roots of linear RGB."""

    iterations: int = 2
    margin_px: int = 4  # pixels at the border without weight
    tolerance: float = 0.05  # error of half the weight; larger ones are occlusions, not wrong blur vectors
    ridge: float = 1e-3  # relative; keeps parameters that the frame does not determine
    rounding_error: float = 5e-5  # error of float32: a smaller derivative is not significant
    probe_px: float = 0.5  # change of the blur vectors for the numerical derivatives


BLUR_CORRECTION_PARAMS = BlurCorrectionParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class BlurCorrection:
    """Correction of the blur vectors of a frame: `d_shutter` times the velocity, and a drift."""

    d_shutter: float = 0.0  # frame intervals
    dx: float = 0.0  # pixels
    dy: float = 0.0  # pixels

    def apply(self, blur_vector: Tensor, velocity: Tensor) -> Tensor:
        """The corrected blur vectors, [2, H, W] pixels."""
        drift = blur_vector.new_tensor([self.dx, self.dy]).view(2, 1, 1)
        return blur_vector + self.d_shutter * velocity + drift

    def rescale(self, scale: float) -> BlurCorrection:
        """The same correction for an image `scale` times as large."""
        return BlurCorrection(d_shutter=self.d_shutter, dx=self.dx * scale, dy=self.dy * scale)


def fit_blur_correction(
    sharp: Tensor,
    blurred: Tensor,
    blur_vector: Tensor,
    velocity: Tensor,
    *,
    params: BlurCorrectionParams = BLUR_CORRECTION_PARAMS,
) -> BlurCorrection:
    """Fit the correction with which `sharp`, blurred along the corrected vectors, is closest to `blurred`.

    Robust Gauss-Newton (Geman-McClure weights). Returns the best iterate, so the fit is never worse than no
    correction.

    Args:
        sharp: Estimate of the latent image. [3, H, W] linear RGB.
        blurred: The recorded frame. [3, H, W] linear RGB.
        blur_vector: Initial blur vectors. [2, H, W] pixels.
        velocity: Pixels per frame interval. [2, H, W].
        params: Tunables.
    """
    margin = params.margin_px
    rows = slice(margin, -margin, 2)  # half of the rows are enough
    target = _sqrt(blurred[:, rows])
    row_vectors, offset = row_subset(blur_vector, rows)
    speed = velocity[:, rows]

    def error(parameters: Tensor) -> Tensor:
        corrected = _correction(parameters).apply(row_vectors, speed)
        return (_sqrt(blur(sharp, corrected, offset=offset)) - target)[:, :, margin:-margin].flatten()

    probe_sizes = params.probe_px / torch.tensor([max(float(velocity.abs().mean()), 1e-3), 1.0, 1.0])
    parameters = torch.zeros(3)
    candidates = []
    for _ in range(params.iterations):
        residual = error(parameters)
        candidates.append((_cost(residual, params), parameters))
        parameters = parameters + _gauss_newton(error, parameters, probe_sizes, residual, params)
    candidates.append((_cost(error(parameters), params), parameters))
    return _correction(min(candidates, key=lambda pair: pair[0])[1])


def _correction(parameters: Tensor) -> BlurCorrection:
    d_shutter, dx, dy = parameters.tolist()
    return BlurCorrection(d_shutter=d_shutter, dx=dx, dy=dy)


def _gauss_newton(
    error: Callable[[Tensor], Tensor],
    parameters: Tensor,
    probe_sizes: Tensor,
    residual: Tensor,
    params: BlurCorrectionParams,
) -> Tensor:
    probes = torch.diag(probe_sizes)
    jacobian = torch.stack([error(parameters + probe) - error(parameters - probe) for probe in probes])
    jacobian = jacobian / (2 * probe_sizes[:, None])
    weighted = jacobian * _weight(residual, params)
    normal, gradient = (weighted @ jacobian.T).double(), (weighted @ residual).double()
    rounding = len(residual) * (params.rounding_error / probe_sizes.double()).square()
    normal += torch.diag(params.ridge * normal.diagonal() + rounding)
    solution: Tensor = torch.linalg.solve(normal, gradient)
    return -solution.float()


def _weight(residual: Tensor, params: BlurCorrectionParams) -> Tensor:
    return 1 / (1 + (residual / params.tolerance).square())


def _cost(residual: Tensor, params: BlurCorrectionParams) -> float:
    return float((_weight(residual, params) * residual.square()).mean())


def _sqrt(linear: Tensor) -> Tensor:
    """Square root, which makes the variance of photon noise uniform."""
    return linear.clamp_min(1e-4).sqrt()
