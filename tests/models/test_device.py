from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT = """
import sys
for package in sys.argv[1:]:
    sys.modules[package] = None  # as if it were not installed
from freezeframe.models.device import slow_paths
print(*slow_paths("cpu"), sep="\\n")
"""


@pytest.mark.parametrize(
    ("missing", "extras"),
    [(["numba"], ["fast"]), (["openvino"], ["openvino"]), (["numba", "openvino"], ["fast", "openvino"])],
)
def test_what_runs_slower_is_said_with_its_cure(missing, extras):
    """Of those packages that are installed here only the ones taken away."""
    both = {"numba": "fast", "openvino": "openvino"}
    command = [sys.executable, "-c", WITHOUT, *both]
    said = subprocess.run([*command[:3], *missing], capture_output=True, text=True, check=True).stdout
    for extra in extras:
        assert f"pip install 'freezeframe[{extra}]'" in said
    everything = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert len(everything.strip().splitlines()) == 2
