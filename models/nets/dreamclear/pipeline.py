"""DreamClear, restoration by a steered diffusion transformer (Ai et al. 2024, arXiv 2410.18666).

The picture is enlarged, coarsely cleaned and captioned; latents of both pictures and the caption steer PixArt
from noise to a clean latent; what is decoded takes its colours from the coarse picture. It invents detail.

Kept from the release, and how to have it otherwise:
- The picture with its caption and the same without lend each other what they know (`DreamClearNet`, crossing
  "released"); crossing "correct" keeps them apart.
- Of a latent's four channels only three are led by the caption (guided "released"); "all" leads all four.
- No caption is shown as if it had as many tokens as the caption has.
- Latents larger than the native 128 x 128 are denoised in tiles, each told that it is a whole picture.
- Every picture is told to be 1024 x 1024.
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

from .cfg_denoiser import Settings, denoiser, no_caption
from .color_fix import fix_color
from .controlnet import Conditions, Control, Crossing, DreamClearNet
from .pixart_dit import Caption, Transformer
from .schedulers import add_noise, sample, schedule

__all__ = ["RELEASED", "DreamClear", "NetConfig", "Settings", "infer_config", "load", "matches", "restore"]

MULTIPLE = 64  # pixels; sides are rounded to these


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """Sizes of every part."""

    transformer: Transformer
    control: Control


# The published one: 2,211.88 million parameters.
RELEASED = NetConfig(
    transformer=Transformer(width=1152, depth=28, patch=2, latent=4, caption=(120, 4096), grid=64),
    control=Control(blocks=28, modulator=576, experts=3, gate=24),
)

POSITIONS = "base_model.pos_embed"  # in the file; computed here for every size


class LatentCoder(Protocol):
    """Pictures to latents an eighth as wide, and back; codes in [0, 1], [1, 3, H, W]."""

    def encode(self, encoded: Tensor) -> Tensor: ...
    def decode(self, latent: Tensor) -> Tensor: ...


Cleaner = Callable[[Tensor], Tensor]  # [1, 3, H, W] codes both ways
Captioner = Callable[[Tensor], str]  # says what [1, 3, H, W] codes show
CaptionEncoder = Callable[[str], Caption]


@dataclass(frozen=True, slots=True, kw_only=True)
class DreamClear:
    """All that a restoration needs. What is None can be done without."""

    network: DreamClearNet
    coder: LatentCoder
    clean: Cleaner | None = None  # the release's: a SwinIR; None takes the picture as it is
    caption: Captioner | None = None
    encode_caption: CaptionEncoder | None = None  # None: only an empty caption or an encoded one can be used


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether these are the weights of a DreamClear."""
    needed = ("base_model.t_block.1.weight", "cross_de.0.de_proj.weight", "am_lq.0.gate.2.weight")
    return all(key in state for key in needed)


def load(state: Mapping[str, Tensor], *, crossing: Crossing = "released") -> DreamClearNet:
    """The network that these weights belong to, in float32.

    Keys and shapes of the published layout; anything missing, left over or misshapen raises RuntimeError
    naming it. Stored positions are left out, as in the release.
    """
    config = infer_config(state)
    with torch.device("meta"):
        network = DreamClearNet(config.transformer, config.control, crossing=crossing)
    weights = {key: value.float() for key, value in state.items() if key != POSITIONS}
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def infer_config(state: Mapping[str, Tensor]) -> NetConfig:
    """The hyper-parameters, from shapes and from how many blocks have keys."""
    width, latent, patch, _ = state["base_model.x_embedder.proj.weight"].shape
    tokens, channels = state["base_model.y_embedder.y_embedding"].shape
    native = state[POSITIONS].shape[1] if POSITIONS in state else RELEASED.transformer.grid**2
    return NetConfig(
        transformer=Transformer(
            width=width,
            depth=_count(state, "base_model.blocks."),
            patch=patch,
            latent=latent,
            caption=(tokens, channels),
            grid=math.isqrt(native),
        ),
        control=Control(
            blocks=_count(state, "cross_de."),
            modulator=state["am_pre.0.shared_proj.weight"].shape[0],
            experts=state["am_lq.0.gate.2.weight"].shape[0],
            gate=state["am_lq.0.gate.0.weight"].shape[0],
        ),
    )


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


@torch.no_grad()
def restore(
    system: DreamClear,
    encoded: Tensor,
    *,
    caption: str | Caption | None = None,
    settings: Settings | None = None,
) -> Tensor:
    """A picture like `encoded`, drawn anew: one seed gives one picture.

    Args:
        system: See `dreamclear_parts.assemble`.
        encoded: sRGB codes in [0, 1]. [1, 3, H, W].
        caption: What the picture shows, encoded or not; empty for no words; None asks the system's captioner,
            where it has one.
        settings: Steps, guidance, seed and the rest.

    Returns:
        [1, 3, H, W] codes, times `settings.upscale`.

    Raises:
        FreezeframeError: A caption in words, and nothing to encode it with.
    """
    settings = settings or Settings()
    degraded = _upscale(encoded, settings)
    coarse = system.clean(degraded) if system.clean else degraded
    words = _caption(system, coarse, caption)
    latents = (system.coder.encode(degraded), system.coder.encode(coarse))
    picture = system.coder.decode(_sample_latent(system.network, latents, words, settings=settings))
    colored = fix_color(picture.to(coarse).clamp(0, 1), coarse, method=settings.color)
    size = tuple(round(side * settings.upscale) for side in encoded.shape[-2:])
    return _resize(colored, (size[0], size[1])).to(encoded)


def _upscale(encoded: Tensor, settings: Settings) -> Tensor:
    """To sides that latents and their tokens divide, the shorter one long enough."""
    height, width = (side * settings.upscale for side in encoded.shape[-2:])
    scale = max(settings.shortest / min(height, width), 1.0)
    sides = [max(round(side * scale / MULTIPLE), 1) * MULTIPLE for side in (height, width)]
    return _resize(encoded, (sides[0], sides[1]))


def _resize(encoded: Tensor, size: tuple[int, int]) -> Tensor:
    if encoded.shape[-2:] == size:
        return encoded.clamp(0, 1)
    return interpolate(encoded, size=size, mode="bicubic", antialias=True).clamp(0, 1)


def _caption(system: DreamClear, picture: Tensor, caption: str | Caption | None) -> Caption:
    if isinstance(caption, Caption):
        return _check_caption(caption, system.network.base_model.sizes)
    if caption is None:
        caption = system.caption(picture) if system.caption else ""
    if system.encode_caption:
        return system.encode_caption(caption)
    if caption.strip():
        raise FreezeframeError(
            "a caption in words needs DreamClear's text encoder; give its folder, or an empty caption"
        )
    return no_caption(system.network)


def _check_caption(caption: Caption, sizes: Transformer) -> Caption:
    if caption.features.shape != (1, *sizes.caption) or caption.present.shape != (1, sizes.caption[0]):
        raise ValueError(
            f"an encoded caption is [1, {sizes.caption[0]}, {sizes.caption[1]}] and its presence"
        )
    return caption


def _sample_latent(
    network: DreamClearNet, latents: tuple[Tensor, Tensor], caption: Caption, *, settings: Settings
) -> Tensor:
    # Latents stay in float32 between steps; only the network sees them rounded to its own format.
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
