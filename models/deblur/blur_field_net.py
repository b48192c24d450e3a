"""The network of the blur field: logits of lines and of radii for each block of a photograph.

What shows the blur is given to it: local cepstra, whose minima are at the ends of the line
(`local_cepstrum.py`), and the contrast of the derivatives in several directions. A convolutional network on
the picture and on these decides where the blur changes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pixel_unshuffle, relu, softplus

from freezeframe.data.color import LUMA

from .local_cepstrum import CELL, CHANNELS, LENGTHS, NUM_DIRECTIONS, LocalCepstrum

BLOCK = 4  # pixels: side of a block
NUM_LINES = NUM_DIRECTIONS * len(LENGTHS)  # bins of lines; one more is "no line"
RADII = (0.0, 1.0, 1.75, 2.5, 3.25, 4.0, 5.0, 6.0)  # pixels: bins of the radius of defocus
_LAG_CHANNELS = 24
_WIDTHS = (64, 96, 128)  # channels at 1/4, 1/8 and 1/16 of the resolution
_GRID = 160  # channels where pixels and cepstra meet
_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (2, 2), (2, -2))  # (y, x) of the differences
_CONTRAST_FLOOR = 2 / 255  # code values of [0, 1]; smaller differences are noise
_EVIDENCE_RADIUS = 1  # cells, to which a cell's evidence speaks


class BlurFieldNet(nn.Module):
    """Logits of the blur of each block of a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.cepstrum = LocalCepstrum()
        self.lags = _LagNet()
        fine, middle, coarse = _WIDTHS
        self.stem = nn.Conv2d(BLOCK**2 * 4 + len(_DIRECTIONS), fine, 3, padding=1)
        self.fine = _Block(fine)
        self.down_middle = nn.Conv2d(fine, middle, 3, stride=2, padding=1)
        self.middle = _Block(middle)
        self.down_coarse = nn.Conv2d(middle, coarse, 3, stride=2, padding=1)
        self.read_lags = nn.Conv2d(NUM_LINES + 1 + 2 * _LAG_CHANNELS, coarse, 1)
        self.join = nn.Conv2d(2 * coarse, _GRID, 1)
        self.grid = nn.Sequential(_Block(_GRID), _Block(_GRID))
        self.weigh = nn.Conv2d(_GRID, 2, 1)
        self.up_middle = nn.Conv2d(_GRID + middle, middle, 1)
        self.out_middle = _Block(middle)
        self.up_fine = nn.Conv2d(middle + fine, fine, 1)
        self.out_fine = _Block(fine)
        self.gate = nn.Conv2d(fine, 1, 1)
        self.lines = nn.Conv2d(fine, NUM_LINES + 1, 1)
        self.radii = nn.Conv2d(fine, len(RADII), 1)
        with torch.no_grad():
            self.lines.weight.mul_(0.1)

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits from pictures [B, 3, H, W], sRGB-encoded in [0, 1], with sides that are multiples of 32.

        Returns:
            Of lines for each block, [B, NUM_LINES + 1, H / 4, W / 4], by direction, then length; the last is
            "no line". Of lines for each cell of 32 pixels by its cepstra alone. Of radii for each block,
            [B, len(RADII), H / 4, W / 4].
        """
        evidence, summary = self.lags(self.cepstrum(encoded))
        features = _pixel_features(encoded).to(memory_format=torch.channels_last)
        fine = self.fine(self.stem(features))
        middle = self.middle(self.down_middle(relu(fine)))
        coarse = self.down_coarse(relu(middle))
        lags = self.read_lags(torch.cat([evidence, summary], 1))
        grid = self.grid(self.join(relu(torch.cat([coarse, _enlarge(lags, 2)], 1))))
        # Windows that show the same blur are independent witnesses of it: their evidence adds up.
        own, near = softplus(avg_pool2d(self.weigh(grid), 2)).chunk(2, 1)
        side = 2 * _EVIDENCE_RADIUS + 1
        around = avg_pool2d(own * evidence, side, stride=1, padding=_EVIDENCE_RADIUS, count_include_pad=False)
        combined = own * evidence + 2 * near * around
        middle = self.out_middle(self.up_middle(relu(torch.cat([_enlarge(grid, 2), middle], 1))))
        fine = relu(self.out_fine(self.up_fine(relu(torch.cat([_enlarge(middle, 2), fine], 1)))))
        lines = 2 * self.gate(fine).sigmoid() * _enlarge(combined, CELL // BLOCK) + self.lines(fine)
        return lines, evidence, self.radii(fine)


class _LagNet(nn.Module):
    """Evidence for lines of one cell by its cepstra; all directions are treated alike."""

    def __init__(self) -> None:
        super().__init__()
        # The cepstra of photographs fall about as one over the lag.
        self.level = nn.Parameter(torch.zeros(CHANNELS, 1, len(LENGTHS), 1, 1))
        size = 2.0 * torch.tensor(LENGTHS)[:, None, None].clamp(min=2, max=16)
        self.size = nn.Parameter(size.expand(CHANNELS, 1, -1, -1, -1).clone())
        at = torch.linspace(-1, 1, len(LENGTHS)).expand(1, 1, NUM_DIRECTIONS, -1)
        self.register_buffer("at", at, persistent=False)
        self.stem = nn.Conv2d(CHANNELS + 1, _LAG_CHANNELS, 5, padding=(0, 2))
        self.blocks = nn.ModuleList(_LagBlock() for _ in range(2))
        self.directions = nn.Conv2d(_LAG_CHANNELS, 1, 1)
        self.none = nn.Linear(2 * _LAG_CHANNELS, 1)

    at: Tensor

    def forward(self, cepstra: Tensor) -> tuple[Tensor, Tensor]:
        """[B, NUM_LINES + 1, h, w] logits and [B, 2 * _LAG_CHANNELS, h, w] summary of `LocalCepstrum`."""
        batch, _, _, _, height, width = cepstra.shape
        normalized = (cepstra - self.level) * self.size
        cells = normalized.permute(0, 4, 5, 1, 2, 3).flatten(0, 2)
        x = torch.cat([cells, self.at.expand(len(cells), -1, -1, -1)], 1)
        x = self.stem(_wrap(x.to(memory_format=torch.channels_last), 2))
        for block in self.blocks:
            x = block(x)
        summary = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        logits = torch.cat([self.directions(x).flatten(1), self.none(summary)], 1)
        evidence, summary = (
            each.view(batch, height, width, -1).permute(0, 3, 1, 2) for each in (logits, summary)
        )
        return evidence, summary


class _LagBlock(nn.Module):
    """A residual block over directions, which wrap around, and lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(_LAG_CHANNELS, _LAG_CHANNELS, 3, padding=(0, 1))
        self.second = nn.Conv2d(_LAG_CHANNELS, _LAG_CHANNELS, 3, padding=(0, 1))
        self.context = nn.Linear(_LAG_CHANNELS, _LAG_CHANNELS)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        context: Tensor = self.context(x.mean((2, 3)))
        inner = relu(self.first(_wrap(x, 1)) + context[..., None, None])
        residual: Tensor = self.second(_wrap(inner, 1))
        return x + residual


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.second(relu(self.first(relu(x))))
        return x + residual


def _wrap(x: Tensor, count: int) -> Tensor:
    """[B, C, A + 2 count, L]: directions half a turn apart are the same."""
    return torch.cat([x[:, :, -count:], x, x[:, :, :count]], 2)


def _enlarge(x: Tensor, factor: int) -> Tensor:
    return interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)


def _pixel_features(encoded: Tensor) -> Tensor:
    """Colours and locally normalised luma of each block, and its contrast in several directions."""
    luma = torch.einsum("bchw,c->bhw", encoded, encoded.new_tensor(LUMA))[:, None]
    mean = _box(luma)
    spread = (_box(luma.square()) - mean.square()).clamp_min(0).sqrt()
    normalized = (luma - mean) / (spread + _CONTRAST_FLOOR)
    contrasts = []
    for y, x in _DIRECTIONS:
        difference = (luma - luma.roll((y, x), (-2, -1))).abs()
        contrasts.append(_box(avg_pool2d(difference, BLOCK), 3))
    log_contrast = (torch.cat(contrasts, 1) + _CONTRAST_FLOOR).log()
    relative = log_contrast - log_contrast.mean(1, keepdim=True)
    return torch.cat([pixel_unshuffle(torch.cat([encoded - 0.5, normalized], 1), BLOCK), 4 * relative], 1)


def _box(x: Tensor, side: int = 15) -> Tensor:
    """Mean over `side` x `side` pixels: the mean over rows of the mean over columns, which is faster."""
    across = avg_pool2d(x, (1, side), stride=1, padding=(0, side // 2), count_include_pad=False)
    return avg_pool2d(across, (side, 1), stride=1, padding=(side // 2, 0), count_include_pad=False)
