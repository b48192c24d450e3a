"""The diagnosis of clips with known motion and shutter agrees with them and with the pipeline."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from functools import cache

import cv2
import pytest
import torch

import freezeframe
from freezeframe.data.errors import UnreadableMedia, UnwritableOutput
from freezeframe.data.samples import sample_clip
from freezeframe.data.types import Box
from freezeframe.pipeline.config import preset
from freezeframe.pipeline.stages.blurred_parts import BlurredPart
from freezeframe.pipeline.tasks.probe.region_text import format_regions, object_sentence, slope_name
from freezeframe.pipeline.tasks.probe.regions import part_runs
from freezeframe.pipeline.tasks.probe.result import direction
from freezeframe.pipeline.tasks.probe.run import probe
from freezeframe.pipeline.tasks.video import deblur_video

from ...support.test_reference import validate

SHUTTER = 0.5


@pytest.fixture(scope="module")
def panned(film, write_clip, tmp_path_factory):
    """`panned((vx, vy))`: a clip of eight frames with shutter fraction 1/2; each pan is rendered once."""
    folder, filmed = tmp_path_factory.mktemp("pans"), {}

    def shoot(velocity):
        if velocity not in filmed:
            path = folder / f"{velocity[0]}_{velocity[1]}.mkv"
            images = film(velocity, [t - 3.5 for t in range(8)], shutter=SHUTTER if any(velocity) else 0.0)
            filmed[velocity] = write_clip(path, images)
        return filmed[velocity]

    return shoot


@pytest.fixture(scope="module")
def probed(panned):
    """`probed((vx, vy))`: the diagnosis of frames 0, 3 and 6 of such a pan; each is made once."""
    return cache(lambda velocity: probe(panned(velocity), stride=3))


@pytest.mark.parametrize(
    ("velocity", "words"), [((12, 0), "horizontal"), ((0, 12), "vertical"), ((9, 9), "diagonal")]
)
def test_a_pan_is_told_by_its_length_and_direction(probed, velocity, words):
    diagnosis = probed(velocity)
    length = SHUTTER * (velocity[0] ** 2 + velocity[1] ** 2) ** 0.5
    assert [sampled_frame.index for sampled_frame in diagnosis.sampled_frames] == [0, 3, 6]
    assert all(sampled_frame.blurred for sampled_frame in diagnosis.sampled_frames)
    # A fifth for the shutter, measured on eight small frames.
    assert diagnosis.sampled_frames[1].diagnosis.blur == pytest.approx(length, rel=0.2)
    assert diagnosis.sampled_frames[1].camera_speed == pytest.approx(
        length / SHUTTER, abs=1
    )  # pixel per frame
    assert diagnosis.sampled_frames[1].diagnosis.cause == "camera"
    assert diagnosis.camera == "moving"
    assert f"mostly {words}" in diagnosis.summary[0]
    assert "by the camera" in diagnosis.summary[0]


@pytest.mark.parametrize(("velocity", "angle"), [((12, 0), 0), ((0, 12), 90), ((-9, 9), -45)])
def test_a_pan_is_one_region_of_the_camera(probed, velocity, angle):
    """In text, JSON and plot, as `deblur_video` reports it."""
    diagnosis = probed(velocity)
    (region,) = [each for each in diagnosis.regions if each.track is None]
    assert (region.mover, region.method, region.blurred) == ("camera", "deconvolution", True)
    assert (region.first, region.last) == (0, 6)
    assert (region.box.width, region.box.height) == (128, 96)
    assert region.blur_px == pytest.approx(SHUTTER * math.hypot(*velocity), rel=0.25)
    assert math.cos(2 * (region.direction - math.radians(angle))) > 0.98
    validate("probe", json.loads(json.dumps(diagnosis.to_dict())))
    header, row = (line.split() for line in diagnosis.text().split("\n\n")[1].splitlines())
    assert row[header.index("moves")] == "camera"
    assert row[-1] == "deconvolution"


def test_parts_of_frames_are_joined_to_runs():
    """A run ends where a sampled frame is sharp, at a cut, and where something else moves."""
    part = BlurredPart(box=Box(left=0, top=0, right=9, bottom=9), mover="object", blur=4.0, direction=0.0)
    pan = replace(part, mover="camera")
    parts = {0: (part, part), 5: (part,), 15: (part,), 20: (part,), 25: (pan,), 30: (pan,)}
    runs = part_runs(parts, stride=5, cuts=frozenset({18, 26}))
    assert sorted([index for index, _ in run] for run in runs) == [[0, 0, 5], [15], [20], [25], [30]]


def test_the_shutter_is_told_in_seconds_and_degrees(probed):
    diagnosis = probed((12, 0))
    assert diagnosis.exposure_time == pytest.approx(diagnosis.shutter / 25)
    assert f"{360 * diagnosis.shutter:.0f}°" in diagnosis.summary[0]


def test_directions_turn_with_the_picture(probed):
    sampled_frames = probed((12, 0)).sampled_frames
    assert direction(sampled_frames, rotated_90=False) == "horizontal"
    assert direction(sampled_frames, rotated_90=True) == "vertical"


def test_a_still_clip_ails_nothing(probed):
    diagnosis = probed((0, 0))
    assert not any(sampled_frame.blurred for sampled_frame in diagnosis.sampled_frames)
    assert diagnosis.camera == "static"
    assert "no sampled frame" in diagnosis.summary[0]


@pytest.mark.slow
@pytest.mark.parametrize("velocity", [(12, 0), (0, 0)])
def test_what_counts_as_blurred_is_what_the_pipeline_works_on(panned, velocity, tmp_path):
    diagnosis = probe(panned(velocity), stride=1)
    report = deblur_video(panned(velocity), tmp_path / "sharp.mkv")
    assert [s.blurred for s in diagnosis.sampled_frames] == [
        v.action != "passthrough" for v in report.verdicts
    ]


def test_no_motion_is_measured_across_a_cut(film, write_clip, tmp_path):
    """Two static scenes: flow between them would be measured as blur."""
    scenes = [film((0, 0), [0.0]), film((0, 0), [0.0]).flip(-1, -2).sub(0.2).abs()]
    clip = write_clip(tmp_path / "cut.mkv", torch.cat([scene.expand(4, -1, -1, -1) for scene in scenes]))
    diagnosis = probe(clip, stride=1)
    assert diagnosis.scene_cuts == (4,)
    assert max(sampled_frame.blur_px for sampled_frame in diagnosis.sampled_frames) < 0.1  # pixels
    assert "1 cut, before frame 4" in diagnosis.text()


def test_a_folder_and_a_photo_are_looked_at_too(film, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(film((12, 0), [-1.0, 0.0, 1.0], shutter=SHUTTER)):
        codes = (image.clamp(0, 1).sqrt() * 255).byte().permute(1, 2, 0).numpy()
        cv2.imwrite(str(folder / f"{number}.png"), codes[..., ::-1])
    diagnosis = probe(folder, stride=1)
    assert (diagnosis.frames, diagnosis.size, diagnosis.rate, diagnosis.exposure_time) == (
        3,
        (96, 128),
        None,
        None,
    )
    assert all(sampled_frame.blurred for sampled_frame in diagnosis.sampled_frames)

    photo = probe(folder / "1.png")
    assert (photo.kind, photo.frames, photo.shutter, photo.camera) == ("photo", 1, None, None)
    assert "seconds" not in photo.text(), "a table of one row tells nothing"


def test_a_single_frame_is_diagnosed_by_itself(film, write_clip, tmp_path):
    diagnosis = probe(write_clip(tmp_path / "one.mkv", film((0, 0), [0.0])))
    assert diagnosis.frames == len(diagnosis.sampled_frames) == 1
    assert diagnosis.sampled_frames[0].camera_speed is None
    assert "assuming" in diagnosis.summary[0], "nothing tells of its shutter"


def test_the_table_stays_short(film, write_clip, tmp_path):
    still = film((0, 0), [0.0])[0, :, :32, :48]
    diagnosis = probe(write_clip(tmp_path / "long.mkv", [still] * 40), stride=1)
    rows = diagnosis.text().split("\n\n")[1].splitlines()
    assert len(diagnosis.sampled_frames) == 40
    assert len(rows) == 1 + 12


def test_json_holds_every_frame_looked_at(probed):
    diagnosis = probed((12, 0))
    body = json.loads(json.dumps(diagnosis.to_dict()))
    assert [sampled_frame["index"] for sampled_frame in body["sampled_frames"]] == [0, 3, 6]
    assert body["summary"] == list(diagnosis.summary)
    assert (body["schema"], body["camera"]) == (1, "moving")
    assert body["sampled_frames"][0]["diagnosis"]["regions"]


def test_progress_counts_every_frame(panned):
    calls = []
    probe(panned((0, 0)), progress=lambda *step: calls.append(step))
    frames = [step for step in calls if len(step) == 2]
    assert sum(done for done, _ in frames) == 8
    assert {total for _, total in frames} == {8}
    assert [step for step in calls if len(step) == 3] == calls[: len(calls) - len(frames)], (
        "stages come before"
    )


@pytest.mark.parametrize("velocity", [(12, 0), (3, 0)])
def test_table_drawing_and_json_go_by_one_measure(probed, velocity):
    """One blur length per frame in plot, table, JSON and gate."""
    diagnosis = probed(velocity)
    rows = diagnosis.text().split("\n\n")[-1].splitlines()[1:]
    listed = [float(row.split()[2]) for row in rows]
    assert listed == [
        pytest.approx(sampled_frame.diagnosis.blur, abs=0.051) for sampled_frame in diagnosis.sampled_frames
    ]
    assert [sampled_frame.blur_px for sampled_frame in diagnosis.sampled_frames] == [
        sampled_frame.diagnosis.blur for sampled_frame in diagnosis.sampled_frames
    ]


def test_below_the_limit_a_lower_one_is_named_and_video_goes_by_it(film, write_clip, tmp_path):
    """A small region moves by 6 px per frame: too little for the default threshold."""
    moving = film((6, 0), [t - 1.5 for t in range(4)], shutter=SHUTTER)
    images = film((0, 0), [0.0]).tile(1, 1, 4, 4)[..., :440, :].repeat(4, 1, 1, 1)
    images[..., 100:196, 100:228] = moving
    clip = write_clip(tmp_path / "window.mkv", images)
    diagnosis = probe(clip, stride=1)
    assert not any(sampled_frame.blurred for sampled_frame in diagnosis.sampled_frames)
    limit, count = re.search(r"--min-blur ([\d.]+) would process (\d) of 4", diagnosis.summary[0]).groups()
    gate = replace(preset("auto").gate, local_blur=0.0, global_blur=0.0, min_blur_px=float(limit))
    physics = replace(preset("auto").fuse, network="none", iterations=1)
    report = deblur_video(clip, tmp_path / "out.mkv", config=replace(preset("auto"), gate=gate, fuse=physics))
    assert 4 - report.counts["passthrough"] == int(count)


@pytest.fixture(scope="module")
def handball(tmp_path_factory):
    """The diagnosis of the sample clip with one fast player and a ball, and its plot."""
    plot_path = tmp_path_factory.mktemp("plots") / "handball.png"
    return probe(sample_clip("handball"), plot=plot_path), plot_path


def test_fast_objects_are_listed_with_frames_boxes_and_blur(handball):
    """A ball of 13 px crosses the court at 20 px of blur or more; the player runs behind it."""
    diagnosis, _ = handball
    blurred = [region for region in diagnosis.regions if region.blurred]
    assert len(blurred) >= 2
    assert [r.blur_px for r in diagnosis.regions] == sorted(
        (r.blur_px for r in diagnosis.regions), reverse=True
    )
    assert {region.method for region in blurred if region.track is not None} == {"layer"}
    for region in blurred:
        assert 0 <= region.first <= region.most_blurred <= region.last < diagnosis.frames
        assert 0 <= region.box.left < region.box.right <= diagnosis.size[1]
        assert 0 <= region.box.top < region.box.bottom <= diagnosis.size[0]
    text = diagnosis.text()
    assert re.search(r"\d fast objects in frames 0 to 14, blurred up to \d\d px", text)
    assert "unchanged" not in text
    assert "direction" in text.split("\n\n")[1].splitlines()[0]


def test_fast_objects_are_drawn_in_the_plot(handball):
    _, plot_path = handball
    picture = cv2.imread(str(plot_path)).astype(int)
    orange = (abs(picture - (0x2B, 0x57, 0xE2)) < 40).all(-1)
    assert orange.any(1).sum() > 50, "a box is a closed line"


def test_a_long_list_of_objects_is_cut(handball):
    region = handball[0].regions[0]
    lines = format_regions([region] * 20, rotated_90=False)
    assert len(lines) == 1 + 8 + 1
    assert lines[-1] == "  and 12 more"


def test_one_object_is_named_in_the_singular(handball):
    region = replace(handball[0].regions[0], first=3, last=9, blur_px=6.25)
    assert object_sentence([region]) == "1 fast object in frames 3 to 9, blurred up to 6.2 px"


@pytest.mark.parametrize(
    ("degrees", "name"),
    [(0, "horizontal"), (180, "horizontal"), (-170, "horizontal"), (-90, "vertical"), (135, "diagonal")],
)
def test_opposite_directions_have_one_name(degrees, name):
    assert slope_name(math.radians(degrees), rotated_90=False) == name


def test_the_drawing_shows_the_most_blurred_frame(handball):
    picture = cv2.imread(str(handball[1]))
    assert min(picture.shape[:2]) > 300
    assert picture.std() > 10  # 8-bit code values; an empty plot is white


@pytest.mark.parametrize(("plot", "cure"), [("blur.gif", ".png"), ("", "folder")])
def test_a_drawing_that_cannot_be_is_refused_before_the_work(panned, tmp_path, plot, cure):
    calls = []
    with pytest.raises(UnwritableOutput, match=cure):
        probe(panned((0, 0)), plot=tmp_path / plot, progress=lambda *step: calls.append(step))
    assert not calls


def test_the_source_is_never_drawn_over(film, write_clip, tmp_path):
    photo = tmp_path / "a.png"
    cv2.imwrite(str(photo), (film((0, 0), [0.0])[0, 0].numpy() * 255).astype("uint8"))
    before = photo.read_bytes()
    with pytest.raises(UnwritableOutput, match="input itself"):
        probe(photo, plot=photo)
    assert photo.read_bytes() == before


def test_what_cannot_be_read_is_named(tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("no video\n" * 100)
    for path in (text, tmp_path / "absent.mp4", tmp_path / "absent.jpg"):
        with pytest.raises(UnreadableMedia, match=path.name):
            freezeframe.probe(path)


def test_none_of_no_frames_is_refused():
    with pytest.raises(ValueError, match="stride"):
        probe("any.mp4", stride=0)


def test_real_shake_and_real_rest(shared_data):
    """REDS has a moving camera; its blurred frames are averages of sharp ones."""
    shaken = probe(shared_data / "test/reds/000/blur", stride=4)
    assert sum(sampled_frame.blurred for sampled_frame in shaken.sampled_frames) >= 2
    assert "by the camera" in shaken.summary[0]
    sharp = probe(shared_data / "test/photos/kodim01.png")
    assert not sharp.sampled_frames[0].blurred
