"""`--budget` bounds all of `freezeframe scene`."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from freezeframe.cli import app
from freezeframe.data.errors import NoScene
from freezeframe.data.media.files.publish import claim
from freezeframe.data.media.video_out.simple_writer import write_video
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.support.limits.deadline import Deadline
from freezeframe.pipeline.support.progress import null_progress
from freezeframe.pipeline.tasks.scene.fallback import locked_job_folder, write_fallback
from freezeframe.pipeline.tasks.scene.run import SceneCallbacks, rebuild


@pytest.fixture(scope="module")
def pan(tmp_path_factory) -> Path:
    """A textured wall, panned."""
    squares = torch.rand(1, 3, 40, 80, generator=torch.Generator().manual_seed(0))
    wall: Tensor = torch.nn.functional.interpolate(squares, size=(160, 320))[0]
    frames = [wall[:, 20:116, 5 * k : 5 * k + 160] for k in range(12)]
    return write_video(frames, tmp_path_factory.mktemp("pan") / "pan.mp4", rate=Fraction(24))


def packets(clip) -> list[bytes]:
    with av.open(str(clip)) as container:
        return [bytes(packet) for packet in container.demux(video=0)]


def test_a_budget_of_nearly_nothing_ends_at_once_and_leaves_the_clip(pan, tmp_path):
    out = tmp_path / "out"
    start_time = time.monotonic()
    result = CliRunner().invoke(app, ["scene", str(pan), str(out), "--budget", "0.05s"])
    assert result.exit_code == 0, result.output
    assert time.monotonic() - start_time < 30
    output = result.output.replace("\n", " ")
    assert re.search(r"No scene: the time limit was reached while .*--budget.*copied", output)
    assert "deblurred" not in output
    assert packets(out / "sharp.mp4") == packets(pan)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out"], "nothing unfinished is left behind"


def test_a_deadline_that_has_passed_names_the_work():
    Deadline().check("anything")
    with pytest.raises(NoScene, match=r"while frames were read.*--budget"):
        Deadline.within(0).check("frames were read")


def test_each_piece_of_work_is_told():
    progress: list[tuple[int, int | None]] = []
    check_deadline = Deadline.within(60).check_deadline(
        "frames were read", lambda done, total: progress.append((done, total)), 3
    )
    for _ in range(3):
        check_deadline()
    assert progress == [(1, 3)] * 3


def test_frames_for_which_no_time_is_left_stay_as_they_are(pan, tmp_path):
    """The fallback is bounded too: a hundredth of a second is not enough for any frame."""
    target_claim = claim(tmp_path / "out", kind="folder")
    with locked_job_folder(target_claim):
        result = write_fallback(
            pan,
            target_claim,
            "of this",
            config=Config(),
            on_progress=null_progress,
            deadline=Deadline.within(0.01),
        )
    assert (result.deblurred, result.checkpoint) == (0, None)
    assert result.format_text() == "No scene: of this. The frames were copied unchanged."
    assert packets(tmp_path / "out" / "sharp.mp4") == packets(pan)
    assert "of this" in (tmp_path / "out" / "report.json").read_text()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out"], "nothing unfinished is left behind"


def test_why_there_is_no_scene_is_told_before_the_frames_are_looked_at(pan, tmp_path):
    order: list[str] = []
    short = replace(Config(), output=replace(Config().output, end=0.1))
    rebuild(
        pan,
        tmp_path / "out",
        config=short,
        callbacks=SceneCallbacks(on_progress=lambda *step: order.append("frame"), on_rejected=order.append),
    )
    assert order[0].endswith("too few (at least 5)")
    assert set(order[1:]) == {"frame"}
