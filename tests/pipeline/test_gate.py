from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from freezeframe.data.exposure import blur
from freezeframe.data.types import Frame
from freezeframe.pipeline.config import Config, GateConfig
from freezeframe.pipeline.gate import (
    blur_threshold,
    let_out,
    plausibility,
    refusal,
    sustained_blur,
    untouched,
)


@dataclass(frozen=True, eq=False)
class Light:
    """A picture kept as light, so that what comes out can be compared with what went in."""

    light: Tensor

    @property
    def size(self) -> tuple[int, int]:
        return self.light.shape[1], self.light.shape[2]

    def linear(self) -> Tensor:
        return self.light

    def luma(self) -> Tensor:
        return (self.light.mean(0).clamp(0, 1) * 255).byte()

    def with_light(self, image: Tensor) -> Light:
        return Light(image)


@pytest.fixture
def way(steady) -> Tensor:
    return steady((8.0, 3.0))


@pytest.fixture
def truth(film) -> Tensor:
    return film((0.0, 0.0), [0])[0].clamp(0, 1)


@pytest.fixture
def original(truth, way) -> Tensor:
    return blur(truth, way)


def frame_of(light: Tensor) -> Frame:
    return Frame(index=7, time=Fraction(7, 25), picture=Light(light))


def reason(original: Tensor, proposed: Tensor, way: Tensor) -> str:
    return refusal(plausibility(original, proposed, way), GateConfig()) or ""


def test_the_truth_passes(original, truth, way):
    """What, blurred again, gives the input to the last bit has no error left."""
    found = plausibility(original, truth, way)
    assert found.residual == pytest.approx(0, abs=1e-3)
    assert refusal(found, GateConfig()) is None


def test_the_input_itself_has_the_residual_one(original, way):
    found = plausibility(original, original, way)
    assert (found.drift, found.residual, found.checkerboard) == pytest.approx((0, 1, 1))


@pytest.mark.parametrize("rot", [float("nan"), float("inf")])
def test_one_rotten_pixel_is_refused(rot, original, truth, way):
    truth[1, 40, 50] = rot
    assert reason(original, truth, way) == "not a number"


@pytest.mark.parametrize("channel", [0, 1, 2])
@pytest.mark.parametrize("tint", [0.8, 1.25])
def test_a_tint_is_refused(tint, channel, original, truth, way):
    truth[channel] *= tint
    assert "colour drifts" in reason(original, truth, way)


def test_sharpening_across_the_motion_is_refused(original, way):
    """An over-done unsharp mask in the wrong direction: blurred again, it is farther from the input."""
    across = torch.stack([-way[1], way[0]])
    wrong = (original + 2 * (original - blur(original, across))).clamp(0, 1)
    wrong *= original.mean() / wrong.mean()
    assert "explains the input" in reason(original, wrong, way)


def test_another_picture_is_refused(original, truth, way):
    other = truth.flip(2)
    assert "explains the input" in reason(original, other, way)


def test_a_checkerboard_is_refused(truth, steady):
    """Eight pixels of blur average it away to the last bit; eyes see it all the same."""
    way, bright = steady((8.0, 0.0)), 0.3 + 0.5 * truth
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
    board = 1 - 2.0 * ((rows + columns) % 2)
    assert not reason(blur(bright, way), bright, way)
    assert "checkerboard" in reason(blur(bright, way), bright + 0.1 * board, way)


@pytest.mark.parametrize("axis", [1, 2])
def test_stripes_are_no_checkerboard(axis, original, truth, way):
    """At the grid's own frequency one way only, as fine structure may be."""
    shape = (1, -1, 1) if axis == 1 else (1, 1, -1)
    stripes = 0.05 * (-1.0) ** torch.arange(truth.shape[axis]).view(shape)
    striped = plausibility(original, (truth + stripes).clamp(0.05, 0.9), way)
    assert striped.checkerboard < 1.2 * plausibility(original, truth.clamp(0.05, 0.9), way).checkerboard + 0.2


def test_light_from_beyond_the_border_is_not_judged(truth, way):
    """The border pixels of a pan show what the frame does not: the truth passes all the same."""
    wide = torch.nn.functional.pad(truth[None], (10, 10, 10, 10), mode="reflect")[0]
    wide[:, :, :10] = 0.9
    wide_way = way[:, :1, :1].expand(2, *wide.shape[1:])
    seen = blur(wide, wide_way)[:, 10:-10, 10:-10].contiguous()
    assert plausibility(seen, truth, way).residual == pytest.approx(0, abs=1e-3)


def test_refusals_obey_their_thresholds(original, truth, way):
    found = plausibility(original, 0.9 * truth, way)
    assert refusal(found, GateConfig(drift=found.drift * 0.99)) is not None
    assert refusal(found, GateConfig(drift=found.drift * 1.01, residual=found.residual * 1.01)) is None


def test_what_is_refused_leaves_as_it_came(original, truth, way):
    frame = frame_of(original)
    out, verdict = let_out(frame, original, truth * torch.nan, way, config=Config())
    assert out.picture is frame.picture
    assert (verdict.action, verdict.index, verdict.time) == ("fell back", 7, 0.28)


def test_untouched_frames_keep_the_very_picture(original):
    frame = frame_of(original)
    out, verdict = untouched(frame, "sharp enough")
    assert out is frame
    assert (verdict.action, verdict.reason, verdict.index) == ("untouched", "sharp enough", 7)


def test_what_passes_shows_the_proposal(original, truth, way):
    out, verdict = let_out(frame_of(original), original, truth, way, config=Config())
    assert torch.equal(out.picture.linear(), truth)
    assert verdict.action == "sharpened"
    assert verdict.blur == pytest.approx(8.54, abs=0.01)  # |(8, 3)|
    assert set(verdict.figures) == {"finite", "drift", "residual", "checkerboard"}


@pytest.mark.parametrize("strength", [0.25, 0.5])
def test_strength_lies_between(strength, original, truth, way):
    """Half the strength is half way in light."""
    out, _ = let_out(frame_of(original), original, truth, way, config=Config(strength=strength))
    expected = (1 - strength) * original + strength * truth
    torch.testing.assert_close(out.picture.linear(), expected)


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0.05, 0.9), length=st.floats(2, 50), angle=st.floats(0, 6.28))
def test_sustained_blur_is_what_the_share_exceeds(share, length, angle):
    """A runner of a little more than the share counts in full; of a little less, not at all."""
    angle = torch.tensor(angle)
    vector = length * torch.stack([angle.cos(), angle.sin()]).view(2, 1)
    for more, expected in ((1.1, length), (0.9, 0.0)):
        covered = round(share * more * 10_000)
        columns = torch.zeros(2, 10_000)
        columns[:, :covered] = vector
        # Every fourth row and column are looked at: a field that is the same over 4x4 pixels.
        field = columns.view(2, 100, 100).repeat_interleave(4, 1).repeat_interleave(4, 2)
        assert sustained_blur(field, share=share) == pytest.approx(expected, rel=1e-4)


def test_one_wrong_vector_is_not_believed(steady):
    field = steady((1.0, 0.0))
    field[:, 40, 40] = 90
    assert sustained_blur(field, share=0.02) == pytest.approx(1)


@pytest.mark.parametrize(("height", "least"), [(1080, 7.2), (720, 4.8), (64, 1.0)])
def test_what_is_not_seen_grows_with_the_picture(height, least):
    """A hundred-and-fiftieth of the height, but never less than a pixel."""
    assert blur_threshold((height, 16 * height // 9), GateConfig(blur=1 / 150, least=1.0)) == pytest.approx(
        least
    )
