"""The benchmark on methods with known results, and the command `bench`."""

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
from freezeframe.data.datasets.paired import FrameSequence, PairedDataset, folder_pair
from freezeframe.data.errors import FreezeframeError
from freezeframe.data.metrics.image import psnr_srgb
from freezeframe.data.srgb import linear_to_srgb, srgb_to_linear
from freezeframe.models.nets.nafnet import NAFNet, NetConfig
from freezeframe.models.restorer.image_restorer import load_restorer
from freezeframe.pipeline.bench.classical import deconvolve_tiled, motion_psf, richardson_lucy, wiener
from freezeframe.pipeline.bench.methods import (
    GROUND_TRUTH,
    INPUT,
    estimate_blur_vectors,
    methods_for,
    read,
    unsharp_mask,
    write,
)
from freezeframe.pipeline.bench.run import Benchmark, bench, claim_results, open_pairs, stage_frames
from freezeframe.pipeline.config import Config

PAN = (6.0, 0.0)  # pixels per frame interval
SHUTTER = 0.8


@pytest.fixture(scope="module")
def pairs(film: Callable[..., Tensor], tmp_path_factory: pytest.TempPathFactory) -> PairedDataset:
    """Two sequences of a panned scene, of four frames and of one."""
    root = tmp_path_factory.mktemp("pairs")
    for name, count in (("clip", 4), ("photo", 1)):
        for kind, shutter in (("blur", SHUTTER), ("sharp", 0.0)):
            (root / kind / name).mkdir(parents=True)
            for i, image in enumerate(film(PAN, range(count), shutter=shutter)):
                write(root / kind / name / f"{i:02d}.png", linear_to_srgb(image))
    return folder_pair(root / "blur", root / "sharp")


def copied(source: Path, output: Path) -> None:
    shutil.copytree(source, output)


def perfect(pairs: PairedDataset) -> Callable[[Path, Path], None]:
    def restore(source: Path, output: Path) -> None:
        output.mkdir()
        count = len(list(source.iterdir()))
        sequence = next(sequence for sequence in pairs.sequences if len(sequence.blurred) == count)
        for number, (truth,) in enumerate(sequence.truths):
            shutil.copyfile(truth, output / f"{number:06d}.png")

    return restore


@pytest.fixture(scope="module")
def benchmark(pairs: PairedDataset) -> Benchmark:
    return bench(pairs, {"copy": copied, "perfect": perfect(pairs)})


def test_a_copy_scores_as_the_input_and_the_truth_as_the_truth(benchmark: Benchmark) -> None:
    costs = {"seconds", "megabytes"}
    for method, row in (("copy", INPUT), ("perfect", GROUND_TRUTH)):
        figures = {name: value for name, value in benchmark.rows[method].items() if name not in costs}
        assert figures == pytest.approx(benchmark.rows[row])
    assert benchmark.rows[GROUND_TRUTH]["ssim"] == pytest.approx(1)
    assert benchmark.rows[GROUND_TRUTH]["tof"] == 0
    assert benchmark.rows[GROUND_TRUTH]["sharpness"] == pytest.approx(1)
    assert benchmark.rows[INPUT]["worst"] == 0
    assert benchmark.rows[INPUT]["sharpness"] < 0.9


def test_sequences_count_alike_however_long(pairs: PairedDataset, benchmark: Benchmark) -> None:
    """Mean per sequence, then over sequences: the single photo weighs as much as the clip."""
    means = [
        np.mean(
            [psnr_srgb(read(b), read(t)) for b, (t,) in zip(sequence.blurred, sequence.truths, strict=True)]
        )
        for sequence in pairs.sequences
    ]
    assert benchmark.rows[INPUT]["psnr"] == pytest.approx(float(np.mean(means)))


def test_a_photo_has_no_figures_of_motion(benchmark: Benchmark) -> None:
    photo, clip = benchmark.sequences["photo"][INPUT], benchmark.sequences["clip"][INPUT]
    assert not {"tof", "warping", "flicker"} & set(photo)
    assert {"tof", "warping", "flicker"} <= set(clip)
    assert clip["warping"] == 1


def test_of_many_truths_the_best_counts(pairs: PairedDataset) -> None:
    """A trajectory on which the blurred frame itself lies is met perfectly."""
    photo = pairs.sequences[-1]
    many = FrameSequence(name="x", blurred=photo.blurred, truths=((*photo.truths[0], *photo.blurred),))
    benchmark = bench(PairedDataset(name="x", sequences=(many,), comparison="best_of_many"), {})
    assert benchmark.rows[INPUT]["psnr"] == 100
    assert benchmark.rows[INPUT]["ssim"] == pytest.approx(1)


def test_results_are_saved_and_the_page_needs_no_other_file(benchmark: Benchmark, tmp_path: Path) -> None:
    benchmark.save(claim_results(tmp_path / "out", force=False))
    saved = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert saved["schema"] == 1
    assert saved["methods"]["copy"]["psnr"] == pytest.approx(benchmark.rows["copy"]["psnr"])
    assert len(saved["per_frame"]["clip"]["copy"]) == 4
    table = (tmp_path / "out" / "bench.md").read_text()
    assert "| copy |" in table
    assert "nan" not in table
    page = (tmp_path / "out" / "compare.html").read_text()
    assert page.count("<img ") == page.count('src="data:image/png;base64,') >= 8
    assert "http" not in page


def test_a_kernel_is_what_an_open_shutter_makes_of_a_point() -> None:
    psf = motion_psf(torch.tensor([5.0, 0.0]))
    assert psf.sum() == pytest.approx(1)
    middle = psf[len(psf) // 2]
    assert middle[middle > 0] == pytest.approx(0.2)


@pytest.mark.parametrize("deconvolve", [wiener, richardson_lucy])
def test_textbook_deconvolution_undoes_a_known_pan(deconvolve, film: Callable[..., Tensor], steady) -> None:
    """Along the true blur vector every tile gains; across it none does."""
    pytest.importorskip("skimage")
    truth = film(PAN, [0])[0]
    blur_vectors = steady((7.0, 0.0))
    blurred = blur(truth, blur_vectors)
    gains = [
        psnr_srgb(
            linear_to_srgb(deconvolve_tiled(blurred, each, deconvolve=deconvolve)), linear_to_srgb(truth)
        )
        - psnr_srgb(linear_to_srgb(blurred), linear_to_srgb(truth))
        for each in (blur_vectors, blur_vectors.flip(0))
    ]
    assert gains[0] > 1
    assert gains[1] < 0


def test_without_motion_nothing_is_deconvolved(film: Callable[..., Tensor], steady) -> None:
    """But for the rounding of the cross-fade."""
    image = film(PAN, [0])[0]
    assert torch.allclose(deconvolve_tiled(image, steady((0.0, 0.5)), deconvolve=wiener), image, atol=1e-6)


def test_measured_ways_follow_the_pan(film: Callable[..., Tensor]) -> None:
    """The scene moves by PAN, and its blur is the shutter's part of that: within half a pixel."""
    frames = list(film(PAN, range(3)))
    along = list(estimate_blur_vectors(frames, shutter=0.5))
    assert len(along) == 3
    for image, (same_image, blur_vectors) in zip(frames, along, strict=True):
        assert same_image is image
        middle = blur_vectors[:, 24:-24, 24:-24].flatten(1).median(1).values
        assert middle.tolist() == pytest.approx([0.5 * PAN[0], 0], abs=0.5)


def test_a_flat_picture_has_nothing_to_unsharp() -> None:
    flat = srgb_to_linear(np.full((32, 32, 3), 90, np.uint8))
    assert torch.equal(unsharp_mask(flat), flat)


def test_what_to_judge_must_be_clear(tmp_path: Path) -> None:
    with pytest.raises(FreezeframeError, match="no reference folder given"):
        open_pairs(tmp_path, None, name=None, split=None, photos=False)
    with pytest.raises(FreezeframeError, match="own truth"):
        open_pairs(tmp_path, tmp_path, name="gopro", split=None, photos=False)


def test_the_command_writes_its_table_and_replaces_none(pairs: PairedDataset, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    photo = pairs.sequences[-1]
    folders = [str(path.parent) for path in (photo.blurred[0], photo.truths[0][0])]
    line = ["bench", *folders, "--network", "none", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli.app, line)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'out' / 'compare.html'}\n"
    for row in ("input", "unsharp_mask", "wiener", "richardson_lucy", "no_network", "ground_truth"):
        assert row in result.stderr
    again = CliRunner().invoke(cli.app, line)
    assert again.exit_code == 2
    assert "--force" in again.stderr


def test_a_truth_of_another_size_is_refused_before_any_work(tmp_path: Path) -> None:
    for kind, size in (("blur", 32), ("sharp", 64)):
        (tmp_path / kind).mkdir()
        write(tmp_path / kind / "1.png", np.zeros((size, size, 3), np.uint8))
    with pytest.raises(FreezeframeError, match="64x64, its blurred frame 32x32"):
        bench(folder_pair(tmp_path / "blur", tmp_path / "sharp"), {"copy": copied})


def test_a_rival_is_judged_by_itself(pairs: PairedDataset, tmp_path: Path) -> None:
    """Random weights; every frame as the checkpoint by itself restores it, rounded to 8 bits."""
    pytest.importorskip("skimage")
    network = NAFNet(NetConfig(width=8, encoders=(1, 1), middle=1, decoders=(1, 1))).requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for value in network.parameters():
        value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    checkpoint = tmp_path / "rival.pth"
    torch.save({"params": network.state_dict()}, checkpoint)
    config = Config(device="cpu", precision="fp32")
    restore = methods_for(config, restorer=checkpoint)["rival_alone"]
    sequence = pairs.sequences[0]
    restore(stage_frames(sequence, tmp_path / "in"), tmp_path / "out")
    alone = load_restorer(checkpoint, device="cpu", precision="fp32")
    for number, path in enumerate(sequence.blurred):
        expected = linear_to_srgb(alone(srgb_to_linear(read(path))[None])[0])
        assert np.array_equal(read(tmp_path / "out" / f"{number:06d}.png"), expected)
        assert not np.array_equal(expected, read(path))
