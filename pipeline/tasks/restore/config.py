"""What a user may ask of `restore`, and what he is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from freezeframe.data.errors import FreezeframeError
from freezeframe.data.media.video_out.verify import PlumbingSheet
from freezeframe.pipeline.config import OutputConfig, Precision

Status = Literal["done", "skipped", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)
AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreConfig:
    """Every knob."""

    model: str = AUTO  # a name of the catalogue, a file, or auto
    tile: int | None = None  # pixels; None takes what fits into free memory
    strength: float = 1.0  # 0 returns the input (enlarged, where the network enlarges), 1 the full result
    device: str = "auto"  # auto, cpu, cuda, cuda:1 ...
    precision: Precision = "auto"
    output: OutputConfig = field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must lie between 0 and 1, not {self.strength:g}")
        if self.tile is not None and not 32 <= self.tile <= 8192:
            raise ValueError(f"tile must lie between 32 and 8192, not {self.tile}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What became of one photo or video."""

    source: Path
    output: Path
    status: Status
    reason: str  # who restored it and why, or why not
    plumbing: PlumbingSheet | None = None  # of a video

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        sheet = self.plumbing.to_dict() if self.plumbing else None
        return {**asdict(replace(self, plumbing=None)), "plumbing": sheet}


def configure(*, output: Mapping[str, Any], **given: Any) -> RestoreConfig:
    """What a user typed as a RestoreConfig; None keeps the default."""
    said = {name: value for name, value in output.items() if value is not None}
    try:
        return RestoreConfig(output=OutputConfig(**said), **given)
    except ValueError as wrong:
        raise FreezeframeError(f"{wrong}; see --help") from wrong


def table(done: Sequence[Restored]) -> str:
    """One line per photo or video, a sum where there are several, and a video's plumbing sheet."""
    width = max((len(str(each.source)) for each in done), default=0)
    lines = [f"{each.source!s:<{width}}  {each.status:<7}  {each.reason}" for each in done]
    if len(done) > 1:
        counts = {status: sum(each.status == status for each in done) for status in STATUSES}
        lines.append(", ".join(f"{count} {status}" for status, count in counts.items()))
    return "\n".join([*lines, *(each.plumbing.text() for each in done if each.plumbing)])
