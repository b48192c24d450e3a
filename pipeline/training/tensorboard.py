"""The course of a training for TensorBoard, where that is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from freezeframe.data.errors import FreezeframeError


def board(folder: Path) -> Callable[[dict[str, float]], None]:
    """Writes every trial as scalars into `folder`.

    Raises:
        FreezeframeError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise FreezeframeError("--tensorboard needs TensorBoard; pip install tensorboard") from error
    writer = SummaryWriter(str(folder))

    def tell(told: dict[str, float]) -> None:
        for name, value in told.items():
            writer.add_scalar(name, value, int(told["step"]))
        writer.flush()

    return tell
