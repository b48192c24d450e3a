from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import interpolate

from freezeframe.data.errors import FreezeframeError
from freezeframe.models import dreamclear
from freezeframe.models.checkpoint import unwrap
from freezeframe.models.dreamclear import RELEASED, DreamClear, Layout, Settings, detect, load, read_layout
from freezeframe.models.dreamclear_color import coarse, fix_color
from freezeframe.models.dreamclear_control import Comparison, Conditions, Control, DreamClearNet, Mixture
from freezeframe.models.dreamclear_denoise import denoiser, doubled, in_bells
from freezeframe.models.dreamclear_dit import (
    Block,
    Caption,
    Context,
    PixArt,
    Transformer,
    sine_positions,
    waves,
)
from freezeframe.models.dreamclear_sampling import (
    Schedule,
    ddim_step,
    ddpm_step,
    denoised,
    guided,
    noised,
    sample,
    schedule,
)

SIZES = Transformer(width=144, depth=3, patch=2, latent=4, caption=(6, 10), grid=4)
TINY = Layout(transformer=SIZES, control=Control(blocks=2, modulator=12, experts=3, gate=8))


def noise(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def randomised(network: nn.Module, seed: int = 0, spread: float = 0.1) -> nn.Module:
    """Every weight drawn at random: what starts at zero would test nothing."""
    for i, value in enumerate((*network.parameters(), *network.buffers())):
        value.requires_grad_(False).copy_(spread * noise(*value.shape, seed=1000 * seed + i))
    return network.eval()


def tiny(*, crossing: str = "correct") -> DreamClearNet:
    return randomised(DreamClearNet(SIZES, TINY.control, crossing=crossing)).double()


def caption(batch: int = 1, *, tokens: int = 4, seed: int = 5) -> Caption:
    present = torch.arange(6).expand(batch, -1) < tokens
    return Caption(features=noise(batch, 6, 10, seed=seed), present=present)


def conditions(side: int = 8, *, batch: int = 1, seed: int = 7) -> Conditions:
    low, pre = (noise(batch, 4, side, side, seed=seed + i) for i in range(2))
    return Conditions(degraded=low, coarse=pre, caption=caption(batch))


# The layout


def published_shapes() -> dict[str, list[int]]:
    """The key table of the released weights, written down from their layout and not from our modules."""
    c, text = 1152, 4096
    table: dict[str, list[int]] = {}

    def linear(name: str, out: int, inside: int) -> None:
        table[f"{name}.weight"], table[f"{name}.bias"] = [out, inside], [out]

    def block(name: str) -> None:
        table[f"{name}.scale_shift_table"] = [6, c]
        linear(f"{name}.attn.qkv", 3 * c, c)
        linear(f"{name}.cross_attn.kv_linear", 2 * c, c)
        for square in ("attn.proj", "cross_attn.q_linear", "cross_attn.proj"):
            linear(f"{name}.{square}", c, c)
        linear(f"{name}.mlp.fc1", 4 * c, c)
        linear(f"{name}.mlp.fc2", c, 4 * c)

    def modulator(name: str) -> None:
        linear(f"{name}.shared_proj", 576, c)
        linear(f"{name}.proj_add", c, 576)
        linear(f"{name}.proj_mul", c, 576)

    for embedder in ("base_model.x_embedder", *(f"{x}_embedder_{y}" for x in "xc" for y in ("lq", "pre"))):
        table[f"{embedder}.proj.weight"], table[f"{embedder}.proj.bias"] = [c, 4, 2, 2], [c]
    for name, width in (("t_embedder", c), ("csize_embedder", 384), ("ar_embedder", 384)):
        linear(f"base_model.{name}.mlp.0", width, 256)
        linear(f"base_model.{name}.mlp.2", width, width)
    linear("base_model.t_block.1", 6 * c, c)
    table["base_model.y_embedder.y_embedding"] = [120, text]
    linear("base_model.y_embedder.y_proj.fc1", c, text)
    linear("base_model.y_embedder.y_proj.fc2", c, c)
    linear("base_model.final_layer.linear", 32, c)
    table["base_model.final_layer.scale_shift_table"] = [2, c]
    for i in range(28):
        block(f"base_model.blocks.{i}")
        for branch in ("lq", "pre"):
            block(f"controlnet_{branch}.{i}.copied_block")
        modulator(f"am_pre.{i}")
        for expert in range(3):
            modulator(f"am_lq.{i}.experts.{expert}")
        linear(f"am_lq.{i}.gate.0", 24, c)
        linear(f"am_lq.{i}.gate.2", 3, 24)
        linear(f"cross_de.{i}.kv_linear", 2 * c, c)
        for square in ("q_linear", "proj", "de_proj"):
            linear(f"cross_de.{i}.{square}", c, c)
        for norm in ("norm1", "norm2"):
            table[f"cross_de.{i}.{norm}.weight"] = table[f"cross_de.{i}.{norm}.bias"] = [c]
    return table


def test_the_published_network_has_its_published_keys_shapes_and_size():
    with torch.device("meta"):
        network = DreamClearNet(RELEASED.transformer, RELEASED.control)
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == published_shapes()

    def millions(part: nn.Module) -> float:
        return sum(value.numel() for value in part.parameters()) / 1e6

    # Measured to 0.01 million; the caption that stands for none is no parameter.
    assert millions(network.base_model.blocks[0]) == pytest.approx(21.26, abs=0.005)
    assert millions(network.base_model) == pytest.approx(611.35, abs=0.005)
    assert millions(network) - millions(network.base_model) == pytest.approx(1600.53, abs=0.005)
    assert millions(network) == pytest.approx(2211.88, abs=0.005)
    table = {key: math.prod(shape) for key, shape in published_shapes().items()}
    assert sum(table.values()) - 120 * 4096 == sum(value.numel() for value in network.parameters())


def test_hyper_parameters_are_read_off_the_shapes():
    table = published_shapes() | {"base_model.pos_embed": [1, 4096, 1152]}
    state = {key: torch.zeros(shape, device="meta") for key, shape in table.items()}
    assert detect(state)
    assert read_layout(state) == RELEASED
    small = tiny().state_dict()
    assert read_layout(small | {"base_model.pos_embed": torch.zeros(1, 16, 144)}) == TINY
    assert read_layout(small).transformer.grid == 64
    assert not detect({})
    assert not detect({key: value for key, value in small.items() if not key.startswith("cross_de")})


def test_the_authors_container_with_stored_positions_is_opened():
    made = tiny()
    file = {"state_dict": made.state_dict() | {"base_model.pos_embed": noise(1, 16, 144)}}
    loaded = load(unwrap(file), crossing="correct").double()
    latent, level, told = noise(1, 4, 8, 8), torch.tensor([300]), conditions()
    # Through float32, in which weights are kept.
    torch.testing.assert_close(loaded(latent, level, told), made(latent, level, told), atol=1e-5, rtol=0)


@pytest.mark.parametrize("harm", ["missing", "left over", "misshapen"])
def test_a_state_that_does_not_fit_exactly_is_refused_by_key_name(harm):
    state = tiny().state_dict()
    key = "am_lq.1.experts.2.proj_mul.weight"
    if harm == "missing":
        del state[key]
    elif harm == "left over":
        key = "am_lq.1.experts.2.extra.weight"
        state[key] = torch.zeros(1)
    else:
        state[key] = state[key][:3]
    with pytest.raises(RuntimeError, match=key.replace(".", r"\.")):
        load(state)


# PixArt


def test_numbers_as_waves_against_loops():
    numbers = torch.tensor([0.0, 7.0, 999.0])
    expected = [
        [f(number * 10000 ** (-i / 128)) for f in (math.cos, math.sin) for i in range(128)]
        for number in numbers.tolist()
    ]
    # float32 angles of up to 999 radians are known to 3e-5.
    np.testing.assert_allclose(waves(numbers).numpy(), expected, atol=1e-4)


def test_positions_against_loops():
    found = sine_positions((2, 3), width=8, grid=4)[0]
    for n in range(6):
        row, column = divmod(n, 3)
        expected = []
        for place in (column * 4 / 3 / 2, row * 4 / 2 / 2):
            angles = [place * 10000 ** (-i / 2) for i in range(2)]
            expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        np.testing.assert_allclose(found[n].numpy(), expected, atol=1e-7)


def test_a_picture_twice_as_large_has_the_same_positions_in_between():
    small, large = (sine_positions((n, n), width=12, grid=4)[0].reshape(n, n, 12) for n in (4, 8))
    torch.testing.assert_close(large[::2, ::2], small)


def naive_layer_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def naive_heads(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """One picture's tokens [N, C] asking [M, C], head by head."""
    answers = []
    for first in range(0, query.shape[1], 72):
        q, k, v = (part[:, first : first + 72] for part in (query, key, value))
        answers.append((q @ k.T / math.sqrt(72)).softmax(-1) @ v)
    return torch.cat(answers, dim=1)


def naive_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def naive_block(block: Block, x: Tensor, weights: Tensor, text: Tensor) -> Tensor:
    """One picture [N, C]; `text` holds only tokens that are there."""

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
    block = randomised(Block(144), spread=0.3).double()
    x, weights, text = noise(2, 5, 144), noise(2, 6, 144, seed=2), noise(2, 6, 144, seed=3)
    present = torch.tensor([[True] * 4 + [False] * 2, [True] + [False] * 5])
    context = Context(level=noise(2, 144), weights=weights, text=text, present=present)
    found = block(x, context)
    for i, tokens in enumerate((4, 1)):
        expected = naive_block(block, x[i], weights[i], text[i, :tokens])
        torch.testing.assert_close(found[i], expected, atol=1e-10, rtol=0)


def test_padding_of_a_caption_is_not_read():
    network, told = tiny(), conditions()
    other = told.caption.features.clone()
    other[:, 4:] = 100
    changed = replace(told, caption=replace(told.caption, features=other))
    latent, level = noise(1, 4, 8, 8), torch.tensor([500])
    assert torch.equal(network(latent, level, told), network(latent, level, changed))
    other[:, 3] = 100
    assert not torch.allclose(network(latent, level, told), network(latent, level, changed), atol=1e-3)


def test_tokens_are_put_back_where_they_were_taken():
    """A final layer that answers each token's number fills that token's pixels with it."""
    network = randomised(PixArt(SIZES)).double()
    numbers = torch.arange(6.0, dtype=torch.float64)

    def answer(x: Tensor, level: Tensor) -> Tensor:
        pixels = numbers[:, None, None] * 10 + torch.arange(4.0).double()[:, None] + torch.zeros(8).double()
        return pixels.flatten(1)[None]

    network.final_layer.forward = answer
    found = network.finish(noise(1, 6, 144), network.context(torch.tensor([1]), caption()), noise(1, 4, 4, 6))
    assert found.shape == (1, 8, 4, 6)
    expected = interpolate(numbers.reshape(1, 1, 2, 3) * 10, scale_factor=2)[0, 0]
    inside = torch.tensor([[0.0, 1.0], [2.0, 3.0]], dtype=torch.float64).repeat(2, 3)
    assert torch.equal(found[0, 5], expected + inside)


# The control


def test_fresh_control_leaves_the_base_model_unchanged():
    """What steers is zero at first, so training starts from PixArt, bit for bit."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = DreamClearNet(SIZES, TINY.control).double().eval().requires_grad_(False)
    told, latent, level = conditions(), noise(1, 4, 8, 8), torch.tensor([400])
    assert torch.equal(network(latent, level, told), network.base_model(latent, level, told.caption))
    network.am_pre[0].proj_add.bias.add_(0.1)
    assert not torch.allclose(network(latent, level, told), network.base_model(latent, level, told.caption))


def test_every_weight_counts():
    """A weight without effect would load without a word wherever its key is wired to."""
    network = tiny(crossing="released")
    for value in network.parameters():
        value.requires_grad_(True)
    answer = network(noise(1, 4, 8, 8), torch.tensor([400]), conditions())
    (answer * noise(1, 8, 8, 8, seed=9)).sum().backward()
    for name, value in network.named_parameters():
        assert value.grad is not None, name
        assert float(value.grad.abs().max()) > 0, name


def test_the_weights_of_the_mixture_add_up_to_one():
    mixture = randomised(Mixture(144, TINY.control), spread=0.5)
    weights = mixture.weights(noise(2, 5, 144, dtype=torch.float32))
    assert weights.shape == (2, 5, 3)
    assert bool((weights > 0).all())
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 5), atol=1e-6, rtol=0)


def test_the_mixture_is_the_weighed_mean_of_its_experts():
    mixture = randomised(Mixture(144, TINY.control), spread=0.3).double()
    x, difference = noise(1, 5, 144), noise(1, 5, 144, seed=2)
    weights = mixture.weights(difference)
    opinions = [expert(x) for expert in mixture.experts]
    for i, found in enumerate(mixture(x, difference)):
        expected = sum(weights[..., j : j + 1] * opinion[i] for j, opinion in enumerate(opinions))
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    mixture.gate[2].bias.copy_(torch.tensor([0.0, 80.0, 0.0]))
    torch.testing.assert_close(mixture(x, difference)[0], opinions[1][0], atol=1e-12, rtol=0)


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
    """Released, tokens of both pictures of a batch are asked as if they were of one."""
    layer = randomised(Comparison(144), spread=0.3).double()
    degraded, pre = noise(2, 4, 144), noise(2, 4, 144, seed=2)
    if crossing == "correct":
        found = torch.stack([naive_comparison(layer, *pair) for pair in zip(degraded, pre, strict=True)])
    else:
        found = naive_comparison(layer, degraded.flatten(0, 1), pre.flatten(0, 1)).reshape(2, 4, 144)
    change, difference = layer(degraded, pre, crossing=crossing)
    expected = found @ layer.proj.weight.T + layer.proj.bias
    torch.testing.assert_close(change, expected, atol=1e-10, rtol=0)
    expected = found @ layer.de_proj.weight.T + layer.de_proj.bias
    torch.testing.assert_close(difference, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("crossing", "alone"), [("correct", True), ("released", False)])
def test_pictures_of_a_batch_meet_only_as_released(crossing, alone):
    network = tiny(crossing=crossing)
    latent, level, told = noise(2, 4, 8, 8), torch.tensor([300, 300]), conditions(batch=2)
    first = Conditions(
        degraded=told.degraded[:1],
        coarse=told.coarse[:1],
        caption=Caption(features=told.caption.features[:1], present=told.caption.present[:1]),
    )
    together, single = network(latent, level, told)[:1], network(latent[:1], level[:1], first)
    assert torch.allclose(together, single, atol=1e-10) == alone


# Guidance


def test_guidance_of_one_is_the_conditional_branch():
    network, told, latent = tiny(), conditions(), noise(1, 4, 8, 8)
    plain = network(latent, torch.tensor([600]), told)
    for channels in ("released", "all"):
        denoise = denoiser(network, told, settings=Settings(guidance=1, guided=channels))
        torch.testing.assert_close(denoise(latent, 600), plain, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("which", "led"), [("released", 3), ("all", 4)])
def test_guidance_leads_three_channels_as_released_or_four(which, led):
    network, told, latent = tiny(), conditions(), noise(1, 4, 8, 8)
    with_caption, without = network(*doubled(network, latent, 600, told)).chunk(2)
    found = denoiser(network, told, settings=Settings(guidance=4.5, guided=which))(latent, 600)
    expected = 4.5 * with_caption - 3.5 * without
    torch.testing.assert_close(found[:, :led], expected[:, :led], atol=1e-10, rtol=0)
    assert torch.equal(found[:, led:], with_caption[:, led:])


def test_a_network_of_half_precision_answers_latents_of_full_precision():
    """Between steps latents are never rounded to the network's format."""
    exact, latent = tiny(), noise(1, 4, 8, 8, dtype=torch.float32)
    expected = denoiser(exact, conditions(), settings=Settings())(latent.double(), 600)
    found = denoiser(tiny().bfloat16(), conditions(), settings=Settings())(latent, 600)
    assert found.dtype == torch.float32
    # bf16 keeps 1 / 256; through some twenty layers, and 4.5 times led away from itself.
    error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert float(error) < 0.1


def test_no_caption_is_as_long_as_the_caption():
    network, told = tiny(), conditions()
    _, _, both = doubled(network, noise(1, 4, 8, 8), 600, told)
    assert both.caption.present.tolist() == [[True] * 4 + [False] * 2] * 2
    assert torch.equal(both.caption.features[1], network.base_model.y_embedder.y_embedding)


def test_a_guided_prediction_is_linear_in_the_scale():
    one, other = noise(1, 8, 2, 2), noise(1, 8, 2, 2, seed=2)
    assert torch.equal(guided(one, other, scale=0, channels=8), other)
    three, five = (guided(one, other, scale=scale, channels=3) for scale in (3, 5))
    torch.testing.assert_close(
        five - three, guided(one - other, other - other, scale=2, channels=3) * led_mask()
    )


def led_mask() -> Tensor:
    return (torch.arange(8) < 3)[None, :, None, None].double()


# Sampling


def test_the_schedule_visits_evenly_from_first_to_last():
    plan = schedule(50)
    assert len(plan.steps) == 50
    assert (plan.steps[0], plan.steps[-1]) == (0, 999)
    assert set(np.diff(plan.steps)) == {20, 21}
    kept, total = [], 1.0
    for beta in np.linspace(1e-4, 0.02, 1000):
        total *= 1 - beta
        kept.append(total)
    np.testing.assert_allclose(plan.kept, [kept[step] for step in plan.steps], rtol=1e-12)
    assert schedule(1).steps == (999,)
    assert schedule(1000).steps == tuple(range(1000))
    for count in (0, 1001):
        with pytest.raises(ValueError, match="1 to 1000"):
            schedule(count)


@given(kept=st.floats(0.01, 0.99), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_adding_noise_is_undone(kept, seed):
    clean, fresh = noise(1, 2, 3, 3, seed=seed), noise(1, 2, 3, 3, seed=seed + 1)
    torch.testing.assert_close(denoised(noised(clean, fresh, kept=kept), fresh, kept=kept), clean)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("count", [1, 2, 10, 50])
def test_a_perfect_predictor_of_noise_leads_back_to_the_clean_latent(sampler, count):
    plan, clean = schedule(count), noise(1, 4, 3, 3)
    kept = dict(zip(plan.steps, plan.kept, strict=True))

    def perfect(latent: Tensor, step: int) -> Tensor:
        a = kept[step]
        true = (latent - math.sqrt(a) * clean) / math.sqrt(1 - a)
        return torch.cat([true, noise(1, 4, 3, 3, seed=step)], dim=1)

    found = sample(
        perfect, noise(1, 4, 3, 3, seed=3), plan, generator=torch.Generator().manual_seed(0), sampler=sampler
    )
    # Float64, divided by the root of the last step's a, 0.0064.
    torch.testing.assert_close(found, clean, atol=1e-9, rtol=0)


def test_a_step_has_the_mean_and_variance_of_the_gaussian_posterior():
    """q(x' | x, clean) is the product of two Gaussians: from x' to x, and from clean to x'."""
    plan, clean, fresh = schedule(10), noise(1, 4, 3, 3), noise(1, 4, 3, 3, seed=2)
    for i in (1, 4, 9):
        here, there = plan.kept[i], plan.kept[i - 1]
        latent, step = noised(clean, fresh, kept=here), here / there
        precision = step / (1 - step) + 1 / (1 - there)
        expected = (
            math.sqrt(step) / (1 - step) * latent + math.sqrt(there) / (1 - there) * clean
        ) / precision
        mean, least = ddpm_step(latent, fresh, -torch.ones(1, 4, 3, 3).double(), plan=plan, i=i)
        torch.testing.assert_close(mean, expected, atol=1e-10, rtol=0)
        torch.testing.assert_close(least, torch.full_like(mean, precision**-0.5), atol=1e-12, rtol=0)
        _, most = ddpm_step(latent, fresh, torch.ones(1, 4, 3, 3).double(), plan=plan, i=i)
        torch.testing.assert_close(most, torch.full_like(mean, math.sqrt(1 - step)), atol=1e-12, rtol=0)


def test_a_step_without_fresh_noise_keeps_the_noise():
    clean, fresh = noise(1, 4, 3, 3), noise(1, 4, 3, 3, seed=2)
    found = ddim_step(noised(clean, fresh, kept=0.2), fresh, kept=(0.2, 0.7))
    torch.testing.assert_close(found, math.sqrt(0.7) * clean + math.sqrt(0.3) * fresh)


def test_fresh_noise_has_the_predicted_deviation():
    """Over many pixels: one step of pure uncertainty from a clean latent of zero."""
    plan = Schedule(steps=(0, 1), kept=(0.9, 0.5))

    def uncertain(latent: Tensor, step: int) -> Tensor:
        top = torch.zeros_like(latent) if step == 1 else latent / math.sqrt(0.1)
        return torch.cat([top, torch.ones_like(latent)], dim=1)

    seen: list[Tensor] = []

    def watch(latent: Tensor, step: int) -> Tensor:
        seen.append(latent)
        return uncertain(latent, step)

    start = torch.zeros(1, 4, 64, 64, dtype=torch.float64)
    sample(watch, start, plan, generator=torch.Generator().manual_seed(0))
    # 16,384 draws: their deviation is known to 0.6 %, three times that is allowed.
    assert float(seen[1].std()) == pytest.approx(math.sqrt(1 - 0.5 / 0.9), rel=0.017)


# Tiles


def test_tiles_agree_with_the_whole_where_pixels_are_alone():
    latent = noise(1, 4, 30, 41, dtype=torch.float32)

    def one(rows: slice, columns: slice) -> Tensor:
        part = latent[..., rows, columns]
        assert max(part.shape[-2:]) <= 16
        return torch.cat([part**2, 3 * part], dim=1)

    found = in_bells(one, latent, tile=16, overlap=4)
    # Weights from 1e-11 to 1 in float32.
    torch.testing.assert_close(found, torch.cat([latent**2, 3 * latent], dim=1), atol=1e-5, rtol=1e-5)


def test_where_tiles_differ_the_nearer_middle_counts_more():
    calls: list[tuple[slice, slice]] = []
    latent = torch.zeros(1, 1, 8, 28)

    def one(rows: slice, columns: slice) -> Tensor:
        calls.append((rows, columns))
        return torch.full((1, 2, 8, 16), float(len(calls) - 1))

    found = in_bells(one, latent, tile=16, overlap=4)[0, 0, 0]
    assert [columns.start for _, columns in calls] == [0, 12]
    assert found[:12].tolist() == [0.0] * 12
    assert found[16:].tolist() == [1.0] * 12
    assert bool((found[12:16].diff() > 0).all())
    torch.testing.assert_close(found[12:16] + found[12:16].flip(0), torch.ones(4))


@pytest.mark.parametrize("size", [(16, 16), (8, 12)])
def test_what_fits_is_not_cut(size):
    parts = []
    in_bells(lambda *cut: parts.append(cut) or torch.zeros(1), torch.zeros(1, 4, *size), tile=16, overlap=4)
    assert parts == [(slice(None), slice(None))]


# Colours


def naive_blur(x: np.ndarray, reach: int) -> np.ndarray:
    height, width = x.shape
    out = np.zeros_like(x)
    for i, j in np.ndindex(height, width):
        for down, weight in zip((-reach, 0, reach), (1, 2, 1), strict=True):
            for right, other in zip((-reach, 0, reach), (1, 2, 1), strict=True):
                row, column = min(max(i + down, 0), height - 1), min(max(j + right, 0), width - 1)
                out[i, j] += weight * other / 16 * x[row, column]
    return out


def test_the_coarse_part_against_loops():
    x = noise(1, 1, 12, 40)
    expected = x[0, 0].numpy()
    for reach in (1, 2, 4, 8, 16):
        expected = naive_blur(expected, reach)
    np.testing.assert_allclose(coarse(x)[0, 0].numpy(), expected, atol=1e-12)


def test_wavelet_colours_are_the_references_and_detail_stays():
    picture, other = noise(1, 3, 40, 40), noise(1, 3, 40, 40, seed=2)
    assert torch.allclose(fix_color(picture, picture, way="wavelet"), picture, atol=1e-12)
    tinted = picture + torch.tensor([0.3, -0.1, 0.2]).double()[:, None, None]
    torch.testing.assert_close(fix_color(tinted, picture, way="wavelet"), picture, atol=1e-12, rtol=0)
    mixed = fix_color(picture, other, way="wavelet")
    torch.testing.assert_close(mixed - coarse(other), picture - coarse(picture), atol=1e-12, rtol=0)


def test_adain_takes_mean_and_deviation_and_nothing_else():
    picture, other = noise(1, 3, 20, 20), 0.3 * noise(1, 3, 20, 20, seed=2) + 0.5
    fixed = fix_color(picture, other, way="adain")
    for moment in (torch.mean, torch.std):
        # The floor under the variance, 1e-5, against 0.09.
        torch.testing.assert_close(moment(fixed, (2, 3)), moment(other, (2, 3)), atol=1e-4, rtol=0)
    stretched = fix_color(7 * picture - 2, other, way="adain")
    torch.testing.assert_close(stretched, fixed, atol=1e-4, rtol=0)
    assert fix_color(picture, other, way="none") is picture


# The whole


class Blocks:
    """A latent coder of averages: colours of 8 x 8 blocks, and their grey. Exact on pictures of blocks."""

    def __init__(self) -> None:
        self.drawn: list[Tensor] = []

    def encode(self, codes: Tensor) -> Tensor:
        means = interpolate(codes, scale_factor=1 / 8, mode="area")
        return torch.cat([means, means.mean(1, keepdim=True)], dim=1) * 2 - 1

    def decode(self, latent: Tensor) -> Tensor:
        self.drawn.append(latent)
        return interpolate((latent[:, :3] + 1) / 2, scale_factor=8, mode="nearest")


def system(**others: object) -> DreamClear:
    network = randomised(DreamClearNet(SIZES, TINY.control))
    # Trained networks keep to about -1 to 1; far outside, the logarithm of a variance overflows.
    for value in network.base_model.final_layer.parameters():
        value.mul_(0.1)
    return DreamClear(network=network, coder=Blocks(), **others)


QUICK = Settings(steps=3, shortest=64, tile=8, overlap=4)


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (20, 90)])
@pytest.mark.parametrize("upscale", [1, 2])
def test_pictures_of_any_size_come_back_in_range(size, upscale):
    codes = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    found = dreamclear.restore(system(), codes, caption="", settings=replace(QUICK, upscale=upscale))
    assert found.shape == (1, 3, size[0] * upscale, size[1] * upscale)
    assert bool(found.isfinite().all())
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


def test_one_seed_gives_one_picture():
    codes = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    first, again, other = (
        dreamclear.restore(system(), codes, settings=replace(QUICK, seed=seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.01)


def test_the_release_starts_from_the_coarse_picture():
    codes = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    made = system()
    for start in ("coarse", "noise"):
        dreamclear.restore(made, codes, settings=replace(QUICK, steps=1, start=start))
    begun, blind = made.coder.drawn
    clean = made.coder.encode(codes)
    # One step divides by sqrt(a), 0.0064: what the start holds of the coarse latent comes back in full, and
    # what the network makes of the slightly different start is small against it at float32's precision.
    share = ((begun - blind) * clean).sum() / clean.square().sum()
    assert 0.5 < float(share) < 2


def test_colours_are_those_of_the_cleaned_picture():
    """Whatever a random network draws, in its coarse part it must be the picture it was given."""
    codes = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    codes = interpolate(codes, size=(128, 128), mode="bicubic").clamp(0, 1)
    calm = system(clean=lambda picture: 0.2 * picture + 0.4)
    made = {
        way: dreamclear.restore(calm, codes, settings=replace(QUICK, tile=16, color=way))
        for way in ("wavelet", "adain", "none")
    }
    wanted = coarse(0.2 * codes + 0.4)
    errors = {way: float((coarse(picture) - wanted).abs().mean()) for way, picture in made.items()}
    # Blurred twice, what is fine in the drawing still shows a little; and codes are cut to [0, 1].
    assert errors["wavelet"] < 0.5 * errors["none"]
    assert errors["adain"] < 0.7 * errors["none"]


def test_captions_are_given_empty_asked_for_or_encoded():
    codes = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    heard: list[str] = []

    def encode(text: str) -> Caption:
        heard.append(text)
        words = caption(tokens=max(len(text.split()), 1), seed=len(text))
        return Caption(features=words.features.float(), present=words.present)

    asked = system(encode_caption=encode, caption=lambda picture: f"{picture.shape[3]} pixels wide")
    found = [
        dreamclear.restore(asked, codes, caption=given, settings=QUICK)
        for given in ("a dog", "", None, encode("a dog"))
    ]
    assert heard == ["a dog", "a dog", "", "64 pixels wide"]
    assert torch.equal(found[0], found[3])
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    assert not torch.allclose(found[0], found[2], atol=1e-3)


def test_without_text_encoder_only_the_empty_caption_is_taken():
    codes = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(FreezeframeError, match="text encoder"):
        dreamclear.restore(system(), codes, caption="a dog", settings=QUICK)
    silent, loud = (
        dreamclear.restore(system(), codes, caption="", settings=replace(QUICK, guidance=scale))
        for scale in (1.0, 4.5)
    )
    # Nothing said against nothing said: guidance finds no difference but rounding.
    torch.testing.assert_close(silent, loud, atol=1e-3, rtol=0)


@pytest.mark.parametrize("wrong", [{"overlap": 128}, {"steps": 0}, {"upscale": 0}])
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ValueError, match=r"tiles|positive"):
        Settings(**wrong)


def test_an_encoded_caption_of_another_size_is_refused():
    codes = torch.rand(1, 3, 64, 64)
    with pytest.raises(ValueError, match=r"\[1, 6, 10\]"):
        dreamclear.restore(system(), codes, caption=caption(2), settings=QUICK)
