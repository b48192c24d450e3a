"""Training a single-image restorer, of any architecture in `ARCHITECTURES`, on photos made worse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.pipeline.config import Arch
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress

from .loop import LoopConfig, Metrics, run_training
from .restorer_models import ARCHITECTURES
from .restorer_task import RestorationTask


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorerConfig:
    """Which network, how long, how large, how fast."""

    arch: Arch = "refiner"
    steps: int = 10000
    batch_size: int = 16  # patches in a step, on each device
    patch_size: int = 128  # pixels
    lr: float = 1e-3  # learning rate
    seed: int = 0
    val_interval: float = 5.0  # minutes between trials and checkpoints
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.arch not in ARCHITECTURES:
            raise ValueError(f"arch must be one of {', '.join(ARCHITECTURES)}, not {self.arch}")

    @property
    def loop(self) -> LoopConfig:
        return LoopConfig(
            steps=self.steps, lr=self.lr, seed=self.seed, val_interval=self.val_interval, device=self.device
        )


def train_restorer(  # noqa: PLR0913  # two folders, what to steer by, how, and two to tell
    photos: Path,
    out: Path,
    *,
    val_photos: Path | None,
    config: RestorerConfig,
    progress: ProgressCallback = null_progress,
    on_metrics: Callable[[Metrics], None],
) -> Path:
    """Train on `photos` made worse in many ways; go on where an interrupted training in `out` stopped.

    Args:
        photos: Folder of photos and videos to cut patches from.
        out: Folder of checkpoint, log and weights.
        val_photos: Folder of other photos, to say how good it is meanwhile and to choose the best weights by.
        config: See there.
        progress: Told of steps done.
        on_metrics: Told of every trial.

    Returns:
        The best weights so far, bf16 safetensors.
    """
    task = RestorationTask(
        build_network=ARCHITECTURES[config.arch],
        pictures=load_pictures(photos),
        batch_size=config.batch_size,
        patch_size=config.patch_size,
        seed=config.seed,
        val_photos=val_photos,
    )
    return run_training(task, out, config=config.loop, progress=progress, on_metrics=on_metrics)
