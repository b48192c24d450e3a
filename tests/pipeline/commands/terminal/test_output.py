"""Terminal output: bars on a terminal, lines in a log, and file names without control characters."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time

import pytest
import typer

from freezeframe.data.errors import UnreadableMedia
from freezeframe.pipeline.commands.terminal import output as terminal
from freezeframe.pipeline.commands.terminal.progress_bar import StageProgress
from freezeframe.pipeline.support.text.units import format_clock, format_duration, pluralize, suggest_min_blur


def progress(**fields) -> StageProgress:
    return StageProgress(
        **{"stage": "", "initial": 0, "completed": 0, "total": 100, "seconds": 10.0} | fields
    )


def test_earlier_work_is_no_speed():
    """Ninety of a hundred frames are from an earlier run: five of the ten others took ten seconds."""
    state = progress(initial=90, completed=95)
    assert state.rate == 0.5
    assert state.remaining == 10
    assert state.text(unit="frame") == "95 of 100 frames (95 %) in 00:10, 2.0 s/frame, 00:10 left"


def test_nothing_done_promises_no_end():
    assert progress().remaining is None
    assert progress(total=None, completed=7).remaining is None
    assert progress(total=None, completed=7).text(unit="frame") == "7 frames in 00:10, 1.4 s/frame"


def test_a_header_that_promises_too_little_makes_no_share_above_all():
    assert "%" not in progress(completed=16, total=15).text(unit="frame")


def test_a_stage_is_named_and_counted():
    text = progress(stage="measuring the shutter", completed=2, total=6).text(unit="frame")
    assert text == "measuring the shutter: 2 of 6 (33 %) in 00:10, 00:20 left"


def test_a_download_is_counted_in_megabytes():
    text = progress(completed=25_000_000, total=100_000_000).text(unit="B")
    assert text == "25.0 of 100.0 MB (25 %) in 00:10, 2.5 MB/s, 00:30 left"


@pytest.mark.parametrize(("seconds", "words"), [(0, "00:00"), (154, "02:34"), (3754, "1:02:34")])
def test_clocks(seconds, words):
    assert format_clock(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "less than a minute"), (65, "about 1 min"), (830, "about 14 min"), (9000, "about 2.5 h")],
)
def test_estimates_are_no_more_exact_than_they_are(seconds, words):
    assert format_duration(seconds) == words


def test_one_is_not_many():
    assert [pluralize(n, "shot") for n in (0, 1, 2)] == ["0 shots", "1 shot", "2 shots"]


@pytest.mark.parametrize("blurs", [[3.0], [1.5, 3.2, 7.0], [1.2, 1.3, 1.4], [40.0] * 5, [2.5, 2.5]])
def test_a_lower_limit_lets_through_what_it_says(blurs):
    limit, count = suggest_min_blur(blurs)
    assert count == sum(blur > limit for blur in blurs) >= len(blurs) / 2


def test_nothing_visible_wants_no_lower_limit():
    assert suggest_min_blur([0.0, 0.3, 1.0]) is None
    assert suggest_min_blur([]) is None


def test_lines_come_while_nothing_is_done_and_at_the_end(capsys):
    """A window of frames may take minutes: the display updates between two calls."""
    with terminal.progress_bar("a.mp4", interval=0.02) as on_progress:
        on_progress(0, 6, "measuring the shutter")
        time.sleep(0.1)
        on_progress(0, 2)
        time.sleep(0.1)
        on_progress(2, 2)
    lines = capsys.readouterr().err.splitlines()
    assert sum("measuring the shutter: 0 of 6" in line for line in lines) >= 2
    assert sum("0 of 2 frames (0 %)" in line for line in lines) >= 2
    assert re.fullmatch(r"a\.mp4: 2 of 2 frames \(100 %\) in 00:00", lines[-1])


def test_a_failure_has_the_last_word(capsys):
    with (
        pytest.raises(ValueError, match="invalid literal"),
        terminal.progress_bar("a.mp4", interval=10) as on_progress,
    ):
        on_progress(0, int("damaged"))
    assert capsys.readouterr().err == ""


BAR = """
from freezeframe.pipeline.commands.terminal import output as terminal
with terminal.progress_bar("a.mp4") as advance:
    advance(0, 6, "measuring the shutter")
    advance(6, 6, "measuring the shutter")
    advance(0, 2)
    terminal.print_message("a sentence in between")
    advance(2, 2)
"""


def on_a_terminal(code: str) -> str:
    """Output of a program on a pseudo-terminal."""
    parent_fd, child_fd = pty.openpty()
    child = subprocess.Popen([sys.executable, "-c", code], stdin=child_fd, stdout=child_fd, stderr=child_fd)
    os.close(child_fd)
    output = b""
    while True:
        try:
            output += os.read(parent_fd, 4096)
        except OSError:  # the other end is closed
            break
    assert child.wait() == 0, output
    os.close(parent_fd)
    return output.decode()


def test_a_terminal_gets_a_bar_and_sentences_stand_alone():
    output = on_a_terminal(BAR)
    assert "2/2" in output
    assert "100%" in output
    sentence = next(line for line in re.split(r"[\r\n]+", output) if "a sentence" in line)
    assert sentence.strip() == "a sentence in between"


@pytest.mark.parametrize("name", ["\x1b[2J\x1b]0;gotcha\x07.mp4", "a\rb.mp4", "\u202e4pm.exe", "\udcff.mp4"])
def test_names_cannot_steer_the_terminal(name, capsys):
    terminal.print_message(f"{name}: is damaged")
    stderr = capsys.readouterr().err
    assert stderr.rstrip("\n").isprintable()
    assert "is damaged" in stderr


def test_what_is_printable_stays(capsys):
    terminal.print_message("Größe, 日本語 und\ttab\nnext")
    assert capsys.readouterr().err == "Größe, 日本語 und\ttab\nnext\n"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_script_gets_the_very_bytes_of_a_name(encoding):
    """Also if standard output is strict and the name is not UTF-8."""
    code = (
        "import os; from pathlib import Path;"
        "from freezeframe.pipeline.commands.terminal import output as terminal;"
        "path = Path(os.fsdecode(b'caf\\xe9.mp4'));"
        "terminal.print_path(path); terminal.print_result(f'{path}: gr\\u00f6\\u00dfer')"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": f"{encoding}:strict", "PYTHONUTF8": "1"},
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    path, text = completed.stdout.splitlines()
    assert path == b"caf\xe9.mp4"
    assert text.startswith(b"caf\\udce9.mp4: gr")


def test_an_error_is_one_line_whatever_a_library_said(capsys: pytest.CaptureFixture[str]):
    """Libraries of photo formats end their messages with a line break."""
    with pytest.raises(typer.Exit), terminal.errors():
        raise UnreadableMedia("a.heic: is cut off or damaged (end of file\n); use another copy of it")
    expected = "freezeframe: a.heic: is cut off or damaged (end of file ); use another copy of it\n"
    assert capsys.readouterr().err == expected
