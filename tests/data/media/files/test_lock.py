"""One run at a time on one output, and no lock outlives its holder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from freezeframe.data.errors import UnwritableOutput
from freezeframe.data.media.files import lock
from freezeframe.data.media.files.directories import remove_work_dir
from freezeframe.data.media.files.lock import Lock, LockConfig

HOLD = """
import sys
from pathlib import Path
from freezeframe.data.media.files.lock import Lock
held = Lock(Path(sys.argv[1]), Path("out.mp4"))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "job")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_run_is_told_who_holds_it(tmp_path: Path, holder):
    with pytest.raises(UnwritableOutput, match=rf"out\.mp4: another run .*process {holder.pid} on .*since"):
        Lock(tmp_path / "job", Path("out.mp4"), config=LockConfig(timeout_s=0.1))


def test_the_lock_of_a_killed_run_is_free(tmp_path: Path, holder):
    holder.kill()  # it may still be dying when the lock is asked for: that is waited for
    held = Lock(tmp_path / "job", Path("out.mp4"))
    assert f'"pid": {os.getpid()}' in (tmp_path / "job" / lock.NAME).read_text()
    held.release()


def test_a_job_that_was_taken_away_is_no_ones(tmp_path: Path):
    first = Lock(tmp_path / "job", Path("out.mp4"))
    remove_work_dir(tmp_path / "job")
    second = Lock(tmp_path / "job", Path("out.mp4"))
    assert second.held
    first.release()
    second.release()
