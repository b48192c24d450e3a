"""The command line: exit codes, standard output and error, and one sentence per error."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import freezeframe
from freezeframe import cli
from freezeframe.pipeline.commands.terminal import output as terminal

SIZE = (64, 96)


def scene(seed: int = 0) -> np.ndarray:
    """[3, H, W + 64] linear RGB: blocks of several sizes."""
    rng = np.random.default_rng(seed)
    layers = [rng.random((3, 64 // k, 160 // k)).repeat(k, 1).repeat(k, 2)[:, :64, :160] for k in (4, 8, 16)]
    return np.mean(layers, axis=0).astype(np.float32)


@pytest.fixture(scope="module")
def still(write_clip, tmp_path_factory):
    import torch

    image = torch.from_numpy(scene()[..., :96].copy())
    return write_clip(tmp_path_factory.mktemp("cli") / "still.mkv", [image] * 6)


@pytest.fixture
def run():
    """`run("video", a, b)`: exit code, stdout and stderr of the command in this process."""

    def invoke(*words: object):
        return CliRunner().invoke(cli.app, [str(word) for word in words])

    return invoke


def test_the_version_is_told(run):
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"freezeframe {freezeframe.__version__}\n")


def test_help_names_every_command(run):
    result = run("--help")
    assert result.exit_code == 0
    for name in ("video", "burst", "batch", "probe", "demo", "doctor"):
        assert name in result.stdout


@pytest.mark.parametrize("command", ["video", "batch", "restore"])
def test_the_cure_that_damage_names_is_an_option(run, command):
    """Error messages about damaged frames name --skip-damaged."""
    assert "Missing" in run(command, "--skip-damaged").stderr + run(command, "--skip-damaged").stdout


def test_the_path_of_the_result_is_all_that_stdout_gets(run, still, tmp_path):
    out, report, verification = tmp_path / "out.mkv", tmp_path / "report.json", tmp_path / "sheet.json"
    result = run("video", still, out, "--report", report, "--json", verification)
    assert (result.exit_code, result.stdout) == (0, f"{out}\n")
    assert "0 deblurred, 6 passed through" in result.stderr
    assert "PASS" in result.stderr
    assert json.loads(report.read_text())["action_counts"] == {"passthrough": 6}
    assert json.loads(verification.read_text())["passed"]


def test_a_limit_of_no_pixels_reaches_the_gate(run, still, tmp_path):
    report = tmp_path / "report.json"
    run("video", still, tmp_path / "out.mkv", "--min-blur", 2.5, "--report", report)
    gate = json.loads(report.read_text())["config"]["gate"]
    assert (gate["local_blur"], gate["min_blur_px"]) == (0, 2.5)


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (["video", "{dir}/absent.mp4", "{dir}/out.mkv"], "absent.mp4"),
        (["video", "{dir}/text.mp4", "{dir}/out.mkv"], "text.mp4"),
        (["video", "{still}", "{still}"], "input"),
        (["video", "{still}", "{dir}/text.mp4/out.mkv"], "is not a folder"),
        (["video", "{still}", "{dir}/out.mkv", "--report", "{dir}/text.mp4/r.json"], "is not a folder"),
        (["video", "{still}", "{dir}/out.mkv", "--report", "{dir}/out.mkv"], "the output and --report"),
        (["video", "{still}", "{dir}/out.mkv", "--report", "{dir}/r", "--json", "{dir}/R"], "--json"),
        (["video", "{still}", "{dir}/out", "--report", "{dir}/out/r.json"], "lies inside"),
        (["video", "{still}", "{dir}/new/out.mkv", "--device", "foo"], "foo"),
        (["video", "{still}", "{dir}/new/out.mkv", "--device", "meta"], "meta"),
        (["video", "{still}", "{dir}/out.mkv", "--json", "{dir}/text.mp4"], "text.mp4"),
        (["video", "{still}", "{dir}/out.mkv", "--restorer", "{dir}/absent.pth"], "absent.pth"),
        (["video", "{still}", "{dir}/out.avi"], "out.avi"),
        (["video", "{still}", "{dir}/out.mkv", "--start", "99"], "--start"),
        (["burst", "{dir}/text.mp4", "--out", "{dir}/out.png"], "two or more"),
        (["batch", "{dir}/absent", "{dir}/out"], "absent"),
        (["batch", "{dir}", "{dir}"], "input folder itself"),
        (["probe", "{dir}/absent.jpg"], "absent.jpg"),
        (["probe", "{still}", "--plot", "{dir}/text.mp4/p.png"], "is not a folder"),
        (["probe", "{still}", "--plot", "{dir}/p.png", "--json", "{dir}/p.png"], "--json"),
        (["burst", "{still}", "{still}", "--out", "{dir}/out.gif"], "write one of"),
        (["demo", "--clip", "{dir}/absent.mp4", "--out", "{dir}/out"], "absent.mp4"),
    ],
    ids=lambda value: " ".join(value[:1] + value[3:4]) if isinstance(value, list) else value,
)
def test_an_error_is_one_sentence_and_exit_code_2(run, still, tmp_path, words, phrase):
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    result = run(*(word.format(dir=tmp_path, still=still) for word in words))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("freezeframe: ")
    assert phrase in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["text.mp4"], "nothing else was written"


@pytest.mark.parametrize("words", [["video", "{pipe}.mp4", "{dir}/o.mp4"], ["probe", "{pipe}.png"]])
def test_a_pipe_is_not_waited_for(run, tmp_path, words):
    for suffix in (".mp4", ".png"):
        os.mkfifo(tmp_path / f"pipe{suffix}")
    result = run(*(word.format(dir=tmp_path, pipe=tmp_path / "pipe") for word in words))
    assert result.exit_code == 2
    assert "is a pipe or a device" in result.stderr
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "words", [["--strength", "2"], ["--shutter", "0"], ["--codec", "vp9"], ["--radius", "9"]]
)
def test_values_out_of_range_are_usage_errors(run, still, tmp_path, words):
    assert run("video", still, tmp_path / "out.mkv", *words).exit_code == 2


def test_an_existing_result_wants_force(run, still, tmp_path):
    out = tmp_path / "out.mkv"
    out.write_bytes(b"earlier")
    assert run("video", still, out).exit_code == 2
    assert out.read_bytes() == b"earlier"
    assert run("video", still, out, "--force").exit_code == 0
    assert out.read_bytes() != b"earlier"


def test_a_probe_is_told_on_stdout(run, still, tmp_path):
    result = run("probe", still, "--json", tmp_path / "p.json", "--stride", 2)
    assert result.exit_code == 0
    assert "no sampled frame" in result.stdout
    assert [s["index"] for s in json.loads((tmp_path / "p.json").read_text())["sampled_frames"]] == [0, 2, 4]


def test_a_batch_with_a_failure_ends_with_a_table_and_exit_code_1(run, tmp_path):
    clips, out = tmp_path / "clips", tmp_path / "out"
    (clips / "b").mkdir(parents=True)
    (clips / "a.mp4").touch()
    (clips / "b" / "c.mp4").touch()
    out.mkdir()
    (out / "a.mp4").touch()
    (out / "b").write_text("a file where a folder should be")
    result = run("batch", clips, out, "--recursive")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "0 done, 1 skipped, 1 failed"


@pytest.mark.parametrize(
    "words",
    [
        ["--min-blur", "."], ["--min-blur", "inf"], ["--min-blur", "-1"], ["--start", "inf"],
        ["--end", "1e30"], ["--budget", "5"], ["--fps", "0"], ["--codec", "vp9"], ["--output", "another.mkv"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_value_that_means_nothing_is_a_usage_error(run, still, tmp_path, words):
    result = run("video", still, tmp_path / "out.mkv", *words)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [".", "/", ""])
def test_a_place_that_has_no_name_is_refused_in_one_sentence(run, still, name):
    result = run("video", still, name)
    assert result.exit_code == 2
    assert "name a file or a new folder" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", ["{out}", "-o {out}", "--output {out}", "{out} -o {out}"])
def test_the_output_is_an_argument_or_an_option(run, still, tmp_path, words):
    out = tmp_path / "out.mkv"
    result = run("video", still, *words.format(out=out).split())
    assert (result.exit_code, result.stdout) == (0, f"{out}\n")
    assert out.exists()


def test_no_limit_at_all_works_on_what_moves_and_leaves_what_rests(run, still, tmp_path):
    result = run("video", still, tmp_path / "out.mkv", "--min-blur", "0")
    assert result.exit_code == 0, result.output
    assert "0 deblurred" in result.stderr


def test_a_clock_cuts_where_seconds_cut(run, still, tmp_path):
    frames = []
    for number, end in enumerate(["0.12", "0:00.12", "00:00:00.12"]):
        out = tmp_path / f"{number}.mkv"
        assert run("video", still, out, "--end", end).exit_code == 0
        with av.open(str(out)) as container:
            frames.append(sum(1 for _ in container.decode(video=0)))
    assert frames == [3, 3, 3]


def test_the_rate_of_a_folder_can_be_said_but_not_that_of_a_video(run, still, tmp_path):
    folder = tmp_path / "frames"
    assert run("video", still, folder).exit_code == 0
    report = tmp_path / "report.json"
    result = run("video", folder, tmp_path / "out.mkv", "--fps", "30000/1001", "--report", report)
    assert result.exit_code == 0, result.output
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(30000 / 1001, rel=1e-3)
    assert json.loads(report.read_text())["shots"][0]["verdicts"][1]["time"] == pytest.approx(1001 / 30000)
    assert "--fps" in run("video", still, tmp_path / "b.mkv", "--fps", "25").stderr


def test_a_finished_batch_answers_at_once(still, tmp_path):
    """Without importing torch, which takes longer than the work."""
    clips, out = tmp_path / "clips", tmp_path / "out"
    clips.mkdir()
    out.mkdir()
    (clips / "a.mkv").write_bytes(still.read_bytes())
    (out / "a.mkv").write_bytes(still.read_bytes())
    call = f"app(['batch', {str(clips)!r}, {str(out)!r}], standalone_mode=False)"
    code = "import sys; from freezeframe.cli import app;"
    code += f"{call}; print({{'torch', 'av', 'cv2', 'kornia'}} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-2:] == ["0 done, 1 skipped, 0 failed", "set()"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/a/b.mp4"),
            "/a/b.mp4: no space left on device; free",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/a"),
            "/a: permission denied; check the permissions",
        ),
        (OSError("strange"), "strange"),
    ],
)
def test_what_the_system_refuses_comes_out_as_one_sentence(capsys, error, words):
    with pytest.raises(typer.Exit) as stop, terminal.errors():
        raise error
    assert stop.value.exit_code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize("error", [ValueError("ours"), KeyError("ours"), AttributeError("ours")])
def test_mistakes_of_our_own_are_not_swallowed(error):
    with pytest.raises(type(error)), terminal.errors():
        raise error


@pytest.mark.slow
def test_an_interrupted_clip_goes_on_where_it_stopped(write_clip, tmp_path):
    """SIGINT after the first segment is saved: no output appears; the same command then finishes the clip."""
    import torch

    wide = torch.from_numpy(scene())
    count = 1500
    images = (wide[..., 8 * (k % 8) : 8 * (k % 8) + 96] for k in range(count))
    clip, out = write_clip(tmp_path / "pan.mkv", images), tmp_path / "out.mkv"
    command = [sys.executable, Path(cli.__file__), "video", clip, out, "--iterations", "1", "--radius", "0"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    part = tmp_path / ".out.mkv.freezeframe" / "000000.json"
    while not part.exists():
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    output = first.communicate(timeout=60)
    assert first.returncode == 130, output
    assert output[0] == ""
    assert "rerun the same command to resume" in output[1]
    assert not out.exists()

    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (0, f"{out}\n"), again.stderr
    assert "were finished by an earlier run" in again.stderr
    assert "FAIL" not in again.stderr
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == count
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mkv", "pan.mkv"]
