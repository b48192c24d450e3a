"""Photos: reading and writing keep pixels, orientation and metadata."""

from __future__ import annotations

import io
import struct
import sys
import warnings
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin
from PIL.TiffImagePlugin import IFDRational

from freezeframe.data.errors import FreezeframeError, MissingExtra, UnreadableMedia, UnwritableOutput
from freezeframe.data.media.photo.exif import normalize_orientation, parse_tags
from freezeframe.data.media.photo.files import exposure_seconds, read_burst, read_photo, write_photo
from freezeframe.data.media.photo.photo import PhotoPicture
from freezeframe.data.media.video_in.source import open_video

EXIF, GPS = 0x8769, 0x8825
DATE, SUBSECOND, MAKER_NOTE = 0x9003, 0x9291, 0x927C
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
WITH_EXIF = (".jpg", ".png", ".tif", ".webp", ".avif")
LOSSLESS = (".png", ".tif")


def scene(depth: int = 8, *, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Noise, 40 rows by 56 columns: all its rotations and flips differ."""
    kind = np.uint8 if depth == 8 else np.uint16
    return np.random.default_rng(seed).integers(0, 1 << depth, (40, 56, channels), dtype=kind)


def smooth() -> np.ndarray:
    """A smooth picture that JPEG, WebP and AVIF keep to a few code values."""
    y, x = np.mgrid[:40, :56]
    return np.stack([4 * x, 5 * y, 250 - 2 * x - 2 * y], axis=2).astype(np.uint8)


def tags(orientation: int = 1, *, date: str = "2024:05:06 07:08:09", part: str = "25") -> Image.Exif:
    exif = Image.Exif()
    exif[271], exif[306], exif[0x0112] = "Lens & Co", date, orientation
    exif.get_ifd(EXIF).update(
        {DATE: date, SUBSECOND: part, 0x829A: IFDRational(1, 50), MAKER_NOTE: b"Note\0\1\2\xff"}
    )
    exif.get_ifd(EXIF).update({0xA002: 56, 0xA003: 40})
    exif.get_ifd(GPS).update({1: "N", 2: (52.0, 31.0, 12.25), 3: "E", 4: (13.0, 24.0, 18.5)})
    return exif


def photo(depth: int = 8, **facts: object) -> PhotoPicture:
    exif = tags().tobytes().removeprefix(b"Exif\0\0")
    picture = PhotoPicture(pixels=scene(depth), exif=exif, profile=PROFILE)
    return replace(picture, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_is_put_upright_as_pillow_does(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(smooth()).save(path, exif=tags(orientation))
    picture = read_photo(path)
    with Image.open(path) as image:
        truth = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(picture.pixels, truth)
    assert parse_tags(picture.exif).get(0x0112, 1) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", LOSSLESS)
def test_sixteen_bits_are_turned_as_eight_are(tmp_path: Path, suffix: str, orientation: int) -> None:
    sideways = {n: tags(n).tobytes().removeprefix(b"Exif\0\0") for n in (orientation,)}[orientation]
    path = tmp_path / f"photo{suffix}"
    write_photo(photo(16, exif=sideways), path)
    eight = Image.fromarray((scene(16) >> 8).astype(np.uint8))
    eight.getexif()[0x0112] = orientation
    truth = np.asarray(ImageOps.exif_transpose(eight))
    assert np.array_equal(read_photo(path).pixels >> 8, truth)


def test_a_turned_photo_says_its_new_width_and_drops_its_thumbnail() -> None:
    exif = bytearray(tags(6).tobytes().removeprefix(b"Exif\0\0"))
    order = "<" if exif[:2] == b"II" else ">"
    link = 10 + 12 * struct.unpack_from(order + "H", exif, 8)[0]
    struct.pack_into(order + "I", exif, link, 8)  # any second directory
    rotated_90 = normalize_orientation(bytes(exif), rotated_90=True)
    part = parse_tags(rotated_90).get_ifd(EXIF)
    assert (part[0xA002], part[0xA003]) == (40, 56)
    assert rotated_90[link : link + 4] == b"\0\0\0\0"


def test_upright_moves_no_byte_of_a_maker_note() -> None:
    exif = tags(8).tobytes().removeprefix(b"Exif\0\0")
    assert (
        normalize_orientation(exif, rotated_90=True).find(b"Note\0\1\2\xff")
        == exif.find(b"Note\0\1\2\xff")
        > 0
    )
    assert len(normalize_orientation(exif, rotated_90=True)) == len(exif)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80))
def test_upright_leaves_alone_what_is_no_exif(noise: bytes) -> None:
    assert len(normalize_orientation(b"II*\0" + noise, rotated_90=True)) == 4 + len(noise)


@pytest.mark.parametrize("suffix", WITH_EXIF)
@pytest.mark.parametrize("depth", [8, 16])
def test_date_place_maker_note_and_profile_come_back(tmp_path: Path, suffix: str, depth: int) -> None:
    path = tmp_path / f"photo{suffix}"
    write_photo(photo(depth), path)
    actual, expected = parse_tags(read_photo(path).exif), tags()
    assert dict(actual.get_ifd(EXIF)) == dict(expected.get_ifd(EXIF))
    assert dict(actual.get_ifd(GPS)) == dict(expected.get_ifd(GPS))
    assert (actual[271], actual[306], actual.get(0x0112, 1)) == (expected[271], expected[306], 1)
    assert read_photo(path).profile == PROFILE


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_bytes_themselves_come_back(tmp_path: Path, suffix: str) -> None:
    write_photo(photo(), tmp_path / f"photo{suffix}")
    assert read_photo(tmp_path / f"photo{suffix}").exif == photo().exif


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("clear", [False, True])
def test_lossless_files_give_back_every_code(tmp_path: Path, suffix: str, depth: int, clear: bool) -> None:
    alpha = scene(depth, channels=1, seed=1)[..., 0] if clear else None
    path = tmp_path / f"photo{suffix}"
    write_photo(photo(depth, alpha=alpha), path)
    back = read_photo(path)
    assert back.depth == depth
    assert np.array_equal(back.pixels, scene(depth))
    assert (alpha is None) == (back.alpha is None)
    assert alpha is None or np.array_equal(back.alpha, alpha)


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("depth", [8, 16])
def test_opencv_reads_the_same_codes(tmp_path: Path, suffix: str, depth: int) -> None:
    """OpenCV, a second decoder, reads the same pixels."""
    path = tmp_path / f"photo{suffix}"
    write_photo(photo(depth), path)
    assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1], scene(depth))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(LOSSLESS), st.sampled_from([8, 16]))
def test_any_size_comes_back(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, suffix: str, depth: int
) -> None:
    path = tmp_path_factory.mktemp("any") / f"photo{suffix}"
    pixels = scene(depth)[:height, :width]
    write_photo(PhotoPicture(pixels=pixels), path)
    assert np.array_equal(read_photo(path).pixels, pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_lossy_files_stay_within_three_codes_on_soft_colours(tmp_path: Path, suffix: str) -> None:
    """At quality 95 with 4:4:4 the error of a smooth picture is little more than the rounding of YCbCr."""
    path = tmp_path / f"photo{suffix}"
    write_photo(PhotoPicture(pixels=smooth()), path)
    error = np.abs(read_photo(path).pixels.astype(int) - smooth())
    assert error.mean() < 1.5
    assert error.max() <= 8


def test_jpeg_keeps_colour_at_full_resolution(tmp_path: Path) -> None:
    """Red and blue columns of one pixel: subsampled chroma would make them purple."""
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 200
    write_photo(PhotoPicture(pixels=stripes), tmp_path / "stripes.jpg")
    red = read_photo(tmp_path / "stripes.jpg").pixels[..., 0].astype(int)
    assert red[:, ::2].mean() - red[:, 1::2].mean() > 150


def test_sixteen_bits_where_eight_fit_are_rounded_to_the_nearest_of_eight(tmp_path: Path) -> None:
    encoded = np.arange(256, dtype=np.uint16).reshape(16, 16, 1).repeat(3, axis=2) * 257
    near = np.maximum(encoded, 100) - np.uint16(100)  # less than half of 257 away
    write_photo(PhotoPicture(pixels=near), tmp_path / "ramp.bmp")
    assert np.array_equal(read_photo(tmp_path / "ramp.bmp").pixels, encoded // 257)


def test_transparency_stays_where_the_format_holds_it(tmp_path: Path) -> None:
    alpha = scene(channels=1, seed=3)[..., 0]
    for suffix, has_alpha in ((".png", True), (".webp", True), (".tif", True), (".jpg", False)):
        write_photo(photo(alpha=alpha), tmp_path / f"photo{suffix}")
        back = read_photo(tmp_path / f"photo{suffix}")
        assert (back.alpha is not None) == has_alpha
        assert not has_alpha or np.array_equal(back.alpha, alpha)


def test_grey_photos_become_three_equal_channels_without_their_grey_profile(tmp_path: Path) -> None:
    grey = scene(channels=1)[..., 0]
    grey_profile = PROFILE[:16] + b"GRAY" + PROFILE[20:]
    Image.fromarray(grey).save(tmp_path / "grey.png", icc_profile=grey_profile)
    cv2.imwrite(str(tmp_path / "deep.png"), scene(16)[..., 0])
    assert np.array_equal(read_photo(tmp_path / "grey.png").pixels, grey[..., None].repeat(3, axis=2))
    assert read_photo(tmp_path / "grey.png").profile is None
    assert np.array_equal(read_photo(tmp_path / "deep.png").pixels, scene(16)[..., :1].repeat(3, axis=2))


# EXIF.


def test_exposure_in_seconds() -> None:
    assert exposure_seconds(photo()) == pytest.approx(1 / 50)
    assert exposure_seconds(photo(exif=None)) is None
    apex = Image.Exif()
    apex.get_ifd(EXIF)[0x9201] = 5.0  # APEX: 2^-5 s
    assert exposure_seconds(photo(exif=apex.tobytes().removeprefix(b"Exif\0\0"))) == pytest.approx(1 / 32)


def burst_files(folder: Path, dates: list[tuple[str, str]]) -> list[Path]:
    paths = []
    for number, (date, part) in enumerate(dates):
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(smooth()).save(paths[-1], exif=tags(date=date, part=part))
    return paths


def test_burst_times_are_the_cameras(tmp_path: Path) -> None:
    dates = [("2024:05:06 23:59:59", "875"), ("2024:05:07 00:00:00", "0"), ("2024:05:07 00:00:00", "05")]
    frames = read_burst(burst_files(tmp_path, dates))
    assert [frame.time for frame in frames] == [0, Fraction(1, 8), Fraction(7, 40)]
    assert [frame.index for frame in frames] == [0, 1, 2]


@pytest.mark.parametrize("second", [("2024:05:06 07:08:09", "1"), ("0000:00:00 00:00:00", "2")])
def test_burst_times_that_do_not_rise_are_counted(tmp_path: Path, second: tuple[str, str]) -> None:
    frames = read_burst(burst_files(tmp_path, [("2024:05:06 07:08:09", "1"), second]))
    assert [frame.time for frame in frames] == [0, 1]


def test_real_burst_is_read(shared_data: Path) -> None:
    paths = sorted((shared_data / "test/burst").glob("*.jpg"))[:2]
    frames = read_burst(paths)
    assert [frame.picture.size for frame in frames] == [(720, 1080)] * 2
    with Image.open(paths[1]) as image:
        assert np.array_equal(frames[1].picture.pixels, np.asarray(image.convert("RGB")))  # type: ignore[attr-defined]


def test_a_frame_of_a_clip_becomes_a_photo(tmp_path: Path, shared_data: Path) -> None:
    """Linear light of a video frame and of the photo written from it differ by half an 8-bit code value."""
    frame = next(iter(open_video(shared_data / "test/clips/handheld_short.mp4").frames()))
    write_photo(frame.picture, tmp_path / "frame.png")
    back = read_photo(tmp_path / "frame.png")
    expected = photo(exif=None, profile=None).with_linear(frame.picture.linear())
    assert np.array_equal(back.pixels, expected.pixels)
    assert (back.linear() - frame.picture.linear().clamp(0, 1)).abs().max() < 0.5 / 255 * 2.3  # sRGB's slope


# Errors.


def complaint(kind: type[FreezeframeError], path: Path, words: str) -> pytest.RaisesContext:  # type: ignore[type-arg]
    return pytest.raises(kind, match=f"(?s){path.name}.*{words}")


def test_errors_of_reading_name_file_and_cure(tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("not a photo")
    with complaint(UnreadableMedia, text, "is not a photo.*check that it opens"):
        read_photo(text)
    with complaint(UnreadableMedia, tmp_path / "none.png", "no such file; check the spelling"):
        read_photo(tmp_path / "none.png")
    with complaint(UnreadableMedia, tmp_path, "is a folder; name a photo"):
        read_photo(tmp_path)
    empty = tmp_path / "empty.png"
    empty.touch()
    with complaint(UnreadableMedia, empty, "is not a photo"):
        read_photo(empty)


@pytest.mark.parametrize(("mode", "suffix", "words"), [("CMYK", ".jpg", "CMYK"), ("F", ".tif", "floating")])
def test_foreign_colours_are_refused(tmp_path: Path, mode: str, suffix: str, words: str) -> None:
    path = tmp_path / f"photo{suffix}"
    Image.new(mode, (8, 8)).save(path)
    with complaint(UnreadableMedia, path, f"{words}.*convert it to RGB"):
        read_photo(path)


def test_a_picture_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "huge.png"
    write_photo(photo(), path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with complaint(UnreadableMedia, path, "million pixels.*scale it down"):
        read_photo(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)  # large: Pillow only warns
    assert read_photo(path).size == (40, 56)


@pytest.mark.parametrize("suffix", WITH_EXIF)
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("part", [0.2, 0.6, 0.95])
def test_a_photo_cut_short_is_refused(tmp_path: Path, suffix: str, depth: int, part: float) -> None:
    path = tmp_path / f"photo{suffix}"
    write_photo(photo(depth), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(UnreadableMedia, match=path.name):
        read_photo(path)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(WITH_EXIF), st.sampled_from([8, 16]), st.data())
def test_damaged_bytes_give_a_photo_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, depth: int, draw: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / f"photo{suffix}"
    write_photo(photo(depth), path)
    data = bytearray(path.read_bytes())
    for _ in range(draw.draw(st.integers(1, 6))):
        data[draw.draw(st.integers(0, min(len(data), 1500) - 1))] = draw.draw(st.integers(0, 255))
    path.write_bytes(bytes(data))
    with suppress(UnreadableMedia):
        picture = read_photo(path)
        assert picture.linear().isfinite().all()
        exposure_seconds(picture)
        write_photo(picture, path.with_name("again.tif"))


def test_errors_of_writing_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(b"old")
    with complaint(UnwritableOutput, path, "exists already; .*--force"):
        write_photo(photo(), path)
    assert path.read_bytes() == b"old"
    with complaint(UnwritableOutput, Path("photo.gif"), r"write one of \.jpg"):
        write_photo(photo(), tmp_path / "photo.gif")
    with complaint(UnwritableOutput, Path("a.png"), "is not a folder"):
        write_photo(photo(), path / "a.png")
    (tmp_path / "folder.png").mkdir()
    with complaint(UnwritableOutput, Path("folder.png"), "is a folder"):
        write_photo(photo(), tmp_path / "folder.png", force=True)
    with complaint(UnwritableOutput, Path("wide.jpg"), "cannot hold the photo.*png"):
        write_photo(PhotoPicture(pixels=np.zeros((1, 70000, 3), np.uint8)), tmp_path / "wide.jpg")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["folder.png", "photo.png"]
    write_photo(photo(), path, force=True)
    assert read_photo(path).size == (40, 56)


def test_a_burst_needs_two_photos_of_one_size(tmp_path: Path) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    write_photo(photo(), one)
    write_photo(PhotoPicture(pixels=scene()[:30]), two)
    with complaint(UnreadableMedia, one, "single photo.*two or more"):
        read_burst([one])
    with pytest.raises(UnreadableMedia, match="no photo was given"):
        read_burst([])
    with complaint(UnreadableMedia, two, r"is 56x30, but .*one\.png is 56x40.*equal size"):
        read_burst([one, two])
    with complaint(UnreadableMedia, Path("three.png"), "no such file"):
        read_burst([one, tmp_path / "three.png"])


@pytest.mark.parametrize(
    ("suffix", "package", "extra"), [("heic", "pillow_heif", "heif"), ("dng", "rawpy", "raw")]
)
def test_extras_are_named_when_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, package: str, extra: str
) -> None:
    path = tmp_path / f"photo.{suffix}"
    path.write_bytes(b"?")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"{path.name}.*`{extra}`.*pip install"):
        read_photo(path)


def test_heic_is_read_upright_with_its_exif(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "photo.heic"
    exif = tags(6).tobytes()
    heif.from_pillow(Image.fromarray(smooth())).save(path, quality=95, exif=exif, icc_profile=PROFILE)
    back = read_photo(path)
    truth = np.rot90(smooth(), -1).astype(int)
    assert np.abs(back.pixels - truth).mean() < 6  # subsampled chroma
    assert parse_tags(back.exif).get_ifd(EXIF)[DATE] == "2024:05:06 07:08:09"
    assert parse_tags(back.exif).get(0x0112, 1) == 1
    path.write_bytes(b"garbage")
    with complaint(UnreadableMedia, path, "damaged"):
        read_photo(path)


def dng(path: Path, level: int) -> None:
    """A camera raw file of uniform gray, with white level 16000 and EXIF orientation 6."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    unity = [IFDRational(n, 10000) for n in XYZ_TO_SRGB]
    facts: dict[int, tuple[int, object]] = {
        254: (4, 0), 256: (4, 64), 257: (4, 48), 258: (3, 16), 259: (3, 1), 262: (3, 32803),
        271: (2, "Lens & Co"), 272: (2, "One"), 273: (4, 0), 274: (3, 6), 277: (3, 1),
        278: (4, 48), 279: (4, 64 * 48 * 2),
        306: (2, "2024:05:06 07:08:09"), 33421: (3, (2, 2)), 33422: (1, bytes([0, 1, 1, 2])),
        50706: (1, bytes([1, 4, 0, 0])), 50708: (2, "Lens One"), 50717: (4, 16000), 50721: (10, tuple(unity)),
        50728: (5, (IFDRational(1, 1),) * 3), 50778: (3, 21),
    }  # fmt: skip
    for tag, (kind, value) in facts.items():
        tags.tagtype[tag] = kind
        tags[tag] = value
    sensor = np.full((48, 64), level, "<u2")
    path.write_bytes(b"II*\0\x08\0\0\0" + bytes(tags.tobytes(8)) + sensor.tobytes())


XYZ_TO_SRGB = (32406, -15372, -4986, -9689, 18758, 415, 557, -2040, 10570)


@pytest.mark.parametrize("level", [1000, 4000, 12000])
def test_camera_raw_gives_the_light_that_the_sensor_counted(tmp_path: Path, level: int) -> None:
    """Gray of level / 16000, no auto-brightness: to the resolution of 16 bits."""
    pytest.importorskip("rawpy")
    dng(tmp_path / "photo.dng", level)
    picture = read_photo(tmp_path / "photo.dng")
    assert picture.size == (64, 48)
    assert picture.depth == 16
    assert (picture.linear() - level / 16000).abs().max() < 2 / 65535
    assert parse_tags(picture.exif)[306] == "2024:05:06 07:08:09"
    assert parse_tags(picture.exif)[0x0112] == 1
    write_photo(picture, tmp_path / "photo.tif")
    assert np.array_equal(read_photo(tmp_path / "photo.tif").pixels, picture.pixels)
    (tmp_path / "photo.dng").write_bytes(b"garbage")
    with complaint(UnreadableMedia, Path("photo.dng"), "damaged"):
        read_photo(tmp_path / "photo.dng")


def test_a_tag_of_a_wrong_kind_is_left_out_and_the_others_stay(tmp_path: Path) -> None:
    """A number stored as text cannot be written to a TIFF; the date beside it can."""
    exif = bytearray(photo().exif or b"")
    order = "<" if exif[:2] == b"II" else ">"
    entry = exif.find(struct.pack(order + "HHI", 0x829A, 5, 1))  # exposure time: one fraction
    struct.pack_into(order + "HI", exif, entry + 2, 2, 4)
    write_photo(photo(exif=bytes(exif)), tmp_path / "photo.tif")
    back = read_photo(tmp_path / "photo.tif")
    assert entry > 0
    assert exposure_seconds(back) is None
    assert parse_tags(back.exif).get_ifd(EXIF)[DATE] == "2024:05:06 07:08:09"


def test_no_warning_reaches_the_user(tmp_path: Path) -> None:
    """Pillow warns about a truncated EXIF; the photo is intact."""
    path = tmp_path / "odd.jpg"
    out = io.BytesIO()
    Image.fromarray(smooth()).save(out, "JPEG", exif=tags().tobytes()[:60])
    path.write_bytes(out.getvalue())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = read_photo(path)
        exposure_seconds(picture)
        write_photo(picture, tmp_path / "again.tif")
    assert picture.size == (40, 56)
