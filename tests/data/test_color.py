"""Code values and linear light: numbers of the standards, a second implementation, and round trips."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.data.color import HLG, LINEAR, PQ, SRGB, ColorSpec, resolve_matrix, to_encoded, to_linear
from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.video_in.chroma import downsample, upsample
from freezeframe.data.media.video_in.frame_picture import VideoPicture, convert_format
from freezeframe.data.media.video_in.planes import planar_layout

CURVES = [1, 4, 5, 6, LINEAR, 14, SRGB, PQ, HLG]
FORMATS = [
    *("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "nv12", "yuv420p10le", "yuv422p10le", "yuv444p10le"),
    *("p010le", "yuv420p12le", "yuv444p12le", "gray", "gray10le", "rgb24", "bgr24", "gbrp", "gbrp10le"),
    *("gbrp12le", "rgb48le", "rgba", "yuv411p"),
]


@pytest.mark.parametrize(
    ("transfer", "signal", "linear"),
    [
        (SRGB, 0.5, 0.21404114),  # IEC 61966-2-1
        (1, 0.5, 0.21404114),  # BT.709 as displayed by players
        (PQ, 0.5080784, 0.1),  # ST 2084: 100 cd/m2
        (PQ, 0.7518271, 1.0),  # 1,000 cd/m2
        (PQ, 1.0, 10.0),  # 10,000 cd/m2
        (HLG, 0.5, 1 / 12),  # BT.2100 table 5
        (HLG, 1.0, 1.0),
        (4, 0.5, 0.5**2.2),
    ],
)
def test_curves_meet_their_standards(transfer: int, signal: float, linear: float):
    """To four digits, the precision of the constants in the standards."""
    assert float(to_linear(torch.tensor(signal), transfer)) == pytest.approx(linear, rel=4e-4)
    assert float(to_encoded(torch.tensor(linear), transfer)) == pytest.approx(signal, rel=4e-4)


@pytest.mark.parametrize("transfer", CURVES)
def test_curves_are_undone_and_rise(transfer: int):
    signal = torch.linspace(0, 1.09 if transfer not in (PQ, HLG) else 1, 4096)
    linear = to_linear(signal, transfer)
    assert (linear.diff() >= 0).all()
    # Float32 has seven digits; PQ uses three of them for its range of five powers of ten.
    torch.testing.assert_close(to_encoded(linear, transfer), signal, atol=2e-4, rtol=0)


@pytest.mark.parametrize("transfer", CURVES)
def test_codes_brighter_than_white_have_finite_light(transfer: int):
    """The largest code values of luma and Cb are a blue of 2.15."""
    linear = to_linear(torch.linspace(1, 2.2, 1000), transfer)
    assert linear.isfinite().all()
    assert (linear.diff() >= 0).all()


@pytest.mark.parametrize("curve", [to_linear, to_encoded])
@pytest.mark.parametrize("transfer", CURVES)
def test_gradients_pass_through_every_curve(curve, transfer: int):
    """Against finite differences in float64, on both parts of each curve."""
    values = torch.cat([torch.linspace(1e-3, 0.03, 9), torch.linspace(0.05, 0.99, 30)]).double()
    assert torch.autograd.gradcheck(lambda v: curve(v, transfer), values.requires_grad_())


def test_a_gradient_at_black_is_a_number():
    """The power law of sRGB has an infinite slope at 0, but 0 lies in the linear segment."""
    black = torch.zeros(3, requires_grad=True)
    torch.autograd.backward(to_encoded(black, SRGB).sum())
    torch.testing.assert_close(black.grad, torch.full((3,), 12.92))


@pytest.mark.parametrize("curve", [to_linear, to_encoded])
@pytest.mark.parametrize("transfer", CURVES)
def test_a_curve_leaves_what_it_was_given_alone(curve, transfer: int):
    values = torch.linspace(-0.1, 1.1, 64)
    curve(values, transfer)
    assert torch.equal(values, torch.linspace(-0.1, 1.1, 64))


@pytest.mark.parametrize(("matrix", "name"), [(1, "itu709"), (6, "itu601"), (9, "bt2020")])
@pytest.mark.parametrize("span", [1, 2], ids=["limited", "full"])
def test_matrix_agrees_with_swscale(matrix: int, name: str, span: int):
    """FFmpeg's conversion of a uniform colour patch, in 10 bits, to one 8-bit code value."""
    red, green, blue = 200, 60, 30
    rgb = av.VideoFrame.from_ndarray(np.full((16, 16, 3), (red, green, blue), np.uint8), format="rgb24")
    frame = rgb.reformat(format="yuv444p10le", dst_colorspace=name, dst_color_range=span)
    frame.colorspace, frame.color_range = matrix, span
    decoded_rgb = VideoPicture(frame).signal()[:, 8, 8] * 255
    torch.testing.assert_close(decoded_rgb, torch.tensor([red, green, blue]).float(), atol=1.0, rtol=0)


@pytest.mark.parametrize("matrix", [0, 1, 4, 5, 6, 7, 8, 9])
def test_gray_has_no_colour(matrix: int):
    spec = ColorSpec(matrix=matrix, full=False, primaries=1, transfer=1, depth=8)
    gain, offset = spec.encoder
    code_planes = (gain @ torch.full((3, 1), 0.5) + offset).flatten()
    black_to_white = 16 + 219 / 2
    expected = [black_to_white] * 3 if matrix == 0 else [black_to_white, 128, 128]
    torch.testing.assert_close(code_planes, torch.tensor(expected), atol=1e-3, rtol=0)


def test_untagged_means_what_players_take_it_for():
    assert (resolve_matrix(2, 1080), resolve_matrix(2, 576), resolve_matrix(9, 576)) == (1, 6, 9)


def test_an_unknown_matrix_is_told():
    with pytest.raises(UnreadableMedia, match="colour matrix 14"):
        ColorSpec(matrix=14, full=False, primaries=9, transfer=16, depth=10)


def natural(pix_fmt: str, size: tuple[int, int], seed: int = 0) -> av.VideoFrame:
    """Soft random colours inside RGB's gamut, in any pixel format."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 190, (size[0] // 8 + 2, size[1] // 8 + 2, 3), dtype=np.uint8)
    image = coarse.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    return frame.reformat(format=pix_fmt, dst_colorspace="itu709")


def code_planes(frame: av.VideoFrame) -> list[np.ndarray]:
    kind = np.uint8 if planar_layout(frame.format.name).depth == 8 else np.uint16
    return [
        np.frombuffer(bytes(plane), kind).reshape(plane.height, -1)[:, : plane.width].astype(int)
        for plane in frame.planes
    ]


@pytest.mark.parametrize("pix_fmt", FORMATS)
@pytest.mark.parametrize("size", [(48, 64), (37, 51)], ids=["even", "odd"])
@pytest.mark.parametrize("transfer", [1, PQ, HLG])
def test_light_and_back_is_within_a_code(pix_fmt: str, size: tuple[int, int], transfer: int):
    frame = natural(pix_fmt, size)
    frame.color_trc, frame.colorspace = transfer, 1
    picture = VideoPicture(frame)
    image = picture.linear()
    assert image.shape == (3, *size)
    decoded = picture.with_linear(image)
    planar = convert_format(picture, picture.layout.pix_fmt)
    worst = [
        int(np.abs(a - b).max()) for a, b in zip(code_planes(planar), code_planes(decoded.frame), strict=True)
    ]
    assert max(worst) <= 1, worst
    assert (decoded.frame.color_trc, decoded.frame.color_range) == (frame.color_trc, frame.color_range)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
def test_codes_outside_of_rgb_stay(pix_fmt: str):
    """Random code values, most of them outside the RGB gamut."""
    rng = np.random.default_rng(1)
    frame = natural(pix_fmt, (64, 64))
    kind, top = (np.uint8, 256) if pix_fmt == "yuv420p" else (np.uint16, 1024)
    for plane in frame.planes:
        noise = rng.integers(0, top, (plane.height, plane.line_size // np.dtype(kind).itemsize), kind)
        plane.update(noise.tobytes())
    picture = VideoPicture(frame)
    image = picture.linear()
    assert image.min() >= 0
    for a, b in zip(code_planes(frame), code_planes(picture.with_linear(image).frame), strict=True):
        assert np.abs(a - b).max() <= 1


@given(
    height=st.integers(1, 24), width=st.integers(1, 24), seed=st.integers(0, 999),
    subsampled=st.sampled_from([(False, False), (False, True), (True, True), (True, False)]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_chroma_up_and_down_is_exact(height: int, width: int, seed: int, subsampled: tuple[bool, bool]):
    """Perfect reconstruction by both filter pairs, also at borders and odd sizes; float32 from 0 to 255."""
    rows, columns = subsampled
    small = ((height + 1) // 2 if rows else height, (width + 1) // 2 if columns else width)
    if height == 1 and rows:
        return  # the second row of the pair is undetermined
    plane = np.random.default_rng(seed).uniform(0, 255, small).astype(np.float32)
    up = upsample(plane, (height, width), subsampled)
    assert up.shape == (height, width)
    np.testing.assert_allclose(downsample(np.ascontiguousarray(up), subsampled), plane, atol=2e-3)


def test_chroma_lies_on_even_columns():
    """MPEG-2 siting: a ramp of chroma read at luma columns 0, 2, 4 is the chroma sample itself."""
    ramp = np.tile(np.arange(8, dtype=np.float32), (4, 1))
    full = upsample(ramp, (8, 16), (True, True))
    np.testing.assert_allclose(full[:, ::2], np.tile(np.arange(8), (8, 1)))
    np.testing.assert_allclose(full[:, 1:-1:2], np.tile(np.arange(7) + 0.5, (8, 1)))


def test_highlights_of_hdr_survive():
    frame = natural("yuv420p10le", (16, 16))
    frame.color_trc, frame.colorspace, frame.color_range = PQ, 9, 1
    bright = torch.full((3, 16, 16), 4.0)  # 4,000 cd/m2
    decoded = VideoPicture(frame).with_linear(bright).linear()
    # There a 10-bit step of PQ is 1 % of linear light.
    torch.testing.assert_close(decoded, bright, rtol=0.01, atol=0)


def test_side_data_and_time_follow_the_picture():
    frame = natural("yuv420p", (16, 16))
    frame.pts, frame.time_base = 77, Fraction(1, 90_000)
    copy = VideoPicture(frame).with_linear(torch.zeros(3, 16, 16)).frame
    assert (copy.pts, copy.time_base, copy.format.name) == (77, Fraction(1, 90_000), "yuv420p")
    assert frame.color_range == 0, "the original is unchanged"


def test_luma_is_the_plane():
    frame = natural("yuv420p10le", (16, 24))
    plane = code_planes(frame)[0]
    np.testing.assert_array_equal(VideoPicture(frame).luma().numpy(), plane >> 2)


def test_formats_that_cannot_be_read_are_told():
    with pytest.raises(UnreadableMedia, match="gbrpf32le"):
        planar_layout("gbrpf32le")
