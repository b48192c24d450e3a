"""Rasterised Gaussians against the closed form, compiled kernels against plain torch, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from freezeframe.splatting.rasterizer import spherical_harmonics as harmonics
from freezeframe.splatting.rasterizer.rasterization import rasterization

SIZE = (48, 32)  # width, height
INPUTS = ("means", "quats", "scales", "opacities", "colours", "views")


def random_scene(
    count: int, *, cameras: int, size=SIZE, sigma_px: float = 3.0, seed: int = 0
) -> list[Tensor]:
    """Gaussians about `sigma_px` pixels wide before cameras that differ a little. float64."""
    rng = torch.Generator().manual_seed(seed)
    width, height = size
    focal = 0.9 * width

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng, dtype=torch.float64)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    depth = 2 + 4 * rand(count)
    across, down = (1.2 * rand(count) - 0.6) * width / focal, (1.2 * rand(count) - 0.6) * height / focal
    means = torch.stack([across * depth, down * depth, depth], dim=-1)
    scales = torch.exp(0.5 * normal(count, 3)) * sigma_px / focal * depth[:, None]
    views = torch.eye(4, dtype=torch.float64).repeat(cameras, 1, 1)
    skew = torch.zeros(cameras, 3, 3, dtype=torch.float64)
    x, y, z = (0.02 * normal(3, cameras)).unbind(0)
    skew[:, 0, 1], skew[:, 0, 2], skew[:, 1, 2] = -z, y, -x
    views[:, :3, :3] = torch.linalg.matrix_exp(skew - skew.mT)
    views[:, :3, 3] = 0.05 * normal(cameras, 3)
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
    return [
        means, normal(count, 4), scales, 0.05 + 0.9 * rand(count), rand(count, 3), views,
        K.repeat(cameras, 1, 1),
    ]  # fmt: skip


def render(scene: list[Tensor], **options):
    return rasterization(*scene, *SIZE, **options)


def test_one_gaussian_is_its_analytic_projection():
    """A ball of radius s at depth z is a spot of sigma f s / z pixels, as bright as its opacity."""
    focal, depth, scale, opacity = 40.0, 4.0, 0.3, 0.8
    width, height = SIZE
    ks = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]]])
    image, alpha, _ = rasterization(
        torch.tensor([[0.0, 0, depth]]), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), scale),
        torch.tensor([opacity]), torch.tensor([[1.0, 0.5, 0.25]]), torch.eye(4)[None], ks, width, height,
        eps2d=0.0,
    )  # fmt: skip
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    sigma = focal * scale / depth
    square = ((x - width / 2) ** 2 + (y - height / 2) ** 2) / sigma**2
    spot = opacity * torch.exp(-square / 2)
    spot = torch.where(spot >= 1 / 255, spot, 0)
    # The kernel's exponential is good to a millionth.
    assert torch.allclose(alpha[0, ..., 0], spot, atol=3e-6)
    assert torch.allclose(image[0], spot[..., None] * torch.tensor([1.0, 0.5, 0.25]), atol=3e-6)


def test_the_nearer_hides_the_farther():
    means = torch.tensor([[0.0, 0, 5], [0, 0, 2]])
    ks = torch.tensor([[[40.0, 0, 24], [0, 40, 16], [0, 0, 1]]])
    image, alpha, _ = rasterization(
        means, torch.tensor([[1.0, 0, 0, 0]] * 2), torch.full((2, 3), 0.5), torch.tensor([0.9, 0.9]),
        torch.eye(3)[:2], torch.eye(4)[None], ks, *SIZE,
    )  # fmt: skip
    red, green, _ = image[0, 16, 24].tolist()
    assert green == pytest.approx(0.9, abs=0.01)
    assert red == pytest.approx(0.09, abs=0.01)
    assert float(alpha[0, 16, 24]) == pytest.approx(0.99, abs=0.01)


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
@pytest.mark.parametrize("what", ["RGB", pytest.param("RGB+ED", marks=pytest.mark.slow), "D"])
@pytest.mark.parametrize("count", [3, 250])
def test_the_compiled_kernels_compute_what_plain_torch_does(mode, what, count):
    """Values to 1e-5, gradients to 1e-4 of their length, on random scenes; truth is torch in float64."""
    exact = [part.requires_grad_() for part in random_scene(count, cameras=3, seed=count)]
    quick = [part.detach().float().requires_grad_() for part in exact]
    options = {"rasterize_mode": mode, "render_mode": what}
    truth, truth_alpha, _ = render(exact, **options)
    compiled, compiled_alpha, _ = render(quick, **options)
    assert torch.allclose(compiled.double(), truth, atol=1e-5, rtol=1e-5)
    assert torch.allclose(compiled_alpha.double(), truth_alpha, atol=1e-5)
    rng = torch.Generator().manual_seed(1)
    upstream = torch.randn(truth.shape, generator=rng, dtype=torch.float64)
    ((truth * upstream).sum() + (truth_alpha * upstream[..., :1]).sum()).backward()
    ((compiled * upstream.float()).sum() + (compiled_alpha * upstream[..., :1].float()).sum()).backward()
    for name, a, b in zip(INPUTS, exact, quick, strict=False):
        if a.grad is None or not a.grad.any():
            continue
        assert (a.grad - b.grad).norm() < 1e-4 * a.grad.norm(), name


@pytest.mark.slow
def test_gradients_of_the_reference_pass_gradcheck():
    scene = random_scene(6, cameras=2, size=(10, 8), sigma_px=1.5)
    ks = scene[6]

    def draw(*parts):
        return rasterization(*parts, ks, 10, 8, rasterize_mode="antialiased", render_mode="RGB+D")[:2]

    parts = [part.requires_grad_() for part in scene[:6]]
    assert torch.autograd.gradcheck(draw, parts, eps=1e-7, atol=1e-5, rtol=1e-4)


def test_backgrounds_shine_through_what_is_left():
    scene = [part.float() for part in random_scene(40, cameras=2)]
    behind = torch.tensor([[0.2, 0.4, 0.6], [1.0, 0.0, 0.5]])
    with_it, alpha, _ = render(scene, backgrounds=behind)
    without, _, _ = render(scene)
    assert torch.allclose(with_it, without + (1 - alpha) * behind[:, None, None], atol=1e-6)


def test_the_mean_of_sub_frames_in_one_call_is_that_of_single_calls():
    scene = [part.float() for part in random_scene(60, cameras=4)]
    together, _, _ = render(scene)
    for c in range(4):
        alone, _, _ = render([*scene[:5], scene[5][c : c + 1], scene[6][c : c + 1]])
        assert torch.equal(together[c], alone[0])


def test_the_same_call_gives_the_same_bits():
    scene = [part.float().requires_grad_() for part in random_scene(200, cameras=3)]
    gradients = []
    for _ in range(2):
        image, _, _ = render(scene)
        gradients.append(torch.autograd.grad(image.square().sum(), scene[:6]))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_uniform_fog_has_its_own_depth():
    """Expected depth is that of the only Gaussian, wherever it is visible."""
    ks = torch.tensor([[[40.0, 0, 24], [0, 40, 16], [0, 0, 1]]])
    image, alpha, _ = rasterization(
        torch.tensor([[0.0, 0, 3]]), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 0.4),
        torch.tensor([0.7]), torch.ones(1, 3), torch.eye(4)[None], ks, *SIZE, render_mode="ED",
    )  # fmt: skip
    visible = alpha[0, ..., 0] > 0
    assert torch.allclose(image[0, ..., 0][visible], torch.tensor(3.0), atol=1e-4)


def test_what_is_behind_or_beside_is_not_seen():
    means = torch.tensor([[0.0, 0, -3], [100, 0, 3], [0, 0, 3]])
    ks = torch.tensor([[[40.0, 0, 24], [0, 40, 16], [0, 0, 1]]])
    _, _, info = rasterization(
        means, torch.tensor([[1.0, 0, 0, 0]] * 3), torch.full((3, 3), 0.1), torch.full((3,), 0.9),
        torch.ones(3, 3), torch.eye(4)[None], ks, *SIZE,
    )  # fmt: skip
    assert info["radii"].shape == (1, 3, 2)
    assert (info["radii"][0, :, 0] > 0).tolist() == [False, False, True]


def test_means_on_the_screen_carry_gradients_for_densification():
    scene = [part.float().requires_grad_() for part in random_scene(20, cameras=2)]
    image, _, info = render(scene)
    info["means2d"].retain_grad()
    image.square().sum().backward()
    assert info["means2d"].grad.shape == (2, 20, 2)
    assert info["means2d"].grad.any()


@pytest.mark.parametrize("keyword", ["packed", "camera_model", "absgrad"])
def test_what_is_not_supported_is_refused(keyword):
    with pytest.raises(TypeError, match=keyword):
        render([part.float() for part in random_scene(3, cameras=1)], **{keyword: True})


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_are_orthonormal_on_the_sphere(degree):
    """Their inner products, by quadrature over the sphere, are 0 and 1."""
    count = 20_000
    k = torch.arange(count, dtype=torch.float64) + 0.5
    z, angle = 1 - 2 * k / count, math.pi * (1 + 5**0.5) * k
    ring = (1 - z * z).sqrt()
    points = torch.stack([ring * angle.cos(), ring * angle.sin(), z], dim=-1)
    basis = harmonics.harmonics(points, degree=degree)
    assert basis.shape[-1] == (degree + 1) ** 2
    products = basis.T @ basis * 4 * math.pi / count
    assert torch.allclose(products, torch.eye(len(products), dtype=torch.float64), atol=1e-3)


def test_harmonics_of_degree_0_are_one_colour_from_everywhere():
    scene = [part.float() for part in random_scene(30, cameras=2)]
    coefficients = torch.zeros(30, 16, 3)
    coefficients[:, 0] = (scene[4] - 0.5) / 0.28209479177387814
    plain, _, _ = render(scene)
    painted, _, _ = render([*scene[:4], coefficients, *scene[5:]], sh_degree=0)
    assert torch.allclose(plain, painted, atol=1e-5)


@pytest.mark.gpu
def test_gsplats_cuda_kernels_agree():
    """On a machine with a GPU: values and gradients of gsplat's own kernels."""
    here = [part.float().requires_grad_() for part in random_scene(250, cameras=3)]
    there = [part.detach().cuda().requires_grad_() for part in here]
    images = [render(each)[0] for each in (here, there)]
    assert torch.allclose(images[0], images[1].cpu(), atol=1e-4)
    for image in images:
        image.square().sum().backward()
    for name, a, b in zip(INPUTS, here, there, strict=False):
        assert (a.grad - b.grad.cpu()).norm() < 1e-3 * a.grad.norm(), name
