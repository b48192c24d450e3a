"""Training the network of `models/multiframe.py`: seeded, resumable to the bit, on one CPU or many GPUs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..data.errors import FreezeframeError
from ..data.synth_clips import pictures_in
from ..models import multiframe
from ..models.device import find_device
from .progress import Advance, quiet
from .training_data import Pool, made_ahead, parted
from .training_step import CLIPPED, Optimisers, averaged, follow, loss, pace_at
from .training_trial import Trial, trials

FIRST = 32  # shards that a training begins with
STEPS_PER_SHARD = 80  # steps after which one more joins: they are made while the first are learned from


Told = dict[str, float]
"""A trial: the step, the score, and decibels gained by name of what was tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How long, how large, how fast."""

    steps: int = 20000
    size: int = 16  # patches in a step, on each device
    patch: int = 128  # pixels
    width: int = 32  # channels at half size; doubled twice
    shards: int = 400  # of sixteen clips each, to draw from
    pace: float = 1e-3  # learning rate
    seed: int = 0
    every: float = 5.0  # minutes between trials and checkpoints
    workers: int = 1  # processes that make shards meanwhile
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.patch % multiframe.MULTIPLE:
            raise ValueError(f"patch must be a multiple of {multiframe.MULTIPLE}, not {self.patch}")


@dataclass(slots=True)
class State:
    """All that a training needs to go on exactly as if it had never stopped."""

    network: nn.Module
    average: nn.Module
    optimisers: Optimisers
    step: int = 0
    best: float = float("-inf")

    @classmethod
    def new(cls, config: TrainConfig, device: torch.device) -> State:
        torch.manual_seed(config.seed)
        w = config.width
        network = multiframe.MultiFrame(multiframe.Layout(widths=(w, 2 * w, 4 * w))).to(device)
        return cls(network, averaged(network), Optimisers(network, pace=config.pace))

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


def train(  # noqa: PLR0913  # two folders, what to steer by, how, and two to tell
    photos: Path,
    out: Path,
    *,
    pairs: Path | None,
    config: TrainConfig,
    progress: Advance = quiet,
    tell: Callable[[Told], None],
) -> Path:
    """Train on clips rendered from `photos`; go on where an interrupted training in `out` stopped.

    Args:
        photos: Folder of photos and videos to cut scenes from.
        out: Folder of checkpoints, shards, log and weights.
        pairs: Real clips to steer by, as `*/blur/*.png` and `*/sharp/*.png`.
        config: See there.
        progress: Told of steps done.
        tell: Told of every trial.

    Returns:
        The best weights so far, bf16 safetensors.
    """
    rank, device = _place(config)
    state = State.new(config, device)
    checkpoint, weights = out / "checkpoint.pt", out / "weights.safetensors"
    if checkpoint.exists():
        state.unpack(_read(checkpoint, device))
    pool = Pool(folder=out / "shards", pictures=pictures_in(photos))
    judges = trials(pool, pairs) if rank == 0 else []
    model = _spread(state.network, device)
    due = time.monotonic() + 60 * config.every
    progress(state.step, config.steps)
    with made_ahead(photos, pool.folder, range(config.shards), workers=config.workers if rank == 0 else 0):
        for batch in _batches(pool, config, start=state.step, rank=rank):
            _advance(state, model, batch.to(device), steps=config.steps)
            progress(1, config.steps)
            last = state.step == config.steps
            if rank == 0 and (last or time.monotonic() >= due):
                _judge(state, judges, out=out, tell=tell)
                _write(checkpoint, state.packed())
                due = time.monotonic() + 60 * config.every
    return weights


def _advance(state: State, model: nn.Module, batch: Tensor, *, steps: int) -> None:
    seen, truth = parted(batch)
    seen = seen.to(memory_format=torch.channels_last)
    with torch.autocast(batch.device.type, dtype=torch.bfloat16):
        change = model(seen)
    state.network.zero_grad(set_to_none=True)
    loss(change, seen, truth).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.network.parameters(), CLIPPED)
    state.optimisers.step(share=pace_at(state.step, steps))
    state.step += 1
    follow(state.average, state.network, step=state.step)


def _judge(state: State, judges: list[Trial], *, out: Path, tell: Callable[[Told], None]) -> None:
    found = {name: gain for judge in judges for name, gain in judge(state.average).items()}
    score = sum(found.values()) / max(1, len(found))
    if score > state.best:
        state.best = score
        half = {name: value.bfloat16().contiguous() for name, value in state.average.state_dict().items()}
        save_file(half, out / "weights.safetensors")
    line = {"step": float(state.step), "score": score, **found}
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps({"time": round(time.time()), **line}) + "\n")
    tell(line)


def _batches(pool: Pool, config: TrainConfig, *, start: int, rank: int) -> Iterator[Tensor]:
    """Batches from step `start` on, each made while the one before is learned from."""

    def make(step: int) -> Tensor:
        return pool.batch(
            step,
            size=config.size,
            patch=config.patch,
            shards=range(min(config.shards, FIRST + step // STEPS_PER_SHARD)),
            seed=config.seed * 1000 + rank,
        )

    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(make, start)
        for step in range(start, config.steps):
            batch = coming.result()
            if step + 1 < config.steps:
                coming = worker.submit(make, step + 1)
            yield batch


def _place(config: TrainConfig) -> tuple[int, torch.device]:
    if "LOCAL_RANK" not in os.environ:
        return 0, find_device(config.device)
    local = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return torch.distributed.get_rank(), device


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
    unfinished = path.with_suffix(".part")
    torch.save(state, unfinished)
    unfinished.replace(path)
