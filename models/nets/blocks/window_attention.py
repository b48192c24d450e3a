"""Self-attention in windows that shift from layer to layer (Swin, Liu et al. 2021, arXiv 2103.14030).

Features are [B, H, W, C], both sides multiples of the window. Modules are named as in the checkpoints of
SwinIR and VarFormer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

CPU_BATCH = 256  # windows per attention call on CPUs: bounds the memory of the logits
MASK_LOGIT = -100.0  # added to the logits of pixels that only the cyclic shift brought together
DERIVED_KEYS = ("attn_mask", "relative_position_index")  # stored in checkpoints, functions of the window

Attend = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""query, key, value [N, heads, P, d] and bias, which broadcasts to [N, heads, P, P], to [N, heads, P, d]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShape:
    """Sizes of one layer."""

    channels: int
    heads: int
    window: int  # side in pixels
    hidden: int  # channels between the two linear layers of the MLP


@dataclass(frozen=True, slots=True)
class ShiftMasks:
    """Attention masks of the windows that hold pixels from opposite borders after a cyclic shift."""

    at: Tensor  # [E] indices of these windows, row-major in the image
    masks: Tensor  # [E, 1, P, P] added to the logits


def shift_masks(size: tuple[int, int], window: int, *, device: torch.device | None = None) -> ShiftMasks:
    """Compute the masks for images of `size` that are shifted by half a window.

    Only windows of the last row and the last column need a mask. One call per image serves all its layers;
    the published code masks every window in every layer.
    """
    rows, columns = (length // window for length in size)
    # In closed form: a data-dependent search would stall a GPU and break tracing and the meta device.
    last_column = torch.arange(1, rows, device=device) * columns - 1
    last_row = torch.arange((rows - 1) * columns, rows * columns, device=device)
    in_column, in_row, in_both = _masks(window, device)
    masks = torch.cat(
        [in_column.expand(rows - 1, -1, -1), in_row.expand(columns - 1, -1, -1), in_both.unsqueeze(0)]
    )
    return ShiftMasks(torch.cat([last_column, last_row]), masks.unsqueeze(1))


def _masks(window: int, device: torch.device | None) -> tuple[Tensor, Tensor, Tensor]:
    """Masks of a window in the last column, in the last row, and in both. Each [P, P]."""
    beyond = torch.arange(window, device=device) >= window - window // 2
    row = beyond[:, None].expand(window, window).flatten()
    column = beyond.expand(window, window).flatten()
    across, down = column[:, None] != column, row[:, None] != row
    in_column, in_row, in_both = (apart * MASK_LOGIT for apart in (across, down, across | down))
    return in_column, in_row, in_both


class Layer(nn.Module):
    """Swin layer: window attention and an MLP, each with a norm and a residual. [B, H, W, C] to the same."""

    def __init__(self, shape: LayerShape, *, attend: Attend | None = None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.channels)
        self.attn = WindowAttention(shape, attend=attend)
        self.norm2 = nn.LayerNorm(shape.channels)
        self.mlp = Mlp(shape)

    def forward(self, x: Tensor, shift: ShiftMasks | None = None) -> Tensor:
        """Windows start at the corner; with `shift`, half a window inside."""
        x = x + self.attn(self.norm1(x), shift)
        changed: Tensor = self.mlp(self.norm2(x))
        return x + changed


class Mlp(nn.Module):
    """Two linear layers per pixel with a GELU between. [..., C] to the same."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.fc1 = nn.Linear(shape.channels, shape.hidden)
        self.fc2 = nn.Linear(shape.hidden, shape.channels)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.fc2(gelu(self.fc1(x)))
        return changed


class WindowAttention(nn.Module):
    """Multi-head self-attention inside each window, with a learned bias per relative position.

    Args:
        shape: Sizes of the layer.
        attend: Attention over the pixels of each window; None is `attend` of this module.
        cpu_batch: Windows per call of `attend` on CPUs.
    """

    def __init__(
        self, shape: LayerShape, *, attend: Attend | None = None, cpu_batch: int = CPU_BATCH
    ) -> None:
        super().__init__()
        self.window, self.heads = shape.window, shape.heads
        self.attend, self.cpu_batch = attend, cpu_batch
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros((2 * shape.window - 1) ** 2, shape.heads)
        )
        self.qkv = nn.Linear(shape.channels, 3 * shape.channels)
        self.proj = nn.Linear(shape.channels, shape.channels)

    def forward(self, x: Tensor, shift: ShiftMasks | None = None) -> Tensor:
        """[B, H, W, C] to the same."""
        if shift is None:
            return self._in_windows(x, None)
        half = self.window // 2
        return self._in_windows(x.roll((-half, -half), (1, 2)), shift).roll((half, half), (1, 2))

    def _in_windows(self, x: Tensor, shift: ShiftMasks | None) -> Tensor:
        attend_windows = self.attend or attend
        windows = window_partition(x, self.window)  # [B, N, P, C]
        batch, number, pixels, _ = windows.shape
        parts = self.qkv(windows).reshape(batch * number, pixels, 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # [B N, heads, P, C / heads]
        index = relative_positions(self.window, device=x.device)
        bias = self.relative_position_bias_table[index].permute(2, 0, 1).to(q)
        chunk = len(q) if q.is_cuda else self.cpu_batch
        chunks = zip(q.split(chunk), k.split(chunk), v.split(chunk), strict=True)
        attended = torch.cat([attend_windows(*part, bias) for part in chunks])
        if shift is not None:
            at = (torch.arange(batch, device=x.device)[:, None] * number + shift.at).flatten()
            masks = shift.masks.to(q).repeat(batch, 1, 1, 1)
            attended = attended.index_copy(0, at, attend_windows(q[at], k[at], v[at], bias + masks))
        out: Tensor = self.proj(attended.transpose(1, 2).reshape(windows.shape))
        return window_reverse(out, (x.shape[1], x.shape[2]))


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Compute softmax(query key' / sqrt(d) + bias) value over the pixels of each window. [N, heads, P, d]."""
    if query.is_cuda:
        return scaled_dot_product_attention(query, key, value, attn_mask=bias)
    # For windows this small torch's fused attention takes two (fp32) to four times (bf16) as long on CPUs.
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1) + bias
    attended: Tensor = logits.softmax(-1) @ value
    return attended


def relative_positions(window: int, *, device: torch.device | None = None) -> Tensor:
    """Index the rows of the bias table by pairs of pixels of a window. [P, P]."""
    side = torch.arange(window, device=device)
    rows, columns = torch.meshgrid(side, side, indexing="ij")
    down, right = (at.flatten()[:, None] - at.flatten() + window - 1 for at in (rows, columns))
    return down * (2 * window - 1) + right


def window_partition(x: Tensor, window: int) -> Tensor:
    """Cut [B, H, W, C] into windows [B, N, P, C], windows and their pixels in row-major order."""
    batch, height, width, channels = x.shape
    tiles = x.reshape(batch, height // window, window, width // window, window, channels)
    return tiles.transpose(2, 3).reshape(batch, -1, window * window, channels)


def window_reverse(windows: Tensor, size: tuple[int, int]) -> Tensor:
    """Invert `window_partition`."""
    batch, _, pixels, channels = windows.shape
    window = round(pixels**0.5)
    tiles = windows.reshape(batch, size[0] // window, size[1] // window, window, window, channels)
    return tiles.transpose(2, 3).reshape(batch, *size, channels)


def full_shift_mask(size: tuple[int, int], window: int) -> Tensor:
    """Compute the masks of all windows of a shifted image, as checkpoints store them. [N, P, P]."""
    shift = shift_masks(size, window)
    number = size[0] // window * (size[1] // window)
    return torch.zeros(number, window**2, window**2).index_copy(0, shift.at, shift.masks[:, 0])


def check_derived(state: Mapping[str, Tensor], window: int) -> None:
    """Compare the masks and indices in a state dict with those computed here.

    Weights with another order of pixels would load without an error and give wrong images.

    Raises:
        RuntimeError: A mask or an index differs; the message names its key.
    """
    index, masks = relative_positions(window), dict[int, Tensor]()
    for key in (key for key in state if key.endswith(DERIVED_KEYS)):
        value = state[key]
        expected = index
        if key.endswith("attn_mask"):
            side = round(len(value) ** 0.5) * window
            expected = masks.setdefault(side, full_shift_mask((side, side), window))
        if value.shape != expected.shape or not torch.equal(value.to(expected), expected):
            raise RuntimeError(f"{key} does not match a shifted window of {window} pixels")
