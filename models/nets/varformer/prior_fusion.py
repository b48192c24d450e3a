"""Fusion of VAR's prior into VarFormer's trained encoder and decoder (arXiv 2412.21063).

At each level: weights from the features multiply the ten scales of the prior (selector), the result is
blended with the features per pixel (degradation-aware enhancement, DAE), and attention through a few anchors
adds more of it (adaptive feature transformation, AFT).

The publication fixes the Swin groups, the two logits, the ten logits and the 4 x 4 anchors. Names and sizes
of the other inner layers are this module's own; widths of the Swin groups are inferred from the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, cat, nn
from torch.nn.functional import instance_norm, interpolate, scaled_dot_product_attention

from .swin_blocks import Group
from .tokenizer import GROUPS

ANCHOR = 4  # side of the pixels that share an anchor


@dataclass(frozen=True, slots=True, kw_only=True)
class GuideConfig:
    """Sizes of one level's guide."""

    channels: int  # of the level
    side: int  # of the level in pixels
    heads: int
    select: int  # channels of the selector's Swin groups
    blend: int  # channels of DAE's Swin groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Shape of the prior, [B, scales, channels, S, S]."""

    scales: int
    channels: int


def attach_guides(network: nn.Module, guides: tuple[GuideConfig, ...], prior: Prior) -> None:
    """Add the guides to an encoder or a decoder, under the names of the published weights."""
    parts = {
        "cat_rec_syn_bf_nm": lambda g: nn.GroupNorm(GROUPS, 2 * g.channels, eps=1e-6),
        "cat_rec_syn_bf": lambda g: nn.Conv2d(2 * g.channels, g.channels, 1),
        "cat_rec_syn": lambda g: Selector(g, prior),
        "DAE": Enhancement,
        "AFT": AnchorAttention,
    }
    for name, build in parts.items():
        network.add_module(name, nn.ModuleDict({f"Level_{i}": build(g) for i, g in enumerate(guides)}))


def apply_guide(
    network: nn.Module, level: int, x: Tensor, *, frozen_features: Tensor, prior: Tensor
) -> Tensor:
    """Fuse the prior into the features of a level. [B, C, H, W]. Takes no gradient.

    Args:
        network: With guides from `attach_guides`.
        level: 0 is the finest.
        x: Features of the trained network. [B, C, H, W].
        frozen_features: Features of the frozen one. [B, C, H, W].
        prior: Contributions of VAR's scales. [B, scales, C', S, S].
    """
    at = f"Level_{level}"
    norm, mix, select, blend, transform = (
        network.get_submodule(f"{part}.{at}")
        for part in ("cat_rec_syn_bf_nm", "cat_rec_syn_bf", "cat_rec_syn", "DAE", "AFT")
    )
    clean = select(mix(norm(cat([frozen_features, x], dim=1))), prior)
    guided: Tensor = transform(blend(x, clean), clean)
    return guided


class Selector(nn.Module):
    """Weigh the prior's scales by the features, and map it to the level's size and channels."""

    def __init__(self, guide: GuideConfig, prior: Prior) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(guide.channels, guide.select, 1)
        self.swin_blocks = _groups(guide.select, guide)
        self.logits = nn.Conv2d(guide.select, prior.scales, 1)
        self.merge = nn.Conv2d(prior.scales * prior.channels, guide.channels, 1)
        self.conv = nn.Conv2d(guide.channels, guide.channels, 3, padding=1)

    def weights(self, frozen_features: Tensor) -> Tensor:
        """Compute the weight of each scale, [B, scales], with sum 1."""
        logits: Tensor = self.logits(self.swin_blocks(self.reduce(frozen_features)))
        return logits.mean((2, 3)).softmax(1)

    def forward(self, frozen_features: Tensor, prior: Tensor) -> Tensor:
        weighted = (prior * self.weights(frozen_features)[..., None, None, None]).flatten(1, 2)
        merged = self.merge(instance_norm(weighted))
        enlarged: Tensor = self.conv(interpolate(merged, size=frozen_features.shape[-2:], mode="nearest"))
        return enlarged


class Enhancement(nn.Module):
    """DAE: blend the features with the prior by a softmax per pixel."""

    def __init__(self, guide: GuideConfig) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(2 * guide.channels, guide.blend, 1)
        self.swin_blocks = _groups(guide.blend, guide)
        self.logits = nn.Conv2d(guide.blend, 2, 1)

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        """Blend `x` and `prior`, both [B, C, H, W]."""
        logits = self.logits(self.swin_blocks(self.reduce(cat([x, prior], dim=1))))
        keep, add = logits.softmax(1).split(1, dim=1)
        blend: Tensor = keep * x + add * prior
        return blend


class AnchorAttention(nn.Module):
    """AFT: attention to the prior through anchors, one per 16 pixels (GRL, arXiv 2303.00748)."""

    def __init__(self, guide: GuideConfig) -> None:
        super().__init__()
        width = guide.channels
        self.heads = guide.heads
        self.norm_q, self.norm_kv, self.norm_a = (nn.GroupNorm(1, width, eps=1e-6) for _ in range(3))
        self.q = nn.Conv2d(width, width, 1)
        self.kv = nn.Conv2d(width, 2 * width, 1)
        self.anchor = nn.Conv2d(2 * width, width, ANCHOR, stride=ANCHOR)
        self.proj = nn.Conv2d(width, width, 1)
        self.scale_q, self.scale_k = (nn.Parameter(torch.ones(1, guide.heads, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        """Add to `x` an attention to `prior`, both [B, C, H, W]; sides are multiples of 4."""
        query, source = self.norm_q(x), self.norm_kv(prior)
        anchors = self._tokens(self.norm_a(self.anchor(cat([query, source], dim=1))))
        key, value = (self._tokens(part) for part in self.kv(source).chunk(2, dim=1))
        # Two small attentions instead of one over all pairs of pixels.
        anchor_values = scaled_dot_product_attention(anchors * self.scale_k, key, value)
        query_tokens = self._tokens(self.q(query)) * self.scale_q
        transferred = scaled_dot_product_attention(query_tokens, anchors, anchor_values)
        change: Tensor = self.proj(transferred.transpose(2, 3).reshape(x.shape))
        return x + change

    def _tokens(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, heads, H * W, c]."""
        return x.reshape(len(x), self.heads, -1, x.shape[2] * x.shape[3]).transpose(2, 3)


def _groups(width: int, guide: GuideConfig) -> nn.Sequential:
    return nn.Sequential(*(Group(width, heads=guide.heads, side=guide.side) for _ in range(2)))
