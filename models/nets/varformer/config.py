"""VarFormer's hyper-parameters, inferred from its weights, and the names of its weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from freezeframe.models.store.state_dict import count_keys

from .prior_fusion import GuideConfig, Prior
from .tokenizer import TokenizerConfig
from .var_transformer import VarConfig

logger = logging.getLogger(__name__)

SCALES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)  # sides of the token maps in latent pixels, as VAR was published

# Names inside these modules are not published: a file may have others.
UNPUBLISHED_PARTS = ("ft_layers.", ".DAE.", ".AFT.", ".cat_rec_syn.")
# VAR's weights have no common prefix in the files; here they belong to the sub-module `var`.
VAR_PARTS = (
    *("pos_start", "pos_1LC", "lvl_1L", "attn_bias_for_masking", "word_embed", "class_emb", "lvl_embed"),
    *("head", "head_nm", "blocks", "cross_attn_blocks"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Sizes of every part."""

    convolutions: TokenizerConfig
    transformer: VarConfig
    vocab_size: int  # of the codebook
    scales: tuple[int, ...]
    enhance: int  # blocks before the quantiser
    decoder_blocks: tuple[int, int]  # per level, of VAR's decoder and of the trained one
    encoder_guides: tuple[GuideConfig, ...]  # finest level first
    decoder_guides: tuple[GuideConfig, ...]

    @property
    def side(self) -> int:
        """Side of the images, the only one that the network takes. Pixels."""
        return self.scales[-1] * self.convolutions.reduction

    @property
    def prior(self) -> Prior:
        return Prior(scales=len(self.scales), channels=self.convolutions.latent)


def guides(
    convolutions: TokenizerConfig, *, side: int, heads: int, select: tuple[int, ...], blend: tuple[int, ...]
) -> tuple[GuideConfig, ...]:
    """Configure the guides of all levels, finest first, with `select` and `blend` channels per level."""
    widths = zip(convolutions.channels, select, blend, strict=True)
    return tuple(
        GuideConfig(channels=channels, side=side >> i, heads=heads, select=narrow, blend=wide)
        for i, (channels, narrow, wide) in enumerate(widths)
    )


_CH160 = TokenizerConfig(width=160, multiples=(1, 1, 2, 2, 4), blocks=2, latent=32)

# The published one (VarFormer_16). The widths of its guides are known only through the parameters of both
# networks, 175.8 and 279.4 million, and through DAE's 111 GMAC at the second and third level, which implies
# twice the level's channels. These give 175.8 and 279.1 million. Those of a file are inferred from shapes.
RELEASED_16 = NetConfig(
    convolutions=_CH160,
    transformer=VarConfig(width=1024, heads=16, blocks=16, cross_blocks=8, classes=1000),
    vocab_size=4096,
    scales=SCALES,
    enhance=4,
    decoder_blocks=(3, 2),
    encoder_guides=guides(_CH160, side=256, heads=8, select=(96,) * 5, blend=(320, 320, 640, 640, 640)),
    decoder_guides=guides(
        _CH160, side=256, heads=4, select=(100, 100, 200, 200, 400), blend=(320, 320, 640, 640, 1280)
    ),
)


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether the weights are those of a VarFormer."""
    return {"quantize.ema_vocab_hit_SV", "Mainencoder.conv_in.weight", "main_decoder.theta"} <= state.keys()


def infer_config(state: Mapping[str, Tensor]) -> NetConfig:
    """Infer the hyper-parameters from the shapes and the number of blocks with published keys."""
    convolutions = _convolutions(state)
    scales = _scales(state)
    side = scales[-1] * convolutions.reduction
    return NetConfig(
        convolutions=convolutions,
        transformer=_transformer(state),
        vocab_size=state["quantize.embedding.weight"].shape[0],
        scales=scales,
        enhance=count_keys(state, "ft_layers."),
        decoder_blocks=(
            count_keys(state, "decoder.up.0.block."),
            count_keys(state, "main_decoder.up.0.block."),
        ),
        encoder_guides=_guides(state, "Mainencoder", convolutions, side),
        decoder_guides=_guides(state, "main_decoder", convolutions, side),
    )


def _convolutions(state: Mapping[str, Tensor]) -> TokenizerConfig:
    width = state["encoder.conv_in.weight"].shape[0]
    levels = count_keys(state, "encoder.down.")
    return TokenizerConfig(
        width=width,
        multiples=tuple(
            state[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] // width for i in range(levels)
        ),
        blocks=count_keys(state, "encoder.down.0.block."),
        latent=state["quant_conv.weight"].shape[0],
    )


def _transformer(state: Mapping[str, Tensor]) -> VarConfig:
    return VarConfig(
        width=state["pos_1LC"].shape[2],
        heads=state["blocks.0.attn.scale_mul_1H11"].shape[1],
        blocks=count_keys(state, "blocks."),
        cross_blocks=count_keys(state, "cross_attn_blocks."),
        classes=state["class_emb.weight"].shape[0] - 1,
    )


def _scales(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Return VAR's scales if their number and tokens agree, else the stored ones: shapes are ambiguous."""
    count, tokens = state["lvl_embed.weight"].shape[0], state["pos_1LC"].shape[1]
    if (count, tokens) == (len(SCALES), sum(side**2 for side in SCALES)):
        return SCALES
    sizes = torch.bincount(state["lvl_1L"].flatten().long(), minlength=count)
    return tuple(math.isqrt(size) for size in sizes.tolist())


def _guides(
    state: Mapping[str, Tensor], network: str, convolutions: TokenizerConfig, side: int
) -> tuple[GuideConfig, ...]:
    def width(part: str, level: int) -> int:
        return state[f"{network}.{part}.Level_{level}.{_FIRST}.norm1.weight"].shape[0]

    heads = state[f"{network}.DAE.Level_0.{_FIRST}.attn.relative_position_bias_table"].shape[1]
    return tuple(
        GuideConfig(
            channels=channels,
            side=side >> i,
            heads=heads,
            select=width("cat_rec_syn", i),
            blend=width("DAE", i),
        )
        for i, channels in enumerate(convolutions.channels)
    )


_FIRST = "swin_blocks.0.residual_group.blocks.0"


def to_internal_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename published keys to those of `model.VarFormer`: VAR's weights move into `var`."""
    return {f"var.{key}" if key.split(".")[0] in VAR_PARTS else key: value for key, value in state.items()}


def to_published_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Invert `to_internal_keys`."""
    return {key.removeprefix("var."): value for key, value in state.items()}


def match_unpublished_keys(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename keys inside `UNPUBLISHED_PARTS` to the expected ones.

    Unexpected and missing keys are paired in order if their shapes agree in that order. Otherwise nothing is
    renamed, and strict loading reports the mismatch.
    """
    unexpected = [key for key in state if key not in expected]
    missing = [key for key in expected if key not in state]
    hidden = all(any(part in key for part in UNPUBLISHED_PARTS) for key in (*unexpected, *missing))
    shapes = [tuple(state[key].shape) for key in unexpected], [tuple(expected[key].shape) for key in missing]
    if not hidden or shapes[0] != shapes[1]:
        return dict(state)
    if unexpected:
        logger.warning(
            "VarFormer: %d inner weights have unknown names and were matched by order", len(unexpected)
        )
    names = dict(zip(unexpected, missing, strict=True))
    return {names.get(key, key): value for key, value in state.items()}
