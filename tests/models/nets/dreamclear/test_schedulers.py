from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from freezeframe.models.nets.dreamclear.cfg_denoiser import denoiser, gaussian_tiled, guidance_batch
from freezeframe.models.nets.dreamclear.color_fix import coarse, fix_color
from freezeframe.models.nets.dreamclear.pipeline import Settings
from freezeframe.models.nets.dreamclear.schedulers import (
    Schedule,
    add_noise,
    ddim_step,
    ddpm_step,
    guided,
    predict_clean,
    sample,
    schedule,
)
from tests.support.dreamclear import make_conditions, tiny_network
from tests.support.weights import normal


def test_guidance_of_one_is_the_conditional_branch():
    network, conditions, latent = tiny_network(), make_conditions(), normal(1, 4, 8, 8)
    plain = network(latent, torch.tensor([600]), conditions)
    for channels in ("released", "all"):
        denoise = denoiser(network, conditions, settings=Settings(guidance=1, guided=channels))
        torch.testing.assert_close(denoise(latent, 600), plain, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("which", "count_guided"), [("released", 3), ("all", 4)])
def test_guidance_leads_three_channels_as_released_or_four(which, count_guided):
    network, conditions, latent = tiny_network(), make_conditions(), normal(1, 4, 8, 8)
    with_caption, without = network(*guidance_batch(network, latent, 600, conditions)).chunk(2)
    actual = denoiser(network, conditions, settings=Settings(guidance=4.5, guided=which))(latent, 600)
    expected = 4.5 * with_caption - 3.5 * without
    torch.testing.assert_close(actual[:, :count_guided], expected[:, :count_guided], atol=1e-10, rtol=0)
    assert torch.equal(actual[:, count_guided:], with_caption[:, count_guided:])


def test_a_network_of_half_precision_answers_latents_of_full_precision():
    """Between steps latents are never rounded to the network's format."""
    exact, latent = tiny_network(), normal(1, 4, 8, 8, dtype=torch.float32)
    expected = denoiser(exact, make_conditions(), settings=Settings())(latent.double(), 600)
    actual = denoiser(tiny_network().bfloat16(), make_conditions(), settings=Settings())(latent, 600)
    assert actual.dtype == torch.float32
    # bf16 keeps 1 / 256; through some twenty layers, and a guidance of 4.5.
    error = (actual - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert float(error) < 0.1


def test_no_caption_is_as_long_as_the_caption():
    network, conditions = tiny_network(), make_conditions()
    _, _, both = guidance_batch(network, normal(1, 4, 8, 8), 600, conditions)
    assert both.caption.present.tolist() == [[True] * 4 + [False] * 2] * 2
    assert torch.equal(both.caption.features[1], network.base_model.y_embedder.y_embedding)


def test_a_guided_prediction_is_linear_in_the_scale():
    one, other = normal(1, 8, 2, 2), normal(1, 8, 2, 2, seed=2)
    assert torch.equal(guided(one, other, scale=0, channels=8), other)
    three, five = (guided(one, other, scale=scale, channels=3) for scale in (3, 5))
    torch.testing.assert_close(
        five - three, guided(one - other, other - other, scale=2, channels=3) * led_mask()
    )


def led_mask() -> Tensor:
    return (torch.arange(8) < 3)[None, :, None, None].double()


def test_the_schedule_visits_evenly_from_first_to_last():
    plan = schedule(50)
    assert len(plan.steps) == 50
    assert (plan.steps[0], plan.steps[-1]) == (0, 999)
    assert set(np.diff(plan.steps)) == {20, 21}
    alpha_bar, total = [], 1.0
    for beta in np.linspace(1e-4, 0.02, 1000):
        total *= 1 - beta
        alpha_bar.append(total)
    np.testing.assert_allclose(plan.alpha_bar, [alpha_bar[step] for step in plan.steps], rtol=1e-12)
    assert schedule(1).steps == (999,)
    assert schedule(1000).steps == tuple(range(1000))
    for count in (0, 1001):
        with pytest.raises(ValueError, match="1 to 1000"):
            schedule(count)


@given(alpha_bar=st.floats(0.01, 0.99), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_adding_noise_is_undone(alpha_bar, seed):
    clean, fresh = normal(1, 2, 3, 3, seed=seed), normal(1, 2, 3, 3, seed=seed + 1)
    torch.testing.assert_close(
        predict_clean(add_noise(clean, fresh, alpha_bar=alpha_bar), fresh, alpha_bar=alpha_bar), clean
    )


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("count", [1, 2, 10, 50])
def test_a_perfect_predictor_of_noise_leads_back_to_the_clean_latent(sampler, count):
    plan, clean = schedule(count), normal(1, 4, 3, 3)
    alpha_bar = dict(zip(plan.steps, plan.alpha_bar, strict=True))

    def perfect(latent: Tensor, step: int) -> Tensor:
        a = alpha_bar[step]
        true = (latent - math.sqrt(a) * clean) / math.sqrt(1 - a)
        return torch.cat([true, normal(1, 4, 3, 3, seed=step)], dim=1)

    actual = sample(
        perfect, normal(1, 4, 3, 3, seed=3), plan, generator=torch.Generator().manual_seed(0), sampler=sampler
    )
    # Float64, divided by the root of the last step's a, 0.0064.
    torch.testing.assert_close(actual, clean, atol=1e-9, rtol=0)


def test_a_step_has_the_mean_and_variance_of_the_gaussian_posterior():
    """q(x' | x, clean) is the product of two Gaussians: from x' to x, and from clean to x'."""
    plan, clean, fresh = schedule(10), normal(1, 4, 3, 3), normal(1, 4, 3, 3, seed=2)
    for i in (1, 4, 9):
        here, there = plan.alpha_bar[i], plan.alpha_bar[i - 1]
        latent, step = add_noise(clean, fresh, alpha_bar=here), here / there
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
    clean, fresh = normal(1, 4, 3, 3), normal(1, 4, 3, 3, seed=2)
    actual = ddim_step(add_noise(clean, fresh, alpha_bar=0.2), fresh, alpha_bar=(0.2, 0.7))
    torch.testing.assert_close(actual, math.sqrt(0.7) * clean + math.sqrt(0.3) * fresh)


def test_fresh_noise_has_the_predicted_deviation():
    """Over many pixels: one step of pure uncertainty from a clean latent of zero."""
    plan = Schedule(steps=(0, 1), alpha_bar=(0.9, 0.5))

    def uncertain(latent: Tensor, step: int) -> Tensor:
        top = torch.zeros_like(latent) if step == 1 else latent / math.sqrt(0.1)
        return torch.cat([top, torch.ones_like(latent)], dim=1)

    latents: list[Tensor] = []

    def watch(latent: Tensor, step: int) -> Tensor:
        latents.append(latent)
        return uncertain(latent, step)

    start = torch.zeros(1, 4, 64, 64, dtype=torch.float64)
    sample(watch, start, plan, generator=torch.Generator().manual_seed(0))
    # 16,384 draws: their deviation is known to 0.6 %, three times that is allowed.
    assert float(latents[1].std()) == pytest.approx(math.sqrt(1 - 0.5 / 0.9), rel=0.017)


def test_tiles_agree_with_the_whole_where_pixels_are_alone():
    latent = normal(1, 4, 30, 41, dtype=torch.float32)

    def one(rows: slice, columns: slice) -> Tensor:
        part = latent[..., rows, columns]
        assert max(part.shape[-2:]) <= 16
        return torch.cat([part**2, 3 * part], dim=1)

    actual = gaussian_tiled(one, latent, tile=16, overlap=4)
    # Weights from 1e-11 to 1 in float32.
    torch.testing.assert_close(actual, torch.cat([latent**2, 3 * latent], dim=1), atol=1e-5, rtol=1e-5)


def test_where_tiles_differ_the_nearer_middle_counts_more():
    calls: list[tuple[slice, slice]] = []
    latent = torch.zeros(1, 1, 8, 28)

    def one(rows: slice, columns: slice) -> Tensor:
        calls.append((rows, columns))
        return torch.full((1, 2, 8, 16), float(len(calls) - 1))

    actual = gaussian_tiled(one, latent, tile=16, overlap=4)[0, 0, 0]
    assert [columns.start for _, columns in calls] == [0, 12]
    assert actual[:12].tolist() == [0.0] * 12
    assert actual[16:].tolist() == [1.0] * 12
    assert bool((actual[12:16].diff() > 0).all())
    torch.testing.assert_close(actual[12:16] + actual[12:16].flip(0), torch.ones(4))


@pytest.mark.parametrize("size", [(16, 16), (8, 12)])
def test_what_fits_is_not_cut(size):
    parts = []
    gaussian_tiled(
        lambda *cut: parts.append(cut) or torch.zeros(1), torch.zeros(1, 4, *size), tile=16, overlap=4
    )
    assert parts == [(slice(None), slice(None))]


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
    x = normal(1, 1, 12, 40)
    expected = x[0, 0].numpy()
    for reach in (1, 2, 4, 8, 16):
        expected = naive_blur(expected, reach)
    np.testing.assert_allclose(coarse(x)[0, 0].numpy(), expected, atol=1e-12)


def test_wavelet_colours_are_the_references_and_detail_stays():
    image, other = normal(1, 3, 40, 40), normal(1, 3, 40, 40, seed=2)
    assert torch.allclose(fix_color(image, image, method="wavelet"), image, atol=1e-12)
    tinted = image + torch.tensor([0.3, -0.1, 0.2]).double()[:, None, None]
    torch.testing.assert_close(fix_color(tinted, image, method="wavelet"), image, atol=1e-12, rtol=0)
    mixed = fix_color(image, other, method="wavelet")
    torch.testing.assert_close(mixed - coarse(other), image - coarse(image), atol=1e-12, rtol=0)


def test_adain_takes_mean_and_deviation_and_nothing_else():
    image, other = normal(1, 3, 20, 20), 0.3 * normal(1, 3, 20, 20, seed=2) + 0.5
    fixed = fix_color(image, other, method="adain")
    for moment in (torch.mean, torch.std):
        # The floor under the variance, 1e-5, against 0.09.
        torch.testing.assert_close(moment(fixed, (2, 3)), moment(other, (2, 3)), atol=1e-4, rtol=0)
    stretched = fix_color(7 * image - 2, other, method="adain")
    torch.testing.assert_close(stretched, fixed, atol=1e-4, rtol=0)
    assert fix_color(image, other, method="none") is image
