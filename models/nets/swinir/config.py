"""Sizes of SwinIR networks: those released, and those read off the shapes of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt
from typing import Literal

from torch import Tensor

from freezeframe.models.nets.restormer.unet import count, simplest_ratio

from .window_attention import Shape

Upsampler = Literal["", "pixelshuffle", "pixelshuffledirect", "nearest+conv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Sizes of the network."""

    dim: int = 180  # channels of the groups
    depths: tuple[int, ...] = (6, 6, 6, 6, 6, 6)  # layers in each group, every second one shifted
    heads: tuple[int, ...] = (6, 6, 6, 6, 6, 6)  # of the attention in each group
    window: int = 8  # side in pixels
    expansion: float = 2.0  # channels inside the layers per pixel over those outside
    channels: int = 3  # of the picture: RGB, or 1 for grey
    scale: int = 1  # how many times the picture is enlarged
    upsampler: Upsampler = ""  # how, as the authors name it; '' adds a correction in place
    features: int = 64  # channels while it is enlarged
    narrow: bool = False  # each group ends in three convolutions, thin between, and not in one ('3conv')
    unshuffle: int = 1  # side in pixels of what becomes the channels of one, before the groups (DiffBIR's)
    value_range: float = 1.0  # of the numbers inside, for codes in [0, 1]

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.heads) or any(self.dim % heads for heads in self.heads):
            raise ValueError(f"dim {self.dim}, depths {self.depths}, heads {self.heads}: heads divide dim")
        if (self.upsampler == "") != (self.factor == 1):
            raise ValueError(f"scale {self.scale} by enlarging {self.upsampler!r}: '' for 1, and only for 1")

    @property
    def factor(self) -> int:
        """How many pixels, on a side, one of the groups becomes."""
        return self.scale * self.unshuffle

    @property
    def multiple(self) -> int:
        """Sides that divide by this need no mirroring. Pixels."""
        return self.window * self.unshuffle

    def shape(self, group: int) -> Shape:
        hidden = int(self.dim * self.expansion)
        return Shape(channels=self.dim, heads=self.heads[group], window=self.window, hidden=hidden)


# As released; NOISE and JPEG in place, the others enlarge. Million parameters.
NOISE = NetConfig()  # 11.50
GREY_NOISE = replace(NOISE, channels=1)
JPEG = NetConfig(window=7, value_range=255.0)  # 11.49
GREY_JPEG = replace(JPEG, channels=1)
CLASSICAL_X4 = NetConfig(scale=4, upsampler="pixelshuffle")  # 11.90
REAL_X4 = NetConfig(scale=4, upsampler="nearest+conv")  # 11.72
LARGE_X4 = replace(REAL_X4, dim=240, depths=(6,) * 9, heads=(8,) * 9, narrow=True)  # 28.01
LIGHT_X2 = NetConfig(  # 0.91
    dim=60, depths=(6,) * 4, heads=(6,) * 4, scale=2, upsampler="pixelshuffledirect"
)
# DiffBIR's, which DreamClear starts from: cells of 8 pixels become channels, and pixels again. 15.79
DIFFBIR = NetConfig(depths=(6,) * 8, heads=(6,) * 8, unshuffle=8, upsampler="nearest+conv")


def infer_config(state: Mapping[str, Tensor]) -> NetConfig:
    """The hyper-parameters, from the shapes; the range of values, which leaves no trace, from the window."""
    first = state["conv_first.1.weight" if "conv_first.1.weight" in state else "conv_first.weight"]
    groups = [f"layers.{i}.residual_group.blocks." for i in range(count(state, "layers."))]
    tables = [state[f"{group}0.attn.relative_position_bias_table"].shape for group in groups]
    upsampler = _upsampler(state)
    channels = _channels(state, upsampler, cells=first.shape[1])
    unshuffle = isqrt(first.shape[1] // channels)
    window = (isqrt(tables[0][0]) + 1) // 2
    return NetConfig(
        dim=first.shape[0],
        depths=tuple(count(state, group) for group in groups),
        heads=tuple(table[1] for table in tables),
        window=window,
        expansion=simplest_ratio({first.shape[0]: state[f"{groups[0]}0.mlp.fc1.weight"].shape[0]}),
        channels=channels,
        scale=_factor(state, upsampler, channels) // unshuffle,
        upsampler=upsampler,
        features=_features(state),
        narrow="conv_after_body.0.weight" in state,
        unshuffle=unshuffle,
        # Windows of 7, that JPEG's blocks of 8 do not coincide with them, were trained at 255.
        value_range=255.0 if window == 7 else 1.0,
    )


def _upsampler(state: Mapping[str, Tensor]) -> Upsampler:
    if "conv_up1.weight" in state:
        return "nearest+conv"
    if "conv_before_upsample.0.weight" in state:
        return "pixelshuffle"
    return "pixelshuffledirect" if "upsample.0.weight" in state else ""


def _channels(state: Mapping[str, Tensor], upsampler: Upsampler, *, cells: int) -> int:
    """Of the picture; pixelshuffledirect ends in all pixels of a cell, so there the first layer tells."""
    return cells if upsampler == "pixelshuffledirect" else state["conv_last.weight"].shape[0]


def _factor(state: Mapping[str, Tensor], upsampler: Upsampler, channels: int) -> int:
    if upsampler == "nearest+conv":
        return int(2 ** count(state, "conv_up"))
    if upsampler == "pixelshuffledirect":
        return isqrt(state["upsample.0.weight"].shape[0] // channels)
    factor = 1
    for key in (key for key in state if key.startswith("upsample.") and key.endswith(".weight")):
        factor *= isqrt(state[key].shape[0] // state[key].shape[1])
    return factor


def _features(state: Mapping[str, Tensor]) -> int:
    key = "conv_before_upsample.0.weight"
    return state[key].shape[0] if key in state else 64
