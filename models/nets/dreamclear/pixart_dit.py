"""PixArt-alpha's diffusion transformer for images near 1024 x 1024 (Chen et al. 2023, arXiv 2310.00426).

It predicts the noise in a latent and its uncertainty, given the noise level and a caption. DreamClear adds
control networks (`controlnet`). Modules are named as in the published weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from freezeframe.models.nets.blocks.transformer import Mlp, merge_heads, modulate, split_heads

HEAD = 72  # channels of an attention head
FREQUENCY_DIM = 256  # sines and cosines of the embedding of a number
POSITION_SCALE = 2.0  # of the positions, relative to the model from which this one was fine-tuned
NATIVE_PIXELS = 1024.0  # image size passed to the size embedding, always the same, as in the release


@dataclass(frozen=True, slots=True, kw_only=True)
class PixArtConfig:
    """Sizes of PixArt's transformer."""

    width: int
    depth: int
    patch: int  # latent pixels along one side of a token
    latent: int  # channels
    caption: tuple[int, int]  # tokens, and channels of each
    grid: int  # tokens along one side of the native image


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """Output of a text encoder."""

    features: Tensor  # [B, T, C]
    present: Tensor  # [B, T] bool; False for padding


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Conditions of all blocks."""

    level: Tensor  # embedding of the noise level, [B, width]
    weights: Tensor  # two shifts, scales and gains from it, [B, 6, width]
    text: Tensor  # embedding of the caption, [B, T, width]
    present: Tensor  # [B, T] bool


class PixArt(nn.Module):
    """Map noisy latents [B, C, h, w], sides multiples of `patch`, to noise and uncertainty [B, 2C, h, w]."""

    def __init__(self, config: PixArtConfig) -> None:
        super().__init__()
        width, third = config.width, config.width // 3
        self.config = config
        self.x_embedder = Patches(config)
        self.t_embedder = NumberEmbedding(width)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.y_embedder = CaptionEmbedding(config)
        self.csize_embedder = NumberEmbedding(third)
        self.ar_embedder = NumberEmbedding(third)
        self.blocks = nn.ModuleList(Block(width) for _ in range(config.depth))
        self.final_layer = FinalLayer(width, config.patch**2 * 2 * config.latent)

    def forward(self, latent: Tensor, level: Tensor, caption: Caption) -> Tensor:
        """`level` is the training step [B], 0 for almost no noise."""
        context = self.context(level, caption)
        x = self.x_embedder(latent) + self.positions(latent)
        for block in self.blocks:
            x = block(x, context)
        return self.finish(x, context, latent)

    def context(self, level: Tensor, caption: Caption) -> Context:
        """Embed the noise level [B] and the caption."""
        native = torch.full_like(level, NATIVE_PIXELS, dtype=torch.float32)
        size = self.csize_embedder(native)
        shape = torch.cat([size, size, self.ar_embedder(torch.ones_like(native))], dim=1)
        embedding = self.t_embedder(level) + shape
        weights = self.t_block(embedding).reshape(len(level), 6, -1)
        text = self.y_embedder(caption.features.to(embedding))
        return Context(level=embedding, weights=weights, text=text, present=caption.present)

    def positions(self, latent: Tensor) -> Tensor:
        """Embed the positions of the tokens, [1, N, width], scaled to the extent of the native image."""
        rows, columns = (side // self.config.patch for side in latent.shape[-2:])
        return sine_positions((rows, columns), width=self.config.width, grid=self.config.grid).to(latent)

    def finish(self, x: Tensor, context: Context, latent: Tensor) -> Tensor:
        """Map tokens [B, N, width] to noise and uncertainty at the latent's size."""
        patch = self.config.patch
        rows, columns = (side // patch for side in latent.shape[-2:])
        out: Tensor = self.final_layer(x, context.level)
        pixels = out.reshape(len(x), rows, columns, patch, patch, -1)
        return pixels.permute(0, 5, 1, 3, 2, 4).reshape(len(x), -1, rows * patch, columns * patch)


class Patches(nn.Module):
    """Patch embedding. [B, C, h, w] to [B, N, width], tokens in row-major order."""

    def __init__(self, config: PixArtConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.latent, config.width, config.patch, stride=config.patch)

    def forward(self, latent: Tensor) -> Tensor:
        tokens: Tensor = self.proj(latent)
        # Contiguous: other strides select other BLAS kernels, which round differently.
        return tokens.flatten(2).transpose(1, 2).contiguous()


class NumberEmbedding(nn.Module):
    """Embedding of numbers. [B] to [B, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCY_DIM, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, numbers: Tensor) -> Tensor:
        embedded: Tensor = self.mlp(timestep_embedding(numbers).to(next(self.mlp.parameters())))
        return embedded


class CaptionEmbedding(nn.Module):
    """Projection of text features [B, T, C] to [B, T, width], and the features for "no caption"."""

    y_embedding: Tensor

    def __init__(self, config: PixArtConfig) -> None:
        super().__init__()
        self.register_buffer("y_embedding", torch.zeros(config.caption))
        self.y_proj = Mlp(config.caption[1], config.width, config.width)

    def forward(self, features: Tensor) -> Tensor:
        embedded: Tensor = self.y_proj(features)
        return embedded


class Block(nn.Module):
    """Self-attention, cross-attention to the caption, MLP; modulated by the noise level (adaLN-single)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(6, width) / width**0.5)
        self.attn = SelfAttention(width)
        self.cross_attn = TextAttention(width)
        self.mlp = Mlp(width, 4 * width, width)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        modulation = (self.scale_shift_table + context.weights).chunk(6, dim=1)
        shift1, scale1, gain1, shift2, scale2, gain2 = modulation
        x = x + gain1 * self.attn(modulate(x, scale1, shift1))
        x = x + self.cross_attn(x, context)
        changed: Tensor = self.mlp(modulate(x, scale2, shift2))
        return x + gain2 * changed


class SelfAttention(nn.Module):
    """Multi-head self-attention over all tokens. [B, N, C] to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=2))
        attended: Tensor = self.proj(merge_heads(scaled_dot_product_attention(query, key, value)))
        return attended


class TextAttention(nn.Module):
    """Cross-attention to the caption, its padding masked. [B, N, C] to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        parts = self.q_linear(x), *self.kv_linear(context.text).chunk(2, dim=2)
        query, key, value = (split_heads(part, self.heads) for part in parts)
        mask = context.present[:, None, None]
        attended = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        change: Tensor = self.proj(merge_heads(attended))
        return change


class FinalLayer(nn.Module):
    """Last norm, modulated by the noise level, and the projection of each token to its pixels."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out)
        self.scale_shift_table = nn.Parameter(torch.randn(2, width) / width**0.5)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        shift, scale = (self.scale_shift_table + level[:, None]).chunk(2, dim=1)
        pixels: Tensor = self.linear(modulate(x, scale, shift))
        return pixels


def timestep_embedding(numbers: Tensor) -> Tensor:
    """Embed numbers [B] as 128 cosines and 128 sines of periods from 2 pi to 20,000 pi. [B, 256] float32.

    Takes no gradient.
    """
    half = FREQUENCY_DIM // 2
    steps = torch.arange(half, device=numbers.device, dtype=torch.float32)
    angles = numbers[:, None].float() * torch.exp(-math.log(10000) / half * steps)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def sine_positions(size: tuple[int, int], *, width: int, grid: int) -> Tensor:
    """Embed the positions of a grid of tokens, half of the channels for the column and half for the row.

    A grid of any size spans the positions of the native one, with another density.

    Returns:
        [1, N, width] float32, tokens in row-major order.
    """
    rows, columns = (
        torch.arange(side, dtype=torch.float64) * (grid / side / POSITION_SCALE) for side in size
    )
    steps = torch.arange(width // 4, dtype=torch.float64) / (width / 4)
    angles = [position[:, None] * 10000**-steps for position in (columns, rows)]
    across, down = (torch.cat([angle.sin(), angle.cos()], dim=1) for angle in angles)
    both = [across.expand(size[0], -1, -1), down[:, None].expand(-1, size[1], -1)]
    return torch.cat(both, dim=2).flatten(0, 1)[None].float()
