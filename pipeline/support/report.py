"""Report of a run: the verdict on each frame, and wall time per stage."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from freezeframe.data.media.files.publish import claim
from freezeframe.data.media.verification import VerificationReport
from freezeframe.data.types import ShotReport, Verdict
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.support.text.summary import format_counts, format_remarks
from freezeframe.pipeline.support.text.units import format_clock, pluralize

from .json_values import SCHEMA, to_json_values
from .tracks import TrackSummary, summarize_tracks

Stage = Literal[
    "thumbnail", "survey", "fine_tune", "decode", "measure", "fuse", "fusion_network", "splat", "refine",
    "gate", "layers", "write", "finalize",
]  # fmt: skip


class Stopwatch:
    """Wall time per stage; a stage may be entered many times."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def window(self) -> Iterator[dict[str, float]]:
        """Yield the time per stage inside the block, complete when the block ends."""
        before = dict(self.seconds)
        elapsed: dict[str, float] = {}
        yield elapsed
        since = {name: total - before.get(name, 0) for name, total in self.seconds.items()}
        elapsed.update({name: seconds for name, seconds in since.items() if seconds > 0})

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Add the time inside the block to stage `name`."""
        start_time = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - start_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Result of `deblur_video`."""

    source: str  # name of the source
    output: str  # path of the output
    shutter: float  # exposure time over frame interval, (0, 1]
    shutter_confidence: float  # [0, 1]
    shots: tuple[ShotReport, ...]
    seconds: Mapping[str, float]  # wall time per stage
    config: Config  # settings of the run
    notes: tuple[str, ...] = ()  # remarks on source, output and run
    verification: VerificationReport | None = None  # comparison of the output file with what was expected
    versions: Mapping[str, str] = field(default_factory=dict)  # of Python and the libraries
    backends: Mapping[str, str] = field(default_factory=dict)  # that ran the networks: torch bf16

    @property
    def verdicts(self) -> Iterator[Verdict]:
        """Verdicts of all frames, in order."""
        return (verdict for shot in self.shots for verdict in shot.verdicts)

    @property
    def counts(self) -> Counter[str]:
        """Number of frames per action."""
        return Counter(verdict.action for verdict in self.verdicts)

    @property
    def regions(self) -> tuple[TrackSummary, ...]:
        """The movers of the clip that are listed in verdicts."""
        return summarize_tracks(self.verdicts)

    def to_dict(self) -> dict[str, Any]:
        """Values of report.json, as in docs/reference/schemas/report.schema.json."""
        body = asdict(self) | {
            "verification": self.verification.to_dict() if self.verification else None,
            "action_counts": dict(self.counts),
            "regions": [asdict(track) for track in self.regions],
        }
        values: dict[str, Any] = to_json_values({"schema": SCHEMA, **body})
        return values

    def save(self, path: Path, *, force: bool = False) -> None:
        """Write the report as JSON.

        Raises:
            UnwritableOutput: The file exists (without `force`), or cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False)
        claim(path, force=force).write((text + "\n").encode())

    def text(self) -> str:
        """Summary in a few lines."""
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
    """Verdicts and times of windows, joined per shot."""

    def __init__(self) -> None:
        self._verdicts: dict[int, list[Verdict]] = {}
        self._seconds: dict[int, dict[str, float]] = {}

    def add(self, shot: int, verdicts: list[Verdict], seconds: Mapping[str, float]) -> None:
        """Add one window of shot number `shot`; `seconds` is its wall time per stage."""
        self._verdicts.setdefault(shot, []).extend(verdicts)
        total = self._seconds.setdefault(shot, {})
        total.update({name: total.get(name, 0) + more for name, more in seconds.items()})

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
