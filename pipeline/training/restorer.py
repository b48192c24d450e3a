"""Training a single-image restorer, of any architecture in `ARCHITECTURES`, on photos made worse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from freezeframe.data.synthesis.clips.clips import pictures_in
from freezeframe.pipeline.config import Arch
from freezeframe.pipeline.support.progress import Advance, quiet

from .loop import LoopConfig, Told, learn
from .restorer_models import ARCHITECTURES
from .restorer_task import Patches


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorerConfig:
    """Which network, how long, how large, how fast."""

    arch: Arch = "refiner"
    steps: int = 10000
    size: int = 16  # patches in a step, on each device
    patch: int = 128  # pixels
    pace: float = 1e-3  # learning rate
    seed: int = 0
    every: float = 5.0  # minutes between trials and checkpoints
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.arch not in ARCHITECTURES:
            raise ValueError(f"arch must be one of {', '.join(ARCHITECTURES)}, not {self.arch}")

    @property
    def loop(self) -> LoopConfig:
        return LoopConfig(
            steps=self.steps, pace=self.pace, seed=self.seed, every=self.every, device=self.device
        )


def train_restorer(  # noqa: PLR0913  # two folders, what to steer by, how, and two to tell
    photos: Path,
    out: Path,
    *,
    judged: Path | None,
    config: RestorerConfig,
    progress: Advance = quiet,
    tell: Callable[[Told], None],
) -> Path:
    """Train on `photos` made worse in many ways; go on where an interrupted training in `out` stopped.

    Args:
        photos: Folder of photos and videos to cut patches from.
        out: Folder of checkpoint, log and weights.
        judged: Folder of other photos, to say how good it is meanwhile and to choose the best weights by.
        config: See there.
        progress: Told of steps done.
        tell: Told of every trial.

    Returns:
        The best weights so far, bf16 safetensors.
    """
    course = Patches(
        made=ARCHITECTURES[config.arch],
        pictures=pictures_in(photos),
        size=config.size,
        patch=config.patch,
        seed=config.seed,
        judged=judged,
    )
    return learn(course, out, config=config.loop, progress=progress, tell=tell)
