"""The shutter of a clip and of a shot."""

from __future__ import annotations

import pytest

from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.pipeline.config import MeasureConfig
from freezeframe.pipeline.stages.flows import adjacent_flows
from freezeframe.pipeline.stages.survey import SURVEY_PARAMS, shot_shutter, survey
from tests.support.pictures import MemorySource


def test_what_the_user_says_is_the_shutter(film, clip_of):
    source = MemorySource(film((6.0, 0.0), [0, 1]))
    known = survey(source, MeasureConfig(shutter=0.25))
    assert (known.shutter, known.max_shutter, known.confidence) == (0.25, 0.25, 1)
    clip = clip_of(film((6.0, 0.0), [0, 1], shutter=0.9), shutter=0.25)
    assert shot_shutter(clip, adjacent_flows(clip.images, dis_pair), known) == 0.25


def test_where_nothing_moves_the_shutter_is_the_usual_one(film):
    still = survey(MemorySource(film((0.0, 0.0), [0, 1, 2, 3])), MeasureConfig())
    assert still.confidence == 0
    assert still.shutter == SURVEY_PARAMS.prior_mean


@pytest.mark.parametrize(("shutter", "low", "high"), [(0.2, 0.01, 0.45), (0.9, 0.6, 1.0)])
def test_the_shot_tells_its_shutter(shutter, low, high, clip_of, film, wide_leaves):
    """Small frames suffice to separate short from long exposures."""
    clip = clip_of(film((12.0, 5.0), range(5), shutter=shutter, of=wide_leaves), shutter=0.5)
    neighbour_flows = adjacent_flows(clip.images, dis_pair)
    # Longer than the runs of the survey: else the shot would be no further evidence.
    still = survey(MemorySource(clip.images[:1].expand(40, -1, -1, -1)), MeasureConfig())
    assert low <= shot_shutter(clip, neighbour_flows, still) <= high
