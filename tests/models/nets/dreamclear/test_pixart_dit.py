from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from freezeframe.models.nets.dreamclear.controlnet import (
    Comparison,
    Conditions,
    DreamClearNet,
    Mixture,
)
from freezeframe.models.nets.dreamclear.pixart_dit import (
    Block,
    Caption,
    Context,
    PixArt,
    sine_positions,
    timestep_embedding,
)
from tests.support.dreamclear import SIZES, TINY, make_caption, make_conditions, randomised, tiny_network
from tests.support.weights import normal


def test_numbers_as_waves_against_loops():
    numbers = torch.tensor([0.0, 7.0, 999.0])
    expected = [
        [f(number * 10000 ** (-i / 128)) for f in (math.cos, math.sin) for i in range(128)]
        for number in numbers.tolist()
    ]
    # float32 angles of up to 999 radians are known to 3e-5.
    np.testing.assert_allclose(timestep_embedding(numbers).numpy(), expected, atol=1e-4)


def test_positions_against_loops():
    actual = sine_positions((2, 3), width=8, grid=4)[0]
    for n in range(6):
        row, column = divmod(n, 3)
        expected = []
        for place in (column * 4 / 3 / 2, row * 4 / 2 / 2):
            angles = [place * 10000 ** (-i / 2) for i in range(2)]
            expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        np.testing.assert_allclose(actual[n].numpy(), expected, atol=1e-7)


def test_a_picture_twice_as_large_has_the_same_positions_in_between():
    small, large = (sine_positions((n, n), width=12, grid=4)[0].reshape(n, n, 12) for n in (4, 8))
    torch.testing.assert_close(large[::2, ::2], small)


def naive_layer_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def naive_heads(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention from one image's tokens [N, C] to [M, C], head by head."""
    heads = []
    for first in range(0, query.shape[1], 72):
        q, k, v = (part[:, first : first + 72] for part in (query, key, value))
        heads.append((q @ k.T / math.sqrt(72)).softmax(-1) @ v)
    return torch.cat(heads, dim=1)


def naive_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def naive_block(block: Block, x: Tensor, weights: Tensor, text: Tensor) -> Tensor:
    """One image [N, C]; `text` holds only tokens that are there."""

    def dense(layer: nn.Linear, value: Tensor) -> Tensor:
        return value @ layer.weight.T + layer.bias

    shift1, scale1, gain1, shift2, scale2, gain2 = block.scale_shift_table + weights
    query, key, value = dense(block.attn.qkv, naive_layer_norm(x) * (1 + scale1) + shift1).chunk(3, dim=1)
    x = x + gain1 * dense(block.attn.proj, naive_heads(query, key, value))
    key, value = dense(block.cross_attn.kv_linear, text).chunk(2, dim=1)
    x = x + dense(block.cross_attn.proj, naive_heads(dense(block.cross_attn.q_linear, x), key, value))
    hidden = naive_gelu(dense(block.mlp.fc1, naive_layer_norm(x) * (1 + scale2) + shift2))
    return x + gain2 * dense(block.mlp.fc2, hidden)


def test_a_block_against_a_second_one_written_in_loops():
    block = randomised(Block(144), scale=0.3).double()
    x, weights, text = normal(2, 5, 144), normal(2, 6, 144, seed=2), normal(2, 6, 144, seed=3)
    present = torch.tensor([[True] * 4 + [False] * 2, [True] + [False] * 5])
    context = Context(level=normal(2, 144), weights=weights, text=text, present=present)
    actual = block(x, context)
    for i, tokens in enumerate((4, 1)):
        expected = naive_block(block, x[i], weights[i], text[i, :tokens])
        torch.testing.assert_close(actual[i], expected, atol=1e-10, rtol=0)


def test_padding_of_a_caption_is_not_read():
    network, conditions = tiny_network(), make_conditions()
    other = conditions.caption.features.clone()
    other[:, 4:] = 100
    changed = replace(conditions, caption=replace(conditions.caption, features=other))
    latent, level = normal(1, 4, 8, 8), torch.tensor([500])
    assert torch.equal(network(latent, level, conditions), network(latent, level, changed))
    other[:, 3] = 100
    assert not torch.allclose(network(latent, level, conditions), network(latent, level, changed), atol=1e-3)


def test_tokens_are_put_back_where_they_were_taken():
    """A final layer that returns each token's number fills that token's pixels with it."""
    network = randomised(PixArt(SIZES)).double()
    numbers = torch.arange(6.0, dtype=torch.float64)

    def number_tokens(x: Tensor, level: Tensor) -> Tensor:
        pixels = numbers[:, None, None] * 10 + torch.arange(4.0).double()[:, None] + torch.zeros(8).double()
        return pixels.flatten(1)[None]

    network.final_layer.forward = number_tokens
    actual = network.finish(
        normal(1, 6, 144), network.context(torch.tensor([1]), make_caption()), normal(1, 4, 4, 6)
    )
    assert actual.shape == (1, 8, 4, 6)
    expected = interpolate(numbers.reshape(1, 1, 2, 3) * 10, scale_factor=2)[0, 0]
    inside = torch.tensor([[0.0, 1.0], [2.0, 3.0]], dtype=torch.float64).repeat(2, 3)
    assert torch.equal(actual[0, 5], expected + inside)


def test_fresh_control_leaves_the_base_model_unchanged():
    """ControlConfig starts at zero, so training starts from PixArt, bit for bit."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = DreamClearNet(SIZES, TINY.control).double().eval().requires_grad_(False)
    conditions, latent, level = make_conditions(), normal(1, 4, 8, 8), torch.tensor([400])
    assert torch.equal(
        network(latent, level, conditions), network.base_model(latent, level, conditions.caption)
    )
    network.am_pre[0].proj_add.bias.add_(0.1)
    assert not torch.allclose(
        network(latent, level, conditions), network.base_model(latent, level, conditions.caption)
    )


def test_the_weights_of_the_mixture_add_up_to_one():
    mixture = randomised(Mixture(144, TINY.control), scale=0.5)
    weights = mixture.weights(normal(2, 5, 144, dtype=torch.float32))
    assert weights.shape == (2, 5, 3)
    assert bool((weights > 0).all())
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 5), atol=1e-6, rtol=0)


def test_the_mixture_is_the_weighed_mean_of_its_experts():
    mixture = randomised(Mixture(144, TINY.control), scale=0.3).double()
    x, difference = normal(1, 5, 144), normal(1, 5, 144, seed=2)
    weights = mixture.weights(difference)
    outputs = [expert(x) for expert in mixture.experts]
    for i, actual in enumerate(mixture(x, difference)):
        expected = sum(weights[..., j : j + 1] * output[i] for j, output in enumerate(outputs))
        torch.testing.assert_close(actual, expected, atol=1e-12, rtol=0)
    mixture.gate[2].bias.copy_(torch.tensor([0.0, 80.0, 0.0]))
    torch.testing.assert_close(mixture(x, difference)[0], outputs[1][0], atol=1e-12, rtol=0)


def naive_comparison(layer: Comparison, degraded: Tensor, coarse_tokens: Tensor) -> Tensor:
    def dense(linear: nn.Linear, value: Tensor) -> Tensor:
        return value @ linear.weight.T + linear.bias

    def norm(linear: nn.LayerNorm, value: Tensor) -> Tensor:
        variance, mean = torch.var_mean(value, -1, keepdim=True, correction=0)
        return (value - mean) / (variance + 1e-5).sqrt() * linear.weight + linear.bias

    key, value = dense(layer.kv_linear, norm(layer.norm2, coarse_tokens)).chunk(2, dim=1)
    return naive_heads(dense(layer.q_linear, norm(layer.norm1, degraded)), key, value)


@pytest.mark.parametrize("crossing", ["correct", "released"])
def test_comparison_against_loops(crossing):
    """Released, tokens of both images of a batch attend to each other as if they were of one."""
    layer = randomised(Comparison(144), scale=0.3).double()
    degraded, pre = normal(2, 4, 144), normal(2, 4, 144, seed=2)
    if crossing == "correct":
        actual = torch.stack([naive_comparison(layer, *pair) for pair in zip(degraded, pre, strict=True)])
    else:
        actual = naive_comparison(layer, degraded.flatten(0, 1), pre.flatten(0, 1)).reshape(2, 4, 144)
    change, difference = layer(degraded, pre, crossing=crossing)
    expected = actual @ layer.proj.weight.T + layer.proj.bias
    torch.testing.assert_close(change, expected, atol=1e-10, rtol=0)
    expected = actual @ layer.de_proj.weight.T + layer.de_proj.bias
    torch.testing.assert_close(difference, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("crossing", "alone"), [("correct", True), ("released", False)])
def test_pictures_of_a_batch_meet_only_as_released(crossing, alone):
    network = tiny_network(crossing=crossing)
    latent, level, conditions = normal(2, 4, 8, 8), torch.tensor([300, 300]), make_conditions(batch=2)
    first = Conditions(
        degraded=conditions.degraded[:1],
        coarse=conditions.coarse[:1],
        caption=Caption(features=conditions.caption.features[:1], present=conditions.caption.present[:1]),
    )
    together, single = network(latent, level, conditions)[:1], network(latent[:1], level[:1], first)
    assert torch.allclose(together, single, atol=1e-10) == alone


def test_the_control_against_its_equations():
    """Which of the two images goes where, with what sign, and after which block."""
    network, conditions = tiny_network(), make_conditions()
    latent, level = normal(1, 4, 8, 8), torch.tensor([250])
    base = network.base_model
    context = base.context(level, conditions.caption)
    places = sine_positions((4, 4), width=144, grid=4).double()
    x = base.x_embedder(latent) + places
    low = network.x_embedder_lq(latent) + places + network.c_embedder_lq(conditions.degraded)
    pre = network.x_embedder_pre(latent) + places + network.c_embedder_pre(conditions.coarse)
    for i in range(2):
        x = base.blocks[i](x, context)
        low = network.controlnet_lq[i].copied_block(low, context)
        pre = network.controlnet_pre[i].copied_block(pre, context)
        actual = naive_comparison(network.cross_de[i], low[0], pre[0])[None]
        x = x + network.cross_de[i].proj(actual)
        gelu = naive_gelu(network.am_pre[i].shared_proj(pre))
        x = (1 + network.am_pre[i].proj_mul(gelu)) * x + network.am_pre[i].proj_add(gelu)
        scale, shift = network.am_lq[i](low, network.cross_de[i].de_proj(actual))
        x = (1 + scale) * x + shift
    x = base.blocks[2](x, context)  # the last is not steered here: it has no copy
    expected = base.finish(x, context, latent)
    torch.testing.assert_close(network(latent, level, conditions), expected, atol=1e-10, rtol=0)
