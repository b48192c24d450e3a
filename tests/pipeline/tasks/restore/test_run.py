"""Photos, folders and videos through a restorer whose every answer is known beforehand."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from typer.testing import CliRunner

from freezeframe import cli
from freezeframe.data.errors import FreezeframeError, UnreadableMedia, UnwritableOutput
from freezeframe.models.nets.nafnet import NAFNet, NetConfig
from freezeframe.models.store import weights_cache as shelf
from freezeframe.pipeline.tasks.restore.run import RestoreConfig, configure, restore

STEP = 51  # codes of 255 that the network adds: 0.2


def plus() -> NAFNet:
    """A NAFNet in the published layout that adds a fifth to every code: all weights 0 but one bias."""
    network = NAFNet(NetConfig(width=4, encoders=(1,), middle=0, decoders=(0,))).requires_grad_(False)
    for value in network.parameters():
        value.zero_()
    network.ending.bias.fill_(STEP / 255)
    return network


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """A folder of weights of each test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def checkpoint(place) -> Path:
    path = place / "plus.pth"
    torch.save({"params": plus().state_dict()}, path)
    return path


@pytest.fixture
def config(checkpoint) -> RestoreConfig:
    return RestoreConfig(model=str(checkpoint), device="cpu", precision="fp32")


def codes(height: int = 60, width: int = 90, seed: int = 0) -> np.ndarray:
    """[H, W, 3] that stay within 8 bits when `plus` has been over them."""
    return np.random.default_rng(seed).integers(10, 255 - STEP - 10, (height, width, 3), dtype=np.uint8)


def test_a_photo_is_restored_code_by_code(place, config):
    Image.fromarray(codes()).save(place / "in.png")
    done = restore(place / "in.png", place / "out.png", config=config)
    assert [each.status for each in done] == ["done"]
    assert np.array_equal(np.asarray(Image.open(place / "out.png")), codes() + STEP)


def test_the_report_names_the_backend_that_ran(place, checkpoint):
    """Of that photo: a photo that is passed through unchanged names none."""
    Image.fromarray(codes()).save(place / "in.png")
    options = ["--model", str(checkpoint), "--device", "cpu", "--precision", "bf16", "--backend", "torch"]
    for strength, backends in (("1", {"restorer": "torch bf16"}), ("0", {})):
        report = place / f"{strength}.json"
        words = [place / "in.png", place / f"{strength}.png", *options, "--strength", strength]
        done = CliRunner().invoke(cli.app, ["restore", *map(str, words), "--report", str(report)])
        assert done.exit_code == 0, done.output
        (restored,) = json.loads(report.read_text())["restored"]
        assert restored["backends"] == backends
    assert not list((place / "cache").rglob("backends.json")), "a pinned run neither reads nor writes it"


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_strength_is_the_share_of_the_change_in_light(place, config, strength):
    from dataclasses import replace

    Image.fromarray(codes()).save(place / "in.png")
    restore(place / "in.png", place / "out.png", config=replace(config, strength=strength))

    def light(x):
        x = x / 255
        return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)

    before, after = light(codes()), light(np.asarray(Image.open(place / "out.png")))
    expected = (1 - strength) * before + strength * light(codes() + STEP)
    # Half a code, where the curve is steepest.
    assert np.abs(after - expected).max() < 0.5 / 255 * 2.4


def test_a_restorer_that_changed_nothing_is_not_said_to_have_restored(place, config, write_clip):
    from dataclasses import replace

    idle = replace(config, strength=0.0)
    Image.fromarray(codes()).save(place / "in.jpg", quality=90)
    write_clip(place / "in.mkv", [light_of(codes())] * 2)
    for name in ("in.jpg", "in.mkv"):
        (done,) = restore(place / name, place / f"out{name[2:]}", config=idle)
        assert done.reason == "plus changed nothing; copied unchanged"
    assert (place / "out.jpg").read_bytes() == (place / "in.jpg").read_bytes(), "not coded anew"
    (done,) = restore(place / "in.mkv", place / "changed.mkv", config=config)
    assert done.reason == "restored with plus (as requested)"


def test_a_photo_has_no_times(place, config):
    Image.fromarray(codes()).save(place / "in.png")
    wish = configure(
        model="auto", tile=None, strength=1.0, device="cpu", precision="auto", output={"start": 1.0}
    )
    with pytest.raises(FreezeframeError, match="--start and --end are for videos"):
        restore(place / "in.png", place / "out.png", config=wish)


@pytest.mark.parametrize("tile", [64, 96])
def test_tiles_change_nothing(place, config, tile):
    from dataclasses import replace

    Image.fromarray(codes(200, 300)).save(place / "in.png")
    restore(place / "in.png", place / "out.png", config=replace(config, tile=tile))
    assert np.array_equal(np.asarray(Image.open(place / "out.png")), codes(200, 300) + STEP)


def test_profile_exif_orientation_and_transparency_are_kept(place, config):
    exif = Image.Exif()
    exif[0x0110] = "Some Camera"
    exif[0x0112] = 6  # to be turned by a quarter
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    alpha = np.random.default_rng(1).integers(0, 256, (60, 90, 1), dtype=np.uint8)
    image = Image.fromarray(np.concatenate([codes(), alpha], 2))
    image.save(place / "in.png", exif=exif, icc_profile=profile)
    restore(place / "in.png", place / "out.png", config=config)
    with Image.open(place / "out.png") as out:
        assert out.getexif()[0x0110] == "Some Camera"
        assert out.getexif().get(0x0112, 1) == 1, "it stands upright now"
        assert out.info["icc_profile"] == profile
        found = np.asarray(out)
    upright = np.rot90(np.concatenate([codes() + STEP, alpha], 2), -1)
    assert np.array_equal(found[..., 3], upright[..., 3])
    # The profile's own curve stands for sRGB's; a code of rounding.
    assert np.abs(found[..., :3].astype(int) - upright[..., :3]).max() <= 1


def test_sixteen_bits_stay_sixteen(place, config):
    import cv2

    deep = (codes().astype(np.uint16) * 257) + np.random.default_rng(2).integers(0, 200, (60, 90, 3)).astype(
        np.uint16
    )
    cv2.imwrite(str(place / "in.png"), deep[..., ::-1])
    restore(place / "in.png", place / "out.png", config=config)
    out = cv2.imread(str(place / "out.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert out.dtype == np.uint16
    # float32 light and back: some of 65,535 codes.
    assert np.abs(out.astype(int) - deep - STEP * 257).max() <= 8


def test_nothing_is_overwritten_unless_asked(place, config):
    Image.fromarray(codes()).save(place / "in.png")
    (place / "out.png").write_bytes(b"precious")
    with pytest.raises(UnwritableOutput, match=r"out\.png: exists already"):
        restore(place / "in.png", place / "out.png", config=config)
    with pytest.raises(UnwritableOutput, match="input itself"):
        restore(place / "in.png", place / "in.png", config=config)
    assert (place / "out.png").read_bytes() == b"precious"
    forced = configure(
        output={"force": True}, model=config.model, tile=None, strength=1.0, device="cpu", precision="fp32"
    )
    restore(place / "in.png", place / "out.png", config=forced)
    assert (place / "out.png").read_bytes() != b"precious"


def test_what_cannot_be_written_is_refused_before_any_work(place, config, monkeypatch):
    Image.fromarray(codes()).save(place / "in.png")
    with pytest.raises(UnwritableOutput, match=r"out\.heic: write one of"):
        restore(place / "in.png", place / "out.heic", config=config)
    with pytest.raises(UnwritableOutput, match="is not a folder"):
        restore(place / "in.png", place / "in.png" / "out.png", config=config)


def photos(folder: Path) -> None:
    """Three of different sizes and kinds, one that is none, one that is hidden."""
    folder.mkdir()
    Image.fromarray(codes(40, 60)).save(folder / "a.png")
    Image.fromarray(codes(60, 40, seed=1)).save(folder / "b.bmp")
    Image.fromarray(codes(33, 51, seed=2)).save(folder / "c.tif")
    (folder / "notes.txt").write_text("not a photo")
    (folder / ".hidden.png").write_bytes(b"")


def test_a_folder_of_photos_of_any_size_keeps_names_and_skips_what_is_finished(place, config):
    photos(place / "in")
    told = []
    done = restore(place / "in", place / "out", config=config, progress=lambda *words: told.append(words))
    assert [(each.output.name, each.status) for each in done] == [
        ("a.png", "done"), ("b.bmp", "done"), ("c.tif", "done"),
    ]  # fmt: skip
    assert sorted(path.name for path in (place / "out").iterdir()) == ["a.png", "b.bmp", "c.tif"]
    assert np.array_equal(np.asarray(Image.open(place / "out" / "a.png")), codes(40, 60) + STEP)
    assert told == [(0, 3), (1, 3), (1, 3), (1, 3)]
    (place / "out" / "b.bmp").unlink()
    before = (place / "out" / "a.png").stat().st_mtime_ns
    again = restore(place / "in", place / "out", config=config)
    assert [each.status for each in again] == ["skipped", "done", "skipped"]
    assert (place / "out" / "a.png").stat().st_mtime_ns == before


def test_one_bad_photo_stops_no_other(place, config):
    photos(place / "in")
    (place / "in" / "b.bmp").write_bytes(b"broken")
    done = restore(place / "in", place / "out", config=config)
    assert [each.status for each in done] == ["done", "failed", "done"]
    assert "b.bmp" in done[1].reason


def test_folders_that_cannot_serve_are_named(place, config):
    photos(place / "in")
    (place / "empty").mkdir()
    with pytest.raises(UnreadableMedia, match="empty: holds no photos"):
        restore(place / "empty", place / "out", config=config)
    with pytest.raises(UnwritableOutput, match="input folder itself"):
        restore(place / "in", place / "in", config=config)
    with pytest.raises(UnwritableOutput, match=r"a\.png: is a file"):
        restore(place / "in", place / "in" / "a.png", config=config)


def clip(path: Path, *, frames: int = 7) -> list[np.ndarray]:
    """FFV1 in RGB with odd times and a tone; its frames."""
    pictures = [codes(48, 64, seed=seed) for seed in range(frames)]
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "bgr0"
        audio = container.add_stream("pcm_s16le", rate=8000)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")
            frame.pts = number + (number > 3)  # one frame is shown for twice as long
            frame.time_base = Fraction(1, 25)
            container.mux(video.encode(frame))
        tone = (8000 * np.sin(np.arange(2560) / 3)).astype(np.int16)[None]
        sound = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        sound.sample_rate, sound.pts = 8000, 0
        container.mux(audio.encode(sound))
        for stream in (video, audio):
            container.mux(stream.encode(None))
    return pictures


def shown(path: Path) -> tuple[list[np.ndarray], list[float], bytes]:
    """Frames, their times, and the bytes of the sound."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux() if packet.stream.type == "audio"]
        sound = b"".join(bytes(packet) for packet in packets)
    return [frame.to_ndarray(format="rgb24") for frame in frames], [frame.time for frame in frames], sound


def test_every_frame_of_a_video_is_restored_and_time_and_sound_are_kept(place, config):
    pictures = clip(place / "in.mkv")
    (done,) = restore(place / "in.mkv", place / "out.mkv", config=config)
    assert done.verification is not None
    assert done.verification.passed
    _, times, sound = shown(place / "in.mkv")
    after, new_times, new_sound = shown(place / "out.mkv")
    for frame, picture in zip(after, pictures, strict=True):
        assert np.array_equal(frame, picture + STEP)
    assert new_times == times
    assert new_sound == sound
    assert sound


def test_a_network_that_enlarges_is_for_photos(place, monkeypatch):
    from freezeframe.models.registry import architectures as networks
    from freezeframe.models.registry.architectures import Architecture, Network

    class Twice(torch.nn.Module):
        def forward(self, codes):
            return codes.repeat_interleave(2, -1).repeat_interleave(2, -2)

    kind = Architecture(
        title="Twice", matches=lambda state: "twice" in state,
        read=lambda _state: Network(title="Twice", module=Twice(), scale=2),
    )  # fmt: skip
    monkeypatch.setattr(networks, "KNOWN_ARCHITECTURES", (kind,))
    torch.save({"twice": torch.zeros(1)}, place / "twice.pth")
    config = RestoreConfig(model=str(place / "twice.pth"), device="cpu", precision="fp32")
    clip(place / "in.mkv")
    with pytest.raises(FreezeframeError, match="2 times as large, and a video keeps its size"):
        restore(place / "in.mkv", place / "out.mkv", config=config)
    assert not (place / "out.mkv").exists()

    exif = Image.Exif()
    exif[0x8769] = {0xA002: 90, 0xA003: 60}
    alpha = np.zeros((60, 90, 1), np.uint8)
    alpha[:, 45:] = 255
    Image.fromarray(np.concatenate([codes(), alpha], 2)).save(place / "in.png", exif=exif)
    restore(place / "in.png", place / "out.png", config=config)
    with Image.open(place / "out.png") as out:
        told = out.getexif().get_ifd(0x8769)
        found = np.asarray(out)
    assert (told[0xA002], told[0xA003]) == (180, 120)
    assert np.array_equal(found[..., :3], codes().repeat(2, 0).repeat(2, 1))
    assert np.array_equal(found[..., 3][:, [0, 80, 100, 179]], np.tile([0, 0, 255, 255], (120, 1)))


def gently(seed: int) -> np.ndarray:
    """A picture that nothing ails."""
    rng = np.random.default_rng(seed)
    layers = [rng.uniform(60, 190, (12, 12, 3)).repeat(k, 0).repeat(k, 1)[:240, :240] for k in (20, 30)]
    return np.mean(layers, axis=0).round().astype(np.uint8)


def harmed(sigma: float = 25) -> np.ndarray:
    noise = np.random.default_rng(5).normal(0, sigma, (240, 240, 3))
    return np.clip(gently(0) + noise, 0, 255).round().astype(np.uint8)


def on_the_shelf(name: str) -> None:
    """`plus` under the file name of a release."""
    from freezeframe.models.store.catalog import CATALOGUE

    shelf.weights_folder().mkdir(parents=True, exist_ok=True)
    torch.save({"params": plus().state_dict()}, shelf.weights_folder() / CATALOGUE[name].file)


def without_refiner(monkeypatch) -> None:
    from dataclasses import replace

    monkeypatch.setattr(shelf, "REFINER", replace(shelf.REFINER, path=Path("nowhere.safetensors")))


def test_auto_gives_each_photo_of_a_folder_what_it_needs_and_says_why(place, monkeypatch):
    without_refiner(monkeypatch)
    on_the_shelf("restormer-color-noise25")
    (place / "in").mkdir()
    Image.fromarray(gently(0)).save(place / "in" / "a_sound.png")
    Image.fromarray(harmed()).save(place / "in" / "b_noisy.png")
    Image.fromarray(gently(1)).save(place / "in" / "c_coded.jpg", quality=12)
    sound, noisy, coded = restore(
        place / "in", place / "out", config=RestoreConfig(device="cpu", precision="fp32")
    )
    assert sound.reason == "no damage detected; copied unchanged"
    assert sound.output.read_bytes() == sound.source.read_bytes(), "the very file"
    assert "restormer-color-noise25" in noisy.reason
    assert "noise of 2" in noisy.reason
    assert coded.status == "failed"
    assert "JPEG of quality 12" in coded.reason
    assert "models fetch swinir-color-jpeg10" in coded.reason
    assert not coded.output.exists()


def test_auto_without_any_restorer_is_one_sentence(place, monkeypatch):
    without_refiner(monkeypatch)
    Image.fromarray(harmed()).save(place / "in.png")
    with pytest.raises(FreezeframeError, match="is installed; run: freezeframe models fetch"):
        restore(place / "in.png", place / "out.png", config=RestoreConfig(device="cpu"))


def test_auto_looks_at_several_frames_of_a_video(place, monkeypatch, write_clip):
    without_refiner(monkeypatch)
    on_the_shelf("restormer-color-noise25")
    write_clip(place / "in.mkv", [light_of(harmed()) for _ in range(3)])
    (done,) = restore(
        place / "in.mkv", place / "out.mkv", config=RestoreConfig(device="cpu", precision="fp32")
    )
    assert "restormer-color-noise25" in done.reason
    write_clip(place / "fine.mkv", [light_of(gently(0)) for _ in range(3)])
    (same,) = restore(place / "fine.mkv", place / "same.mkv", config=RestoreConfig(device="cpu"))
    assert same.reason == "no damage detected; copied unchanged"
    assert np.array_equal(shown(place / "same.mkv")[0], shown(place / "fine.mkv")[0])


def light_of(codes: np.ndarray) -> torch.Tensor:
    signal = torch.from_numpy(codes).permute(2, 0, 1) / 255
    return torch.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def test_a_model_that_is_not_here_is_told_before_any_work(place):
    Image.fromarray(codes()).save(place / "in.png")
    with pytest.raises(UnreadableMedia, match="models fetch swinir-color-noise25"):
        restore(place / "in.png", place / "out.png", config=RestoreConfig(model="swinir-color-noise25"))


@pytest.mark.parametrize("wrong", [{"strength": 1.5}, {"tile": 8}])
def test_impossible_wishes_are_refused(wrong):
    given = {"model": "auto", "tile": None, "strength": 1.0, "device": "cpu", "precision": "auto"} | wrong
    with pytest.raises(FreezeframeError, match=r"must lie between .* see --help"):
        configure(output={}, **given)


def test_the_command_writes_the_path_and_a_report(place, checkpoint):
    photos(place / "in")
    (place / "in" / "b.bmp").write_bytes(b"broken")
    report = place / "report.json"
    words = [
        "restore",
        place / "in",
        place / "out",
        "--model",
        checkpoint,
        "--device",
        "cpu",
        "--report",
        report,
    ]
    told = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert told.exit_code == 1, "one failed"
    assert told.stdout == f"{place / 'out'}\n"
    assert "2 done, 0 skipped, 1 failed" in told.stderr
    found = json.loads(report.read_text())["restored"]
    assert [each["status"] for each in found] == ["done", "failed", "done"]


def test_the_commands_error_is_one_sentence(place):
    words = ["restore", place / "absent.png", place / "out.png", "--model", "no-such"]
    told = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert told.exit_code == 2
    assert told.stderr.startswith("freezeframe: no-such: is neither a file nor a known model")
    assert len(told.stderr.splitlines()) == 1
