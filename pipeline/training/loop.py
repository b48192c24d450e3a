"""The loop that every training here runs in: seeded, resumable to the bit, on one CPU or many GPUs.

What is learned (network, batches, loss, trials) comes as a `Course`; nothing here knows which it is.
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
from freezeframe.data.media.files.publish import save
from freezeframe.models.runtime.device import find_device
from freezeframe.pipeline.support.progress import Advance, quiet

from .objective import CLIPPED, Inner, Optimisers, averaged, follow, pace_at

Told = dict[str, float]
"""A trial: the step, the score, and decibels gained by name of what was tried."""

Trial = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """How long and how fast."""

    steps: int
    pace: float = 1e-3  # learning rate
    seed: int = 0
    every: float = 5.0  # minutes between trials and checkpoints
    device: str = "auto"


class Course(Protocol):
    """What is learned. All of it depends on the configuration alone, so that a training can be repeated."""

    @property
    def inner(self) -> Inner:
        """Which weights are moved by Muon."""

    def network(self) -> nn.Module:
        """The network to begin with, on the CPU; `torch.manual_seed` was called just before."""

    def batch(self, step: int, *, rank: int) -> Tensor:
        """What is learned from in a step."""

    def miss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """How wrong the model is on a batch: a number to make small."""

    def trials(self) -> list[Trial]:
        """How good the network is on what it never saw, in decibels gained."""


@dataclass(slots=True)
class State:
    """All that a training needs to go on exactly as if it had never stopped."""

    network: nn.Module
    average: nn.Module
    optimisers: Optimisers
    step: int = 0
    best: float = float("-inf")

    @classmethod
    def new(cls, course: Course, config: LoopConfig, device: torch.device) -> State:
        torch.manual_seed(config.seed)
        network = course.network().to(device)
        return cls(network, averaged(network), Optimisers(network, pace=config.pace, inner=course.inner))

    def packed(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": self.optimisers.state_dict(),
            "step": self.step,
            "best": self.best,
        }

    def unpack(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimisers.load_state_dict(state["optimisers"])
        self.step, self.best = state["step"], state["best"]


def learn(
    course: Course,
    out: Path,
    *,
    config: LoopConfig,
    progress: Advance = quiet,
    tell: Callable[[Told], None],
) -> Path:
    """Go through a course; go on where an interrupted one in `out` stopped.

    Args:
        course: What is learned.
        out: Folder of checkpoint, log and weights.
        config: See there.
        progress: Told of steps done.
        tell: Told of every trial.

    Returns:
        The best weights so far, bf16 safetensors.
    """
    _refuse_other_weights(out)
    out.mkdir(parents=True, exist_ok=True)
    rank, device = place(config.device)
    state = State.new(course, config, device)
    checkpoint, weights = out / "checkpoint.pt", out / "weights.safetensors"
    if checkpoint.exists():
        state.unpack(_read(checkpoint, device))
    judges = course.trials() if rank == 0 else []
    model = _spread(state.network, device)
    due = time.monotonic() + 60 * config.every
    progress(state.step, config.steps)
    for batch in _ahead(course, range(state.step, config.steps), rank=rank):
        _advance(state, course, model, batch.to(device), steps=config.steps)
        progress(1, config.steps)
        last = state.step == config.steps
        if rank == 0 and (last or time.monotonic() >= due):
            _judge(state, judges, out=out, tell=tell)
            _write(checkpoint, state.packed())
            due = time.monotonic() + 60 * config.every
    return weights


def _advance(state: State, course: Course, model: nn.Module, batch: Tensor, *, steps: int) -> None:
    state.network.zero_grad(set_to_none=True)
    course.miss(model, batch).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.network.parameters(), CLIPPED)
    state.optimisers.step(share=pace_at(state.step, steps))
    state.step += 1
    follow(state.average, state.network, step=state.step)


def _judge(state: State, judges: list[Trial], *, out: Path, tell: Callable[[Told], None]) -> None:
    found = {name: gain for judge in judges for name, gain in judge(state.average).items()}
    score = sum(found.values()) / max(1, len(found))
    if score >= state.best:  # where nothing is tried the last ones are the best
        state.best = score
        half = {name: value.bfloat16().contiguous() for name, value in state.average.state_dict().items()}
        save(save_tensors(half), out / "weights.safetensors")
    line = {"step": float(state.step), "score": score, **found}
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps({"time": round(time.time()), **line}) + "\n")
    tell(line)


def _ahead(course: Course, steps: range, *, rank: int) -> Iterator[Tensor]:
    """The batches of these steps, each made while the one before is learned from."""
    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(course.batch, steps.start, rank=rank)
        for step in steps:
            batch = coming.result()
            if step + 1 < steps.stop:
                coming = worker.submit(course.batch, step + 1, rank=rank)
            yield batch


def place(device: str) -> tuple[int, torch.device]:
    """Rank and device of this process: as asked, or as `torchrun` says where it started several."""
    if "LOCAL_RANK" not in os.environ:
        return 0, find_device(device)
    local = int(os.environ["LOCAL_RANK"])
    found = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    torch.distributed.init_process_group("nccl" if found.type == "cuda" else "gloo")
    return torch.distributed.get_rank(), found


def _spread(network: nn.Module, device: torch.device) -> nn.Module:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return network
    ids = [device.index] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=ids)


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, OSError, EOFError) as error:
        raise FreezeframeError(f"{path}: cannot be read ({error}); move it away to start anew") from error
    return state


def _write(path: Path, state: dict[str, Any]) -> None:
    content = io.BytesIO()
    torch.save(state, content)
    save(content.getvalue(), path)


def _refuse_other_weights(out: Path) -> None:
    """Weights without the checkpoint of their training are nobody's to replace."""
    if (out / "weights.safetensors").exists() and not (out / "checkpoint.pt").exists():
        raise UnwritableOutput(
            f"{out}: holds weights of another training (weights.safetensors); name another folder"
        )
