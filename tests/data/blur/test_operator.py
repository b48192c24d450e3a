from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from freezeframe.data.blur import operator
from freezeframe.data.blur.operator import (
    has_numba,
    integrate,
    integrate_exposure,
    row_subset,
    support_mask,
)

FLOATS = 1e-5  # of sums of a few dozen float32 products of numbers below 1

cases = st.tuples(
    st.integers(3, 14),  # rows
    st.integers(3, 17),  # columns
    st.floats(0, 40),  # longest blur vector, pixels
    st.floats(0, 40),  # farthest offset, pixels
    st.integers(0, 2**32 - 1),  # seed
)


IMPLEMENTATIONS = [True, False] if has_numba() else [False]  # values of `use_numba`


@pytest.fixture(params=IMPLEMENTATIONS, ids=lambda use_numba: "compiled" if use_numba else "tensors")
def blur(request):
    """The operator in both implementations; other devices run the second one."""
    return partial(operator.blur, use_numba=request.param)


@pytest.fixture
def blur_adjoint(blur):
    """The adjoint in the implementation of `blur`."""
    return partial(operator.blur_adjoint, **blur.keywords)


def random_inputs(case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two images, blur vectors and offsets."""
    height, width, longest, farthest, seed = case
    rng = np.random.default_rng(seed)
    images = rng.uniform(0, 1, (2, 3, height, width))
    blur_vectors, offsets = (rng.uniform(-reach, reach, (2, height, width)) for reach in (longest, farthest))
    # Some components are zero: motion exactly along a row or a column, or none.
    blur_vectors *= rng.choice([0, 1], (2, height, width), p=[0.2, 0.8])
    x, y, blur_vector, offset = (
        torch.from_numpy(a.astype(np.float32)) for a in (*images, blur_vectors, offsets)
    )
    return x, y, blur_vector, offset


def definition(blur_vectors: Tensor, offsets: Tensor) -> np.ndarray:
    """[H W, H W]: the blur operator as a dense matrix, pixel by pixel."""
    height, width = blur_vectors.shape[1:]
    matrix = np.zeros((height, width, height, width))
    for y in range(height):
        for x in range(width):
            u, o = blur_vectors[:, y, x].tolist(), offsets[:, y, x].tolist()
            for position, share in segment_parts((x + o[0], y + o[1]), u):
                for (column, row), part in neighbours_across(position, flat=abs(u[0]) >= abs(u[1])):
                    column, row = min(max(column, 0), width - 1), min(max(row, 0), height - 1)  # noqa: PLW2901
                    matrix[y, x, row, column] += share * part
    return matrix.reshape(height * width, -1)


def segment_parts(middle, blur_vector):
    """Parts of a segment by pixels along its major axis: their middles and fractions of its length."""
    a = 0 if abs(blur_vector[0]) >= abs(blur_vector[1]) else 1
    length = max(abs(blur_vector[a]), 1.0)
    slope = math.copysign(1, blur_vector[a]) * blur_vector[1 - a] / length
    low, high = middle[a] - length / 2, middle[a] + length / 2
    for t in range(math.floor(low) - 1, math.ceil(high) + 2):
        first, last = max(low, t - 0.5), min(high, t + 0.5)
        if last > first:
            side = middle[1 - a] + slope * ((first + last) / 2 - middle[a])
            yield ((t, side) if a == 0 else (side, t)), (last - first) / length


def neighbours_across(position, *, flat):
    """The two pixels beside a position across the segment, and their weights in linear interpolation."""
    x, y = position
    side = y if flat else x
    near, part = math.floor(side), side - math.floor(side)
    for other, weight in ((near, 1 - part), (near + 1, part)):
        yield ((x, other) if flat else (other, y)), weight


@settings(max_examples=15, deadline=None)
@given(case=cases)
def test_compiled_and_tensors_follow_the_definition(case):
    image, _, blur_vector, offset = random_inputs(case)
    matrix = torch.from_numpy(definition(blur_vector, offset)).float()
    flat = image.flatten(1)
    for use_numba in IMPLEMENTATIONS:
        observed = operator.blur(image, blur_vector, offset=offset, use_numba=use_numba)
        back = operator.blur_adjoint(image, blur_vector, offset=offset, use_numba=use_numba)
        # Positions some 40 px from the image are known to about 4e-6 px.
        torch.testing.assert_close(observed.flatten(1), flat @ matrix.T, atol=1e-4, rtol=0)
        torch.testing.assert_close(back.flatten(1), flat @ matrix, atol=1e-4, rtol=1e-4)


@settings(max_examples=50, deadline=None)
@given(case=cases)
def test_the_adjoint_is_the_transpose(case):
    x, y, blur_vector, offset = random_inputs(case)
    for use_numba in IMPLEMENTATIONS:
        there = (operator.blur(x, blur_vector, offset=offset, use_numba=use_numba).double() * y).sum()
        back = (x.double() * operator.blur_adjoint(y, blur_vector, offset=offset, use_numba=use_numba)).sum()
        torch.testing.assert_close(there, back, rtol=FLOATS, atol=0)


@settings(max_examples=30, deadline=None)
@given(case=cases)
def test_compiled_gives_what_tensors_give(case):
    pytest.importorskip("numba")
    x, _, blur_vector, offset = random_inputs(case)
    fast, slow = (
        [
            function(x, blur_vector, offset=offset, use_numba=use_numba)
            for function in (operator.blur, operator.blur_adjoint)
        ]
        for use_numba in (True, False)
    )
    # A position in float32, 50 px from its origin, is known to 4e-6 px; pixels differ by up to 1.
    torch.testing.assert_close(fast[0], slow[0], atol=2e-5, rtol=0)
    torch.testing.assert_close(fast[1], slow[1], atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 9])
def test_every_channel_is_blurred_alike(channels, blur, blur_adjoint):
    rng = torch.Generator().manual_seed(0)
    image = torch.rand(channels, 12, 15, generator=rng)
    blur_vector = 8 * torch.rand(2, 12, 15, generator=rng) - 4
    for function in (blur, blur_adjoint):
        alone = torch.cat([function(image[c : c + 1], blur_vector) for c in range(channels)])
        torch.testing.assert_close(function(image, blur_vector), alone)


def test_even_light_stays_even(blur):
    _, _, blur_vector, offset = random_inputs((20, 30, 12.0, 5.0, 1))
    even = torch.full((3, 20, 30), 0.7)
    torch.testing.assert_close(blur(even, blur_vector, offset=offset), even, rtol=FLOATS, atol=0)


def test_handing_back_loses_no_light(blur_adjoint):
    image, _, blur_vector, offset = random_inputs((20, 30, 12.0, 5.0, 1))
    adjoint = blur_adjoint(image, blur_vector, offset=offset)
    assert float(adjoint.sum()) == pytest.approx(float(image.sum()), rel=FLOATS)


def test_time_reversal_gives_the_same_blur(blur):
    image, _, blur_vector, offset = random_inputs((20, 30, 12.0, 5.0, 2))
    torch.testing.assert_close(
        blur(image, blur_vector, offset=offset), blur(image, -blur_vector, offset=offset)
    )


def test_no_motion_is_no_blur(blur, blur_adjoint):
    image, _, blur_vector, _ = random_inputs((9, 11, 1.0, 0.0, 3))
    assert torch.equal(blur(image, torch.zeros_like(blur_vector)), image)
    assert torch.equal(blur_adjoint(image, torch.zeros_like(blur_vector)), image)
    # A blur vector shorter than one pixel along its major axis reads that pixel only.
    sideways = torch.stack([blur_vector[0], torch.zeros_like(blur_vector[1])])
    torch.testing.assert_close(blur(image, sideways), image)


def test_next_to_rest_direction_is_noise(blur):
    """A blur vector of a millionth of a pixel acts like zero in any direction, between pixels too."""
    image, _, blur_vector, offset = random_inputs((20, 30, 1.0, 1.0, 7))
    resting = blur(image, torch.zeros_like(blur_vector), offset=offset)
    torch.testing.assert_close(blur(image, 1e-6 * blur_vector, offset=offset), resting, atol=1e-5, rtol=0)


def test_offset_tells_where_to_look(blur):
    """result(x, y) = image(x + 3, y - 2) where nothing moves."""
    image = random_inputs((20, 30, 0.0, 0.0, 4))[0]
    still = torch.zeros(2, 20, 30)
    offset = torch.tensor([3.0, -2.0]).view(2, 1, 1).expand(2, 20, 30)
    torch.testing.assert_close(blur(image, still, offset=offset)[:, 2:, :-3], image[:, :-2, 3:])


def test_transposed_world_blurs_transposed(blur):
    image, _, blur_vector, offset = random_inputs((16, 16, 9.0, 4.0, 5))
    transposed_blur = blur(image.mT, blur_vector.flip(0).mT, offset=offset.flip(0).mT)
    # A tie of |dx| and |dy| alone goes to the row, and none is drawn but at rest.
    torch.testing.assert_close(transposed_blur.mT, blur(image, blur_vector, offset=offset))


def stripes(angle: float, period: float, *, phase: float = 0.0, size=(64, 80)) -> Tensor:
    """[1, H, W] 1/2 + 1/2 cos of the position along `angle`."""
    rows, columns = torch.meshgrid(*(torch.arange(n) - n // 2 for n in size), indexing="ij")
    along = columns * math.cos(angle) + rows * math.sin(angle)
    return (0.5 + 0.5 * torch.cos(2 * math.pi * along / period + phase))[None].float()


def uniform_blur(length: float, angle: float, *, size=(64, 80)) -> Tensor:
    direction = torch.tensor([math.cos(angle), math.sin(angle)])
    return (length * direction).view(2, 1, 1).expand(2, *size)


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 2, 2.3])
@pytest.mark.parametrize(("turns", "contrast"), [(1.0, 0.0), (0.5, 2 / math.pi), (1.5, -2 / (3 * math.pi))])
def test_steady_motion_dims_stripes_as_a_sinc(angle, turns, contrast, blur):
    """Stripes moving by a whole period vanish; by one and a half, dark and light change places."""
    period = 16.0
    sharp = stripes(angle, period)
    observed = blur(sharp, uniform_blur(turns * period, angle))
    # Pixels are read as squares along and lines across: 1/16 of a period dims by less than 2 %.
    expected = 0.5 + contrast * (sharp - 0.5)
    torch.testing.assert_close(observed[:, 16:-16, 16:-16], expected[:, 16:-16, 16:-16], atol=0.01, rtol=0)


def test_motion_along_stripes_leaves_them(blur):
    """Rows of stripes blurred along the rows; not so for stripes that lie across."""
    rows, columns = stripes(math.pi / 2, 9.0), stripes(0.0, 9.0)
    along_rows = uniform_blur(9.0, 0.0)
    torch.testing.assert_close(blur(rows, along_rows), rows)
    assert float(blur(columns, along_rows)[:, :, 8:-8].std()) < 0.02


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.2, math.pi / 2, 2.5])
def test_whole_exposure_is_the_mean_of_its_halves(angle, blur):
    """Two halves of the blur vector, centred a quarter of it before and after."""
    image = stripes(angle + 0.3, 14.0) + stripes(angle - 1.0, 19.0, phase=0.5)
    blur_vector = uniform_blur(11.0, angle)
    halves = [blur(image, blur_vector / 2, offset=side * blur_vector / 4) for side in (-1, 1)]
    # The pixel at the cut is read in two pieces: linear interpolation differs by 1/8 of its curvature.
    torch.testing.assert_close(blur(image, blur_vector), sum(halves) / 2, atol=0.005, rtol=0)


@pytest.mark.parametrize("time", [0.0, 0.75, -1.5])
def test_blur_is_what_a_sensor_gathers(time, blur):
    """Stripes pass by at 10 px per frame; the exposure at `time` is a blur of the stripes at time 0."""
    angle, speed, shutter = 0.5, 10.0, 0.8

    def render(t: float) -> Tensor:
        return stripes(angle, 20.0, phase=-2 * math.pi * speed * t / 20)

    observed = integrate_exposure(render, time, shutter=shutter, count=64)
    velocity = uniform_blur(speed, angle)
    explained = blur(render(0), shutter * velocity, offset=-time * velocity)
    torch.testing.assert_close(
        observed[:, 24:-24, 24:-24], explained[:, 24:-24, 24:-24], atol=0.01, rtol=0
    )  # as above, 1 % for pixels of finite size


def test_within_is_where_the_border_does_not_matter(blur):
    """Cropping changes no pixel whose support lies in the crop."""
    image, _, blur_vector, offset = random_inputs((30, 36, 9.0, 4.0, 6))
    part = (slice(None), slice(8, 22), slice(9, 27))
    inside = support_mask(blur_vector[part], offset=offset[part]).bool()
    assert 0.1 < float(inside.float().mean()) < 0.9
    whole, window = (
        blur(image, blur_vector, offset=offset)[part],
        blur(image[part].contiguous(), blur_vector[part], offset=offset[part]),
    )
    torch.testing.assert_close(window[:, inside], whole[:, inside])
    assert float((window - whole)[:, ~inside].abs().mean()) > 0.05


@pytest.mark.parametrize("rows", [slice(None, None, 2), slice(1, None, 3), slice(4, -4, 2)])
def test_some_rows_alone_are_as_among_all(rows, blur):
    image, _, blur_vector, offset = random_inputs((29, 31, 9.0, 4.0, 7))
    some, stands = row_subset(blur_vector, rows)
    moved = offset[:, rows] + stands
    every = blur(image, blur_vector, offset=offset)[:, rows]
    torch.testing.assert_close(blur(image, some, offset=moved), every, atol=1e-5, rtol=0)
    inside = support_mask(blur_vector, offset=offset)[rows]
    assert torch.equal(support_mask(some, offset=moved, size=image.shape[1:]), inside)
    assert 0.1 < float(inside.mean()) < 0.9


def test_what_rests_is_within():
    assert support_mask(torch.zeros(2, 5, 7)).all()


def test_within_counts_the_whole_way():
    """A blur vector of 5 px along the row extends 2.5 px to either side: two pixels and their edges."""
    inside = support_mask(uniform_blur(5.0, 0.0, size=(6, 12)))
    assert torch.equal(inside[2], torch.tensor([0.0] * 2 + [1.0] * 8 + [0.0] * 2))
    ahead = support_mask(uniform_blur(5.0, 0.0, size=(6, 12)), offset=uniform_blur(3.0, 0.0, size=(6, 12)))
    assert torch.equal(ahead[2], torch.tensor([1.0] * 7 + [0.0] * 5))


def test_gradients_of_every_operand():
    """The tensor implementation against finite differences, float64."""
    rng = np.random.default_rng(8)
    image, blur_vector, offset = (
        torch.from_numpy(rng.uniform(-reach, reach, shape)).requires_grad_()
        for reach, shape in ((1, (2, 5, 6)), (4, (2, 5, 6)), (1.5, (2, 5, 6)))
    )
    for function in (operator.blur, operator.blur_adjoint):
        assert torch.autograd.gradcheck(
            lambda x, u, o, f=function: f(x, u, offset=o), (image, blur_vector, offset)
        )


def test_gradients_flow_where_only_the_ways_are_asked_for():
    image, _, blur_vector, _ = random_inputs((8, 9, 5.0, 0.0, 9))
    blur_vector.requires_grad_()
    operator.blur(image, blur_vector).square().sum().backward()
    assert blur_vector.grad is not None
    assert bool(blur_vector.grad.isfinite().all()), "pixels without motion among them"
    assert float(blur_vector.grad.abs().max()) > 0


def test_steady_change_exposes_to_its_middle():
    """Light that grows evenly gathers to what it is at mid-exposure; its square gains shutter^2 / 12."""
    assert float(
        integrate_exposure(lambda t: torch.tensor(2 + 3 * t), 0.7, shutter=0.5, count=7)
    ) == pytest.approx(4.1)
    squared = integrate_exposure(lambda t: torch.tensor(t * t), 2.0, shutter=0.6, count=200)
    assert float(squared) == pytest.approx(4 + 0.6**2 / 12, abs=1e-5)


def test_exposures_add_up_their_light():
    def one(t: float) -> Tensor:
        return stripes(0.2, 9.0, phase=t)

    def other(t: float) -> Tensor:
        return stripes(1.1, 13.0, phase=-2 * t)

    both = integrate_exposure(lambda t: one(t) + 2 * other(t), 0.3, shutter=0.5, count=8)
    separate = [integrate_exposure(f, 0.3, shutter=0.5, count=8) for f in (one, other)]
    torch.testing.assert_close(both, separate[0] + 2 * separate[1])


def test_averaging_n_moments_divides_noise_by_sqrt_n():
    noise = torch.randn(25, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    assert float(integrate(noise).std()) == pytest.approx(1 / 5, rel=0.05)  # 4800 samples: 1 % sigma
