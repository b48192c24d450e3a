"""What was done to each frame and why, as JSON and as a few lines for a person."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from freezeframe.data.media.files.publish import claim
from freezeframe.data.media.video_out.verify import VerificationReport
from freezeframe.data.types import ShotReport, Verdict
from freezeframe.pipeline.config import Config

from .summary import format_counts, format_remarks
from .units import format_clock, pluralize


class Stopwatch:
    """Wall time per stage; a stage may be entered many times."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def window(self) -> Iterator[dict[str, float]]:
        """Yields the time spent per stage inside, complete when the block ends."""
        before = dict(self.seconds)
        spent: dict[str, float] = {}
        yield spent
        since = {name: total - before.get(name, 0) for name, total in self.seconds.items()}
        spent.update({name: seconds for name, seconds in since.items() if seconds > 0})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to stage `name`."""
        start_time = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - start_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole run."""

    source: str
    output: str
    shutter: float  # exposure time over frame interval
    shutter_confidence: float  # [0, 1]
    shots: tuple[ShotReport, ...]
    seconds: Mapping[str, float]  # wall time per stage
    config: Config
    notes: tuple[str, ...] = ()
    verification: VerificationReport | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    backends: Mapping[str, str] = field(default_factory=dict)  # that ran the networks: torch bf16

    @property
    def verdicts(self) -> Iterator[Verdict]:
        """Every frame's verdict, in order."""
        return (verdict for shot in self.shots for verdict in shot.verdicts)

    @property
    def counts(self) -> Counter[str]:
        """How many frames were sharpened, left untouched, fell back."""
        return Counter(verdict.action for verdict in self.verdicts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        body = asdict(self)
        body["frames"] = dict(self.counts)
        body["verification"] = self.verification.to_dict() if self.verification else None
        return body

    def save(self, path: Path, *, force: bool = False) -> None:
        """Write the report as JSON; an existing file is kept unless `force`."""
        body = _finite(self.to_dict())
        text = json.dumps(body, indent=2, default=str, allow_nan=False)
        claim(path, force=force).write((text + "\n").encode())

    def text(self) -> str:
        """A few lines for a person."""
        verdicts = list(self.verdicts)
        lines = [
            f"{self.source}: {pluralize(len(verdicts), 'frame')} in {pluralize(len(self.shots), 'shot')},"
            f" shutter {360 * self.shutter:.0f}° (confidence {self.shutter_confidence:.2f}),"
            f" {format_clock(sum(self.seconds.values()))} in all",
            f"  {format_counts(verdicts)}",
            *(f"  {remark}" for remark in format_remarks(verdicts)),
            *(f"  note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


class ShotLog:
    """Verdicts gathered window by window, handed out shot by shot."""

    def __init__(self) -> None:
        self._verdicts: dict[int, list[Verdict]] = {}
        self._seconds: dict[int, dict[str, float]] = {}

    def add(self, shot: int, verdicts: list[Verdict], seconds: Mapping[str, float]) -> None:
        """Note what happened to one window of shot number `shot`."""
        self._verdicts.setdefault(shot, []).extend(verdicts)
        spent = self._seconds.setdefault(shot, {})
        spent.update({name: spent.get(name, 0) + more for name, more in seconds.items()})

    def reports(self) -> tuple[ShotReport, ...]:
        """One report per shot, in order."""
        return tuple(
            ShotReport(
                first=verdicts[0].index,
                last=verdicts[-1].index,
                seconds=dict(self._seconds[shot]),
                verdicts=tuple(verdicts),
            )
            for shot, verdicts in sorted(self._verdicts.items())
        )


def _finite(value: Any) -> Any:
    """`value` with null for what JSON has no word for: the figures of a frame that is not a number."""
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
