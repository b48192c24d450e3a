from __future__ import annotations

import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_encoded
from freezeframe.models.deblur.fusion_net import FRAME, FUSED
from freezeframe.pipeline.stages.fusion_network import run_fusion_network_on_photo

LINEAR = torch.linspace(-0.3, 4.0, 3 * 16 * 24).view(3, 16, 24)  # below black to two stops above white


def test_no_change_leaves_every_bit_of_light():
    """Pixels without a residual: all of them, or those beside a residual."""
    assert torch.equal(
        run_fusion_network_on_photo(LINEAR, lambda network_input: torch.zeros_like(network_input[:, FRAME])),
        LINEAR,
    )

    def lift_the_left(network_input: Tensor) -> Tensor:
        change = torch.zeros_like(network_input[:, FRAME])
        change[..., :4] = 0.1
        return change

    finished = run_fusion_network_on_photo(LINEAR, lift_the_left)
    assert torch.equal(finished[..., 4:], LINEAR[..., 4:])
    assert not torch.equal(finished, LINEAR)


def test_a_network_sees_codes_between_black_and_white():
    inputs: list[Tensor] = []

    def record(network_input: Tensor) -> Tensor:
        inputs.append(network_input)
        return torch.zeros_like(network_input[:, FRAME])

    run_fusion_network_on_photo(LINEAR, record)
    expected = to_encoded(LINEAR.clamp(0, 1), SRGB)
    for part in (FRAME, FUSED):
        torch.testing.assert_close(inputs[0][0, part], expected)
    assert float(inputs[0].max()) == 1


def test_a_change_is_one_of_codes():
    """A network that adds a tenth to the encoded values: highlights keep their excess above white."""
    finished = run_fusion_network_on_photo(
        LINEAR, lambda network_input: torch.full_like(network_input[:, FRAME], 0.1)
    )
    encoded, lifted = (to_encoded(linear.clamp(0, 1), SRGB) for linear in (LINEAR, finished))
    within = (LINEAR > 0) & (LINEAR < 1) & (encoded < 0.9)
    torch.testing.assert_close(lifted[within], encoded[within] + 0.1, atol=1e-5, rtol=0)
    torch.testing.assert_close(finished[LINEAR >= 1], LINEAR[LINEAR >= 1], atol=1e-6, rtol=1e-6)


def test_without_a_network_nothing_is_done():
    assert run_fusion_network_on_photo(LINEAR, None) is LINEAR
