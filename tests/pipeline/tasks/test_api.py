"""The public functions: refusals, unchanged clips, and consistent results."""

from __future__ import annotations

from dataclasses import replace

import av
import pytest
import torch

import freezeframe
from freezeframe.data.errors import UnreadableMedia, UnwritableOutput
from freezeframe.data.media.video_in.source import open_video
from freezeframe.pipeline import api
from freezeframe.pipeline.config import preset
from freezeframe.pipeline.support import media
from freezeframe.pipeline.tasks.scene.fallback import sharp_name


@pytest.fixture(scope="module")
def still(film, write_clip, tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("api") / "still.mkv", film((0, 0), [0.0] * 5))


def pictures(path):
    return torch.stack([frame.picture.linear() for frame in open_video(path).frames()])


def video_packets(clip):
    with av.open(str(clip)) as container:
        return [bytes(packet) for packet in container.demux(video=0)]


def test_the_front_door_leads_to_the_library():
    assert freezeframe.deblur_video is api.deblur_video
    assert freezeframe.deblur_burst is api.deblur_burst
    assert freezeframe.probe is api.probe


def test_a_still_clip_passes_bit_exact(still, tmp_path):
    steps = []
    report = freezeframe.deblur_video(still, tmp_path / "out.mkv", progress=lambda *step: steps.append(step))
    assert torch.equal(pictures(still), pictures(tmp_path / "out.mkv"))
    assert report.counts == {"passthrough": 5}
    assert report.verification.passed
    frames = [completed for completed, _, *stage in steps if not any(stage[:1])]
    assert sum(frames) == 5


@pytest.mark.slow
def test_a_sharp_clip_of_a_camera_passes_bit_for_bit(shared_data, tmp_path):
    """Objects move by many pixels per frame, and the exposures are short: there is no blur."""
    clip, result = shared_data / "test/clips/04_coffee.mp4", tmp_path / "out.mp4"
    report = freezeframe.deblur_video(clip, result)
    assert report.counts == {"passthrough": 287}
    assert video_packets(result) == video_packets(clip)


def test_no_strength_leaves_a_pan_alone(film, write_clip, tmp_path):
    clip = write_clip(tmp_path / "pan.mkv", film((12, 0), [-2.0, -1.0, 0.0, 1.0, 2.0], shutter=0.5))
    report = freezeframe.deblur_video(clip, tmp_path / "out.mkv", config=replace(preset("auto"), strength=0))
    assert torch.equal(pictures(clip), pictures(tmp_path / "out.mkv"))
    assert report.counts == {"passthrough": 5}


def test_clips_become_folders_and_folders_clips(still, tmp_path):
    freezeframe.deblur_video(still, tmp_path / "images")
    assert len(list((tmp_path / "images").iterdir())) == 5
    freezeframe.deblur_video(tmp_path / "images", tmp_path / "back.mkv")
    # 8-bit RGB to 4:4:4 or 4:2:0 and back: a few steps of 255, in linear RGB.
    assert (pictures(tmp_path / "back.mkv") - pictures(still)).abs().mean() < 3 / 255


def test_an_earlier_result_is_kept(still, tmp_path):
    existing = tmp_path / "out.mkv"
    existing.write_bytes(b"earlier")
    with pytest.raises(UnwritableOutput, match=r"out\.mkv.*--force"):
        freezeframe.deblur_video(still, existing)
    assert existing.read_bytes() == b"earlier"


def test_the_source_is_never_the_output(still):
    before = still.read_bytes()
    with pytest.raises(UnwritableOutput, match="input"):
        freezeframe.deblur_video(still, still)
    assert still.read_bytes() == before


@pytest.mark.parametrize("name", ["absent.mp4", "text.mp4", "empty.mp4"])
def test_what_is_no_video_is_named_and_leaves_nothing(tmp_path, name):
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(UnreadableMedia, match=name):
        freezeframe.deblur_video(tmp_path / name, tmp_path / "out.mkv")
    assert {path.name for path in tmp_path.iterdir()} == {"text.mp4", "empty.mp4"}


def test_a_burst_needs_more_than_one_photo(tmp_path):
    with pytest.raises(UnreadableMedia, match="two or more"):
        freezeframe.deblur_burst([tmp_path / "a.jpg"], tmp_path / "out.png")


def test_a_burst_never_replaces_its_own_photos(tmp_path):
    photo = tmp_path / "a.png"
    photo.write_bytes(b"photo")
    with pytest.raises(UnwritableOutput, match="input itself"):
        freezeframe.deblur_burst([photo, tmp_path / "b.png"], photo)
    assert photo.read_bytes() == b"photo"


def test_only_a_run_of_the_same_kind_is_joined():
    """Settings of every stage change the key; permission to overwrite changes no frame."""
    base = preset("auto")
    assert media.settings_key(base) == media.settings_key(
        replace(base, output=replace(base.output, force=True))
    )
    changed = [
        replace(base, strength=0.5),
        replace(base, fuse=replace(base.fuse, radius=0)),
        replace(base, measure=replace(base.measure, shutter=0.3)),
        replace(base, gate=replace(base.gate, min_blur_px=2.0)),
        replace(base, output=replace(base.output, start=1.0)),
    ]
    assert len({media.settings_key(config) for config in [base, *changed]}) == 1 + len(changed)


@pytest.mark.parametrize("name", ["x.gif", "x.mp5", "x.txt", "x.webp"])
def test_a_suffix_that_makes_no_sense_is_no_folder(still, tmp_path, name):
    with pytest.raises(UnwritableOutput, match=r"write one of \.mp4.* or name a folder without a suffix"):
        freezeframe.deblur_video(still, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_part_of_a_folder_is_asked_for_like_that_of_a_video(still, tmp_path):
    freezeframe.deblur_video(still, tmp_path / "images")
    options = replace(preset("auto").output, start=1 / 24, end=3 / 24)
    source = media.open_source(tmp_path / "images", options)
    assert [image.name for image in source.images] == ["000001.png", "000002.png"]


@pytest.mark.parametrize(
    ("name", "result"), [("a.MP4", "sharp.MP4"), ("a.avi", "sharp.mkv"), ("a.gif", "sharp.mkv")]
)
def test_what_is_sharpened_instead_of_a_scene_can_be_written(tmp_path, name, result):
    assert sharp_name(tmp_path / name) == result
