"""DreamClear, restoration by a controlled diffusion transformer (Ai et al. 2024, arXiv 2410.18666).

The image is upsampled, coarsely cleaned and captioned. Latents of both images and the caption condition
PixArt's denoising; the decoded image gets the colours of the coarse one. The method hallucinates detail.

Properties of the release that are kept, and the alternatives:
- The copies of an image with and without its caption are mixed (`DreamClearNet`, crossing "released");
  crossing "correct" keeps them apart.
- Guidance by the caption applies to three of a latent's four channels (guided "released"); "all" guides all.
- The embedding for "no caption" is masked to the number of tokens of the caption.
- Latents larger than the native 128 x 128 are denoised in tiles, each with the positions of a whole image.
- The size embedding is that of 1024 x 1024 pixels for every image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from freezeframe.data.errors import FreezeframeError
from freezeframe.models.nets.state import load_network
from freezeframe.models.store.state_dict import count_keys

from .cfg_denoiser import Settings, denoiser, no_caption
from .color_fix import fix_color
from .controlnet import Conditions, ControlConfig, Crossing, DreamClearNet
from .pixart_dit import Caption, PixArtConfig
from .schedulers import add_noise, sample, schedule

__all__ = ["RELEASED", "DreamClear", "NetConfig", "Settings", "infer_config", "load", "matches", "restore"]

MULTIPLE = 64  # to which sides are rounded. Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Sizes of every part."""

    transformer: PixArtConfig
    control: ControlConfig


# The published one: 2,211.88 million parameters.
RELEASED = NetConfig(
    transformer=PixArtConfig(width=1152, depth=28, patch=2, latent=4, caption=(120, 4096), grid=64),
    control=ControlConfig(blocks=28, modulator=576, experts=3, gate=24),
)

POSITIONS = "base_model.pos_embed"  # key of the stored positions, which are computed here for every size


class LatentCoder(Protocol):
    """Autoencoder of sRGB-encoded images [1, 3, H, W] in [0, 1], with latents at an eighth of the size."""

    def encode(self, encoded: Tensor) -> Tensor: ...
    def decode(self, latent: Tensor) -> Tensor: ...


Cleaner = Callable[[Tensor], Tensor]  # sRGB-encoded [1, 3, H, W] to the same
Captioner = Callable[[Tensor], str]  # sRGB-encoded [1, 3, H, W] to a caption
CaptionEncoder = Callable[[str], Caption]


@dataclass(frozen=True, slots=True, kw_only=True)
class DreamClear:
    """The parts of a restoration; those with default None are optional."""

    network: DreamClearNet
    coder: LatentCoder
    clean: Cleaner | None = None  # a SwinIR in the release; None uses the degraded image
    caption: Captioner | None = None
    encode_caption: CaptionEncoder | None = None  # None: captions must be empty or encoded


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether the weights are those of a DreamClear."""
    needed = ("base_model.t_block.1.weight", "cross_de.0.de_proj.weight", "am_lq.0.gate.2.weight")
    return all(key in state for key in needed)


def load(state: Mapping[str, Tensor], *, crossing: Crossing = "released") -> DreamClearNet:
    """Load the network with these weights, in float32. Stored positions are ignored, as in the release.

    Raises:
        RuntimeError: A key is missing or unexpected, or a shape differs; the message names it.
    """
    config = infer_config(state)
    weights = {key: value for key, value in state.items() if key != POSITIONS}
    return load_network(lambda: DreamClearNet(config.transformer, config.control, crossing=crossing), weights)


def infer_config(state: Mapping[str, Tensor]) -> NetConfig:
    """Infer the hyper-parameters from the shapes and the number of blocks with keys."""
    width, latent, patch, _ = state["base_model.x_embedder.proj.weight"].shape
    tokens, channels = state["base_model.y_embedder.y_embedding"].shape
    native = state[POSITIONS].shape[1] if POSITIONS in state else RELEASED.transformer.grid**2
    return NetConfig(
        transformer=PixArtConfig(
            width=width,
            depth=count_keys(state, "base_model.blocks."),
            patch=patch,
            latent=latent,
            caption=(tokens, channels),
            grid=math.isqrt(native),
        ),
        control=ControlConfig(
            blocks=count_keys(state, "cross_de."),
            modulator=state["am_pre.0.shared_proj.weight"].shape[0],
            experts=state["am_lq.0.gate.2.weight"].shape[0],
            gate=state["am_lq.0.gate.0.weight"].shape[0],
        ),
    )


@torch.no_grad()
def restore(
    system: DreamClear,
    encoded: Tensor,
    *,
    caption: str | Caption | None = None,
    settings: Settings | None = None,
) -> Tensor:
    """Restore an image by sampling; a seed gives the same image every time.

    Args:
        system: See `loading.assemble`.
        encoded: sRGB-encoded, in [0, 1]. [1, 3, H, W].
        caption: Of the image, as text or encoded; "" for none. None calls the system's captioner, if any.
        settings: Options of inference.

    Returns:
        sRGB-encoded [1, 3, H, W], both sides times `settings.upscale`.

    Raises:
        FreezeframeError: A caption as text, without a text encoder.
    """
    settings = settings or Settings()
    degraded = _upscale(encoded, settings)
    coarse = system.clean(degraded) if system.clean else degraded
    encoded_caption = _encode_caption(system, coarse, caption)
    latents = (system.coder.encode(degraded), system.coder.encode(coarse))
    image = system.coder.decode(_sample_latent(system.network, latents, encoded_caption, settings=settings))
    colored = fix_color(image.to(coarse).clamp(0, 1), coarse, method=settings.color)
    size = tuple(round(side * settings.upscale) for side in encoded.shape[-2:])
    return _resize(colored, (size[0], size[1])).to(encoded)


def _upscale(encoded: Tensor, settings: Settings) -> Tensor:
    """Upsample to sides that are multiples of `MULTIPLE`, the shorter at least `settings.shortest`."""
    height, width = (side * settings.upscale for side in encoded.shape[-2:])
    scale = max(settings.shortest / min(height, width), 1.0)
    sides = [max(round(side * scale / MULTIPLE), 1) * MULTIPLE for side in (height, width)]
    return _resize(encoded, (sides[0], sides[1]))


def _resize(encoded: Tensor, size: tuple[int, int]) -> Tensor:
    if encoded.shape[-2:] == size:
        return encoded.clamp(0, 1)
    return interpolate(encoded, size=size, mode="bicubic", antialias=True).clamp(0, 1)


def _encode_caption(system: DreamClear, image: Tensor, caption: str | Caption | None) -> Caption:
    if isinstance(caption, Caption):
        return _check_caption(caption, system.network.base_model.config)
    if caption is None:
        caption = system.caption(image) if system.caption else ""
    if system.encode_caption:
        return system.encode_caption(caption)
    if caption.strip():
        raise FreezeframeError(
            "a caption as text needs DreamClear's text encoder; give its folder, or an empty caption"
        )
    return no_caption(system.network)


def _check_caption(caption: Caption, sizes: PixArtConfig) -> Caption:
    if caption.features.shape != (1, *sizes.caption) or caption.present.shape != (1, sizes.caption[0]):
        raise ValueError(
            f"encoded caption: features must be [1, {sizes.caption[0]}, {sizes.caption[1]}], present"
            f" [1, {sizes.caption[0]}]"
        )
    return caption


def _sample_latent(
    network: DreamClearNet, latents: tuple[Tensor, Tensor], caption: Caption, *, settings: Settings
) -> Tensor:
    # Latents stay in float32 between steps; only the network's inputs are cast to its number format.
    device = network.base_model.final_layer.linear.weight.device
    degraded, coarse = (latent.to(device, torch.float32) for latent in latents)
    plan = schedule(settings.steps)
    generator = torch.Generator().manual_seed(settings.seed)
    start = torch.randn(coarse.shape, generator=generator).to(device)
    if settings.start == "coarse":
        start = add_noise(coarse, start, alpha_bar=plan.alpha_bar[-1])
    device_caption = Caption(features=caption.features.to(device), present=caption.present.to(device))
    conditions = Conditions(degraded=degraded, coarse=coarse, caption=device_caption)
    denoise = denoiser(network, conditions, settings=settings)
    return sample(denoise, start, plan, generator=generator, sampler=settings.sampler)
