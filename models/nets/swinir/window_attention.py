"""Attention inside windows of a picture that shift from layer to layer (Liu et al. 2021, arXiv 2103.14030).

Pixels lie as [B, H, W, C], both sides multiples of the window. Modules are named as in SwinIR's checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

CPU_WINDOW_BATCH = 256  # windows whose attention a CPU holds in memory together
MASK_LOGIT = -100.0  # what a mask adds to the logits of pixels that are no neighbours


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of one layer."""

    channels: int
    heads: int
    window: int  # side in pixels
    hidden: int  # channels between the two layers per pixel


@dataclass(frozen=True, slots=True)
class ShiftMasks:
    """The windows in which a cyclic shift brought opposite borders of the picture together."""

    at: Tensor  # [E] their places in a picture's row of windows
    masks: Tensor  # [E, 1, P, P] added to the logits between their pixels


def shift_masks(size: tuple[int, int], window: int, *, device: torch.device | None = None) -> ShiftMasks:
    """Of pictures of `size` shifted by half a window.

    Only the last row and the last column of windows have seams: to know these costs next to nothing, and one
    call per picture serves all its layers, where the published code masks every window in every layer.
    """
    down, across = (length // window for length in size)
    # In closed form: to look for them in a tensor would stop a GPU, a tracer and the meta device.
    column = torch.arange(1, down, device=device) * across - 1
    row = torch.arange((down - 1) * across, down * across, device=device)
    in_column, in_row, in_both = _masks(window, device)
    masks = torch.cat(
        [in_column.expand(down - 1, -1, -1), in_row.expand(across - 1, -1, -1), in_both.unsqueeze(0)]
    )
    return ShiftMasks(torch.cat([column, row]), masks.unsqueeze(1))


def _masks(window: int, device: torch.device | None) -> tuple[Tensor, Tensor, Tensor]:
    """Of a window in the last column, in the last row, and in both. Each [P, P]."""
    beyond = torch.arange(window, device=device) >= window - window // 2
    row = beyond[:, None].expand(window, window).flatten()
    column = beyond.expand(window, window).flatten()
    across, down = column[:, None] != column, row[:, None] != row
    in_column, in_row, in_both = (apart * MASK_LOGIT for apart in (across, down, across | down))
    return in_column, in_row, in_both


class Layer(nn.Module):
    """Attention inside windows, then two layers per pixel. [B, H, W, C] both ways."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.channels)
        self.attn = WindowAttention(shape)
        self.norm2 = nn.LayerNorm(shape.channels)
        self.mlp = Mlp(shape)

    def forward(self, x: Tensor, shift: ShiftMasks | None = None) -> Tensor:
        """Windows start at the corner, or half a window inside where seams are given."""
        x = x + self.attn(self.norm1(x), shift)
        changed: Tensor = self.mlp(self.norm2(x))
        return x + changed


class Mlp(nn.Module):
    """Two layers at each pixel. [..., C] both ways."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.fc1 = nn.Linear(shape.channels, shape.hidden)
        self.fc2 = nn.Linear(shape.hidden, shape.channels)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.fc2(gelu(self.fc1(x)))
        return changed


class WindowAttention(nn.Module):
    """Each pixel gathers from its window, by likeness and by a learned weight for where the other lies."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.window, self.heads = shape.window, shape.heads
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros((2 * shape.window - 1) ** 2, shape.heads)
        )
        self.qkv = nn.Linear(shape.channels, 3 * shape.channels)
        self.proj = nn.Linear(shape.channels, shape.channels)

    def forward(self, x: Tensor, shift: ShiftMasks | None = None) -> Tensor:
        """[B, H, W, C] both ways."""
        if shift is None:
            return self._attend(x, None)
        half = self.window // 2
        return self._attend(x.roll((-half, -half), (1, 2)), shift).roll((half, half), (1, 2))

    def _attend(self, x: Tensor, shift: ShiftMasks | None) -> Tensor:
        windows = window_partition(x, self.window)  # [B, N, P, C]
        batch, number, pixels, _ = windows.shape
        parts = self.qkv(windows).reshape(batch * number, pixels, 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # [B N, heads, P, C / heads]
        at = relative_positions(self.window, device=x.device)
        bias = self.relative_position_bias_table[at].permute(2, 0, 1).to(q)
        chunk = len(q) if q.is_cuda else CPU_WINDOW_BATCH
        chunks = zip(q.split(chunk), k.split(chunk), v.split(chunk), strict=True)
        attended = torch.cat([attend(*part, bias) for part in chunks])
        if shift is not None:
            places = (torch.arange(batch, device=x.device)[:, None] * number + shift.at).flatten()
            masks = shift.masks.to(q).repeat(batch, 1, 1, 1)
            again = attend(q[places], k[places], v[places], bias + masks)
            attended = attended.index_copy(0, places, again)
        out: Tensor = self.proj(attended.transpose(1, 2).reshape(windows.shape))
        return window_reverse(out, (x.shape[1], x.shape[2]))


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """softmax(query key' / sqrt(d) + bias) value, over the pixels of each window. [N, heads, P, d]."""
    if query.is_cuda:
        return scaled_dot_product_attention(query, key, value, attn_mask=bias)
    # For windows this small torch's fused attention takes two (fp32) to four times (bf16) as long on CPUs.
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1) + bias
    attended: Tensor = logits.softmax(-1) @ value
    return attended


def relative_positions(window: int, *, device: torch.device | None = None) -> Tensor:
    """The row of the bias table for each pair of pixels of a window. [P, P]."""
    side = torch.arange(window, device=device)
    rows, columns = torch.meshgrid(side, side, indexing="ij")
    down, right = (at.flatten()[:, None] - at.flatten() + window - 1 for at in (rows, columns))
    return down * (2 * window - 1) + right


def window_partition(x: Tensor, window: int) -> Tensor:
    """[B, H, W, C] to [B, N, P, C]: windows in rows, pixels in rows."""
    batch, height, width, channels = x.shape
    tiles = x.reshape(batch, height // window, window, width // window, window, channels)
    return tiles.transpose(2, 3).reshape(batch, -1, window * window, channels)


def window_reverse(windows: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `window_partition`."""
    batch, _, pixels, channels = windows.shape
    window = round(pixels**0.5)
    tiles = windows.reshape(batch, size[0] // window, size[1] // window, window, window, channels)
    return tiles.transpose(2, 3).reshape(batch, *size, channels)


def full_shift_mask(size: tuple[int, int], window: int) -> Tensor:
    """The masks of all windows of a shifted picture, as files hold them for training's crops. [N, P, P]."""
    shift = shift_masks(size, window)
    number = size[0] // window * (size[1] // window)
    return torch.zeros(number, window**2, window**2).index_copy(0, shift.at, shift.masks[:, 0])
