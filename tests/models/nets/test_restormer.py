from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch

from freezeframe.models.nets.restormer.model import (
    DEBLUR,
    DENOISE,
    NetConfig,
    Restormer,
    infer_config,
    matches,
)
from tests.support.reference import naive_conv
from tests.support.weights import random_weights

SMALL = NetConfig(dim=4, blocks=(1, 1, 1, 2), refinement=1, heads=(1, 2, 2, 4), expansion=2.5)
TWO_SCALES = NetConfig(dim=6, blocks=(2, 1), refinement=3, heads=(1, 3), channels=1, centred=False)


def random_network(config: NetConfig, seed: int = 0) -> Restormer:
    """Every weight drawn at random, those of the norms too: at 1 and 0 they would not be tested."""
    return random_weights(Restormer(config), scale=0.3, seed=seed)


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
    assert infer_config(state) == config


@pytest.mark.parametrize(
    "wrong",
    [{"blocks": (1, 1)}, {"heads": (1, 2, 4, 5)}, {"blocks": (1,), "heads": (1,)}],
    ids=str,
)
def test_a_layout_that_cannot_be_built_says_why(wrong):
    with pytest.raises(ValueError, match="heads"):
        NetConfig(**wrong)


def test_a_network_for_two_views_is_not_taken_for_restormer():
    state = random_network(SMALL).state_dict()
    two_views = {"patch_embed.proj.weight": torch.zeros(4, 6, 3, 3)}
    assert not matches(state | two_views), "six channels in: the two halves of a dual-pixel sensor"


def chained(image: np.ndarray, network: Restormer) -> np.ndarray:
    """What joins the blocks (which have tests of their own), in numpy. Two scales, [C, H, W], sides even."""

    def stage(x: np.ndarray, name: str) -> np.ndarray:
        return getattr(network, name)(torch.from_numpy(x)[None])[0].numpy()

    def kernel(name: str) -> np.ndarray:
        return network.get_parameter(f"{name}.weight").numpy()

    wide = stage(naive_conv(image, kernel("patch_embed.proj")), "encoder_level1")
    half = naive_conv(wide, kernel("down1_2.body.0"))
    # The four pixels of each cell become four channels, row by row; and back.
    small = np.stack([channel[i::2, j::2] for channel in half for i, j in np.ndindex(2, 2)])
    tall = naive_conv(stage(small, "latent"), kernel("up2_1.body.0"))
    up = np.zeros((len(tall) // 4, *image.shape[1:]))
    for k, (i, j) in product(range(len(up)), np.ndindex(2, 2)):
        up[k, i::2, j::2] = tall[4 * k + 2 * i + j]
    joined = stage(np.concatenate([up, wide]), "decoder_level1")
    return image + naive_conv(stage(joined, "refinement"), kernel("output"))


def test_the_whole_network_is_its_blocks_in_a_chain():
    network = random_network(TWO_SCALES).double()
    image = torch.rand(1, 1, 6, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    expected = chained(image[0].numpy(), network)
    assert np.abs(expected - image[0].numpy()).max() > 0.1, "the network changes nothing"
    np.testing.assert_allclose(network(image)[0].numpy(), expected, atol=1e-10)


def test_a_far_event_changes_everything_through_attention():
    """The reason why tiles differ from the whole image: its statistics are part of every pixel's result."""
    network = random_network(SMALL).double()
    flat = torch.rand(1, 3, 16, 256, generator=torch.Generator().manual_seed(13), dtype=torch.float64)
    event = flat.clone()
    event[..., 240:] = 1
    assert (network(flat) - network(event))[..., :8].abs().max() > 1e-6


def test_without_its_last_layer_the_network_is_the_identity():
    network = random_network(SMALL)
    network.get_parameter("output.weight").zero_()
    encoded = torch.rand(2, 3, 13, 22)
    assert torch.equal(network(encoded), encoded)
