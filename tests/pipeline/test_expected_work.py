"""The work that is expected of a clip before it is done: layers count beside whole frames."""

from __future__ import annotations

import math

import pytest
import torch

from freezeframe.data.types import Box
from freezeframe.motion.regions.region_map import Detection, RegionMap, Track
from freezeframe.pipeline.config import Config, GateConfig
from freezeframe.pipeline.deblur import ClipState
from freezeframe.pipeline.prepare import expected_work, fitted_pixels
from freezeframe.pipeline.stages.first_pass import NO_MOTION, ThumbnailMotion
from freezeframe.pipeline.stages.flows import FlowCache
from freezeframe.pipeline.stages.gate import Extent
from freezeframe.pipeline.stages.layers.cache import LayerCache
from freezeframe.pipeline.stages.splat import SceneLog
from freezeframe.pipeline.stages.survey import Survey
from freezeframe.pipeline.support.limits.budget import Budget
from freezeframe.pipeline.support.report import Stopwatch

SIZE, FRAMES = (360, 640), 25
KNOWN = Survey(estimate=None, shutter=0.5, max_shutter=0.5, confidence=1.0)


def track_of(*, speed: float, width: int = 40, height: int = 30) -> Track:
    """A mover that crosses the frame from frame 4 on."""
    detections = []
    for index in range(4, FRAMES):
        x, y = 60 + speed * (index - 4), 100.0
        left, top = round(x - width / 2), round(y - height / 2)
        box = Box(left=left, top=top, right=left + width, bottom=top + height)
        detections.append(
            Detection(index=index, box=box, centre=(x, y), area=900.0, contrast=60.0, significance=20.0)
        )
    centres = tuple(each.centre for each in detections[:-1])
    return Track(number=0, detections=tuple(detections), background=centres)


def map_of(*tracks: Track) -> RegionMap:
    return RegionMap(camera=(torch.eye(3, dtype=torch.float64),) * (FRAMES - 1), tracks=tracks)


def motion_of(regions: RegionMap, speeds: Extent = NO_MOTION) -> ThumbnailMotion:
    return ThumbnailMotion(
        size=SIZE, coarse_speeds=(speeds,) * (FRAMES - 1), cuts=frozenset(), regions=regions
    )


def test_every_pixel_of_a_fast_mover_is_fitted_once():
    pixels = fitted_pixels(map_of(track_of(speed=14.0), track_of(speed=9.0)), SIZE, 0.5, GateConfig())
    assert sum(pixels.values()) == 2 * (FRAMES - 4) * 40 * 30
    assert set(pixels) < set(range(4, FRAMES))


@pytest.mark.parametrize("track", [track_of(speed=1.0), track_of(speed=14.0, width=320, height=320)])
def test_what_is_slow_or_large_is_not_fitted(track):
    assert not fitted_pixels(map_of(track), SIZE, 0.5, GateConfig())


def test_a_mover_before_a_still_camera_is_work_for_layers_alone():
    work = expected_work(motion_of(map_of(track_of(speed=14.0))), KNOWN, Config())
    assert [each.blur_ratio >= 1 for each in work] == [index >= 4 for index in range(FRAMES)]
    assert not any(each.deconvolved for each in work)
    assert sum(each.layer_megapixels for each in work) == pytest.approx((FRAMES - 4) * 1200 / 1e6)


def test_a_pan_is_work_for_the_deconvolution():
    work = expected_work(motion_of(map_of(), Extent(local_px=20.0, global_px=20.0)), KNOWN, Config())
    assert all(each.deconvolved and not each.layer_megapixels for each in work)


def test_frames_that_wait_to_be_written_are_no_remaining_work():
    motion = motion_of(map_of(), Extent(local_px=20.0, global_px=20.0))
    state = ClipState(
        thumbnail_motion=motion, work=expected_work(motion, KNOWN, Config()), survey=KNOWN, network=None,
        restorer=None, notes=(), flow_cache=FlowCache(), layer_cache=LayerCache(), scenes=SceneLog(),
        watch=Stopwatch(), budget=Budget(math.inf, megapixels=0.2, read_seconds=0.0), proposed=16,
    )  # fmt: skip
    state.budget.update(state.work[:16], {"fuse": 32.0})
    assert state.remaining_work(14, Config()) == (FRAMES - 16, pytest.approx(2.0 * (FRAMES - 16)))
    assert state.remaining_work(20, Config()) == (FRAMES - 20, pytest.approx(2.0 * (FRAMES - 20)))
    assert state.remaining_work(14, Config(strength=0.0)) == (0, 0.0)
