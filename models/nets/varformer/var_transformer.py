"""VAR's transformer (Tian et al. 2024, arXiv 2404.02905) with VarFormer's cross-attention.

Scale by scale it predicts the code words of a clean image from those of the scales before. After each of its
first blocks, the code words of the degraded image are the queries of a cross-attention to the block's output
(arXiv 2412.21063).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize, scaled_dot_product_attention

from freezeframe.models.nets.blocks.transformer import Mlp, merge_heads, modulate, split_heads

from .vector_quantizer import VectorQuantizer

Mixing = Literal["released", "correct"]
UNCONDITIONAL = -1  # index of the class embedding for "no class"


@dataclass(frozen=True, slots=True, kw_only=True)
class VarConfig:
    """Sizes of VAR's transformer; d16 has 16 blocks of 1024 channels and 16 heads."""

    width: int
    heads: int
    blocks: int
    cross_blocks: int  # number of first blocks that a cross-attention follows
    classes: int  # of ImageNet, without "no class"


class Var(nn.Module):
    """Predict the code words of a clean image from those of a degraded one."""

    def __init__(self, config: VarConfig, *, vocab_size: int, latent: int, scales: tuple[int, ...]) -> None:
        super().__init__()
        tokens, width = sum(scale**2 for scale in scales), config.width
        self.scales = scales
        self.word_embed = nn.Linear(latent, width)
        self.class_emb = nn.Embedding(config.classes + 1, width)
        self.pos_start = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_1LC = nn.Parameter(torch.zeros(1, tokens, width))
        self.lvl_embed = nn.Embedding(len(scales), width)
        level = scale_of_tokens(scales)
        self.register_buffer("lvl_1L", level)
        self.register_buffer("attn_bias_for_masking", causal_bias(level))
        self.blocks = nn.ModuleList(Block(width, heads=config.heads) for _ in range(config.blocks))
        self.cross_attn_blocks = nn.ModuleList(
            CrossAttention(width, heads=config.heads) for _ in range(config.cross_blocks)
        )
        self.head_nm = AdaLNBeforeHead(width)
        self.head = nn.Linear(width, vocab_size)

    def forward(
        self, degraded: Tensor, quantizer: VectorQuantizer, *, guidance: float, mixing: Mixing
    ) -> Tensor:
        """Predict the contribution of each scale to the clean latent. [1, scales, C, S, S].

        Args:
            degraded: `contributions` of the degraded image, [1, scales, C, S, S].
            quantizer: Maps code words to contributions.
            guidance: Classifier-free guidance at the finest scale, between two copies of the sequence. Both
                have the same class, so this has an effect only with `mixing` "released".
            mixing: See `CrossAttention`.
        """
        queries = self._queries(degraded, quantizer)
        caches: list[Cache] = [(None, None)] * len(self.blocks)
        contributions: list[Tensor] = []
        for i, query_input in enumerate(queries):
            x = (
                self._embed(quantizer.inputs(torch.stack(contributions, dim=1))[-1], i)
                if i
                else self._start(0)
            )
            logits = self._logits(x.expand(2, -1, -1), query_input.expand(2, -1, -1), caches, mixing)
            strength = guidance * i / max(len(self.scales) - 1, 1)
            guided = apply_guidance(logits[:1], logits[1:], strength)
            contributions.append(quantizer.contribution(guided.argmax(-1), i))
        return torch.stack(contributions, dim=1)

    def _logits(self, x: Tensor, query_input: Tensor, caches: list[Cache], mixing: Mixing) -> Tensor:
        condition = self.class_emb.weight[UNCONDITIONAL].expand(len(x), -1)
        for i, block in enumerate(self.blocks):
            x, caches[i] = block(x, condition, caches[i])
            if i < len(self.cross_attn_blocks):
                x = self.cross_attn_blocks[i](query_input, x, mixing=mixing)
        logits: Tensor = self.head(self.head_nm(x, condition))
        return logits

    def _queries(self, degraded: Tensor, quantizer: VectorQuantizer) -> list[Tensor]:
        """Embed the code words of the degraded image at each scale, [1, n^2, width] each."""
        later = enumerate(quantizer.inputs(degraded), start=1)
        return [self._start(0), *(self._embed(tokens, i) for i, tokens in later)]

    def _start(self, scale: int) -> Tensor:
        return self.class_emb.weight[UNCONDITIONAL] + self.pos_start + self._position(scale)

    def _embed(self, tokens: Tensor, scale: int) -> Tensor:
        embedded: Tensor = self.word_embed(tokens)
        return embedded + self._position(scale)

    def _position(self, scale: int) -> Tensor:
        before = sum(side**2 for side in self.scales[:scale])
        position = self.pos_1LC[:, before : before + self.scales[scale] ** 2]
        return position + self.lvl_embed.weight[scale]


def apply_guidance(conditional: Tensor, unconditional: Tensor, strength: float) -> Tensor:
    """Extrapolate the logits from the unconditional ones (classifier-free guidance); 0 changes nothing."""
    return conditional + strength * (conditional - unconditional)


def scale_of_tokens(scales: tuple[int, ...]) -> Tensor:
    """Return the index of the scale of each token. [1, L]."""
    return torch.cat([torch.full((scale**2,), i) for i, scale in enumerate(scales)])[None]


def causal_bias(level: Tensor) -> Tensor:
    """Compute the block-causal mask: 0 for keys of a token's scale and those before, else -inf. [1, 1, L, L].

    Takes no gradient.
    """
    visible = level[0][:, None] >= level[0]
    return torch.where(visible, 0.0, -math.inf).to(torch.float32)[None, None]


Cache = tuple[Tensor | None, Tensor | None]  # keys and values of all tokens so far, [B, heads, L, c]


class Block(nn.Module):
    """Self-attention and an MLP, with scale, shift and gain from the class (adaLN). [B, L, C] to the same."""

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.attn = CausalSelfAttention(width, heads=heads)
        self.ffn = Mlp(width, 4 * width, width)
        self.ada_lin = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        weights = self.ada_lin(condition)[:, None].chunk(6, dim=2)
        gain1, gain2, scale1, scale2, shift1, shift2 = weights
        attended, cache = self.attn(modulate(x, scale1, shift1), cache)
        x = x + gain1 * attended
        return x + gain2 * self.ffn(modulate(x, scale2, shift2)), cache


class AdaLNBeforeHead(nn.Module):
    """Last norm, with scale and shift from the class. [B, L, C] to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ada_lin = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.ada_lin(condition)[:, None].chunk(2, dim=2)
        return modulate(x, scale, shift)


class CausalSelfAttention(nn.Module):
    """Self-attention with unit-length queries and keys, and a learned factor on the logits, at most 100."""

    zero_k_bias: Tensor

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale_mul_1H11 = nn.Parameter(torch.full((1, heads, 1, 1), 4.0).log())
        self.mat_qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        self.register_buffer("zero_k_bias", torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Attend from the tokens of one scale, [B, n, C], to themselves and to the cached scales before."""
        bias = torch.cat([self.q_bias, self.zero_k_bias, self.v_bias])
        query, key, value = (
            split_heads(part, self.heads) for part in linear(x, self.mat_qkv.weight, bias).chunk(3, dim=2)
        )
        temperature = self.scale_mul_1H11.clamp(max=math.log(100)).exp()
        key = _append(cache[0], normalize(key, dim=-1))
        value = _append(cache[1], value)
        attended = scaled_dot_product_attention(normalize(query, dim=-1) * temperature, key, value, scale=1)
        return self.proj(merge_heads(attended)), (key, value)


class CrossAttention(nn.Module):
    """Cross-attention whose output replaces that of the block before.

    Without xformers, the released code merges heads and copies in the wrong order: [B, heads, L, c] is read
    as [heads, B, L, c]. Mixing "released" does the same; "correct" keeps the heads of each token together.
    It is unknown with which of the two the published weights were trained.
    """

    zero_k_bias: Tensor

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mat_q = nn.Linear(width, width, bias=False)
        self.mat_kv = nn.Linear(width, 2 * width, bias=False)
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        self.register_buffer("zero_k_bias", torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, query_input: Tensor, x: Tensor, *, mixing: Mixing) -> Tensor:
        """Attend from `query_input` to `x`, both [B, L, C]."""
        query = split_heads(linear(query_input, self.mat_q.weight, self.q_bias), self.heads)
        both = linear(x, self.mat_kv.weight, torch.cat([self.zero_k_bias, self.v_bias]))
        key, value = (split_heads(part, self.heads) for part in both.chunk(2, dim=2))
        attended = scaled_dot_product_attention(query, key, value, scale=0.25 / math.sqrt(query.shape[-1]))
        order = (1, 0, 2, 3) if mixing == "released" else (0, 2, 1, 3)
        mixed: Tensor = self.proj(attended.permute(order).reshape(x.shape))
        return mixed


def _append(before: Tensor | None, new: Tensor) -> Tensor:
    return new if before is None else torch.cat([before, new], dim=2)
