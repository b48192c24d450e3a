"""Densification: rendering, counts and optimiser state before and after."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from freezeframe.splatting.rasterizer.projected import covariances
from freezeframe.splatting.scene.adaptive_density import (
    AdaptiveDensityControl,
    DensifyResult,
    Grad2dStats,
    clone,
    densify,
    index_gaussians,
    prune,
    replace_params,
    split,
    transfer_optimizer_state,
)
from freezeframe.splatting.scene.gaussians import FIELDS, Gaussians, flat_colours, render_gaussians
from freezeframe.splatting.scene.mcmc import (
    MAX_COPIES,
    MCMCStrategy,
    add,
    compute_relocation,
    inject_noise,
    relocate,
    relocate_and_add,
)

INTRINSICS = torch.tensor([[40.0, 0, 31.5], [0, 40.0, 23.5], [0, 0, 1]])
IDENTITY = torch.eye(4)[None]
SIZE = (48, 64)


def generator_of(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_gaussians(count: int, *, seed: int = 0, degree: int = 0) -> Gaussians:
    """Gaussians some pixels wide, at depths of two to four units."""
    random = generator_of(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=random)

    depth = 2 + 2 * rand(count)
    aside = (rand(count, 2) - 0.5) * torch.tensor([1.4, 1.0]) * depth[:, None]
    return Gaussians(
        means=torch.cat([aside, depth[:, None]], dim=1),
        quats=rand(count, 4) - 0.5,
        scales=torch.log(0.05 + 0.2 * rand(count, 3)),
        opacities=4 * rand(count) - 1,
        colours=flat_colours(rand(count, 3), degree=degree),
    )


def single_gaussian(opacity: float, *, width: float = 0.15) -> Gaussians:
    """One Gaussian in the middle of the image."""
    return Gaussians(
        means=torch.tensor([[0.0, 0.0, 2.0]]),
        quats=torch.tensor([[1.0, 0, 0, 0]]),
        scales=torch.full((1, 3), math.log(width)),
        opacities=torch.logit(torch.tensor([opacity])),
        colours=flat_colours(torch.tensor([[0.8, 0.5, 0.3]])),
    )


def same(a: Gaussians, b: Gaussians) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parts().values(), b.parts().values(), strict=True))


def flags(count: int, *chosen: int) -> Tensor:
    mask = torch.zeros(count, dtype=torch.bool)
    mask[list(chosen)] = True
    return mask


def grad2d_stats_of(scene: Gaussians, loss, *, views: Tensor = IDENTITY, scale: float = 1.0) -> Grad2dStats:
    """Statistics of one backward pass of a loss of the images."""
    parts = {name: value.clone().requires_grad_() for name, value in scene.parts().items()}
    K = INTRINSICS.clone()
    K[:2] *= scale
    height, width = (int(side * scale) for side in SIZE)
    picture, _, info = render_gaussians(Gaussians(**parts), views, K, (height, width))
    info["means2d"].retain_grad()
    loss(picture).backward()
    return Grad2dStats.zeros(len(scene)).accumulate(info, images=len(views))


# The threshold


@pytest.mark.parametrize(("progress", "held"), [(0, 4e-4), (1 / 6, 8**0.5 * 1e-4), (1 / 3, 2e-4), (1, 2e-4)])
def test_the_threshold_falls_evenly_on_a_log_scale_then_rests(progress, held):
    assert AdaptiveDensityControl(extent=1).threshold(progress) == pytest.approx(held, rel=1e-9)


# 2D gradients


def test_a_pull_is_half_the_screen_times_the_gradient_of_its_place():
    """Moving a projected mean by one pixel changes the loss by the 2D gradient over half the size.

    Within 4 %: the rim where alpha falls below 1/255 moves too, without a gradient.
    """
    scene = single_gaussian(0.7)

    def loss(picture: Tensor) -> Tensor:
        return (picture * torch.linspace(0, 1, 64)).mean()

    grad2d = float(grad2d_stats_of(scene, loss).mean)
    step = 0.5  # pixels
    moved = [
        scene.with_tensors({"means": scene.means + torch.tensor([sign * step * 2 / 40, 0, 0])})
        for sign in (1, -1)
    ]
    values = [loss(render_gaussians(each, IDENTITY, INTRINSICS, SIZE)[0]) for each in moved]
    slope = float(values[0] - values[1]) / (2 * step)
    assert grad2d == pytest.approx(abs(slope) * 32, rel=0.04)  # half of 64 pixels


def test_pulls_do_not_depend_on_how_many_pictures_a_loss_is_the_mean_of():
    scene = random_gaussians(40)
    once, twice = (
        grad2d_stats_of(scene, lambda picture: picture.square().mean(), views=IDENTITY.repeat(count, 1, 1))
        for count in (1, 4)
    )
    assert torch.allclose(once.mean, twice.mean, rtol=1e-4, atol=1e-9)
    assert torch.equal(4 * once.visible_count, twice.visible_count)


def test_pulls_do_not_depend_on_how_many_pixels_a_picture_has():
    """Means over pixels: four times the pixels, the same gradient, within 4 % for the pixel size."""
    coarse, fine = (
        grad2d_stats_of(single_gaussian(0.7), lambda p: p[..., : p.shape[-1] // 2].mean(), scale=s)
        for s in (1.0, 4.0)
    )
    assert float(coarse.mean) == pytest.approx(float(fine.mean), rel=0.04)


def test_what_is_not_seen_is_not_pulled():
    scene = random_gaussians(20)
    behind = scene.with_tensors({"means": scene.means * torch.where(flags(20, 3)[:, None], -1.0, 1.0)})
    grad2d_stats = grad2d_stats_of(behind, lambda picture: picture.square().mean())
    assert float(grad2d_stats.mean[3]) == 0
    assert float(grad2d_stats.visible_count[3]) == 0


def test_evidence_needs_the_gradient_kept():
    _, _, info = render_gaussians(random_gaussians(5), IDENTITY, INTRINSICS, SIZE)
    with pytest.raises(ValueError, match="retain_grad"):
        Grad2dStats.zeros(5).accumulate(info, images=1)


# Cloning, splitting, pruning


def test_a_clone_taken_back_leaves_the_same_scene():
    scene = random_gaussians(12, degree=1)
    cloned = clone(scene, flags(12, 2, 7))
    assert len(cloned.scene) == 14
    back = cloned.then(index_gaussians(cloned.scene, (~cloned.new).nonzero()[:, 0], new=12))
    assert same(back.scene, scene)
    assert torch.equal(back.parent_index, torch.arange(12))
    assert not back.new.any()


def test_a_split_leaves_one_more_around_the_same_middle():
    scene = random_gaussians(12)
    chosen = flags(12, 2, 7)
    halves = split(scene, chosen, generator=generator_of())
    assert len(halves.scene) == 14
    for number in (2, 7):
        two = halves.parent_index == number
        assert int(two.sum()) == 2
        assert torch.allclose(halves.scene.means[two].mean(0), scene.means[number], atol=1e-6)
        assert torch.allclose(
            halves.scene.scales[two].exp() * 1.6, scene.scales[number].exp().expand(2, 3), rtol=1e-5
        )
    assert same(index_gaussians(halves.scene, (~halves.new).nonzero()[:, 0], new=10).scene,
                index_gaussians(scene, (~chosen).nonzero()[:, 0], new=10).scene)  # fmt: skip


def test_halves_are_drawn_from_the_gaussian_that_is_split():
    """The covariance of many halves is that of their parent, 5 % by generator_of."""
    scene = random_gaussians(1, seed=5)
    many = index_gaussians(scene, torch.zeros(4000, dtype=torch.long), new=4000).scene
    halves = split(many, torch.ones(4000, dtype=torch.bool), generator=generator_of()).scene
    expected = covariances(scene.quats, scene.scales.exp())[0]
    assert torch.allclose(torch.cov(halves.means.T), expected, atol=0.05 * float(expected.diagonal().max()))


def test_the_faint_and_the_wide_are_left_out():
    scene = random_gaussians(6)
    opacity_logits, scales = scene.opacities.clone(), scene.scales.clone()
    opacity_logits[1], scales[4, 0] = math.log(0.004 / 0.996), math.log(3.0)
    left = prune(
        scene.with_tensors({"opacities": opacity_logits, "scales": scales}),
        prune_opa=0.005,
        prune_scale3d=1.0,
    )
    assert left.parent_index.tolist() == [0, 2, 3, 5]
    assert not left.new.any()


def test_growing_clones_the_small_splits_the_large_and_lets_the_others_be():
    scene = random_gaussians(8)
    scales = torch.full((8, 3), math.log(0.02))
    scales[3] = math.log(0.5)
    scene = scene.with_tensors({"scales": scales})
    grad2d_stats = Grad2dStats(grad2d=torch.where(flags(8, 3, 5), 1.0, 0.0), visible_count=torch.ones(8))
    result = densify(
        scene,
        grad2d_stats,
        AdaptiveDensityControl(extent=10, prune_scale3d=10),
        progress=0,
        generator=generator_of(),
    )
    assert sorted(result.parent_index.tolist()) == [0, 1, 2, 3, 3, 4, 5, 5, 6, 7]
    assert sorted(result.parent_index[result.new].tolist()) == [3, 3, 5]
    large = result.scene.scales[result.parent_index == 3].exp()
    assert torch.allclose(large, torch.full((2, 3), 0.5 / 1.6))


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 60), cap_max=st.integers(1, 80), seed=st.integers(0, 5))
def test_the_cap_is_never_exceeded(count, cap_max, seed):
    """Nor is a Gaussian removed for it."""
    scene, limit = random_gaussians(count, seed=seed), max(count, cap_max)
    grad2d_stats = Grad2dStats(
        grad2d=torch.rand(count, generator=generator_of(seed)), visible_count=torch.ones(count)
    )
    control = AdaptiveDensityControl(extent=10, cap_max=cap_max, prune_opa=0, prune_scale3d=100)
    grown = densify(scene, grad2d_stats, control, progress=1, generator=generator_of())
    assert count <= len(grown.scene) <= limit
    sampled = relocate_and_add(
        scene, MCMCStrategy(cap_max=cap_max, growth_factor=0.5), generator=generator_of()
    )
    assert count <= len(sampled.scene) <= limit


def test_where_there_is_little_room_the_strongest_pull_wins():
    grad2d_stats = Grad2dStats(grad2d=torch.tensor([1.0, 5, 3, 4, 2]), visible_count=torch.ones(5))
    control = AdaptiveDensityControl(extent=1, cap_max=7, grow_scale3d=9, prune_scale3d=99)
    result = densify(random_gaussians(5), grad2d_stats, control, progress=1, generator=generator_of())
    assert sorted(result.parent_index[result.new].tolist()) == [1, 3]


# Optimiser state


def trained(scene: Gaussians) -> tuple[nn.ParameterDict, torch.optim.Adam]:
    """Parameters after one step of Adam, so that all moments exist."""
    values = nn.ParameterDict({name: nn.Parameter(part.clone()) for name, part in scene.parts().items()})
    optimizer = torch.optim.Adam([{"params": [values[name]], "lr": 1e-3, "part": name} for name in FIELDS])
    sum(
        (part * torch.randn(part.shape, generator=generator_of())).sum() for part in values.values()
    ).backward()
    optimizer.step()
    return values, optimizer


@pytest.mark.parametrize(
    "change",
    [
        lambda scene: split(scene, flags(20, 4, 9), generator=generator_of()),
        lambda scene: clone(scene, flags(20, 4, 9)),
        lambda scene: prune(scene, prune_opa=0.5, prune_scale3d=9),
        lambda scene: relocate(scene, flags(20, 4, 9, 11), generator=generator_of()),
        lambda scene: add(scene, 6, generator=generator_of()),
    ],
    ids=["split", "clone", "prune", "relocate", "add"],
)
def test_survivors_keep_their_values_and_moments_and_the_new_have_none(change):
    values, optimizer = trained(random_gaussians(20, degree=1))
    before = Gaussians(**{name: values[name].detach().clone() for name in FIELDS})
    moments = {name: {k: v.clone() for k, v in optimizer.state[values[name]].items()} for name in FIELDS}
    result = change(before)
    replace_params(values, optimizer, result)
    survivors = result.parent_index[~result.new]
    for name, group in zip(FIELDS, optimizer.param_groups, strict=True):
        assert group["params"] == [values[name]]
        assert torch.equal(values[name][~result.new], getattr(before, name)[survivors])
        for kind in ("exp_avg", "exp_avg_sq"):
            kept = optimizer.state[values[name]][kind]
            assert kept.shape == values[name].shape
            assert torch.equal(kept[~result.new], moments[name][kind][survivors])
            assert not kept[result.new].any()
    assert len(optimizer.state) == len(FIELDS)
    values["means"].sum().backward()
    optimizer.step()  # goes on as if nothing had happened


def test_two_changes_in_a_row_are_one():
    scene = random_gaussians(20)
    first = clone(scene, flags(20, 3, 4))
    both = first.then(prune(first.scene, prune_opa=0.6, prune_scale3d=9))
    moment = {"exp_avg": torch.arange(1.0, 21), "step": torch.tensor(3.0)}
    stepwise = transfer_optimizer_state(
        transfer_optimizer_state(moment, first), prune(first.scene, prune_opa=0.6, prune_scale3d=9)
    )
    assert torch.equal(transfer_optimizer_state(moment, both)["exp_avg"], stepwise["exp_avg"])
    assert float(stepwise["step"]) == 3
    assert isinstance(both, DensifyResult)


# Relocation


@pytest.mark.parametrize("opacity", [0.02, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("copies", [1, 2, 3, 10, MAX_COPIES])
def test_shared_looks_are_equation_9(opacity, copies):
    """Against the paper's double sum over binomials."""
    each, factor = compute_relocation(torch.tensor([opacity], dtype=torch.float64), torch.tensor([copies]))
    o = 1 - (1 - opacity) ** (1 / copies)
    total = 0.0
    for i in range(1, copies + 1):
        for k in range(i):
            total += math.comb(i - 1, k) * (-1) ** k * o ** (k + 1) / math.sqrt(k + 1)
    assert float(each) == pytest.approx(o, rel=1e-12)
    assert float(factor) == pytest.approx(opacity / total, rel=1e-9)


def test_one_for_one_changes_nothing():
    opacities = torch.rand(50, generator=generator_of()) * 0.99
    each, factors = compute_relocation(opacities, torch.ones(50, dtype=torch.long))
    assert torch.allclose(each, opacities, atol=1e-7)
    assert torch.allclose(factors, torch.ones(50), atol=1e-6)


@pytest.mark.parametrize("opacity", [0.6, 0.9])
@pytest.mark.parametrize("copies", [2, 5])
def test_a_stack_of_copies_looks_like_the_one(opacity, copies):
    """The same alpha at the centre and the same integral along a line through it.

    On an image of odd size, whose centre is a pixel. Within a hundredth for alphas below 1/255, which are
    not rendered, and for the low-pass filter of 0.3 square pixels.
    """
    one = single_gaussian(opacity, width=0.3)
    stack = index_gaussians(one, torch.zeros(copies, dtype=torch.long), new=1).scene
    dead = ~flags(copies, 0)
    moved = relocate(stack, dead, generator=generator_of())
    assert torch.equal(moved.scene.means, stack.means)
    K = torch.tensor([[40.0, 0, 40], [0, 40.0, 30], [0, 0, 1]])
    (_, before, _), (_, after, _) = (
        render_gaussians(each, IDENTITY, K, (61, 81)) for each in (one, moved.scene)
    )
    assert float(before[0, 0, 30, 40]) == pytest.approx(opacity, abs=5e-3)
    assert float(after[0, 0, 30, 40]) == pytest.approx(float(before[0, 0, 30, 40]), abs=1e-3)
    assert float(after[0, 0, 30].sum()) == pytest.approx(float(before[0, 0, 30].sum()), rel=1e-2)
    # Without the smaller size it would cover more.
    plain = stack.with_tensors({"opacities": moved.scene.opacities})
    more = render_gaussians(plain, IDENTITY, K, (61, 81))[1][0, 0, 30].sum()
    assert float(more) > 1.05 * float(before[0, 0, 30].sum())


def test_the_dead_go_where_something_is_seen_and_nobody_else_moves():
    scene = random_gaussians(30)
    opacity_logits = scene.opacities.clone()
    opacity_logits[[3, 8, 21]] = -8.0
    moved = relocate(
        scene.with_tensors({"opacities": opacity_logits}), flags(30, 3, 8, 21), generator=generator_of(2)
    )
    assert len(moved.scene) == 30
    assert not set(moved.parent_index.tolist()) & {3, 8, 21}
    assert torch.equal(moved.scene.means, scene.means[moved.parent_index])
    assert float(moved.scene.opacities.min()) > -3


def test_the_opaque_are_chosen_the_more_often():
    """In proportion to opacity: 3 to 1, within four standard deviations of 4,000 throws."""
    scene = index_gaussians(single_gaussian(0.6), torch.zeros(2, dtype=torch.long), new=2).scene
    scene = scene.with_tensors({"opacities": torch.logit(torch.tensor([0.6, 0.2]))})
    grown = add(scene, 4000, generator=generator_of())
    share = float((grown.parent_index[2:] == 0).float().mean())
    assert share == pytest.approx(0.75, abs=4 * math.sqrt(0.75 * 0.25 / 4000))


def test_numbers_grow_by_a_twentieth_until_the_cap():
    scene, strategy = random_gaussians(100), MCMCStrategy(cap_max=112)
    sizes = []
    for _ in range(4):
        scene = relocate_and_add(scene, strategy, generator=generator_of()).scene
        sizes.append(len(scene))
    assert sizes == [105, 110, 112, 112]


def test_a_scene_without_life_stays_as_it_is():
    scene = random_gaussians(5)
    faint = scene.with_tensors({"opacities": torch.full((5,), -9.0)})
    assert same(relocate(faint, torch.ones(5, dtype=torch.bool), generator=generator_of()).scene, faint)


# Noise


def test_shaking_moves_the_faint_along_their_own_shape_and_spares_the_opaque():
    scene = random_gaussians(1, seed=3)
    many = index_gaussians(scene, torch.zeros(6000, dtype=torch.long), new=6000).scene
    faint = many.with_tensors({"opacities": torch.full((6000,), -12.0)})
    move = inject_noise(faint, MCMCStrategy(), lr=1e-3, pixel=1e-2, generator=generator_of()) - faint.means
    gate = 1 / (1 + math.exp(-100 * 0.005))
    shape = 0.5 * 1e-3 / 1e-4 * gate * covariances(scene.quats, scene.scales.exp())[0]
    expected = shape @ shape.T
    assert torch.allclose(torch.cov(move.T), expected, atol=0.06 * float(expected.diagonal().max()))
    opaque = many.with_tensors({"opacities": torch.full((6000,), 0.0)})
    still = inject_noise(opaque, MCMCStrategy(), lr=1e-3, pixel=1e-2, generator=generator_of()) - opaque.means
    assert float(still.abs().max()) < 1e-12 + 1e-6 * float(move.abs().max())


def test_shaking_does_not_depend_on_the_scenes_unit():
    """The same scene in millimetres moves a thousand times as many of them."""
    scene = random_gaussians(10).with_tensors({"opacities": torch.full((10,), -12.0)})
    large = scene.with_tensors({"means": scene.means * 1000, "scales": scene.scales + math.log(1000)})
    near = inject_noise(scene, MCMCStrategy(), lr=1e-3, pixel=1e-2, generator=generator_of()) - scene.means
    far = inject_noise(large, MCMCStrategy(), lr=1.0, pixel=10.0, generator=generator_of()) - large.means
    assert torch.allclose(far, near * 1000, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    "broken", [{"cap_max": 0}, {"grow_grad2d": 0.0}, {"anneal_until": 0.0}, {"extent": 0.0}]
)
def test_limits_that_make_no_sense_are_refused(broken):
    with pytest.raises(ValueError, match="cap_max"):
        AdaptiveDensityControl(**{"extent": 1.0, **broken})


def test_samplings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="cap_max"):
        MCMCStrategy(cap_max=0)
