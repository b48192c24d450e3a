"""Stopped at any moment by any signal: one sentence, no traceback, and the same command continues."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from freezeframe.pipeline.tasks.batch import COMMAND

PATIENCE = 600  # seconds; a busy machine is slow
# An interval of 0 saves every window, so that there is something to resume after a second of work.
SAVING_EVERY = """
from functools import partial
from freezeframe.data.media.video_out.sink import SinkConfig, VideoSink
from freezeframe.pipeline.support import media
media.VideoSink = partial(VideoSink, config=SinkConfig(save_interval_s={seconds}))
from freezeframe.cli import main
"""
LISTEN = "from freezeframe.pipeline.support.signals import install_handlers; install_handlers(); "
OPTIONS = ["--network", "none", "--min-blur", "0.5", "--iterations", "2", "--codec", "h264"]


def wait_for(what: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def start():
    """`start(source, output)`: `freezeframe video` that saves its work after `save_interval` seconds."""
    running = []

    def run(*words: object, save_interval: float = 0.0) -> subprocess.Popen[str]:
        code = LISTEN + SAVING_EVERY.format(seconds=save_interval) + "main()"
        command = [sys.executable, "-c", code, "video", *map(str, words), *OPTIONS]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield run
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def pan(film, write_clip, tmp_path_factory):
    """24 frames, more than one window, with 4 px of blur."""
    images = film((8, 3), [float(t % 6) for t in range(24)], shutter=0.5)
    return write_clip(tmp_path_factory.mktemp("pan") / "pan.mkv", images)


@pytest.fixture(scope="module")
def undisturbed(pan, tmp_path_factory):
    """The output of an undisturbed run."""
    target = tmp_path_factory.mktemp("undisturbed") / "o.mp4"
    command = [sys.executable, str(COMMAND), "video", str(pan), str(target), *OPTIONS]
    subprocess.run(command, check=True, capture_output=True)
    return target.read_bytes()


@pytest.mark.parametrize(
    ("words", "number", "moment"),
    [
        (["-m", "freezeframe"], signal.SIGINT, "typer"),
        (["-m", "freezeframe"], signal.SIGTERM, "torch"),
        ([str(COMMAND)], signal.SIGINT, "torch"),
        ([str(COMMAND)], signal.SIGHUP, "typer"),
    ],
)
def test_a_signal_among_the_imports_is_one_sentence(words, number, moment):
    """Sent as soon as `-X importtime` reports a module of that name."""
    command = [sys.executable, "-X", "importtime", *words, "doctor"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if line.split("|")[-1].strip() == moment:
                break
        process.send_signal(number)
        messages = [line for line in process.stderr if not line.startswith("import time:")]
    # A message printed during an import may share its line with the output of -X importtime.
    assert "Traceback" not in "".join(messages)
    assert sum("freezeframe: Stopped." in line for line in messages) <= 1
    assert process.returncode == 128 + number


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_stopped_video_goes_on_and_ends_as_if_it_never_had(start, pan, undisturbed, tmp_path, number, code):
    target = tmp_path / "o.mp4"
    process = start(pan, target)
    job = tmp_path / ".o.mp4.freezeframe"
    wait_for(lambda: list(job.glob("000000-*.json")) or process.poll() is not None)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert not target.exists()
    if code > 0:
        last = stderr.splitlines()[-1]
        assert "Stopped. No output written; rerun the same command to resume" in last
        assert str(job) in last
    again = start(pan, target)
    _, stderr = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, stderr
    assert "were finished by an earlier run" in stderr
    assert target.read_bytes() == undisturbed
    assert not job.exists()


@pytest.mark.slow
def test_stopped_before_anything_was_finished_nothing_stays(start, pan, tmp_path):
    # On a busy machine a window may be finished before the signal arrives: none is saved.
    process = start(pan, tmp_path / "new" / "o.mp4", save_interval=PATIENCE)
    wait_for((tmp_path / "new" / ".o.mp4.freezeframe" / "job.json").exists)
    process.terminate()
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert "nothing was finished yet" in stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_second_run_on_the_same_output_is_told_of_the_first(start, pan, tmp_path):
    first = start(pan, tmp_path / "o.mp4")
    wait_for((tmp_path / ".o.mp4.freezeframe" / "job.json").exists)
    first.send_signal(signal.SIGSTOP)  # it must not end before the second one starts
    second = start(pan, tmp_path / "o.mp4")
    _, stderr = second.communicate(timeout=PATIENCE)
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    assert f"another run is writing it (process {first.pid} on" in stderr
    first.communicate(timeout=PATIENCE)
    assert first.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["o.mp4"]


@pytest.fixture
def batch(pan, tmp_path):
    """`batch()`: three clips, two at a time; returns the process and its running children."""
    (tmp_path / "in").mkdir()
    for name in ("a.mkv", "b.mkv", "c.mkv"):
        (tmp_path / "in" / name).write_bytes(pan.read_bytes())
    command = [
        sys.executable,
        str(COMMAND),
        "batch",
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        "--jobs",
        "2",
    ]

    running = []

    def run(*, wait: bool = False) -> tuple[subprocess.Popen[str], list[int]]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        if wait:
            return process, []
        wait_for(lambda: len(running_children()) >= 2)
        return process, running_children()

    def running_children() -> list[int]:
        pids = []
        for lock in (tmp_path / "out").glob(".*.freezeframe/lock"):
            try:
                pids.append(json.loads(lock.read_text())["pid"])
            except (ValueError, FileNotFoundError):
                continue
        return [pid for pid in pids if not gone(pid)]

    yield run
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_the_clips_of_a_batch_end_with_it_and_a_rerun_does_them_all(batch, tmp_path, number):
    process, children = batch()
    assert len(children) == 2
    process.send_signal(number)
    _, stderr = process.communicate(timeout=PATIENCE)
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert all(map(gone, children)), "children stop before the parent"
        assert "Traceback" not in stderr
        assert "Stopped. Finished clips are kept" in stderr
    again, _ = batch(wait=True)
    out, stderr = again.communicate(timeout=2 * PATIENCE)
    assert again.returncode == 0, out + stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.mkv", "b.mkv", "c.mkv"]
    assert all(map(gone, children))


def test_a_signal_after_the_work_changes_nothing():
    """After the work a signal changes nothing: no traceback, and the exit code of the work."""
    words = (
        "import os, signal; from freezeframe.pipeline.commands.terminal.output import errors\n"
        "with errors(): print('done', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGTERM)"
    )
    result = subprocess.run(
        [sys.executable, "-c", LISTEN + words], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")
