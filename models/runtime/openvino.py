"""Networks on Intel and AMD CPUs by OpenVINO, which fuses layers and uses the matrix units of the CPU."""

from __future__ import annotations

import copy
import importlib.util
import threading
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

MAX_COMPILED_SHAPES = 4  # kept per network: a job has one or two
TRACE_SIDE = 64  # pixels; side of the input of the trace
PRECISION_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


def installed() -> bool:
    """Whether the extra `openvino` is installed; not whether it runs on this CPU."""
    return importlib.util.find_spec("openvino") is not None


def openvino_function(network: nn.Module, dtype: torch.dtype, *, channels: int) -> Callable[[Tensor], Tensor]:
    """`network`, compiled for each shape of its input [B, channels, H, W]: static shapes are fastest."""
    frozen = copy.deepcopy(network)  # later training of `network` has no effect

    @lru_cache(maxsize=1)
    def graph() -> Any:
        return read_graph(frozen, channels=channels)

    @lru_cache(maxsize=MAX_COMPILED_SHAPES)
    def compiled_model(shape: tuple[int, ...]) -> Any:
        fixed = graph().clone()
        fixed.reshape(list(shape))
        return _core().compile_model(fixed, "CPU", _settings(dtype))

    def run(network_input: Tensor) -> Tensor:
        inputs = network_input.float().contiguous().cpu()
        output = compiled_model(tuple(inputs.shape))(inputs.numpy())[0]
        return torch.from_numpy(output).to(network_input.device)

    return run


def read_graph(network: nn.Module, *, channels: int) -> Any:
    """OpenVINO's model of `network` with dynamic sizes and copies of its weights.

    torch keeps each trace for the life of the process, some 4 MB. So each architecture is traced once and its
    weights are replaced by name, which OpenVINO takes over from torch.
    """
    from openvino import opset13
    from openvino.utils import replace_node

    weights = network.state_dict()
    signature = type(network), channels, tuple((name, value.shape) for name, value in weights.items())
    with _trace_lock:
        if signature not in _graphs:
            _graphs[signature] = _trace(network, channels=channels)
        graph = _graphs[signature].clone()
    constants = {node.get_friendly_name(): node for node in graph.get_ops()}
    for name, value in weights.items():
        if (node := constants.get(f"self.{name}")) is not None:
            replace_node(node, opset13.constant(value.contiguous().numpy()))
    return graph


_graphs: dict[Any, Any] = {}
_trace_lock = threading.Lock()


def _trace(network: nn.Module, *, channels: int) -> Any:
    """Convert by OpenVINO's front end.

    `openvino.convert_model` does the same, but sends telemetry, and waited half a minute without a network.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # OpenVINO needs the weights in contiguous order.
    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # odd sizes become constants: there are none here
        example = torch.zeros(1, channels, TRACE_SIDE, TRACE_SIDE)
        traced = torch.jit.trace(plain, example, check_trace=False)  # type: ignore[no-untyped-call]
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced)  # the front end does not keep it alive
        return frontend.convert(frontend.load(decoder))


@lru_cache(maxsize=1)
def _core() -> Any:
    from openvino import Core

    return Core()


def _settings(dtype: torch.dtype) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": PRECISION_HINTS[dtype],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,  # with it, two jobs share one core and leave another idle
    }
