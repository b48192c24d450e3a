"""Velocity, blur and time of the frames of a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from freezeframe.data.types import Flow
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.pipeline.config import GateConfig, MeasureConfig
from freezeframe.pipeline.stages.flows import FlowCache, adjacent_flows
from freezeframe.pipeline.stages.measure import blur_weights, blurred_frames, intervals, measure, velocities
from freezeframe.pipeline.stages.survey import Survey

INNER = (..., slice(20, -20), slice(24, -24))  # pixels that are visible in every frame
KNOWN = Survey(estimate=None, shutter=0.4, max_shutter=0.4, confidence=1.0)


def constant(vector: Sequence[float], size=(6, 8)) -> Flow:
    uv = torch.tensor(vector, dtype=torch.float32).view(2, 1, 1).expand(2, *size).contiguous()
    return Flow(uv=uv, confidence=torch.ones(size))


def test_a_pan_has_its_velocity(film, clip_of):
    """Five pixels right and two up per frame, estimated to half a pixel in the median."""
    clip = clip_of(film((5.0, -2.0), [0, 1, 2, 3]), shutter=0.4)
    motion = measure(clip, 0, KNOWN, config=MeasureConfig(), flow_cache=FlowCache(), detect_movers=True)
    middle = motion.velocity[INNER].flatten(2).median(2).values
    torch.testing.assert_close(middle, torch.tensor([[5.0, -2.0]] * 4), atol=0.5, rtol=0)
    assert motion.shutter == 0.4
    torch.testing.assert_close(motion.blur, 0.4 * motion.velocity)
    assert float(motion.independent_motion[INNER].mean()) < 0.1, "only the camera moves"


def test_velocity_is_the_central_difference():
    neighbour_flows = {
        (0, 1): constant((4.0, 0.0)),
        (1, 0): constant((-3.0, 1.0)),
        (1, 2): constant((7.0, 2.0)),
        (2, 1): constant((-8.0, 0.0)),
    }
    velocity = velocities(neighbour_flows, torch.zeros(3, 3, 6, 8))
    torch.testing.assert_close(velocity[:, :, 0, 0], torch.tensor([[4.0, 0], [5.0, 0.5], [8.0, 0]]))


def test_time_reversal_reverses_velocity(film):
    images = film((4.0, 3.0), [0, 1, 2])
    there = adjacent_flows(images, dis_pair)
    back = {(2 - i, 2 - j): flow for (i, j), flow in there.items()}
    torch.testing.assert_close(velocities(back, images.flip(0)), -velocities(there, images).flip(0))


def test_a_frame_alone_does_not_move():
    assert float(velocities({}, torch.rand(1, 3, 6, 8)).abs().max()) == 0


def test_blurred_frames_are_those_above_the_threshold(known_motion):
    """Velocity 6 px at a shutter of a half is 3 px of blur."""
    motion = known_motion((6.0, 0.0), 3, shutter=0.5)
    assert blurred_frames(motion, range(1, 3), GateConfig(local_blur=0, min_blur_px=2.9)) == [1, 2]
    assert blurred_frames(motion, range(1, 3), GateConfig(local_blur=0, min_blur_px=3.1)) == []


@pytest.mark.parametrize(("speed", "weight"), [(1.0, 0.0), (1.8, 0.0), (2.0, 0.5), (2.2, 1.0), (9.0, 1.0)])
def test_what_is_hardly_blurred_is_sharpened_in_part(speed, weight, known_motion):
    """Thresholds are ramps: at nine tenths of one, the strength is a half."""
    gate = GateConfig(local_blur=0, global_blur=0, min_blur_px=1.1111, ramp_start=0.8)
    weights = blur_weights(known_motion((speed, 0.0), 4, shutter=0.5), gate)
    assert weights == pytest.approx([weight] * 4, abs=0.06)


def test_frames_that_are_missing_are_time_that_passed(film, clip_of):
    """A pan of 4 px per frame with two missing frames: the same velocity, not three times as much."""
    whole = clip_of(film((4.0, 0.0), [0, 1, 4, 5]), shutter=0.4)
    clip = replace(whole, times=tuple(Fraction(k, 25) for k in (0, 1, 4, 5)))
    motion = measure(clip, 0, KNOWN, config=MeasureConfig(), flow_cache=FlowCache())
    middle = motion.velocity[INNER].flatten(2).median(2).values
    torch.testing.assert_close(middle, torch.tensor([[4.0, 0.0]] * 4), atol=0.5, rtol=0)


def test_uneven_clocks_are_no_gaps():
    """Ticks of a millisecond, and a frame that is half an interval late."""
    assert intervals([Fraction(ms, 1000) for ms in (0, 33, 67, 100, 117, 150)]) == [1] * 5
    assert intervals([Fraction(k, 25) for k in (0, 1, 2, 5, 6)]) == [1, 1, 3, 1]
    assert intervals([Fraction(0)]) == []
