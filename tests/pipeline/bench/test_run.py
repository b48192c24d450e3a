"""The benchmark's arithmetic on methods whose result is known, and the command as a user meets it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from freezeframe import cli
from freezeframe.data.blur.operator import blur
from freezeframe.data.datasets.paired import Pairs, Take, folder_pair
from freezeframe.data.errors import FreezeframeError
from freezeframe.data.metrics.image import psnr_codes, srgb_codes
from freezeframe.data.metrics.temporal import light_of
from freezeframe.models.nets.nafnet import Layout, NAFNet
from freezeframe.models.restorer.load import load_restorer
from freezeframe.pipeline.bench.classical import along_motion, kernel, richardson_lucy, wiener
from freezeframe.pipeline.bench.methods import INPUT, TRUTH, methods_for, read, unsharp, ways, write
from freezeframe.pipeline.bench.run import Benchmark, bench, claims_in, pairs_of, staged
from freezeframe.pipeline.config import Config

PAN = (6.0, 0.0)  # pixels per frame interval
SHUTTER = 0.8


@pytest.fixture(scope="module")
def pairs(film: Callable[..., Tensor], tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    """Two sequences of a panned scene, of four frames and of one."""
    root = tmp_path_factory.mktemp("pairs")
    for name, count in (("clip", 4), ("photo", 1)):
        for kind, shutter in (("blur", SHUTTER), ("sharp", 0.0)):
            (root / kind / name).mkdir(parents=True)
            for i, image in enumerate(film(PAN, range(count), shutter=shutter)):
                write(root / kind / name / f"{i:02d}.png", srgb_codes(image))
    return folder_pair(root / "blur", root / "sharp")


def copied(source: Path, output: Path) -> None:
    shutil.copytree(source, output)


def perfect(pairs: Pairs) -> Callable[[Path, Path], None]:
    def restore(source: Path, output: Path) -> None:
        output.mkdir()
        count = len(list(source.iterdir()))
        take = next(take for take in pairs.takes if len(take.blurred) == count)
        for number, (truth,) in enumerate(take.truths):
            shutil.copyfile(truth, output / f"{number:06d}.png")

    return restore


@pytest.fixture(scope="module")
def found(pairs: Pairs) -> Benchmark:
    return bench(pairs, {"copy": copied, "perfect": perfect(pairs)})


def test_a_copy_scores_as_the_input_and_the_truth_as_the_truth(found: Benchmark) -> None:
    costs = {"seconds", "megabytes"}
    for method, row in (("copy", INPUT), ("perfect", TRUTH)):
        figures = {name: value for name, value in found.rows[method].items() if name not in costs}
        assert figures == pytest.approx(found.rows[row])
    assert found.rows[TRUTH]["ssim"] == pytest.approx(1)
    assert found.rows[TRUTH]["tof"] == 0
    assert found.rows[TRUTH]["sharpness"] == pytest.approx(1)
    assert found.rows[INPUT]["worst"] == 0
    assert found.rows[INPUT]["sharpness"] < 0.9


def test_sequences_count_alike_however_long(pairs: Pairs, found: Benchmark) -> None:
    """Mean per sequence, then over sequences: the single photo weighs as much as the clip."""
    means = [
        np.mean([psnr_codes(read(b), read(t)) for b, (t,) in zip(take.blurred, take.truths, strict=True)])
        for take in pairs.takes
    ]
    assert found.rows[INPUT]["psnr"] == pytest.approx(float(np.mean(means)))


def test_a_photo_has_no_figures_of_motion(found: Benchmark) -> None:
    photo, clip = found.takes["photo"][INPUT], found.takes["clip"][INPUT]
    assert not {"tof", "warping", "flicker"} & set(photo)
    assert {"tof", "warping", "flicker"} <= set(clip)
    assert clip["warping"] == 1


def test_of_many_truths_the_best_counts(pairs: Pairs) -> None:
    """A trajectory on which the blurred frame itself lies is met perfectly."""
    photo = pairs.takes[-1]
    many = Take(name="x", blurred=photo.blurred, truths=((*photo.truths[0], *photo.blurred),))
    found = bench(Pairs(name="x", takes=(many,), rule="best of many"), {})
    assert found.rows[INPUT]["psnr"] == 100
    assert found.rows[INPUT]["ssim"] == pytest.approx(1)


def test_results_are_saved_and_the_page_needs_no_other_file(found: Benchmark, tmp_path: Path) -> None:
    found.save(claims_in(tmp_path / "out", force=False))
    told = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert told["methods"]["copy"]["psnr"] == pytest.approx(found.rows["copy"]["psnr"])
    assert len(told["every frame"]["clip"]["copy"]) == 4
    table = (tmp_path / "out" / "bench.md").read_text()
    assert "| copy |" in table
    assert "nan" not in table
    page = (tmp_path / "out" / "compare.html").read_text()
    assert page.count("<img ") == page.count('src="data:image/png;base64,') >= 8
    assert "http" not in page


def test_a_kernel_is_what_an_open_shutter_makes_of_a_point() -> None:
    spread = kernel(torch.tensor([5.0, 0.0]))
    assert spread.sum() == pytest.approx(1)
    middle = spread[len(spread) // 2]
    assert middle[middle > 0] == pytest.approx(0.2)


@pytest.mark.parametrize("undo", [wiener, richardson_lucy])
def test_textbook_deconvolution_undoes_a_known_pan(undo, film: Callable[..., Tensor], steady) -> None:
    """Along the true way every tile gains; across it none does."""
    pytest.importorskip("skimage")
    truth = film(PAN, [0])[0]
    way = steady((7.0, 0.0))
    blurred = blur(truth, way)
    gains = [
        psnr_codes(srgb_codes(along_motion(blurred, each, undo=undo)), srgb_codes(truth))
        - psnr_codes(srgb_codes(blurred), srgb_codes(truth))
        for each in (way, way.flip(0))
    ]
    assert gains[0] > 1
    assert gains[1] < 0


def test_without_motion_nothing_is_deconvolved(film: Callable[..., Tensor], steady) -> None:
    """But for the rounding of the cross-fade."""
    image = film(PAN, [0])[0]
    assert torch.allclose(along_motion(image, steady((0.0, 0.5)), undo=wiener), image, atol=1e-6)


def test_measured_ways_follow_the_pan(film: Callable[..., Tensor]) -> None:
    """The scene moves by PAN, and its blur is the shutter's part of that: within half a pixel."""
    frames = list(film(PAN, range(3)))
    along = list(ways(frames, shutter=0.5))
    assert len(along) == 3
    for image, (seen, way) in zip(frames, along, strict=True):
        assert seen is image
        middle = way[:, 24:-24, 24:-24].flatten(1).median(1).values
        assert middle.tolist() == pytest.approx([0.5 * PAN[0], 0], abs=0.5)


def test_a_flat_picture_has_nothing_to_unsharp() -> None:
    flat = light_of(np.full((32, 32, 3), 90, np.uint8))
    assert torch.equal(unsharp(flat), flat)


def test_what_to_judge_must_be_clear(tmp_path: Path) -> None:
    with pytest.raises(FreezeframeError, match="no reference folder given"):
        pairs_of(tmp_path, None, name=None, split=None, photos=False)
    with pytest.raises(FreezeframeError, match="own truth"):
        pairs_of(tmp_path, tmp_path, name="gopro", split=None, photos=False)


def test_the_command_writes_its_table_and_replaces_none(pairs: Pairs, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    photo = pairs.takes[-1]
    folders = [str(path.parent) for path in (photo.blurred[0], photo.truths[0][0])]
    line = ["bench", *folders, "--network", "none", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli.app, line)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'out' / 'compare.html'}\n"
    for row in ("do nothing", "unsharp mask", "Wiener", "Richardson-Lucy", "no network", "the truth itself"):
        assert row in done.stderr
    again = CliRunner().invoke(cli.app, line)
    assert again.exit_code == 2
    assert "--force" in again.stderr


def test_a_truth_of_another_size_is_refused_before_any_work(tmp_path: Path) -> None:
    for kind, size in (("blur", 32), ("sharp", 64)):
        (tmp_path / kind).mkdir()
        write(tmp_path / kind / "1.png", np.zeros((size, size, 3), np.uint8))
    with pytest.raises(FreezeframeError, match="64x64, its blurred frame 32x32"):
        bench(folder_pair(tmp_path / "blur", tmp_path / "sharp"), {"copy": copied})


def test_a_rival_is_judged_by_itself(pairs: Pairs, tmp_path: Path) -> None:
    """Random weights; every frame as the checkpoint alone restores it, rounded to codes."""
    pytest.importorskip("skimage")
    network = NAFNet(Layout(width=8, encoders=(1, 1), middle=1, decoders=(1, 1))).requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for value in network.parameters():
        value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    checkpoint = tmp_path / "rival.pth"
    torch.save({"params": network.state_dict()}, checkpoint)
    config = Config(device="cpu", precision="fp32")
    restore = methods_for(config, restorer=checkpoint)["rival alone"]
    take = pairs.takes[0]
    restore(staged(take, tmp_path / "in"), tmp_path / "out")
    alone = load_restorer(checkpoint, device="cpu", precision="fp32")
    for number, path in enumerate(take.blurred):
        expected = srgb_codes(alone(light_of(read(path))[None])[0])
        assert np.array_equal(read(tmp_path / "out" / f"{number:06d}.png"), expected)
        assert not np.array_equal(expected, read(path))
