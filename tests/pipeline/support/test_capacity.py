"""Images that do not fit into memory are refused before the work; running out of memory is one sentence."""

from __future__ import annotations

import resource
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
import typer
from PIL import Image

from freezeframe.data.errors import FreezeframeError, is_out_of_memory
from freezeframe.data.media.photo.files import read_photo
from freezeframe.models.runtime.memory import free_bytes
from freezeframe.pipeline.commands.terminal.output import errors
from freezeframe.pipeline.support.limits.capacity import PHOTO_BYTES, RUNTIME_BYTES, check_memory
from freezeframe.pipeline.tasks.probe.run import probe
from freezeframe.pipeline.tasks.video import deblur_video

TOO_MANY_BYTES = 1 << 46  # bytes
CPU = torch.device("cpu")


def numpy_takes() -> None:
    np.empty(TOO_MANY_BYTES, np.uint8)


def torch_takes() -> None:
    torch.empty(TOO_MANY_BYTES, dtype=torch.uint8)


def opencv_takes() -> None:
    cv2.resize(np.zeros((1, 1), np.uint8), (1 << 30, 1 << 30))


def python_takes() -> None:
    bytearray(TOO_MANY_BYTES)


def system_refuses() -> None:
    raise OSError(12, "Cannot allocate memory")


@pytest.mark.parametrize("take", [numpy_takes, torch_takes, opencv_takes, python_takes, system_refuses])
def test_whoever_gets_no_memory_the_command_ends_in_one_sentence(take, capsys):
    with pytest.raises(typer.Exit) as end, errors():
        take()
    assert end.value.exit_code == 2
    message = capsys.readouterr().err
    assert message.startswith("freezeframe: there is not enough memory for this; close other programs")
    assert message.count("\n") == 1


def test_what_libraries_say_without_memory_is_known():
    """Messages of oneDNN for the code of a compiled kernel, and of torch for a thread, under a limit."""
    for words in ("could not create a primitive", "can't alloc", "can't start new thread"):
        assert is_out_of_memory(RuntimeError(words))


def test_other_mistakes_are_not_taken_for_a_lack_of_memory():
    for error in (RuntimeError("shape mismatch"), OSError(28, "No space left on device"), ValueError("no")):
        assert not is_out_of_memory(error)
    with pytest.raises(ZeroDivisionError), errors():
        print(1 / 0)  # noqa: T201


@pytest.fixture
def little_memory(monkeypatch):
    """Limit of 300 MB above the present size of the process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)

    def limit() -> None:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            size = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + 300 * 10**6, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_limit_on_the_process_counts_as_free_memory(little_memory):
    before = free_bytes(CPU)
    little_memory()
    assert free_bytes(CPU) <= min(before, 300 * 10**6)


def test_a_photo_for_which_memory_runs_out_is_not_called_damaged(tmp_path, little_memory):
    path = tmp_path / "large.png"
    Image.new("1", (13000, 13000)).save(path)
    little_memory()
    with pytest.raises(MemoryError):
        read_photo(path)


def test_what_fits_passes_and_what_does_not_is_refused_with_its_size():
    check_memory("small.png", (10, 10), bytes_per_pixel=1)
    free = free_bytes(CPU)
    side = int((free / PHOTO_BYTES) ** 0.5) + 100
    with pytest.raises(
        FreezeframeError, match=rf"large\.png: pictures of {side}x{side} take about .* GB of memory"
    ):
        check_memory("large.png", (side, side), bytes_per_pixel=PHOTO_BYTES)
    # The largest photo of a camera, 151 million pixels, fits into the memory of a 16 GB machine.
    assert RUNTIME_BYTES + 151e6 * PHOTO_BYTES < 16 << 30


def huge_clip(path) -> None:
    """A folder of uniform pictures of 130 million pixels, 30 kB each."""
    path.mkdir()
    for number in range(2):
        Image.new("1", (13000, 10000)).save(path / f"{number}.png")


def test_frames_that_fit_no_window_are_refused_before_the_work(tmp_path):
    source = tmp_path / "huge"
    huge_clip(source)
    if free_bytes(CPU) > 100e9:
        pytest.skip("this machine has memory for them")
    for work in (lambda: deblur_video(source, tmp_path / "out"), lambda: probe(source)):
        with pytest.raises(
            FreezeframeError, match=r"huge: pictures of 13000x10000 take about 50\.3 GB of memory"
        ):
            work()
    assert [each.name for each in tmp_path.iterdir()] == ["huge"]


COMMAND = "import sys; from freezeframe.cli import main; sys.argv[0] = 'freezeframe'; main()"


def limited(limit: int, *words: object) -> subprocess.CompletedProcess[str]:
    """The command in a process limited to `limit` bytes."""
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, words)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits on a process's size are Linux's")
def test_with_any_limit_a_clip_is_done_or_one_sentence_says_why_not(tmp_path, write_clip):
    """Small limits are detected before the work; in the middle of it they can crash a library."""
    world = torch.rand(3, 136, 280, generator=torch.Generator().manual_seed(0))[None]
    world = torch.nn.functional.interpolate(world, scale_factor=8, mode="bicubic").clamp(0, 1)[0]
    frames = [
        torch.stack([world[:, :1080, 24 * t + k :][..., :1920] for k in range(0, 24, 3)]).mean(0)
        for t in range(4)
    ]
    source = write_clip(tmp_path / "pan.mkv", frames)
    ends = {}
    for gigabytes in (1.5, 3.4, 12):
        end = limited(int(gigabytes * 1e9), "video", source, tmp_path / "out.mkv")
        ends[gigabytes] = end.returncode
        if end.returncode == 0:
            (tmp_path / "out.mkv").unlink()
            continue
        assert end.returncode == 2, end.stderr
        assert "Traceback" not in end.stderr
        (sentence,) = [line for line in end.stderr.splitlines() if line.startswith("freezeframe: ")]
        assert "memory" in sentence
        assert [each.name for each in tmp_path.iterdir()] == ["pan.mkv"], "nothing remains"
    assert ends == {1.5: 2, 3.4: 2, 12: 0}
