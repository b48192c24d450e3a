"""HAIR, a Restormer whose kernels are made for the picture (Cao et al. 2024, arXiv 2408.08091).

One vector tells what happened to the picture (noise, rain, haze). From it each block of the latent stage, of
the way up and of the refinement mixes its kernels out of a box that its stage shares. The way down is plain.

Differences from the release, whose weights load key by key:
- It wants sides in multiples of 8; here any side is mirrored to one, and to `min_side` at least.
- Its demo lets every tile describe itself, so that neighbours are restored by different kernels. Called on
  tiles alone, so does this; what is right is `degradation(picture)` once, given to every tile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from math import prod, sqrt

import torch
from torch import Tensor, nn

from freezeframe.models.imageops.padding import reflect_pad
from freezeframe.models.nets.restormer import unet as restormer_frame
from freezeframe.models.nets.restormer.layers import (
    ChannelNorm,
    Kernels,
    Shape,
    Temperature,
    apply_block,
    kernel_shapes,
)
from freezeframe.models.nets.restormer.unet import (
    build_unet,
    count,
    decode,
    decoder_stages,
    encode,
    simplest_ratio,
)

from .degradation_encoder import MIN_SIDE, DegradationEncoder

__all__ = ["HAIR", "RELEASED", "NetConfig", "infer_config", "load", "matches"]

BODY = restormer_frame.NetConfig(reduce_latent=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Sizes of the network."""

    body: restormer_frame.NetConfig = BODY
    box_sizes: tuple[int, ...] = (
        9,
        6,
        7,
        5,
        5,
    )  # kernels of each stage's box: latent, the way up, refinement
    embedding_dim: int = 96  # numbers that tell what happened to the picture
    encoder_width: int = 72  # channels of what tells, in threes

    def __post_init__(self) -> None:
        stages = len(decoder_stages(self.body))
        if len(self.box_sizes) != stages or min(self.box_sizes) < 1:
            raise ValueError(f"boxes {self.box_sizes}: name how many kernels each of {stages} stages has")
        if self.encoder_width % 3 or self.embedding_dim < 8:
            raise ValueError(
                f"sensed {self.encoder_width}, described {self.embedding_dim}: a multiple of 3, at least 8"
            )

    @property
    def min_side(self) -> int:
        """Sides shorter than this are mirrored to it: it takes as much to tell what happened. Pixels."""
        return self.body.multiple * MIN_SIDE


RELEASED = NetConfig()  # 28.56 million parameters; noise, rain and haze


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether these are the weights of a HAIR for RGB or grey pictures."""
    needed = ("latent.kernel_box", "feature.conv_in.weight", "output.weight", "patch_embed.proj.weight")
    return all(key in state for key in needed) and state["patch_embed.proj.weight"].shape[1] in (1, 3)


def load(state: Mapping[str, Tensor]) -> HAIR:
    """The network that these weights belong to, in float32; RuntimeError names what does not fit."""
    with torch.device("meta"):
        network = HAIR(infer_config(state))
    network.load_state_dict({key: value.float() for key, value in state.items()}, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def infer_config(state: Mapping[str, Tensor]) -> NetConfig:
    """The hyper-parameters, from the shapes and from the number of blocks that have keys."""
    early = [f"encoder_level{i + 1}" for i in range(count(state, "encoder_level"))]
    down = len(early)
    stage_names = ["latent", *(f"decoder_level{i}" for i in range(down, 0, -1)), "refinement"]
    dim, channels = state["patch_embed.proj.weight"].shape[:2]
    heads = [state[f"{stage}.0.attn.temperature"].shape[0] for stage in early]
    outs = [state[f"{stage}.0.ffn.project_out.weight"].shape for stage in early]
    deep = dim * 2**down
    hidden = _hidden(deep, numbers=state["latent.kernel_box"].shape[1])
    body = restormer_frame.NetConfig(
        dim=dim,
        blocks=(*(count(state, f"{stage}.") for stage in early), count(state, "latent.blocks.")),
        refinement=count(state, "refinement.blocks."),
        heads=(*heads, state["latent.blocks.0.attn.temperature"].shape[0]),
        expansion=simplest_ratio({out[0]: out[1] for out in outs} | {deep: hidden}),
        channels=channels,
        centred="latent.blocks.0.norm1.body.bias" in state,
        reduce_latent="reduce_latent.weight" in state,
    )
    encoder_width, embedding_dim = (
        state["feature.conv_in.weight"].shape[0],
        state["feature.conv_out.weight"].shape[0],
    )
    box_sizes = tuple(state[f"{stage}.kernel_box"].shape[0] for stage in stage_names)
    return NetConfig(body=body, box_sizes=box_sizes, embedding_dim=embedding_dim, encoder_width=encoder_width)


def _hidden(channels: int, *, numbers: int) -> int:
    """The width of a block's feed-forward part, from how many numbers its kernels have together."""
    attention = 4 * channels**2 + 27 * channels
    return (numbers - attention) // (3 * channels + 18)


class HAIR(nn.Module):
    """Restores sRGB-coded pictures of any size, [B, channels, H, W] in [0, 1], in place of the light given.

    Two things are global: attention between channels (`restormer_layers.attend`) and the description of what
    happened. The second is shared by tiles that are given it.
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.multiple, self.min_side = config.body.multiple, config.min_side
        for name, module in build_unet(config.body).items():
            self.add_module(name, module)
        self.stage_names = tuple(decoder_stages(config.body))
        for (name, (shape, number)), box in zip(
            decoder_stages(config.body).items(), config.box_sizes, strict=True
        ):
            self.add_module(
                name, HyperStage(shape, count=number, box=box, embedding_dim=config.embedding_dim)
            )
        deep = config.body.dim * config.body.multiple
        self.feature = DegradationEncoder(
            deep, width=config.encoder_width, embedding_dim=config.embedding_dim
        )

    def forward(self, encoded: Tensor, *, degradation: Tensor | None = None) -> Tensor:
        return encoded + self.correction(encoded, degradation=degradation)

    def correction(self, encoded: Tensor, *, degradation: Tensor | None = None) -> Tensor:
        """What has to be added to `encoded`, in its number format.

        Args:
            encoded: [B, channels, H, W].
            degradation: What happened, from `degradation` of the picture that `encoded` is a part of:
                [B, described], or [1, described] for all. None describes `encoded` by itself.
        """
        x, skips = encode(self, self._padded(encoded))
        embedding = self.feature(x) if degradation is None else degradation.to(x)
        stages = {name: partial(self.get_submodule(name), degradation=embedding) for name in self.stage_names}
        return decode(self, x, skips, stages)[..., : encoded.shape[-2], : encoded.shape[-1]]

    def degradation(self, encoded: Tensor) -> Tensor:
        """What happened to each picture, in numbers that only this network reads. [B, described]."""
        embedding: Tensor = self.feature(encode(self, self._padded(encoded))[0])
        return embedding

    def _padded(self, encoded: Tensor) -> Tensor:
        height, width = (max(side + -side % self.multiple, self.min_side) for side in encoded.shape[-2:])
        return reflect_pad(encoded, height=height, width=width)


class HyperStage(nn.Module):
    """A stage whose blocks mix their kernels out of one box. [B, C, H, W] both ways."""

    def __init__(self, shape: Shape, *, count: int, box: int, embedding_dim: int) -> None:
        super().__init__()
        self.shapes = kernel_shapes(shape)
        self.blocks = nn.ModuleList(HyperBlock(shape) for _ in range(count))
        self.extracts = nn.ModuleList(KernelSelector(embedding_dim, box) for _ in range(count))
        # At first all kernels of a box count alike, and the mean of n has 1 / n of the variance.
        first = [sqrt(box) * _init_like_conv(box, size) for size in self.shapes]
        self.kernel_box = nn.Parameter(torch.cat(first, dim=1))

    def forward(self, x: Tensor, *, degradation: Tensor) -> Tensor:
        for block, extract in zip(self.blocks, self.extracts, strict=True):
            x = block(x, self.kernels(extract(degradation)))
        return x

    def kernels(self, weights: Tensor) -> Kernels:
        """Kernels mixed by `weights` of the box, [B, box]: one of each per picture, or one for B = 1."""
        combined = weights @ self.kernel_box
        parts = torch.split(combined, [prod(size) for size in self.shapes], dim=1)
        batch_shape = (len(combined),) if len(combined) > 1 else ()
        return Kernels(
            *(part.reshape(batch_shape + size) for part, size in zip(parts, self.shapes, strict=True))
        )


class HyperBlock(nn.Module):
    """A block without its kernels. [B, C, H, W] both ways."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(shape.channels, centred=shape.centred)
        self.attn = Temperature(shape.heads)
        self.norm2 = ChannelNorm(shape.channels, centred=shape.centred)

    def forward(self, x: Tensor, kernels: Kernels) -> Tensor:
        return apply_block(x, self, kernels)


class KernelSelector(nn.Module):
    """[B, described] to how much each kernel of a box counts, [B, box], in sum 1."""

    def __init__(self, embedding_dim: int, box: int) -> None:
        super().__init__()
        widths = [embedding_dim, embedding_dim // 2, embedding_dim // 4, embedding_dim // 8]
        layers = [(nn.Linear(*pair), nn.GELU()) for pair in pairwise(widths)]
        self.net = nn.Sequential(*chain(*layers), nn.Linear(widths[-1], box))

    def forward(self, degradation: Tensor) -> Tensor:
        weights: Tensor = self.net(degradation).softmax(1)
        return weights


def _init_like_conv(number: int, size: tuple[int, int, int, int]) -> Tensor:
    """[number, kernel's numbers]: uniform, with the variance that torch gives a fresh convolution's."""
    bound = 1 / sqrt(prod(size[1:]))
    return torch.empty(number, prod(size)).uniform_(-bound, bound)
