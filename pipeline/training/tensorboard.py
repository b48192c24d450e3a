"""Metrics of a training as TensorBoard scalars."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from freezeframe.data.errors import FreezeframeError


def tensorboard_writer(folder: Path) -> Callable[[dict[str, float]], None]:
    """A callback that writes the metrics of a validation as scalars into `folder`.

    Raises:
        FreezeframeError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise FreezeframeError("--tensorboard needs TensorBoard; pip install tensorboard") from error
    writer = SummaryWriter(str(folder))

    def write_metrics(metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, int(metrics["step"]))
        writer.flush()

    return write_metrics
