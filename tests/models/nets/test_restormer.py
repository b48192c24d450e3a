from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.models.nets.restormer.model import (
    DEBLUR,
    DENOISE,
    NetConfig,
    Restormer,
    infer_config,
    load,
    matches,
)
from freezeframe.models.nets.state import simplest_ratio

SMALL = NetConfig(dim=4, blocks=(1, 1, 1, 2), refinement=1, heads=(1, 2, 2, 4), expansion=2.5)
TWO_SCALES = NetConfig(dim=6, blocks=(2, 1), refinement=3, heads=(1, 3), channels=1, centred=False)


def random_network(config: NetConfig, seed: int = 0) -> Restormer:
    """Every weight drawn at random, those of the norms too: at 1 and 0 they would not be tested."""
    network = Restormer(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for value in network.parameters():
        value.copy_(0.3 * torch.randn(value.shape, generator=generator))
    return network


def published_shapes(config: NetConfig) -> dict[str, list[int]]:
    """The key table of the released checkpoints (four scales), written down without our modules."""
    table: dict[str, list[int]] = {}
    dim = config.dim

    def block(name: str, c: int, heads: int) -> None:
        h = int(c * config.expansion)
        for norm in ("norm1", "norm2"):
            table[f"{name}.{norm}.body.weight"] = [c]
            if config.centred:
                table[f"{name}.{norm}.body.bias"] = [c]
        table[f"{name}.attn.temperature"] = [heads, 1, 1]
        table[f"{name}.attn.qkv.weight"] = [3 * c, c, 1, 1]
        table[f"{name}.attn.qkv_dwconv.weight"] = [3 * c, 1, 3, 3]
        table[f"{name}.attn.project_out.weight"] = [c, c, 1, 1]
        table[f"{name}.ffn.project_in.weight"] = [2 * h, c, 1, 1]
        table[f"{name}.ffn.dwconv.weight"] = [2 * h, 1, 3, 3]
        table[f"{name}.ffn.project_out.weight"] = [c, h, 1, 1]

    stages = {
        "encoder_level1": (dim, 0),
        "encoder_level2": (2 * dim, 1),
        "encoder_level3": (4 * dim, 2),
        "latent": (8 * dim, 3),
        "decoder_level3": (4 * dim, 2),
        "decoder_level2": (2 * dim, 1),
        "decoder_level1": (2 * dim, 0),
    }
    for name, (c, scale) in stages.items():
        for i in range(config.blocks[scale]):
            block(f"{name}.{i}", c, config.heads[scale])
    for i in range(config.refinement):
        block(f"refinement.{i}", 2 * dim, config.heads[0])
    table["patch_embed.proj.weight"] = [dim, config.channels, 3, 3]
    for i, c in enumerate((dim, 2 * dim, 4 * dim), start=1):
        table[f"down{i}_{i + 1}.body.0.weight"] = [c // 2, c, 3, 3]
        table[f"up{i + 1}_{i}.body.0.weight"] = [4 * c, 2 * c, 3, 3]
    table["reduce_chan_level3.weight"] = [4 * dim, 8 * dim, 1, 1]
    table["reduce_chan_level2.weight"] = [2 * dim, 4 * dim, 1, 1]
    table["output.weight"] = [config.channels, 2 * dim, 3, 3]
    return table


@pytest.mark.parametrize(
    ("config", "parameters"),
    # 26.13 million is the published size; without biases the norms have 14,976 numbers less.
    [(DEBLUR, 26_126_644), (DENOISE, 26_111_668)],
    ids=["deblur, defocus, rain", "denoise"],
)
def test_the_published_networks_have_their_keys_shapes_and_size(config, parameters):
    with torch.device("meta"):
        state = Restormer(config).state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == published_shapes(config)
    assert sum(map(math.prod, published_shapes(config).values())) == parameters


@pytest.mark.parametrize(
    "config",
    [DEBLUR, DENOISE, SMALL, NetConfig(channels=1, centred=False), NetConfig(dim=16, expansion=2)],
    ids=["deblur", "denoise", "small", "grey", "growth 2"],
)
def test_hyper_parameters_are_read_off_the_shapes(config):
    state = {key: torch.zeros(shape, device="meta").half() for key, shape in published_shapes(config).items()}
    assert matches(state)
    assert infer_config(state) == config


@settings(deadline=None)
@given(st.integers(100, 800), st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_the_growth_that_is_read_makes_the_same_sizes(hundredths, widths):
    hidden = {width: int(width * (hundredths / 100)) for width in widths}
    expansion = simplest_ratio(hidden)
    assert {width: int(width * expansion) for width in widths} == hidden
    # No longer than the number that made them.
    assert len(str(expansion)) <= max(len(str(hundredths / 100)), 3)


def test_sizes_that_no_growth_makes_are_refused():
    with pytest.raises(ValueError, match="no expansion gives"):
        simplest_ratio({48: 127, 96: 300})


@pytest.mark.parametrize(
    "wrong",
    [{"blocks": (1, 1)}, {"heads": (1, 2, 4, 5)}, {"blocks": (1,), "heads": (1,)}],
    ids=str,
)
def test_a_layout_that_cannot_be_built_says_why(wrong):
    with pytest.raises(ValueError, match="heads"):
        NetConfig(**wrong)


def test_other_networks_are_not_taken_for_restormer():
    state = random_network(SMALL).state_dict()
    assert matches(state)
    assert not matches({})
    assert not matches({f"other.{key}": value for key, value in state.items()})
    two_views = {"patch_embed.proj.weight": torch.zeros(4, 6, 3, 3)}
    assert not matches(state | two_views), "six channels in: the two halves of a dual-pixel sensor"


@pytest.mark.parametrize("harm", ["missing", "left over", "misshapen"])
def test_a_state_that_does_not_fit_exactly_is_refused_by_key_name(harm):
    state = random_network(SMALL).state_dict()
    key = "latent.1.attn.qkv.weight"
    if harm == "missing":
        del state[key]
    elif harm == "left over":
        key = "latent.1.attn.kv.weight"
        state[key] = torch.zeros(1)
    else:
        state[key] = state[key][:3]
    with pytest.raises(RuntimeError, match=key.replace(".", r"\.")):
        load(state)


@pytest.mark.parametrize("config", [SMALL, TWO_SCALES], ids=["four scales", "grey, two scales"])
def test_loaded_weights_are_the_saved_ones_in_float32(config):
    network = random_network(config)
    loaded = load({key: value.double() for key, value in network.state_dict().items()})
    encoded = torch.rand(1, config.channels, 16, 24, generator=torch.Generator().manual_seed(1))
    assert torch.equal(loaded(encoded), network(encoded))
    assert not any(value.requires_grad for value in loaded.parameters())


def naive_conv(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """[C, H, W] with zeros around it under [out, in, k, k], as the sum that defines it."""
    out, inside, side, _ = kernel.shape
    groups = len(x) // inside
    padded = np.pad(x, ((0, 0), (side // 2,) * 2, (side // 2,) * 2))
    answer = np.zeros((out, *x.shape[1:]))
    for o, i, y, z in product(range(out), range(inside), range(side), range(side)):
        source = o // (out // groups) * inside + i
        answer[o] += kernel[o, i, y, z] * padded[source, y : y + x.shape[1], z : z + x.shape[2]]
    return answer


def chained(picture: np.ndarray, network: Restormer) -> np.ndarray:
    """What joins the blocks (which have tests of their own), in numpy. Two scales, [C, H, W], sides even."""

    def stage(x: np.ndarray, name: str) -> np.ndarray:
        return getattr(network, name)(torch.from_numpy(x)[None])[0].numpy()

    def kernel(name: str) -> np.ndarray:
        return network.get_parameter(f"{name}.weight").numpy()

    wide = stage(naive_conv(picture, kernel("patch_embed.proj")), "encoder_level1")
    half = naive_conv(wide, kernel("down1_2.body.0"))
    # The four pixels of each cell become four channels, row by row; and back.
    small = np.stack([channel[i::2, j::2] for channel in half for i, j in np.ndindex(2, 2)])
    tall = naive_conv(stage(small, "latent"), kernel("up2_1.body.0"))
    up = np.zeros((len(tall) // 4, *picture.shape[1:]))
    for k, (i, j) in product(range(len(up)), np.ndindex(2, 2)):
        up[k, i::2, j::2] = tall[4 * k + 2 * i + j]
    joined = stage(np.concatenate([up, wide]), "decoder_level1")
    return picture + naive_conv(stage(joined, "refinement"), kernel("output"))


def test_the_whole_network_is_its_blocks_in_a_chain():
    network = random_network(TWO_SCALES).double()
    picture = torch.rand(1, 1, 6, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    expected = chained(picture[0].numpy(), network)
    assert np.abs(expected - picture[0].numpy()).max() > 0.1, "the network changes nothing"
    np.testing.assert_allclose(network(picture)[0].numpy(), expected, atol=1e-10)


def test_every_operation_counts():
    """A weight without effect would load without a word wherever its key is wired to."""
    network = random_network(SMALL)
    encoded = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(10))
    before = network(encoded)
    for name, value in network.named_parameters():
        if value.numel() == 1 and "temperature" in name:
            continue
        kept = value.clone()
        value.add_(0.5)
        assert not torch.equal(network(encoded), before), f"{name} changes nothing"
        value.copy_(kept)


def test_a_far_event_changes_everything_through_attention():
    """The reason why tiles differ from the whole picture: its statistics are part of every pixel's answer."""
    network = random_network(SMALL).double()
    calm = torch.rand(1, 3, 16, 256, generator=torch.Generator().manual_seed(13), dtype=torch.float64)
    event = calm.clone()
    event[..., 240:] = 1
    assert (network(calm) - network(event))[..., :8].abs().max() > 1e-6


@pytest.mark.parametrize(("height", "width"), [(8, 16), (9, 15), (1, 1), (3, 30)])
def test_any_size_is_restored_as_part_of_its_mirrored_self(height, width):
    network = random_network(SMALL).double()
    encoded = torch.rand(
        1, 3, height, width, generator=torch.Generator().manual_seed(14), dtype=torch.float64
    )
    whole = np.pad(encoded.numpy(), ((0, 0), (0, 0), (0, -height % 8), (0, -width % 8)), mode="reflect")
    expected = network(torch.from_numpy(whole))[..., :height, :width]
    torch.testing.assert_close(network(encoded), expected, atol=1e-12, rtol=0)


def test_without_its_last_layer_the_network_is_the_identity():
    network = random_network(SMALL)
    network.get_parameter("output.weight").zero_()
    encoded = torch.rand(2, 3, 13, 22)
    assert torch.equal(network(encoded), encoded)


def test_pictures_of_a_batch_do_not_meet():
    network = random_network(SMALL).double()
    encoded = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(15), dtype=torch.float64)
    alone = torch.cat([network(picture[None]) for picture in encoded])
    # Values reach 100: another order of float64 sums.
    torch.testing.assert_close(network(encoded), alone, atol=1e-10, rtol=0)


@pytest.mark.parametrize("config", [SMALL, TWO_SCALES], ids=["four scales", "grey, two scales"])
def test_every_weight_learns_from_a_fresh_start(config):
    torch.manual_seed(0)
    network = Restormer(config)
    encoded = torch.rand(2, config.channels, 16, 16)
    ((network(encoded) - torch.rand_like(encoded)) ** 2).mean().backward()
    for name, value in network.named_parameters():
        assert value.grad is not None, name
        assert value.grad.isfinite().all(), name
        assert value.grad.any() or value.numel() == 1, f"{name} never learns"


def test_half_precision_rounds_the_change_and_not_the_picture():
    torch.manual_seed(0)
    network = Restormer(SMALL).eval().requires_grad_(False)
    encoded = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(16))
    exact = network.correction(encoded)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = network.correction(encoded).float()
    rough = network.bfloat16().correction(encoded.bfloat16()).float()
    # bf16 has 8 bits: the roundings of some thirty layers on the way add up to a few per cent of the change.
    for answer in (mixed, rough):
        assert 0 < (answer - exact).abs().max() < 0.08 * exact.abs().max()
