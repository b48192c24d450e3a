"""The network as an ONNX file, for engines and programs that are not ours."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from freezeframe.data.errors import FreezeframeError, MissingExtra, UnwritableOutput
from freezeframe.data.media.files.publish import Claim, claim
from freezeframe.models.deblur.fusion_net import CHANNELS

Pictures = np.ndarray[Any, np.dtype[np.float32]]
Check = Callable[[bytes, Pictures], Pictures]  # a file's bytes and evidence to its answer

TOLERANCE = 1e-3  # codes; a quarter of an 8-bit step
CHATTY = "torch.onnx._internal.exporter._registration"  # warns of packages that nobody asked for


def export_onnx(network: nn.Module, path: Path, *, size: tuple[int, int], force: bool = False) -> str:
    """Write `network` for evidence [1, 16, H, W] to `path`, all or nothing.

    Args:
        network: In fp32 on the CPU.
        path: Ends in .onnx. Its input is called `evidence`, its output `change`.
        size: Height and width in pixels.
        force: Replace an existing file.

    Returns:
        A sentence on what it was checked with, and how far that was off.

    Raises:
        UnwritableOutput: Not a path that may be written to.
        MissingExtra: The exporter is not installed.
        FreezeframeError: The file would answer otherwise than the network does.
    """
    place = _claimed(path, force=force)
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "onnx", f"{path}: export")
    evidence = torch.rand(1, CHANNELS, *size, generator=torch.Generator().manual_seed(1))
    content = _content(network, evidence)
    told = _checked(content, network, evidence, path=path)
    place.write(content)
    return told


def _claimed(path: Path, *, force: bool) -> Claim:
    if path.suffix.lower() != ".onnx":
        raise UnwritableOutput(f"{path}: the output file name must end in .onnx")
    return claim(path, force=force, trial=True)


def _content(network: nn.Module, evidence: Tensor) -> bytes:
    names: dict[str, Any] = {"input_names": ["evidence"], "output_names": ["change"]}
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(network, (evidence,), dynamo=True, verbose=False, **names)
    if program is None:
        raise FreezeframeError("torch exported nothing; use another release of torch")
    content: bytes = program.model_proto.SerializeToString()
    return content


def _checked(content: bytes, network: nn.Module, evidence: Tensor, *, path: Path) -> str:
    checks: dict[str, Check] = {"onnxruntime": _by_onnxruntime, "openvino": _by_openvino}
    name = next((name for name in checks if importlib.util.find_spec(name)), None)
    if name is None:
        return "not checked: neither onnxruntime nor openvino is installed"
    with torch.no_grad():
        expected = network(evidence).numpy()
    off = float(np.abs(checks[name](content, evidence.numpy()) - expected).max())
    if not off <= TOLERANCE:
        raise FreezeframeError(
            f"{path}: was not written: {name} answers {off:.2g} off; use another release of it or of torch"
        )
    return f"ONNX output matches PyTorch within {off:.1g} (run by {name})"


def _by_onnxruntime(content: bytes, evidence: Pictures) -> Pictures:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    answer: Pictures = session.run(None, {"evidence": evidence})[0]
    return answer


def _by_openvino(content: bytes, evidence: Pictures) -> Pictures:
    from openvino import Core

    core = Core()
    compiled = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer: Pictures = compiled(evidence)[0]
    return answer


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's remarks on its own insides."""
    chatty = logging.getLogger(CHATTY)
    before = chatty.level
    chatty.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        chatty.setLevel(before)
