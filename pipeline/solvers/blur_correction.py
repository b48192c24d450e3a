"""How far each frame really blurred: its measured motion, corrected by what its neighbours know.

Flow tells velocities between frames; what the shutter did within one is only known through the clip's shutter
fraction. But the neighbours alone, deconvolved, already show the frame sharp, and that picture, blurred along
the right ways, must give the frame. Three numbers per frame make it so in the least-squares sense: one for
the fraction and two for a steady drift, such as shake that was faster within the exposure than between
frames. On the REDS pairs they are worth 0.7 dB.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from freezeframe.data.blur.operator import blur, row_subset

MARGIN = 4  # pixels at the border that do not count
TOLERANCE = 0.05  # square root of light; larger errors are occlusion, not a wrong way
RIDGE = 1e-3  # keeps what the frame does not tell
ROUNDING_ERROR = 5e-5  # square root of light; what a probe changes less is rounding, not evidence
PROBE = 0.5  # pixels by which a way is bent to see what changes


@dataclass(frozen=True, slots=True, kw_only=True)
class BlurCorrection:
    """What to add to the ways of a frame: `d_shutter` velocities, and a drift in pixels."""

    d_shutter: float = 0.0  # frame intervals
    dx: float = 0.0  # pixels
    dy: float = 0.0  # pixels

    def apply(self, blur_vector: Tensor, velocity: Tensor) -> Tensor:
        """The corrected ways, [2, H, W] pixels."""
        drift = blur_vector.new_tensor([self.dx, self.dy]).view(2, 1, 1)
        return blur_vector + self.d_shutter * velocity + drift

    def rescale(self, scale: float) -> BlurCorrection:
        """The same for a picture `scale` times as large."""
        return BlurCorrection(d_shutter=self.d_shutter, dx=self.dx * scale, dy=self.dy * scale)


def fit_blur_correction(
    sharp: Tensor, blurred: Tensor, blur_vector: Tensor, velocity: Tensor, *, iterations: int = 2
) -> BlurCorrection:
    """Find the correction with which `sharp`, blurred along `blur_vector`, comes closest to `blurred`.

    Robust Gauss-Newton (Geman-McClure); the best of all rounds, so never worse than none.

    Args:
        sharp: What the frame should look like. [3, H, W] linear RGB.
        blurred: The frame. [3, H, W] linear RGB.
        blur_vector: First guess. [2, H, W] pixels.
        velocity: Motion per frame interval. [2, H, W] pixels.
        iterations: Gauss-Newton steps.
    """
    rows = slice(MARGIN, -MARGIN, 2)  # every other one tells as much
    target = _sqrt(blurred[:, rows])
    row_vectors, offset = row_subset(blur_vector, rows)
    speed = velocity[:, rows]

    def error(parameters: Tensor) -> Tensor:
        corrected = _correction(parameters).apply(row_vectors, speed)
        return (_sqrt(blur(sharp, corrected, offset=offset)) - target)[:, :, MARGIN:-MARGIN].flatten()

    probe_sizes = PROBE / torch.tensor([max(float(velocity.abs().mean()), 1e-3), 1.0, 1.0])
    parameters = torch.zeros(3)
    candidates = []
    for _ in range(iterations):
        residual = error(parameters)
        candidates.append((_cost(residual), parameters))
        parameters = parameters + _gauss_newton(error, parameters, probe_sizes, residual)
    candidates.append((_cost(error(parameters)), parameters))
    return _correction(min(candidates, key=lambda pair: pair[0])[1])


def _correction(parameters: Tensor) -> BlurCorrection:
    d_shutter, dx, dy = parameters.tolist()
    return BlurCorrection(d_shutter=d_shutter, dx=dx, dy=dy)


def _gauss_newton(
    error: Callable[[Tensor], Tensor], parameters: Tensor, probe_sizes: Tensor, residual: Tensor
) -> Tensor:
    probes = torch.diag(probe_sizes)
    jacobian = torch.stack([error(parameters + probe) - error(parameters - probe) for probe in probes])
    jacobian = jacobian / (2 * probe_sizes[:, None])
    weighted = jacobian * _weight(residual)
    normal, gradient = (weighted @ jacobian.T).double(), (weighted @ residual).double()
    rounding = len(residual) * (ROUNDING_ERROR / probe_sizes.double()).square()
    normal += torch.diag(RIDGE * normal.diagonal() + rounding)
    solution: Tensor = torch.linalg.solve(normal, gradient)
    return -solution.float()


def _weight(residual: Tensor) -> Tensor:
    return 1 / (1 + (residual / TOLERANCE).square())


def _cost(residual: Tensor) -> float:
    return float((_weight(residual) * residual.square()).mean())


def _sqrt(linear: Tensor) -> Tensor:
    """Light with its photon noise made even."""
    return linear.clamp_min(1e-4).sqrt()
