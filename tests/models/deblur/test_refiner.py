"""The refiner: an exact gate, any image size, any size of the network."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from freezeframe.models.deblur import refiner
from freezeframe.models.deblur.refiner import INPUT_CHANNELS, NetConfig, Refiner, gate_activation

TINY = NetConfig(widths=(8, 16, 16), down=(1, 1, 1), up=(1, 1))


def network(*, seed=0, gate=1.0):
    """Random head; the gate has the value `gate` everywhere."""
    torch.manual_seed(seed)
    net = Refiner(TINY).eval()
    with torch.no_grad():
        torch.nn.init.normal_(net.head.weight, std=0.05)
        net.gate.bias.fill_(gate)
    return net.requires_grad_(False)


@pytest.mark.parametrize("size", [(8, 8), (21, 45), (1, 3)])
def test_any_size_comes_back_with_its_correction(size):
    encoded = torch.rand(2, 3, *size)
    net = network()
    assert net(encoded).shape == encoded.shape
    assert torch.equal(net(encoded), encoded + net.correction(encoded))
    assert net.correction(encoded).abs().max() > 1e-4


def test_an_untrained_network_changes_nothing():
    encoded = torch.rand(1, 3, 32, 32)
    assert torch.equal(Refiner(TINY)(encoded), encoded)


def test_a_shut_gate_leaves_every_bit_and_a_half_open_one_adds_half():
    encoded = torch.rand(1, 3, 40, 40)
    assert torch.equal(network(gate=-0.01)(encoded), encoded)
    whole, half = (network(gate=g).correction(encoded) for g in (1.7, 0.5))
    assert (half - 0.5 * network(gate=1.0).correction(encoded)).abs().max() < 1e-6
    assert torch.equal(whole, network(gate=1.0).correction(encoded))


def test_openness_is_a_mean_bounded_and_spread():
    """Against a loop over the coarse pixels."""
    predict_correction = 3 * torch.randn(1, 1, 9, 9)
    assert torch.allclose(
        gate_activation(predict_correction)[0, 0, 32:40, 32:40].mean(),
        spread_middle(predict_correction),
        atol=1e-6,
    )
    assert gate_activation(predict_correction.abs() + 1).min() == 1


def spread_middle(predict_correction):
    around = torch.empty(1, 1, 9, 9)
    for y in range(9):
        for x in range(9):
            around[0, 0, y, x] = predict_correction[0, 0, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].mean()
    return interpolate(around.clamp(0, 1), scale_factor=8, mode="bilinear")[0, 0, 32:40, 32:40].mean()


@pytest.mark.parametrize(
    ("value", "direction", "moves"),
    [
        (-1.0, "open", True),
        (-1.0, "shut", False),
        (2.0, "open", False),
        (2.0, "shut", True),
        (0.5, "open", True),
    ],
)
def test_a_shut_gate_can_open_again_and_none_runs_away(value, direction, moves):
    predict_correction = torch.full((1, 1, 1, 1), value, requires_grad=True)
    opened = gate_activation(predict_correction).mean()
    (-opened if direction == "open" else opened).backward()
    assert (predict_correction.grad.abs().max() > 0) == moves
    if moves:
        assert (predict_correction.grad < 0).all() == (direction == "open")


def test_learning_and_using_give_one_answer():
    encoded = torch.rand(1, 3, 32, 32)
    net = network(gate=0.4)
    expected = net(encoded)
    assert torch.allclose(net.requires_grad_(True)(encoded), expected, atol=1e-6)


def test_what_is_far_away_does_not_matter():
    """Receptive field and gate reach about a hundred pixels: a tile with that margin equals the whole."""
    network_input = torch.rand(1, INPUT_CHANNELS, 32, 256)
    other = network_input.clone()
    other[..., :64] = torch.rand(1, INPUT_CHANNELS, 32, 64)
    net = network()
    assert (net.predict_correction(network_input) - net.predict_correction(other))[
        ..., :64
    ].abs().max() > 1e-3
    assert torch.equal(
        net.predict_correction(network_input)[..., 200:], net.predict_correction(other)[..., 200:]
    )


def test_a_tile_told_of_the_whole_picture_is_like_the_whole():
    encoded = blurry()
    net = network()
    context = net.degradation(encoded)
    whole, tile = net.correction(encoded), net.correction(encoded[..., 64:], degradation=context)
    assert (whole[..., 192:] - tile[..., 128:]).abs().max() < 0.5 / 255
    assert not torch.equal(net.degradation(encoded[..., 64:]), context)


def test_what_undoes_the_blur_is_taken_as_far_as_the_head_says():
    encoded = blurry()
    net = network()
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias[12:16] = 1  # all of the first Wiener correction
    assert torch.equal(net.correction(encoded), net.network_input(encoded)[:, 3:6])


def blurry():
    """A sinusoidal texture with motion blur."""
    random = torch.Generator().manual_seed(2)
    sharp = interpolate(torch.rand(1, 3, 24, 72, generator=random), (96, 288), mode="bicubic").clamp(0, 1)
    return sum(sharp.roll(k, 3) for k in range(-4, 5)) / 9


def test_weights_say_their_layout():
    state = network().state_dict()
    assert refiner.matches(state)
    assert refiner.infer_config(state) == TINY
    encoded = torch.rand(1, 3, 16, 16)
    assert torch.equal(refiner.load(state)(encoded), network()(encoded))
    with pytest.raises(RuntimeError, match="Missing key"):
        refiner.load({key: value for key, value in state.items() if key != "head.bias"})


def test_the_default_fits_eight_megabytes_at_half_precision():
    with torch.device("meta"):
        assert 2 * sum(p.numel() for p in Refiner(NetConfig()).parameters()) < 8e6


def test_while_training_every_other_example_finds_the_gate_open():
    """A closed gate passes no gradient. In evaluation mode the gate is not forced."""
    encoded = torch.rand(4, 3, 32, 32)
    shut, open_ = network(gate=-1.0), network(gate=1.0)
    assert torch.equal(shut.train().correction(encoded)[::2], open_.correction(encoded)[::2])
    assert shut.train().correction(encoded)[1::2].abs().max() == 0
    assert shut.eval().correction(encoded).abs().max() == 0
