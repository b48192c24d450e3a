"""VarFormer, restoration with an image generator's prior (Wang & Zhao 2024, arXiv 2412.21063).

VAR, a transformer that generates images scale by scale, reads the code words of a degraded image and
predicts those of a clean one. The contributions of the scales are the prior that guides a trained copy of
VAR's encoder and decoder.

Properties of the release that are kept, and the alternatives:
- It takes 256 x 256 pixels only. The release resizes every image to that (framing "resized"); here larger
  ones are restored in feathered tiles (framing "tiles", the default). Each tile has a prior of its own.
- Cross-attention mixes heads with the two copies made for guidance (mixing "released"). "correct" does not,
  and guidance then has no effect, as both copies have the same class. Since copies mix, images of a batch
  would mix too, so they are restored one by one.
- The selector weighs the scales of the prior, and an instance norm right after it cancels the weights (but
  for its epsilon of 1e-5): selection has almost no effect.
- The finest level's guides and the branch that would weigh the input per pixel (a softmax over a single
  channel, which is 1) have weights and no effect.

Not published: the names and some sizes inside the guides and the feature enhancer. Weights with other names
are matched by order and shape, with a warning (`config.match_unpublished_keys`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from freezeframe.models.imageops.tiling import tiled_inference
from freezeframe.models.nets.blocks.window_attention import check_derived
from freezeframe.models.nets.state import load_network

from .config import (
    RELEASED_16,
    NetConfig,
    infer_config,
    match_unpublished_keys,
    matches,
    to_internal_keys,
    to_published_keys,
)
from .feature_enhancer import Enhance
from .prior_fusion import apply_guide, attach_guides
from .swin_blocks import WINDOW
from .tokenizer import Decoder, Encoder
from .var_transformer import Mixing, Var
from .vector_quantizer import VectorQuantizer

__all__ = ["RELEASED_16", "NetConfig", "Settings", "VarFormer", "infer_config", "load", "matches", "restore"]

Framing = Literal["tiles", "resized"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of inference."""

    guidance: float = 0.5  # 1.5 in earlier versions of the release
    mixing: Mixing = "released"  # see `var_transformer.CrossAttention`
    framing: Framing = "tiles"
    overlap: float = 0.25  # of neighbouring tiles, as a fraction of their side

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= 0.5:
            raise ValueError(f"overlap {self.overlap}: must be between 0 and 0.5, half a tile")


def load(state: Mapping[str, Tensor]) -> VarFormer:
    """Load the network with these weights, in float32.

    Args:
        state: Keys and shapes as published. Layers that the publication does not name may have any name, see
            `match_unpublished_keys`.

    Raises:
        RuntimeError: A key is missing or unexpected, a shape differs, or a mask is not that of the window;
            the message names the key.
    """
    config = infer_config(state)
    with torch.device("meta"):
        network = VarFormer(config)
    weights = to_internal_keys(match_unpublished_keys(state, to_published_keys(network.state_dict())))
    network = load_network(lambda: network, weights)
    check_derived(weights, WINDOW)
    return network


def restore(network: VarFormer, encoded: Tensor, *, settings: Settings | None = None) -> Tensor:
    """Restore an image. Deterministic: each token is the most probable code word. Takes no gradient.

    Args:
        network: From `load`.
        encoded: sRGB-encoded, in [0, 1]. [1, 3, H, W].
        settings: Options of inference.

    Returns:
        [1, 3, H, W] for framing "tiles", [1, 3, side, side] for "resized".
    """
    settings = settings or Settings()
    side = network.config.side

    def tile(part: Tensor) -> Tensor:
        height, width = part.shape[-2:]
        padded = pad(part, (0, side - width, 0, side - height), mode="replicate")
        restored: Tensor = network.restore_square(padded, settings=settings)
        return restored[..., :height, :width]

    if settings.framing == "resized":
        square = interpolate(encoded, size=(side, side), mode="bilinear", align_corners=False)
        return network.restore_square(square, settings=settings)
    return tiled_inference(tile, encoded, tile=side, overlap=int(side * settings.overlap))


class VarFormer(nn.Module):
    """Restore sRGB-encoded images of any size, [B, 3, H, W] in [0, 1], in tiles of `config.side`."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        sizes, latent = config.convolutions, config.convolutions.latent
        self.encoder = Encoder(sizes)
        self.quant_conv = nn.Conv2d(latent, latent, 3, padding=1)
        self.ft_layers = nn.Sequential(*(Enhance(latent) for _ in range(config.enhance)))
        self.quantize = VectorQuantizer(vocab_size=config.vocab_size, width=latent, scales=config.scales)
        self.post_quant_conv = nn.Conv2d(latent, latent, 3, padding=1)
        self.decoder = Decoder(sizes, blocks=config.decoder_blocks[0])
        self.var = Var(config.transformer, vocab_size=config.vocab_size, latent=latent, scales=config.scales)
        self.Mainencoder = Encoder(sizes)
        attach_guides(self.Mainencoder, config.encoder_guides, config.prior)
        self.main_decoder = Decoder(sizes, blocks=config.decoder_blocks[1])
        attach_guides(self.main_decoder, config.decoder_guides, config.prior)
        self.main_decoder.register_parameter("theta", nn.Parameter(torch.zeros(sizes.levels)))
        self.main_decoder.register_parameter("input_w", nn.Parameter(torch.zeros(())))
        self.main_decoder.add_module("conv1__w", nn.Conv2d(1, 1, 1))

    def forward(self, encoded: Tensor) -> Tensor:
        return torch.cat([restore(self, one) for one in encoded.chunk(len(encoded))])

    def correction(self, encoded: Tensor) -> Tensor:
        """Compute the residual to add to `encoded`."""
        change: Tensor = self(encoded) - encoded
        return change

    def restore_square(self, encoded: Tensor, *, settings: Settings) -> Tensor:
        """Restore one image of the network's size. [1, 3, side, side] in [0, 1] to the same."""
        image = 2 * encoded - 1
        latent, frozen_encoding = self.encoder(image)
        prior = self.prior(latent, settings=settings)
        _, frozen_decoding = self.decoder(self.post_quant_conv(prior.sum(1)))
        guided, features = self._encode(image, frozen_encoding, prior)
        decoded = self._decode(guided, features, (frozen_decoding, prior))
        ratio = self.main_decoder.get_parameter("input_w")
        restored: Tensor = (1 - ratio) * decoded + ratio * image
        return (restored.clamp(-1, 1) + 1) / 2

    def prior(self, latent: Tensor, *, settings: Settings) -> Tensor:
        """Predict what each scale contributes to the latent of the clean image, [1, scales, C, S, S].

        Args:
            latent: From VAR's encoder. [1, C, S, S].
            settings: Guidance and mixing of the transformer.
        """
        enhanced = self.ft_layers(self.quant_conv(latent))
        words = self.quantize.encode(enhanced)
        degraded = self.quantize.contributions(words)
        clean: Tensor = self.var(degraded, self.quantize, guidance=settings.guidance, mixing=settings.mixing)
        return clean

    def _encode(
        self, image: Tensor, frozen_features: list[Tensor], prior: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        def change(level: int, x: Tensor) -> Tensor:
            if level == 0:
                return x
            return apply_guide(
                self.Mainencoder, level, x, frozen_features=frozen_features[level], prior=prior
            )

        latent, features = self.Mainencoder(image, change=change)
        return latent, features

    def _decode(
        self, latent: Tensor, features: list[Tensor], frozen_and_prior: tuple[list[Tensor], Tensor]
    ) -> Tensor:
        frozen_features, prior = frozen_and_prior

        def change(level: int, x: Tensor) -> Tensor:
            ratio = self.main_decoder.get_parameter("theta")[level].sigmoid()
            x = ratio * x + (1 - ratio) * features[level]
            if level == 0:
                return x
            return apply_guide(
                self.main_decoder, level, x, frozen_features=frozen_features[level], prior=prior
            )

        image: Tensor = self.main_decoder(latent, change=change)[0]
        return image
