"""The refiner that comes with the package: one small network for every degradation of a single picture.

A U-net of dense 3x3 convolutions at a half, a quarter and an eighth of the size, like the network of
`multiframe.py` and for the same reason: on CPUs they do several times the work per second of depthwise ones
and of attention. Beside the picture it sees what undoes the blur that `blind.py` reads from it, a way of all
of the picture that no convolution of this size could see, and says at every pixel how much of that to take.
Every place is told what only all of the picture tells, `image_statistics.py`. A gate, judged from about a hundred
pixels around, shuts off what is added where a picture has nothing wrong: there it leaves the network bit for
bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad, pixel_shuffle, pixel_unshuffle

from .fusion_net import Block
from .image_statistics import NUM_STATISTICS, image_statistics
from .psf_estimator import LAGS, PsfEstimator, cepstrum
from .wiener import NOISES, wiener_candidates

MULTIPLE = 8  # sides that divide by this pass without padding. Pixels
WIENER_CANDIDATES = len(NOISES)  # in which the blur is undone
IMAGE_CHANNELS = 3 + 3 * WIENER_CANDIDATES  # channels: the picture, and what each of them would add
INPUT_CHANNELS = IMAGE_CHANNELS + NUM_STATISTICS  # and what is the same all over a picture
STEM_CHANNELS = 4 * IMAGE_CHANNELS + NUM_STATISTICS  # channels of it at half the size
GATE_POOL = 5  # coarse pixels (of 8) over which the gate is averaged


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Channels at a half, a quarter and an eighth of the size, and blocks on the way down and up."""

    widths: tuple[int, int, int] = (32, 64, 128)
    down: tuple[int, int, int] = (1, 2, 5)
    up: tuple[int, int] = (2, 2)  # finest first

    @property
    def multiple(self) -> int:
        return MULTIPLE


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether these are the weights of this network."""
    return (
        "gate.weight" in state and "stem.weight" in state and state["stem.weight"].shape[1] == STEM_CHANNELS
    )


def load(state: Mapping[str, Tensor]) -> Refiner:
    """The network that these weights belong to, in float32; misfits raise RuntimeError naming them."""
    with torch.device("meta"):
        network = Refiner(infer_config(state))
    network.blur = PsfEstimator()  # what it computes for itself and no file holds
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


class Refiner(nn.Module):
    """Restores sRGB-coded pictures of any size, [B, 3, H, W] in [0, 1]; the answer is not clamped."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.multiple = config.multiple
        fine, middle, coarse = config.widths
        self.stem = nn.Conv2d(STEM_CHANNELS, fine, 3, padding=1)
        self.encoders = nn.ModuleList(map(_stage, config.down, config.widths))
        self.downs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in ((fine, middle), (middle, coarse))
        )
        self.ups = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in ((fine, middle), (middle, coarse)))
        self.decoders = nn.ModuleList(map(_stage, config.up, (fine, middle)))
        self.gate = nn.Conv2d(coarse, 1, 1)
        # For each of four pixels three colours to add, and how much of what each way adds; at first nothing,
        # behind a gate that is open.
        self.head = nn.Conv2d(fine, 4 * (3 + WIENER_CANDIDATES), 3, padding=1)
        self.blur = PsfEstimator().requires_grad_(False)
        for parameter in (self.head.weight, self.head.bias, self.gate.weight):
            nn.init.zeros_(parameter)  # type: ignore[arg-type]
        nn.init.ones_(self.gate.bias)  # type: ignore[arg-type]

    def forward(self, encoded: Tensor) -> Tensor:
        return encoded + self.correction(encoded)

    def degradation(self, encoded: Tensor) -> Tensor:
        """What all of a picture tells: its `cepstrum`, flat, and its `image_statistics`. [B, LAGS * LAGS + SIGNS]."""
        with torch.no_grad(), torch.autocast(encoded.device.type, enabled=False):
            return torch.cat([cepstrum(encoded).flatten(1), image_statistics(encoded)], 1)

    def correction(self, encoded: Tensor, *, degradation: Tensor | None = None) -> Tensor:
        """What has to be added to `encoded`, float32; `degradation` is that of the picture they are a tile of.

        Codes are taken in float32 whatever the format of the weights: rounded to eight bits of their own they
        would show every rounding once they are deconvolved.
        """
        return self.predict_correction(self.network_input(encoded, degradation=degradation))

    def network_input(self, encoded: Tensor, *, degradation: Tensor | None = None) -> Tensor:
        """The picture, around zero; what undoing its blur would add; its signs. [B, SEEN, H, W], float32."""
        embedding = self.degradation(encoded) if degradation is None else degradation
        with torch.no_grad(), torch.autocast(encoded.device.type, enabled=False):
            embedding = embedding.expand(len(encoded), -1)
            cepstra = embedding[:, :-NUM_STATISTICS].reshape(len(encoded), LAGS, LAGS)
            offsets, radii = self.blur(cepstra.to(self.blur.level))
            statistics = embedding[:, -NUM_STATISTICS:, None, None].float().expand(-1, -1, *encoded.shape[2:])
            candidates = wiener_candidates(encoded, offsets.float(), radii.float())
            return torch.cat([encoded.float() - 0.5, candidates, statistics], 1)

    def predict_correction(self, network_input: Tensor) -> Tensor:
        """What has to be added, from `network_input`: all of it that is learned. [B, 3, H, W]."""
        height, width = network_input.shape[-2:]
        padded = pad(network_input, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate")
        inputs = padded.to(self.stem.weight.dtype)
        halved = pixel_unshuffle(inputs[:, :IMAGE_CHANNELS], 2)
        x = self.stem(torch.cat([halved, inputs[:, IMAGE_CHANNELS:, ::2, ::2]], 1))
        skips: list[Tensor] = []
        for encoder, down in zip(self.encoders, self.downs, strict=False):
            skips.append(encoder(x))
            x = down(skips[-1])
        x = self.encoders[-1](x)
        gate = self._hold_gate_open(gate_activation(self.gate(x)))
        for i in (1, 0):
            x = self.decoders[i](pixel_shuffle(self.ups[i](x), 2) + skips[i])
        output = pixel_shuffle(self.head(x), 2).float()
        candidates = padded[:, 3:IMAGE_CHANNELS].reshape(len(padded), WIENER_CANDIDATES, 3, *padded.shape[2:])
        deblurred = output[:, 3:, None] * candidates
        change: Tensor = (output[:, :3] + deblurred.sum(1)) * gate.float()
        return change[..., :height, :width]

    def _hold_gate_open(self, gate: Tensor) -> Tensor:
        """While training, every other example finds the gate open: behind a shut one nothing is learned."""
        if not self.training:
            return gate
        forced = torch.arange(len(gate), device=gate.device) % 2 == 0
        return gate.masked_fill(forced[:, None, None, None], 1)


def gate_activation(logits: Tensor) -> Tensor:
    """How far the gate stands open at each pixel, exactly 0 where it is shut.

    Args:
        logits: [B, 1, H / 8, W / 8]; below 0 is shut, above 1 open.

    Returns:
        [B, 1, H, W] in [0, 1].
    """
    pooled = avg_pool2d(logits, GATE_POOL, stride=1, padding=GATE_POOL // 2, count_include_pad=False)
    # Where nothing is learned the plain operation does, and can be exported.
    clamped: Tensor = pooled.clamp(0, 1)
    if pooled.requires_grad:
        clamped = _StraightThroughClamp.apply(pooled)  # type: ignore[no-untyped-call]
    return interpolate(clamped, scale_factor=float(MULTIPLE), mode="bilinear", align_corners=False)


class _StraightThroughClamp(torch.autograd.Function):
    """Cut to [0, 1]; a gradient passes outside too, where it leads back: what is shut can open again."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        ctx.save_for_backward(value)
        return value.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (value,) = ctx.saved_tensors
        # Descent goes against the slope. Further out there is nothing to be had, only numbers that grow.
        outward = ((value < 0) & (grad > 0)) | ((value > 1) & (grad < 0))
        return grad.masked_fill(outward, 0)


def _stage(blocks: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*(Block(channels) for _ in range(blocks)))
