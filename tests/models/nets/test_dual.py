"""Dual transformers: lossless subbands, one estimate per band, attention biased by it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.models.nets.dual import haar as bands
from freezeframe.models.nets.dual import model as dual
from freezeframe.models.nets.dual.model import Attention, Dformer, Dual, NetConfig, align_subbands

TINY = NetConfig(width=8, blocks=2, heads=2, estimate=8, layers=1)


def network(config=TINY, *, seed=0):
    torch.manual_seed(seed)
    model = Dual(config).eval()
    with torch.no_grad():
        for head in model.heads:
            torch.nn.init.normal_(head.weight, std=0.05)
    return model.requires_grad_(False)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 6), columns=st.integers(1, 6), seed=st.integers(0, 99))
def test_the_split_is_lossless_and_keeps_energy(rows, columns, seed):
    torch.manual_seed(seed)
    image = torch.rand(2, 3, 4 * rows, 4 * columns, dtype=torch.float64)
    subbands = bands.dwt2(image)
    assert (bands.idwt2(subbands) - image).abs().max() < 1e-14  # rounding of float64
    energy = sum(part.square().sum() for part in (subbands.low, subbands.mid, subbands.high))
    assert abs(float(energy / image.square().sum()) - 1) < 1e-12


def test_the_split_is_the_haar_transform_of_the_textbook():
    """Against products with the four 2 x 2 patterns, square by square."""
    image = torch.rand(1, 1, 8, 8)
    patterns = (
        torch.tensor([[[1, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]]) / 2
    )
    subbands = bands.dwt2(image)
    for y in range(4):
        for x in range(4):
            square = image[0, 0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            expected = (patterns[1:] * square).sum((1, 2))
            assert torch.allclose(subbands.high[0, :, y, x], expected, atol=1e-6)
    assert torch.allclose(subbands.low[0, 0] / 4, torch.nn.functional.avg_pool2d(image, 4)[0, 0], atol=1e-6)


@pytest.mark.parametrize(("period", "band"), [(2, "high"), (4, "mid"), (64, "low")])
def test_stripes_lie_in_the_band_of_their_period(period, band):
    """Square waves of 2 and 4 pixels are Haar's own patterns; a slow ramp is nearly all means."""
    x = torch.arange(64)
    line = (x % period < period // 2).float() - 0.5 if period < 8 else torch.cos(2 * math.pi * x / period)
    subbands = bands.dwt2(line.expand(1, 1, 64, 64).contiguous())
    energies = {name: float(getattr(subbands, name).square().sum()) for name in ("low", "mid", "high")}
    assert energies[band] > 0.95 * sum(energies.values())


@pytest.mark.parametrize("band", [0, 1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_what_happens_to_one_band_moves_its_own_estimate_most(band, seed):
    torch.manual_seed(seed)
    dformer = Dformer(TINY).requires_grad_(False)
    parts = align_subbands(bands.dwt2(torch.rand(1, 3, 64, 64) - 0.5))
    worse = [part + 0.3 * torch.randn_like(part) * (i == band) for i, part in enumerate(parts)]
    moved = (dformer(worse) - dformer(parts)).square().mean((0, 2, 3, 4))
    others = [float(moved[i]) for i in range(3) if i != band]
    assert float(moved[band]) > 3 * max(others)
    assert max(others) > 0  # attention mixes the bands


def test_an_estimate_is_of_its_place():
    """Noise in one corner leaves the estimate of the opposite corner unchanged."""
    dformer = Dformer(TINY).requires_grad_(False)
    image = torch.rand(1, 3, 128, 128) - 0.5
    worse = image.clone()
    worse[..., :32, :32] += 0.3 * torch.randn(3, 32, 32)
    moved = (dformer(align_subbands(bands.dwt2(worse))) - dformer(align_subbands(bands.dwt2(image)))).abs()
    assert moved[..., :2, :2].max() > 1e-3
    assert moved[..., 4:, 4:].max() == 0


def test_attention_is_what_its_formula_says():
    """softmax(q k / sqrt(d) + bias of the key's band) v, written out for one window, head by head."""
    torch.manual_seed(0)
    layer = Attention(TINY).requires_grad_(False)
    x, degradation = torch.randn(1, 24, 4, 4), torch.randn(1, 3, 8, 1, 1)
    embedding = torch.stack([layer.told(degradation[0, b, :, 0, 0]) for b in range(3)])
    tokens = layer.norm(x[0].view(3, 8, 4, 4).permute(0, 2, 3, 1)) + embedding[:, None, None]
    pooled = tokens.view(3, 2, 2, 2, 2, 8).mean((2, 4)).reshape(12, 8)
    q, (k, v) = layer.query(tokens).reshape(48, 8), layer.answer(pooled).chunk(2, dim=-1)
    bias = torch.stack([layer.bias(degradation[0, b, :, 0, 0]) for b in range(3)]).repeat_interleave(4, dim=0)
    mixed = [
        (q[:, h] @ k[:, h].T / 2 + bias[:, i]).softmax(-1) @ v[:, h]
        for i, h in enumerate((slice(0, 4), slice(4, 8)))
    ]
    expected = layer.proj(torch.cat(mixed, dim=-1)).view(3, 4, 4, 8).permute(0, 3, 1, 2).reshape(1, 24, 4, 4)
    assert (layer(x, degradation) - expected).abs().max() < 1e-5


def test_attention_goes_to_the_band_that_the_estimate_points_at():
    """With a bias that is large for one band, only changes of that band reach the others."""
    torch.manual_seed(0)
    layer = Attention(TINY).requires_grad_(False)
    layer.bias.weight.copy_(torch.zeros(2, 8).index_fill(1, torch.tensor([0]), 1.0))
    degradation = torch.zeros(1, 3, 8, 1, 1)
    degradation[0, 1, 0] = 40.0
    layer.told.weight.zero_()
    x = torch.randn(1, 24, 4, 4)

    def change_of_low(band):
        other = x.clone()
        other[:, 8 * band : 8 * band + 8] = torch.randn(1, 8, 4, 4)
        return float((layer(other, degradation) - layer(x, degradation))[:, :8].abs().max())

    assert change_of_low(1) > 1e-3
    assert change_of_low(2) < 1e-6


def test_windows_hold_neighbours_and_come_back():
    x = torch.arange(2 * 3 * 2 * 8 * 12.0).view(2, 6, 8, 12)
    tokens = dual.window_partition(x)
    assert tokens.shape == (2 * 2 * 3, 3, 16, 2)
    assert set(tokens[4, 1, :, 0].tolist()) == set(x[0, 2, 4:8, 4:8].flatten().tolist())
    assert set(tokens[4, 1, :4, 0].tolist()) == set(x[0, 2, 4:6, 4:6].flatten().tolist())
    assert torch.equal(dual.window_reverse(tokens, rows=2, columns=3), x)


def test_shifted_by_whole_windows_it_answers_shifted():
    image = torch.rand(1, 3, 160, 160)
    model = network()
    whole, part = model(image), model(image[..., 16:, 32:])
    # Farther from the new edge than anything reaches: 4 windows and the convolutions on either side.
    assert (whole[..., 112:, 128:] - part[..., 96:, 96:]).abs().max() < 1e-5


def test_an_untrained_network_changes_nothing():
    encoded = torch.rand(1, 3, 32, 32)
    assert torch.equal(Dual(TINY)(encoded), encoded)


def test_the_small_one_has_about_a_million_parameters():
    with torch.device("meta"):
        assert 0.9e6 < sum(p.numel() for p in Dual(NetConfig()).parameters()) < 1.1e6
