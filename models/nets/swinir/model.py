"""SwinIR, restoration by attention in shifted windows (Liang et al. 2021, arXiv 2108.10257).

Groups of Swin layers between convolutions, with a residual around each group and around all of them. Released
for noise and JPEG artefacts (grey and RGB) and for super-resolution, not for blur.

Activations exceed fp16's 65,504: bf16 or fp32 only. Differences from the release:
- The release pads by a whole window where the sides are multiples already; published figures include that.
  Here padding is minimal, and `padding="paper"` pads as the release does.
- Masks and indices in the files follow from the window: they are compared on loading and then dropped.
- The release neither shifts nor masks where the training crops are no larger than a window. No released
  network has such crops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from freezeframe.models.imageops.padding import pad_to_multiple, reflect_pad
from freezeframe.models.nets.blocks.window_attention import (
    DERIVED_KEYS,
    Layer,
    ShiftMasks,
    WindowAttention,
    check_derived,
    full_shift_mask,
    relative_positions,
    shift_masks,
)
from freezeframe.models.nets.state import load_network

from .config import NetConfig, infer_config
from .upsamplers import body_conv, build_head, conv, reconstruct

__all__ = ["NetConfig", "Padding", "SwinIR", "infer_config", "load", "matches", "to_published_state"]

Padding = Literal["least", "paper"]

MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K in sRGB, subtracted from RGB images; 0 for grey ones


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether the weights are those of a SwinIR for RGB or grey images."""
    needed = (
        "patch_embed.norm.weight",
        "layers.0.residual_group.blocks.0.attn.relative_position_bias_table",
        "layers.0.residual_group.blocks.0.mlp.fc1.weight",
    )
    first = "conv_first.1.weight" in state or "conv_first.weight" in state
    last = "conv_last.weight" in state or "upsample.0.weight" in state
    # HAT has all of these, and overlapping cross-attention besides.
    hat = "layers.0.residual_group.overlap_attn.qkv.weight" in state
    return first and last and not hat and all(key in state for key in needed)


def load(
    state: Mapping[str, Tensor], *, padding: Padding = "least", value_range: float | None = None
) -> SwinIR:
    """Load the network with these weights, in float32.

    Args:
        state: Keys and shapes as published.
        padding: See `SwinIR`.
        value_range: Of the values inside; None is 255 for windows of 7 pixels, as released, else 1.

    Raises:
        RuntimeError: A key is missing or unexpected, a shape differs, or a mask is not that of the window;
            the message names the key.
    """
    config = infer_config(state)
    if value_range is not None:
        config = replace(config, value_range=value_range)
    weights = {key: value for key, value in state.items() if not key.endswith(DERIVED_KEYS)}
    network = load_network(lambda: SwinIR(config, padding=padding), weights)
    check_derived(state, config.window)
    return network


def to_published_state(network: SwinIR, *, side: int) -> dict[str, Tensor]:
    """Return the state dict as the authors' code saves it, with masks for training crops of `side` pixels."""
    window, state = network.config.window, dict(network.state_dict())
    index, mask = relative_positions(window), full_shift_mask((side, side), window)
    for i, depth in enumerate(network.config.depths):
        for j in range(depth):
            block = f"layers.{i}.residual_group.blocks.{j}"
            state[f"{block}.attn.relative_position_index"] = index
            if j % 2:
                state[f"{block}.attn_mask"] = mask
    return state


class SwinIR(nn.Module):
    """Restore sRGB-encoded images of any size, [B, channels, H, W] in [0, 1], at `scale` times the size.

    The receptive field grows by a window per layer. An output pixel depends on its neighbourhood and,
    slightly, on the position of the window grid: tiles that start at multiples of `multiple` agree with the
    whole image away from their borders.

    Args:
        config: Sizes.
        padding: Reflection at the right and lower border: 'least' up to the next multiple of the window,
            'paper' as in the authors' test script, at least one pixel and up to a window more, with the
            border pixel repeated.
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
        """Compute the residual to add to `encoded`, in its number format.

        Raises:
            ValueError: The network upsamples.
        """
        if self.scale != 1:
            raise ValueError(f"a network that upsamples by {self.scale} has no correction; use forward")
        out = self._residual(encoded)
        return out if self.config.upsampler == "" else out + self._mean(encoded) - encoded

    def _residual(self, encoded: Tensor) -> Tensor:
        """Compute the output of the last layer, scaled to the range of `encoded`, without the mean."""
        height, width = (side * self.scale for side in encoded.shape[-2:])
        scaled = (self._padded(encoded) - self._mean(encoded)) * self.config.value_range
        first = self.conv_first(scaled)
        if first.dtype == torch.float16:
            raise ValueError("SwinIR overflows in float16; compute in bfloat16 or float32")
        out = reconstruct(self, first + self._body(first), self.config)
        return out[..., :height, :width] / self.config.value_range

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
    """Swin layers, every second one shifted, a convolution and a residual. [B, H, W, C] to the same."""

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
    """Initialise linear layers as Swin does; convolutions keep torch's default."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
