from __future__ import annotations

import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_encoded
from freezeframe.models.deblur.fusion_net import FRAME, FUSED
from freezeframe.pipeline.stages.fusion_network import run_fusion_network_on_photo

LIGHT = torch.linspace(-0.3, 4.0, 3 * 16 * 24).view(3, 16, 24)  # below black to two stops above white


def test_no_change_leaves_every_bit_of_light():
    """Where the network adds nothing: everywhere, or beside the place where it adds something."""
    assert torch.equal(
        run_fusion_network_on_photo(LIGHT, lambda network_input: torch.zeros_like(network_input[:, FRAME])),
        LIGHT,
    )

    def lift_the_left(network_input: Tensor) -> Tensor:
        change = torch.zeros_like(network_input[:, FRAME])
        change[..., :4] = 0.1
        return change

    finished = run_fusion_network_on_photo(LIGHT, lift_the_left)
    assert torch.equal(finished[..., 4:], LIGHT[..., 4:])
    assert not torch.equal(finished, LIGHT)


def test_a_network_sees_codes_between_black_and_white():
    seen: list[Tensor] = []

    def look(network_input: Tensor) -> Tensor:
        seen.append(network_input)
        return torch.zeros_like(network_input[:, FRAME])

    run_fusion_network_on_photo(LIGHT, look)
    expected = to_encoded(LIGHT.clamp(0, 1), SRGB)
    for part in (FRAME, FUSED):
        torch.testing.assert_close(seen[0][0, part], expected)
    assert float(seen[0].max()) == 1


def test_a_change_is_one_of_codes():
    """A network that lifts codes by a tenth: highlights keep what is above white."""
    finished = run_fusion_network_on_photo(
        LIGHT, lambda network_input: torch.full_like(network_input[:, FRAME], 0.1)
    )
    codes, lifted = (to_encoded(light.clamp(0, 1), SRGB) for light in (LIGHT, finished))
    within = (LIGHT > 0) & (LIGHT < 1) & (codes < 0.9)
    torch.testing.assert_close(lifted[within], codes[within] + 0.1, atol=1e-5, rtol=0)
    torch.testing.assert_close(finished[LIGHT >= 1], LIGHT[LIGHT >= 1], atol=1e-6, rtol=1e-6)


def test_without_a_network_nothing_is_done():
    assert run_fusion_network_on_photo(LIGHT, None) is LIGHT
