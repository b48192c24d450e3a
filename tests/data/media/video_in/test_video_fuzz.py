"""Cut, flipped and spliced files: an error message or a valid result; no crash, hang or partial file.

The files are read in another process: a crash of FFmpeg must not end the tests.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.video_in.source import open_video

MakeVideo = Callable[..., Path]
PATIENCE = 60.0  # seconds for a file of a few kilobytes; it needs a tenth of one

PROBE = """
import sys
from pathlib import Path
from freezeframe.data.media.files.directories import work_dir
from freezeframe.data.media.video_out.sink import VideoSink
from freezeframe.data.errors import FreezeframeError
from freezeframe.data.media.video_in.source import open_video

def try_it(path, skip):
    target = path.with_name("out.mkv")
    try:
        source = open_video(path, skip_damaged=skip)
        list(source.sample_clips(2, 2))
        sink = VideoSink(source, target, force=True)
        try:
            for frame in source.frames():
                sink.write([frame])
            sink.finish()
            open_video(target)
            return "valid"
        except BaseException:
            sink.abort()
            if target.exists():
                return "left a partial file"
            raise
    except FreezeframeError as error:
        return "rejected" if path.name in str(error) or target.name in str(error) else f"unclear: {error}"
    except BaseException as error:
        return f"failed: {error!r}"
    finally:
        target.unlink(missing_ok=True)

for line in sys.stdin:
    path, skip = line.split("\\t")
    print(try_it(Path(path), skip.strip() == "1").replace("\\n", " "), flush=True)
"""


class Prober:
    """A process that tries one file after another."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROBE], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )

    def verdict(self, path: Path, *, skip_damaged: bool) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{path}\t{int(skip_damaged)}\n")
        self._process.stdin.flush()
        watch = threading.Timer(PATIENCE, self._process.kill)
        watch.start()
        answer = self._process.stdout.readline().strip()
        watch.cancel()
        return answer or "crashed or hung"

    def close(self) -> None:
        self._process.communicate("", timeout=PATIENCE)


@pytest.fixture(scope="module")
def prober() -> Iterator[Prober]:
    prober = Prober()
    yield prober
    prober.close()


@pytest.fixture
def whole_files(make_video: MakeVideo) -> list[bytes]:
    time_base = Fraction(1, 25)
    paths = [
        make_video("a.mp4", sound=True, chapters=True),
        make_video("b.mkv", sound=True, subtitles="subrip"),
        make_video("c.mkv", codec="ffv1"),
        make_video("d.mp4", codec="libx265", options={"x265-params": "log-level=error"}),
        make_video("e.mov", codec="prores_ks", pix_fmt="yuv422p10le"),
        make_video("f.avi", codec="mpeg4", time_base=time_base, ticks=range(12)),
        make_video("g.ts"),
    ]
    return [path.read_bytes() for path in paths]


positions = st.floats(0, 1, exclude_max=True)
harms = st.one_of(
    st.tuples(st.just("cut"), positions, st.just(0)),
    st.tuples(st.just("flip"), positions, st.integers(0, 7)),
    st.tuples(st.just("drop"), positions, st.integers(1, 500)),
    st.tuples(st.just("repeat"), positions, st.integers(1, 500)),
)


def harmed(content: bytes, how: tuple[str, float, int]) -> bytes:
    kind, where, much = how
    at = int(where * len(content))
    if kind == "cut":
        return content[:at]
    if kind == "flip" and content:
        return content[:at] + bytes([content[at] ^ (1 << much)]) + content[at + 1 :]
    if kind == "drop":
        return content[:at] + content[at + much :]
    return content[:at] + content[at : at + much] + content[at:]


def fuzz(prober: Prober, files: list[bytes], folder: Path, examples: int) -> None:
    @given(
        which=st.integers(0, len(files) - 1),
        harm=st.lists(harms, min_size=1, max_size=6),
        skip=st.booleans(),
    )
    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    def run(which: int, harm: list[tuple[str, float, int]], skip: bool) -> None:
        content = files[which]
        for how in harm:
            content = harmed(content, how)
        path = folder / "harmed.bin"
        path.write_bytes(content)
        assert prober.verdict(path, skip_damaged=skip) in ("valid", "rejected")

    run()


def test_harmed_files(prober: Prober, whole_files: list[bytes], tmp_path: Path):
    fuzz(prober, whole_files, tmp_path, examples=60)


def test_every_pass_sees_the_same_damage(make_video: MakeVideo):
    """FFmpeg's frame threads return damaged frames without an error: here in a fifth of the passes."""
    path = make_video("b.mkv", options={"threads": "1"}, sound=True, subtitles="subrip")
    path.write_bytes(harmed(path.read_bytes(), ("repeat", 0.18, 1)))
    verdicts = set()
    for _ in range(60):
        with pytest.raises(UnreadableMedia) as error:
            open_video(path)
        verdicts.add(str(error.value))
    assert len(verdicts) == 1


@pytest.mark.slow
def test_many_harmed_files(prober: Prober, whole_files: list[bytes], tmp_path: Path):
    fuzz(prober, whole_files, tmp_path, examples=1500)
