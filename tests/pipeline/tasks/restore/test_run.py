"""Photos, folders and videos through a restorer with a known output."""

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
from freezeframe.models.store import weights_cache
from freezeframe.pipeline.tasks.restore.config import RestoreConfig, configure
from freezeframe.pipeline.tasks.restore.run import restore

STEP = 51  # 8-bit code values that the network adds: 0.2


def plus() -> NAFNet:
    """A NAFNet in the published layout that adds 0.2 to every value: all weights 0 but one bias."""
    network = NAFNet(NetConfig(width=4, encoders=(1,), middle=0, decoders=(0,))).requires_grad_(False)
    for value in network.parameters():
        value.zero_()
    network.ending.bias.fill_(STEP / 255)
    return network


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A folder of weights for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def checkpoint(folder) -> Path:
    path = folder / "plus.pth"
    torch.save({"params": plus().state_dict()}, path)
    return path


@pytest.fixture
def config(checkpoint) -> RestoreConfig:
    return RestoreConfig(model=str(checkpoint), device="cpu", precision="fp32")


def random_picture(height: int = 60, width: int = 90, seed: int = 0) -> np.ndarray:
    """[H, W, 3] uint8 that stays within 8 bits after `plus`."""
    return np.random.default_rng(seed).integers(10, 255 - STEP - 10, (height, width, 3), dtype=np.uint8)


def test_a_photo_is_restored_code_by_code(folder, config):
    Image.fromarray(random_picture()).save(folder / "in.png")
    results = restore(folder / "in.png", folder / "out.png", config=config)
    assert [each.status for each in results] == ["done"]
    assert np.array_equal(np.asarray(Image.open(folder / "out.png")), random_picture() + STEP)


def test_the_report_names_the_backend_that_ran(folder, checkpoint):
    """Of that photo: a photo that is passed through unchanged names none."""
    Image.fromarray(random_picture()).save(folder / "in.png")
    options = ["--model", str(checkpoint), "--device", "cpu", "--precision", "bf16", "--backend", "torch"]
    for strength, backends in (("1", {"restorer": "torch bf16"}), ("0", {})):
        report = folder / f"{strength}.json"
        words = [folder / "in.png", folder / f"{strength}.png", *options, "--strength", strength]
        done = CliRunner().invoke(cli.app, ["restore", *map(str, words), "--report", str(report)])
        assert done.exit_code == 0, done.output
        (restored,) = json.loads(report.read_text())["restored"]
        assert restored["backends"] == backends
    assert not list((folder / "cache").rglob("backends.json")), "a pinned run neither reads nor writes it"


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_strength_is_the_share_of_the_change_in_light(folder, config, strength):
    from dataclasses import replace

    Image.fromarray(random_picture()).save(folder / "in.png")
    restore(folder / "in.png", folder / "out.png", config=replace(config, strength=strength))

    def light(x):
        x = x / 255
        return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)

    before, after = light(random_picture()), light(np.asarray(Image.open(folder / "out.png")))
    expected = (1 - strength) * before + strength * light(random_picture() + STEP)
    # Half a code value, where the curve is steepest.
    assert np.abs(after - expected).max() < 0.5 / 255 * 2.4


def test_a_restorer_that_changed_nothing_is_not_said_to_have_restored(folder, config, write_clip):
    from dataclasses import replace

    idle = replace(config, strength=0.0)
    Image.fromarray(random_picture()).save(folder / "in.jpg", quality=90)
    write_clip(folder / "in.mkv", [to_linear(random_picture())] * 2)
    for name in ("in.jpg", "in.mkv"):
        (result,) = restore(folder / name, folder / f"out{name[2:]}", config=idle)
        assert result.reason == "plus changed nothing; file copied unchanged"
    assert (folder / "out.jpg").read_bytes() == (folder / "in.jpg").read_bytes(), "not coded anew"
    (result,) = restore(folder / "in.mkv", folder / "changed.mkv", config=config)
    assert result.reason == "restored with plus (as requested)"


def test_a_photo_has_no_times(folder, config):
    Image.fromarray(random_picture()).save(folder / "in.png")
    settings = configure(
        model="auto", tile=None, strength=1.0, device="cpu", precision="auto", output={"start": 1.0}
    )
    with pytest.raises(FreezeframeError, match="--start and --end are for videos"):
        restore(folder / "in.png", folder / "out.png", config=settings)


@pytest.mark.parametrize("tile", [64, 96])
def test_tiles_change_nothing(folder, config, tile):
    from dataclasses import replace

    Image.fromarray(random_picture(200, 300)).save(folder / "in.png")
    restore(folder / "in.png", folder / "out.png", config=replace(config, tile=tile))
    assert np.array_equal(np.asarray(Image.open(folder / "out.png")), random_picture(200, 300) + STEP)


def test_profile_exif_orientation_and_transparency_are_kept(folder, config):
    exif = Image.Exif()
    exif[0x0110] = "Some Camera"
    exif[0x0112] = 6  # to be turned by a quarter
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    alpha = np.random.default_rng(1).integers(0, 256, (60, 90, 1), dtype=np.uint8)
    image = Image.fromarray(np.concatenate([random_picture(), alpha], 2))
    image.save(folder / "in.png", exif=exif, icc_profile=profile)
    restore(folder / "in.png", folder / "out.png", config=config)
    with Image.open(folder / "out.png") as out:
        assert out.getexif()[0x0110] == "Some Camera"
        assert out.getexif().get(0x0112, 1) == 1, "it stands upright now"
        assert out.info["icc_profile"] == profile
        pixels = np.asarray(out)
    upright = np.rot90(np.concatenate([random_picture() + STEP, alpha], 2), -1)
    assert np.array_equal(pixels[..., 3], upright[..., 3])
    # The profile's own curve stands for sRGB's; a code of rounding.
    assert np.abs(pixels[..., :3].astype(int) - upright[..., :3]).max() <= 1


def test_sixteen_bits_stay_sixteen(folder, config):
    import cv2

    low_bits = np.random.default_rng(2).integers(0, 200, (60, 90, 3)).astype(np.uint16)
    deep = random_picture().astype(np.uint16) * 257 + low_bits
    cv2.imwrite(str(folder / "in.png"), deep[..., ::-1])
    restore(folder / "in.png", folder / "out.png", config=config)
    out = cv2.imread(str(folder / "out.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert out.dtype == np.uint16
    # float32 linear and back: some of 65,535 code values.
    assert np.abs(out.astype(int) - deep - STEP * 257).max() <= 8


def test_nothing_is_overwritten_unless_asked(folder, config):
    Image.fromarray(random_picture()).save(folder / "in.png")
    (folder / "out.png").write_bytes(b"precious")
    with pytest.raises(UnwritableOutput, match=r"out\.png: exists already"):
        restore(folder / "in.png", folder / "out.png", config=config)
    with pytest.raises(UnwritableOutput, match="input itself"):
        restore(folder / "in.png", folder / "in.png", config=config)
    assert (folder / "out.png").read_bytes() == b"precious"
    forced = configure(
        output={"force": True}, model=config.model, tile=None, strength=1.0, device="cpu", precision="fp32"
    )
    restore(folder / "in.png", folder / "out.png", config=forced)
    assert (folder / "out.png").read_bytes() != b"precious"


def test_what_cannot_be_written_is_refused_before_any_work(folder, config, monkeypatch):
    Image.fromarray(random_picture()).save(folder / "in.png")
    with pytest.raises(UnwritableOutput, match=r"out\.heic: write one of"):
        restore(folder / "in.png", folder / "out.heic", config=config)
    with pytest.raises(UnwritableOutput, match="is not a folder"):
        restore(folder / "in.png", folder / "in.png" / "out.png", config=config)


def write_photos(folder: Path) -> None:
    """Three photos of different sizes and formats, a text file, and a hidden file."""
    folder.mkdir()
    Image.fromarray(random_picture(40, 60)).save(folder / "a.png")
    Image.fromarray(random_picture(60, 40, seed=1)).save(folder / "b.bmp")
    Image.fromarray(random_picture(33, 51, seed=2)).save(folder / "c.tif")
    (folder / "notes.txt").write_text("not a photo")
    (folder / ".hidden.png").write_bytes(b"")


def test_a_folder_of_photos_of_any_size_keeps_names_and_skips_what_is_finished(folder, config):
    write_photos(folder / "in")
    calls = []
    results = restore(
        folder / "in", folder / "out", config=config, progress=lambda *words: calls.append(words)
    )
    assert [(each.output.name, each.status) for each in results] == [
        ("a.png", "done"), ("b.bmp", "done"), ("c.tif", "done"),
    ]  # fmt: skip
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["a.png", "b.bmp", "c.tif"]
    assert np.array_equal(np.asarray(Image.open(folder / "out" / "a.png")), random_picture(40, 60) + STEP)
    assert calls == [(0, 3), (1, 3), (1, 3), (1, 3)]
    (folder / "out" / "b.bmp").unlink()
    before = (folder / "out" / "a.png").stat().st_mtime_ns
    second_run = restore(folder / "in", folder / "out", config=config)
    assert [each.status for each in second_run] == ["skipped", "done", "skipped"]
    assert (folder / "out" / "a.png").stat().st_mtime_ns == before


def test_one_bad_photo_stops_no_other(folder, config):
    write_photos(folder / "in")
    (folder / "in" / "b.bmp").write_bytes(b"broken")
    results = restore(folder / "in", folder / "out", config=config)
    assert [each.status for each in results] == ["done", "failed", "done"]
    assert "b.bmp" in results[1].reason


def test_folders_that_cannot_serve_are_named(folder, config):
    write_photos(folder / "in")
    (folder / "empty").mkdir()
    with pytest.raises(UnreadableMedia, match="empty: holds no photos"):
        restore(folder / "empty", folder / "out", config=config)
    with pytest.raises(UnwritableOutput, match="input folder itself"):
        restore(folder / "in", folder / "in", config=config)
    with pytest.raises(UnwritableOutput, match=r"a\.png: is a file"):
        restore(folder / "in", folder / "in" / "a.png", config=config)


def write_video(path: Path, *, frames: int = 7) -> list[np.ndarray]:
    """FFV1 in RGB with odd times and a tone; its frames."""
    pictures = [random_picture(48, 64, seed=seed) for seed in range(frames)]
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


def decode(path: Path) -> tuple[list[np.ndarray], list[float], bytes]:
    """Frames, their times, and the bytes of the sound."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux() if packet.stream.type == "audio"]
        sound = b"".join(bytes(packet) for packet in packets)
    return [frame.to_ndarray(format="rgb24") for frame in frames], [frame.time for frame in frames], sound


def test_every_frame_of_a_video_is_restored_and_time_and_sound_are_kept(folder, config):
    pictures = write_video(folder / "in.mkv")
    (result,) = restore(folder / "in.mkv", folder / "out.mkv", config=config)
    assert result.verification is not None
    assert result.verification.passed
    _, times, sound = decode(folder / "in.mkv")
    after, new_times, new_sound = decode(folder / "out.mkv")
    for frame, picture in zip(after, pictures, strict=True):
        assert np.array_equal(frame, picture + STEP)
    assert new_times == times
    assert new_sound == sound
    assert sound


def test_a_network_that_enlarges_is_for_photos(folder, monkeypatch):
    from freezeframe.models.registry import architectures as networks
    from freezeframe.models.registry.architectures import Architecture, Network

    class Twice(torch.nn.Module):
        def forward(self, encoded):
            return encoded.repeat_interleave(2, -1).repeat_interleave(2, -2)

    kind = Architecture(
        title="Twice", matches=lambda state: "twice" in state,
        read=lambda _state: Network(title="Twice", module=Twice(), scale=2),
    )  # fmt: skip
    monkeypatch.setattr(networks, "KNOWN_ARCHITECTURES", (kind,))
    torch.save({"twice": torch.zeros(1)}, folder / "twice.pth")
    config = RestoreConfig(model=str(folder / "twice.pth"), device="cpu", precision="fp32")
    write_video(folder / "in.mkv")
    with pytest.raises(FreezeframeError, match="enlarges pictures 2 times, and a video keeps its size"):
        restore(folder / "in.mkv", folder / "out.mkv", config=config)
    assert not (folder / "out.mkv").exists()

    exif = Image.Exif()
    exif[0x8769] = {0xA002: 90, 0xA003: 60}
    alpha = np.zeros((60, 90, 1), np.uint8)
    alpha[:, 45:] = 255
    Image.fromarray(np.concatenate([random_picture(), alpha], 2)).save(folder / "in.png", exif=exif)
    restore(folder / "in.png", folder / "out.png", config=config)
    with Image.open(folder / "out.png") as out:
        exif_tags = out.getexif().get_ifd(0x8769)
        pixels = np.asarray(out)
    assert (exif_tags[0xA002], exif_tags[0xA003]) == (180, 120)
    assert np.array_equal(pixels[..., :3], random_picture().repeat(2, 0).repeat(2, 1))
    assert np.array_equal(pixels[..., 3][:, [0, 80, 100, 179]], np.tile([0, 0, 255, 255], (120, 1)))


def clean_picture(seed: int) -> np.ndarray:
    """A picture without degradation."""
    rng = np.random.default_rng(seed)
    layers = [rng.uniform(60, 190, (12, 12, 3)).repeat(k, 0).repeat(k, 1)[:240, :240] for k in (20, 30)]
    return np.mean(layers, axis=0).round().astype(np.uint8)


def noisy_picture(sigma: float = 25) -> np.ndarray:
    noise = np.random.default_rng(5).normal(0, sigma, (240, 240, 3))
    return np.clip(clean_picture(0) + noise, 0, 255).round().astype(np.uint8)


def install_release(name: str) -> None:
    """`plus` under the file name of a release."""
    from freezeframe.models.store.catalog import CATALOGUE

    weights_cache.weights_folder().mkdir(parents=True, exist_ok=True)
    torch.save({"params": plus().state_dict()}, weights_cache.weights_folder() / CATALOGUE[name].file)


def without_refiner(monkeypatch) -> None:
    from dataclasses import replace

    monkeypatch.setattr(
        weights_cache, "REFINER", replace(weights_cache.REFINER, path=Path("nowhere.safetensors"))
    )


def test_auto_gives_each_photo_of_a_folder_what_it_needs_and_says_why(folder, monkeypatch):
    without_refiner(monkeypatch)
    install_release("restormer-color-noise25")
    (folder / "in").mkdir()
    Image.fromarray(clean_picture(0)).save(folder / "in" / "a_sound.png")
    Image.fromarray(noisy_picture()).save(folder / "in" / "b_noisy.png")
    Image.fromarray(clean_picture(1)).save(folder / "in" / "c_coded.jpg", quality=12)
    sound, noisy, coded = restore(
        folder / "in", folder / "out", config=RestoreConfig(device="cpu", precision="fp32")
    )
    assert sound.reason == "No degradation found; file copied unchanged"
    assert sound.output.read_bytes() == sound.source.read_bytes(), "the very file"
    assert "restormer-color-noise25" in noisy.reason
    assert "noise of 2" in noisy.reason
    assert coded.status == "failed"
    assert "JPEG of quality 12" in coded.reason
    assert "models fetch swinir-color-jpeg10" in coded.reason
    assert not coded.output.exists()


def test_auto_without_any_restorer_is_one_sentence(folder, monkeypatch):
    without_refiner(monkeypatch)
    Image.fromarray(noisy_picture()).save(folder / "in.png")
    with pytest.raises(FreezeframeError, match="is installed; run: freezeframe models fetch"):
        restore(folder / "in.png", folder / "out.png", config=RestoreConfig(device="cpu"))


def test_auto_looks_at_several_frames_of_a_video(folder, monkeypatch, write_clip):
    without_refiner(monkeypatch)
    install_release("restormer-color-noise25")
    write_clip(folder / "in.mkv", [to_linear(noisy_picture()) for _ in range(3)])
    (result,) = restore(
        folder / "in.mkv", folder / "out.mkv", config=RestoreConfig(device="cpu", precision="fp32")
    )
    assert "restormer-color-noise25" in result.reason
    write_clip(folder / "fine.mkv", [to_linear(clean_picture(0)) for _ in range(3)])
    (same,) = restore(folder / "fine.mkv", folder / "same.mkv", config=RestoreConfig(device="cpu"))
    assert same.reason == "No degradation found; file copied unchanged"
    assert np.array_equal(decode(folder / "same.mkv")[0], decode(folder / "fine.mkv")[0])


def to_linear(encoded: np.ndarray) -> torch.Tensor:
    signal = torch.from_numpy(encoded).permute(2, 0, 1) / 255
    return torch.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def test_a_model_that_is_not_here_is_told_before_any_work(folder):
    Image.fromarray(random_picture()).save(folder / "in.png")
    with pytest.raises(UnreadableMedia, match="models fetch swinir-color-noise25"):
        restore(folder / "in.png", folder / "out.png", config=RestoreConfig(model="swinir-color-noise25"))


@pytest.mark.parametrize("wrong", [{"strength": 1.5}, {"tile": 8}])
def test_impossible_wishes_are_refused(wrong):
    fields = {"model": "auto", "tile": None, "strength": 1.0, "device": "cpu", "precision": "auto"} | wrong
    with pytest.raises(FreezeframeError, match=r"must lie between .* see --help"):
        configure(output={}, **fields)


def test_the_command_writes_the_path_and_a_report(folder, checkpoint):
    write_photos(folder / "in")
    (folder / "in" / "b.bmp").write_bytes(b"broken")
    report = folder / "report.json"
    words = [
        "restore",
        folder / "in",
        folder / "out",
        "--model",
        checkpoint,
        "--device",
        "cpu",
        "--report",
        report,
    ]
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert result.exit_code == 1, "one failed"
    assert result.stdout == f"{folder / 'out'}\n"
    assert "2 done, 0 skipped, 1 failed" in result.stderr
    body = json.loads(report.read_text())
    assert body["schema"] == 1
    entries = body["restored"]
    assert [each["status"] for each in entries] == ["done", "failed", "done"]


def test_the_commands_error_is_one_sentence(folder):
    words = ["restore", folder / "absent.png", folder / "out.png", "--model", "no-such"]
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert result.exit_code == 2
    assert result.stderr.startswith("freezeframe: no-such: is neither a file nor a known model")
    assert len(result.stderr.splitlines()) == 1
