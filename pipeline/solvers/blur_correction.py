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

from freezeframe.data.blur.operator import blur, some_rows

MARGIN = 4  # pixels at the border that do not count
TOLERANCE = 0.05  # square root of light; larger errors are occlusion, not a wrong way
RIDGE = 1e-3  # keeps what the frame does not tell
UNSEEN = 5e-5  # square root of light; what a probe changes less is rounding, not evidence
PROBE = 0.5  # pixels by which a way is bent to see what changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What to add to the ways of a frame: `longer` velocities, and a drift in pixels."""

    longer: float = 0.0  # frame intervals
    right: float = 0.0  # pixels
    down: float = 0.0  # pixels

    def of(self, way: Tensor, velocity: Tensor) -> Tensor:
        """The corrected ways, [2, H, W] pixels."""
        drift = way.new_tensor([self.right, self.down]).view(2, 1, 1)
        return way + self.longer * velocity + drift

    def enlarged(self, scale: float) -> Correction:
        """The same for a picture `scale` times as large."""
        return Correction(longer=self.longer, right=self.right * scale, down=self.down * scale)


def fit(sharp: Tensor, blurred: Tensor, way: Tensor, velocity: Tensor, *, rounds: int = 2) -> Correction:
    """Find the correction with which `sharp`, blurred along `way`, comes closest to `blurred`.

    Robust Gauss-Newton (Geman-McClure); the best of all rounds, so never worse than none.

    Args:
        sharp: What the frame should look like. [3, H, W] linear RGB.
        blurred: The frame. [3, H, W] linear RGB.
        way: First guess. [2, H, W] pixels.
        velocity: Motion per frame interval. [2, H, W] pixels.
        rounds: Gauss-Newton steps.
    """
    rows = slice(MARGIN, -MARGIN, 2)  # every other one tells as much
    target = _even(blurred[:, rows])
    some, offset = some_rows(way, rows)
    speed = velocity[:, rows]

    def error(numbers: Tensor) -> Tensor:
        bent = _correction(numbers).of(some, speed)
        return (_even(blur(sharp, bent, offset=offset)) - target)[:, :, MARGIN:-MARGIN].flatten()

    reach = PROBE / torch.tensor([max(float(velocity.abs().mean()), 1e-3), 1.0, 1.0])
    numbers = torch.zeros(3)
    tried = []
    for _ in range(rounds):
        miss = error(numbers)
        tried.append((_cost(miss), numbers))
        numbers = numbers + _gauss_newton(error, numbers, reach, miss)
    tried.append((_cost(error(numbers)), numbers))
    return _correction(min(tried, key=lambda pair: pair[0])[1])


def _correction(numbers: Tensor) -> Correction:
    longer, right, down = numbers.tolist()
    return Correction(longer=longer, right=right, down=down)


def _gauss_newton(error: Callable[[Tensor], Tensor], numbers: Tensor, reach: Tensor, miss: Tensor) -> Tensor:
    probes = torch.diag(reach)
    slopes = torch.stack([error(numbers + probe) - error(numbers - probe) for probe in probes])
    slopes = slopes / (2 * reach[:, None])
    weighted = slopes * _weight(miss)
    normal, pull = (weighted @ slopes.T).double(), (weighted @ miss).double()
    unseen = len(miss) * (UNSEEN / reach.double()).square()
    normal += torch.diag(RIDGE * normal.diagonal() + unseen)
    solution: Tensor = torch.linalg.solve(normal, pull)
    return -solution.float()


def _weight(miss: Tensor) -> Tensor:
    return 1 / (1 + (miss / TOLERANCE).square())


def _cost(miss: Tensor) -> float:
    return float((_weight(miss) * miss.square()).mean())


def _even(light: Tensor) -> Tensor:
    """Light with its photon noise made even."""
    return light.clamp_min(1e-4).sqrt()
