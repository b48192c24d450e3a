"""VAR's multi-scale residual quantiser (Tian et al. 2024, arXiv 2404.02905): latents to maps of code words.

From the coarsest scale to the finest, the residual of the scales before is downsampled to the scale's size,
each of its pixels replaced by the nearest code word, upsampled and subtracted. The latent is the sum of the
contributions of all scales.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

PHIS = 4  # convolutions after upsampling, shared by neighbouring scales
RESIDUAL_RATIO = 0.5  # of the convolution in its sum with the input


class VectorQuantizer(nn.Module):
    """Map latents [B, C, S, S] to code words at every scale, and back."""

    def __init__(self, *, vocab_size: int, width: int, scales: tuple[int, ...]) -> None:
        super().__init__()
        self.scales = scales
        self.embedding = nn.Embedding(vocab_size, width)
        # Usage counts of training, unused here: the files store them.
        self.register_buffer("ema_vocab_hit_SV", torch.zeros(len(scales), vocab_size))
        self.quant_resi = Phis(width)

    def encode(self, latent: Tensor) -> list[Tensor]:
        """Return the indices of the code words at each scale, [B, scale^2] in row-major order."""
        rest = latent
        indices: list[Tensor] = []
        for i, scale in enumerate(self.scales):
            small = interpolate(rest, size=(scale, scale), mode="area")
            indices.append(nearest_codewords(small, self.embedding.weight))
            rest = rest - self.contribution(indices[-1], i)
        return indices

    def contribution(self, indices: Tensor, scale: int) -> Tensor:
        """Map the code words [B, n^2] of scale number `scale` to their contribution [B, C, S, S]."""
        side = self.scales[scale]
        words = self.embedding(indices).transpose(1, 2).reshape(len(indices), -1, side, side)
        if side != self.scales[-1]:
            words = interpolate(words, size=(self.scales[-1],) * 2, mode="bicubic")
        contribution_map: Tensor = self.quant_resi(words, scale / max(len(self.scales) - 1, 1))
        return contribution_map

    def contributions(self, indices: list[Tensor]) -> Tensor:
        """Map code words to the contribution of each scale, [B, scales, C, S, S]; the latent is their sum."""
        return torch.stack([self.contribution(words, i) for i, words in enumerate(indices)], dim=1)

    def inputs(self, contributions: Tensor) -> list[Tensor]:
        """Return the transformer's input tokens for the second, third, ... scale, [B, n^2, C] each.

        Each is the sum of the contributions so far, downsampled to the size of the scale to predict.

        Args:
            contributions: Of the first scales or of all. [B, scales, C, S, S].
        """
        latents = contributions.cumsum(1).unbind(1)
        return [as_tokens(latent, scale) for latent, scale in zip(latents, self.scales[1:], strict=False)]


class Phis(nn.Module):
    """TokenizerConfig after upsampling; each scale uses the one with the nearest position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qresi_ls = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(PHIS))

    def forward(self, x: Tensor, position: float) -> Tensor:
        """[B, C, S, S] to the same; `position` is 0 for the coarsest scale and 1 for the finest."""
        smoothed: Tensor = self.qresi_ls[nearest_phi(position)](x)
        return (1 - RESIDUAL_RATIO) * x + RESIDUAL_RATIO * smoothed


def nearest_phi(position: float) -> int:
    """Return the index of the convolution for a scale: their positions are evenly spaced, 1/12 to 11/12."""
    # Two of ten scales lie exactly between two positions: rounding decides, so it has to be the release's.
    margin = 1 / 3 / PHIS
    return int(np.abs(np.linspace(margin, 1 - margin, PHIS) - position).argmin())


def nearest_codewords(x: Tensor, words: Tensor) -> Tensor:
    """Return the index of the code word [V, C] nearest to each pixel of [B, C, H, W]: [B, H W], row-major.

    Takes no gradient.
    """
    # In double precision, which autocast leaves alone: rounding would confuse similar code words.
    pixels, words = x.flatten(2).transpose(1, 2).double(), words.double()
    # |p - w|^2 without |p|^2, which is the same for every word.
    return (words.square().sum(1) - 2 * pixels @ words.T).argmin(2)


def as_tokens(latent: Tensor, scale: int) -> Tensor:
    """Downsample a latent [B, C, S, S] by area to tokens [B, scale^2, C] in row-major order."""
    return interpolate(latent, size=(scale, scale), mode="area").flatten(2).transpose(1, 2)
