"""The layer stage on a drawn disc before a still wall."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from freezeframe.data.types import Box
from freezeframe.motion.regions.region_map import Detection, RegionMap, Track
from freezeframe.pipeline.config import GateConfig
from freezeframe.pipeline.stages.gate import Proposal, apply_proposal
from freezeframe.pipeline.stages.layers.cache import LayerCache
from freezeframe.pipeline.stages.layers.chunk_fit import chunks
from freezeframe.pipeline.stages.layers.movers import image_velocity, min_blur
from freezeframe.pipeline.stages.shots import Window
from freezeframe.pipeline.stages.survey import Survey
from tests.splatting.layers.drawn_disc import COUNT, RADIUS, SHUTTER, SIZE, SPEED, DrawnDisc, film_disc
from tests.support.pictures import frames_of

KNOWN = Survey(estimate=None, shutter=SHUTTER, max_shutter=SHUTTER, confidence=1.0)


def clip_of(disc: DrawnDisc) -> tuple[Window, RegionMap]:
    """The frames of a disc, and its track, which starts 1 px beside its path."""
    detections = []
    for index, (x, y) in enumerate((disc.position - disc.crops.origin).tolist()):
        half = RADIUS + SPEED * SHUTTER / 2
        box = Box(
            left=round(x - half), top=round(y - RADIUS), right=round(x + half), bottom=round(y + RADIUS)
        )
        detections.append(
            Detection(index=index, box=box, centre=(x + 1, y), area=300.0, contrast=60.0, significance=20.0)
        )
    track = Track(
        number=0, detections=tuple(detections), background=tuple(each.centre for each in detections[:-1])
    )
    camera = (torch.eye(3, dtype=torch.float64),) * (COUNT - 1)
    window = Window(frames=frames_of(disc.crops.images), owned=range(COUNT), shot=0)
    return window, RegionMap(camera=camera, tracks=(track,))


@pytest.mark.slow
def test_a_disc_is_shown_as_it_was_at_the_middle_of_the_exposure():
    disc = film_disc()
    window, regions = clip_of(disc)
    proposals = LayerCache().propose(window, regions, KNOWN, GateConfig())
    for index, frame in enumerate(window.frames):
        corrected, verdict = apply_proposal(
            Proposal(frame=frame, blur=0.0, regions=tuple(proposals[index])), 1.0
        )
        (region,) = verdict.regions
        assert (verdict.action, region.method, region.strength) == ("deblurred", "layer", 1.0)
        assert region.blur == pytest.approx(SPEED * SHUTTER, rel=0.1)
        before, after = (
            (image - disc.sharp[index]).square().mean()
            for image in (disc.crops.images[index], corrected.picture.linear())
        )
        assert after < before / 4  # 6 dB
        rows, columns = region.box.slices(SIZE)
        outside = torch.ones(SIZE, dtype=torch.bool)
        outside[rows, columns] = False
        recorded, written = frame.picture.linear()[:, outside], corrected.picture.linear()[:, outside]
        assert torch.equal(recorded, written)


def test_a_mover_without_blur_is_not_fitted():
    window, regions = clip_of(film_disc())
    short = replace(KNOWN, shutter=0.01, max_shutter=0.01)
    proposals = LayerCache().propose(window, regions, short, GateConfig())
    assert not any(proposals.values())


@pytest.mark.slow
def test_a_sharp_mover_of_an_unknown_shutter_gets_no_stripes():
    """No frame changes by more than the noise of a fit, 40 dB, where the disc is."""
    disc = film_disc()
    sharp = replace(disc, crops=replace(disc.crops, images=disc.sharp))
    window, regions = clip_of(sharp)
    unknown = replace(KNOWN, confidence=0.0)
    proposals = LayerCache().propose(window, regions, unknown, GateConfig())
    for index, frame in enumerate(window.frames):
        corrected, _ = apply_proposal(Proposal(frame=frame, blur=0.0, regions=tuple(proposals[index])), 1.0)
        change = (corrected.picture.linear() - disc.sharp[index])[:, disc.coverage[index] > 0]
        assert float(change.square().mean()) < 1e-4


@pytest.mark.parametrize("length", [1, 5, 6, 8, 13, 47])
def test_chunks_divide_a_track(length):
    span = range(3, 3 + length)
    parts = chunks(span, 6)
    assert [index for part in parts for index in part] == list(span)
    assert all(len(part) <= 9 for part in parts)


def test_the_velocity_is_that_of_the_centre():
    _, regions = clip_of(film_disc())
    assert image_velocity(regions.tracks[0], 2) == pytest.approx((SPEED, 2.0), abs=1e-3)


def test_a_user_lifts_the_threshold():
    assert min_blur((1080, 1920), GateConfig()) == pytest.approx(3.0)
    assert min_blur((360, 640), GateConfig(min_blur_px=5.0)) == 5.0
