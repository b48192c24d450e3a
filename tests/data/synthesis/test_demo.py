"""Rendered scenes obey the laws of an exposure."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.data.synthesis.degradations.sensor import add_poisson_gaussian_noise
from freezeframe.data.synthesis.demo.bookshelf import bookshelf
from freezeframe.data.synthesis.demo.football import sports_scene
from freezeframe.data.synthesis.demo.handball import ball_position, handball_scene
from freezeframe.data.synthesis.demo.handheld import handheld_scene
from freezeframe.data.synthesis.scene2d.layered_scene import Layer, Scene
from freezeframe.data.synthesis.scene2d.motion import about, constant_velocity, rotation, translation, zoom
from freezeframe.data.synthesis.scene2d.vector_canvas import VectorCanvas

SIZE = (48, 96)


def spot(size=(17, 17), *, light=1.0, mover=True):
    """A Gaussian spot on a transparent texture."""
    h, w = size
    y, x = np.mgrid[:h, :w].astype(np.float32)
    cover = np.exp(-((x - w // 2) ** 2 + (y - h // 2) ** 2) / (2 * 2.2**2)).astype(np.float32)
    cover[[0, -1]] = 0
    cover[:, [0, -1]] = 0
    return np.dstack([cover * light] * 3 + [cover]), mover


def flying_spot(*, speed, light=1.0, start=(40, 16)):
    texture, mover = spot(light=light)
    return Layer(
        texture=texture,
        homography=lambda t: translation(start[0], start[1]) @ constant_velocity(*speed)(t),
        mover=mover,
    )


def wall(size=SIZE, *, grey=0.0):
    h, w = size
    texture = np.full((h, w, 4), grey, np.float32)
    texture[..., 3] = 1
    return Layer(texture=texture, homography=lambda t: np.eye(3), mirrored=True)


def stripes(period, *, speed):
    """Periodic cosine stripes that move to the right."""
    x = np.arange(round(period * 24), dtype=np.float32)
    wave = 0.5 + 0.4 * np.cos(2 * np.pi * x / period)
    texture = np.repeat(wave[None, :, None], SIZE[0], axis=0).repeat(4, axis=2).astype(np.float32)
    texture[..., 3] = 1
    homography = lambda t: translation(-period * 8 + speed * t, 0)  # noqa: E731
    return Scene(
        layers=(
            Layer(texture=texture, homography=homography, mirrored=True, interpolation=cv2.INTER_LANCZOS4),
        ),
        size=SIZE,
    )


def centroid(image):
    weight = image.sum(0).double()
    y, x = torch.meshgrid(*(torch.arange(n).double() for n in weight.shape), indexing="ij")
    return float((x * weight).sum() / weight.sum()), float((y * weight).sum() / weight.sum())


@pytest.fixture(scope="module")
def match():
    return sports_scene(320, 180, seed=5)


@given(
    dx=st.floats(-20, 20),
    dy=st.floats(-8, 8),
    shutter=st.floats(0.05, 1),
)
@settings(max_examples=20, deadline=None)
def test_exposure_keeps_the_light(dx, dy, shutter):
    """The sum over a spot within the frame is the same with and without motion, to 1/500.

    The tolerance is that of bilinear interpolation, whose weights sum to one only on average over a spot.
    """
    scene = Scene(layers=(wall(), flying_spot(speed=(dx, dy))), size=SIZE)
    still = scene.sharp(0.0).sum()
    assert scene.blurred(0.0, shutter=shutter).sum() == pytest.approx(float(still), rel=2e-3)


@pytest.mark.parametrize("speed", [(12.0, 0.0), (-9.0, 5.0)])
def test_an_exposure_is_centred_on_its_time(speed):
    """Uniform motion blurs symmetrically: the centroid stays within 1/20 pixel."""
    scene = Scene(layers=(wall(), flying_spot(speed=speed)), size=SIZE)
    assert centroid(scene.blurred(0.0, shutter=0.8)) == pytest.approx(centroid(scene.sharp(0.0)), abs=0.05)
    later = centroid(scene.blurred(0.5, shutter=0.8))
    assert later == pytest.approx((48 + speed[0] / 2, 24 + speed[1] / 2), abs=0.05)


def test_time_reversal_gives_the_same_blur():
    """The integral over an exposure does not depend on the direction of time."""

    def homography(t):
        return translation(40 + 9 * t + 14 * t * t, 16 - 6 * t) @ rotation(0.3 * t)

    texture, _ = spot()
    pair = [
        Scene(layers=(wall(), Layer(texture=texture, homography=motion)), size=SIZE)
        for motion in (homography, lambda t: homography(-t))
    ]
    forward, backward = (scene.blurred(0.0, shutter=0.9) for scene in pair)
    # float32 sums in another order
    torch.testing.assert_close(forward, backward, rtol=0, atol=1e-6)
    assert (forward - forward.flip(-1)).abs().max() > 0.01, "the motion itself must not be symmetric"


@pytest.mark.parametrize(("period", "travel"), [(32.0, 8.0), (16.0, 8.0), (8.0, 8.0), (12.0, 18.0)])
def test_steady_motion_dims_stripes_as_a_sinc(period, travel):
    """Motion of d px in an exposure scales stripes by sinc(d / period), negative beyond its first zero."""
    scene = stripes(period, speed=travel / 0.8)
    sharp, blurred = (
        image[0, 24, 16:80] - 0.5 for image in (scene.sharp(0.0), scene.blurred(0.0, shutter=0.8))
    )
    contrast = float((sharp * blurred).sum() / (sharp * sharp).sum())
    # A sum of n midpoints instead of the integral, more than one per pixel: an error of less than 1/100.
    assert contrast == pytest.approx(float(np.sinc(travel / period)), abs=0.01)


def test_highlights_are_clipped_after_the_average():
    """A lamp of ten times white leaves a white trail, one of white a grey trail."""
    trails = [
        Scene(layers=(wall(), flying_spot(speed=(24, 0), light=light)), size=SIZE).blurred(0.0, shutter=1.0)
        for light in (1.0, 10.0)
    ]
    dim, bright = (float(trail[0, 24, 48]) for trail in trails)
    assert dim < 0.35
    assert bright == 1.0


def test_no_subframe_step_exceeds_a_pixel(match):
    for t in (0.0, 11.5):
        count = match.subframes(t, shutter=1.0)
        times = [t + (k + 0.5) / count - 0.5 for k in range(count)]
        for layer in match.layers:
            positions = np.stack([layer.corners(time) for time in times])
            assert np.linalg.norm(np.diff(positions, axis=0), axis=-1).max() <= 1.0


@pytest.mark.parametrize("t0", [2.0, 13.0])
def test_flow_carries_one_frame_onto_the_next(match, t0):
    """Frame 1 warped along the flow is frame 0 where neither is occluded."""
    first, second = (match.sharp(t).permute(1, 2, 0).numpy() for t in (t0, t0 + 1))
    flow, back = match.flow(t0, t0 + 1).numpy(), match.flow(t0 + 1, t0).numpy()
    y, x = np.mgrid[:180, :320].astype(np.float32)
    end = x + flow[0], y + flow[1]
    warped = cv2.remap(second, *end, cv2.INTER_CUBIC)
    returned = [cv2.remap(component, *end, cv2.INTER_NEAREST, borderValue=1e3) for component in back]
    visible = np.hypot(flow[0] + returned[0], flow[1] + returned[1]) < 0.1
    visible = cv2.erode(visible.astype(np.uint8), np.ones((5, 5))) > 0
    assert visible.mean() > 0.6
    error = np.abs(warped - first).mean(-1)[visible]
    still = np.abs(second - first).mean(-1)[visible]
    # The rest is the error of one cubic interpolation of an image with detail up to the Nyquist limit.
    assert error.mean() < 0.15 * still.mean()
    assert np.percentile(error, 90) < 0.05


def test_flow_is_its_own_inverse_for_a_rigid_scene():
    """To a thousandth of a pixel, under rotation, zoom and translation."""
    homography = lambda t: about((48, 24), rotation(0.02 * t) @ zoom(1.01**t)) @ translation(3 * t, -t)  # noqa: E731
    layer = Layer(texture=wall().texture, homography=homography, mirrored=True)
    scene = Scene(layers=(layer,), size=SIZE)
    flow = scene.flow(0.0, 1.0)
    corner = homography(1.0) @ np.array([10.0, 20.0, 1.0])
    end = torch.tensor([10.0, 20.0]) + flow[:, 20, 10]
    torch.testing.assert_close(end, torch.from_numpy(corner[:2] / corner[2]).float(), rtol=0, atol=1e-3)


def test_movers_are_what_moves_otherwise_than_the_camera():
    scene = Scene(layers=(wall(grey=0.3), flying_spot(speed=(6, 0))), size=SIZE)
    movers = scene.movers(2.0)
    assert centroid(movers[None]) == pytest.approx((60, 24), abs=0.05)
    assert movers[24, 60] == pytest.approx(1.0, abs=1e-5)
    assert movers[:, :40].max() == 0


def test_the_match_has_players_and_ball_in_the_frame(match):
    for t in (0.0, 12.0, 24.0):
        assert 0.02 < float(match.movers(t).mean()) < 0.3


def test_the_match_moves_as_fast_as_documented():
    """At most 25 px per frame interval at 360 lines; the pan blurs by 4 px or more at shutter 0.7."""
    scene = sports_scene(320, 180, seed=7, frames=76)
    for t in (0.0, 20.0, 45.0, 70.0):
        speed = 2 * scene.flow(t, t + 1).norm(dim=0)
        assert float(speed.max()) < 25
        assert float(speed.median()) > 4 / 0.7


@pytest.fixture(scope="module")
def handball():
    return handball_scene(320, 180, seed=3)


@pytest.mark.parametrize("t", [0.0, 6.0, 13.0])
def test_only_player_and_ball_of_the_handball_scene_move(handball, t):
    """A still camera; at 180 lines the trunk moves by 7.5 px, its mean over a stride within a third."""
    flow, movers = handball.flow(t, t + 1), handball.movers(t)
    assert float(flow[:, movers < 0.01].abs().max()) < 1e-3
    assert 0.01 < float((movers > 0.5).float().mean()) < 0.04
    assert 5 < float(flow[0][movers > 0.9].median()) < 10


def test_the_ball_of_the_handball_scene_bounces_between_two_exposures():
    """It moves by 20 to 30 px per frame interval at 360 lines, and turns once, upwards."""
    places = np.array([ball_position(t / 20) for t in range(15 * 20)])
    steps = np.diff(places, axis=0) * 20
    assert 20 < np.linalg.norm(steps, axis=1).min() < np.linalg.norm(steps, axis=1).max() < 30
    (bounce,) = np.flatnonzero((steps[:-1, 1] > 0) & (steps[1:, 1] < 0)) + 1
    assert bounce / 20 % 1 == pytest.approx(0.5, abs=0.1)
    assert places[:, 1].max() < 318, "above the floor"


def test_the_same_seed_gives_the_same_light():
    one, same, other = (sports_scene(160, 90, seed=seed).blurred(3.0, shutter=0.5) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def star(scale):
    """Siemens star of forty spokes: all frequencies."""
    canvas = VectorCanvas(40, 40, scale)
    for k in range(0, 80, 2):
        ends = [
            (20 + 18 * math.cos(a), 20 + 18 * math.sin(a)) for a in (k * math.pi / 40, (k + 1) * math.pi / 40)
        ]
        canvas.polygon([(20, 20), *ends], (255, 255, 255))
    return canvas.texture()[..., 3]


def beyond_the_grid(texture):
    """Fraction of the energy above half a cycle per frame pixel, which would alias."""
    energy = np.abs(np.fft.fft2(texture - texture.mean())) ** 2
    rate = np.abs(np.fft.fftfreq(len(texture)))  # cycles per texture pixel, two of which make a frame pixel
    fine = np.maximum(rate[:, None], rate[None]) > 0.25
    return float(energy[fine].sum() / energy.sum())


def test_drawn_edges_hold_no_detail_that_a_frame_would_alias():
    """Under 2 % of the energy of a Siemens star; over 10 % without anti-aliasing."""
    aliased = (star(1.0) > 0.5).astype(np.float32)
    assert beyond_the_grid(star(1.0)) < 0.02
    assert beyond_the_grid(aliased) > 0.1


def checks(size=(120, 160)):
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.random((*size, 3), np.float32), (0, 0), 1.5)
    return torch.from_numpy(((noise - 0.5) * 4 + 0.5).clip(0, 1).astype(np.float32)).permute(2, 0, 1)


def test_every_photo_of_a_burst_is_shaken_in_its_own_way():
    scene = handheld_scene(checks(), shake=8, seed=3)
    blur_vectors = [tuple(np.round(scene.flow(k - 0.4, k + 0.4)[:, 60, 80].tolist(), 2)) for k in range(6)]
    assert len(set(blur_vectors)) == 6
    lengths = [math.hypot(*vector) for vector in blur_vectors]
    assert 1 < np.mean(lengths) < 16
    assert torch.equal(scene.blurred(2.0, shutter=0.7), scene.blurred(2.0, shutter=0.7))


@pytest.mark.parametrize("photo", range(4))
def test_blur_is_centred_on_the_latent_image(photo):
    """The centroid of a shaken spot is that of the sharp one, to a tenth of a pixel."""
    dot = torch.zeros(3, 120, 160)
    dot[:, 56:65, 76:85] = torch.from_numpy(spot((9, 9))[0][..., 0])
    scene = handheld_scene(dot, shake=8, seed=9)
    sharp, blurred = (centroid(image) for image in (scene.sharp(photo), scene.blurred(photo, shutter=1.0)))
    assert blurred == pytest.approx(sharp, abs=0.1)


def test_a_photo_without_shake_is_only_displaced():
    """Without shake an exposure is the latent image, to a quarter of an 8-bit step."""
    scene = handheld_scene(checks(), shake=0, seed=3, margin=10)
    assert scene.size == (100, 140)
    torch.testing.assert_close(scene.blurred(1.0, shutter=1.0), scene.sharp(1.0), rtol=0, atol=1 / 1020)


def test_shake_takes_from_sharpness_but_not_from_light():
    scene = handheld_scene(checks(), shake=10, seed=4)
    sharp, blurred = scene.sharp(0.0), scene.blurred(0.0, shutter=1.0)
    assert float(blurred.mean()) == pytest.approx(float(sharp.mean()), rel=0.02)
    assert blurred.std() < 0.9 * sharp.std()


def test_noise_has_the_specified_variance():
    """shot * light + read^2, known from 40,000 pixels to 2 % (five sigma 3.5 %)."""
    grey = torch.full((3, 200, 200), 0.25)
    noisy = add_poisson_gaussian_noise(grey, shot=0.004, read=0.01, seed=1)
    assert float((noisy - grey).var()) == pytest.approx(0.004 * 0.25 + 1e-4, rel=0.035)
    assert torch.equal(noisy, add_poisson_gaussian_noise(grey, shot=0.004, read=0.01, seed=1))
    assert not torch.equal(noisy, add_poisson_gaussian_noise(grey, shot=0.004, read=0.01, seed=2))


def test_a_bookshelf_is_full_of_detail_and_the_same_each_time():
    shelf = bookshelf(180, 120, seed=2)
    assert shelf.shape == (3, 120, 180)
    assert torch.equal(shelf, bookshelf(180, 120, seed=2))
    steps = (shelf[..., 1:] - shelf[..., :-1]).abs().mean(0)
    local_contrast = torch.nn.functional.max_pool2d(steps[None], 16)
    assert float((local_contrast > 0.05).float().mean()) > 0.9


@pytest.mark.parametrize("shutter", [0.0, 1.2])
def test_a_shutter_outside_its_range_is_refused(match, shutter):
    with pytest.raises(ValueError, match="shutter"):
        match.blurred(0.0, shutter=shutter)
