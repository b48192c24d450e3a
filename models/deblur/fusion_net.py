"""The fusion network: a U-Net that predicts a correction of the deconvolved frame.

Its input is the frame, the deconvolved frame, the neighbours warped to the frame, the blur vectors and the
confidence of the flow. Its output is a blend towards the frame and a residual. Its layers are dense 3x3
convolutions at a half, a quarter and an eighth of the size: on CPUs with bf16 matrix units they compute six
times as many operations per second as depthwise ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad, pixel_shuffle, pixel_unshuffle, relu

from freezeframe.models.store.state_dict import count_keys

CHANNELS = 16  # of the input, see `build_network_input`
FRAME, FUSED, BEFORE, AFTER = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)
BLUR_VECTOR, CONFIDENCE, SINGLE_FRAME = slice(12, 14), slice(14, 15), slice(15, 16)
BLUR_SCALE = 16.0  # pixels of blur vector per unit of input
MULTIPLE = 8  # pixels; sides that divide by this need no padding


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Channels at a half, a quarter and an eighth of the size, and blocks of the encoder and the decoder."""

    widths: tuple[int, int, int] = (32, 64, 128)
    down: tuple[int, int, int] = (1, 3, 5)
    up: tuple[int, int] = (2, 3)  # finest first


def build_network_input(images: Sequence[Tensor], *, blur_vector: Tensor, confidence: Tensor) -> Tensor:
    """The network's input for one frame.

    Args:
        images: Frame, deconvolved frame, and the frames before and after warped to it; for a missing
            neighbour, the frame itself. Each [3, H, W] sRGB-encoded in [0, 1].
        blur_vector: Displacement during the exposure. [2, H, W] pixels.
        confidence: Consistency of the neighbours, [H, W] in [0, 1].

    Returns:
        [16, H, W]. The last channel is 1 for a frame without neighbours.
    """
    frame, _, before, after = images
    single_frame = torch.full_like(confidence, float(before is frame and after is frame))
    return torch.cat([*images, blur_vector / BLUR_SCALE, confidence[None], single_frame[None]])


def local_mean(image: Tensor) -> Tensor:
    """The mean over about a hundred pixels around each pixel. [B, C, H, W] to the same, sides multiples of 8.

    Motion blur preserves the local mean, so a correction must not change it. Without this constraint the
    network learns the brightness of its training images, which costs half a decibel on real footage.
    """
    means = avg_pool2d(image, MULTIPLE)
    for _ in range(2):
        means = avg_pool2d(means, 7, stride=1, padding=3, count_include_pad=False)
    return interpolate(means, scale_factor=float(MULTIPLE), mode="bilinear", align_corners=False)


def center_on_frame(network_input: Tensor) -> Tensor:
    """Replace the other images of the input [B, 16, H, W] by their scaled differences from the frame.

    The signal lies in small differences; without this the network learns nothing for some thousand steps.
    """
    frame = network_input[:, FRAME]
    others = [
        scale * (network_input[:, part] - frame) for part, scale in ((FUSED, 4), (BEFORE, 2), (AFTER, 2))
    ]
    return torch.cat([frame - 0.5, *others, network_input[:, AFTER.stop :]], dim=1)


class FusionNet(nn.Module):
    """[B, 16, H, W] of any size to [B, 3, H, W]: the correction of the sRGB-encoded deconvolved frame."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.widths
        self.stem = nn.Conv2d(4 * CHANNELS, fine, 3, padding=1)
        self.encoders = nn.ModuleList(map(stage, config.down, config.widths))
        self.downs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in ((fine, middle), (middle, coarse))
        )
        self.ups = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in ((fine, middle), (middle, coarse)))
        self.decoders = nn.ModuleList(map(stage, config.up, (fine, middle)))
        # A residual of three colours and one blend weight for each of four pixels; zero before training.
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
        output = pixel_shuffle(self.head(x), 2)
        correction = output[:, :3] + output[:, 3:] * (padded[:, FRAME] - padded[:, FUSED])
        return (correction - local_mean(correction))[..., :height, :width]


class Block(nn.Module):
    """A residual block of two 3x3 convolutions. [B, C, H, W] to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.second(relu(self.first(x)))
        return x + residual


def stage(blocks: int, channels: int) -> nn.Sequential:
    """`blocks` residual blocks in a row."""
    return nn.Sequential(*(Block(channels) for _ in range(blocks)))


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether `state` holds weights of this network."""
    return "stem.weight" in state and state["stem.weight"].shape[1] == 4 * CHANNELS and "head.bias" in state


def load(state: Mapping[str, Tensor]) -> FusionNet:
    """The network with these weights, in float32; RuntimeError names keys that do not fit."""
    with torch.device("meta"):
        network = FusionNet(infer_config(state))
    network.load_state_dict({key: value.float() for key, value in state.items()}, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def infer_config(state: Mapping[str, Tensor]) -> NetConfig:
    """Hyper-parameters from the names and shapes of the weights."""
    fine, middle, coarse = (len(state[f"encoders.{i}.0.first.bias"]) for i in range(3))
    a, b, c = (count_keys(state, f"encoders.{i}.") for i in range(3))
    d, e = (count_keys(state, f"decoders.{i}.") for i in range(2))
    return NetConfig(widths=(fine, middle, coarse), down=(a, b, c), up=(d, e))
