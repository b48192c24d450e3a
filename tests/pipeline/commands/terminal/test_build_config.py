"""Command-line options as a Config and as a command line again."""

from __future__ import annotations

import json
import math

import pytest

from freezeframe.data.errors import FreezeframeError, UnwritableOutput
from freezeframe.pipeline.commands.terminal import build_config as options
from freezeframe.pipeline.commands.terminal.clip_options import ClipOptions
from freezeframe.pipeline.config import Config, preset
from freezeframe.pipeline.stages.gate import blur_threshold
from freezeframe.pipeline.support.json_report import save_json


def configured(**stages):
    return options.configure("auto", strength=1.0, device="auto", precision="auto", **stages)


def test_what_is_not_given_is_left_to_the_preset():
    assert configured(fuse={"radius": None}, output={"codec": None}) == preset("auto")


def test_what_is_given_lands_in_its_stage():
    config = configured(fuse={"radius": 1}, measure={"shutter": 0.25})
    assert (config.fuse.radius, config.measure.shutter) == (1, 0.25)
    assert config.fuse.tv_weight == preset("auto").fuse.tv_weight


def test_a_value_out_of_range_is_the_users_error():
    with pytest.raises(FreezeframeError, match="radius must lie between"):
        configured(fuse={"radius": 99})


@pytest.mark.parametrize("min_blur_px", [0.5, 2.0, 9.0])
@pytest.mark.parametrize("height", [90, 720, 2160])
def test_a_limit_in_pixels_holds_for_every_size(min_blur_px, height):
    gate = configured(gate=options.blur_limit_fields(min_blur_px)).gate
    assert blur_threshold((height, 2 * height), gate) == min_blur_px


def test_no_limit_in_pixels_keeps_the_share_of_the_height():
    assert configured(gate=options.blur_limit_fields(None)) == preset("auto")


def test_no_pixels_at_all_stands_for_whatever_moves():
    """A small positive threshold, without division by zero: static content stays below it."""
    gate = configured(gate=options.blur_limit_fields(0.0)).gate
    assert 0 < blur_threshold((720, 1280), gate) < 0.1


@pytest.mark.parametrize("stage", [{"start": math.inf}, {"end": -1.0}, {"quality": math.nan}])
def test_times_and_qualities_are_numbers(stage):
    with pytest.raises(FreezeframeError, match="must be a number from 0 up"):
        configured(output=stage)


def test_a_budget_is_that_of_the_whole_and_bounds_its_fits():
    config = ClipOptions(budget=1.5).config(force=False)
    assert (config.budget, config.splat.budget) == (1.5, 1.5)
    unbounded = ClipOptions().config(force=False)
    assert (unbounded.budget, unbounded.splat.budget) == (None, math.inf)
    with pytest.raises(ValueError, match="budget"):
        Config(budget=0.0)


def test_options_become_a_command_line():
    line = options.to_command_line(preset="sports", strength=0.5, codec=None, skip_damaged=True, force=False)
    assert line == ["--preset", "sports", "--strength", "0.5", "--skip-damaged"]


def test_json_appears_whole(tmp_path):
    path = tmp_path / "new" / "report.json"
    claims = options.claim_outputs({"--report": path, "--json": None})
    assert not list(tmp_path.iterdir()), "the trial write leaves nothing"
    save_json(claims["--report"], {"number": 1, "where": tmp_path})
    assert json.loads(path.read_text()) == {"number": 1, "where": str(tmp_path)}
    assert list(path.parent.iterdir()) == [path]


def test_no_json_is_written_where_none_is_wanted(tmp_path):
    save_json(options.claim_outputs({"--json": None}).get("--json"), {"a": 1})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["game.mp4", "earlier.json"])
def test_what_is_there_is_not_replaced_unasked(tmp_path, name):
    existing = tmp_path / name
    existing.write_bytes(b"mine")
    with pytest.raises(UnwritableOutput, match=name):
        options.claim_outputs({"--report": existing})
    save_json(options.claim_outputs({"--report": existing}, force=True)["--report"], {"a": 1})
    assert json.loads(existing.read_text()) == {"a": 1}


def test_a_report_that_fails_says_that_the_result_is_complete(tmp_path):
    claim = options.claim_outputs({"--report": tmp_path / "r" / "report.json"})["--report"]
    (tmp_path / "r").write_text("a file where the folder should be")
    with pytest.raises(UnwritableOutput, match=r"report\.json: .*; .*sharp\.mp4 itself is complete"):
        save_json(claim, {"a": 1}, main_output=tmp_path / "sharp.mp4")


@pytest.mark.parametrize(("name", "cure"), [("a.txt/r.json", "not a folder"), ("", "name a file")])
def test_a_place_that_cannot_be_is_refused_at_once(tmp_path, name, cure):
    (tmp_path / "a.txt").touch()
    with pytest.raises(UnwritableOutput, match=cure):
        options.claim_outputs({"--report": tmp_path / name})
