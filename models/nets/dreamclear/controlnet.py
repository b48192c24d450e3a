"""DreamClear's control of PixArt (Ai et al. 2024, arXiv 2410.18666).

Two trained copies of all blocks process the degraded image and a coarsely cleaned one. After each of PixArt's
blocks their features scale and shift its tokens; those of the degraded image through a mixture of adaptive
modulators, gated per token by the difference of the two images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from freezeframe.models.nets.blocks.transformer import merge_heads, split_heads

from .pixart_dit import HEAD, Block, Caption, Context, Patches, PixArt, PixArtConfig

Crossing = Literal["released", "correct"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlConfig:
    """Sizes of the control networks."""

    blocks: int  # number of first blocks of PixArt with a copy
    modulator: int  # hidden channels of a modulator
    experts: int  # modulators in a mixture
    gate: int  # hidden channels of the gate of a mixture


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Conditions of the denoising. Latents are [B, C, h, w]."""

    degraded: Tensor
    coarse: Tensor
    caption: Caption


class DreamClearNet(nn.Module):
    """Map noisy latents [B, C, h, w] to predicted noise and uncertainty [B, 2C, h, w].

    With `crossing` "released" the comparison of the two images attends across the batch, as in the release:
    the copies of an image with and without its caption are mixed. "correct" keeps them apart.
    """

    def __init__(
        self, config: PixArtConfig, control: ControlConfig, *, crossing: Crossing = "released"
    ) -> None:
        super().__init__()
        width, copies = config.width, range(control.blocks)
        self.crossing = crossing
        self.base_model = PixArt(config)
        self.controlnet_lq, self.controlnet_pre = (_copies(width, control.blocks) for _ in range(2))
        self.c_embedder_lq, self.c_embedder_pre = (_zero_init_patches(config) for _ in range(2))
        self.x_embedder_lq, self.x_embedder_pre = (Patches(config) for _ in range(2))
        self.cross_de = nn.ModuleList(Comparison(width) for _ in copies)
        self.am_pre = nn.ModuleList(Modulator(width, control.modulator) for _ in copies)
        self.am_lq = nn.ModuleList(Mixture(width, control) for _ in copies)

    def forward(self, latent: Tensor, level: Tensor, conditions: Conditions) -> Tensor:
        """`level` is the training step [B], 0 for almost no noise."""
        base = self.base_model
        context = base.context(level, conditions.caption)
        positions = base.positions(latent)
        x = base.x_embedder(latent) + positions
        degraded = self.x_embedder_lq(latent) + positions + self.c_embedder_lq(conditions.degraded)
        coarse = self.x_embedder_pre(latent) + positions + self.c_embedder_pre(conditions.coarse)
        for i, block in enumerate(base.blocks):
            x = block(x, context)
            if i < len(self.cross_de):
                degraded = self.controlnet_lq[i](degraded, context)
                coarse = self.controlnet_pre[i](coarse, context)
                x = self._apply_control(i, x, degraded, coarse)
        return base.finish(x, context, latent)

    def _apply_control(self, i: int, x: Tensor, degraded: Tensor, coarse: Tensor) -> Tensor:
        change, difference = self.cross_de[i](degraded, coarse, crossing=self.crossing)
        x = scale_shift(x + change, *self.am_pre[i](coarse))
        return scale_shift(x, *self.am_lq[i](degraded, difference))


def scale_shift(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Compute (1 + scale) x + shift."""
    return (1 + scale) * x + shift


class Copy(nn.Module):
    """A trained copy of one of PixArt's blocks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.copied_block = Block(width)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        changed: Tensor = self.copied_block(x, context)
        return changed


class Comparison(nn.Module):
    """Cross-attention from the degraded to the coarse image, both [B, N, C]: a residual and a difference."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.proj = _zero_init(nn.Linear(width, width))
        self.de_proj = nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, degraded: Tensor, coarse: Tensor, *, crossing: Crossing) -> tuple[Tensor, Tensor]:
        query, both = self.q_linear(self.norm1(degraded)), self.kv_linear(self.norm2(coarse))
        if crossing == "released":
            query, both = query.flatten(0, 1)[None], both.flatten(0, 1)[None]
        query, key, value = (split_heads(part, self.heads) for part in (query, *both.chunk(2, dim=2)))
        attended = merge_heads(scaled_dot_product_attention(query, key, value)).reshape(degraded.shape)
        return self.proj(attended), self.de_proj(attended)


class Modulator(nn.Module):
    """AM: scale and shift for every token and channel, initially 0. [B, N, C] to two of the same."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.shared_proj = nn.Linear(width, hidden)
        self.proj_mul = _zero_init(nn.Linear(hidden, width))
        self.proj_add = _zero_init(nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shared = gelu(self.shared_proj(x), approximate="tanh")
        return self.proj_mul(shared), self.proj_add(shared)


class Mixture(nn.Module):
    """MoAM: modulators of the degraded image, weighted per token by the difference of the images."""

    def __init__(self, width: int, control: ControlConfig) -> None:
        super().__init__()
        self.experts = nn.ModuleList(Modulator(width, control.modulator) for _ in range(control.experts))
        self.gate = nn.Sequential(
            nn.Linear(width, control.gate),
            nn.GELU(approximate="tanh"),
            _zero_init(nn.Linear(control.gate, control.experts)),
        )

    def weights(self, difference: Tensor) -> Tensor:
        """Compute the weight of each expert, [B, N, experts], with sum 1."""
        logits: Tensor = self.gate(difference)
        return logits.softmax(2)

    def forward(self, degraded: Tensor, difference: Tensor) -> tuple[Tensor, Tensor]:
        outputs = [torch.stack(expert(degraded)) for expert in self.experts]
        weighted = torch.stack(outputs, dim=-1) * self.weights(difference)[..., None, :]
        scale, shift = weighted.sum(-1)
        return scale, shift


def _copies(width: int, blocks: int) -> nn.ModuleList:
    return nn.ModuleList(Copy(width) for _ in range(blocks))


def _zero_init_patches(config: PixArtConfig) -> Patches:
    patches = Patches(config)
    for value in patches.parameters():
        nn.init.zeros_(value)
    return patches


def _zero_init(layer: nn.Linear) -> nn.Linear:
    """Set the weights to zero, so that training starts from the base model."""
    for value in layer.parameters():
        nn.init.zeros_(value)
    return layer
