"""Folders of images: sorted, complete, byte-identical if unchanged, and never published incomplete."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from freezeframe.data.errors import UnreadableMedia, UnwritableOutput
from freezeframe.data.media.folder.sink import ImageFolderSink, exif_orientation
from freezeframe.data.media.folder.source import ImageFolderSource, open_folder
from freezeframe.data.media.photo.files import read_photo, write_photo
from freezeframe.data.media.photo.photo import EXIF_TRANSPOSE, PhotoPicture
from freezeframe.data.media.video_in.source import VideoSource, open_video
from freezeframe.data.types import Frame


def numbered(number: int, depth: int = 8) -> PhotoPicture:
    """A picture whose pixel value is its number."""
    kind = np.uint8 if depth == 8 else np.uint16
    pixels = np.full((12, 16, 3), number * (1 if depth == 8 else 257), kind)
    pixels[0, 0] = np.iinfo(kind).max  # an upper left corner
    return PhotoPicture(pixels=pixels)


def fill(folder: Path, names: list[str], depth: int = 8) -> Path:
    folder.mkdir()
    for number, name in enumerate(names):
        write_photo(numbered(number, depth), folder / name)
    return folder


def clip(folder: Path, count: int = 6, suffix: str = ".png", depth: int = 8) -> Path:
    return fill(folder, [f"{number:03d}{suffix}" for number in range(count)], depth)


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def number_of(frame: Frame) -> int:
    assert isinstance(frame.picture, PhotoPicture)
    return int(frame.picture.pixels[1, 1, 0])


def test_images_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = ["shot2_1.png", "shot2_2.png", "shot2_10.png", "shot10_1.png"]
    source = open_folder(fill(tmp_path / "in", names), rate=Fraction(30000, 1001))
    frames = list(source.frames())
    assert [number_of(frame) for frame in frames] == [0, 1, 2, 3]
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [frame.time for frame in frames] == [Fraction(1001 * n, 30000) for n in range(4)]
    assert (source.count, source.rate, source.damage, source.notes) == (4, Fraction(30000, 1001), [], [])
    assert source.name == str(tmp_path / "in")


def test_frames_may_begin_later_and_stop_early(tmp_path: Path) -> None:
    source = open_folder(clip(tmp_path / "in"))
    assert [(f.index, number_of(f)) for f in source.frames(first=4)] == [(4, 4), (5, 5)]
    assert list(source.frames(first=6)) == []
    frames = source.frames()
    assert next(frames).index == 0
    frames.close()  # type: ignore[attr-defined]


def test_what_is_hidden_or_no_image_is_left_out(tmp_path: Path) -> None:
    folder = clip(tmp_path / "in", 2)
    for name in ("._000.png", "notes.txt", "Thumbs.db", ".DS_Store"):
        (folder / name).write_text("no image")
    (folder / "more.png").mkdir()
    assert [image.name for image in open_folder(folder).images] == ["000.png", "001.png"]


@pytest.mark.parametrize(
    ("count", "runs", "length"), [(1, 3, 2), (2, 8, 3), (7, 3, 2), (20, 4, 3), (9, 1, 20)]
)
def test_glimpses_are_spread_runs_without_overlap(tmp_path: Path, count: int, runs: int, length: int) -> None:
    source = open_folder(clip(tmp_path / "in", count))
    sample_clips = [[frame.index for frame in run] for run in source.sample_clips(runs, length)]
    indices = [index for run in sample_clips for index in run]
    assert indices == sorted(set(indices))
    assert all(run == list(range(run[0], run[0] + len(run))) for run in sample_clips)
    assert 1 <= len(sample_clips) <= runs
    if count >= 2 * runs * length:
        assert len(sample_clips) == runs
        assert indices[0] < count / runs
        assert indices[-1] > count - 1 - count / runs


def test_an_odd_size_is_named_before_any_work(tmp_path: Path) -> None:
    folder = clip(tmp_path / "in", 3)
    write_photo(PhotoPicture(pixels=np.zeros((16, 12, 3), np.uint8)), folder / "003.png")
    with pytest.raises(UnreadableMedia, match=r"003\.png: is 12x16, but .* 16x12; leave it out"):
        open_folder(folder)


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".webp", ".avif", ".png"])
def test_sizes_are_those_of_the_upright_picture(tmp_path: Path, suffix: str) -> None:
    """A camera that was rotated during a burst stores the same size, but the upright size differs."""
    rotated = Image.Exif()
    rotated[0x0112] = 6
    exif = rotated.tobytes()
    (tmp_path / "in").mkdir()
    Image.new("RGB", (16, 12)).save(tmp_path / f"in/0{suffix}")
    Image.new("RGB", (12, 16)).save(tmp_path / f"in/1{suffix}", exif=exif)
    assert [frame.picture.size for frame in open_folder(tmp_path / "in").frames()] == [(12, 16)] * 2
    Image.new("RGB", (16, 12)).save(tmp_path / f"in/1{suffix}", exif=exif)
    with pytest.raises(UnreadableMedia, match=rf"1\{suffix}: is 12x16"):
        open_folder(tmp_path / "in")


def test_a_damaged_image_is_named_where_it_comes(tmp_path: Path) -> None:
    folder = clip(tmp_path / "in", 4)
    whole = (folder / "002.png").read_bytes()
    (folder / "002.png").write_bytes(whole[:-40])
    frames = open_folder(folder).frames()
    assert [next(frames).index, next(frames).index] == [0, 1]
    with pytest.raises(UnreadableMedia, match=r"002\.png: is cut off or damaged"):
        next(frames)


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableMedia, match="holds no images"):
        open_folder(tmp_path)
    with pytest.raises(UnreadableMedia, match="is not a folder"):
        open_folder(tmp_path / "nowhere")


# Writing.


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".avif", ".bmp"])
def test_untouched_images_are_the_same_bytes_under_the_same_names(tmp_path: Path, suffix: str) -> None:
    source = open_folder(clip(tmp_path / "in", suffix=suffix))
    sink = ImageFolderSink(source, tmp_path / "out")
    sink.write(list(source.frames()))
    report = sink.finish()
    assert bytes_in(tmp_path / "out") == bytes_in(tmp_path / "in")
    assert report.passed
    assert "6 byte for byte" in report.text()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize(("suffix", "depth"), [(".png", 8), (".png", 16), (".tif", 16)])
def test_changed_images_hold_the_new_light_in_the_old_format(tmp_path: Path, suffix: str, depth: int) -> None:
    source = open_folder(clip(tmp_path / "in", suffix=suffix, depth=depth))
    sink = ImageFolderSink(source, tmp_path / "out")
    sink.write([f.with_image(f.picture.linear().flip(2)) if f.index == 3 else f for f in source.frames()])
    assert sink.finish().passed
    changed = read_photo(tmp_path / f"out/003{suffix}")
    assert np.array_equal(changed.pixels, numbered(3, depth).pixels[:, ::-1])
    assert changed.depth == depth
    before, after = bytes_in(tmp_path / "in"), bytes_in(tmp_path / "out")
    assert [name for name in before if before[name] != after[name]] == [f"003{suffix}"]


def test_nothing_shows_before_it_is_complete(tmp_path: Path) -> None:
    source = open_folder(clip(tmp_path / "in"))
    sink = ImageFolderSink(source, tmp_path / "out")
    sink.write(list(source.frames()))
    assert not (tmp_path / "out").exists()
    sink.abort()
    assert not (tmp_path / "out").exists()


def interrupted(source: ImageFolderSource, out: Path, *, after: int, key: str = "a") -> None:
    """A run that is stopped after `after` images."""
    sink = ImageFolderSink(source, out, key=key)
    sink.write([frame for frame in source.frames() if frame.index < after])
    sink._worker.join()
    sink.abort()


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    source = open_folder(clip(tmp_path / "in"))
    interrupted(source, tmp_path / "out", after=4)
    stray = tmp_path / ".out.freezeframe/images/.004.png.freezeframe"
    stray.write_bytes(b"half")
    sink = ImageFolderSink(source, tmp_path / "out", key="a")
    assert sink.finished_frames == 4
    sink.write(list(source.frames(first=4)))
    assert sink.finish().passed
    assert bytes_in(tmp_path / "out") == bytes_in(tmp_path / "in")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["in", "out"]


def test_a_finished_but_unnamed_run_only_needs_its_name(tmp_path: Path) -> None:
    source = open_folder(clip(tmp_path / "in"))
    interrupted(source, tmp_path / "out", after=6)
    sink = ImageFolderSink(source, tmp_path / "out", key="a")
    assert sink.finished_frames == 6
    assert sink.finish().passed
    assert bytes_in(tmp_path / "out") == bytes_in(tmp_path / "in")


def test_other_settings_or_another_source_begin_anew(tmp_path: Path) -> None:
    folder = clip(tmp_path / "in")
    interrupted(open_folder(folder), tmp_path / "out", after=4)
    other = ImageFolderSink(open_folder(folder), tmp_path / "out", key="b")
    assert other.finished_frames == 0
    other.abort()
    interrupted(open_folder(folder), tmp_path / "out", after=4)
    os.utime(folder / "005.png", ns=(1, 1))
    later = ImageFolderSink(open_folder(folder), tmp_path / "out", key="a")
    assert later.finished_frames == 0
    later.abort()


def test_an_abort_before_the_first_image_leaves_nothing(tmp_path: Path) -> None:
    source = open_folder(clip(tmp_path / "in"))
    ImageFolderSink(source, tmp_path / "out").abort()
    with pytest.raises(UnwritableOutput, match="no image was written"):
        ImageFolderSink(source, tmp_path / "out").finish()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["in"]


def test_missing_images_fail_the_sheet(tmp_path: Path) -> None:
    source = open_folder(clip(tmp_path / "in"))
    sink = ImageFolderSink(source, tmp_path / "out")
    sink.write(list(source.frames())[:5])
    report = sink.finish()
    assert [check.name for check in report.checks if not check.passed] == ["images"]


def test_outputs_that_would_harm_are_refused(tmp_path: Path) -> None:
    folder = clip(tmp_path / "in")
    source = open_folder(folder)
    link = tmp_path / "link"
    link.symlink_to(folder)
    (tmp_path / "file").write_text("kept")
    full = clip(tmp_path / "full", 2)
    mixed = clip(tmp_path / "mixed", 1)
    (mixed / "thesis.txt").write_text("kept")
    cases = [
        (folder, True, "is the input itself"),
        (link, True, "is the input itself"),
        (folder / "out", True, "lies inside the input folder"),
        (tmp_path, True, "contains other files than images"),
        (tmp_path / "file", True, "is a file; name a folder"),
        (tmp_path / "file/where", False, "is not a folder"),
        (full, False, "exists already; .*--force"),
        (mixed, True, r"contains other files than images \(thesis\.txt\)"),
    ]
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    for path, force, words in cases:
        with pytest.raises(UnwritableOutput, match=words):
            ImageFolderSink(source, path, force=force)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_force_replaces_the_whole_folder_and_an_empty_one_is_free(tmp_path: Path) -> None:
    source = open_folder(clip(tmp_path / "in", 3))
    for out, force in ((clip(tmp_path / "old", 9), True), (tmp_path / "empty", False)):
        out.mkdir(exist_ok=True)
        sink = ImageFolderSink(source, out, force=force)
        sink.write(list(source.frames()))
        assert sink.finish().passed
        assert bytes_in(out) == bytes_in(tmp_path / "in")


def test_a_failed_write_is_one_sentence_and_keeps_what_was_there(tmp_path: Path) -> None:
    source = open_folder(clip(tmp_path / "in", 3))
    sink = ImageFolderSink(source, tmp_path / "out")
    frames = list(source.frames())
    (tmp_path / "in/001.png").unlink()
    with pytest.raises((UnreadableMedia, UnwritableOutput), match=r"001\.png"):
        write_all(sink, frames)
    assert not (tmp_path / "out").exists()


def write_all(sink: ImageFolderSink, frames: list[Frame]) -> None:
    sink.write(frames)
    sink.finish()


@pytest.fixture
def no_new_name(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A disk on which the work folder cannot be renamed."""
    rename = Path.rename

    def refusing(self: Path, target: Path) -> Path:
        if self.name == "images":
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refusing)
        yield


def test_a_refused_name_leaves_the_earlier_folder(tmp_path: Path, no_new_name: None) -> None:
    source, out = open_folder(clip(tmp_path / "in", 3)), clip(tmp_path / "out", 5)
    before = bytes_in(out)
    sink = ImageFolderSink(source, out, force=True)
    with pytest.raises(UnwritableOutput, match="no space"):
        write_all(sink, list(source.frames()))
    assert bytes_in(out) == before


@pytest.mark.parametrize("key", ["a", "b"])
@pytest.mark.parametrize("published", [False, True])
def test_a_power_cut_around_the_new_name_loses_no_folder(tmp_path: Path, key: str, published: bool) -> None:
    """Between the two renames the earlier folder lies in the work folder; after them it is not needed."""
    source, out, job = open_folder(clip(tmp_path / "in")), tmp_path / "out", tmp_path / ".out.freezeframe"
    interrupted(source, out, after=6)
    clip(job / "replaced", 9)
    earlier = bytes_in(job / "replaced")
    if published:
        (job / "images").rename(out)
    with pytest.raises(UnwritableOutput, match="exists already"):
        ImageFolderSink(source, out, key=key)
    assert bytes_in(out) == (bytes_in(tmp_path / "in") if published else earlier)
    sink = ImageFolderSink(source, out, force=True, key=key)
    write_all(sink, list(source.frames(first=sink.finished_frames)))
    assert bytes_in(out) == bytes_in(tmp_path / "in")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["in", "out"]


# From video.


def test_frames_of_a_clip_become_numbered_png(tmp_path: Path, shared_data: Path) -> None:
    source = open_video(shared_data / "test/clips/handheld_short.mp4", end=0.2)
    frames = list(source.frames())
    sink = ImageFolderSink(source, tmp_path / "out")
    sink.write(frames)
    report = sink.finish()
    assert report.passed
    assert "not stored in image files; 30.020 frames per second" in report.text()
    assert [image.name for image in open_folder(tmp_path / "out").images] == [
        f"{index:06d}.png" for index in range(len(frames))
    ]
    shown = read_photo(tmp_path / "out/000002.png")
    expected = numbered(0).with_linear(frames[2].picture.linear())
    assert np.array_equal(shown.pixels, expected.pixels)


@dataclass(frozen=True)
class Deep:
    """A picture that is not a photo, with ten bits."""

    image: torch.Tensor
    depth: int = 10

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[1], self.image.shape[2]

    def linear(self) -> torch.Tensor:
        return self.image

    def luma(self) -> torch.Tensor:
        return torch.zeros(self.size, dtype=torch.uint8)

    def with_linear(self, image: torch.Tensor) -> Deep:
        return replace(self, image=image)


def test_more_than_eight_bits_become_sixteen(tmp_path: Path) -> None:
    image = torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(0))
    write_photo(Deep(image), tmp_path / "deep.png")
    back = read_photo(tmp_path / "deep.png")
    assert back.depth == 16
    # Half a code value at the largest slope of sRGB, 2.3.
    assert (back.linear() - image).abs().max() < 2 / 65535


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_display_matrix_is_the_turn_that_it_means(
    tmp_path: Path, shared_data: Path, orientation: int
) -> None:
    """The corners of a picture are mapped by the matrix (x' = ax + cy, y' = bx + dy)."""
    source = open_video(shared_data / "test/clips/handheld_short.mp4")
    corners = np.array([[0, 1], [2, 3]])
    where = {
        int(EXIF_TRANSPOSE[orientation](corners)[y, x]): (2 * x - 1, 2 * y - 1)
        for x in (0, 1)
        for y in (0, 1)
    }
    (ax, bx), (cx, dx) = ((np.array(where[one]) - np.array(where[0])) // 2 for one in (1, 2))
    unit = 65536
    matrix = tuple(int(v) for v in (ax * unit, bx * unit, 0, cx * unit, dx * unit, 0, 0, 0, 1 << 30))
    rotated = VideoSource(
        replace(source.info, display_matrix=matrix), start=None, end=None, skip_damaged=False
    )
    assert exif_orientation(rotated) == orientation
