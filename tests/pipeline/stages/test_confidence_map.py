"""What a confidence map says of a pixel."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.pipeline.stages.confidence_map import confidence_map
from freezeframe.pipeline.stages.gate import apply_proposal

from .regions import SIZE, proposal, random, region

FRACTIONS = st.floats(0, 1)


def deconvolved(given, mask=None):
    """`given` with a correction of the whole frame."""
    original = given.frame.picture.linear()
    return replace(given, original=original, image=original + 0.25, mask=mask)


@settings(max_examples=40, deadline=None)
@given(strength=FRACTIONS, first=FRACTIONS, second=FRACTIONS, masked=st.booleans())
def test_copied_pixels_and_only_these_are_the_recorded_ones(strength, first, second, masked):
    """Two overlapping layers over a deconvolution: the channels sum to 255 in each pixel."""
    mask = (random(*SIZE, seed=5) - 0.5).clamp_min(0) if masked else None
    layers = region(strength=first), region(strength=second, left=20, top=12, seed=2)
    change = deconvolved(proposal(*layers), mask)
    shares = confidence_map(change, strength)
    assert (shares.int().sum(0) == 255).all()
    frame, _ = apply_proposal(change, strength)
    changed = (frame.picture.linear() != change.frame.picture.linear()).any(0)
    # A change below the resolution of float32 is none.
    assert not (changed & (shares[0] == 255)).any()
    if min(each for each in (strength, first, second, 1.0) if each) > 1e-3:
        assert ((shares[0] < 255) == changed).float().mean() > 0.995


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_a_deconvolved_frame_is_so_everywhere(strength):
    copied, flow, layers = confidence_map(deconvolved(proposal()), strength)
    assert (flow.int() - round(255 * strength)).abs().max() <= 1
    assert not layers.any()
    assert (copied == 255 - flow).all()


def test_a_layer_is_reconstructed_where_it_covers():
    """Coverage times strength, over a recorded background; over a deconvolved one, the rest is that."""
    layer = region(strength=0.5)
    rows, columns = layer.verdict.box.slices(SIZE)
    copied, flow, layers = confidence_map(proposal(layer), 0.0)[:, rows, columns].int()
    assert (layers - 127.5 * layer.coverage).abs().max() <= 1
    assert not flow.any()
    over_flow = replace(layer, background_is_deconvolved=True)
    copied, flow, _ = confidence_map(proposal(over_flow), 0.0)[:, rows, columns].int()
    assert (flow - 127.5 * layer.weight * (1 - layer.coverage)).abs().max() <= 1
    assert (copied[layer.weight == 0] == 255).all()


def test_a_layer_replaces_the_deconvolution_below_it():
    layer = region()
    rows, columns = layer.verdict.box.slices(SIZE)
    _, flow, layers = confidence_map(deconvolved(proposal(layer)), 1.0)[:, rows, columns]
    inside = layer.coverage == 1
    assert (layers[inside] == 255).all()
    assert not flow[inside].any()
