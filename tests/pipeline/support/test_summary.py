"""A run in a few lines: the plan, counts, reasons and hints."""

from __future__ import annotations

import sys
from fractions import Fraction

import pytest

from freezeframe.data.types import Verdict
from freezeframe.pipeline.support.extras import slow_notes
from freezeframe.pipeline.support.text.summary import format_counts, format_plan, format_remarks


def verdicts(action, count, *, reason="sharp enough", blur=0.0):
    return [Verdict(index=k, time=k / 25, action=action, reason=reason, blur=blur) for k in range(count)]


def test_a_plan_says_what_is_known_and_no_more():
    facts = {"frames": 75, "size": (360, 640), "rate": Fraction(30000, 1001)}
    assert format_plan("a.mp4", **facts) == "a.mp4: 75 frames, 640x360, 29.97 fps"
    assert format_plan("a.mp4", **facts, work=41, seconds=130) == (
        "a.mp4: 75 frames, 640x360, 29.97 fps; 41 to deblur, about 2 min"
    )
    assert format_plan("a.mp4", **facts, work=0).endswith("; nothing to deblur")
    assert format_plan("a.mp4", frames=None, size=(360, 640), rate=None) == "a.mp4: 640x360"


def test_every_frame_is_counted_once():
    frames = verdicts("deblurred", 69) + verdicts("fallback", 11)
    assert format_counts(frames) == "69 deblurred, 0 passed through, 11 rejected (original frame kept)"


def test_reasons_are_grouped_whatever_their_figures():
    passthrough = verdicts("passthrough", 3) + verdicts("passthrough", 2, reason="nothing moves")
    shifted = [
        verdict
        for k in range(11)
        for verdict in verdicts("fallback", 1, reason=f"mean colour would shift by 0.0{k} (limit 0.020)")
    ]
    left, rejected = format_remarks([*passthrough, *shifted, *verdicts("deblurred", 9)])
    assert left == "passed through: 3 (sharp enough), 2 (nothing moves)"
    assert rejected == (
        "rejected: 11 (mean colour would shift); 11 frames keep their original picture and may flicker"
    )


def test_a_reason_of_one_frame_keeps_its_numbers():
    reason = "re-blurring the result misses the input by 2.3 times (limit 2.0)"
    (line,) = format_remarks(verdicts("fallback", 1, reason=reason))
    assert line == f"rejected: 1 ({reason}); 1 frame keeps its original picture and may flicker"


def test_where_nothing_was_done_but_something_moves_a_lower_limit_is_named():
    """Somewhat below the blur that half of the moving frames exceed."""
    *_, hint = format_remarks(verdicts("passthrough", 40, blur=3.4) + verdicts("passthrough", 9))
    assert hint == "hint: nothing was deblurred, but something moves; --min-blur 3 would process 40 frames"
    assert not any("hint" in line for line in format_remarks(verdicts("passthrough", 40, blur=0.4)))
    assert not any(
        "hint" in line
        for line in format_remarks(verdicts("passthrough", 4, blur=5) + verdicts("deblurred", 1))
    )
    assert not list(format_remarks(verdicts("deblurred", 3)))


@pytest.mark.parametrize("package", ["numba", "openvino"])
def test_the_slow_way_is_said_with_its_cure(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # as if not installed
    notes = list(slow_notes())
    assert any(f"pip install {package}" in note for note in notes)
    monkeypatch.undo()
    pytest.importorskip(package)
    assert not any(package in note for note in slow_notes())
