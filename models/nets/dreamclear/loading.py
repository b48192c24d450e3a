"""What DreamClear borrows: Stable Diffusion's autoencoder, the text encoder T5, and whoever writes captions.

The first two are read with diffusers and transformers (extra `diffusion`), from folders on this machine and
nowhere else. They are imported here only when used.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from freezeframe.data.errors import FreezeframeError, MissingExtra, UnreadableMedia
from freezeframe.models.nets.swinir import model as swinir
from freezeframe.models.store.state_dict import read_state

from .pipeline import CaptionEncoder, Captioner, Cleaner, DreamClear, load, matches
from .pixart_dit import Caption

LATENT_SCALE = 0.18215  # brings latents of Stable Diffusion 1 to variance 1
CAPTION_TOKENS = 120

# What the authors publish, side by side in one folder.
NETWORK, AUTOENCODER, TEXT_ENCODER = "DreamClear-1024.pth", "sd-vae-ft-ema", "t5-v1_1-xxl"
COARSE = "general_swinir_v1.ckpt"


def assemble(
    folder: Path,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    clean: Cleaner | None = None,
    caption: Captioner | None = None,
) -> DreamClear:
    """DreamClear from the authors' files.

    Args:
        folder: Holds `NETWORK` and `AUTOENCODER`; maybe `TEXT_ENCODER`, without which captions are empty, and
            `COARSE`, without which the picture is not cleaned before.
        device: Where network and autoencoder compute. The text encoder, 9.5 GB, stays on the CPU.
        dtype: Of the network's numbers; the autoencoder keeps float32.
        clean: Takes the place of `COARSE`.
        caption: See `find_captioner`.

    Raises:
        UnreadableMedia: A file is missing or is not what it should be.
        MissingExtra: diffusers or transformers is not installed.
    """
    text, coarse = folder / TEXT_ENCODER, folder / COARSE
    if clean is None and coarse.is_file():
        clean = load_cleaner(coarse, device=device)
    return DreamClear(
        coder=load_autoencoder(folder / AUTOENCODER, device=device),
        network=_load_network(folder / NETWORK, "DreamClear", matches=matches, load=load).to(device, dtype),
        clean=clean,
        caption=caption,
        encode_caption=load_text_encoder(text) if text.is_dir() else None,
    )


def load_cleaner(path: Path, *, device: torch.device) -> Cleaner:
    """The SwinIR of a file as what cleans coarsely: [1, 3, H, W] codes both ways, any size, in float32."""
    network = _load_network(path, "SwinIR", matches=swinir.matches, load=swinir.load).to(device)

    def clean(encoded: Tensor) -> Tensor:
        with torch.no_grad():
            cleaned: Tensor = network(encoded.to(device, torch.float32))
        return cleaned.to(encoded).clamp(0, 1)

    return clean


Net = TypeVar("Net", bound=torch.nn.Module)
State = Mapping[str, Tensor]


def _load_network(
    path: Path, title: str, *, matches: Callable[[State], bool], load: Callable[[State], Net]
) -> Net:
    state = read_state(path)
    if not matches(state):
        raise UnreadableMedia(f"{path}: holds no {title}; download the authors' file of that name")
    try:
        return load(state)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[:2][-1].strip()
        raise UnreadableMedia(
            f"{path}: is a {title} whose weights do not fit ({reason}); download it again"
        ) from error


@dataclass(frozen=True, slots=True)
class Autoencoder:
    """Pictures to latents an eighth as wide, and back; the mean of what the encoder finds likely."""

    model: Any  # diffusers' AutoencoderKL

    def encode(self, encoded: Tensor) -> Tensor:
        """[1, 3, H, W] in [0, 1] to [1, 4, H / 8, W / 8] of variance about 1."""
        latent: Tensor = self.model.encode(2 * self._to_model(encoded) - 1).latent_dist.mode()
        return latent * LATENT_SCALE

    def decode(self, latent: Tensor) -> Tensor:
        """The inverse, about; codes may leave [0, 1]."""
        picture: Tensor = self.model.decode(self._to_model(latent) / LATENT_SCALE).sample
        return (picture + 1) / 2

    def _to_model(self, x: Tensor) -> Tensor:
        return x.to(self.model.device, self.model.dtype)


def load_autoencoder(folder: Path, *, device: torch.device, tiled: bool = False) -> Autoencoder:
    """Stable Diffusion's autoencoder as diffusers stores it, in float32.

    Args:
        folder: Holds config.json and the weights.
        device: Where it computes.
        tiled: In pieces, with less memory; the release decodes pictures whole.
    """
    diffusers = _import("diffusers", "DreamClear's autoencoder")
    model = _read(diffusers.AutoencoderKL, folder, torch_dtype=torch.float32)
    model = model.to(device).eval().requires_grad_(False)
    if tiled:
        model.enable_tiling()
    return Autoencoder(model)


def load_text_encoder(folder: Path, *, dtype: torch.dtype = torch.bfloat16) -> CaptionEncoder:
    """T5's encoder and its tokenizer as transformers stores them, on the CPU.

    Captions are lowered and stripped, and cut or filled to 120 tokens.
    """
    transformers = _import("transformers", "DreamClear's text encoder")
    model = _read(transformers.T5EncoderModel, folder, dtype=dtype).eval().requires_grad_(False)
    tokenizer = _read(transformers.AutoTokenizer, folder)

    def encode(caption: str) -> Caption:
        tokens = tokenizer(
            " ".join(caption.lower().split()),
            max_length=CAPTION_TOKENS,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        )
        with torch.no_grad():
            features = model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        return Caption(features=features.float(), present=tokens.attention_mask.bool())

    return encode


def find_captioner(name: str) -> Captioner:
    """The function named `module:function`, which says what [1, 3, H, W] codes in [0, 1] show.

    It is the user's own, found where Python finds modules; nothing is looked for or fetched by itself.

    Raises:
        FreezeframeError: No such module or function.
    """
    module, _, function = name.partition(":")
    try:
        captioner: Any = vars(importlib.import_module(module)).get(function) if module and function else None
    except ImportError as error:
        raise FreezeframeError(
            f"{name}: cannot be imported ({error}); set PYTHONPATH to its folder"
        ) from error
    if not callable(captioner):
        raise FreezeframeError(f"{name}: names no function; write module:function")
    return _checked_captioner(captioner, name)


def _checked_captioner(captioner: Callable[[Tensor], object], name: str) -> Captioner:
    def caption(encoded: Tensor) -> str:
        text = captioner(encoded)
        if not isinstance(text, str):
            raise FreezeframeError(f"{name}: answered {type(text).__name__}; a captioner answers a str")
        return text

    return caption


def _import(package: str, purpose: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtra(package, "diffusion", purpose) from error


def _read(kind: Any, folder: Path, **options: torch.dtype) -> Any:
    if not folder.is_dir():
        raise UnreadableMedia(f"{folder}: there is no such folder; download it beside {NETWORK}")
    try:
        return kind.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:
        # Two libraries of many authors: no list of what they raise is whole.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableMedia(f"{folder}: cannot be read ({reason}); download it again") from error
