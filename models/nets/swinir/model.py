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

from freezeframe.models.imageops.padding import divisible, mirrored

from .config import Layout, read_layout
from .upsamplers import conv, head, mixing, to_picture
from .window_attention import Layer, Seams, WindowAttention, relative_positions, seams, whole_mask

__all__ = ["Layout", "Padding", "SwinIR", "detect", "load", "published", "read_layout"]

Padding = Literal["least", "paper"]

MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K's sRGB codes; grey pictures are taken as they are
FIXED = ("attn_mask", "relative_position_index")  # what files hold and the window tells


def detect(state: Mapping[str, Tensor]) -> bool:
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
    layout = read_layout(state)
    if value_range is not None:
        layout = replace(layout, value_range=value_range)
    weights = {key: value.float() for key, value in state.items() if not key.endswith(FIXED)}
    with torch.device("meta"):
        network = SwinIR(layout, padding=padding)
    network.load_state_dict(weights, strict=True, assign=True)
    _check_fixed(state, layout.window)
    return network.eval().requires_grad_(False)


def published(network: SwinIR, *, side: int) -> dict[str, Tensor]:
    """The state as the authors' code saves it: with the masks of its training crops, `side` pixels wide."""
    window, state = network.layout.window, dict(network.state_dict())
    index, mask = relative_positions(window), whole_mask((side, side), window)
    for i, depth in enumerate(network.layout.depths):
        for j in range(depth):
            block = f"layers.{i}.residual_group.blocks.{j}"
            state[f"{block}.attn.relative_position_index"] = index
            if j % 2:
                state[f"{block}.attn_mask"] = mask
    return state


def _check_fixed(state: Mapping[str, Tensor], window: int) -> None:
    """The file's masks and indices against our own: another order of pixels would go unnoticed."""
    index, masks = relative_positions(window), dict[int, Tensor]()
    for key in (key for key in state if key.endswith(FIXED)):
        value = state[key]
        ours = index
        if key.endswith("attn_mask"):
            side = round(len(value) ** 0.5) * window
            ours = masks.setdefault(side, whole_mask((side, side), window))
        if value.shape != ours.shape or not torch.equal(value.to(ours), ours):
            raise RuntimeError(f"{key} is not that of a shifted window of {window} pixels")


class SwinIR(nn.Module):
    """Restores sRGB-coded pictures of any size, [B, channels, H, W] in [0, 1], to `scale` times the size.

    Attention reaches a window far per layer, so a place's answer depends on the pixels around it, but also,
    a little, on where the grid of windows lies: tiles that start at multiples of `multiple` agree with the
    whole picture away from their borders.

    Args:
        layout: Sizes.
        padding: What is mirrored at the right and lower border: 'least' until sides divide by the window,
            'paper' as the authors' test script does, up to a whole window more with the last pixel twice.
    """

    def __init__(self, layout: Layout, *, padding: Padding = "least") -> None:
        super().__init__()
        self.layout, self.padding = layout, padding
        self.scale, self.multiple = layout.scale, layout.multiple
        first = conv(layout.channels * layout.unshuffle**2, layout.dim)
        cells = nn.PixelUnshuffle(layout.unshuffle)
        self.conv_first = first if layout.unshuffle == 1 else nn.Sequential(cells, first)
        self.patch_embed = nn.ModuleDict({"norm": nn.LayerNorm(layout.dim)})
        self.layers = nn.ModuleList(Group(layout, i) for i in range(len(layout.depths)))
        self.norm = nn.LayerNorm(layout.dim)
        self.conv_after_body = mixing(layout)
        for name, module in head(layout).items():
            self.add_module(name, module)
        self.apply(_begin)

    def forward(self, codes: Tensor) -> Tensor:
        if self.layout.enlarging == "":
            return codes + self.correction(codes)
        return self._answer(codes) + self._mean(codes)

    def correction(self, codes: Tensor) -> Tensor:
        """What has to be added to `codes`, in its number format.

        Raises:
            ValueError: The network enlarges pictures.
        """
        if self.scale != 1:
            raise ValueError(f"a network that enlarges {self.scale} times has no correction; call it")
        answer = self._answer(codes)
        return answer if self.layout.enlarging == "" else answer + self._mean(codes) - codes

    def _answer(self, codes: Tensor) -> Tensor:
        """The last layer's, of the picture's size times `scale` and in the codes' range, without the mean."""
        height, width = (side * self.scale for side in codes.shape[-2:])
        inside = (self._padded(codes) - self._mean(codes)) * self.layout.value_range
        first = self.conv_first(inside)
        if first.dtype == torch.float16:
            raise ValueError("SwinIR overflows in float16; compute in bfloat16 or float32")
        answer = to_picture(self, first + self._body(first), self.layout)
        return answer[..., :height, :width] / self.layout.value_range

    def _body(self, first: Tensor) -> Tensor:
        x: Tensor = self.patch_embed["norm"](first.permute(0, 2, 3, 1))
        joined = seams((x.shape[1], x.shape[2]), self.layout.window, device=x.device)
        for group in self.layers:
            x = group(x, joined)
        mixed: Tensor = self.conv_after_body(self.norm(x).permute(0, 3, 1, 2))
        return mixed

    def _padded(self, codes: Tensor) -> Tensor:
        if self.padding == "least":
            return divisible(codes, self.multiple)
        height, width = ((side // self.multiple + 1) * self.multiple for side in codes.shape[-2:])
        return mirrored(codes, height=height, width=width, edge="twice")

    def _mean(self, codes: Tensor) -> Tensor:
        mean = MEAN if self.layout.channels == 3 else (0.0,) * self.layout.channels
        return codes.new_tensor(mean).reshape(-1, 1, 1)


class Group(nn.Module):
    """Swin layers, every second one shifted, then a convolution, and a way around. [B, H, W, C] both ways."""

    def __init__(self, layout: Layout, index: int) -> None:
        super().__init__()
        layers = (Layer(layout.shape(index)) for _ in range(layout.depths[index]))
        self.residual_group = nn.ModuleDict({"blocks": nn.ModuleList(layers)})
        self.conv = mixing(layout)

    def forward(self, x: Tensor, joined: Seams) -> Tensor:
        inner = x
        for i, layer in enumerate(self.residual_group["blocks"].children()):
            inner = layer(inner, joined if i % 2 else None)
        changed: Tensor = self.conv(inner.permute(0, 3, 1, 2))
        return x + changed.permute(0, 2, 3, 1)


def _begin(module: nn.Module) -> None:
    """Small linear weights, as Swin networks are trained from; convolutions begin as torch makes them."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
