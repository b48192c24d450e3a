from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from freezeframe.models.nets.nafnet import (
    GOPRO_32,
    GOPRO_64,
    LayerNorm2d,
    NAFNet,
    NetConfig,
    Pool,
    infer_config,
    local_mean,
    matches,
    simple_gate,
)
from tests.support.weights import random_weights

SMALL = NetConfig(width=4, encoders=(1, 2), middle=1, decoders=(2, 1))


def random_network(config: NetConfig, seed: int = 0, window: int | None = None) -> NAFNet:
    """Every weight drawn at random, the residual gains too: at their initial zero nothing would be tested."""
    return random_weights(NAFNet(config, window=window), scale=0.2, seed=seed)


def published_shapes(
    width: int, encoders: list[int], middle: int, decoders: list[int]
) -> dict[str, list[int]]:
    """The key table of the released checkpoints, written down from their layout and not from our modules."""
    table: dict[str, list[int]] = {}

    def conv(name: str, out: int, inside: int, side: int, bias: bool = True) -> None:
        table[f"{name}.weight"] = [out, inside, side, side]
        if bias:
            table[f"{name}.bias"] = [out]

    def block(name: str, c: int) -> None:
        table[f"{name}.beta"] = table[f"{name}.gamma"] = [1, c, 1, 1]
        conv(f"{name}.conv1", 2 * c, c, 1)
        conv(f"{name}.conv2", 2 * c, 1, 3)
        conv(f"{name}.conv3", c, c, 1)
        conv(f"{name}.sca.1", c, c, 1)
        conv(f"{name}.conv4", 2 * c, c, 1)
        conv(f"{name}.conv5", c, c, 1)
        for norm in ("norm1", "norm2"):
            table[f"{name}.{norm}.weight"] = table[f"{name}.{norm}.bias"] = [c]

    conv("intro", width, 3, 3)
    conv("ending", 3, width, 3)
    c = width
    for i, count in enumerate(encoders):
        for j in range(count):
            block(f"encoders.{i}.{j}", c)
        conv(f"downs.{i}", 2 * c, c, 2)
        c *= 2
    for j in range(middle):
        block(f"middle_blks.{j}", c)
    for i, count in enumerate(decoders):
        conv(f"ups.{i}.0", 2 * c, c, 1, bias=False)
        c //= 2
        for j in range(count):
            block(f"decoders.{i}.{j}", c)
    return table


@pytest.mark.parametrize(
    ("config", "millions"),
    [(GOPRO_32, 17.11), (GOPRO_64, 67.89)],
    ids=["width 32", "width 64"],
)
def test_the_published_networks_have_their_published_keys_shapes_and_size(config, millions):
    with torch.device("meta"):
        state = NAFNet(config).state_dict()
    shapes = {key: list(value.shape) for key, value in state.items()}
    assert shapes == published_shapes(
        config.width, list(config.encoders), config.middle, list(config.decoders)
    )
    assert infer_config(state) == config
    # The paper's tables round to 10,000 parameters.
    assert sum(math.prod(shape) for shape in shapes.values()) / 1e6 == pytest.approx(millions, abs=0.005)


def test_a_network_for_stereo_pairs_is_not_taken_for_nafnet():
    state = random_network(SMALL).state_dict()
    assert not matches(state | {"intro.weight": torch.zeros(4, 6, 3, 3)}), "six channels in: a stereo pair"


def naive_layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    for b, i, j in np.ndindex(x.shape[0], *x.shape[2:]):
        pixel = x[b, :, i, j]
        mean = sum(pixel) / len(pixel)
        variance = sum((value - mean) ** 2 for value in pixel) / len(pixel)
        out[b, :, i, j] = (pixel - mean) / math.sqrt(variance + 1e-6) * weight + bias
    return out


@pytest.mark.parametrize("config", [torch.contiguous_format, torch.channels_last])
def test_layer_norm_of_every_pixel_against_loops(config):
    generator = torch.Generator().manual_seed(1)
    norm = LayerNorm2d(6).double().requires_grad_(False)
    norm.weight.copy_(torch.randn(6, generator=generator))
    norm.bias.copy_(torch.randn(6, generator=generator))
    x = torch.randn(2, 6, 3, 5, generator=generator, dtype=torch.float64)
    expected = naive_layer_norm(x.numpy(), norm.weight.numpy(), norm.bias.numpy())
    # float64 on both sides: only the order of the sums differs.
    np.testing.assert_allclose(norm(x.to(memory_format=config)).numpy(), expected, atol=1e-12)


def test_the_gate_is_the_product_of_the_channel_halves():
    x = torch.arange(1.0, 9.0).reshape(1, 4, 1, 2)
    assert simple_gate(x).tolist() == [[[[1 * 5, 2 * 6]], [[3 * 7, 4 * 8]]]]


def naive_conv(x: np.ndarray, conv: nn.Conv2d) -> np.ndarray:
    """[C, H, W] through a convolution with zero padding, written as the sum that defines it."""
    weight = conv.weight.numpy()
    out_channels, per_group, side, _ = weight.shape
    reach, step = conv.padding[0], conv.stride[0]
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    height, width = ((padded.shape[k] - side) // step + 1 for k in (1, 2))
    out = np.zeros((out_channels, height, width))
    for o, i, j in np.ndindex(out.shape):
        first = o // (out_channels // conv.groups) * per_group
        patch = padded[first : first + per_group, i * step : i * step + side, j * step : j * step + side]
        out[o, i, j] = (patch * weight[o]).sum() + (0 if conv.bias is None else conv.bias.numpy()[o])
    return out


def naive_pool(x: np.ndarray, window: int | None) -> np.ndarray:
    """[C, H, W]: the mean over a window around each pixel, pushed inside the image at its edges."""
    height, width = x.shape[1:]
    window = window or max(height, width)
    out = np.empty_like(x)
    for i, j in np.ndindex(height, width):
        top = min(max(i - window // 2, 0), max(height - window, 0))
        left = min(max(j - window // 2, 0), max(width - window, 0))
        out[:, i, j] = x[:, top : top + window, left : left + window].mean(axis=(1, 2))
    return out


def naive_block(x: np.ndarray, block: nn.Module, window: int | None) -> np.ndarray:
    def norm(value: np.ndarray, layer: nn.Module) -> np.ndarray:
        return naive_layer_norm(value[None], layer.weight.numpy(), layer.bias.numpy())[0]

    def gate(value: np.ndarray) -> np.ndarray:
        half = len(value) // 2
        return value[:half] * value[half:]

    y = gate(naive_conv(naive_conv(norm(x, block.norm1), block.conv1), block.conv2))
    attention = naive_conv(naive_pool(y, window), block.sca[1])
    x = x + block.beta.numpy()[0] * naive_conv(y * attention, block.conv3)
    z = naive_conv(gate(naive_conv(norm(x, block.norm2), block.conv4)), block.conv5)
    return x + block.gamma.numpy()[0] * z


def naive_network(image: np.ndarray, network: NAFNet, window: int | None) -> np.ndarray:
    def doubled(value: np.ndarray) -> np.ndarray:
        """Four channels become one of twice the side: channel 2i + j goes to row i, column j of each cell."""
        out = np.zeros((len(value) // 4, 2 * value.shape[1], 2 * value.shape[2]))
        for i, j in np.ndindex(2, 2):
            out[:, i::2, j::2] = value[2 * i + j :: 4]
        return out

    def stage(value: np.ndarray, blocks: nn.Module) -> np.ndarray:
        """The window is given in pixels of the image, whatever the scale at which it pools."""
        scale = padded.shape[1] // value.shape[1]
        for block in blocks:
            value = naive_block(value, block, window and window // scale)
        return value

    below, right = -image.shape[1] % network.multiple, -image.shape[2] % network.multiple
    padded = np.pad(image, ((0, 0), (0, below), (0, right)))
    x = naive_conv(padded, network.intro)
    skips = []
    for encoder, down in zip(network.encoders, network.downs, strict=True):
        x = stage(x, encoder)
        skips.append(x)
        x = naive_conv(x, down)
    x = stage(x, network.middle_blks)
    for up, decoder in zip(network.ups, network.decoders, strict=True):
        x = stage(doubled(naive_conv(x, up[0])) + skips.pop(), decoder)
    return image + naive_conv(x, network.ending)[:, : image.shape[1], : image.shape[2]]


@pytest.mark.parametrize(
    ("height", "width", "window"), [(8, 12, None), (7, 9, None), (1, 1, None), (13, 18, 8), (13, 18, 9)]
)
def test_the_whole_network_against_a_second_one_written_in_loops(height, width, window):
    network = random_network(SMALL, window=window).double()
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected = naive_network(image[0].numpy(), network, window)
    # float64 on both sides: only the order of the sums differs.
    np.testing.assert_allclose(network(image)[0].numpy(), expected, atol=1e-10)


def test_without_gains_and_ending_the_network_is_the_identity():
    network = random_network(SMALL)
    for name, value in network.named_parameters():
        if name.endswith(("beta", "gamma")) or name.startswith("ending"):
            value.zero_()
    image = torch.rand(2, 3, 13, 22)
    assert torch.equal(network(image), image)


def test_a_fresh_block_passes_its_input_on():
    """beta and gamma start at zero: a network deepened by new blocks still does what it did."""
    fresh = NAFNet(SMALL).middle_blks
    x = torch.randn(1, 16, 5, 5)
    assert torch.equal(fresh(x), x)


@pytest.mark.parametrize("window", [1, 4, 5, 9, 100])
def test_local_means_against_loops(window):
    x = torch.randn(1, 2, 7, 9, generator=torch.Generator().manual_seed(5))
    expected = naive_pool(x[0].double().numpy(), window)
    # Running sums of 9 float32 numbers of size 1.
    np.testing.assert_allclose(local_mean(x, window)[0].numpy(), expected, atol=2e-6)


def test_a_window_wider_than_the_picture_pools_all_of_it():
    x = torch.randn(1, 3, 6, 8)
    torch.testing.assert_close(local_mean(x, 8), Pool(None)(x).expand_as(x), atol=1e-6, rtol=0)


def far_change(window: int | None) -> float:
    """How much the left of an image's restoration changes when something happens 100 px to the right."""
    network = random_network(SMALL, window=window).double()
    flat = torch.rand(1, 3, 16, 144, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    event = flat.clone()
    event[..., 120:] = 1
    return float((network(flat) - network(event))[..., :16].abs().max())


def test_local_pooling_makes_restoration_local():
    """Pooling over the image ties every place to every other; a window cuts the tie beyond its reach.

    This is why the option exists: only then is a tile's restoration the whole image's.
    """
    assert far_change(window=None) > 1e-5
    # What is left is the rounding of float64 running sums.
    assert far_change(window=16) < 1e-12
