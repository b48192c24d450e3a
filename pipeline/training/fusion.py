"""Training the network of `models/deblur/fusion_net.py` on clips rendered from photos."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from freezeframe.data.synthesis.clips.clips import pictures_in
from freezeframe.models.deblur import fusion_net as multiframe
from freezeframe.models.registry.bundled import read_network
from freezeframe.pipeline.support.progress import Advance, quiet

from .fusion_data import HELD_OUT, PER_SHARD, Pool, made_ahead, parted
from .fusion_validation import trials
from .loop import LoopConfig, Told, Trial, learn
from .objective import coders, loss, worth

__all__ = ["Told", "TrainConfig", "train"]

FIRST = 32  # shards that a training begins with
STEPS_PER_SHARD = 30  # steps after which one more joins: they are made while the first are learned from
SERIES = 10_000  # shards that a seed may have before those of the next begin


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How long, how large, how fast."""

    steps: int = 20000
    size: int = 16  # patches in a step, on each device
    patch: int = 128  # pixels
    width: int = 32  # channels at half size; doubled twice
    shards: int = 400  # of sixteen clips each, to draw from
    pace: float = 1e-3  # learning rate
    seed: int = 0  # of the clips, of the patches, and of first weights
    every: float = 5.0  # minutes between trials and checkpoints
    workers: int = 1  # processes that make shards meanwhile
    start: Path | None = None  # weights to begin with; None: from scratch
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.patch % multiframe.MULTIPLE:
            raise ValueError(f"patch must be a multiple of {multiframe.MULTIPLE}, not {self.patch}")
        if self.seed < 0 or self.numbers.stop * 10 * PER_SHARD > HELD_OUT:
            raise ValueError(f"seed {self.seed} would train on clips that are held out; choose 0 to 600")

    @property
    def numbers(self) -> range:
        """The shards to draw from."""
        return range(self.seed * SERIES, self.seed * SERIES + self.shards)

    @property
    def loop(self) -> LoopConfig:
        return LoopConfig(
            steps=self.steps, pace=self.pace, seed=self.seed, every=self.every, device=self.device
        )


@dataclass(frozen=True, slots=True)
class _Clips:
    """The course: evidence of clips, and what to add to their deconvolved frames."""

    config: TrainConfig
    pool: Pool
    pairs: Path | None
    inner = staticmethod(coders)

    def network(self) -> nn.Module:
        if self.config.start is not None:
            return read_network(self.config.start).train().requires_grad_(True)
        w = self.config.width
        return multiframe.MultiFrame(multiframe.Layout(widths=(w, 2 * w, 4 * w)))

    def batch(self, step: int, *, rank: int) -> Tensor:
        return self.pool.batch(
            step,
            size=self.config.size,
            patch=self.config.patch,
            shards=self.config.numbers[: FIRST + step // STEPS_PER_SHARD],
            seed=self.config.seed * 1000 + rank,
        )

    def miss(self, model: nn.Module, batch: Tensor) -> Tensor:
        seen, truth = parted(batch)
        with torch.autocast(batch.device.type, dtype=torch.bfloat16):
            change = model(seen.to(memory_format=torch.channels_last))
        fused = seen[:, multiframe.FUSED]
        return loss(fused + change, truth, worth(fused, truth))

    def trials(self) -> list[Trial]:
        return trials(self.pool, self.pairs)


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
    pool = Pool(folder=out / "shards", pictures=pictures_in(photos))
    # Where several learn together, the first of them has the shards made for all.
    leads = os.environ.get("RANK", "0") == "0"
    with made_ahead(photos, pool.folder, config.numbers, workers=config.workers if leads else 0):
        if leads:
            _begun(pool, config.numbers[:FIRST], progress)
        return learn(_Clips(config, pool, pairs), out, config=config.loop, progress=progress, tell=tell)


def _begun(pool: Pool, first: range, progress: Advance) -> None:
    """The shards that a training begins with; others make them from the front, so this one from the back."""
    stage = "making the first shards"
    progress(0, len(first), stage)
    for number in reversed(first):
        pool.make(number)
        progress(1, len(first), stage)
