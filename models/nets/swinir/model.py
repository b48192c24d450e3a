"""SwinIR, restoration by attention inside shifting windows (Liang et al. 2021, arXiv 2108.10257).

Groups of Swin layers between convolutions, each group and all of them together with a way around. Released
for noise and JPEG artefacts (grey and RGB) and for enlarging; never for blur.

Inner numbers pass fp16's 65,504: bf16 or fp32 only. Where the release and this file differ:
- The release mirrors one window more than needed where sides divide already; published figures were measured
  so. Here the least is mirrored, and `padding="paper"` does as the release.
- Files hold masks and indices that follow from the window: they are compared on loading and not kept.
- The release masks nothing, and does not shift, where training crops were no larger than a window. No
  released network is such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from freezeframe.models.imageops.padding import pad_to_multiple, reflect_pad

from .config import NetConfig, infer_config
from .upsamplers import body_conv, build_head, conv, reconstruct
from .window_attention import (
    Layer,
    ShiftMasks,
    WindowAttention,
    full_shift_mask,
    relative_positions,
    shift_masks,
)

__all__ = ["NetConfig", "Padding", "SwinIR", "infer_config", "load", "matches", "to_published_state"]

Padding = Literal["least", "paper"]

MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K's sRGB codes; grey pictures are taken as they are
DERIVED_KEYS = ("attn_mask", "relative_position_index")  # what files hold and the window tells


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether these are the weights of a SwinIR for RGB or grey pictures."""
    needed = (
        "patch_embed.norm.weight",
        "layers.0.residual_group.blocks.0.attn.relative_position_bias_table",
        "layers.0.residual_group.blocks.0.mlp.fc1.weight",
    )
    first = "conv_first.1.weight" in state or "conv_first.weight" in state
    last = "conv_last.weight" in state or "upsample.0.weight" in state
    # HAT has all of these, and attention across windows besides.
    hat = "layers.0.residual_group.overlap_attn.qkv.weight" in state
    return first and last and not hat and all(key in state for key in needed)


def load(
    state: Mapping[str, Tensor], *, padding: Padding = "least", value_range: float | None = None
) -> SwinIR:
    """The network that these weights belong to, in float32.

    Args:
        state: Keys and shapes of the published layout; anything missing, left over or misshapen raises
            RuntimeError naming it, and so do masks that are not those of the window.
        padding: See `SwinIR`.
        value_range: Of the numbers inside; None is 255 for windows of 7 pixels, as released, else 1.
    """
    config = infer_config(state)
    if value_range is not None:
        config = replace(config, value_range=value_range)
    weights = {key: value.float() for key, value in state.items() if not key.endswith(DERIVED_KEYS)}
    with torch.device("meta"):
        network = SwinIR(config, padding=padding)
    network.load_state_dict(weights, strict=True, assign=True)
    _check_derived(state, config.window)
    return network.eval().requires_grad_(False)


def to_published_state(network: SwinIR, *, side: int) -> dict[str, Tensor]:
    """The state as the authors' code saves it: with the masks of its training crops, `side` pixels wide."""
    window, state = network.config.window, dict(network.state_dict())
    index, mask = relative_positions(window), full_shift_mask((side, side), window)
    for i, depth in enumerate(network.config.depths):
        for j in range(depth):
            block = f"layers.{i}.residual_group.blocks.{j}"
            state[f"{block}.attn.relative_position_index"] = index
            if j % 2:
                state[f"{block}.attn_mask"] = mask
    return state


def _check_derived(state: Mapping[str, Tensor], window: int) -> None:
    """The file's masks and indices against our own: another order of pixels would go unnoticed."""
    index, masks = relative_positions(window), dict[int, Tensor]()
    for key in (key for key in state if key.endswith(DERIVED_KEYS)):
        value = state[key]
        ours = index
        if key.endswith("attn_mask"):
            side = round(len(value) ** 0.5) * window
            ours = masks.setdefault(side, full_shift_mask((side, side), window))
        if value.shape != ours.shape or not torch.equal(value.to(ours), ours):
            raise RuntimeError(f"{key} is not that of a shifted window of {window} pixels")


class SwinIR(nn.Module):
    """Restores sRGB-coded pictures of any size, [B, channels, H, W] in [0, 1], to `scale` times the size.

    Attention reaches a window far per layer, so a place's answer depends on the pixels around it, but also,
    a little, on where the grid of windows lies: tiles that start at multiples of `multiple` agree with the
    whole picture away from their borders.

    Args:
        config: Sizes.
        padding: What is mirrored at the right and lower border: 'least' until sides divide by the window,
            'paper' as the authors' test script does, up to a whole window more with the last pixel twice.
    """

    def __init__(self, config: NetConfig, *, padding: Padding = "least") -> None:
        super().__init__()
        self.config, self.padding = config, padding
        self.scale, self.multiple = config.scale, config.multiple
        first = conv(config.channels * config.unshuffle**2, config.dim)
        cells = nn.PixelUnshuffle(config.unshuffle)
        self.conv_first = first if config.unshuffle == 1 else nn.Sequential(cells, first)
        self.patch_embed = nn.ModuleDict({"norm": nn.LayerNorm(config.dim)})
        self.layers = nn.ModuleList(Group(config, i) for i in range(len(config.depths)))
        self.norm = nn.LayerNorm(config.dim)
        self.conv_after_body = body_conv(config)
        for name, module in build_head(config).items():
            self.add_module(name, module)
        self.apply(_init_weights)

    def forward(self, encoded: Tensor) -> Tensor:
        if self.config.upsampler == "":
            return encoded + self.correction(encoded)
        return self._residual(encoded) + self._mean(encoded)

    def correction(self, encoded: Tensor) -> Tensor:
        """What has to be added to `encoded`, in its number format.

        Raises:
            ValueError: The network enlarges pictures.
        """
        if self.scale != 1:
            raise ValueError(f"a network that enlarges {self.scale} times has no correction; call it")
        answer = self._residual(encoded)
        return answer if self.config.upsampler == "" else answer + self._mean(encoded) - encoded

    def _residual(self, encoded: Tensor) -> Tensor:
        """The last layer's, of the picture's size times `scale` and in the codes' range, without the mean."""
        height, width = (side * self.scale for side in encoded.shape[-2:])
        scaled = (self._padded(encoded) - self._mean(encoded)) * self.config.value_range
        first = self.conv_first(scaled)
        if first.dtype == torch.float16:
            raise ValueError("SwinIR overflows in float16; compute in bfloat16 or float32")
        answer = reconstruct(self, first + self._body(first), self.config)
        return answer[..., :height, :width] / self.config.value_range

    def _body(self, first: Tensor) -> Tensor:
        x: Tensor = self.patch_embed["norm"](first.permute(0, 2, 3, 1))
        shift = shift_masks((x.shape[1], x.shape[2]), self.config.window, device=x.device)
        for group in self.layers:
            x = group(x, shift)
        mixed: Tensor = self.conv_after_body(self.norm(x).permute(0, 3, 1, 2))
        return mixed

    def _padded(self, encoded: Tensor) -> Tensor:
        if self.padding == "least":
            return pad_to_multiple(encoded, self.multiple)
        height, width = ((side // self.multiple + 1) * self.multiple for side in encoded.shape[-2:])
        return reflect_pad(encoded, height=height, width=width, mode="symmetric")

    def _mean(self, encoded: Tensor) -> Tensor:
        mean = MEAN if self.config.channels == 3 else (0.0,) * self.config.channels
        return encoded.new_tensor(mean).reshape(-1, 1, 1)


class Group(nn.Module):
    """Swin layers, every second one shifted, then a convolution, and a way around. [B, H, W, C] both ways."""

    def __init__(self, config: NetConfig, index: int) -> None:
        super().__init__()
        layers = (Layer(config.shape(index)) for _ in range(config.depths[index]))
        self.residual_group = nn.ModuleDict({"blocks": nn.ModuleList(layers)})
        self.conv = body_conv(config)

    def forward(self, x: Tensor, shift: ShiftMasks) -> Tensor:
        inner = x
        for i, layer in enumerate(self.residual_group["blocks"].children()):
            inner = layer(inner, shift if i % 2 else None)
        changed: Tensor = self.conv(inner.permute(0, 3, 1, 2))
        return x + changed.permute(0, 2, 3, 1)


def _init_weights(module: nn.Module) -> None:
    """Small linear weights, as Swin networks are trained from; convolutions begin as torch makes them."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
