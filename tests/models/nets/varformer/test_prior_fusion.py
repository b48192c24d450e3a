from __future__ import annotations

import pytest
import torch

from freezeframe.models.nets.blocks import window_attention
from freezeframe.models.nets.varformer import swin_blocks
from freezeframe.models.nets.varformer.feature_enhancer import Enhance, MutualCurves, curve
from freezeframe.models.nets.varformer.prior_fusion import (
    AnchorAttention,
    Enhancement,
    GuideConfig,
    Prior,
    Selector,
)
from freezeframe.models.nets.varformer.swin_blocks import Group
from tests.support.weights import normal, random_weights


def test_groups_attend_by_the_formula():
    """Torch's own function rounds otherwise than the one of `window_attention`, and is no other function."""
    q, k, v = normal(3, 7, 2, 16, 5)
    bias = normal(2, 16, 16, seed=2)
    formula = window_attention.attend(q, k, v, bias)
    torch.testing.assert_close(swin_blocks.attend(q, k, v, bias), formula, atol=1e-13, rtol=0)


@pytest.mark.parametrize("side", [4, 12])
def test_a_group_holds_what_the_files_hold(side):
    """An index in both layers, a mask in the shifted one, none where the image is a single window."""
    buffers = dict(Group(6, heads=2, side=side).named_buffers())
    masks = [value for key, value in buffers.items() if key.endswith("attn_mask")]
    indices = [value for key, value in buffers.items() if key.endswith("relative_position_index")]
    assert [tuple(mask.shape) for mask in masks] == ([(9, 16, 16)] if side > 4 else [])
    assert [tuple(index.shape) for index in indices] == [(16, 16), (16, 16)]
    assert all(torch.equal(mask, window_attention.full_shift_mask((12, 12), 4)) for mask in masks)


def test_only_the_second_layer_is_shifted():
    """Unshifted windows and the convolution carry row 5 to rows 3 to 8; the shift carries it on."""
    group = random_weights(Group(6, heads=2, side=12), scale=0.3).double()
    x = normal(1, 6, 12, 12)
    event = x.clone()
    event[0, :, 5, 5] = normal(6, seed=2)
    moved = (group(event) - group(x)).abs().amax((0, 1))
    # Windows from 4 to 7, then from 2 to 5 and from 6 to 9, then a pixel more.
    rows = (moved > 0).any(1).nonzero().flatten()
    assert (int(rows[0]), int(rows[-1])) == (1, 10)


LEVEL = GuideConfig(channels=32, side=8, heads=2, select=8, blend=8)


def test_the_weights_of_the_scales_add_up_to_one():
    selector = random_weights(Selector(LEVEL, Prior(scales=10, channels=4)), scale=0.3)
    weights = selector.weights(normal(3, 32, 8, 8, dtype=torch.float32))
    assert weights.shape == (3, 10)
    assert bool((weights > 0).all())
    torch.testing.assert_close(weights.sum(1), torch.ones(3), atol=1e-6, rtol=0)


def test_the_norm_after_selection_takes_the_selection_back():
    """A quirk of the release: each channel is weighed and then brought to variance 1, whatever its weight."""
    selector = random_weights(Selector(LEVEL, Prior(scales=3, channels=4)), scale=0.1).double()
    frozen_features, prior = normal(1, 32, 8, 8), normal(1, 3, 4, 4, 4, seed=19)
    even = selector(frozen_features, 100 * prior)
    before = selector.weights(frozen_features)
    selector.logits.bias.copy_(torch.tensor([1.0, 0, -1]))
    assert not torch.allclose(selector.weights(frozen_features), before, atol=0.1)
    # What is left of it is the norm's floor, 1e-5 against a variance of some hundreds.
    torch.testing.assert_close(selector(frozen_features, 100 * prior), even, atol=1e-6, rtol=0)
    assert not torch.allclose(selector(frozen_features, prior.flip(1)), even, atol=0.1)


def test_enhancement_lies_between_what_it_blends():
    blend = random_weights(Enhancement(LEVEL), scale=0.3).double()
    x, prior = normal(1, 32, 8, 8), normal(1, 32, 8, 8, seed=21)
    out = blend(x, prior)
    assert bool((out >= torch.minimum(x, prior)).all())
    assert bool((out <= torch.maximum(x, prior)).all())
    for bias, expected in ((60.0, x), (-60.0, prior)):
        blend.logits.bias.copy_(torch.tensor([bias, -bias]))
        torch.testing.assert_close(blend(x, prior), expected, atol=1e-12, rtol=0)


def test_anchor_attention_is_two_attentions():
    transform = random_weights(AnchorAttention(LEVEL), scale=0.4).double()
    x, prior = normal(1, 32, 8, 8), normal(1, 32, 8, 8, seed=22)
    query, source = transform.norm_q(x), transform.norm_kv(prior)
    anchors = transform.norm_a(transform.anchor(torch.cat([query, source], dim=1)))
    key, value = transform.kv(source).chunk(2, dim=1)
    projected, out = transform.q(query), torch.zeros_like(x)
    for h, head in enumerate((slice(0, 16), slice(16, 32))):
        a, k, v, q = (part[0, head].flatten(1).T for part in (anchors, key, value, projected))
        anchor_values = ((transform.scale_k[0, h] / 4) * (a @ k.T)).softmax(-1) @ v
        transferred = ((transform.scale_q[0, h] / 4) * (q @ a.T)).softmax(-1) @ anchor_values
        out[0, head] = transferred.T.reshape(16, 8, 8)
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
    curves = random_weights(MutualCurves(8), scale=0.5).double()
    x = normal(1, 8, 5, 5).sigmoid()
    other = x.clone()
    other[:, :2] = 0.5
    bends = [torch.cat([part[:, :2], part[:, 2:]], dim=1) for part in (curves(x), curves(other))]
    # Black stays black and white white whatever the bend, so the bend is read off where a quarter is 1/2.
    x[:, :2, 2, 2] = 0.5
    torch.testing.assert_close(curves(x)[:, :2, 2, 2], curves(other)[:, :2, 2, 2], atol=1e-12, rtol=0)
    assert not torch.allclose(bends[0][:, 2:], bends[1][:, 2:], atol=1e-4)


def test_a_fresh_enhancement_passes_its_input_on():
    x = normal(1, 8, 5, 5, dtype=torch.float32)
    assert torch.equal(Enhance(8)(x), x)
    assert not torch.allclose(random_weights(Enhance(8), scale=0.5)(x), x, atol=1e-3)


def test_an_enhancement_against_its_equations():
    block = random_weights(Enhance(8), scale=0.4).double()
    x = normal(1, 8, 7, 6)
    first, second = block.conv2(block.conv1(block.norm1(x))).chunk(2, dim=1)
    gated = first * second
    pooled = block.sca[1](gated.mean((2, 3), keepdim=True))
    middle = x + block.beta * block.conv3(pooled * block.lka(gated) * gated)
    first, second = block.curves(block.conv4(block.norm2(middle))).chunk(2, dim=1)
    expected = middle + block.gamma * block.conv5(first * second)
    torch.testing.assert_close(block(x), expected, atol=1e-12, rtol=0)


def test_the_large_kernel_reaches_eleven_pixels_each_way():
    kernel = random_weights(Enhance(8), scale=0.4).lka.double()
    x = torch.zeros(1, 8, 31, 31, dtype=torch.float64)
    event = x.clone()
    event[..., 15, 15] = 1
    frozen_features = (kernel(event) - kernel(x)).abs().amax((0, 1)) > 0
    rows = frozen_features.any(1).nonzero().flatten()
    assert (int(rows[0]), int(rows[-1])) == (4, 26)
