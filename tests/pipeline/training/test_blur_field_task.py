"""The training task of the blur field: pictures and fields turn together, and a few steps lower the loss."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from freezeframe.data.blur.blocks import block_upsample
from freezeframe.data.blur.operator import blur
from freezeframe.pipeline.training.blur_field_task import BlurFieldTask, split_batch, turn
from freezeframe.pipeline.training.blur_field_validation import BlurCase, blur_field_metrics


def task(folder, *, batch_size=2):
    return BlurFieldTask(pictures=[], folder=folder, batch_size=batch_size, num_shards=4, seed=0)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("mirror", [(False, False), (True, False), (False, True), (True, True)])
def test_to_blur_and_to_turn_commute(transpose, mirror):
    random = torch.Generator().manual_seed(0)
    picture = torch.rand(3, 32, 32, generator=random)
    label = torch.tensor([5.0, 2.0, 0.0])[:, None, None].expand(3, 8, 8)
    way = partial(turn, transpose=transpose, mirror=np.array(mirror))
    turned, turned_label = way(picture, label)
    one = blur(turned, block_upsample(turned_label[:2], (32, 32)))
    other, _ = way(blur(picture, block_upsample(label[:2], (32, 32))), label)
    assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.slow
def test_a_batch_is_a_matter_of_its_seed_and_begins_with_even_blur(tmp_path):
    batch = task(tmp_path).batch(3, rank=0)
    assert torch.equal(batch, task(tmp_path).batch(3, rank=0))
    assert not torch.equal(batch, task(tmp_path).batch(4, rank=0))
    encoded, vectors, radius = split_batch(batch)
    assert encoded.shape == (2, 3, 128, 128)
    assert radius.shape == (2, 32, 32)
    spread = vectors.amax((2, 3)) - vectors.amin((2, 3))
    assert float(spread.abs().max()) < 1e-2
    assert len(list(tmp_path.iterdir())) == 1  # shards of fields are not needed yet


@pytest.mark.slow
def test_a_few_steps_lower_the_loss(tmp_path):
    some = task(tmp_path, batch_size=4)
    torch.manual_seed(0)
    network, batch = some.network(), some.batch(0, rank=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = some.loss(network, batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_an_untrained_network_neither_finds_vectors_nor_gains(tmp_path):
    torch.manual_seed(0)
    case = BlurCase.of(torch.rand(3, 64, 64), torch.full((2, 64, 64), 5.0))
    metrics = blur_field_metrics(task(tmp_path).network().eval(), {"even": [case]})
    assert metrics["even_vectors"] < 0.2
    assert metrics["even_gain"] == pytest.approx(0, abs=0.2)
