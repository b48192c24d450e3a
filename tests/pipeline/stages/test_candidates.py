"""Frames that may be blurred, by thumbnails."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from freezeframe.data.media.video_in.source import open_video
from freezeframe.motion.flow.thumbnail import coarse_speeds, fine_speeds
from freezeframe.pipeline.config import GateConfig
from freezeframe.pipeline.stages.candidates import CANDIDATE_PARAMS, select_candidates
from freezeframe.pipeline.stages.first_pass import estimate_thumbnail_motion, is_cut
from freezeframe.pipeline.stages.flows import FlowCache
from freezeframe.pipeline.stages.gate import blur_ratio, extent
from freezeframe.pipeline.stages.shots import Window
from freezeframe.pipeline.stages.survey import Survey
from tests.support.pictures import MemorySource, frames_of

KNOWN = Survey(estimate=None, shutter=0.4, max_shutter=0.4, confidence=1.0)


def candidates_of(images: Tensor, *, owned: range | None = None) -> list[int]:
    thumbnail_motion = estimate_thumbnail_motion(MemorySource(images), on_progress=lambda _: None)
    window = Window(frames=frames_of(images), owned=owned or range(len(images)), shot=0)
    return select_candidates(window, thumbnail_motion, KNOWN, FlowCache(), GateConfig())


def test_in_a_still_clip_nothing_may_be_blurred(film):
    """Noise of two code values is no motion."""
    images = film((0.0, 0.0), range(4))
    noisy = images + 0.003 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    assert candidates_of(noisy.clamp_min(0)) == []


def test_in_a_pan_every_frame_may_be_blurred(film):
    assert candidates_of(film((8.0, 0.0), range(4))) == [0, 1, 2, 3]


def test_frames_beside_a_start_are_looked_at(film):
    """Still, then moving: the last still frames may be blurred at their ends, or are faded in."""
    images = torch.cat([film((0.0, 0.0), [0, 0, 0, 0, 0, 0]), film((8.0, 0.0), [1, 2])])
    assert candidates_of(images) == [3, 4, 5, 6, 7]


def test_what_a_window_chooses_does_not_depend_on_the_window(film):
    """Three frames of context are enough."""
    images = torch.cat([film((0.0, 0.0), [0] * 6), film((8.0, 0.0), range(1, 4)), film((8.0, 0.0), [3] * 6)])
    thumbnail_motion = estimate_thumbnail_motion(MemorySource(images), on_progress=lambda _: None)

    def of(first: int, last: int) -> list[int]:
        frames = frames_of(images)[max(0, first - 3) : last + 4]
        owned = range(first - frames[0].index, last + 1 - frames[0].index)
        window = Window(frames=frames, owned=owned, shot=0)
        return [
            frames[i].index
            for i in select_candidates(window, thumbnail_motion, KNOWN, FlowCache(), GateConfig())
        ]

    whole = of(0, len(images) - 1)
    assert whole == [
        i for first in range(0, len(images), 2) for i in of(first, min(first + 1, len(images) - 1))
    ]


def test_no_closer_look_denies_what_is_plainly_fast(shared_data):
    """A real, edited clip with quick pans: speeds at half resolution agree where thumbnails are certain."""
    source = open_video(shared_data / "test" / "clips" / "bikes.mp4")
    lumas = [frame.picture.luma() for frame in itertools.islice(source.frames(), 120)]
    pairs = [pair for pair in itertools.pairwise(lumas) if not is_cut(*pair)]

    def ratio(estimate_speed, pair: tuple[Tensor, Tensor]) -> float:
        return blur_ratio(extent(0.5 * estimate_speed(*pair)), (272, 640), GateConfig())

    certain = [pair for pair in pairs if ratio(coarse_speeds, pair) >= CANDIDATE_PARAMS.certain_ratio]
    assert len(certain) > 20
    assert min(ratio(fine_speeds, pair) for pair in certain) >= CANDIDATE_PARAMS.fine_ratio


def test_cuts_are_told_from_pans(film, leaves):
    lumas = [frame.picture.luma() for frame in frames_of(film((8.0, 3.0), [0, 1]))]
    other = frames_of(film((0.0, 0.0), [0], of=np.ascontiguousarray(leaves[::-1, ::-1])))[0].picture.luma()
    assert not is_cut(*lumas)
    assert is_cut(lumas[0], other)
