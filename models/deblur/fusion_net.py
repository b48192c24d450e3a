"""The network that finishes what physics began: it judges the deconvolution, pixel by pixel, and mends it.

Its input is evidence: the frame, the deconvolved frame, the neighbours laid onto it, how each pixel moved and
how far the neighbours agreed. Its answer is how much of the deconvolution to believe and what to add. Dense
3x3 convolutions at a half, a quarter and an eighth of the size: on CPUs with bf16 matrix units they do six
times the work per second of depthwise ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad, pixel_shuffle, pixel_unshuffle, relu

CHANNELS = 16  # of the evidence, see `build_network_input`
FRAME, FUSED, BEFORE, AFTER = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)
BLUR_VECTOR, CONFIDENCE, SINGLE_FRAME = slice(12, 14), slice(14, 15), slice(15, 16)
BLUR_SCALE = 16.0  # pixels of way that the network sees as 1
MULTIPLE = 8  # sides that divide by this pass without padding. Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Channels at a half, a quarter and an eighth of the size, and blocks on the way down and up."""

    widths: tuple[int, int, int] = (32, 64, 128)
    down: tuple[int, int, int] = (1, 3, 5)
    up: tuple[int, int] = (2, 3)  # finest first


def build_network_input(images: Sequence[Tensor], *, blur_vector: Tensor, confidence: Tensor) -> Tensor:
    """What the network sees of one frame.

    Args:
        images: Frame, deconvolved frame, and the frames before and after laid onto it; where a neighbour is
            missing, the frame itself. Each [3, H, W] sRGB codes in [0, 1].
        blur_vector: Of each pixel while the shutter was open. [2, H, W] pixels.
        confidence: Agreement of the neighbours, [H, W] in [0, 1].

    Returns:
        [16, H, W]. The last channel is 1 for a frame without neighbours.
    """
    frame, _, before, after = images
    single_frame = torch.full_like(confidence, float(before is frame and after is frame))
    return torch.cat([*images, blur_vector / BLUR_SCALE, confidence[None], single_frame[None]])


def local_mean(image: Tensor) -> Tensor:
    """The mean over about a hundred pixels around each. [B, C, H, W] both ways, sides multiples of 8.

    An open shutter moves light and makes none, so a correction has no business with wide means: without this
    the network learns the brightness of its training pictures, and real footage loses half a decibel to it.
    """
    means = avg_pool2d(image, MULTIPLE)
    for _ in range(2):
        means = avg_pool2d(means, 7, stride=1, padding=3, count_include_pad=False)
    return interpolate(means, scale_factor=float(MULTIPLE), mode="bilinear", align_corners=False)


def center_on_frame(network_input: Tensor) -> Tensor:
    """Evidence [B, 16, H, W] with every other picture as its difference from the frame.

    What is to be learned lies in small differences; a network that has to find them first learns nothing for
    its first thousands of steps.
    """
    frame = network_input[:, FRAME]
    others = [
        scale * (network_input[:, part] - frame) for part, scale in ((FUSED, 4), (BEFORE, 2), (AFTER, 2))
    ]
    return torch.cat([frame - 0.5, *others, network_input[:, AFTER.stop :]], dim=1)


class FusionNet(nn.Module):
    """[B, 16, H, W] evidence of any size to [B, 3, H, W]: what to add to the deconvolved frame's codes."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.widths
        self.stem = nn.Conv2d(4 * CHANNELS, fine, 3, padding=1)
        self.encoders = nn.ModuleList(map(_stage, config.down, config.widths))
        self.downs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in ((fine, middle), (middle, coarse))
        )
        self.ups = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in ((fine, middle), (middle, coarse)))
        self.decoders = nn.ModuleList(map(_stage, config.up, (fine, middle)))
        # Three colours to add and one doubt, for each of four pixels; at first the network changes nothing.
        self.head = nn.Conv2d(fine, 16, 3, padding=1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, network_input: Tensor) -> Tensor:
        height, width = network_input.shape[-2:]
        padded = pad(network_input, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate")
        x = self.stem(pixel_unshuffle(center_on_frame(padded), 2))
        skips: list[Tensor] = []
        for encoder, down in zip(self.encoders, self.downs, strict=False):
            skips.append(encoder(x))
            x = down(skips[-1])
        x = self.encoders[-1](x)
        for i in (1, 0):
            x = self.decoders[i](pixel_shuffle(self.ups[i](x), 2) + skips[i])
        answer = pixel_shuffle(self.head(x), 2)
        change = answer[:, :3] + answer[:, 3:] * (padded[:, FRAME] - padded[:, FUSED])
        return (change - local_mean(change))[..., :height, :width]


class Block(nn.Module):
    """A residual of two 3x3 convolutions. [B, C, H, W] both ways."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.second(relu(self.first(x)))
        return x + added


def _stage(blocks: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*(Block(channels) for _ in range(blocks)))


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether these are the weights of this network."""
    return "stem.weight" in state and state["stem.weight"].shape[1] == 4 * CHANNELS and "head.bias" in state


def load(state: Mapping[str, Tensor]) -> FusionNet:
    """The network that these weights belong to, in float32; misfits raise RuntimeError naming them."""
    with torch.device("meta"):
        network = FusionNet(infer_config(state))
    network.load_state_dict({key: value.float() for key, value in state.items()}, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def infer_config(state: Mapping[str, Tensor]) -> NetConfig:
    """Hyper-parameters, read off the names and shapes of the weights."""
    fine, middle, coarse = (len(state[f"encoders.{i}.0.first.bias"]) for i in range(3))
    a, b, c = (_count(state, f"encoders.{i}.") for i in range(3))
    d, e = (_count(state, f"decoders.{i}.") for i in range(2))
    return NetConfig(widths=(fine, middle, coarse), down=(a, b, c), up=(d, e))


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})
