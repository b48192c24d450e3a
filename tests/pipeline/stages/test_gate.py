from __future__ import annotations

import itertools
import re
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from freezeframe.data.blur.operator import blur
from freezeframe.data.types import Box, Frame, RegionVerdict
from freezeframe.pipeline.config import GateConfig
from freezeframe.pipeline.stages.gate import (
    GAMMA,
    Proposal,
    RegionProposal,
    apply_proposal,
    blur_threshold,
    correct_mean_color,
    extent,
    propose,
    rejection_reason,
    sanity_metrics,
    sustained_blur,
)
from tests.support.pictures import LinearPicture


@pytest.fixture
def blur_vector(steady) -> Tensor:
    return steady((8.0, 3.0))


@pytest.fixture
def truth(film) -> Tensor:
    return film((0.0, 0.0), [0])[0].clamp(0, 1)


@pytest.fixture
def original(truth, blur_vector) -> Tensor:
    return blur(truth, blur_vector)


# The strength is accurate to 1/32, and the gain of the colour correction neglects clipping.
SLACK = GateConfig(drift=0.022, residual=2.05, checkerboard=8.2)


def frame_of(linear: Tensor) -> Frame:
    return Frame(index=7, time=Fraction(7, 25), picture=LinearPicture(linear))


def reason(original: Tensor, proposed: Tensor, blur_vector: Tensor) -> str:
    return rejection_reason(sanity_metrics(original, proposed, blur_vector), GateConfig()) or ""


def test_the_truth_passes(original, truth, blur_vector):
    """The truth re-blurs to the input exactly and has no residual."""
    sanity = sanity_metrics(original, truth, blur_vector)
    assert sanity.residual == pytest.approx(0, abs=1e-3)
    assert rejection_reason(sanity, GateConfig()) is None


def test_the_input_itself_has_the_residual_one(original, blur_vector):
    sanity = sanity_metrics(original, original, blur_vector)
    assert (sanity.drift, sanity.residual, sanity.checkerboard) == pytest.approx((0, 1, 1))


@pytest.mark.parametrize("rot", [float("nan"), float("inf")])
def test_one_rotten_pixel_is_refused(rot, original, truth, blur_vector):
    truth[1, 40, 50] = rot
    assert reason(original, truth, blur_vector) == "the result is not finite"


@pytest.mark.parametrize("channel", [0, 1, 2])
@pytest.mark.parametrize("tint", [0.8, 1.25])
def test_a_tint_is_refused(tint, channel, original, truth, blur_vector):
    truth[channel] *= tint
    assert "mean colour" in reason(original, truth, blur_vector)


def test_sharpening_across_the_motion_is_refused(original, blur_vector):
    """A strong unsharp mask in the wrong direction re-blurs to something else than the input."""
    across = torch.stack([-blur_vector[1], blur_vector[0]])
    wrong = (original + 2 * (original - blur(original, across))).clamp(0, 1)
    wrong *= original.mean() / wrong.mean()
    assert re.fullmatch(
        r"re-blurring the result misses the input by \d+\.\d times \(limit 2\.0\)",
        reason(original, wrong, blur_vector),
    )


def test_another_picture_is_refused(original, truth, blur_vector):
    other = truth.flip(2)
    assert "re-blurring the result misses the input" in reason(original, other, blur_vector)


def test_a_checkerboard_is_refused(truth, steady):
    """Eight pixels of blur remove it exactly, so the residual cannot show it."""
    blur_vector, bright = steady((8.0, 0.0)), 0.3 + 0.5 * truth
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
    board = 1 - 2.0 * ((rows + columns) % 2)
    assert not reason(blur(bright, blur_vector), bright, blur_vector)
    assert "checkerboard" in reason(blur(bright, blur_vector), bright + 0.1 * board, blur_vector)


@pytest.mark.parametrize("axis", [1, 2])
def test_stripes_are_no_checkerboard(axis, original, truth, blur_vector):
    """The Nyquist frequency along one axis only, as fine structure may have it."""
    shape = (1, -1, 1) if axis == 1 else (1, 1, -1)
    stripes = 0.05 * (-1.0) ** torch.arange(truth.shape[axis]).view(shape)
    striped = sanity_metrics(original, (truth + stripes).clamp(0.05, 0.9), blur_vector)
    assert (
        striped.checkerboard
        < 1.2 * sanity_metrics(original, truth.clamp(0.05, 0.9), blur_vector).checkerboard + 0.2
    )


def test_light_from_beyond_the_border_is_not_judged(truth, blur_vector):
    """The border pixels of a pan recorded light from outside of the frame: the truth passes all the same."""
    wide = torch.nn.functional.pad(truth[None], (10, 10, 10, 10), mode="reflect")[0]
    wide[:, :, :10] = 0.9
    wide_blur_vector = blur_vector[:, :1, :1].expand(2, *wide.shape[1:])
    recorded = blur(wide, wide_blur_vector)[:, 10:-10, 10:-10].contiguous()
    assert sanity_metrics(recorded, truth, blur_vector).residual == pytest.approx(0, abs=1e-3)


def test_refusals_obey_their_thresholds(original, truth, blur_vector):
    sanity = sanity_metrics(original, 0.9 * truth, blur_vector)
    assert rejection_reason(sanity, GateConfig(drift=sanity.drift * 0.99)) is not None
    assert (
        rejection_reason(sanity, GateConfig(drift=sanity.drift * 1.01, residual=sanity.residual * 1.01))
        is None
    )


def test_what_is_rejected_leaves_as_it_came(original, truth, blur_vector):
    frame = frame_of(original)
    out, verdict = apply_proposal(propose(frame, original, truth * torch.nan, blur_vector, GateConfig()), 0.0)
    assert out.picture is frame.picture
    assert (verdict.action, verdict.index, verdict.time) == ("fallback", 7, 0.28)


def test_what_is_not_a_number_has_no_share(original, truth, blur_vector):
    assert propose(frame_of(original), original, truth * torch.nan, blur_vector, GateConfig()).limit == 0


def test_untouched_frames_keep_the_very_picture(original):
    frame = frame_of(original)
    out, verdict = apply_proposal(Proposal(frame=frame, blur=0.5, reason="sharp"), 1.0)
    assert out is frame
    assert (verdict.action, verdict.reason, verdict.index) == ("passthrough", "sharp", 7)
    assert (verdict.blur, verdict.strength) == (0.5, 0.0)


def test_what_passes_shows_the_proposal(original, truth, blur_vector):
    out, verdict = apply_proposal(
        propose(frame_of(original), original, truth, blur_vector, GateConfig()), 1.0
    )
    assert torch.equal(out.picture.linear(), truth)
    assert verdict.action == "deblurred"
    assert verdict.blur == pytest.approx(8.54, abs=0.01)  # |(8, 3)|
    assert set(verdict.metrics) == {"finite", "drift", "residual", "checkerboard"}


def test_where_nothing_moves_before_a_still_camera_the_frame_stays(original, truth, blur_vector):
    frame = frame_of(original)
    proposal = propose(frame, original, truth, blur_vector, GateConfig())
    out, verdict = apply_proposal(replace(proposal, mask=torch.zeros(original.shape[1:])), 1.0)
    assert out is frame
    assert verdict.action == "passthrough"


@pytest.mark.parametrize("strength", [0.25, 0.5])
def test_a_share_lies_between(strength, original, truth, blur_vector):
    """Half the strength is the mean in linear RGB."""
    out, verdict = apply_proposal(
        propose(frame_of(original), original, truth, blur_vector, GateConfig()), strength
    )
    torch.testing.assert_close(out.picture.linear(), (1 - strength) * original + strength * truth)
    assert verdict.strength == strength


@pytest.mark.parametrize("fault", ["tint", "checkerboard", "across", "another picture"])
def test_a_change_is_cut_down_until_it_passes(fault, original, truth, blur_vector):
    """The largest plausible strength passes, a little more does not."""
    proposal = propose(
        frame_of(original), original, degrade(fault, original, truth, blur_vector), blur_vector, GateConfig()
    )
    assert (proposal.limit > 0) == (fault != "another picture")
    limited = torch.lerp(original, proposal.image, proposal.limit)
    assert rejection_reason(sanity_metrics(original, limited, blur_vector), SLACK) is None
    if fault == "checkerboard":
        more = torch.lerp(original, proposal.image, min(1.0, proposal.limit + 2 / 32))
        assert rejection_reason(sanity_metrics(original, more, blur_vector), GateConfig()) is not None


@pytest.mark.parametrize("fault", ["checkerboard", "across"])
def test_shares_have_no_cliff(fault, original, truth, blur_vector):
    """A fault that grows a little costs a little strength."""
    bad = degrade(fault, original, truth, blur_vector)
    parts = torch.linspace(0, 1, 21).tolist()
    limits = [
        propose(frame_of(original), original, torch.lerp(truth, bad, part), blur_vector, GateConfig()).limit
        for part in parts
    ]
    assert limits[0] == 1
    assert limits[-1] < 0.8, "the fault is one"
    shown = [part * limit for part, limit in zip(parts, limits, strict=True)]
    assert max(abs(a - b) for a, b in itertools.pairwise(shown)) < 0.1


@pytest.mark.parametrize("tint", [0.7, 0.97, 1.03, 1.15])
def test_mean_colour_is_put_back_to_the_limit(tint, original, truth):
    """Channels within the limit stay bit for bit."""
    tinted = truth * torch.tensor([tint, 1, 1]).view(3, 1, 1)
    out = correct_mean_color(original, tinted, limit=0.02)
    drift = (out.clamp(0, 1).pow(GAMMA) - original.clamp(0, 1).pow(GAMMA)).mean((1, 2))
    assert float(drift.abs().max()) < 0.022
    within = (tinted.clamp(0, 1).pow(GAMMA) - original.clamp(0, 1).pow(GAMMA)).mean((1, 2)).abs() < 0.02
    assert torch.equal(out[within], tinted[within])


def degrade(fault: str, original: Tensor, truth: Tensor, blur_vector: Tensor) -> Tensor:
    if fault == "tint":
        return truth * torch.tensor([1.25, 1, 1]).view(3, 1, 1)
    if fault == "checkerboard":
        rows, columns = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
        return (truth + 0.1 * (1 - 2.0 * ((rows + columns) % 2))).clamp(0, 1)
    if fault == "across":
        across = torch.stack([-blur_vector[1], blur_vector[0]])
        return (original + 2 * (original - blur(original, across))).clamp(0, 1)
    return truth.flip(2)


@settings(max_examples=30, deadline=None)
@given(area_fraction=st.floats(0.05, 0.9), length=st.floats(2, 50), angle=st.floats(0, 6.28))
def test_sustained_blur_is_what_the_share_exceeds(area_fraction, length, angle):
    """A runner over a little more than the fraction counts in full; over a little less, not at all."""
    angle = torch.tensor(angle)
    vector = length * torch.stack([angle.cos(), angle.sin()]).view(2, 1)
    for more, expected in ((1.1, length), (0.9, 0.0)):
        covered = round(area_fraction * more * 10_000)
        columns = torch.zeros(2, 10_000)
        columns[:, :covered] = vector
        # Every fourth row and column are sampled: a field that is constant over 4x4 pixels.
        field = columns.view(2, 100, 100).repeat_interleave(4, 1).repeat_interleave(4, 2)
        assert sustained_blur(field, area_fraction=area_fraction) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("covered", [0.01, 0.1, 0.5])
def test_the_extent_of_a_part_is_that_of_the_frame(covered):
    """Outside of the part nothing moves: it counts as pixels at rest."""
    part = torch.linspace(1, 20, round(covered * 100_000))
    frame = torch.cat([part, torch.zeros(100_000 - len(part))])
    of_frame, of_part = extent(frame), extent(part, share=covered)
    assert of_part.local_px == pytest.approx(of_frame.local_px, abs=0.01)
    assert of_part.global_px == pytest.approx(of_frame.global_px, abs=0.01)


def test_a_correction_of_a_box_leaves_the_rest_of_the_frame(original, truth, blur_vector):
    box = Box(left=16, top=32, right=80, bottom=90)
    rows, columns = box.slices(tuple(original.shape[1:]))
    mask = torch.ones(box.height, box.width)
    mask[:, :8] = 0
    proposal = propose(
        frame_of(original), original[:, rows, columns], truth[:, rows, columns],
        blur_vector[:, rows, columns], GateConfig(), box=box, mask=mask,
    )  # fmt: skip
    after = apply_proposal(proposal, 1.0)[0].picture.linear()
    expected = original.clone()
    expected[:, rows, 24:80] = truth[:, rows, 24:80]
    assert torch.equal(after, expected)


def test_a_layer_beside_a_corrected_box_blends_into_both(original, truth, blur_vector):
    """Half of the region lies in the box, and blends into its correction; the other half into the frame."""
    box, region = (Box(left=left, top=32, right=left + 40, bottom=72) for left in (16, 36))
    rows, columns = box.slices(tuple(original.shape[1:]))
    layer = RegionProposal(
        verdict=RegionVerdict(
            track=0, box=region, mover="object", blur=5.0, direction=0.0, shutter=0.5,
            method="layer", residual=0.1, strength=0.5,
        ),
        image=torch.ones(3, 40, 40),
        weight=torch.ones(40, 40),
        coverage=torch.ones(40, 40),
    )  # fmt: skip
    proposal = propose(
        frame_of(original), original[:, rows, columns], truth[:, rows, columns],
        blur_vector[:, rows, columns], GateConfig(), box=box, mask=torch.ones(40, 40),
    )  # fmt: skip
    after = apply_proposal(replace(proposal, regions=(layer,)), 1.0)[0].picture.linear()
    torch.testing.assert_close(after[:, rows, 36:56], (truth[:, rows, 36:56] + 1) / 2)
    torch.testing.assert_close(after[:, rows, 56:76], (original[:, rows, 56:76] + 1) / 2)


def test_what_is_not_shown_is_not_judged(original, truth, blur_vector):
    """A fault outside of the mask costs no strength."""
    bad = truth.clone()
    bad[:, :, 64:] = 1 - bad[:, :, 64:]
    mask = torch.zeros(truth.shape[1:])
    mask[:, :56] = 1
    limits = [
        propose(frame_of(original), original, bad, blur_vector, GateConfig(), mask=each).limit
        for each in (None, mask)
    ]
    assert limits[0] < 1
    assert limits[1] == 1


def test_one_wrong_vector_is_not_believed(steady):
    field = steady((1.0, 0.0))
    field[:, 40, 40] = 90
    assert sustained_blur(field, area_fraction=0.02) == pytest.approx(1)


@pytest.mark.parametrize(("height", "min_blur_px"), [(1080, 7.2), (720, 4.8), (64, 1.0)])
def test_what_is_not_seen_grows_with_the_picture(height, min_blur_px):
    """1/150 of the height, but never less than a pixel."""
    assert blur_threshold(
        (height, 16 * height // 9), GateConfig(local_blur=1 / 150, min_blur_px=1.0)
    ) == pytest.approx(min_blur_px)
