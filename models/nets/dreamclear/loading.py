"""Loading of DreamClear's parts: its network, Stable Diffusion's autoencoder, T5's encoder, a captioner.

Autoencoder and text encoder are read with diffusers and transformers (extra `diffusion`), imported on use,
and only from local folders: nothing is downloaded.
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

LATENT_SCALE = 0.18215  # scales latents of Stable Diffusion 1 to variance 1
CAPTION_TOKENS = 120

# Names of the authors' files, in one folder.
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
    """Load DreamClear from the authors' files.

    Args:
        folder: Contains `NETWORK` and `AUTOENCODER`; optionally `TEXT_ENCODER`, without which captions must
            be empty, and `COARSE`, without which the image is not cleaned first.
        device: Of network and autoencoder. The text encoder, 9.5 GB, stays on the CPU.
        dtype: Of the network; the autoencoder stays in float32.
        clean: Replaces `COARSE`.
        caption: See `find_captioner`.

    Raises:
        UnreadableMedia: A file is missing, damaged or of another kind.
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
    """Load the SwinIR that cleans the input coarsely, sRGB-encoded [1, 3, H, W] to the same, in float32."""
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
        raise UnreadableMedia(f"{path}: is not a {title} checkpoint; download the authors' file of that name")
    try:
        return load(state)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[:2][-1].strip()
        raise UnreadableMedia(
            f"{path}: is a {title} whose weights do not fit ({reason}); download it again"
        ) from error


@dataclass(frozen=True, slots=True)
class Autoencoder:
    """Stable Diffusion's autoencoder; encodes to the mode of the posterior."""

    model: Any  # diffusers' AutoencoderKL

    def encode(self, encoded: Tensor) -> Tensor:
        """Map [1, 3, H, W] in [0, 1] to [1, 4, H / 8, W / 8] of variance about 1."""
        latent: Tensor = self.model.encode(2 * self._to_model(encoded) - 1).latent_dist.mode()
        return latent * LATENT_SCALE

    def decode(self, latent: Tensor) -> Tensor:
        """Map latents to images; values may exceed [0, 1]."""
        image: Tensor = self.model.decode(self._to_model(latent) / LATENT_SCALE).sample
        return (image + 1) / 2

    def _to_model(self, x: Tensor) -> Tensor:
        return x.to(self.model.device, self.model.dtype)


def load_autoencoder(folder: Path, *, device: torch.device, tiled: bool = False) -> Autoencoder:
    """Load Stable Diffusion's autoencoder in diffusers' format, in float32.

    Args:
        folder: Contains config.json and the weights.
        device: Of the autoencoder.
        tiled: Whether to use tiles, with less memory; the release decodes whole images.
    """
    diffusers = _import("diffusers", "DreamClear's autoencoder")
    model = _read(diffusers.AutoencoderKL, folder, torch_dtype=torch.float32)
    model = model.to(device).eval().requires_grad_(False)
    if tiled:
        model.enable_tiling()
    return Autoencoder(model)


def load_text_encoder(folder: Path, *, dtype: torch.dtype = torch.bfloat16) -> CaptionEncoder:
    """Load T5's encoder and its tokenizer in transformers' format, on the CPU.

    Captions are lower-cased, stripped, and truncated or padded to 120 tokens.
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
    """Import the user's captioner, a function from sRGB-encoded images [1, 3, H, W] in [0, 1] to str.

    Args:
        name: `module:function`, on Python's path. Nothing is downloaded.

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
        raise FreezeframeError(f"{name}: is not a function; write module:function")
    return _checked_captioner(captioner, name)


def _checked_captioner(captioner: Callable[[Tensor], object], name: str) -> Captioner:
    def caption(encoded: Tensor) -> str:
        text = captioner(encoded)
        if not isinstance(text, str):
            raise FreezeframeError(f"{name}: returned {type(text).__name__}; a captioner must return a str")
        return text

    return caption


def _import(package: str, purpose: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtra(package, "diffusion", purpose) from error


def _read(kind: Any, folder: Path, **options: torch.dtype) -> Any:
    if not folder.is_dir():
        raise UnreadableMedia(f"{folder}: no such folder; download it beside {NETWORK}")
    try:
        return kind.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:
        # diffusers and transformers do not document the exceptions that they raise here.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableMedia(f"{folder}: cannot be read ({reason}); download it again") from error
