"""The bundled refiner: one small network for all degradations of a single image.

A U-Net of dense 3x3 convolutions at a half, a quarter and an eighth of the size, as in `fusion_net.py` and
for the same reason: on CPUs they compute several times as many operations per second as depthwise
convolutions and attention. Its input is the image, corrections by Wiener deconvolution with the PSF of
`psf_estimator.py`, whose window is larger than the network's receptive field, and the global statistics of
`image_statistics.py`. It predicts a residual and a weight of each Wiener correction per pixel. A gate,
computed over about a hundred pixels, sets the correction to exactly zero where there is no degradation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pad, pixel_shuffle, pixel_unshuffle

from freezeframe.models.store.state_dict import count_keys

from .fusion_net import stage
from .image_statistics import NUM_STATISTICS, image_statistics
from .psf_estimator import LAGS, PsfEstimator, cepstrum
from .wiener import NOISES, wiener_candidates

MULTIPLE = 8  # pixels; sides that divide by this need no padding
WIENER_CANDIDATES = len(NOISES)  # Wiener corrections
IMAGE_CHANNELS = 3 + 3 * WIENER_CANDIDATES  # channels: the image and its Wiener corrections
INPUT_CHANNELS = IMAGE_CHANNELS + NUM_STATISTICS  # and the global statistics
STEM_CHANNELS = 4 * IMAGE_CHANNELS + NUM_STATISTICS  # channels at half the size
GATE_POOL = 5  # coarse pixels (of 8) over which the gate is averaged


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Channels at a half, a quarter and an eighth of the size, and blocks of the encoder and the decoder."""

    widths: tuple[int, int, int] = (32, 64, 128)
    down: tuple[int, int, int] = (1, 2, 5)
    up: tuple[int, int] = (2, 2)  # finest first

    @property
    def multiple(self) -> int:
        return MULTIPLE


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether `state` holds weights of this network."""
    return (
        "gate.weight" in state and "stem.weight" in state and state["stem.weight"].shape[1] == STEM_CHANNELS
    )


def load(state: Mapping[str, Tensor]) -> Refiner:
    """The network with these weights, in float32; RuntimeError names keys that do not fit."""
    with torch.device("meta"):
        network = Refiner(infer_config(state))
    network.load_state_dict({key: value.float() for key, value in state.items()}, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def infer_config(state: Mapping[str, Tensor]) -> NetConfig:
    """Hyper-parameters from the names and shapes of the weights."""
    fine, middle, coarse = (len(state[f"encoders.{i}.0.first.bias"]) for i in range(3))
    a, b, c = (count_keys(state, f"encoders.{i}.") for i in range(3))
    d, e = (count_keys(state, f"decoders.{i}.") for i in range(2))
    return NetConfig(widths=(fine, middle, coarse), down=(a, b, c), up=(d, e))


class Refiner(nn.Module):
    """Restores sRGB-encoded images of any size, [B, 3, H, W] in [0, 1]; the output is not clamped."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.multiple = config.multiple
        fine, middle, coarse = config.widths
        self.stem = nn.Conv2d(STEM_CHANNELS, fine, 3, padding=1)
        self.encoders = nn.ModuleList(map(stage, config.down, config.widths))
        self.downs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in ((fine, middle), (middle, coarse))
        )
        self.ups = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in ((fine, middle), (middle, coarse)))
        self.decoders = nn.ModuleList(map(stage, config.up, (fine, middle)))
        self.gate = nn.Conv2d(coarse, 1, 1)
        # A residual of three colours and a weight per Wiener correction for each of four pixels; zero before
        # training, with the gate open.
        self.head = nn.Conv2d(fine, 4 * (3 + WIENER_CANDIDATES), 3, padding=1)
        with torch.device("cpu"):  # never on the meta device: its constant buffers are in no file
            self.blur = PsfEstimator().requires_grad_(False)
        for parameter in (self.head.weight, self.head.bias, self.gate.weight):
            nn.init.zeros_(parameter)  # type: ignore[arg-type]
        nn.init.ones_(self.gate.bias)  # type: ignore[arg-type]

    def forward(self, encoded: Tensor) -> Tensor:
        return encoded + self.correction(encoded)

    def degradation(self, encoded: Tensor) -> Tensor:
        """`cepstrum` and `image_statistics` of an image. [B, LAGS * LAGS + NUM_STATISTICS]."""
        with torch.no_grad(), torch.autocast(encoded.device.type, enabled=False):
            return torch.cat([cepstrum(encoded).flatten(1), image_statistics(encoded)], 1)

    def correction(self, encoded: Tensor, *, degradation: Tensor | None = None) -> Tensor:
        """The correction of `encoded`, float32. For a tile, `degradation` is that of the whole image.

        The input stays in float32 whatever the format of the weights: deconvolution amplifies rounding.
        """
        return self.predict_correction(self.network_input(encoded, degradation=degradation))

    def network_input(self, encoded: Tensor, *, degradation: Tensor | None = None) -> Tensor:
        """The centred image, Wiener corrections and statistics. [B, INPUT_CHANNELS, H, W], float32."""
        embedding = self.degradation(encoded) if degradation is None else degradation
        with torch.no_grad(), torch.autocast(encoded.device.type, enabled=False):
            embedding = embedding.expand(len(encoded), -1)
            cepstra = embedding[:, :-NUM_STATISTICS].reshape(len(encoded), LAGS, LAGS)
            offsets, radii = self.blur(cepstra.to(self.blur.level))
            statistics = embedding[:, -NUM_STATISTICS:, None, None].float().expand(-1, -1, *encoded.shape[2:])
            candidates = wiener_candidates(encoded, offsets.float(), radii.float())
            return torch.cat([encoded.float() - 0.5, candidates, statistics], 1)

    def predict_correction(self, network_input: Tensor) -> Tensor:
        """The correction from `network_input`, by the learned layers. [B, 3, H, W]."""
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
        correction: Tensor = (output[:, :3] + deblurred.sum(1)) * gate.float()
        return correction[..., :height, :width]

    def _hold_gate_open(self, gate: Tensor) -> Tensor:
        """In training, open the gate of every other example: a closed gate passes no gradient."""
        if not self.training:
            return gate
        forced = torch.arange(len(gate), device=gate.device) % 2 == 0
        return gate.masked_fill(forced[:, None, None, None], 1)


def gate_activation(logits: Tensor) -> Tensor:
    """Gate of each pixel, exactly 0 where it is closed.

    Args:
        logits: [B, 1, H / 8, W / 8]; closed below 0, open above 1.

    Returns:
        [B, 1, H, W] in [0, 1].
    """
    pooled = avg_pool2d(logits, GATE_POOL, stride=1, padding=GATE_POOL // 2, count_include_pad=False)
    # Without a gradient the plain operation is enough, and can be exported.
    clamped: Tensor = pooled.clamp(0, 1)
    if pooled.requires_grad:
        clamped = _StraightThroughClamp.apply(pooled)  # type: ignore[no-untyped-call]
    return interpolate(clamped, scale_factor=float(MULTIPLE), mode="bilinear", align_corners=False)


class _StraightThroughClamp(torch.autograd.Function):
    """Clamp to [0, 1] whose gradient also passes outside if it points inward (Bengio et al. 2013)."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        ctx.save_for_backward(value)
        return value.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (value,) = ctx.saved_tensors
        # Descent moves against the gradient; moving outward only lets logits grow.
        outward = ((value < 0) & (grad > 0)) | ((value > 1) & (grad < 0))
        return grad.masked_fill(outward, 0)
