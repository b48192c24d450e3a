"""VarFormer's hyper-parameters, read off the shapes of its weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .prior_fusion import GuideConfig, Prior
from .tokenizer import Convolutions
from .var_transformer import Transformer

logger = logging.getLogger(__name__)

SCALES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)  # latent pixels along one side, as VAR was published

# Names within these modules are ours, not the publication's: weights may come under others.
UNPUBLISHED_PARTS = ("ft_layers.", ".DAE.", ".AFT.", ".cat_rec_syn.")
# VAR's weights lie beside VarFormer's own; here they have a room of their own.
VAR_PARTS = (
    *("pos_start", "pos_1LC", "lvl_1L", "attn_bias_for_masking", "word_embed", "class_emb", "lvl_embed"),
    *("head", "head_nm", "blocks", "cross_attn_blocks"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Sizes of every part."""

    convolutions: Convolutions
    transformer: Transformer
    vocab_size: int  # words that a latent pixel can be
    scales: tuple[int, ...]
    enhance: int  # blocks before the quantiser
    decoder_blocks: tuple[int, int]  # per level, of VAR's decoder and of the trained one
    encoder_guides: tuple[GuideConfig, ...]  # finest level first
    decoder_guides: tuple[GuideConfig, ...]

    @property
    def side(self) -> int:
        """The only side of a picture that the network takes. Pixels."""
        return self.scales[-1] * self.convolutions.reduction

    @property
    def prior(self) -> Prior:
        return Prior(scales=len(self.scales), channels=self.convolutions.latent)


def guides(
    convolutions: Convolutions, *, side: int, heads: int, select: tuple[int, ...], blend: tuple[int, ...]
) -> tuple[GuideConfig, ...]:
    """Guides of all levels, finest first, whose Swin groups have `select` and `blend` channels."""
    widths = zip(convolutions.channels, select, blend, strict=True)
    return tuple(
        GuideConfig(channels=channels, side=side >> i, heads=heads, select=narrow, blend=wide)
        for i, (channels, narrow, wide) in enumerate(widths)
    )


_CH160 = Convolutions(width=160, multiples=(1, 1, 2, 2, 4), blocks=2, latent=32)

# The published one (VarFormer_16). The widths of its guides are known only by what both networks weigh, 175.8
# and 279.4 million, and by DAE's 111 GMAC at the second and third level, which takes two channels for each of
# the level's: these weigh 175.8 and 279.1 million. A file's own are read off its shapes.
RELEASED_16 = NetConfig(
    convolutions=_CH160,
    transformer=Transformer(width=1024, heads=16, blocks=16, cross_blocks=8, classes=1000),
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
    """Whether these are the weights of a VarFormer."""
    return {"quantize.ema_vocab_hit_SV", "Mainencoder.conv_in.weight", "main_decoder.theta"} <= state.keys()


def infer_config(state: Mapping[str, Tensor]) -> NetConfig:
    """The hyper-parameters of published weights, from shapes and from how many blocks have keys."""
    convolutions = _convolutions(state)
    scales = _scales(state)
    side = scales[-1] * convolutions.reduction
    return NetConfig(
        convolutions=convolutions,
        transformer=_transformer(state),
        vocab_size=state["quantize.embedding.weight"].shape[0],
        scales=scales,
        enhance=_count(state, "ft_layers."),
        decoder_blocks=(_count(state, "decoder.up.0.block."), _count(state, "main_decoder.up.0.block.")),
        encoder_guides=_guides(state, "Mainencoder", convolutions, side),
        decoder_guides=_guides(state, "main_decoder", convolutions, side),
    )


def _convolutions(state: Mapping[str, Tensor]) -> Convolutions:
    width = state["encoder.conv_in.weight"].shape[0]
    levels = _count(state, "encoder.down.")
    return Convolutions(
        width=width,
        multiples=tuple(
            state[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] // width for i in range(levels)
        ),
        blocks=_count(state, "encoder.down.0.block."),
        latent=state["quant_conv.weight"].shape[0],
    )


def _transformer(state: Mapping[str, Tensor]) -> Transformer:
    return Transformer(
        width=state["pos_1LC"].shape[2],
        heads=state["blocks.0.attn.scale_mul_1H11"].shape[1],
        blocks=_count(state, "blocks."),
        cross_blocks=_count(state, "cross_attn_blocks."),
        classes=state["class_emb.weight"].shape[0] - 1,
    )


def _scales(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """VAR's where their number and that of the tokens agree, else as stored: shapes alone do not tell."""
    count, tokens = state["lvl_embed.weight"].shape[0], state["pos_1LC"].shape[1]
    if (count, tokens) == (len(SCALES), sum(side**2 for side in SCALES)):
        return SCALES
    sizes = torch.bincount(state["lvl_1L"].flatten().long(), minlength=count)
    return tuple(math.isqrt(size) for size in sizes.tolist())


def _guides(
    state: Mapping[str, Tensor], network: str, convolutions: Convolutions, side: int
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


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def to_internal_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names to this package's: VAR's weights move into `var`."""
    return {f"var.{key}" if key.split(".")[0] in VAR_PARTS else key: value for key, value in state.items()}


def to_published_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_internal_keys`."""
    return {key.removeprefix("var."): value for key, value in state.items()}


def match_unpublished_keys(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the expected names, where only `UNPUBLISHED_PARTS` inner names differ.

    There, what has no name in common is paired in the order of the file, if all shapes agree in that order;
    otherwise nothing is renamed, and strict loading names what does not fit.
    """
    unexpected = [key for key in state if key not in expected]
    missing = [key for key in expected if key not in state]
    hidden = all(any(part in key for part in UNPUBLISHED_PARTS) for key in (*unexpected, *missing))
    shapes = [tuple(state[key].shape) for key in unexpected], [tuple(expected[key].shape) for key in missing]
    if not hidden or shapes[0] != shapes[1]:
        return dict(state)
    if unexpected:
        logger.warning(
            "VarFormer: %d inner weights have other names and were taken by order", len(unexpected)
        )
    names = dict(zip(unexpected, missing, strict=True))
    return {names.get(key, key): value for key, value in state.items()}
