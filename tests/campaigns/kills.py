"""`video` is stopped at a random time, once or twice, and resumed: the result equals an undisturbed run's."""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from freezeframe.tests.campaigns.invariants import (
    Contents,
    Outcome,
    file_fault,
    message_fault,
    verification_fault,
)
from freezeframe.tests.campaigns.process import ProcessResult, Running, fork, nothing, start
from freezeframe.tests.campaigns.results import difference, probe_output
from freezeframe.tests.campaigns.seeds import write_clip, write_folder

CASES = 100
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CODES = {signal.SIGKILL: (-9,), signal.SIGTERM: (143, 130, -15), signal.SIGINT: (130, -2)}
FAST = ("--network", "none", "--iterations", "2", "--min-blur", "0.5")
SEGMENT = 5  # frames: a clip of 20 then has several segments
REACTION_S = 30.0  # seconds from the signal to the end, on a busy machine
STARTUP_S = 3.0  # CPU seconds until Python and the libraries have started


@dataclass(frozen=True, slots=True)
class Scenario:
    """One job that is stopped and resumed."""

    name: str
    source: str
    output: str
    options: tuple[str, ...] = FAST
    segment: int = 240  # frames; with so many, a short clip resumes within its only segment

    @property
    def command(self) -> tuple[str, ...]:
        return ("video", self.source, self.output, *self.options)

    def prepare(self) -> None:
        """Save every finished frame, as half a minute of work of a real clip is saved."""
        from freezeframe.data.media.video_out.sink import SinkConfig, VideoSink
        from freezeframe.pipeline.support import media

        config = SinkConfig(min_segment_frames=self.segment, save_interval_s=0.0)
        media.VideoSink = partial(VideoSink, config=config)  # type: ignore[assignment,misc]


SCENARIOS = (
    Scenario("H.264", "in.mp4", "out.mp4"),
    Scenario("H.264 in segments", "in.mp4", "out.mp4", segment=SEGMENT),
    Scenario("FFV1", "in.mp4", "out.mkv", (*FAST, "--codec", "ffv1"), segment=SEGMENT),
    Scenario("images of a video", "in.mp4", "out"),
    Scenario("ProRes", "in.mp4", "out.mov", (*FAST, "--codec", "prores")),
    Scenario("images", "frames", "out"),
    Scenario("copy", "in.mp4", "out.mkv", ("--min-blur", "50")),
)


def prepare(folder: Path) -> None:
    """Render the sources, and run every scenario once without a signal."""

    def write() -> None:
        write_clip(folder / "in.mp4", frames=20)
        write_folder(folder / "frames", frames=14)

    assert not fork(write, folder=folder).wait().code
    for scenario in SCENARIOS:
        scenario_folder = folder / scenario.name
        scenario_folder.mkdir()
        _copy(folder / scenario.source, scenario_folder / scenario.source)
        ended = start(scenario.command, folder=scenario_folder, prepare=scenario.prepare).wait()
        assert ended.code == 0, ended.log
        (scenario_folder / "work").write_text(str(ended.work))


def case(random: Random, baseline: Path, folder: Path) -> Outcome:
    scenario = random.choice(SCENARIOS)
    number, is_fresh = random.choice(SIGNALS), random.random() < 0.3
    work = float((baseline / scenario.name / "work").read_text()) + STARTUP_S * is_fresh
    # Before the first lines of the command only the interpreter can handle a signal.
    signal_delay = random.uniform(0.1 * is_fresh, 1.1 * work)
    _copy(baseline / scenario.source, folder / scenario.source)
    before = Contents.of(folder)
    description = (
        f"{' '.join(scenario.command)}, {number.name} after {signal_delay:.2f} s of work{' anew' * is_fresh}"
    )
    expected = probe_output(baseline / scenario.name / scenario.output)

    ended, late = _run_and_signal(scenario, folder, number, signal_delay, is_fresh=is_fresh)
    fault = stop_fault(ended, number, late=late) or _whole_or_absent(scenario, folder, expected)
    if random.random() < 0.3:
        again, _ = _run_and_signal(scenario, folder, signal.SIGKILL, random.uniform(0, work), is_fresh=False)
        description += f", SIGKILL of the next run ({again.code})"
        fault = fault or _whole_or_absent(scenario, folder, expected)
    published = (folder / scenario.output).exists()
    kind = f"{scenario.name}, {number.name}: " + ("had finished" if published else "resumed")
    if not published:
        ended = start(scenario.command, folder=folder, prepare=scenario.prepare).wait()
        fault = (
            fault
            or message_fault(ended, names=(scenario.source,), allowed=(0,))
            or verification_fault(ended.log)
        )
        after = Contents.of(folder)
        fault = fault or file_fault(
            before, after, written=[scenario.output], done=True, output=scenario.output
        )
    actual = probe_output(folder / scenario.output)
    fault = fault or difference(expected, actual)
    if not fault and actual.get("bytes") != expected.get("bytes"):
        kind += ", other bytes"
    return Outcome(
        kind=kind, fault=fault, description=description, seconds=ended.seconds, peak_mb=ended.peak_mb
    )


def _run_and_signal(
    scenario: Scenario, folder: Path, number: signal.Signals, signal_delay: float, *, is_fresh: bool
) -> tuple[ProcessResult, bool]:
    """Start, and send the signal after `signal_delay` CPU seconds; and whether the run had ended before."""
    running: Running = start(
        scenario.command, folder=folder, prepare=nothing if is_fresh else scenario.prepare, fresh=is_fresh
    )
    if running.ended_before(signal_delay):
        return running.wait(), True
    running.send(number)
    return running.wait_for(REACTION_S), False


def stop_fault(ended: ProcessResult, number: signal.Signals, *, late: bool) -> str:
    """The violation in the end of a run after a signal; `late` if it had ended before."""
    if late or ended.code == 0:
        return message_fault(ended, names=(), allowed=(0,))
    fault = message_fault(ended, names=(), allowed=CODES[number])
    lines = ended.log.strip().splitlines()
    if (
        not fault
        and number != signal.SIGKILL
        and not (lines and lines[-1].lower().startswith("freezeframe: stopped"))
    ):
        return f"{number.name}: does not report the stop: {lines[-1:]}"
    return fault and f"{number.name}: {fault}"


def _whole_or_absent(scenario: Scenario, folder: Path, expected: dict[str, object]) -> str:
    if not (folder / scenario.output).exists():
        return ""
    mismatch = difference(expected, probe_output(folder / scenario.output))
    return mismatch and f"incomplete output: {mismatch}"


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)
