"""The confidence maps of a whole run, and the regions of its report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from freezeframe.data.media.files.directories import work_dir
from freezeframe.data.media.video_in.frame_picture import flatten_samples
from freezeframe.data.media.video_in.source import open_video
from freezeframe.data.srgb import linear_to_srgb
from freezeframe.data.types import Verdict
from freezeframe.pipeline.config import (
    Config,
    FuseConfig,
    GateConfig,
    MeasureConfig,
    ShotConfig,
)
from freezeframe.pipeline.tasks.video import deblur_video

STILL, MOVING = 12, 9  # frames at rest, then with motion
# The shutter is known and the windows are short, so that a run can be stopped between them.
CONFIG = Config(
    shots=ShotConfig(max_frames=4),
    measure=MeasureConfig(shutter=0.6),
    fuse=FuseConfig(network="none", iterations=2),
    gate=GateConfig(local_blur=0.0, global_blur=0.0, min_blur_px=2.0),
)


class Stopped(Exception):
    """By the user."""


@pytest.fixture(scope="module")
def clip(film, write_clip, tmp_path_factory) -> Path:
    """A still camera sees a quarter of the picture start to move; lossless RGB."""
    background = film((0.0, 0.0), [0])[0]
    times = [0.0] * STILL + [float(t) for t in range(1, MOVING + 1)]
    moving = film((0.0, 7.0), times, shutter=0.6)
    still = film((0.0, 7.0), [0.0])[0]
    images = background.repeat(len(times), 1, 1, 1)
    for k in range(len(times)):
        images[k, :, 8:80, 20:70] = (still if k < STILL else moving[k])[:, 8:80, 20:70]
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mkv", images)


def run(
    clip: Path, folder: Path, name: str, *, stop_after: int | None = None, config: Config = CONFIG
) -> tuple[Verdict, ...]:
    finished = 0

    def progress(count: int, _total: int | None, label: str = "", *_: object) -> None:
        nonlocal finished
        finished += 0 if label else count
        if stop_after is not None and finished >= stop_after:
            raise Stopped

    report = deblur_video(
        clip, folder / name, config=config, confidence_maps=folder / f"{name} maps", progress=progress
    )
    return tuple(report.verdicts)


@pytest.fixture(scope="module")
def whole(clip, tmp_path_factory) -> tuple[Path, tuple[Verdict, ...]]:
    """An undisturbed run into a folder of images, and its verdicts."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(clip, folder, "out", stop_after=None)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_there_is_a_map_for_each_changed_frame_and_for_no_other(whole):
    folder, verdicts = whole
    changed = [f"{each.index:06d}.png" for each in verdicts if each.action == "deblurred"]
    assert 0 < len(changed) < len(verdicts)
    assert sorted(contents(folder / "out maps")) == changed


def test_pixels_that_are_said_to_be_copied_are_those_of_the_input(clip, whole):
    """Lossless RGB in and out: what the pipeline writes is what it decided, sample by sample."""
    folder, verdicts = whole
    copied_pixels = 0
    for frame, verdict in zip(open_video(clip).frames(), verdicts, strict=True):
        before = frame.picture.frame.to_ndarray(format="rgb24")
        after = cv2.imread(str(folder / "out" / f"{frame.index:06d}.png"))[..., ::-1]
        if verdict.action == "passthrough":
            np.testing.assert_array_equal(before, after)
            continue
        shares = cv2.imread(str(folder / "out maps" / f"{frame.index:06d}.png"))[..., ::-1].astype(int)
        assert (shares.sum(-1) == 255).all()
        copied = shares[..., 0] == 255
        np.testing.assert_array_equal(before[copied], after[copied])
        copied_pixels += copied.sum()
        assert (before[~copied] != after[~copied]).any(), "the rest was worked on"
    assert copied_pixels, "the background is at rest"


def test_the_regions_hold_what_the_maps_call_changed(whole):
    folder, verdicts = whole
    for verdict in verdicts:
        corrected = [each for each in verdict.regions if each.strength > 0]
        assert bool(corrected) == (verdict.action == "deblurred")
        if not corrected:
            continue
        assert {each.method for each in corrected} <= {"deconvolution", "layer"}
        outside = torch.ones(96, 128, dtype=torch.bool)
        for each in corrected:
            outside[each.box.slices((96, 128))] = False
        shares = cv2.imread(str(folder / "out maps" / f"{verdict.index:06d}.png"))
        assert (shares[..., 2][outside.numpy()] == 255).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out", "out.mkv"])
def test_a_stopped_run_is_continued_to_the_same_maps(name: str, clip, whole, tmp_path):
    with pytest.raises(Stopped):
        run(clip, tmp_path, name, stop_after=STILL + 4)
    assert not (tmp_path / f"{name} maps").exists()
    kept = contents(work_dir(tmp_path / f"{name} maps") / "maps")
    assert kept, "the maps of the finished frames"
    verdicts = run(clip, tmp_path, name)
    assert verdicts[0].index > 0, "the run went on where it was stopped"
    assert contents(tmp_path / f"{name} maps") == contents(whole[0] / "out maps")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [name, f"{name} maps"]


@pytest.mark.slow
def test_without_its_maps_a_run_starts_again(clip, whole, tmp_path):
    """A finished frame has its map: frames whose maps are lost do not count as finished."""
    with pytest.raises(Stopped):
        run(clip, tmp_path, "out", stop_after=STILL + 4)
    work_dir(tmp_path / "out maps").rename(tmp_path / "lost")
    assert run(clip, tmp_path, "out")[0].index == 0
    assert contents(tmp_path / "out maps") == contents(whole[0] / "out maps")


def test_a_pan_is_one_region_of_the_camera(film, write_clip, tmp_path):
    pan = write_clip(tmp_path / "pan.mkv", film((8, 3), [float(t) for t in range(4)], shutter=0.6))
    config = replace(CONFIG, gate=GateConfig(min_blur_px=1.0))
    report = deblur_video(pan, tmp_path / "out", config=config)
    for verdict in report.verdicts:
        (region,) = verdict.regions
        assert (region.track, region.mover, region.method) == (None, "camera", "deconvolution")
        assert (region.box.width, region.box.height) == (128, 96)
        assert region.blur == pytest.approx(0.6 * np.hypot(8, 3), rel=0.2)
        assert np.tan(region.direction) == pytest.approx(3 / 8, abs=0.15)
        assert region.residual == verdict.metrics["residual"]
        assert region.strength == verdict.strength > 0


@pytest.fixture(scope="module")
def ball(film, wide_leaves, tmp_path_factory) -> Path:
    """A ball of 14 px flies by 9 px per frame before a still camera; colour at half the size, lossless."""
    background = film((0.0, 0.0), [0.0], of=wide_leaves)[0]
    rows, columns = torch.meshgrid(torch.arange(192.0), torch.arange(256.0), indexing="ij")
    path = tmp_path_factory.mktemp("ball") / "ball.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.pix_fmt, stream.width, stream.height = "yuv420p", 256, 192
        for k in range(24):
            moments = [k + 0.6 * ((j + 0.5) / 16 - 0.5) for j in range(16)]
            distances = [torch.hypot(columns - 20 - 9 * t, rows - 80 - 2 * t) for t in moments]
            alpha = torch.stack([(7.5 - distance).clamp(0, 1) for distance in distances]).mean(0)
            image = background.lerp(torch.tensor([0.9, 0.7, 0.05]).view(3, 1, 1), alpha)
            frame = av.VideoFrame.from_ndarray(linear_to_srgb(image), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.slow
def test_layers_across_windows_are_continued_to_the_same_frames_and_maps(ball, tmp_path):
    """Where a map says copied, the luma is that of the input; colour is shared with changed pixels."""
    verdicts = run(ball, tmp_path, "whole.mkv")
    assert "layer" in {region.method for verdict in verdicts for region in verdict.regions}
    with pytest.raises(Stopped):
        run(ball, tmp_path, "stopped.mkv", stop_after=8)
    assert run(ball, tmp_path, "stopped.mkv")[0].index > 0
    assert contents(tmp_path / "stopped.mkv maps") == contents(tmp_path / "whole.mkv maps")
    recorded, whole, stopped = (
        list(open_video(path).frames()) for path in (ball, tmp_path / "whole.mkv", tmp_path / "stopped.mkv")
    )
    for before, one, other, verdict in zip(recorded, whole, stopped, verdicts, strict=True):
        np.testing.assert_array_equal(flatten_samples(one.picture), flatten_samples(other.picture))
        copied = torch.ones(192, 256, dtype=torch.bool)
        if verdict.action == "deblurred":
            shares = cv2.imread(str(tmp_path / "whole.mkv maps" / f"{before.index:06d}.png"))
            copied = torch.from_numpy(shares[..., 2] == 255)
        assert torch.equal(before.picture.luma()[copied], one.picture.luma()[copied])
