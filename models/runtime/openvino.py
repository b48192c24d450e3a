"""The network on Intel's and AMD's CPUs by OpenVINO, which fuses its layers and knows their matrix units."""

from __future__ import annotations

import copy
import importlib.util
import threading
import warnings
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from .autotune import Backend

MAX_COMPILED_SHAPES = 4  # compiled ones that are kept: a job has one or two
TRACE_SIDE = 64  # pixels; the side of the picture that the graph is read off
CHANNELS = 16  # of the multi-frame network's evidence
PRECISION_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


def installed() -> bool:
    """Whether the extra `openvino` is there; not whether it runs."""
    return importlib.util.find_spec("openvino") is not None


def openvino_backend(network: nn.Module, dtype: torch.dtype, *, channels: int = CHANNELS) -> Backend:
    """`network`, compiled anew for each shape of [B, C, H, W] and remembered; static shapes are fastest."""
    frozen = copy.deepcopy(network)  # training the network on changes nothing here

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
        answer = compiled_model(tuple(inputs.shape))(inputs.numpy())[0]
        return torch.from_numpy(answer).to(network_input.device)

    return run


def read_graph(network: nn.Module, *, channels: int = CHANNELS) -> Any:
    """OpenVINO's model of `network`, sizes left open, with copies of its weights.

    What torch traces it keeps for as long as the process lives, some 4 MB each time. So each layout is traced
    once, and other weights replace those of the first; OpenVINO knows them by torch's names.
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
    """Read by OpenVINO's front end.

    `openvino.convert_model` does the same, but reports it to its makers over the net, and waited half a
    minute where there was none.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # OpenVINO wants the weights in plain order.
    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # sizes become constants where they are odd: they never are here
        picture = torch.zeros(1, channels, TRACE_SIDE, TRACE_SIDE)
        traced = torch.jit.trace(plain, picture, check_trace=False)  # type: ignore[no-untyped-call]
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
        "ENABLE_CPU_PINNING": False,  # two jobs would share one core and leave the next idle
    }
