"""HAIR, a Restormer with kernels generated for each image (Cao et al. 2024, arXiv 2408.08091).

An encoder maps the degraded image to one embedding vector (noise, rain, haze). From it each block of the
latent stage, the decoder and the refinement mixes its kernels from a box that its stage shares. The encoder
of the U-net has fixed kernels.

Differences from the release, whose weights load key by key:
- The release takes sides in multiples of 8. Here any side is reflect-padded to one, and to `min_side`.
- Its demo computes an embedding per tile, so that neighbouring tiles are restored by different kernels. So
  does this network for tiles alone; to avoid it, pass `degradation(image)` to every tile.
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
from freezeframe.models.nets.restormer import unet
from freezeframe.models.nets.restormer.layers import (
    BlockShape,
    ChannelNorm,
    Kernels,
    Temperature,
    apply_block,
    kernel_shapes,
)
from freezeframe.models.nets.restormer.unet import build_unet, decode, decoder_stages, encode
from freezeframe.models.nets.state import load_network, simplest_ratio
from freezeframe.models.store.state_dict import count_keys

from .degradation_encoder import MIN_SIDE, DegradationEncoder

__all__ = ["HAIR", "RELEASED", "NetConfig", "infer_config", "load", "matches"]

BODY = unet.NetConfig(reduce_latent=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Sizes of the network."""

    body: unet.NetConfig = BODY
    box_sizes: tuple[int, ...] = (9, 6, 7, 5, 5)  # kernels per box: latent, decoder stages, refinement
    embedding_dim: int = 96  # of the degradation embedding
    encoder_width: int = 72  # channels of the degradation encoder, a multiple of 3

    def __post_init__(self) -> None:
        stages = len(decoder_stages(self.body))
        if len(self.box_sizes) != stages or min(self.box_sizes) < 1:
            raise ValueError(
                f"box_sizes {self.box_sizes}: give {stages} numbers of at least 1, one per stage"
            )
        if self.encoder_width % 3 or self.embedding_dim < 8:
            raise ValueError(
                f"encoder_width {self.encoder_width}: must be a multiple of 3;"
                f" embedding_dim {self.embedding_dim}: must be at least 8"
            )

    @property
    def min_side(self) -> int:
        """Shorter sides are padded to this, the smallest that the degradation encoder takes. Pixels."""
        return self.body.multiple * MIN_SIDE


RELEASED = NetConfig()  # 28.56 million parameters; noise, rain and haze


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether the weights are those of a HAIR for RGB or grey images."""
    needed = ("latent.kernel_box", "feature.conv_in.weight", "output.weight", "patch_embed.proj.weight")
    return all(key in state for key in needed) and state["patch_embed.proj.weight"].shape[1] in (1, 3)


def load(state: Mapping[str, Tensor]) -> HAIR:
    """Load the network with these weights, in float32.

    Raises:
        RuntimeError: A key is missing or unexpected, or a shape differs; the message names it.
    """
    return load_network(lambda: HAIR(infer_config(state)), state)


def infer_config(state: Mapping[str, Tensor]) -> NetConfig:
    """Infer the hyper-parameters from the shapes and the number of blocks with keys."""
    body = _infer_body(state)
    decoder = (f"decoder_level{i}" for i in range(body.scales - 1, 0, -1))
    return NetConfig(
        body=body,
        box_sizes=tuple(
            state[f"{stage}.kernel_box"].shape[0] for stage in ("latent", *decoder, "refinement")
        ),
        embedding_dim=state["feature.conv_out.weight"].shape[0],
        encoder_width=state["feature.conv_in.weight"].shape[0],
    )


def _infer_body(state: Mapping[str, Tensor]) -> unet.NetConfig:
    early = [f"encoder_level{i + 1}" for i in range(count_keys(state, "encoder_level"))]
    dim, channels = state["patch_embed.proj.weight"].shape[:2]
    heads = [state[f"{stage}.0.attn.temperature"].shape[0] for stage in early]
    outs = [state[f"{stage}.0.ffn.project_out.weight"].shape for stage in early]
    latent = dim * 2 ** len(early)
    hidden = _hidden(latent, numbers=state["latent.kernel_box"].shape[1])
    counts = (count_keys(state, f"{stage}.") for stage in early)
    return unet.NetConfig(
        dim=dim,
        blocks=(*counts, count_keys(state, "latent.blocks.")),
        refinement=count_keys(state, "refinement.blocks."),
        heads=(*heads, state["latent.blocks.0.attn.temperature"].shape[0]),
        expansion=simplest_ratio({out[0]: out[1] for out in outs} | {latent: hidden}),
        channels=channels,
        centred="latent.blocks.0.norm1.body.bias" in state,
        reduce_latent="reduce_latent.weight" in state,
    )


def _hidden(channels: int, *, numbers: int) -> int:
    """Infer the hidden channels of a block's feed-forward network from the size of all its kernels."""
    attention = 4 * channels**2 + 27 * channels
    return (numbers - attention) // (3 * channels + 18)


class HAIR(nn.Module):
    """Restore sRGB-encoded images of any size, [B, channels, H, W] in [0, 1]; the result is not clamped.

    Attention across channels (`restormer.layers.attend`) and the degradation embedding depend on the whole
    image. The embedding can be computed once and passed to every tile.
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
        latent = config.body.dim * config.body.multiple
        self.feature = DegradationEncoder(
            latent, width=config.encoder_width, embedding_dim=config.embedding_dim
        )

    def forward(self, encoded: Tensor, *, degradation: Tensor | None = None) -> Tensor:
        return encoded + self.correction(encoded, degradation=degradation)

    def correction(self, encoded: Tensor, *, degradation: Tensor | None = None) -> Tensor:
        """Compute the residual to add to `encoded`, in its number format.

        Args:
            encoded: [B, channels, H, W].
            degradation: Result of `degradation` for the image that `encoded` is a tile of,
                [B, embedding_dim] or [1, embedding_dim]. None computes it from `encoded`.
        """
        x, skips = encode(self, self._padded(encoded))
        embedding = self.feature(x) if degradation is None else degradation.to(x)
        stages = {name: partial(self.get_submodule(name), degradation=embedding) for name in self.stage_names}
        return decode(self, x, skips, stages)[..., : encoded.shape[-2], : encoded.shape[-1]]

    def degradation(self, encoded: Tensor) -> Tensor:
        """Compute the degradation embedding of each image. [B, embedding_dim]."""
        embedding: Tensor = self.feature(encode(self, self._padded(encoded))[0])
        return embedding

    def _padded(self, encoded: Tensor) -> Tensor:
        height, width = (max(side + -side % self.multiple, self.min_side) for side in encoded.shape[-2:])
        return reflect_pad(encoded, height=height, width=width)


class HyperStage(nn.Module):
    """Stage whose blocks mix their kernels from one shared box. [B, C, H, W] to the same."""

    def __init__(self, shape: BlockShape, *, count: int, box: int, embedding_dim: int) -> None:
        super().__init__()
        self.shapes = kernel_shapes(shape)
        self.blocks = nn.ModuleList(HyperBlock(shape) for _ in range(count))
        self.extracts = nn.ModuleList(KernelSelector(embedding_dim, box) for _ in range(count))
        self.kernel_box = nn.Parameter(_init_kernels(box, self.shapes))

    def forward(self, x: Tensor, *, degradation: Tensor) -> Tensor:
        for block, extract in zip(self.blocks, self.extracts, strict=True):
            x = block(x, self.kernels(extract(degradation)))
        return x

    def kernels(self, weights: Tensor) -> Kernels:
        """Mix kernels by `weights` [B, box]: one set per image, or one shared set for B = 1."""
        combined = weights @ self.kernel_box
        parts = torch.split(combined, [prod(size) for size in self.shapes], dim=1)
        batch_shape = (len(combined),) if len(combined) > 1 else ()
        return Kernels(
            *(part.reshape(batch_shape + size) for part, size in zip(parts, self.shapes, strict=True))
        )


class HyperBlock(nn.Module):
    """Transformer block that takes its kernels as an argument. [B, C, H, W] to the same."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(shape.channels, centred=shape.centred)
        self.attn = Temperature(shape.heads)
        self.norm2 = ChannelNorm(shape.channels, centred=shape.centred)

    def forward(self, x: Tensor, kernels: Kernels) -> Tensor:
        return apply_block(x, self, kernels)


class KernelSelector(nn.Module):
    """Map embeddings [B, embedding_dim] to weights of the kernels of a box, [B, box], with sum 1."""

    def __init__(self, embedding_dim: int, box: int) -> None:
        super().__init__()
        widths = [embedding_dim, embedding_dim // 2, embedding_dim // 4, embedding_dim // 8]
        layers = [(nn.Linear(*pair), nn.GELU()) for pair in pairwise(widths)]
        self.net = nn.Sequential(*chain(*layers), nn.Linear(widths[-1], box))

    def forward(self, degradation: Tensor) -> Tensor:
        weights: Tensor = self.net(degradation).softmax(1)
        return weights


def _init_kernels(number: int, shapes: tuple[tuple[int, int, int, int], ...]) -> Tensor:
    """Draw `number` sets of flattened kernels uniformly, as torch's default convolution draws one.

    Selection starts near uniform: the mean of n independent kernels has 1 / n of their variance.
    """
    lengths = [prod(size) for size in shapes]
    kernels = torch.empty(number, sum(lengths))
    # Drawn in place: on the meta device, where a network to be loaded is built, the first product or
    # concatenation imports torch's compiler, which takes a second.
    for part, size in zip(torch.split(kernels, lengths, dim=1), shapes, strict=True):
        bound = sqrt(number / prod(size[1:]))
        part.uniform_(-bound, bound)
    return kernels
