from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from freezeframe.models.nets.blocks.window_attention import shift_masks
from freezeframe.models.nets.swinir.config import (
    CLASSICAL_X4,
    DIFFBIR,
    GREY_JPEG,
    GREY_NOISE,
    JPEG,
    LARGE_X4,
    LIGHT_X2,
    NOISE,
    REAL_X4,
    NetConfig,
)
from freezeframe.models.nets.swinir.model import SwinIR, infer_config, load, to_published_state
from tests.support.weights import random_images, random_weights

SMALL = NetConfig(dim=8, depths=(2, 2), heads=(2, 4), window=4)


def random_network(config: NetConfig, seed: int = 0, **options: str) -> SwinIR:
    """Every weight drawn at random, those of the norms and tables too."""
    return random_weights(SwinIR(config, **options), scale=0.3, seed=seed)


def published_shapes(config: NetConfig, side: int) -> dict[str, list[int]]:
    """The key table of the released checkpoints, written down from their layout and not from our modules."""
    table: dict[str, list[int]] = {}
    dim, window, wide = config.dim, config.window, 64

    def layer(name: str, out: int, *inside: int) -> None:
        table[f"{name}.weight"] = [out, *inside]
        table[f"{name}.bias"] = [out]

    def mixing(name: str) -> None:
        if config.narrow:
            layer(f"{name}.0", dim // 4, dim, 3, 3)
            layer(f"{name}.2", dim // 4, dim // 4, 1, 1)
            layer(f"{name}.4", dim, dim // 4, 3, 3)
        else:
            layer(name, dim, dim, 3, 3)

    cells = config.channels * config.unshuffle**2
    layer("conv_first" if config.unshuffle == 1 else "conv_first.1", dim, cells, 3, 3)
    layer("patch_embed.norm", dim)
    for i, depth in enumerate(config.depths):
        for j in range(depth):
            block = f"layers.{i}.residual_group.blocks.{j}"
            layer(f"{block}.norm1", dim)
            table[f"{block}.attn.relative_position_bias_table"] = [(2 * window - 1) ** 2, config.heads[i]]
            table[f"{block}.attn.relative_position_index"] = [window**2, window**2]
            layer(f"{block}.attn.qkv", 3 * dim, dim)
            layer(f"{block}.attn.proj", dim, dim)
            layer(f"{block}.norm2", dim)
            layer(f"{block}.mlp.fc1", 2 * dim, dim)
            layer(f"{block}.mlp.fc2", dim, 2 * dim)
            if j % 2:
                table[f"{block}.attn_mask"] = [(side // window) ** 2, window**2, window**2]
        mixing(f"layers.{i}.conv")
    layer("norm", dim)
    mixing("conv_after_body")
    factor = config.scale * config.unshuffle
    if config.upsampler == "pixelshuffledirect":
        layer("upsample.0", factor**2 * config.channels, dim, 3, 3)
        return table
    layer("conv_last", config.channels, wide if config.upsampler else dim, 3, 3)
    if config.upsampler:
        layer("conv_before_upsample.0", wide, dim, 3, 3)
    if config.upsampler == "nearest+conv":
        for name in ("conv_up1", "conv_up2", "conv_up3")[: int(math.log2(factor))]:
            layer(name, wide, wide, 3, 3)
        layer("conv_hr", wide, wide, 3, 3)
    elif factor == 3:
        layer("upsample.0", 9 * wide, wide, 3, 3)
    elif config.upsampler:
        for i in range(int(math.log2(factor))):
            layer(f"upsample.{2 * i}", 4 * wide, wide, 3, 3)
    return table


RELEASED = {
    "colour noise": (NOISE, 128, 544, 11_504_163),
    "grey noise": (GREY_NOISE, 128, 544, 11_497_681),
    "colour JPEG": (JPEG, 126, 544, 11_492_067),
    "grey JPEG": (GREY_JPEG, 126, 544, 11_485_585),
    "classical x4": (CLASSICAL_X4, 64, 550, 11_900_199),
    "light x2": (LIGHT_X2, 64, 366, 910_152),
    "real x4": (REAL_X4, 64, 552, 11_715_559),
    "real x4, large": (LARGE_X4, 64, 859, 28_013_059),
    "classical x3": (replace(CLASSICAL_X4, scale=3), 48, 548, None),
    "classical x8": (replace(CLASSICAL_X4, scale=8), 48, 552, None),
    "DiffBIR": (DIFFBIR, 64, 732, None),
}


@pytest.mark.parametrize(("config", "side", "keys", "parameters"), RELEASED.values(), ids=RELEASED.keys())
def test_the_released_networks_have_their_keys_shapes_and_size(config, side, keys, parameters):
    with torch.device("meta"):
        network = SwinIR(config)
    assert infer_config(network.state_dict()) == config
    shapes = {key: list(value.shape) for key, value in to_published_state(network, side=side).items()}
    assert shapes == published_shapes(config, side)
    assert len(shapes) == keys
    if parameters is not None:
        assert sum(value.numel() for value in network.parameters()) == parameters


@pytest.mark.parametrize("wrong", [{"heads": (2, 3)}, {"scale": 2}, {"upsampler": "nearest+conv"}], ids=str)
def test_a_layout_that_cannot_be_built_says_why(wrong):
    with pytest.raises(ValueError, match=r"heads|upsampler"):
        replace(SMALL, **wrong)


def test_a_factor_that_no_doublings_make_is_refused():
    with pytest.raises(ValueError, match="upsampling by 5"):
        SwinIR(replace(SMALL, scale=5, upsampler="nearest+conv"))


@pytest.mark.parametrize("name", ["attn_mask", "attn.relative_position_index"])
def test_masks_and_indices_of_another_order_are_refused(name):
    """They are not needed, but a file in which they differ was made for another order of pixels."""
    state = to_published_state(random_network(SMALL), side=12)
    key = f"layers.0.residual_group.blocks.1.{name}"
    state[key] = state[key].transpose(-2, -1).flip(-1).contiguous()
    with pytest.raises(RuntimeError, match=rf"{key}.*window of 4".replace(".", r"\.").replace(r"\.*", ".*")):
        load(state)


def test_the_range_of_values_can_be_named_where_the_window_does_not_tell():
    state = random_network(SMALL).state_dict()
    encoded = random_images(1, 3, 8, 8).float()
    assert load(state).config.value_range == 1
    assert load(state, value_range=255.0).config.value_range == 255
    assert not torch.equal(load(state)(encoded), load(state, value_range=255.0)(encoded))


def chained(encoded: Tensor, network: SwinIR) -> Tensor:
    """What joins the layers (which have tests of their own), written down in one. In place, sides divide."""
    mean = torch.tensor([0.4488, 0.4371, 0.4040], dtype=encoded.dtype).reshape(3, 1, 1)
    inside = (encoded - mean) * network.config.value_range
    first = network.conv_first(inside)
    x = network.patch_embed["norm"](first.permute(0, 2, 3, 1))
    joined = shift_masks((encoded.shape[2], encoded.shape[3]), network.config.window)
    for group in network.layers:
        inner = x
        for j, layer in enumerate(group.residual_group["blocks"]):
            inner = layer(inner, (None, joined)[j % 2])
        x = x + group.conv(inner.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    body = network.conv_after_body(network.norm(x).permute(0, 3, 1, 2))
    return (inside + network.conv_last(first + body)) / network.config.value_range + mean


@pytest.mark.parametrize("value_range", [1.0, 255.0])
def test_the_whole_network_is_its_layers_in_a_chain(value_range):
    network = random_network(replace(SMALL, value_range=value_range)).double()
    encoded = random_images(1, 3, 8, 12)
    # Values reach 100 inside; float64.
    torch.testing.assert_close(network(encoded), chained(encoded, network), atol=1e-9, rtol=0)


def test_enlarging_by_shuffled_channels_against_numpy():
    """Channel 9 c + 3 i + j of the last convolution is row i, column j of each cell of colour c."""
    network = random_network(replace(SMALL, scale=3, upsampler="pixelshuffledirect")).double()
    encoded = random_images(1, 3, 8, 8)
    outputs: list[Tensor] = []
    network.upsample[0].register_forward_hook(lambda module, inputs, output: outputs.append(output))
    out = network(encoded)
    for colour, i, j in np.ndindex(3, 3, 3):
        mean = (0.4488, 0.4371, 0.4040)[colour]
        expected = outputs[0][:, 9 * colour + 3 * i + j] + mean
        torch.testing.assert_close(out[:, colour, i::3, j::3], expected, atol=1e-12, rtol=0)


def test_without_its_last_layer_the_network_is_the_identity():
    network = random_network(SMALL)
    network.conv_last.weight.zero_()
    network.conv_last.bias.zero_()
    encoded = torch.rand(2, 3, 13, 22)
    assert torch.equal(network(encoded), encoded)


def test_grey_codes_are_not_moved_by_a_mean():
    network = random_network(replace(SMALL, channels=1)).double()
    encoded = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    first = network.conv_first.bias[:, None, None].expand(1, -1, 8, 8)
    body = network._body(first)
    torch.testing.assert_close(network(encoded), network.conv_last(first + body), atol=1e-12, rtol=0)


def test_the_papers_padding_adds_a_window_where_none_is_needed():
    encoded = random_images(1, 3, 8, 10)
    plain, paper = random_network(SMALL).double(), random_network(SMALL, padding="paper").double()
    more = np.pad(encoded.numpy(), ((0, 0), (0, 0), (0, 4), (0, 2)), mode="symmetric")
    expected = plain(torch.from_numpy(more))[..., :8, :10]
    torch.testing.assert_close(paper(encoded), expected, atol=1e-12, rtol=0)
    assert (paper(encoded) - plain(encoded)).abs().max() > 1e-4, "pixels at the border depend on the padding"


def test_an_enlarging_network_has_no_correction():
    network = random_network(replace(SMALL, scale=2, upsampler="pixelshuffle"))
    with pytest.raises(ValueError, match="upsamples by 2"):
        network.correction(torch.rand(1, 3, 8, 8))


def test_tiles_on_the_grid_agree_with_the_whole_away_from_their_borders():
    """Reach: two groups of two layers see at most 2 windows each way and a pixel or two per convolution.

    The norms are per pixel, so nothing else ties far places together.
    """
    network = random_network(SMALL).double()
    encoded = random_images(1, 3, 16, 96)
    whole, tile = network(encoded), network(encoded[..., 16:80])
    inner = slice(28, -28)
    torch.testing.assert_close(tile[..., inner], whole[..., 16:80][..., inner], atol=1e-12, rtol=0)
    off_grid = network(encoded[..., 18:82])
    assert (off_grid - whole[..., 18:82])[..., inner].abs().max() > 1e-4


def test_fp16_is_refused_before_it_turns_pictures_black():
    network = random_network(SMALL)
    with pytest.raises(ValueError, match="overflows in float16"):
        network.half()(torch.rand(1, 3, 8, 8).half())
    with torch.autocast("cpu", dtype=torch.float16), pytest.raises(ValueError, match="bfloat16 or float32"):
        network.float()(torch.rand(1, 3, 8, 8))
