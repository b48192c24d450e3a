"""Training the network of `models/deblur/fusion_net.py` on clips rendered from photos."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.models.deblur import fusion_net as multiframe
from freezeframe.models.registry.bundled import read_network
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress

from .fusion_data import CLIPS_PER_SHARD, HELD_OUT_SEED, ShardPool, prefetch_shards, split_input_target
from .fusion_validation import validators
from .loop import LoopConfig, Metrics, Validator, run_training
from .objective import charbonnier_spectral_loss, is_coder_weight, sample_weights

__all__ = ["Metrics", "TrainConfig", "train"]

INITIAL_SHARDS = 32  # shards that a training begins with
STEPS_PER_SHARD = 30  # steps after which one more joins: they are made while the first are learned from
SHARDS_PER_SEED = 10_000  # shards that a seed may have before those of the next begin


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How long, how large, how fast."""

    steps: int = 20000
    batch_size: int = 16  # patches in a step, on each device
    patch_size: int = 128  # pixels
    width: int = 32  # channels at half size; doubled twice
    num_shards: int = 400  # of sixteen clips each, to draw from
    lr: float = 1e-3  # learning rate
    seed: int = 0  # of the clips, of the patches, and of first weights
    val_interval: float = 5.0  # minutes between trials and checkpoints
    workers: int = 1  # processes that make shards meanwhile
    init_weights: Path | None = None  # weights to begin with; None: from scratch
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.patch_size % multiframe.MULTIPLE:
            raise ValueError(f"patch must be a multiple of {multiframe.MULTIPLE}, not {self.patch_size}")
        if self.seed < 0 or self.shard_numbers.stop * 10 * CLIPS_PER_SHARD > HELD_OUT_SEED:
            raise ValueError(f"seed {self.seed} would train on clips that are held out; choose 0 to 600")

    @property
    def shard_numbers(self) -> range:
        """The shards to draw from."""
        return range(self.seed * SHARDS_PER_SEED, self.seed * SHARDS_PER_SEED + self.num_shards)

    @property
    def loop(self) -> LoopConfig:
        return LoopConfig(
            steps=self.steps, lr=self.lr, seed=self.seed, val_interval=self.val_interval, device=self.device
        )


@dataclass(frozen=True, slots=True)
class _MultiFrameTask:
    """The course: evidence of clips, and what to add to their deconvolved frames."""

    config: TrainConfig
    pool: ShardPool
    val_pairs: Path | None
    uses_muon = staticmethod(is_coder_weight)

    def network(self) -> nn.Module:
        if self.config.init_weights is not None:
            return read_network(self.config.init_weights).train().requires_grad_(True)
        w = self.config.width
        return multiframe.FusionNet(multiframe.NetConfig(widths=(w, 2 * w, 4 * w)))

    def batch(self, step: int, *, rank: int) -> Tensor:
        return self.pool.batch(
            step,
            batch_size=self.config.batch_size,
            patch_size=self.config.patch_size,
            shards=self.config.shard_numbers[: INITIAL_SHARDS + step // STEPS_PER_SHARD],
            seed=self.config.seed * 1000 + rank,
        )

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        network_input, truth = split_input_target(batch)
        with torch.autocast(batch.device.type, dtype=torch.bfloat16):
            change = model(network_input.to(memory_format=torch.channels_last))
        fused = network_input[:, multiframe.FUSED]
        return charbonnier_spectral_loss(fused + change, truth, sample_weights(fused, truth))

    def validators(self) -> list[Validator]:
        return validators(self.pool, self.val_pairs)


def train(  # noqa: PLR0913  # two folders, what to steer by, how, and two to tell
    photos: Path,
    out: Path,
    *,
    val_pairs: Path | None,
    config: TrainConfig,
    progress: ProgressCallback = null_progress,
    on_metrics: Callable[[Metrics], None],
) -> Path:
    """Train on clips rendered from `photos`; go on where an interrupted training in `out` stopped.

    Args:
        photos: Folder of photos and videos to cut scenes from.
        out: Folder of checkpoints, shards, log and weights.
        val_pairs: Real clips to steer by, as `*/blur/*.png` and `*/sharp/*.png`.
        config: See there.
        progress: Told of steps done.
        on_metrics: Told of every trial.

    Returns:
        The best weights so far, bf16 safetensors.
    """
    pool = ShardPool(folder=out / "shards", pictures=load_pictures(photos))
    # Where several learn together, the first of them has the shards made for all.
    is_leader = os.environ.get("RANK", "0") == "0"
    with prefetch_shards(
        photos, pool.folder, config.shard_numbers, workers=config.workers if is_leader else 0
    ):
        if is_leader:
            _make_initial_shards(pool, config.shard_numbers[:INITIAL_SHARDS], progress)
        return run_training(
            _MultiFrameTask(config, pool, val_pairs),
            out,
            config=config.loop,
            progress=progress,
            on_metrics=on_metrics,
        )


def _make_initial_shards(pool: ShardPool, first: range, progress: ProgressCallback) -> None:
    """The shards that a training begins with; others make them from the front, so this one from the back."""
    stage = "making the first shards"
    progress(0, len(first), stage)
    for number in reversed(first):
        pool.make(number)
        progress(1, len(first), stage)
