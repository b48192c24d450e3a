"""Training of restorers: pairs depend on the seed, the loss is smallest at the truth, runs resume exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from freezeframe.cli import app
from freezeframe.data.synthesis.clips.clips import load_pictures
from freezeframe.data.synthesis.degradations.compose import KINDS
from freezeframe.models.deblur import refiner
from freezeframe.models.registry.architectures import read_network
from freezeframe.pipeline.training.loop import LoopConfig
from freezeframe.pipeline.training.objective import Schedule, is_matrix_weight
from freezeframe.pipeline.training.restorer import RestorerConfig, train_restorer
from freezeframe.pipeline.training.restorer_models import ARCHITECTURES, UnshuffledSwinIR
from freezeframe.pipeline.training.restorer_task import (
    PSNR_CAP_DB,
    DegradationSampling,
    RestorationTask,
    capped_psnr,
    harm_penalty,
    log_mse_loss,
    psnr_gains,
    random_crop,
)

TINY = refiner.NetConfig(widths=(16, 16, 16), down=(1, 1, 1), up=(1, 1))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(2):
        codes = np.random.default_rng(i).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        picture = Image.fromarray(codes).resize((160, 120), Image.Resampling.BICUBIC)
        picture.save(folder / f"{i}.png")
    return folder


@pytest.fixture
def small(monkeypatch):
    """The refiner with few channels."""
    monkeypatch.setitem(ARCHITECTURES, "refiner", lambda: refiner.Refiner(TINY))


# The cosine decay depends on the number of steps: a constant learning rate makes runs comparable.
CONSTANT = Schedule(warmup_steps=1, final_lr_ratio=1.0)


def run(photos, out, *, steps, batch_size=2, sampling=None):
    metrics = []
    config = RestorerConfig(
        batch_size=batch_size, patch_size=32, val_photos=photos, sampling=sampling or DegradationSampling(),
        loop=LoopConfig(steps=steps, lr=5e-4, val_interval=60, device="cpu", schedule=CONSTANT),
    )  # fmt: skip
    return train_restorer(photos, out, config=config, on_metrics=metrics.append), metrics


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_resuming_goes_on_to_the_bit(photos, tmp_path):
    run(photos, tmp_path / "whole", steps=4)
    run(photos, tmp_path / "halves", steps=2)
    run(photos, tmp_path / "halves", steps=4)
    whole, halves = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["network"]
        for name in ("whole", "halves")
    )
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


@pytest.mark.usefixtures("small")
def test_the_weights_are_recognised_and_restore(photos, tmp_path):
    weights, metrics = run(photos, tmp_path, steps=2)
    network = read_network(weights)
    assert network.title == "refiner"
    assert network.module(torch.rand(1, 3, 20, 24)).shape == (1, 3, 20, 24)
    assert set(metrics[0]) == {"step", "score", *KINDS}


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_noise_is_learned_to_be_taken_away(photos, tmp_path):
    """A hundred and twenty steps on noise alone gain more than a decibel."""
    sampling = DegradationSampling(kinds={"noise": 1.0}, val_crop_px=64)
    _, metrics = run(photos, tmp_path, steps=120, batch_size=4, sampling=sampling)
    assert metrics[-1]["noise"] > 1.0


def test_batches_depend_on_seed_and_step_alone(photos):
    def task(seed):
        return RestorationTask(
            torch.nn.Identity, load_pictures(photos), batch_size=4, patch_size=32, seed=seed
        )

    first = task(0).batch(3, rank=0)
    assert first.shape == (4, 6, 32, 32)
    assert torch.equal(first, task(0).batch(3, rank=0))
    for other in (task(0).batch(4, rank=0), task(0).batch(3, rank=1), task(1).batch(3, rank=0)):
        assert not torch.equal(first, other)


def test_a_cut_is_a_piece_of_the_picture_however_turned():
    """Every crop at full resolution holds pixels of the picture only."""
    picture = np.arange(40 * 50 * 3, dtype=np.int64).reshape(40, 50, 3)
    whole = (picture % 251).astype(np.uint8)
    pixels = {tuple(p) for p in whole.reshape(-1, 3)}
    rng = np.random.default_rng(0)
    is_crop = []
    for _ in range(20):
        patch = random_crop(rng, [whole], side=40)  # as large as fits: not downscaled
        is_crop.append({tuple(p) for p in patch.reshape(-1, 3)} <= pixels)
    assert sum(is_crop) >= 15  # some are synthetic patterns


def test_the_loss_is_least_at_the_truth_and_counts_ratios():
    truth = torch.full((2, 3, 16, 16), 0.5)
    losses = [float(log_mse_loss(truth + error, truth)) for error in (0.0, 0.01, 0.1, 0.3)]
    assert losses == sorted(losses)
    assert abs(losses[0] - (np.log(1e-4) + 20 * 0.01)) < 1e-5
    # One batch of two is the mean of two batches of one.
    mixed = log_mse_loss(truth + torch.tensor([0.0, 0.1])[:, None, None, None], truth)
    assert abs(float(mixed) - (losses[0] + losses[2]) / 2) < 1e-5


def test_whoever_changes_nothing_gains_nothing():
    photo = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    photo = (photo * 255).round() / 255

    class Identity(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, encoded):
            return encoded

    assert all(abs(gain) < 1e-9 for gain in psnr_gains(Identity(), [photo]).values())


def test_decibels_are_those_of_the_textbook():
    truth = torch.zeros(3, 8, 8)
    assert abs(capped_psnr(truth + 0.1, truth) - 20) < 1e-4
    assert capped_psnr(truth, truth) == PSNR_CAP_DB


@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
def test_all_begin_by_changing_nothing_and_have_about_a_million_parameters(arch):
    torch.manual_seed(0)
    network = ARCHITECTURES[arch]().eval()
    codes = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert (network(codes) - codes).abs().max() < 1e-6
    count = sum(p.numel() for p in network.parameters())
    assert 0.9e6 < count < (2.1e6 if arch == "refiner" else 1.2e6)
    # Muon optimises a large part of each: the least of HAIR, most of whose weights are sets of kernels.
    assert sum(p.numel() for name, p in network.named_parameters() if is_matrix_weight(name, p)) > 0.4 * count


def test_a_swinir_on_cells_is_not_taken_for_another():
    network = ARCHITECTURES["swinir"]()
    assert isinstance(network, UnshuffledSwinIR)
    assert all(name.startswith("inner.") for name in network.state_dict())


def test_the_command_says_what_it_lacks(tmp_path):
    for name in ("restorer", "fusion"):
        result = CliRunner().invoke(app, ["train", name, str(tmp_path / "none"), str(tmp_path / "out")])
        assert result.exit_code == 2
        assert "holds no photo" in result.output


def test_only_what_makes_worse_is_harm():
    truth = torch.full((2, 3, 8, 8), 0.5)
    degraded, better, worse = truth + 0.1, truth + 0.05, truth + 0.13
    assert float(harm_penalty(degraded, better, truth)) == 0
    assert float(harm_penalty(degraded, worse, truth)) == pytest.approx(0.03, abs=1e-6)
    assert float(harm_penalty(truth, truth + 0.01, truth)) == pytest.approx(0.01, abs=2e-4)
    assert float(harm_penalty(truth, truth, truth)) == 0
