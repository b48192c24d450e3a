"""Devices and number formats."""

from __future__ import annotations

from typing import Literal

import torch

from freezeframe.data.errors import FreezeframeError

Precision = Literal["auto", "fp32", "bf16", "fp16"]
FORMATS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def find_device(name: str | torch.device) -> torch.device:
    """The device of this name; `auto` is the first CUDA device, or the CPU if there is none.

    Raises:
        FreezeframeError: This machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()  # fails on `meta`, which computes nothing
    except (RuntimeError, AssertionError) as error:
        raise FreezeframeError(f"device {name!r} is not available here; use auto or cpu") from error
    return device


def number_format(device: torch.device, precision: Precision) -> torch.dtype:
    """The number format of convolutions and matrix products.

    `auto` is half precision where the device computes it faster: fp16 on CUDA, bf16 on CPUs that have the
    instructions (about twice as fast for NAFNet), else fp32.

    Raises:
        FreezeframeError: fp16 on the CPU.
    """
    if precision == "fp16" and device.type == "cpu":
        raise FreezeframeError("precision fp16 needs a CUDA device; use bf16, fp32 or auto on the CPU")
    if precision == "auto":
        half = {"cuda": torch.float16, "cpu": torch.bfloat16 if _cpu_has_bf16() else torch.float32}
        return half.get(device.type, torch.float32)
    return FORMATS[precision]


def format_name(dtype: torch.dtype) -> str:
    """`fp16`, `bf16` or `fp32`."""
    return next(name for name, known in FORMATS.items() if known == dtype)


def candidate_formats(device: torch.device) -> dict[str, torch.dtype]:
    """The formats that may be the fastest on `device`, by name."""
    fastest = number_format(device, "auto")
    # On CUDA either half-precision format may be the faster one, and fp16 may overflow.
    candidates = set(FORMATS.values()) if device.type == "cuda" else {fastest, torch.float32}
    return {name: dtype for name, dtype in FORMATS.items() if dtype in candidates}


def _cpu_has_bf16() -> bool:
    # torch has no public function for this before 2.10.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
