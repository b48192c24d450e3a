from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from freezeframe.data.media.video_in.source import open_video
from freezeframe.data.types import Clip, Flow, Frame
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.motion.flow.thumbnail import coarse_speeds, fine_speeds
from freezeframe.motion.flow.warp import compose
from freezeframe.pipeline.config import GateConfig, MeasureConfig
from freezeframe.pipeline.stages.candidates import CANDIDATE_PARAMS, select_candidates
from freezeframe.pipeline.stages.first_pass import estimate_thumbnail_motion, is_cut
from freezeframe.pipeline.stages.flows import ChainedFlows, FlowCache, adjacent_flows
from freezeframe.pipeline.stages.gate import blur_ratio, extent
from freezeframe.pipeline.stages.measure import blur_weights, blurred_frames, intervals, measure, velocities
from freezeframe.pipeline.stages.shots import Window
from freezeframe.pipeline.stages.survey import SURVEY_PARAMS, Survey, shot_shutter, survey

INNER = (..., slice(20, -20), slice(24, -24))  # what stays in view
SAID = Survey(estimate=None, shutter=0.4, max_shutter=0.4, confidence=1.0)


@dataclass(frozen=True, eq=False)
class Light:
    """A picture kept as light."""

    light: Tensor

    @property
    def size(self) -> tuple[int, int]:
        return self.light.shape[1], self.light.shape[2]

    def linear(self) -> Tensor:
        return self.light

    def luma(self) -> Tensor:
        return (self.light.mean(0).clamp(0, 1).sqrt() * 255).byte()

    def with_linear(self, image: Tensor) -> Light:
        return Light(image)


@dataclass(frozen=True)
class Reel:
    """A source in memory."""

    shown: tuple[Frame, ...]

    @property
    def name(self) -> str:
        return "reel"

    @property
    def count(self) -> int:
        return len(self.shown)

    @property
    def rate(self) -> Fraction:
        return Fraction(25)

    def frames(self, *, first: int = 0):
        return iter(self.shown[first:])

    def sample_clips(self, runs: int, length: int):
        starts = np.linspace(0, max(0, len(self.shown) - length), runs).round().astype(int)
        return (self.shown[start : start + length] for start in sorted(set(starts.tolist())))


class Counted:
    """A real estimator that tells how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, source: Tensor, target: Tensor) -> tuple[Flow, Flow]:
        self.calls += 1
        return dis_pair(source, target)


def frames_of(images: Tensor) -> tuple[Frame, ...]:
    return tuple(Frame(index=i, time=Fraction(i, 25), picture=Light(image)) for i, image in enumerate(images))


def window_of(images: Tensor) -> Window:
    return Window(frames=frames_of(images), owned=range(len(images)), shot=0)


def chosen(images: Tensor, *, owned: range | None = None) -> list[int]:
    thumbnail_motion = estimate_thumbnail_motion(
        Reel(frames_of(images)), GateConfig(), on_progress=lambda _: None
    )
    window = Window(frames=frames_of(images), owned=owned or range(len(images)), shot=0)
    return select_candidates(window, thumbnail_motion, SAID, FlowCache(), GateConfig())


def constant(vector: Sequence[float], size=(6, 8)) -> Flow:
    uv = torch.tensor(vector, dtype=torch.float32).view(2, 1, 1).expand(2, *size).contiguous()
    return Flow(uv=uv, confidence=torch.ones(size))


def test_a_pan_has_its_velocity(film, clip_of):
    """Five pixels right and two up in each frame, found to half a pixel in the median."""
    clip = clip_of(film((5.0, -2.0), [0, 1, 2, 3]), shutter=0.4)
    motion = measure(clip, 0, SAID, config=MeasureConfig(), flow_cache=FlowCache(), detect_movers=True)
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
    found = velocities(neighbour_flows, torch.zeros(3, 3, 6, 8))
    torch.testing.assert_close(found[:, :, 0, 0], torch.tensor([[4.0, 0], [5.0, 0.5], [8.0, 0]]))


def test_time_reversal_reverses_velocity(film):
    images = film((4.0, 3.0), [0, 1, 2])
    there = adjacent_flows(images, dis_pair)
    back = {(2 - i, 2 - j): flow for (i, j), flow in there.items()}
    torch.testing.assert_close(velocities(back, images.flip(0)), -velocities(there, images).flip(0))


def test_a_frame_alone_does_not_move():
    assert float(velocities({}, torch.rand(1, 3, 6, 8)).abs().max()) == 0


def test_flows_between_far_frames_are_composed_of_near_ones(film):
    neighbour_flows = adjacent_flows(film((4.0, 3.0), [0, 1, 2, 3]), dis_pair)
    chained = ChainedFlows(neighbour_flows)
    assert chained[1, 2] is neighbour_flows[1, 2]
    torch.testing.assert_close(chained[0, 2].uv, compose(neighbour_flows[0, 1].uv, neighbour_flows[1, 2].uv))
    torch.testing.assert_close(chained[2, 0].uv, compose(neighbour_flows[2, 1].uv, neighbour_flows[1, 0].uv))
    middle = chained[3, 0].uv[INNER].flatten(1).median(1).values
    torch.testing.assert_close(middle, torch.tensor([-12.0, -9.0]), atol=1, rtol=0)


def test_chains_are_kept_for_the_other_end_and_only_a_few(film):
    chained = ChainedFlows(adjacent_flows(film((2.0, 0.0), range(6)), dis_pair))
    first = chained[0, 2]
    assert chained[0, 2] is first
    others = [chained[i, j] for i, j in ((1, 3), (2, 4), (3, 5), (3, 1))]
    assert chained[1, 3] is others[0]
    again = chained[0, 2]
    assert again is not first
    assert torch.equal(again.uv, first.uv)
    assert torch.equal(again.confidence, first.confidence)


def test_chains_are_trusted_no_more_than_their_links(film):
    neighbour_flows = adjacent_flows(film((6.0, 0.0), [0, 1, 2]), dis_pair)
    assert bool((ChainedFlows(neighbour_flows)[0, 2].confidence <= neighbour_flows[0, 1].confidence).all())


def test_chains_know_every_pair_of_different_frames(film):
    chained = ChainedFlows(adjacent_flows(film((2.0, 0.0), [0, 1, 2]), dis_pair))
    pairs = {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)}
    assert set(chained) == pairs
    assert len(chained) == 6
    assert (1, 1) not in chained
    assert (0, 3) not in chained


def test_no_flow_is_estimated_twice(film):
    """Windows of four frames that overlap by two: each pair of neighbours costs one estimate."""
    images, flow_cache, counted = film((4.0, 1.0), range(6)), FlowCache(), Counted()
    times = tuple(Fraction(i, 25) for i in range(6))

    def window(first: int) -> Clip:
        part = slice(first, first + 4)
        return Clip(images=images[part], times=times[part], shutter=0.5, owned=range(4))

    before = flow_cache.flows(window(0), counted)
    after = flow_cache.flows(window(2), counted)
    assert counted.calls == 5
    assert after[0, 1] is before[2, 3]
    assert after[1, 0] is before[3, 2]
    fresh = adjacent_flows(images[2:], dis_pair)
    torch.testing.assert_close(after[2, 3].uv, fresh[2, 3].uv)


def test_one_shutter_per_shot():
    flow_cache, asked = FlowCache(), iter([0.3, 0.9])
    assert [flow_cache.shutter(shot, lambda: next(asked)) for shot in (0, 0, 0, 1, 1)] == [0.3] * 3 + [
        0.9
    ] * 2


def test_what_the_user_says_is_the_shutter(film, clip_of):
    reel = Reel(frames_of(film((6.0, 0.0), [0, 1])))
    said = survey(reel, MeasureConfig(shutter=0.25))
    assert (said.shutter, said.max_shutter, said.confidence) == (0.25, 0.25, 1)
    clip = clip_of(film((6.0, 0.0), [0, 1], shutter=0.9), shutter=0.25)
    assert shot_shutter(clip, adjacent_flows(clip.images, dis_pair), said) == 0.25


def test_where_nothing_moves_the_shutter_is_the_usual_one(film):
    found = survey(Reel(frames_of(film((0.0, 0.0), [0, 1, 2, 3]))), MeasureConfig())
    assert found.confidence == 0
    assert found.shutter == SURVEY_PARAMS.prior_mean


@pytest.mark.parametrize(("shutter", "low", "high"), [(0.2, 0.01, 0.45), (0.9, 0.6, 1.0)])
def test_the_shot_tells_its_shutter(shutter, low, high, clip_of, film, wide_leaves):
    """Small frames tell short from long, on the right side of the usual half."""
    clip = clip_of(film((12.0, 5.0), range(5), shutter=shutter, of=wide_leaves), shutter=0.5)
    neighbour_flows = adjacent_flows(clip.images, dis_pair)
    # Longer than what the survey looks at: else the shot would have nothing new to tell.
    still = survey(Reel(frames_of(clip.images[:1].expand(40, -1, -1, -1))), MeasureConfig())
    assert low <= shot_shutter(clip, neighbour_flows, still) <= high


def test_in_a_still_clip_nothing_may_be_blurred(film):
    """Noise of two codes is no motion."""
    images = film((0.0, 0.0), range(4))
    noisy = images + 0.003 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    assert chosen(noisy.clamp_min(0)) == []


def test_in_a_pan_every_frame_may_be_blurred(film):
    assert chosen(film((8.0, 0.0), range(4))) == [0, 1, 2, 3]


def test_frames_beside_a_start_are_looked_at(film):
    """Still, still, then moving: the last still frames may be blurred at their ends, or are faded in."""
    images = torch.cat([film((0.0, 0.0), [0, 0, 0, 0, 0, 0]), film((8.0, 0.0), [1, 2])])
    assert chosen(images) == [3, 4, 5, 6, 7]


def test_what_a_window_chooses_does_not_depend_on_the_window(film):
    """Three frames of context tell all that matters."""
    images = torch.cat([film((0.0, 0.0), [0] * 6), film((8.0, 0.0), range(1, 4)), film((8.0, 0.0), [3] * 6)])
    thumbnail_motion = estimate_thumbnail_motion(
        Reel(frames_of(images)), GateConfig(), on_progress=lambda _: None
    )

    def of(first: int, last: int) -> list[int]:
        frames = frames_of(images)[max(0, first - 3) : last + 4]
        owned = range(first - frames[0].index, last + 1 - frames[0].index)
        window = Window(frames=frames, owned=owned, shot=0)
        return [
            frames[i].index
            for i in select_candidates(window, thumbnail_motion, SAID, FlowCache(), GateConfig())
        ]

    whole = of(0, len(images) - 1)
    assert whole == [
        i for first in range(0, len(images), 2) for i in of(first, min(first + 1, len(images) - 1))
    ]


def test_no_closer_look_denies_what_is_plainly_fast(shared_data):
    """Frames of a real, edited clip with quick pans: what the first look is sure of needs no second one."""
    source = open_video(shared_data / "test" / "clips" / "bikes.mp4")
    lumas = [frame.picture.luma() for frame in itertools.islice(source.frames(), 120)]
    pairs = [pair for pair in itertools.pairwise(lumas) if not is_cut(*pair)]

    def sees(estimate_speed, pair: tuple[Tensor, Tensor]) -> float:
        return blur_ratio(extent(0.5 * estimate_speed(*pair), GateConfig()), (272, 640), GateConfig())

    plain = [pair for pair in pairs if sees(coarse_speeds, pair) >= CANDIDATE_PARAMS.certain_ratio]
    assert len(plain) > 20
    assert min(sees(fine_speeds, pair) for pair in plain) >= CANDIDATE_PARAMS.fine_ratio


def test_blurred_frames_are_those_above_the_threshold(known_motion):
    """Velocity 6 px at a shutter of a half is 3 px of blur."""
    motion = known_motion((6.0, 0.0), 3, shutter=0.5)
    assert blurred_frames(motion, range(1, 3), GateConfig(local_blur=0, min_blur_px=2.9)) == [1, 2]
    assert blurred_frames(motion, range(1, 3), GateConfig(local_blur=0, min_blur_px=3.1)) == []


@pytest.mark.parametrize(("speed", "weight"), [(1.0, 0.0), (1.8, 0.0), (2.0, 0.5), (2.2, 1.0), (9.0, 1.0)])
def test_what_is_hardly_blurred_is_sharpened_in_part(speed, weight, known_motion):
    """Thresholds have no cliff: at nine tenths of one, half of the change is taken."""
    gate = GateConfig(local_blur=0, global_blur=0, min_blur_px=1.1111, ramp_start=0.8)
    weights = blur_weights(known_motion((speed, 0.0), 4, shutter=0.5), gate)
    assert weights == pytest.approx([weight] * 4, abs=0.06)


def test_cuts_are_told_from_pans(film, leaves):
    lumas = [frame.picture.luma() for frame in frames_of(film((8.0, 3.0), [0, 1]))]
    other = frames_of(film((0.0, 0.0), [0], of=np.ascontiguousarray(leaves[::-1, ::-1])))[0].picture.luma()
    assert not is_cut(*lumas)
    assert is_cut(lumas[0], other)


def test_frames_that_are_missing_are_time_that_passed(film, clip_of):
    """A pan of 4 px a frame, of which two frames are lost: the same velocity, not three times as much."""
    whole = clip_of(film((4.0, 0.0), [0, 1, 4, 5]), shutter=0.4)
    clip = replace(whole, times=tuple(Fraction(k, 25) for k in (0, 1, 4, 5)))
    motion = measure(clip, 0, SAID, config=MeasureConfig(), flow_cache=FlowCache())
    middle = motion.velocity[INNER].flatten(2).median(2).values
    torch.testing.assert_close(middle, torch.tensor([[4.0, 0.0]] * 4), atol=0.5, rtol=0)


def test_uneven_clocks_are_no_gaps():
    """Ticks of a millisecond, and a frame that is half an interval late."""
    assert intervals([Fraction(ms, 1000) for ms in (0, 33, 67, 100, 117, 150)]) == [1] * 5
    assert intervals([Fraction(k, 25) for k in (0, 1, 2, 5, 6)]) == [1, 1, 3, 1]
    assert intervals([Fraction(0)]) == []
