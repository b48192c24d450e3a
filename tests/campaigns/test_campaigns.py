"""A small part of every campaign, and tests of the campaign tools."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.campaigns.invariants import Contents, Outcome, file_fault, message_fault
from tests.campaigns.mutate import MUTATIONS, Mutation, mutate_bytes
from tests.campaigns.process import ROOT, ProcessResult
from tests.campaigns.results import difference
from tests.campaigns.table import Tally, format_page

WHOLE = b"\0\0\0\x18ftypisom" + bytes(range(256)) * 8


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_the_same_number_gives_the_same_harm(mutation: Mutation):
    cases = [mutation(WHOLE, Random(number)) for number in range(20)]
    assert cases == [mutation(WHOLE, Random(number)) for number in range(20)]
    assert sum(case != WHOLE for case in cases) >= 15, "most cases differ from the original"


def test_every_harm_takes_what_another_left():
    for number in range(300):
        mutate_bytes(WHOLE[: number % 7], Random(number), [WHOLE])


def ended(code: int, log: str = "", stop_reason: str = "") -> ProcessResult:
    return ProcessResult(code=code, log=log, seconds=0.0, work=0.0, peak_mb=0.0, stop_reason=stop_reason)


@pytest.mark.parametrize(
    ("end", "fault"),
    [
        (ended(0), ""),
        (ended(2, "freezeframe: in.mp4: is cut off; use another copy"), ""),
        (ended(2, "Usage: freezeframe video\nError: no such option"), ""),
        (ended(2, "freezeframe: it is cut off; use another copy"), "names no file"),
        (ended(2, "freezeframe: in.mp4: is cut off"), "names no cure"),
        (ended(2, "freezeframe: in.mp4: is cut off;\n)"), "more than one sentence"),
        (ended(2), "no sentence"),
        (ended(1, "FAIL  audio"), "exit code 1: FAIL audio"),
        (ended(-signal.SIGSEGV), "exit code -11"),
        (ended(0, "Traceback (most recent call last):\nKeyError: 3"), "traceback: KeyError: 3"),
        (ended(-9, "", "was still running after 240 s"), "was still running"),
    ],
)
def test_words_that_break_a_promise_are_seen(end: ProcessResult, fault: str):
    log = message_fault(end, names=["in.mp4"])
    assert log.startswith(fault)
    assert bool(log) == bool(fault)


def test_harm_on_the_disk_is_seen(tmp_path: Path):
    (tmp_path / "in.mp4").write_bytes(b"source")
    before = Contents.of(tmp_path)

    def fault(*, done: bool) -> str:
        return file_fault(before, Contents.of(tmp_path), written=["out.mp4"], done=done, output="out.mp4")

    assert fault(done=False) == ""
    assert fault(done=True) == "succeeded, and wrote nothing"
    (tmp_path / ".out.mp4.freezeframe").mkdir()
    (tmp_path / ".out.mp4.freezeframe" / "job.json").write_text("{}")
    assert fault(done=False) == ""
    (tmp_path / "out.mp4").write_bytes(b"half")
    assert fault(done=False).startswith("left although it failed")
    assert fault(done=True).startswith("left behind: .out.mp4.freezeframe")
    shutil.rmtree(tmp_path / ".out.mp4.freezeframe")
    assert fault(done=True) == ""
    (tmp_path / "in.mp4").write_bytes(b"other")
    assert fault(done=True) == "changed: in.mp4"


def test_results_differ_in_one_picture():
    expected = {"pictures": ["a", "b", "c"], "times": ["0", "1", "2"], "sound": []}
    assert difference(expected, expected) == ""
    assert difference(expected, expected | {"pictures": ["a", "x", "c"]}) == (
        "other pictures: 1 of 3, the first is number 1"
    )
    assert difference(expected, expected | {"sound": ["s"]}) == "other sound: 1 of them, not 0 of them"


WATCHED = """
import signal, sys, time
from pathlib import Path
from tests.campaigns.process import alive_in, fork
from tests.campaigns.invariants import decode_fault

folder = Path(sys.argv[1])
assert fork(lambda: sys.exit("words"), folder=folder).wait().code == 1
assert fork(lambda: print("words"), folder=folder).wait().log == "words\\n"
slow = fork(lambda: time.sleep(60), folder=folder)
assert not slow.ended_within(0.2)
assert alive_in(folder) == [slow.pid]
slow.send(signal.SIGTERM)
assert slow.wait().code == -signal.SIGTERM
assert not alive_in(folder)
assert fork(lambda: time.sleep(60), folder=folder).wait(0.2).stop_reason == "was still running after 0 s"
(folder / "out.png").write_bytes(b"half")
assert decode_fault(folder, ["out.png"]).startswith("cannot be read back")
"""


def test_a_process_is_watched(tmp_path: Path):
    """Exit code, output, signal, liveness and files of a forked process."""
    folder = tmp_path / "folder"
    folder.mkdir()
    # A fork must not inherit the threads of other tests.
    command = [sys.executable, "-c", WATCHED, str(folder)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr


def test_the_page_counts_what_happened():
    tally = Tally(name="kills", start_time=0.0)
    tally.add(0, Outcome(kind="resumed", seconds=2.0, peak_mb=300.0))
    tally.add(7, Outcome(kind="resumed", fault="left behind: x1", seconds=3.0, peak_mb=200.0))
    text = format_page([tally.ended(120.0)], seed=1)
    assert "| kills | 2 | 1 | 1 | 2 | 3 | 300 |" in text
    assert "| left behind: xN | 1 | 7 |" in text


# Cases of each campaign; all of them take a few minutes on two cores.
PARTS = {"mutations": 30, "kills": 6, "batches": 1, "races": 8, "limits": 6}


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_every_campaign(name: str):
    """In a process of its own: a fork must not inherit the threads of other tests."""
    command = [sys.executable, "-m", "tests.campaigns.run", name, "--count", str(PARTS[name])]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
