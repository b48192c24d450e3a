from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from freezeframe.models.nets.restormer.layers import (
    Block,
    BlockShape,
    ChannelNorm,
    Kernels,
    attend,
    convolve,
    gated_feed_forward,
    kernel_shapes,
)
from tests.support.reference import naive_conv


def random_kernels(shape: BlockShape, *, images: int | None = None, seed: int = 2) -> Kernels:
    generator = torch.Generator().manual_seed(seed)
    names = ("qkv", "qkv_dwconv", "attn_out", "ffn_in", "ffn_dwconv", "ffn_out")
    ahead = () if images is None else (images,)
    sizes = zip(names, kernel_shapes(shape), strict=True)
    return Kernels(
        **{name: torch.randn(ahead + size, generator=generator, dtype=torch.float64) for name, size in sizes}
    )


def naive_attend(x: np.ndarray, kernels: Kernels, temperature: np.ndarray) -> np.ndarray:
    """Channel by channel: cosine to every channel of its head, softmax, weighted sum."""
    mixed = naive_conv(naive_conv(x, kernels.qkv.numpy()), kernels.qkv_dwconv.numpy())
    count, heads = len(x), len(temperature)
    query, key, value = mixed[:count], mixed[count : 2 * count], mixed[2 * count :]
    gathered = np.zeros_like(x)
    per_head = count // heads
    for c in range(count):
        head = c // per_head
        others = range(head * per_head, (head + 1) * per_head)
        cosines = [
            np.sum(query[c] * key[o]) / math.sqrt(np.sum(query[c] ** 2) * np.sum(key[o] ** 2)) for o in others
        ]
        weights = np.exp(np.array(cosines) * temperature[head, 0, 0])
        for o, weight in zip(others, weights / weights.sum(), strict=True):
            gathered[c] += weight * value[o]
    return naive_conv(gathered, kernels.attn_out.numpy())


def naive_feed(x: np.ndarray, kernels: Kernels) -> np.ndarray:
    wide = naive_conv(naive_conv(x, kernels.ffn_in.numpy()), kernels.ffn_dwconv.numpy())
    half = len(wide) // 2
    smooth = np.vectorize(lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2))))
    return naive_conv(smooth(wide[:half]) * wide[half:], kernels.ffn_out.numpy())


SHAPE = BlockShape(channels=6, heads=2, hidden=5)


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_attention_between_channels_against_loops(heads):
    kernels = random_kernels(SHAPE)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 6, 4, 5, generator=generator, dtype=torch.float64)
    temperature = torch.rand(heads, 1, 1, generator=generator, dtype=torch.float64) * 3
    result = attend(x, kernels, temperature=temperature)
    for image, expected in zip(result, x, strict=True):
        # float64 on both sides: only the order of the sums differs. Values reach 50.
        np.testing.assert_allclose(
            image.numpy(), naive_attend(expected.numpy(), kernels, temperature.numpy()), atol=1e-11
        )


def test_gated_feeding_against_loops():
    kernels = random_kernels(SHAPE)
    x = torch.randn(1, 6, 4, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    # Products of sums reach 1e3; float64.
    np.testing.assert_allclose(
        gated_feed_forward(x, kernels)[0].numpy(), naive_feed(x[0].numpy(), kernels), atol=1e-9
    )


def test_a_kernel_of_its_own_for_each_picture_is_each_picture_alone():
    kernels = random_kernels(SHAPE, images=3)
    x = torch.randn(3, 6, 4, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for name in ("qkv", "attn_out"):
        kernel = getattr(kernels, name)
        alone = [convolve(x[i : i + 1], kernel[i]) for i in range(3)]
        torch.testing.assert_close(convolve(x, kernel), torch.cat(alone), atol=1e-12, rtol=0)
    wide = x.repeat(1, 3, 1, 1)
    alone = [convolve(wide[i : i + 1], kernels.qkv_dwconv[i]) for i in range(3)]
    torch.testing.assert_close(convolve(wide, kernels.qkv_dwconv), torch.cat(alone), atol=1e-12, rtol=0)


def naive_norm(x: np.ndarray, norm: ChannelNorm) -> np.ndarray:
    weight = norm.body["weight"].numpy()
    out = np.empty_like(x)
    for i, j in np.ndindex(*x.shape[1:]):
        pixel = x[:, i, j]
        mean = sum(pixel) / len(pixel)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in pixel) / len(pixel) + 1e-5)
        if "bias" in norm.body:
            out[:, i, j] = (pixel - mean) / deviation * weight + norm.body["bias"].numpy()
        else:
            out[:, i, j] = pixel / deviation * weight
    return out


def random_norm(channels: int, *, centred: bool) -> ChannelNorm:
    norm = ChannelNorm(channels, centred=centred).double().requires_grad_(False)
    generator = torch.Generator().manual_seed(6)
    for value in norm.parameters():
        value.copy_(torch.randn(value.shape, generator=generator))
    return norm


@pytest.mark.parametrize("centred", [True, False])
def test_the_norm_of_every_pixel_against_loops(centred):
    norm = random_norm(6, centred=centred)
    x = torch.randn(1, 6, 3, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    np.testing.assert_allclose(norm(x)[0].numpy(), naive_norm(x[0].numpy(), norm), atol=1e-12)


def test_what_each_norm_does_not_see():
    """A centred norm does not see an added constant; neither sees a factor, but for the 1e-5 in the root."""
    x = torch.randn(1, 6, 3, 4, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    centred, free = random_norm(6, centred=True), random_norm(6, centred=False)
    torch.testing.assert_close(centred(x + 5), centred(x), atol=1e-12, rtol=0)
    assert (free(x + 5) - free(x)).abs().max() > 1
    for norm in (centred, free):
        torch.testing.assert_close(norm(1e4 * x), norm(1e6 * x), atol=1e-10, rtol=0)


def naive_block(x: np.ndarray, block: Block) -> np.ndarray:
    kernels, temperature = block.kernels(), block.attn.temperature.numpy()
    x = x + naive_attend(naive_norm(x, block.norm1), kernels, temperature)
    return x + naive_feed(naive_norm(x, block.norm2), kernels)


def test_attention_does_not_care_where_pixels_lie():
    """With kernels that look at one pixel only, pixels in another order are restored in that order."""
    kernels = random_kernels(SHAPE)
    alone = torch.zeros_like(kernels.qkv_dwconv)
    alone[..., 1, 1] = kernels.qkv_dwconv[..., 1, 1]
    kernels = Kernels(**{name: getattr(kernels, name) for name in Kernels.__slots__} | {"qkv_dwconv": alone})
    temperature = torch.tensor([2.0, 0.5], dtype=torch.float64).reshape(2, 1, 1)
    x = torch.randn(1, 6, 4, 5, generator=torch.Generator().manual_seed(11), dtype=torch.float64)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(12))
    before = attend(x, kernels, temperature=temperature).flatten(2)[..., order]
    moved = x.flatten(2)[..., order].reshape(x.shape)
    torch.testing.assert_close(
        attend(moved, kernels, temperature=temperature).flatten(2), before, atol=1e-11, rtol=0
    )


def test_a_block_is_two_residuals():
    block = Block(SHAPE).double().requires_grad_(False)
    for value in block.parameters():
        value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(9)))
    x = torch.randn(1, 6, 4, 5, generator=torch.Generator().manual_seed(10), dtype=torch.float64)
    # Sums of a hundred products of size 10; float64.
    np.testing.assert_allclose(block(x)[0].numpy(), naive_block(x[0].numpy(), block), atol=1e-9)
