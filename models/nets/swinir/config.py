"""Sizes of SwinIR networks: the released ones, and those inferred from weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt
from typing import Literal

from torch import Tensor

from freezeframe.models.nets.blocks.window_attention import LayerShape
from freezeframe.models.nets.state import simplest_ratio
from freezeframe.models.store.state_dict import count_keys

Upsampler = Literal["", "pixelshuffle", "pixelshuffledirect", "nearest+conv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Sizes of the network."""

    dim: int = 180  # channels of the groups
    depths: tuple[int, ...] = (6, 6, 6, 6, 6, 6)  # layers in each group, every second one shifted
    heads: tuple[int, ...] = (6, 6, 6, 6, 6, 6)  # of the attention in each group
    window: int = 8  # side in pixels
    expansion: float = 2.0  # hidden channels of the MLPs over their input channels
    channels: int = 3  # of the image: RGB, or 1 for grey
    scale: int = 1  # upsampling factor
    upsampler: Upsampler = ""  # head, as the authors name it; '' adds a residual at the same size
    features: int = 64  # channels of the upsampling head
    narrow: bool = False  # groups end in a bottleneck of three convolutions instead of one ('3conv')
    unshuffle: int = 1  # factor of a pixel unshuffle before the groups (DiffBIR)
    value_range: float = 1.0  # of the values inside the network, for inputs in [0, 1]

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.heads) or any(self.dim % heads for heads in self.heads):
            raise ValueError(
                f"dim {self.dim}, depths {self.depths}, heads {self.heads}: give one number of heads per"
                " depth, each a divisor of dim"
            )
        if (self.upsampler == "") != (self.factor == 1):
            raise ValueError(
                f"scale {self.scale}, upsampler {self.upsampler!r}: '' is for scale 1, and only for scale 1"
            )

    @property
    def factor(self) -> int:
        """Upsampling factor of the head: side of the output over that of the groups' features."""
        return self.scale * self.unshuffle

    @property
    def multiple(self) -> int:
        """Sides that are multiples of this need no padding. Pixels."""
        return self.window * self.unshuffle

    def shape(self, group: int) -> LayerShape:
        hidden = int(self.dim * self.expansion)
        return LayerShape(channels=self.dim, heads=self.heads[group], window=self.window, hidden=hidden)


# As released; NOISE and JPEG keep the size, the others upsample. Million parameters.
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
# DiffBIR's, with which DreamClear cleans its input: pixel unshuffle by 8, and upsampling by 8 again. 15.79
DIFFBIR = NetConfig(depths=(6,) * 8, heads=(6,) * 8, unshuffle=8, upsampler="nearest+conv")


def infer_config(state: Mapping[str, Tensor]) -> NetConfig:
    """Infer the hyper-parameters from the shapes, and the range of values from the window."""
    first = state["conv_first.1.weight" if "conv_first.1.weight" in state else "conv_first.weight"]
    groups = [f"layers.{i}.residual_group.blocks." for i in range(count_keys(state, "layers."))]
    tables = [state[f"{group}0.attn.relative_position_bias_table"].shape for group in groups]
    upsampler = _upsampler(state)
    channels = _channels(state, upsampler, cells=first.shape[1])
    unshuffle = isqrt(first.shape[1] // channels)
    window = (isqrt(tables[0][0]) + 1) // 2
    return NetConfig(
        dim=first.shape[0],
        depths=tuple(count_keys(state, group) for group in groups),
        heads=tuple(table[1] for table in tables),
        window=window,
        expansion=simplest_ratio({first.shape[0]: state[f"{groups[0]}0.mlp.fc1.weight"].shape[0]}),
        channels=channels,
        scale=_factor(state, upsampler, channels) // unshuffle,
        upsampler=upsampler,
        features=_features(state),
        narrow="conv_after_body.0.weight" in state,
        unshuffle=unshuffle,
        # The networks for JPEG, with windows of 7 against its blocks of 8, were trained on values up to 255.
        value_range=255.0 if window == 7 else 1.0,
    )


def _upsampler(state: Mapping[str, Tensor]) -> Upsampler:
    if "conv_up1.weight" in state:
        return "nearest+conv"
    if "conv_before_upsample.0.weight" in state:
        return "pixelshuffle"
    return "pixelshuffledirect" if "upsample.0.weight" in state else ""


def _channels(state: Mapping[str, Tensor], upsampler: Upsampler, *, cells: int) -> int:
    """Infer the image's channels; with pixelshuffledirect the last layer has factor^2 times as many."""
    return cells if upsampler == "pixelshuffledirect" else state["conv_last.weight"].shape[0]


def _factor(state: Mapping[str, Tensor], upsampler: Upsampler, channels: int) -> int:
    if upsampler == "nearest+conv":
        return int(2 ** count_keys(state, "conv_up"))
    if upsampler == "pixelshuffledirect":
        return isqrt(state["upsample.0.weight"].shape[0] // channels)
    factor = 1
    for key in (key for key in state if key.startswith("upsample.") and key.endswith(".weight")):
        factor *= isqrt(state[key].shape[0] // state[key].shape[1])
    return factor


def _features(state: Mapping[str, Tensor]) -> int:
    key = "conv_before_upsample.0.weight"
    return state[key].shape[0] if key in state else 64
