"""Blurred photographs: the field is the path of what each block shows, and blur runs along it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from freezeframe.data.blur.blocks import block_upsample
from freezeframe.data.blur.operator import blur
from freezeframe.data.synthesis.clips.blurred_photo import (
    DEFAULT_BLUR,
    KINDS,
    BlurDistribution,
    blurred_photo,
    path_vectors,
)
from freezeframe.data.synthesis.scene2d.cutouts import premultiply
from freezeframe.data.synthesis.scene2d.layered_scene import Layer, Scene
from freezeframe.data.synthesis.scene2d.motion import about, constant_velocity, rotation
from freezeframe.data.synthesis.scene2d.patterns import pattern

SIDE = 64  # pixels


def scene(homography):
    texture = premultiply(pattern(np.random.default_rng(0), side=SIDE), None)
    return Scene(layers=(Layer(texture=texture, homography=homography, mirrored=True),), size=(SIDE, SIDE))


def draw(kind, *, seed=0, **changes):
    distribution = BlurDistribution(kinds={kind: 1.0}, **changes)
    return blurred_photo(np.random.default_rng(seed), [], side=SIDE, distribution=distribution)


@pytest.mark.parametrize(("dx", "dy"), [(7.0, 3.0), (-5.0, 5.0), (0.0, 9.0)])
def test_the_line_of_a_pan_is_the_pan(dx, dy):
    x, y = path_vectors(scene(constant_velocity(dx, dy)))
    assert torch.allclose(torch.hypot(x, y), torch.full_like(x, math.hypot(dx, dy)), atol=1e-3)
    assert float((x * dy - y * dx).abs().max()) < 1e-2  # parallel, of either sign


def test_roll_moves_points_across_their_radius_by_their_distance():
    """A turn by 0.1 radians about the middle moves a point by 0.1 times its distance."""
    middle = (SIDE - 1) / 2
    vectors = path_vectors(scene(lambda t: about((middle, middle), rotation(0.1 * t))))
    y, x = torch.meshgrid(*2 * [torch.arange(SIDE) - middle], indexing="ij")
    assert torch.allclose(vectors.norm(dim=0), 0.1 * torch.hypot(x, y), atol=0.02)
    assert float((vectors[0] * x + vectors[1] * y).abs().max()) < 0.5


def test_a_path_to_and_fro_has_the_line_of_its_variance():
    """A sine of amplitude 4 has the variance 8: that of an even line of length sqrt(96)."""
    vectors = path_vectors(
        scene(lambda t: constant_velocity(4 * math.sin(2 * math.pi * t), 0)(1.0)), samples=40
    )
    assert float(vectors[0].mean()) == pytest.approx(math.sqrt(96), rel=0.01)


def test_an_even_blur_is_the_operator_of_its_field():
    """Two ways to one picture: exposures of the moving scene, and the mean along the vectors."""
    photo = draw("even", seed=3, length=(9.0, 9.1), highlight_probability=0.0)
    vectors = block_upsample(photo.vectors, (SIDE, SIDE))
    inside = slice(8, -8)
    difference = (blur(photo.sharp, vectors) - photo.linear)[:, inside, inside].abs()
    assert float(difference.mean()) < 0.1 * float(
        (photo.sharp - photo.linear)[:, inside, inside].abs().mean()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_blur_that_it_is_named_after(kind):
    photo = draw(kind, seed=1, defocus_probability=0.0)
    longest = float(photo.vectors.norm(dim=0).max())
    assert photo.vectors.shape == (2, SIDE // 4, SIDE // 4)
    assert (longest > 0) == (kind not in ("sharp", "defocus"))
    assert bool((photo.radius > 0).all()) == (kind == "defocus")
    assert longest <= DEFAULT_BLUR.max_length
    assert torch.allclose(photo.linear, photo.sharp, atol=1e-5) == (kind == "sharp")


def test_a_mover_is_blurred_before_a_sharp_background():
    photo = draw("mover", seed=2, defocus_probability=0.0, highlight_probability=0.0)
    outside = photo.scene.swept_movers(0.0, shutter=1.0) == 0
    assert bool(outside.any())
    assert float((photo.linear - photo.sharp)[:, outside].abs().max()) < 1e-5
    assert float(photo.vectors.norm(dim=0).min()) == 0
