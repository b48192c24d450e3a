"""Estimation of the point spread function (PSF) from a single image.

Linear motion blur of length L makes zeros in the spectrum, 1 / L apart. In the cepstrum, the spectrum of the
log-spectrum, they become one peak at the offset between the ends of the line (Oppenheim and Schafer 1975;
Cannon, IEEE TASSP 1976). A small network classifies this offset and the radius of a defocus disk. Its output
is probabilities, of which `wiener.py` computes the best linear filter.

Nothing here takes a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from freezeframe.data.color import LUMA, SRGB, to_linear

WINDOW = 128  # pixels; side of an analysis window
MAX_OFFSET = 24  # pixels; the longest motion-blur offsets in x and in y
LAGS = 2 * MAX_OFFSET + 1
NUM_RADII = 11  # defocus radii: 0, 0.5 ... 5 pixels
RADIUS_STEP = 0.5  # pixels between radii
WINDOW_OVERLAP = 4  # windows of a row that cover each pixel, about
MAX_WINDOWS = 13  # per row, as for 512 pixels; in larger images they are further apart
_NOISE_FLOOR = 1 / 255  # code values of [0, 1]; smaller amplitudes carry no information
_CHANNELS = 32
_DILATIONS = (1, 2, 4, 8, 1)  # of the blocks' convolutions, in lags


def cepstrum(encoded: Tensor) -> Tensor:
    """The power cepstrum of linear luma, mean over windows that cover the image.

    Args:
        encoded: [B, 3, H, W] sRGB-encoded in [0, 1].

    Returns:
        [B, LAGS, LAGS] by lag in y and in x, -MAX_OFFSET to MAX_OFFSET pixels; symmetric about the centre.
    """
    linear = to_linear(encoded.detach().float().clamp(0, 1), SRGB)
    luma = torch.einsum("bchw,c->bhw", linear, linear.new_tensor(LUMA))
    windows = _windows(luma)
    window_weights = torch.hann_window(WINDOW, periodic=False, device=encoded.device)
    window_weights = window_weights[:, None] * window_weights
    level = (windows * window_weights).sum((-2, -1), keepdim=True) / window_weights.sum()
    powers = torch.fft.rfft2((windows - level) * window_weights).abs().square().mean(1)
    log_power = (powers + _NOISE_FLOOR**2 * window_weights.square().sum()).log()
    cepstra: Tensor = torch.fft.irfft2(log_power, s=(WINDOW, WINDOW))
    return cepstra.roll((MAX_OFFSET, MAX_OFFSET), (-2, -1))[:, :LAGS, :LAGS]


def _windows(luma: Tensor) -> Tensor:
    """[B, N, WINDOW, WINDOW] of [B, H, W]; images smaller than a window are reflected outward."""
    for axis in (1, 2):
        while luma.shape[axis] < WINDOW:
            count = min(WINDOW - luma.shape[axis], luma.shape[axis])
            luma = torch.cat([luma, luma.flip(axis).narrow(axis, 0, count)], axis)
    return torch.stack(
        [
            luma[:, top : top + WINDOW, left : left + WINDOW]
            for top in _starts(luma.shape[1])
            for left in _starts(luma.shape[2])
        ],
        dim=1,
    )


def _starts(length: int) -> list[int]:
    count = min(-(-(length - WINDOW) * WINDOW_OVERLAP // WINDOW) + 1, MAX_WINDOWS)
    return [round((length - WINDOW) * i / max(1, count - 1)) for i in range(count)]


class PsfEstimator(nn.Module):
    """Probabilities of motion-blur offsets and of defocus radii, from a cepstrum."""

    offset_grid: Tensor
    radial_bins: Tensor

    def __init__(self) -> None:
        super().__init__()
        along = torch.linspace(-1, 1, LAGS)
        x, y = along.expand(LAGS, LAGS), along[:, None].expand(LAGS, LAGS)
        offset_grid = torch.stack([x, y, torch.hypot(x, y)])
        self.register_buffer("offset_grid", offset_grid, persistent=False)
        radial_bins = (
            1 - (MAX_OFFSET * offset_grid[2] - torch.arange(MAX_OFFSET + 1)[:, None, None]).abs()
        ).clamp_min(0)
        self.register_buffer(
            "radial_bins", radial_bins / radial_bins.sum((1, 2), keepdim=True).sqrt(), persistent=False
        )
        # The cepstra of photographs fall about as one over the lag; every lag has its own level.
        self.level = nn.Parameter(torch.zeros(LAGS, LAGS))
        self.size = nn.Parameter(0.5 + 5 * MAX_OFFSET * offset_grid[2])
        self.stem = nn.Conv2d(4, _CHANNELS, 5, padding=2)
        self.blocks = nn.ModuleList(_Block(dilation) for dilation in _DILATIONS)
        self.ways = nn.Conv2d(_CHANNELS, 1, 1)
        # The cepstrum of a disk consists of rings.
        self.read = nn.Linear(MAX_OFFSET + 1 + _CHANNELS, 2 * _CHANNELS)
        self.radii = nn.Linear(2 * _CHANNELS, NUM_RADII)

    def forward(self, cepstra: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities from cepstra [B, LAGS, LAGS].

        Returns:
            Of offsets by (y, x) in pixels, [B, LAGS, LAGS], symmetric about the centre; of radii,
            [B, NUM_RADII].
        """
        normalized = (cepstra[:, None] - self.level) * self.size
        x: Tensor = self.stem(
            torch.cat([normalized, self.offset_grid.expand(len(normalized), -1, -1, -1)], 1)
        )
        for block in self.blocks:
            x = block(x)
        offset_logits = self.ways(x)[:, 0]
        offset_logits = (offset_logits + offset_logits.flip(1, 2)) / 2
        ways = offset_logits.flatten(1).log_softmax(1).unflatten(1, (LAGS, LAGS))
        radial_bins = torch.einsum("bcyx,kyx->bk", normalized, self.radial_bins)
        read = relu(self.read(torch.cat([radial_bins, x.mean((2, 3))], 1)))
        return ways, self.radii(read).log_softmax(1)


class _Block(nn.Module):
    """A dilated residual block with global average pooling. [B, C, LAGS, LAGS] to the same."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=dilation, dilation=dilation)
        self.told = nn.Linear(_CHANNELS, _CHANNELS)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        context: Tensor = self.told(x.mean((2, 3)))
        residual: Tensor = self.second(relu(self.first(x) + context[..., None, None]))
        return x + residual
