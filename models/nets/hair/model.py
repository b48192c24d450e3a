"""HAIR, a Restormer whose kernels are made for the picture (Cao et al. 2024, arXiv 2408.08091).

One vector tells what happened to the picture (noise, rain, haze). From it each block of the latent stage, of
the way up and of the refinement mixes its kernels out of a box that its stage shares. The way down is plain.

Differences from the release, whose weights load key by key:
- It wants sides in multiples of 8; here any side is mirrored to one, and to `smallest` at least.
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

from freezeframe.models.imageops.padding import mirrored
from freezeframe.models.nets.restormer import unet as restormer_frame
from freezeframe.models.nets.restormer.layers import (
    ChannelNorm,
    Kernels,
    Shape,
    Sharpness,
    kernel_shapes,
    transform,
)
from freezeframe.models.nets.restormer.unet import ascend, count, descend, frame, late_stages, simplest_growth

from .degradation_encoder import SMALLEST, Sense

__all__ = ["HAIR", "RELEASED", "Layout", "detect", "load", "read_layout"]

BODY = restormer_frame.Layout(reduced=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Sizes of the network."""

    body: restormer_frame.Layout = BODY
    boxes: tuple[int, ...] = (9, 6, 7, 5, 5)  # kernels of each stage's box: latent, the way up, refinement
    described: int = 96  # numbers that tell what happened to the picture
    sensed: int = 72  # channels of what tells, in threes

    def __post_init__(self) -> None:
        stages = len(late_stages(self.body))
        if len(self.boxes) != stages or min(self.boxes) < 1:
            raise ValueError(f"boxes {self.boxes}: name how many kernels each of {stages} stages has")
        if self.sensed % 3 or self.described < 8:
            raise ValueError(f"sensed {self.sensed}, described {self.described}: a multiple of 3, at least 8")

    @property
    def smallest(self) -> int:
        """Sides shorter than this are mirrored to it: it takes as much to tell what happened. Pixels."""
        return self.body.multiple * SMALLEST


RELEASED = Layout()  # 28.56 million parameters; noise, rain and haze


def detect(state: Mapping[str, Tensor]) -> bool:
    """Whether these are the weights of a HAIR for RGB or grey pictures."""
    needed = ("latent.kernel_box", "feature.conv_in.weight", "output.weight", "patch_embed.proj.weight")
    return all(key in state for key in needed) and state["patch_embed.proj.weight"].shape[1] in (1, 3)


def load(state: Mapping[str, Tensor]) -> HAIR:
    """The network that these weights belong to, in float32; RuntimeError names what does not fit."""
    with torch.device("meta"):
        network = HAIR(read_layout(state))
    network.load_state_dict({key: value.float() for key, value in state.items()}, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def read_layout(state: Mapping[str, Tensor]) -> Layout:
    """The hyper-parameters, from the shapes and from the number of blocks that have keys."""
    early = [f"encoder_level{i + 1}" for i in range(count(state, "encoder_level"))]
    down = len(early)
    late = ["latent", *(f"decoder_level{i}" for i in range(down, 0, -1)), "refinement"]
    dim, channels = state["patch_embed.proj.weight"].shape[:2]
    heads = [state[f"{stage}.0.attn.temperature"].shape[0] for stage in early]
    outs = [state[f"{stage}.0.ffn.project_out.weight"].shape for stage in early]
    deep = dim * 2**down
    hidden = _hidden(deep, numbers=state["latent.kernel_box"].shape[1])
    body = restormer_frame.Layout(
        dim=dim,
        blocks=(*(count(state, f"{stage}.") for stage in early), count(state, "latent.blocks.")),
        refinement=count(state, "refinement.blocks."),
        heads=(*heads, state["latent.blocks.0.attn.temperature"].shape[0]),
        growth=simplest_growth({out[0]: out[1] for out in outs} | {deep: hidden}),
        channels=channels,
        centred="latent.blocks.0.norm1.body.bias" in state,
        reduced="reduce_latent.weight" in state,
    )
    sensed, described = state["feature.conv_in.weight"].shape[0], state["feature.conv_out.weight"].shape[0]
    boxes = tuple(state[f"{stage}.kernel_box"].shape[0] for stage in late)
    return Layout(body=body, boxes=boxes, described=described, sensed=sensed)


def _hidden(channels: int, *, numbers: int) -> int:
    """The width of a block's feed-forward part, from how many numbers its kernels have together."""
    attention = 4 * channels**2 + 27 * channels
    return (numbers - attention) // (3 * channels + 18)


class HAIR(nn.Module):
    """Restores sRGB-coded pictures of any size, [B, channels, H, W] in [0, 1], in place of the light given.

    Two things are global: attention between channels (`restormer_layers.attend`) and the description of what
    happened. The second is shared by tiles that are given it.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.multiple, self.smallest = layout.body.multiple, layout.smallest
        for name, module in frame(layout.body).items():
            self.add_module(name, module)
        self.late = tuple(late_stages(layout.body))
        for (name, (shape, number)), box in zip(late_stages(layout.body).items(), layout.boxes, strict=True):
            self.add_module(name, Made(shape, count=number, box=box, described=layout.described))
        deep = layout.body.dim * layout.body.multiple
        self.feature = Sense(deep, width=layout.sensed, described=layout.described)

    def forward(self, codes: Tensor, *, degradation: Tensor | None = None) -> Tensor:
        return codes + self.correction(codes, degradation=degradation)

    def correction(self, codes: Tensor, *, degradation: Tensor | None = None) -> Tensor:
        """What has to be added to `codes`, in its number format.

        Args:
            codes: [B, channels, H, W].
            degradation: What happened, from `degradation` of the picture that `codes` is a part of:
                [B, described], or [1, described] for all. None describes `codes` by itself.
        """
        x, seen = descend(self, self._padded(codes))
        told = self.feature(x) if degradation is None else degradation.to(x)
        stages = {name: partial(self.get_submodule(name), degradation=told) for name in self.late}
        return ascend(self, x, seen, stages)[..., : codes.shape[-2], : codes.shape[-1]]

    def degradation(self, codes: Tensor) -> Tensor:
        """What happened to each picture, in numbers that only this network reads. [B, described]."""
        told: Tensor = self.feature(descend(self, self._padded(codes))[0])
        return told

    def _padded(self, codes: Tensor) -> Tensor:
        height, width = (max(side + -side % self.multiple, self.smallest) for side in codes.shape[-2:])
        return mirrored(codes, height=height, width=width)


class Made(nn.Module):
    """A stage whose blocks mix their kernels out of one box. [B, C, H, W] both ways."""

    def __init__(self, shape: Shape, *, count: int, box: int, described: int) -> None:
        super().__init__()
        self.shapes = kernel_shapes(shape)
        self.blocks = nn.ModuleList(Norms(shape) for _ in range(count))
        self.extracts = nn.ModuleList(Mixer(described, box) for _ in range(count))
        # At first all kernels of a box count alike, and the mean of n has 1 / n of the variance.
        first = [sqrt(box) * _as_convolutions_begin(box, size) for size in self.shapes]
        self.kernel_box = nn.Parameter(torch.cat(first, dim=1))

    def forward(self, x: Tensor, *, degradation: Tensor) -> Tensor:
        for block, extract in zip(self.blocks, self.extracts, strict=True):
            x = block(x, self.kernels(extract(degradation)))
        return x

    def kernels(self, weights: Tensor) -> Kernels:
        """Kernels mixed by `weights` of the box, [B, box]: one of each per picture, or one for B = 1."""
        mixed = weights @ self.kernel_box
        parts = torch.split(mixed, [prod(size) for size in self.shapes], dim=1)
        ahead = (len(mixed),) if len(mixed) > 1 else ()
        return Kernels(*(part.reshape(ahead + size) for part, size in zip(parts, self.shapes, strict=True)))


class Norms(nn.Module):
    """A block without its kernels. [B, C, H, W] both ways."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(shape.channels, centred=shape.centred)
        self.attn = Sharpness(shape.heads)
        self.norm2 = ChannelNorm(shape.channels, centred=shape.centred)

    def forward(self, x: Tensor, kernels: Kernels) -> Tensor:
        return transform(x, self, kernels)


class Mixer(nn.Module):
    """[B, described] to how much each kernel of a box counts, [B, box], in sum 1."""

    def __init__(self, described: int, box: int) -> None:
        super().__init__()
        widths = [described, described // 2, described // 4, described // 8]
        layers = [(nn.Linear(*pair), nn.GELU()) for pair in pairwise(widths)]
        self.net = nn.Sequential(*chain(*layers), nn.Linear(widths[-1], box))

    def forward(self, degradation: Tensor) -> Tensor:
        weights: Tensor = self.net(degradation).softmax(1)
        return weights


def _as_convolutions_begin(number: int, size: tuple[int, int, int, int]) -> Tensor:
    """[number, kernel's numbers]: uniform, with the variance that torch gives a fresh convolution's."""
    bound = 1 / sqrt(prod(size[1:]))
    return torch.empty(number, prod(size)).uniform_(-bound, bound)
