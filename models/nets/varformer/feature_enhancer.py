"""VarFormer's enhancement of a degraded latent before quantisation (AIEM, arXiv 2412.21063).

Four blocks like NAFNet's: gate, channel attention, large-kernel attention (Guo et al. 2022, 2202.09741), then
tone curves (Guo et al. 2020, Zero-DCE, 2001.06826): the curve of each quarter of the channels is predicted
from the other three. The publication fixes the operations; the names of the layers are this module's own.
"""

from __future__ import annotations

import torch
from torch import Tensor, cat, nn

from freezeframe.models.nets.nafnet import LayerNorm2d, simple_gate

QUARTERS = 4
STEPS = 3  # of a curve


class Enhance(nn.Module):
    """Two weighted residuals. [B, C, H, W] to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = 2 * width
        self.norm1 = LayerNorm2d(width)
        self.conv1 = nn.Conv2d(width, wide, 1)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1))
        self.lka = LargeKernel(width)
        self.conv3 = nn.Conv2d(width, width, 1)
        self.norm2 = LayerNorm2d(width)
        self.conv4 = nn.Conv2d(width, wide, 1)
        self.curves = MutualCurves(wide)
        self.conv5 = nn.Conv2d(width, width, 1)
        self.beta, self.gamma = (nn.Parameter(torch.zeros(1, width, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = simple_gate(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.beta * self.conv3(self.sca(y) * self.lka(y) * y)
        z: Tensor = self.conv5(simple_gate(self.curves(self.conv4(self.norm2(x)))))
        return x + self.gamma * z


class LargeKernel(nn.Module):
    """Attention per pixel and channel from 23 x 23 pixels: 5 x 5, 7 x 7 with dilation 3, 1 x 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.conv_spatial = nn.Conv2d(width, width, 7, padding=9, groups=width, dilation=3)
        self.conv1 = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.conv1(self.conv_spatial(self.conv0(x)))
        return weights


class MutualCurves(nn.Module):
    """Apply to each quarter of the channels, clamped to [0, 1], a curve predicted from the other three."""

    def __init__(self, width: int) -> None:
        super().__init__()
        quarter = width // QUARTERS
        self.bends = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width - quarter, quarter, 3, padding=1), nn.GELU(), nn.Conv2d(quarter, quarter, 1)
            )
            for _ in range(QUARTERS)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = x.chunk(QUARTERS, dim=1)
        curved = [
            curve(parts[i], strength(cat([part for j, part in enumerate(parts) if j != i], dim=1)))
            for i, strength in enumerate(self.bends)
        ]
        return cat(curved, dim=1)


def curve(x: Tensor, strength: Tensor) -> Tensor:
    """Add strength x (1 - x) three times to x, clamped to [0, 1]: 0 and 1 are fixed points."""
    x = x.clamp(0, 1)
    for _ in range(STEPS):
        x = x + strength * x * (1 - x)
    return x
