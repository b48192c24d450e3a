"""The convolutional half of VAR's tokeniser (arXiv 2012.09841 and 2404.02905).

An encoder halves the picture from level to level, a decoder doubles it back; both hand out the features of
each level, finest first, and let a caller change them on the way: so VarFormer's trained copies are guided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention, silu

GROUPS = 32  # of channels that share a norm

Change = Callable[[int, Tensor], Tensor]
"""Level and its features, [B, C, H, W], to what takes their place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolutions:
    """Channels of the tokeniser: `width` times `multiples` at each level, `latent` at the bottom."""

    width: int
    multiples: tuple[int, ...]
    blocks: int  # per level on the way down
    latent: int

    @property
    def channels(self) -> tuple[int, ...]:
        return tuple(self.width * multiple for multiple in self.multiples)

    @property
    def levels(self) -> int:
        return len(self.multiples)

    @property
    def reduction(self) -> int:
        """Pixels of the picture along one side of a latent pixel."""
        return int(2 ** (self.levels - 1))


def keep(level: int, x: Tensor) -> Tensor:
    """No change at any level."""
    del level
    return x


class Encoder(nn.Module):
    """[B, 3, H, W] in [-1, 1] to [B, latent, H / 16, W / 16]."""

    def __init__(self, sizes: Convolutions) -> None:
        super().__init__()
        channels = sizes.channels
        self.conv_in = nn.Conv2d(3, sizes.width, 3, padding=1)
        inputs = (sizes.width, *channels)
        self.down = nn.ModuleList(
            Level((inputs[i], channels[i]), blocks=sizes.blocks, attends=i == sizes.levels - 1)
            for i in range(sizes.levels)
        )
        for level, width in zip(self.down[:-1], channels[:-1], strict=True):
            level.add_module("downsample", Downsample(width))
        self.mid = Bottleneck(channels[-1])
        self.norm_out = _norm(channels[-1])
        self.conv_out = nn.Conv2d(channels[-1], sizes.latent, 3, padding=1)

    def forward(self, picture: Tensor, *, change: Change = keep) -> tuple[Tensor, list[Tensor]]:
        """The latent, and the features of every level, finest first, before they are halved."""
        x = self.conv_in(picture)
        features: list[Tensor] = []
        for i, level in enumerate(self.down):
            x = change(i, level(x))
            features.append(x)
            if i < len(self.down) - 1:
                x = level.get_submodule("downsample")(x)
        return self.conv_out(silu(self.norm_out(self.mid(x)))), features


class Decoder(nn.Module):
    """[B, latent, h, w] to [B, 3, 16h, 16w], nominally in [-1, 1]."""

    def __init__(self, sizes: Convolutions, *, blocks: int) -> None:
        super().__init__()
        channels = sizes.channels
        self.conv_in = nn.Conv2d(sizes.latent, channels[-1], 3, padding=1)
        self.mid = Bottleneck(channels[-1])
        inputs = (*channels[1:], channels[-1])
        self.up = nn.ModuleList(
            Level((inputs[i], channels[i]), blocks=blocks, attends=i == sizes.levels - 1)
            for i in range(sizes.levels)
        )
        for level, width in zip(self.up[1:], channels[1:], strict=True):
            level.add_module("upsample", Upsample(width))
        self.norm_out = _norm(channels[0])
        self.conv_out = nn.Conv2d(channels[0], 3, 3, padding=1)

    def forward(self, latent: Tensor, *, change: Change = keep) -> tuple[Tensor, list[Tensor]]:
        """The picture, and the features of every level, finest first, before they are doubled."""
        x = self.mid(self.conv_in(latent))
        features: list[Tensor] = []
        for i in reversed(range(len(self.up))):
            x = change(i, self.up[i](x))
            features.insert(0, x)
            if i:
                x = self.up[i].get_submodule("upsample")(x)
        return self.conv_out(silu(self.norm_out(x))), features


class Level(nn.Module):
    """Residual blocks at one size, each followed by attention at the coarsest. [B, C, H, W], wider or not."""

    def __init__(self, widths: tuple[int, int], *, blocks: int, attends: bool) -> None:
        super().__init__()
        first, width = widths
        self.block = nn.ModuleList(Residual(width if j else first, width) for j in range(blocks))
        self.attn = nn.ModuleList(SelfAttention(width) for _ in range(blocks if attends else 0))

    def forward(self, x: Tensor) -> Tensor:
        for j, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[j](x)
        return x


class Bottleneck(nn.Module):
    """The bottom between the two halves: a block, attention, a block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block_1 = Residual(width, width)
        self.attn_1 = SelfAttention(width)
        self.block_2 = Residual(width, width)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return changed


class Residual(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x)))))), x itself through 1 x 1 where the width changes."""

    def __init__(self, first: int, width: int) -> None:
        super().__init__()
        self.norm1 = _norm(first)
        self.conv1 = nn.Conv2d(first, width, 3, padding=1)
        self.norm2 = _norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(first, width, 1) if first != width else None

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.conv2(silu(self.norm2(self.conv1(silu(self.norm1(x))))))
        return change + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class SelfAttention(nn.Module):
    """x + what each pixel gathers from all others, one head over all channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        gathered = scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(x.shape)
        change: Tensor = self.proj_out(gathered)
        return x + change


class Downsample(nn.Module):
    """Every second pixel of a 3 x 3 convolution that looks right and down."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.conv(pad(x, (0, 1, 0, 1)))
        return halved


class Upsample(nn.Module):
    """Each pixel four times, then a 3 x 3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        doubled: Tensor = self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))
        return doubled


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, width, eps=1e-6)
