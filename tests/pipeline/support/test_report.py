from __future__ import annotations

import json
import math
import time

import pytest

from freezeframe.data.types import Verdict
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.support.report import Report, ShotLog, Stopwatch


def verdict(index: int, action, **metrics: float) -> Verdict:
    return Verdict(index=index, time=index / 25, action=action, reason="so", blur=3.0, metrics=metrics)


@pytest.fixture
def log() -> ShotLog:
    """Two shots, the first in two windows."""
    log = ShotLog()
    log.add(
        0, [verdict(0, "passthrough"), verdict(1, "deblurred", drift=0.01)], {"fuse": 1.5, "thumbnail": 0.25}
    )
    log.add(0, [verdict(2, "deblurred", drift=0.02)], {"fuse": 2.0, "gate": 0.5})
    log.add(1, [verdict(3, "fallback", drift=math.inf)], {"fuse": 1.0})
    return log


@pytest.fixture
def report(log) -> Report:
    return Report(
        source="in.mp4",
        output="out.mp4",
        shutter=0.5,
        shutter_confidence=0.75,
        shots=log.reports(),
        seconds={"fuse": 4.5, "write": 0.5},
        config=Config(),
        notes=("deinterlaced",),
    )


def test_windows_of_a_shot_are_joined(log):
    first, second = log.reports()
    assert (first.first, first.last, second.first, second.last) == (0, 2, 3, 3)
    assert first.seconds == {"fuse": 3.5, "thumbnail": 0.25, "gate": 0.5}
    assert second.seconds == {"fuse": 1.0}
    assert [each.index for each in first.verdicts] == [0, 1, 2]


def test_every_frame_is_counted_once(report):
    assert report.counts == {"passthrough": 1, "deblurred": 2, "fallback": 1}
    assert [each.index for each in report.verdicts] == [0, 1, 2, 3]


def test_a_saved_report_is_strict_json(report, tmp_path):
    """The metrics of a frame that is not finite are infinite, which JSON has no literal for."""
    path = tmp_path / "report.json"
    report.save(path)

    def no_word(constant: str) -> float:
        raise ValueError(f"{constant} is not JSON")

    body = json.loads(path.read_text(encoding="utf-8"), parse_constant=no_word)
    assert body["action_counts"] == {"passthrough": 1, "deblurred": 2, "fallback": 1}
    assert body["shots"][0]["verdicts"][1]["metrics"] == {"drift": 0.01}
    assert body["shots"][1]["verdicts"][0]["metrics"] == {"drift": None}
    assert body["config"]["strength"] == 1.0
    assert body["seconds"] == {"fuse": 4.5, "write": 0.5}


def test_the_text_tells_what_was_done(report):
    text = report.text()
    assert "in.mp4: 4 frames in 2 shots" in text
    assert "2 deblurred, 1 passed through, 1 rejected (original frame kept)" in text
    assert "1 frame keeps its original picture and may flicker" in text
    assert "note: deinterlaced" in text


def test_stages_add_up_and_windows_tell_their_part():
    watch = Stopwatch()
    windows = []
    for stages in (("fuse", "gate"), ("fuse",)):
        with watch.window() as seconds:
            for stage in stages:
                with watch.stage(stage):
                    time.sleep(0.002)
        windows.append(seconds)
    assert set(windows[0]) == {"fuse", "gate"}
    assert set(windows[1]) == {"fuse"}, "time before this window belongs to others"
    assert watch.seconds["fuse"] == pytest.approx(windows[0]["fuse"] + windows[1]["fuse"])
    assert windows[0]["fuse"] >= 0.002, "seconds"


def test_time_counts_where_a_stage_fails():
    watch = Stopwatch()
    with pytest.raises(RuntimeError), watch.stage("fuse"):
        raise RuntimeError
    assert watch.seconds["fuse"] > 0
