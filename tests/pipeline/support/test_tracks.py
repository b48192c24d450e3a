"""Regions of frames as tracks: in the report, in its JSON and in the line of counts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from freezeframe.data.types import Box, RegionVerdict, Verdict
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.support.report import Report, ShotLog
from freezeframe.pipeline.support.text.summary import format_counts
from freezeframe.pipeline.support.tracks import corrected_objects, mean_direction, summarize_tracks

from .test_reference import validate

BALL = RegionVerdict(
    track=4, box=Box(left=10, top=20, right=40, bottom=36), mover="object", blur=12.0, direction=0.5,
    shutter=0.6, method="layer", residual=0.1, strength=1.0,
)  # fmt: skip
PAN = replace(
    BALL, track=None, box=Box(left=0, top=0, right=640, bottom=360), mover="camera", method="deconvolution",
    direction=1.5, blur=5.0,
)  # fmt: skip
FAILED = replace(BALL, method="input", residual=0.4, strength=0.0)


def frames(*regions_of_frames):
    """One verdict per argument, each a list of regions; a frame is deblurred if one of them is corrected."""
    return [
        Verdict(
            index=index, time=index / 25, reason="", blur=3.0, regions=tuple(regions),
            action="deblurred" if any(region.strength for region in regions) else "passthrough",
        )
        for index, regions in enumerate(regions_of_frames)
    ]  # fmt: skip


def test_a_track_has_its_frames_its_largest_blur_and_its_methods():
    slow, other = replace(BALL, blur=9.0), replace(BALL, track=1, blur=3.0)
    first, second = summarize_tracks(frames([], [BALL], [slow, other], [FAILED], []))
    assert (first.track, first.first, first.last, first.blur) == (1, 2, 2, 3.0)
    assert (second.track, second.first, second.last, second.blur) == (4, 1, 3, 12.0)
    assert second.methods == {"layer": 2, "input": 1}
    assert second.direction == pytest.approx(0.5)


def test_what_has_no_track_is_listed_by_runs_of_frames():
    """Two pans with a rest between them; a part that moves before a still camera is an object."""
    part = replace(PAN, mover="object", blur=2.0)
    found = summarize_tracks(frames([PAN, BALL], [replace(PAN, blur=7.0)], [part, part], [PAN]))
    assert [(each.track, each.mover, each.first, each.last, each.blur) for each in found] == [
        (4, "object", 0, 0, 12.0), (None, "camera", 0, 1, 7.0), (None, "object", 2, 2, 2.0),
        (None, "camera", 3, 3, 5.0),
    ]  # fmt: skip
    assert found[2].methods == {"deconvolution": 2}


def test_pans_to_either_side_have_one_direction():
    """Blur has no sign: 85 and -85 degrees are 10 degrees apart, and their mean is vertical."""
    steep = [replace(PAN, direction=math.radians(sign * 85)) for sign in (1, -1)]
    (found,) = summarize_tracks(frames(*([each] for each in steep)))
    assert abs(found.direction) == pytest.approx(math.pi / 2)


def test_directions_on_both_sides_of_half_a_turn_do_not_cancel():
    """The mean of 170 and 190 degrees is 180, not 0."""
    assert abs(mean_direction([(1, math.radians(170)), (1, math.radians(-170))])) == pytest.approx(math.pi)


def test_only_corrected_objects_are_counted():
    verdicts = frames([BALL, FAILED], [FAILED], [replace(BALL, track=2)], [])
    assert corrected_objects(verdicts) == (2, 2)
    assert corrected_objects(frames([PAN])) == (0, 0)
    assert format_counts(verdicts).startswith("2 deblurred (2 fast objects in 2 frames), 2 passed through")
    assert format_counts(frames([BALL])).startswith("1 deblurred (1 fast object in 1 frame),")


def test_a_report_lists_regions_and_tracks_as_its_schema_says():
    log = ShotLog()
    log.add(0, frames([BALL], [FAILED], [PAN]), {"layers": 0.1})
    report = Report(
        source="a", output="b", shutter=0.5, shutter_confidence=1.0, shots=log.reports(), seconds={},
        config=Config(),
    )  # fmt: skip
    body = report.to_dict()
    validate("report", body)
    (region,) = body["shots"][0]["verdicts"][0]["regions"]
    assert region["box"] == {"left": 10, "top": 20, "right": 40, "bottom": 36}
    assert (region["method"], region["mover"], region["shutter"]) == ("layer", "object", 0.6)
    track, pan = body["regions"]
    assert (track["first"], track["last"], track["methods"]) == (0, 1, {"layer": 1, "input": 1})
    assert (pan["track"], pan["mover"], pan["methods"]) == (None, "camera", {"deconvolution": 1})
