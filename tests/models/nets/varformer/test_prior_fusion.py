from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from freezeframe.models.nets.varformer.feature_enhancer import Enhance, MutualCurves, curve
from freezeframe.models.nets.varformer.prior_fusion import (
    AnchorAttention,
    Enhancement,
    GuideConfig,
    Prior,
    Selector,
)
from freezeframe.models.nets.varformer.swin_blocks import (
    Layer,
    WindowAttention,
    shift_mask,
    window_partition,
    window_reverse,
)


def randomised(network: nn.Module, seed: int = 0, spread: float = 0.1) -> nn.Module:
    """Every weight drawn at random, gains too: at their initial zero nothing would be tested."""
    generator = torch.Generator().manual_seed(seed)
    for value in network.parameters():
        value.requires_grad_(False).copy_(spread * torch.randn(value.shape, generator=generator))
    return network.eval()


def noise(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def naive_window_attention(attention: WindowAttention, window: Tensor) -> Tensor:
    heads, c = attention.heads, window.shape[1] // attention.heads
    parts = (window @ attention.qkv.weight.T + attention.qkv.bias).reshape(16, 3, heads, c)
    rows = []
    for i in range(16):
        row = []
        for h in range(heads):
            logits = []
            for j in range(16):
                place = (i // 4 - j // 4 + 3) * 7 + i % 4 - j % 4 + 3
                likeness = float(parts[i, 0, h] @ parts[j, 1, h]) / math.sqrt(c)
                logits.append(likeness + float(attention.relative_position_bias_table[place, h]))
            weights = [math.exp(logit) for logit in logits]
            row.append(sum(w * parts[j, 2, h] for j, w in enumerate(weights)) / sum(weights))
        rows.append(torch.cat(row))
    return torch.stack(rows) @ attention.proj.weight.T + attention.proj.bias


def test_window_attention_against_loops():
    attention = randomised(WindowAttention(6, heads=2), spread=0.5).double()
    windows = noise(1, 2, 16, 6, seed=16)
    expected = torch.stack([naive_window_attention(attention, window) for window in windows[0]])[None]
    torch.testing.assert_close(attention(windows, None), expected, atol=1e-12, rtol=0)


def test_windows_are_cut_and_joined():
    x = noise(2, 8, 12, 3, seed=17)
    windows = window_partition(x)
    assert torch.equal(windows[1, 4].reshape(4, 4, 3), x[1, 4:8, 4:8])
    assert torch.equal(window_reverse(windows, (8, 12)), x)


def test_the_mask_parts_what_only_the_shift_brought_together():
    """Pixels of a shifted window see each other where they were within four pixels before."""
    mask = shift_mask(12, 2)
    y, x = torch.meshgrid(torch.arange(12), torch.arange(12), indexing="ij")
    place = window_partition(torch.stack([y, x], dim=-1).roll((-2, -2), (0, 1))[None])[0]
    near = ((place[:, :, None] - place[:, None]).abs() < 4).all(-1)
    assert torch.equal(mask == 0, near)
    assert set(mask.unique().tolist()) == {0.0, -100.0}


@pytest.mark.parametrize("shift", [0, 2])
def test_a_layer_follows_whole_windows(shift):
    layer = randomised(Layer(6, heads=2, side=16, shift=shift), spread=0.3).double()
    layer.attn_mask = None  # without it, the picture is a torus and every window like any other
    x = noise(1, 16, 16, 6, seed=18)
    torch.testing.assert_close(
        layer(x.roll((4, 8), (1, 2))), layer(x).roll((4, 8), (1, 2)), atol=1e-12, rtol=0
    )
    assert not torch.allclose(layer(x.roll(1, 1)), layer(x).roll(1, 1), atol=1e-3)


LEVEL = GuideConfig(channels=32, side=8, heads=2, select=8, blend=8)


def test_the_weights_of_the_scales_add_up_to_one():
    selector = randomised(Selector(LEVEL, Prior(scales=10, channels=4)), spread=0.3)
    weights = selector.weights(noise(3, 32, 8, 8, dtype=torch.float32))
    assert weights.shape == (3, 10)
    assert bool((weights > 0).all())
    torch.testing.assert_close(weights.sum(1), torch.ones(3), atol=1e-6, rtol=0)


def test_the_norm_after_selection_takes_the_selection_back():
    """A quirk of the release: each channel is weighed and then brought to variance 1, whatever its weight."""
    selector = randomised(Selector(LEVEL, Prior(scales=3, channels=4)), spread=0.1).double()
    frozen_features, prior = noise(1, 32, 8, 8), noise(1, 3, 4, 4, 4, seed=19)
    even = selector(frozen_features, 100 * prior)
    before = selector.weights(frozen_features)
    selector.logits.bias.copy_(torch.tensor([1.0, 0, -1]))
    assert not torch.allclose(selector.weights(frozen_features), before, atol=0.1)
    # What is left of it is the norm's floor, 1e-5 against a variance of some hundreds.
    torch.testing.assert_close(selector(frozen_features, 100 * prior), even, atol=1e-6, rtol=0)
    assert not torch.allclose(selector(frozen_features, prior.flip(1)), even, atol=0.1)


def test_enhancement_lies_between_what_it_blends():
    blend = randomised(Enhancement(LEVEL), spread=0.3).double()
    x, prior = noise(1, 32, 8, 8), noise(1, 32, 8, 8, seed=21)
    out = blend(x, prior)
    assert bool((out >= torch.minimum(x, prior)).all())
    assert bool((out <= torch.maximum(x, prior)).all())
    for bias, expected in ((60.0, x), (-60.0, prior)):
        blend.logits.bias.copy_(torch.tensor([bias, -bias]))
        torch.testing.assert_close(blend(x, prior), expected, atol=1e-12, rtol=0)


def test_anchor_attention_is_two_attentions():
    transform = randomised(AnchorAttention(LEVEL), spread=0.4).double()
    x, prior = noise(1, 32, 8, 8), noise(1, 32, 8, 8, seed=22)
    query, source = transform.norm_q(x), transform.norm_kv(prior)
    anchors = transform.norm_a(transform.anchor(torch.cat([query, source], dim=1)))
    key, value = transform.kv(source).chunk(2, dim=1)
    asked, out = transform.q(query), torch.zeros_like(x)
    for h, head in enumerate((slice(0, 16), slice(16, 32))):
        a, k, v, q = (part[0, head].flatten(1).T for part in (anchors, key, value, asked))
        gathered = ((transform.scale_k[0, h] / 4) * (a @ k.T)).softmax(-1) @ v
        spread = ((transform.scale_q[0, h] / 4) * (q @ a.T)).softmax(-1) @ gathered
        out[0, head] = spread.T.reshape(16, 8, 8)
    assert anchors.shape == (1, 32, 2, 2)
    torch.testing.assert_close(transform(x, prior), x + transform.proj(out), atol=1e-12, rtol=0)


def test_curves_keep_black_and_white():
    ends = torch.tensor([-3.0, 0.0, 1.0, 7.0])
    assert curve(ends, torch.tensor(0.7)).tolist() == [0, 0, 1, 1]
    x = torch.linspace(0, 1, 33, dtype=torch.float64)
    assert torch.equal(curve(x, torch.zeros(())), x)
    assert bool((curve(x, torch.tensor(0.5))[1:-1] > x[1:-1]).all())
    once = x + 0.5 * (x - x**2)
    twice = once + 0.5 * (once - once**2)
    torch.testing.assert_close(curve(x, torch.tensor(0.5)), twice + 0.5 * (twice - twice**2))


def test_no_quarter_bends_itself():
    curves = randomised(MutualCurves(8), spread=0.5).double()
    x = noise(1, 8, 5, 5).sigmoid()
    other = x.clone()
    other[:, :2] = 0.5
    bends = [torch.cat([part[:, :2], part[:, 2:]], dim=1) for part in (curves(x), curves(other))]
    # Black stays black and white white whatever the bend, so the bend is read off where a quarter is 1/2.
    x[:, :2, 2, 2] = 0.5
    torch.testing.assert_close(curves(x)[:, :2, 2, 2], curves(other)[:, :2, 2, 2], atol=1e-12, rtol=0)
    assert not torch.allclose(bends[0][:, 2:], bends[1][:, 2:], atol=1e-4)


def test_a_fresh_enhancement_passes_its_input_on():
    x = noise(1, 8, 5, 5, dtype=torch.float32)
    assert torch.equal(Enhance(8)(x), x)
    assert not torch.allclose(randomised(Enhance(8), spread=0.5)(x), x, atol=1e-3)


def test_an_enhancement_against_its_equations():
    block = randomised(Enhance(8), spread=0.4).double()
    x = noise(1, 8, 7, 6)
    first, second = block.conv2(block.conv1(block.norm1(x))).chunk(2, dim=1)
    gated = first * second
    pooled = block.sca[1](gated.mean((2, 3), keepdim=True))
    middle = x + block.beta * block.conv3(pooled * block.lka(gated) * gated)
    first, second = block.curves(block.conv4(block.norm2(middle))).chunk(2, dim=1)
    expected = middle + block.gamma * block.conv5(first * second)
    torch.testing.assert_close(block(x), expected, atol=1e-12, rtol=0)


def test_the_large_kernel_reaches_eleven_pixels_each_way():
    kernel = randomised(Enhance(8), spread=0.4).lka.double()
    x = torch.zeros(1, 8, 31, 31, dtype=torch.float64)
    event = x.clone()
    event[..., 15, 15] = 1
    frozen_features = (kernel(event) - kernel(x)).abs().amax((0, 1)) > 0
    rows = frozen_features.any(1).nonzero().flatten()
    assert (int(rows[0]), int(rows[-1])) == (4, 26)
