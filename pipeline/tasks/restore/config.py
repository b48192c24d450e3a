"""Settings and results of `restore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from freezeframe.data.errors import FreezeframeError
from freezeframe.data.media.verification import VerificationReport
from freezeframe.pipeline.config import BackendName, OutputConfig, Precision
from freezeframe.pipeline.support.text.table import Status, align_columns, count_statuses

AUTO = "auto"
SCHEMA = 1  # version of the JSON file


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreConfig:
    """Settings of `restore`."""

    model: str = AUTO  # a name of the catalogue, a file, or auto
    tile: int | None = None  # side of a tile in pixels; None: by free memory
    strength: float = 1.0  # 0 returns the input (upsampled by a network that upsamples), 1 the full result
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
    """Result for one photo or video."""

    source: Path
    output: Path
    status: Status
    reason: str  # the restorer and why it was chosen, or the error
    verification: VerificationReport | None = None  # videos only
    backends: Mapping[str, str] = field(default_factory=dict)  # that ran the restorer: torch bf16

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        verification = self.verification.to_dict() if self.verification else None
        return {**asdict(replace(self, verification=None)), "verification": verification}


def configure(*, output: Mapping[str, Any], **fields: Any) -> RestoreConfig:
    """Command-line options as a RestoreConfig; None in `output` keeps the default."""
    output_fields = {name: value for name, value in output.items() if value is not None}
    try:
        return RestoreConfig(output=OutputConfig(**output_fields), **fields)
    except ValueError as error:
        raise FreezeframeError(f"{error}; see --help") from error


def to_dict(results: Sequence[RestoreResult]) -> dict[str, Any]:
    """Plain values, ready for JSON."""
    return {"schema": SCHEMA, "restored": [result.to_dict() for result in results]}


def format_results(results: Sequence[RestoreResult]) -> str:
    """One line per photo or video, the totals of several, and the verification of a video."""
    lines = [*align_columns([(str(r.source), r.status, r.reason) for r in results], "<<<")]
    if len(results) > 1:
        lines.append(count_statuses([result.status for result in results]))
    return "\n".join([*lines, *(result.verification.text() for result in results if result.verification)])
