"""What a user may ask of `restore`, and what he is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from freezeframe.data.errors import FreezeframeError
from freezeframe.data.media.video_out.verify import VerificationReport
from freezeframe.pipeline.config import BackendName, OutputConfig, Precision

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
    backend: BackendName = "auto"  # library that runs the network; auto: the fastest, timed once per machine
    output: OutputConfig = field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must lie between 0 and 1, not {self.strength:g}")
        if self.tile is not None and not 32 <= self.tile <= 8192:
            raise ValueError(f"tile must lie between 32 and 8192, not {self.tile}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult:
    """What became of one photo or video."""

    source: Path
    output: Path
    status: Status
    reason: str  # who restored it and why, or why not
    verification: VerificationReport | None = None  # of a video
    backends: Mapping[str, str] = field(default_factory=dict)  # that ran the restorer: torch bf16

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        sheet = self.verification.to_dict() if self.verification else None
        return {**asdict(replace(self, verification=None)), "verification": sheet}


def configure(*, output: Mapping[str, Any], **given: Any) -> RestoreConfig:
    """What a user typed as a RestoreConfig; None keeps the default."""
    output_fields = {name: value for name, value in output.items() if value is not None}
    try:
        return RestoreConfig(output=OutputConfig(**output_fields), **given)
    except ValueError as error:
        raise FreezeframeError(f"{error}; see --help") from error


def table(results: Sequence[RestoreResult]) -> str:
    """One line per photo or video, a sum where there are several, and a video's plumbing sheet."""
    width = max((len(str(result.source)) for result in results), default=0)
    lines = [f"{result.source!s:<{width}}  {result.status:<7}  {result.reason}" for result in results]
    if len(results) > 1:
        counts = {status: sum(result.status == status for result in results) for status in STATUSES}
        lines.append(", ".join(f"{count} {status}" for status, count in counts.items()))
    return "\n".join([*lines, *(result.verification.text() for result in results if result.verification)])
