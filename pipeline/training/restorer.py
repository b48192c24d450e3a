"""Training of a single-image restorer, of any architecture in `ARCHITECTURES`, on degraded photos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.pipeline.config import Arch
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress

from .loop import LoopConfig, Metrics, run_training
from .restorer_models import ARCHITECTURES
from .restorer_task import DegradationSampling, RestorationTask


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorerConfig:
    """Network, data and schedule."""

    arch: Arch = "refiner"
    batch_size: int = 16  # patches per step and device
    patch_size: int = 128  # pixels
    val_photos: Path | None = None  # folder of validation photos, to select the best weights
    sampling: DegradationSampling = field(default_factory=DegradationSampling)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if self.arch not in ARCHITECTURES:
            raise ValueError(f"arch must be one of {', '.join(ARCHITECTURES)}, not {self.arch}")


def train_restorer(
    photos: Path,
    out: Path,
    *,
    config: RestorerConfig,
    progress: ProgressCallback = null_progress,
    on_metrics: Callable[[Metrics], None],
) -> Path:
    """Train on synthetically degraded `photos`; resume an interrupted training in `out`.

    Args:
        photos: Folder of photos and videos to crop patches from.
        out: Folder of checkpoint, log and weights.
        config: Network, data and schedule.
        progress: Called with the steps done since the last call and their total.
        on_metrics: Called with the metrics of every validation.

    Returns:
        Path of the best weights so far, bf16 safetensors.

    Raises:
        UnreadableMedia: `photos` holds no photos.
        UnwritableOutput: `out` holds weights of another training.
    """
    task = RestorationTask(
        build_network=ARCHITECTURES[config.arch],
        pictures=load_pictures(photos),
        batch_size=config.batch_size,
        patch_size=config.patch_size,
        seed=config.loop.seed,
        val_photos=config.val_photos,
        sampling=config.sampling,
    )
    return run_training(task, out, config=config.loop, progress=progress, on_metrics=on_metrics)
