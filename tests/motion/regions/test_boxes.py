from __future__ import annotations

import pytest

from freezeframe.data.types import Box

A = Box(left=2, top=3, right=12, bottom=8)


def test_a_union_holds_both():
    other = Box(left=20, top=0, right=25, bottom=5)
    assert A.union(other) == other.union(A) == Box(left=2, top=0, right=25, bottom=8)
    assert A.union(A) == A


def test_boxes_that_touch_share_no_pixel():
    beside = Box(left=12, top=3, right=15, bottom=8)
    assert not A.intersects(beside)
    assert A.gap(beside) == 0
    assert A.intersects(beside.shift(-1, 0))


def test_a_widened_box_stays_in_the_frame():
    assert A.widen(4, (10, 40)) == Box(left=0, top=0, right=16, bottom=10)
    assert (A.width, A.height) == (10, 5)


def test_an_empty_box_is_refused():
    with pytest.raises(ValueError, match="left < right"):
        Box(left=3, top=0, right=3, bottom=4)
