"""Training of the fusion network: reproducible to the bit, resumable to the bit, and it learns."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from freezeframe.data.synthesis.clips.clips import synth_clip
from freezeframe.models.deblur.fusion_net import AFTER, BEFORE, BLUR_VECTOR, FRAME, build_network_input
from freezeframe.models.registry.bundled import read_network
from freezeframe.pipeline.commands.train import format_disk_usage
from freezeframe.pipeline.training import fusion_data
from freezeframe.pipeline.training.fusion import TrainConfig, train
from freezeframe.pipeline.training.fusion_data import (
    CLIPS_PER_SHARD,
    NUM_FLIPS,
    SAMPLE_CHANNELS,
    SHARD_BYTES,
    TRUTH,
    ShardPool,
    augment_flip,
    make_sample,
    permute_channels,
    prefetch_shards,
)
from freezeframe.pipeline.training.fusion_validation import masked_psnr
from freezeframe.pipeline.training.loop import LoopConfig
from freezeframe.pipeline.training.objective import (
    Schedule,
    charbonnier_spectral_loss,
    lr_schedule,
    mover_weights,
    sample_weights,
)

BACKWARDS = 3  # index of the flip in time


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    codes = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(codes).resize((300, 300), Image.Resampling.BICUBIC).save(folder / "one.png")
    return folder


@pytest.fixture(scope="module")
def shards(photos, tmp_path_factory):
    """Two shards of noise in the layout of real ones."""
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(1)
    held_out = [fusion_data.HELD_OUT_SHARD + k for k in range(3)]
    numbers = [0, 1, *held_out, *(fusion_data.HELD_OUT_MOVER_SHARD + k for k in range(2))]
    for number in numbers:
        noise = rng.random((CLIPS_PER_SHARD, SAMPLE_CHANNELS, 16, 16)).astype(np.float16)
        np.save(folder / f"clips_{number:05d}.npy", noise.repeat(16, 2).repeat(16, 3))
    return folder


def run(photos, shards_folder, out, *, steps, init_weights=None, schedule=None):
    out.mkdir(exist_ok=True)
    if not (out / "shards").exists():
        (out / "shards").symlink_to(shards_folder)
    config = TrainConfig(
        batch_size=2, patch_size=32, width=8, num_shards=2, workers=0, init_weights=init_weights,
        loop=LoopConfig(steps=steps, val_interval=60, device="cpu", schedule=schedule or Schedule()),
    )  # fmt: skip
    metrics, calls = [], []
    weights = train(
        photos, out, config=config, on_metrics=metrics.append, progress=lambda *call: calls.append(call)
    )
    stage = "rendering the first shards"
    assert calls[:3] == [(0, 2, stage), *[(1, 2, stage)] * 2]
    assert all(len(call) == 2 for call in calls[3:])
    return weights, metrics


@pytest.mark.slow
def test_resuming_goes_on_to_the_bit(photos, shards, tmp_path):
    # The cosine decay depends on the number of steps: a constant learning rate makes runs comparable.
    constant = Schedule(warmup_steps=1, final_lr_ratio=1.0)
    run(photos, shards, tmp_path / "whole", steps=6, schedule=constant)
    run(photos, shards, tmp_path / "halves", steps=3, schedule=constant)
    run(photos, shards, tmp_path / "halves", steps=6, schedule=constant)
    whole, halves = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["network"]
        for name in ("whole", "halves")
    )
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


def test_the_best_weights_are_written_in_half_precision_and_read_back(photos, shards, tmp_path):
    weights, metrics = run(photos, shards, tmp_path, steps=2)
    assert read_network(weights)
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == metrics[0]["step"] == 2


@pytest.mark.slow
def test_a_training_may_begin_where_another_ended(photos, shards, tmp_path):
    first, _ = run(photos, shards, tmp_path / "first", steps=30)
    weights, metrics = run(photos, shards, tmp_path / "second", steps=1, init_weights=first)
    before, after = (read_network(path).state_dict() for path in (first, weights))
    assert metrics[0]["step"] == 1
    # One step of the warm-up changes little; half precision rounds.
    assert all(torch.allclose(before[name], after[name], atol=2e-3, rtol=1e-2) for name in before)


@pytest.mark.slow
def test_a_network_can_learn_one_sample_by_heart(photos, shards, tmp_path):
    """Sixty steps on flat patches reduce the error."""
    _, metrics = run(photos, shards, tmp_path / "long", steps=60)
    assert metrics[-1]["clips"] + metrics[-1]["photos"] > 0.2  # dB


@pytest.mark.parametrize("which", range(NUM_FLIPS))
def test_turning_a_sample_turns_its_motion(which):
    """A pixel and its blur vector stay together; flipping twice is the identity."""
    piece = torch.rand(SAMPLE_CHANNELS, 8, 8)
    mirror = np.arange(NUM_FLIPS) == which
    once = augment_flip(piece, mirror=mirror)
    assert torch.equal(augment_flip(once, mirror=mirror), piece)
    x, y = piece[BLUR_VECTOR]
    expected = [
        torch.stack([-x.flip(1), y.flip(1)]),
        torch.stack([x.flip(0), -y.flip(0)]),
        torch.stack([y.T, x.T]),
        torch.stack([-x, -y]),
    ]
    assert torch.equal(once[BLUR_VECTOR], expected[which])
    before = piece[AFTER if which == BACKWARDS else BEFORE]
    moved = [before.flip(2), before.flip(1), before.transpose(1, 2), before]
    assert torch.equal(once[BEFORE], moved[which])


def test_recoloured_evidence_is_the_evidence_of_recoloured_frames():
    pictures, blur_vector, permutation = torch.rand(5, 3, 8, 8), torch.rand(2, 8, 8), np.array([2, 0, 1])
    truth, *frames = pictures
    plain = torch.cat(
        [build_network_input(frames, blur_vector=blur_vector, confidence=blur_vector[0]), truth]
    )
    truth, *frames = pictures[:, permutation]
    assert torch.equal(
        permute_channels(plain, permutation),
        torch.cat([build_network_input(frames, blur_vector=blur_vector, confidence=blur_vector[0]), truth]),
    )


def test_evidence_begins_with_the_recorded_frame_and_ends_with_the_truth():
    clip = next(c for c in (synth_clip(seed, [], side=64) for seed in range(20)) if len(c.frames) > 1)
    sample = make_sample(clip, seed=0)
    # Half precision: one part in two thousand, a quarter of an 8-bit code value.
    encoded = clip.frames[clip.middle].transpose(2, 0, 1) / 255
    assert np.abs(sample[FRAME] - encoded).max() < 1e-3
    assert np.abs(sample[TRUTH] - clip.truth.transpose(2, 0, 1) / 255).max() < 1e-3


def test_batches_depend_on_their_step_alone(photos, shards):
    pool = ShardPool(folder=shards, pictures=())
    draw = {"batch_size": 3, "patch_size": 16, "shards": range(2), "seed": 4}
    assert torch.equal(pool.batch(7, **draw), pool.batch(7, **draw))
    assert not torch.equal(pool.batch(7, **draw), pool.batch(8, **draw))


def test_another_seed_has_other_clips():
    def shard_numbers(seed):
        return set(TrainConfig(num_shards=400, loop=LoopConfig(seed=seed)).shard_numbers)

    one, other = shard_numbers(1), shard_numbers(2)
    assert len(one) == len(other) == 400
    assert not one & other
    # The largest seed of the command line leaves the held-out clips alone.
    assert max(shard_numbers(600)) * 10 * CLIPS_PER_SHARD < fusion_data.HELD_OUT_SEED
    with pytest.raises(ValueError, match="held-out"):
        TrainConfig(loop=LoopConfig(seed=625))


def test_a_training_says_how_much_disk_it_takes(shards, tmp_path):
    header = 128  # bytes, of NumPy's format
    assert (shards / "clips_00000.npy").stat().st_size == SHARD_BYTES + header
    text = format_disk_usage(tmp_path / "run" / "shards", 400 * SHARD_BYTES, option="--num-shards")
    assert "up to 16.8 GB of disk" in text
    assert "GB are free" in text


@pytest.mark.slow
def test_shards_made_by_other_processes_are_the_same(photos, tmp_path):
    with prefetch_shards(photos, tmp_path / "ahead", [0], workers=1):
        pass
    ahead = np.load(ShardPool(folder=tmp_path / "ahead", pictures=fusion_data.load_pictures(photos)).make(0))
    here = np.load(ShardPool(folder=tmp_path / "here", pictures=fusion_data.load_pictures(photos)).make(0))
    assert np.array_equal(ahead, here)


def test_the_loss_is_least_at_the_truth():
    truth = torch.rand(1, 3, 32, 32)
    assert (
        charbonnier_spectral_loss(truth, truth)
        < charbonnier_spectral_loss(truth + 0.01, truth)
        < charbonnier_spectral_loss(truth + 0.1, truth)
    )


def test_patches_that_were_nearly_right_count_more():
    truth = torch.rand(3, 3, 32, 32)
    start = truth + torch.tensor([0.0, 0.05, 0.2]).reshape(3, 1, 1, 1)
    weights = sample_weights(start, truth)
    assert weights[0] > weights[1] > weights[2]
    assert float(weights[1] / weights[2]) == pytest.approx(2, rel=0.1)  # four times the error
    # Equal weights change nothing.
    assert torch.allclose(
        charbonnier_spectral_loss(start, truth, torch.full((3,), 7.0)),
        charbonnier_spectral_loss(start, truth),
    )


def test_pixels_of_movers_count_more_and_all_count_one_on_average():
    movers = torch.zeros(2, 1, 32, 32)
    movers[0, :, :8, :8] = 1
    weights = mover_weights(movers, ratio=4.0)
    assert float(weights.mean()) == pytest.approx(1, abs=1e-6)
    assert float(weights.max() / weights.min()) == pytest.approx(4)
    truth = torch.rand(2, 3, 32, 32)
    inside, outside = (truth + 0.1 * mask for mask in (movers, movers.flip(-1)))
    inside_loss, outside_loss = (
        charbonnier_spectral_loss(output, truth, pixel_weights=weights) for output in (inside, outside)
    )
    assert inside_loss > 1.5 * outside_loss
    # Without movers the weights change nothing.
    assert torch.equal(
        charbonnier_spectral_loss(outside, truth, pixel_weights=mover_weights(0 * movers, ratio=4.0)),
        charbonnier_spectral_loss(outside, truth),
    )


def test_a_gain_inside_is_that_of_the_pixels_of_the_mask():
    """Errors of 10 and 20 code values are 20 log10(255 / error) dB."""
    truth, mask = torch.full((3, 8, 8), 100 / 255), torch.zeros(1, 8, 8)
    mask[..., :4] = 1
    image = truth + torch.where(mask > 0, 20 / 255, 10 / 255)
    assert masked_psnr(image, truth, mask) == pytest.approx(20 * math.log10(255 / 20), abs=1e-4)
    assert masked_psnr(image, truth, 1 - mask) == pytest.approx(20 * math.log10(255 / 10), abs=1e-4)
    assert masked_psnr(image, truth) == pytest.approx(10 * math.log10(255**2 / 250), abs=1e-4)


def test_held_out_shards_show_all_or_no_small_movers():
    shares = [
        fusion_data.mover_share(number)
        for number in (0, fusion_data.HELD_OUT_SHARD, fusion_data.HELD_OUT_MOVER_SHARD)
    ]
    assert shares == [fusion_data.MOVER_SHARE, 0, 1]


def test_the_pace_warms_up_and_falls():
    rates = [lr_schedule(step, 1000) for step in range(1000)]
    assert rates[0] < 0.01
    assert max(rates) == max(rates[150:250])
    assert rates[-1] < 0.02
