"""The loop that every training here runs in: seeded, resumable to the bit, on one CPU or many GPUs.

What is learned (network, batches, loss, trials) comes as a `TrainingTask`; nothing here knows which it is.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from freezeframe.data.errors import FreezeframeError, UnwritableOutput
from freezeframe.data.media.files.publish import write_atomic
from freezeframe.models.runtime.device import find_device
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress

from .objective import GRAD_CLIP_NORM, Optimizers, ParameterFilter, ema_copy, ema_update, lr_schedule

Metrics = dict[str, float]
"""A trial: the step, the score, and decibels gained by name of what was tried."""

Validator = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """How long and how fast."""

    steps: int
    lr: float = 1e-3  # learning rate
    seed: int = 0
    val_interval: float = 5.0  # minutes between trials and checkpoints
    device: str = "auto"


class TrainingTask(Protocol):
    """What is learned. All of it depends on the configuration alone, so that a training can be repeated."""

    @property
    def uses_muon(self) -> ParameterFilter:
        """Which weights are moved by Muon."""

    def network(self) -> nn.Module:
        """The network to begin with, on the CPU; `torch.manual_seed` was called just before."""

    def batch(self, step: int, *, rank: int) -> Tensor:
        """What is learned from in a step."""

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """How wrong the model is on a batch: a number to make small."""

    def validators(self) -> list[Validator]:
        """How good the network is on what it never saw, in decibels gained."""


@dataclass(slots=True)
class TrainingState:
    """All that a training needs to go on exactly as if it had never stopped."""

    network: nn.Module
    ema: nn.Module
    optimizers: Optimizers
    step: int = 0
    best: float = float("-inf")

    @classmethod
    def new(cls, task: TrainingTask, config: LoopConfig, device: torch.device) -> TrainingState:
        torch.manual_seed(config.seed)
        network = task.network().to(device)
        return cls(network, ema_copy(network), Optimizers(network, lr=config.lr, uses_muon=task.uses_muon))

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "step": self.step,
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.ema.load_state_dict(state["ema"])
        self.optimizers.load_state_dict(state["optimizers"])
        self.step, self.best = state["step"], state["best"]


def run_training(
    task: TrainingTask,
    out: Path,
    *,
    config: LoopConfig,
    progress: ProgressCallback = null_progress,
    on_metrics: Callable[[Metrics], None],
) -> Path:
    """Go through a course; go on where an interrupted one in `out` stopped.

    Args:
        task: What is learned.
        out: Folder of checkpoint, log and weights.
        config: See there.
        progress: Told of steps done.
        on_metrics: Told of every trial.

    Returns:
        The best weights so far, bf16 safetensors.
    """
    _refuse_other_weights(out)
    out.mkdir(parents=True, exist_ok=True)
    rank, device = init_distributed(config.device)
    state = TrainingState.new(task, config, device)
    checkpoint, weights = out / "checkpoint.pt", out / "weights.safetensors"
    if checkpoint.exists():
        state.load_state_dict(_read_checkpoint(checkpoint, device))
    validators = task.validators() if rank == 0 else []
    model = _wrap_distributed(state.network, device)
    next_validation = time.monotonic() + 60 * config.val_interval
    progress(state.step, config.steps)
    for batch in _prefetch(task, range(state.step, config.steps), rank=rank):
        _training_step(state, task, model, batch.to(device), steps=config.steps)
        progress(1, config.steps)
        last = state.step == config.steps
        if rank == 0 and (last or time.monotonic() >= next_validation):
            _validate(state, validators, out=out, on_metrics=on_metrics)
            _write_checkpoint(checkpoint, state.state_dict())
            next_validation = time.monotonic() + 60 * config.val_interval
    return weights


def _training_step(
    state: TrainingState, task: TrainingTask, model: nn.Module, batch: Tensor, *, steps: int
) -> None:
    state.network.zero_grad(set_to_none=True)
    task.loss(model, batch).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.network.parameters(), GRAD_CLIP_NORM)
    state.optimizers.step(lr_scale=lr_schedule(state.step, steps))
    state.step += 1
    ema_update(state.ema, state.network, step=state.step)


def _validate(
    state: TrainingState, validators: list[Validator], *, out: Path, on_metrics: Callable[[Metrics], None]
) -> None:
    gains = {name: gain for validator in validators for name, gain in validator(state.ema).items()}
    score = sum(gains.values()) / max(1, len(gains))
    if score >= state.best:  # where nothing is tried the last ones are the best
        state.best = score
        half = {name: value.bfloat16().contiguous() for name, value in state.ema.state_dict().items()}
        write_atomic(save_tensors(half), out / "weights.safetensors")
    record = {"step": float(state.step), "score": score, **gains}
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps({"time": round(time.time()), **record}) + "\n")
    on_metrics(record)


def _prefetch(task: TrainingTask, steps: range, *, rank: int) -> Iterator[Tensor]:
    """The batches of these steps, each made while the one before is learned from."""
    with ThreadPoolExecutor(1) as worker:
        pending = worker.submit(task.batch, steps.start, rank=rank)
        for step in steps:
            batch = pending.result()
            if step + 1 < steps.stop:
                pending = worker.submit(task.batch, step + 1, rank=rank)
            yield batch


def init_distributed(device: str) -> tuple[int, torch.device]:
    """Rank and device of this process: as asked, or as `torchrun` says where it started several."""
    if "LOCAL_RANK" not in os.environ:
        return 0, find_device(device)
    local = int(os.environ["LOCAL_RANK"])
    local_device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    torch.distributed.init_process_group("nccl" if local_device.type == "cuda" else "gloo")
    return torch.distributed.get_rank(), local_device


def _wrap_distributed(network: nn.Module, device: torch.device) -> nn.Module:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return network
    ids = [device.index] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=ids)


def _read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, OSError, EOFError) as error:
        raise FreezeframeError(f"{path}: cannot be read ({error}); move it away to start anew") from error
    return state


def _write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    content = io.BytesIO()
    torch.save(state, content)
    write_atomic(content.getvalue(), path)


def _refuse_other_weights(out: Path) -> None:
    """Weights without the checkpoint of their training are nobody's to replace."""
    if (out / "weights.safetensors").exists() and not (out / "checkpoint.pt").exists():
        raise UnwritableOutput(
            f"{out}: holds weights of another training (weights.safetensors); name another folder"
        )
