"""Cepstra of small windows all over a picture, sampled at the blur vectors that a line could have.

Motion blur along a line v leaves a minimum at the lag v of the cepstrum (`psf_estimator.py`). These cepstra
are local, and sampled on a polar grid of directions and lengths: to turn the picture by a quarter turn is to
shift them by half the directions.

Nothing here takes a gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from freezeframe.data.color import LUMA, SRGB, to_linear

CELL = 32  # pixels between windows
WINDOW = 64  # pixels: side of a window
NUM_DIRECTIONS = 24  # of lines, over half a turn
LENGTHS = (1.5, 2.25, 3.0, 4.0, 5.0, 6.0, 7.5, 9.0, 11.0, 13.0, 15.5, 18.5, 22.0, 26.0, 31.0, 37.0)  # pixels
CHANNELS = 3  # one window; the mean power of nine; the same at half the resolution
_NOISE_FLOOR = 1 / 255  # code values of [0, 1]; smaller amplitudes carry no information
_MAX_LAG = 0.48 * WINDOW  # pixels of a window; beyond, a cepstrum repeats


class LocalCepstrum(nn.Module):
    """Cepstra [B, CHANNELS, NUM_DIRECTIONS, len(LENGTHS), H / 32, W / 32] of pictures [B, 3, H, W].

    Pictures are sRGB-encoded in [0, 1], their sides multiples of 32. Windows do not leave the picture: what
    a border mirrors would be blurred in the mirrored direction.
    """

    taper: Tensor
    basis: Tensor
    half_basis: Tensor

    def __init__(self) -> None:
        super().__init__()
        taper = torch.hann_window(WINDOW, periodic=False)
        self.register_buffer("taper", taper[:, None] * taper, persistent=False)
        self.register_buffer("basis", _lag_basis(1.0), persistent=False)
        self.register_buffer("half_basis", _lag_basis(0.5), persistent=False)

    @torch.no_grad()
    def forward(self, encoded: Tensor) -> Tensor:
        linear = to_linear(encoded.detach().float().clamp(0, 1), SRGB)
        luma = torch.einsum("bchw,c->bhw", linear, linear.new_tensor(LUMA))
        powers = self._powers(luma, cell=CELL)
        half_powers = self._powers(avg_pool2d(luma[:, None], 2)[:, 0], cell=CELL // 2)
        channels = [
            self._sample(powers, self.basis),
            self._sample(_mean_of_nine(powers), self.basis),
            self._sample(_mean_of_nine(half_powers), self.half_basis),
        ]
        return torch.stack(channels, 1)

    def _powers(self, luma: Tensor, *, cell: int) -> Tensor:
        """Power spectra of the windows, [B, WINDOW, WINDOW / 2 + 1, H / cell, W / cell]."""
        rows, columns = (_window_pixels(length, cell=cell, device=luma.device) for length in luma.shape[1:])
        windows = luma[:, rows[:, None, :, None], columns[None, :, None, :]]
        level = (windows * self.taper).sum((-2, -1), keepdim=True) / self.taper.sum()
        powers: Tensor = torch.fft.rfft2((windows - level) * self.taper).abs().square()
        return powers.permute(0, 3, 4, 1, 2)

    def _sample(self, powers: Tensor, basis: Tensor) -> Tensor:
        log_power = (powers + _NOISE_FLOOR**2 * self.taper.square().sum()).log()
        lags = torch.einsum("bfhw,fk->bkhw", log_power.flatten(1, 2), basis)
        return lags.reshape(len(lags), NUM_DIRECTIONS, len(LENGTHS), *lags.shape[2:])


def _mean_of_nine(powers: Tensor) -> Tensor:
    """Mean with the windows around: less noise, of a larger part of the picture."""
    flat = powers.flatten(1, 2)
    return avg_pool2d(flat, 3, stride=1, padding=1, count_include_pad=False).view_as(powers)


def _window_pixels(length: int, *, cell: int, device: torch.device) -> Tensor:
    """[length / cell, WINDOW] pixels of each window along one axis; shorter pictures are mirrored."""
    middles = torch.arange(length // cell, device=device) * cell + cell // 2
    starts = (middles - WINDOW // 2).clamp(0, max(0, length - WINDOW))
    pixels = (starts[:, None] + torch.arange(WINDOW, device=device)) % (2 * length)
    return torch.minimum(pixels, 2 * length - 1 - pixels)


def _lag_basis(scale: float) -> Tensor:
    """[WINDOW * (WINDOW / 2 + 1), K] from a log-spectrum to the cepstrum at the lags of the polar grid.

    The basis is evaluated at the lags themselves, which are no whole pixels; lags that are too long for a
    window are 0.
    """
    angles = math.pi * torch.arange(NUM_DIRECTIONS) / NUM_DIRECTIONS
    lengths = scale * torch.tensor(LENGTHS)
    y, x = (lengths * side[:, None] for side in (angles.sin(), angles.cos()))
    down, across = torch.fft.fftfreq(WINDOW)[:, None], torch.fft.rfftfreq(WINDOW)
    phase = down[..., None, None] * y + across[:, None, None] * x
    # Each frequency stands for its opposite too, but those of the first column. The highest have but one of
    # two signs, which would not turn with the picture.
    weights = torch.full((WINDOW, WINDOW // 2 + 1), 2.0)
    weights[:, 0] = 1.0
    weights[WINDOW // 2], weights[:, -1] = 0.0, 0.0
    basis = weights[..., None, None] * (2 * math.pi * phase).cos() / WINDOW**2
    seen: Tensor = basis * (lengths <= _MAX_LAG)
    return seen.reshape(-1, NUM_DIRECTIONS * len(LENGTHS))
