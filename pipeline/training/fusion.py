"""Training of the fusion network (`models/deblur/fusion_net.py`) on clips rendered from photos."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.models.deblur.fusion_net import FUSED, MULTIPLE, FusionNet, NetConfig
from freezeframe.models.registry.bundled import read_network
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress

from .fusion_data import CLIPS_PER_SHARD, HELD_OUT_SEED, ShardPool, prefetch_shards, split_sample
from .fusion_validation import validators
from .loop import LoopConfig, Metrics, Validator, run_training
from .objective import charbonnier_spectral_loss, is_coder_weight, mover_weights, sample_weights

__all__ = ["Metrics", "TrainConfig", "train"]

INITIAL_SHARDS = 32  # shards before the first step
STEPS_PER_SHARD = 30  # steps per additional shard: more are rendered during the training
SHARDS_PER_SEED = 10_000  # shards reserved for each seed


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Network, data and schedule."""

    batch_size: int = 16  # patches per step and device
    patch_size: int = 128  # pixels
    mover_weight: float = 4.0  # weight of a pixel that a mover covers during the exposure, over the others
    width: int = 32  # channels at half size; doubled twice
    num_shards: int = 400  # shards to draw from, of 16 clips each
    workers: int = 1  # processes that render shards during the training
    init_weights: Path | None = None  # initial weights; None: random
    val_pairs: Path | None = None  # real validation clips, as */blur/*.png and */sharp/*.png
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=20000))  # its seed also draws the clips

    def __post_init__(self) -> None:
        if self.patch_size % MULTIPLE:
            raise ValueError(f"patch_size must be a multiple of {MULTIPLE}, not {self.patch_size}")
        if self.mover_weight <= 0:
            raise ValueError(f"mover_weight must be above 0, not {self.mover_weight}; 1 weights all alike")
        if self.loop.seed < 0 or self.shard_numbers.stop * 10 * CLIPS_PER_SHARD > HELD_OUT_SEED:
            raise ValueError(f"seed {self.loop.seed} would train on held-out clips; choose 0 to 600")

    @property
    def shard_numbers(self) -> range:
        """The shards to draw from."""
        first = self.loop.seed * SHARDS_PER_SEED
        return range(first, first + self.num_shards)


@dataclass(frozen=True, slots=True)
class FusionTask:
    """Predict the residual of the deconvolved frame from the network input."""

    config: TrainConfig
    pool: ShardPool
    uses_muon = staticmethod(is_coder_weight)

    def network(self) -> nn.Module:
        if self.config.init_weights is not None:
            return read_network(self.config.init_weights).train().requires_grad_(True)
        w = self.config.width
        return FusionNet(NetConfig(widths=(w, 2 * w, 4 * w)))

    def batch(self, step: int, *, rank: int) -> Tensor:
        return self.pool.batch(
            step,
            batch_size=self.config.batch_size,
            patch_size=self.config.patch_size,
            shards=self.config.shard_numbers[: INITIAL_SHARDS + step // STEPS_PER_SHARD],
            seed=self.config.loop.seed * 1000 + rank,
        )

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        network_input, truth, movers = split_sample(batch)
        with torch.autocast(batch.device.type, dtype=torch.bfloat16):
            change = model(network_input.to(memory_format=torch.channels_last))
        fused = network_input[:, FUSED]
        return charbonnier_spectral_loss(
            fused + change,
            truth,
            sample_weights(fused, truth),
            pixel_weights=mover_weights(movers, ratio=self.config.mover_weight),
        )

    def validators(self) -> list[Validator]:
        return validators(self.pool, self.config.val_pairs)


def train(
    photos: Path,
    out: Path,
    *,
    config: TrainConfig,
    progress: ProgressCallback = null_progress,
    on_metrics: Callable[[Metrics], None],
) -> Path:
    """Train on clips rendered from `photos`; resume an interrupted training in `out`.

    Args:
        photos: Folder of photos and videos to crop scenes from.
        out: Folder of checkpoint, shards, log and weights.
        config: Network, data and schedule.
        progress: Called with the steps done since the last call and their total.
        on_metrics: Called with the metrics of every validation.

    Returns:
        Path of the best weights so far, bf16 safetensors.

    Raises:
        UnreadableMedia: `photos` holds no photos.
        UnwritableOutput: `out` holds weights of another training.
    """
    pool = ShardPool(folder=out / "shards", pictures=load_pictures(photos))
    # In distributed training rank 0 has the shards rendered for all.
    is_leader = os.environ.get("RANK", "0") == "0"
    with prefetch_shards(
        photos, pool.folder, config.shard_numbers, workers=config.workers if is_leader else 0
    ):
        if is_leader:
            _make_initial_shards(pool, config.shard_numbers[:INITIAL_SHARDS], progress)
        return run_training(
            FusionTask(config, pool), out, config=config.loop, progress=progress, on_metrics=on_metrics
        )


def _make_initial_shards(pool: ShardPool, first: range, progress: ProgressCallback) -> None:
    """Render the initial shards, from the last one on: the workers start with the first."""
    stage = "rendering the first shards"
    progress(0, len(first), stage)
    for number in reversed(first):
        pool.make(number)
        progress(1, len(first), stage)
