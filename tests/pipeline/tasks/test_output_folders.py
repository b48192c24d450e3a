"""An output folder that does not exist is created with its parents, and removed if the command fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from freezeframe import cli

COMMANDS = {
    "video": ["video", "clip", "new/deep/out.mkv", "--report", "new/report/report.json"],
    "video with maps": ["video", "clip", "new/deep/out.mkv", "--confidence-maps", "new/maps/maps"],
    "video to images": ["video", "clip", "new/deep/out"],
    "burst": ["burst", "clip/0.png", "clip/1.png", "clip/2.png", "--output", "new/deep/out.png"],
    "restore a photo": ["restore", "clip/0.png", "new/deep/out.png"],
    "restore a folder": ["restore", "clip", "new/deep/out"],
    "scene": ["scene", "clip", "new/deep/out"],
    "probe": ["probe", "clip", "--json", "new/deep/probe.json", "--plot", "new/plot/probe.png"],
    "bench": ["bench", "clip", "clip", "--photos", "--network", "none", "--out", "new/deep/out"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a sharp clip without motion."""
    (tmp_path / "clip").mkdir()
    blocks = np.random.default_rng(0).integers(40, 216, (12, 16, 3), dtype=np.uint8)
    pixels = blocks.repeat(8, axis=0).repeat(8, axis=1)
    for k in range(4):
        Image.fromarray(pixels).save(tmp_path / "clip" / f"{k}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outputs(words: list[str]) -> list[str]:
    return [word for word in words if word.startswith("new/")]


@pytest.mark.filterwarnings("ignore:constrained_layout not applied")  # the plot of a small frame
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_missing_output_folder_is_created(folder: Path, words: list[str]):
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    assert all((folder / path).exists() for path in outputs(words))


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_created_output_folder_is_removed_if_the_command_fails(folder: Path, words: list[str]):
    """Truncated images, found after the checks before the work: nothing is left behind."""
    for image in (folder / "clip").iterdir():
        image.write_bytes(image.read_bytes()[:-200])
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code != 0, result.output
    assert sorted(path.name for path in folder.iterdir()) == ["clip"]


@pytest.mark.parametrize(
    ("option", "path"),
    [
        ("--report", "maps/report.json"),
        ("--json", "maps"),
        ("--output", "maps/out.mkv"),
        ("--output", "maps"),
    ],
)
def test_maps_and_other_outputs_are_apart(folder: Path, option: str, path: str):
    words = ["video", "clip", "--confidence-maps", "maps", option, path]
    result = CliRunner().invoke(cli.app, words if option == "--output" else [*words, "--output", "out.mkv"])
    assert result.exit_code == 2
    assert "at once" in result.output or "lies inside" in result.output
    assert sorted(entry.name for entry in folder.iterdir()) == ["clip"]
