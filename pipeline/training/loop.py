"""The training loop of all networks: seeded, resumable to the bit, on one CPU or several GPUs.

Network, batches, loss and validation are those of a `TrainingTask`.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from freezeframe.data.errors import FreezeframeError, UnwritableOutput
from freezeframe.data.media.files.publish import write_atomic
from freezeframe.models.runtime.device import find_device
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress

from .objective import (
    GRAD_CLIP_NORM,
    Optimizers,
    ParameterFilter,
    Schedule,
    ema_copy,
    ema_update,
    lr_schedule,
)

Metrics = dict[str, float]
"""A validation: the step, the score, and the metrics by name (dB of PSNR gain, an accuracy or an error)."""

Validator = Callable[[nn.Module], dict[str, float]]
"""Metrics of a network by name; larger is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """Length, learning rate and seed of a training."""

    steps: int = 10000
    lr: float = 1e-3  # peak learning rate
    seed: int = 0
    val_interval: float = 5.0  # minutes between validations and checkpoints
    device: str = "auto"
    schedule: Schedule = field(default_factory=Schedule)


class TrainingTask(Protocol):
    """The task of a training. It depends on its configuration alone, so that a training is reproducible."""

    @property
    def uses_muon(self) -> ParameterFilter:
        """Selects the weights that Muon optimises."""

    def network(self) -> nn.Module:
        """The initial network, on the CPU; `torch.manual_seed` was called just before."""

    def batch(self, step: int, *, rank: int) -> Tensor:
        """The batch of a step, for one process of a distributed training."""

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """The loss of the model on a batch, a scalar."""

    def validators(self) -> list[Validator]:
        """Metrics on held-out data, larger is better."""


@dataclass(slots=True)
class TrainingState:
    """The complete state of a training: it resumes as if it had never stopped."""

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
    """Train a task; resume an interrupted training in `out`.

    Args:
        task: Network, batches, loss and validation.
        out: Folder of checkpoint, log and weights.
        config: Length, learning rate and seed.
        progress: Called with the steps done since the last call and their total.
        on_metrics: Called with the metrics of every validation.

    Returns:
        Path of the best weights so far, bf16 safetensors.

    Raises:
        FreezeframeError: The checkpoint cannot be read.
        UnwritableOutput: `out` holds weights of another training.
    """
    _check_folder(out)
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
        _training_step(state, task, model, batch.to(device), config)
        progress(1, config.steps)
        last = state.step == config.steps
        if rank == 0 and (last or time.monotonic() >= next_validation):
            _validate(state, validators, out=out, on_metrics=on_metrics)
            _write_checkpoint(checkpoint, state.state_dict())
            next_validation = time.monotonic() + 60 * config.val_interval
    return weights


def _training_step(
    state: TrainingState, task: TrainingTask, model: nn.Module, batch: Tensor, config: LoopConfig
) -> None:
    state.network.zero_grad(set_to_none=True)
    task.loss(model, batch).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.network.parameters(), GRAD_CLIP_NORM)
    state.optimizers.step(lr_scale=lr_schedule(state.step, config.steps, config.schedule))
    state.step += 1
    ema_update(state.ema, state.network, step=state.step, decay=config.schedule.ema_decay)


def _validate(
    state: TrainingState, validators: list[Validator], *, out: Path, on_metrics: Callable[[Metrics], None]
) -> None:
    gains = {name: gain for validator in validators for name, gain in validator(state.ema).items()}
    score = sum(gains.values()) / max(1, len(gains))
    if score >= state.best:  # without validators the last weights are the best
        state.best = score
        half = {name: value.bfloat16().contiguous() for name, value in state.ema.state_dict().items()}
        write_atomic(save_tensors(half), out / "weights.safetensors")
    record = {"step": float(state.step), "score": score, **gains}
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps({"time": round(time.time()), **record}) + "\n")
    on_metrics(record)


def _prefetch(task: TrainingTask, steps: range, *, rank: int) -> Iterator[Tensor]:
    """The batches of these steps, each prepared during the step before."""
    with ThreadPoolExecutor(1) as worker:
        pending = worker.submit(task.batch, steps.start, rank=rank)
        for step in steps:
            batch = pending.result()
            if step + 1 < steps.stop:
                pending = worker.submit(task.batch, step + 1, rank=rank)
            yield batch


def init_distributed(device: str) -> tuple[int, torch.device]:
    """Rank and device of this process: 0 and `device`, or those that `torchrun` assigned."""
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
        raise FreezeframeError(f"{path}: cannot be read ({error}); delete it to start again") from error
    return state


def _write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    content = io.BytesIO()
    torch.save(state, content)
    write_atomic(content.getvalue(), path)


def _check_folder(out: Path) -> None:
    """Weights without a checkpoint are those of another training: never replace them."""
    if (out / "weights.safetensors").exists() and not (out / "checkpoint.pt").exists():
        raise UnwritableOutput(
            f"{out}: holds weights of another training (weights.safetensors); name another folder"
        )
