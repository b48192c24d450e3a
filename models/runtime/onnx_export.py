"""Export of the fusion network to ONNX, for other runtimes."""

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

Images = np.ndarray[Any, np.dtype[np.float32]]
Check = Callable[[bytes, Images], Images]  # model file and input to output

TOLERANCE = 1e-3  # code values of [0, 1]; a quarter of an 8-bit step
EXPORTER_LOGGER = "torch.onnx._internal.exporter._registration"  # warns about optional packages


def export_onnx(network: nn.Module, path: Path, *, size: tuple[int, int], force: bool = False) -> str:
    """Write `network` for an input of [1, 16, H, W] to `path`, atomically.

    Args:
        network: In fp32 on the CPU.
        path: Ends in .onnx. The model's input is named `network_input`, its output `change`.
        size: Height and width in pixels.
        force: Replace an existing file.

    Returns:
        A sentence that names the runtime of the check and its largest difference.

    Raises:
        UnwritableOutput: The path does not end in .onnx, exists, or cannot be written.
        MissingExtra: The exporter is not installed.
        FreezeframeError: The exported model disagrees with the network.
    """
    output = _claim_output(path, force=force)
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "onnx", f"{path}: export")
    network_input = torch.rand(1, CHANNELS, *size, generator=torch.Generator().manual_seed(1))
    content = _export(network, network_input)
    message = _check_against_torch(content, network, network_input, path=path)
    output.write(content)
    return message


def _claim_output(path: Path, *, force: bool) -> Claim:
    if path.suffix.lower() != ".onnx":
        raise UnwritableOutput(f"{path}: the output file name must end in .onnx")
    return claim(path, force=force, trial=True)


def _export(network: nn.Module, network_input: Tensor) -> bytes:
    names: dict[str, Any] = {"input_names": ["network_input"], "output_names": ["change"]}
    with _suppress_exporter_warnings(), torch.no_grad():
        program = torch.onnx.export(network, (network_input,), dynamo=True, verbose=False, **names)
    if program is None:
        raise FreezeframeError("torch.onnx.export returned no program; use another release of torch")
    content: bytes = program.model_proto.SerializeToString()
    return content


def _check_against_torch(content: bytes, network: nn.Module, network_input: Tensor, *, path: Path) -> str:
    checks: dict[str, Check] = {"onnxruntime": _run_onnxruntime, "openvino": _run_openvino}
    name = next((name for name in checks if importlib.util.find_spec(name)), None)
    if name is None:
        return "not checked: neither onnxruntime nor openvino is installed"
    with torch.no_grad():
        expected = network(network_input).numpy()
    max_error = float(np.abs(checks[name](content, network_input.numpy()) - expected).max())
    if not max_error <= TOLERANCE:
        raise FreezeframeError(
            f"{path}: not written: {name} differs from torch by {max_error:.2g}; use another release"
        )
    return f"ONNX output matches PyTorch within {max_error:.1g} (run by {name})"


def _run_onnxruntime(content: bytes, network_input: Images) -> Images:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    output: Images = session.run(None, {"network_input": network_input})[0]
    return output


def _run_openvino(content: bytes, network_input: Images) -> Images:
    from openvino import Core

    core = Core()
    compiled_model = core.compile_model(core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    output: Images = compiled_model(network_input)[0]
    return output


@contextmanager
def _suppress_exporter_warnings() -> Iterator[None]:
    """Silence the exporter's warnings about itself."""
    exporter_logger = logging.getLogger(EXPORTER_LOGGER)
    before = exporter_logger.level
    exporter_logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter_logger.setLevel(before)
