"""A textured mover before a still picture: only its surroundings are deconvolved, and only it changes."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch import Tensor

from freezeframe.data.types import Box, RegionVerdict
from freezeframe.models.registry.bundled import WEIGHTS, read_network
from freezeframe.motion.regions.region_map import Array, RegionMap
from freezeframe.pipeline.config import FuseConfig, GateConfig, MeasureConfig
from freezeframe.pipeline.stages.flows import FlowCache
from freezeframe.pipeline.stages.fuse import fuse
from freezeframe.pipeline.stages.fusion_network import run_fusion_network
from freezeframe.pipeline.stages.gate import RegionProposal, apply_proposal, moving_mask, propose
from freezeframe.pipeline.stages.measure import blur_weights, measure
from freezeframe.pipeline.stages.moving_area import (
    MovingArea,
    MovingAreaParams,
    find_changes,
    find_moving_area,
    limit_layers,
)
from freezeframe.pipeline.stages.shots import Window
from freezeframe.pipeline.stages.survey import Survey
from tests.support.pictures import frames_of

SIZE = (192, 256)  # of the frames
COUNT, SPEED, SHUTTER = 9, 7.0, 0.8
SIDE = 40  # pixels of the mover
PARAMS = MovingAreaParams(context=32, max_share=0.8)
KNOWN = Survey(estimate=None, shutter=SHUTTER, max_shutter=SHUTTER, confidence=1.0)
STILL = RegionMap(camera=(torch.eye(3, dtype=torch.float64),) * (COUNT - 1), tracks=())
EVERY = range(COUNT)


def left_of(time: float) -> float:
    return 60 + SPEED * time


@pytest.fixture(scope="module")
def texture(leaves) -> np.ndarray:
    """[SIDE, SIDE, 3] linear RGB of the mover."""
    return leaves[40 : 40 + SIDE, 40 : 40 + SIDE] + np.float32(0.1)


@pytest.fixture(scope="module")
def images(wide_leaves, texture) -> Tensor:
    """[T, 3, H, W] linear RGB, with noise of a code value."""
    top, left = ((whole - side) // 2 for whole, side in zip(wide_leaves.shape, SIZE, strict=False))
    picture = wide_leaves[top : top + SIZE[0], left : left + SIZE[1]]
    frames = []
    for index in EVERY:
        subframes = []
        for moment in SHUTTER * ((np.arange(24) + 0.5) / 24 - 0.5):
            subframe, left = picture.copy(), round(left_of(index + moment))
            subframe[70 : 70 + SIDE, left : left + SIDE] = texture
            subframes.append(subframe)
        frames.append(np.mean(subframes, axis=0))
    noise = np.random.default_rng(0).normal(0, 0.003, (COUNT, *picture.shape))
    light = (np.stack(frames) + noise).clip(1e-3, None).astype(np.float32)
    return torch.from_numpy(light).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="module")
def window(images) -> Window:
    return Window(frames=frames_of(images), owned=EVERY, shot=0)


def area_of(  # those of `find_moving_area`
    window: Window,
    found: Mapping[int, Array],
    layers: Mapping[int, Sequence[RegionProposal]] = MappingProxyType({}),
    *,
    still: Container[int] = EVERY,
    shutter: float = SHUTTER,
    params: MovingAreaParams = PARAMS,
) -> MovingArea:
    return find_moving_area(window, found, layers, still=still, shutter=shutter, params=params)


@pytest.fixture(scope="module")
def area(window) -> MovingArea:
    return area_of(window, find_changes(window, STILL))


def swept(index: int, margin: int) -> Tensor:
    """[H, W] bool: what the mover covers in a frame, widened."""
    half = SPEED * SHUTTER / 2
    mask = torch.zeros(SIZE, dtype=torch.bool)
    left, right = int(left_of(index) - half) - margin, int(left_of(index) + half) + SIDE + margin + 1
    mask[70 - margin : 70 + SIDE + margin, left:right] = True
    return mask


def deconvolved(
    window: Window, box: Box | None, which: list[int], *, with_network: bool = False
) -> tuple[Tensor, Tensor, list[float]]:
    """Deconvolved images, blur vectors, and weights of all frames."""
    clip = window.clip(shutter=SHUTTER, box=box)
    motion = measure(clip, 0, KNOWN, config=MeasureConfig(), flow_cache=FlowCache())
    # The iterations of a box are those of its mover.
    fused = fuse(clip, motion, FuseConfig(iterations=6), which=which)
    network = read_network(WEIGHTS) if with_network else None
    sharp = run_fusion_network(fused, clip, motion, network, which=which)
    return sharp, fused.blur_vectors, blur_weights(motion, GateConfig(), clip.whole_size)


@pytest.mark.parametrize("with_network", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_box_gives_what_the_whole_frame_gives(with_network, window):
    """Inside the mover, to a tenth of the change, where the patches of both flows start at one corner."""
    box = Box(left=0, top=0, right=224, bottom=160)
    (whole, _, whole_weights), (part, _, weights) = (
        deconvolved(window, each, [4], with_network=with_network) for each in (None, box)
    )
    inside = swept(4, 0)
    difference = (whole[0][:, :160, :224] - part[0])[:, inside[:160, :224]]
    change = (whole[0] - window.frames[4].picture.linear())[:, inside]
    assert difference.square().mean() < (0.1 * change).square().mean()
    assert weights == pytest.approx(whole_weights, abs=0.05)
    assert weights[4] == 1


def test_a_box_is_as_good_as_the_whole_frame(window, area, texture):
    """Its flow starts at other corners: the error inside the mover is the same within a tenth."""
    rows, columns = slice(70, 70 + SIDE), slice(round(left_of(4)), round(left_of(4)) + SIDE)
    truth = torch.from_numpy(texture).permute(2, 0, 1)
    errors = []
    for box in (None, area.box):
        (sharp,), _, _ = deconvolved(window, box, [4])
        y, x = (0, 0) if box is None else (box.top, box.left)
        shown = sharp[:, rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        errors.append(float((shown - truth).square().mean().sqrt()))
    before = float((window.frames[4].picture.linear()[:, rows, columns] - truth).square().mean().sqrt())
    assert errors[1] < 1.1 * errors[0]
    assert errors[1] < before


def test_a_frame_changes_only_where_it_differs_from_the_still_picture(window, area):
    sharp, vectors, _ = deconvolved(window, area.box, [4])
    frame = window.frames[4]
    clip = window.clip(shutter=SHUTTER, box=area.box)
    proposal = propose(
        frame, clip.images[4], sharp[0], vectors[0], GateConfig(),
        box=area.box, mask=area.limit(4, moving_mask(vectors[0])),
    )  # fmt: skip
    after, verdict = apply_proposal(proposal, 1.0)
    changed = (after.picture.linear() != frame.picture.linear()).any(0)
    assert verdict.action == "deblurred"
    assert changed[swept(4, -4)].float().mean() > 0.9
    assert not changed[~swept(4, 12)].any()


def test_the_box_holds_the_mover_and_its_surroundings(area):
    assert area.box.width * area.box.height < 0.7 * SIZE[0] * SIZE[1]
    for index in EVERY:
        rows, columns = area.box.slices(SIZE)
        everything = swept(index, 20)
        assert everything[rows, columns].sum() == everything.sum()


def test_the_edges_of_a_box_are_those_of_blocks(area):
    assert (area.box.left % 16, area.box.top % 16, area.box.right % 16, area.box.bottom % 16) == (0, 0, 0, 0)


def test_a_large_box_is_the_whole_frame(window):
    found = find_changes(window, STILL)
    params = replace(PARAMS, max_share=0.1)
    area = area_of(window, found, params=params)
    assert area.box is None
    assert area.masks[4].shape == SIZE
    assert float(area.masks[4][~swept(4, 12)].max()) == 0


def test_what_is_hardly_blurred_does_not_enlarge_the_box(window):
    """At a short exposure nothing is left for a box."""
    assert area_of(window, find_changes(window, STILL), shutter=0.05).box is None


def test_before_a_moving_camera_everything_may_change(window):
    step = torch.tensor([[1.0, 0, 4], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    panning = RegionMap(camera=(step,) * (COUNT - 1), tracks=())
    area = find_moving_area(
        window, find_changes(window, panning), {}, still=(), shutter=SHUTTER, params=PARAMS
    )
    assert area.box is None
    assert area.limit(4, torch.zeros(SIZE)) is None


def layer(box: Box, strength: float) -> RegionProposal:
    verdict = RegionVerdict(
        track=0, box=box, mover="object", blur=5.0, direction=0.0, shutter=SHUTTER,
        method="layer", residual=0.1, strength=strength,
    )  # fmt: skip
    size = box.height, box.width
    whole = torch.ones(size)
    return RegionProposal(verdict=verdict, image=torch.zeros(3, *size), weight=whole, coverage=whole)


@pytest.mark.parametrize(("strength", "left"), [(1.0, 0.0), (0.5, 1.0)])
def test_what_a_complete_layer_shows_is_not_deconvolved(strength, left, window):
    box = Box(left=70, top=50, right=180, bottom=130)  # holds the mover
    area = area_of(window, find_changes(window, STILL), {4: [layer(box, strength)]})
    rows, columns = area.box.slices(SIZE)
    means = [float(area.masks[k][swept(k, -8)[rows, columns]].mean()) for k in (4, 5)]
    assert means == pytest.approx([left, 1.0], abs=0.03)


def test_a_layer_invents_nothing_where_the_frame_is_as_the_background(window):
    """Beside the mover it may show the recorded picture, but no other one."""
    box = Box(left=20, top=40, right=220, bottom=150)
    recorded, black = window.frames[4].picture.linear_in(box), layer(box, 1.0)
    same = replace(black, image=recorded + 0.001)
    found = find_changes(window, STILL)
    of_black, of_same = limit_layers(window, {4: [black, same]}, found)[4]
    rows, columns = box.slices(SIZE)
    assert float(of_black.weight[swept(4, -4)[rows, columns]].mean()) > 0.9
    assert float(of_black.weight[~swept(4, 12)[rows, columns]].max()) < 0.01
    assert float(of_same.weight.min()) == 1


def test_flows_of_a_box_are_not_those_of_the_frame(window, area):
    flow_cache, config = FlowCache(), MeasureConfig()
    for box in (None, area.box, None):
        clip = window.clip(shutter=SHUTTER, box=box)
        motion = measure(clip, 0, KNOWN, config=config, flow_cache=flow_cache)
        assert motion.velocity.shape[2:] == clip.images.shape[2:]
