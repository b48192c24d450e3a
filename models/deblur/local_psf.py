"""Local blur of a photograph: the PSF estimator on small windows all over it.

The estimator classifies the cepstrum of a picture that is blurred evenly, and does not mind how large the
window is that the cepstrum comes from. Small windows see how the blur changes, large ones see longer blur,
and windows of a smaller copy of the picture longer blur still.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from freezeframe.data.color import LUMA, SRGB, to_linear

from .psf_estimator import LAGS, MAX_OFFSET, WINDOW, PsfEstimator

_NOISE_FLOOR = 1 / 255  # code values of [0, 1]; smaller amplitudes carry no information
_BATCH = 64  # windows that the estimator sees at once


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowGrid:
    """Windows of one size over a picture."""

    side: int  # pixels of the reduced picture, at most 128
    reduction: int = 1  # by which the picture is made smaller
    step: int = 32  # pixels between windows of the reduced picture, at most
    max_per_row: int = 9  # in larger pictures windows are further apart


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPsfs:
    """Probability of each blur vector in each of N windows."""

    offsets: Tensor  # [N, LAGS, LAGS] by (y, x) in pixels of the reduced picture; 1 for a certain one
    radii: Tensor  # [N, NUM_RADII] log-probabilities of the defocus disk, in the same pixels
    position: Tensor  # [2, N] (x, y) middles of the windows, pixels of the picture
    reduction: int

    def likeliest(self) -> Tensor:
        """[2, N] most probable blur vector (x, y) of each window, in pixels of the picture."""
        at = self.offsets.flatten(1).argmax(1)
        return self.reduction * (torch.stack([at % LAGS, at // LAGS]) - MAX_OFFSET).float()


@torch.no_grad()
def local_psfs(estimator: PsfEstimator, encoded: Tensor, grid: WindowGrid) -> LocalPsfs | None:
    """The local blur of a picture [3, H, W], sRGB-encoded in [0, 1]; None if it is smaller than a window."""
    linear = to_linear(encoded.detach().float().clamp(0, 1), SRGB)
    luma = torch.einsum("chw,c->hw", linear, linear.new_tensor(LUMA))
    luma = avg_pool2d(luma[None], grid.reduction)[0]
    if min(luma.shape) < grid.side:
        return None
    top, left = (_starts(length, grid) for length in luma.shape)
    rows, columns = (start[:, None] + torch.arange(grid.side) for start in (top, left))
    windows = luma[rows[:, None, :, None], columns[None, :, None, :]].flatten(0, 1)
    log_probs, radii = zip(*(estimator(_cepstra(part)) for part in torch.split(windows, _BATCH)), strict=True)
    middles = [grid.reduction * (start + grid.side / 2) - 0.5 for start in (top, left)]
    y, x = torch.meshgrid(*middles, indexing="ij")
    return LocalPsfs(
        offsets=_spread(torch.cat(log_probs).exp()),
        radii=torch.cat(radii),
        position=torch.stack([x.flatten(), y.flatten()]),
        reduction=grid.reduction,
    )


def log_probability(psfs: LocalPsfs, vectors: Tensor, *, floor: float) -> Tensor:
    """Log-probability of blur vectors [N, K, 2] (x, y) pixels in their windows, [N, K]; at least log `floor`.

    Carries gradients to the vectors, away from the floor.
    """
    at = (vectors / psfs.reduction + MAX_OFFSET).clamp(0, LAGS - 1 - 1e-3)
    low = at.detach().floor()
    part = at - low
    x, y = low.long().unbind(-1)
    flat = psfs.offsets.flatten(1)
    total = torch.zeros_like(part[..., 0])
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (part[..., 0] if dx else 1 - part[..., 0]) * (part[..., 1] if dy else 1 - part[..., 1])
            total = total + weight * flat.gather(1, (y + dy) * LAGS + x + dx)
    return (total + floor).log()


def _cepstra(windows: Tensor) -> Tensor:
    """[N, LAGS, LAGS] cepstra of windows [N, S, S], as `psf_estimator.cepstrum` of a larger one."""
    side = windows.shape[-1]
    taper = torch.hann_window(side, periodic=False)
    taper = taper[:, None] * taper
    level = (windows * taper).sum((-2, -1), keepdim=True) / taper.sum()
    powers = torch.fft.rfft2((windows - level) * taper, s=(WINDOW, WINDOW)).abs().square()
    log_power = (powers + _NOISE_FLOOR**2 * taper.square().sum()).log()
    # The estimator knows the level of its own window, which is at the lag 0.
    log_power = log_power + 2 * math.log((WINDOW - 1) / (side - 1))
    cepstra: Tensor = torch.fft.irfft2(log_power, s=(WINDOW, WINDOW))
    return cepstra.roll((MAX_OFFSET, MAX_OFFSET), (-2, -1))[:, :LAGS, :LAGS]


def _spread(offsets: Tensor) -> Tensor:
    """Probabilities [N, LAGS, LAGS] with a share of their neighbours': a vector between two bins has both."""
    side = offsets.new_tensor([0.5, 1.0, 0.5])
    spread: Tensor = conv2d(offsets[:, None], (side[:, None] * side)[None, None], padding=1)
    return spread[:, 0]


def _starts(length: int, grid: WindowGrid) -> Tensor:
    room = length - grid.side
    count = min(-(-room // grid.step) + 1, grid.max_per_row)
    positions: Sequence[int] = [round(room * i / max(1, count - 1)) for i in range(count)]
    return torch.tensor(positions)
