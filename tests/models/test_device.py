from __future__ import annotations

import sys

import pytest

from freezeframe.models.device import slow_paths


@pytest.mark.parametrize("missing", [("numba",), ("openvino",), ("numba", "openvino")])
def test_what_runs_slower_is_said_with_its_cure(missing, monkeypatch):
    before = slow_paths("cpu")
    for package in missing:
        monkeypatch.setitem(sys.modules, package, None)  # Python takes it for not installed
    said = "\n".join(slow_paths("cpu"))
    extras = {"numba": "fast", "openvino": "openvino"}
    assert all(f"pip install 'freezeframe[{extras[package]}]'" in said for package in missing)
    assert set(before) <= set(slow_paths("cpu"))
