from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from freezeframe.models.nets.blocks.autoencoder import Downsample, Residual, Upsample
from freezeframe.models.nets.varformer.tokenizer import Decoder, Encoder, SelfAttention, TokenizerConfig
from tests.support.weights import normal, random_weights

SIZES = TokenizerConfig(width=32, multiples=(1, 2), blocks=1, latent=4)


def randomised(network: nn.Module) -> nn.Module:
    return random_weights(network, scale=0.2).double()


def naive_norm(x: Tensor, layer: nn.GroupNorm) -> Tensor:
    """Each of 32 groups of channels to mean 0 and variance 1."""
    groups = x.reshape(32, -1)
    centred = groups - groups.mean(1, keepdim=True)
    normed = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    return normed.reshape(x.shape) * layer.weight[:, None, None] + layer.bias[:, None, None]


def naive_conv(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """[C, H, W], 3 x 3 with zeros around, as the sum that defines it."""
    height, width = x.shape[1:]
    out = conv.bias[:, None, None].expand(-1, height, width).clone()
    for i, j in ((i, j) for i in range(3) for j in range(3)):
        for row in range(max(0, 1 - i), min(height, height + 1 - i)):
            for column in range(max(0, 1 - j), min(width, width + 1 - j)):
                out[:, row, column] += conv.weight[:, :, i, j] @ x[:, row + i - 1, column + j - 1]
    return out


def swish(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def test_a_residual_block_against_loops():
    block, x = randomised(Residual(32, 64, groups=32)), normal(32, 4, 5)
    y = naive_conv(swish(naive_norm(x, block.norm1)), block.conv1)
    y = naive_conv(swish(naive_norm(y, block.norm2)), block.conv2)
    around = torch.einsum("dc,chw->dhw", block.nin_shortcut.weight[..., 0, 0], x)
    expected = y + around + block.nin_shortcut.bias[:, None, None]
    torch.testing.assert_close(block(x[None])[0], expected, atol=1e-11, rtol=0)
    same = randomised(Residual(32, 32, groups=32))
    assert same.nin_shortcut is None
    same.conv2.weight.zero_()
    same.conv2.bias.zero_()
    assert torch.equal(same(x[None]), x[None])


def test_attention_between_pixels_against_loops():
    layer, x = randomised(SelfAttention(32)), normal(32, 2, 3)
    pixels = naive_norm(x, layer.norm).reshape(32, 6).T
    query, key, value = (pixels @ layer.qkv.weight[..., 0, 0].T + layer.qkv.bias).split(32, dim=1)
    weights = torch.exp(query @ key.T / math.sqrt(32))
    gathered = weights @ value / weights.sum(1, keepdim=True)
    change = gathered @ layer.proj_out.weight[..., 0, 0].T + layer.proj_out.bias
    torch.testing.assert_close(layer(x[None])[0], x + change.T.reshape(x.shape), atol=1e-11, rtol=0)


def test_halving_looks_right_and_down():
    """Output (i, j) is made of the nine pixels from (2i, 2j); beyond the border they are 0."""
    layer, x = randomised(Downsample(3)), normal(1, 3, 4, 6)
    padded = torch.zeros(3, 5, 7, dtype=torch.float64)
    padded[:, :4, :6] = x[0]
    actual = layer(x)[0]
    assert actual.shape == (3, 2, 3)
    for i, j in ((0, 0), (1, 2), (0, 1)):
        patch = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        expected = (layer.conv.weight * patch).sum((1, 2, 3)) + layer.conv.bias
        torch.testing.assert_close(actual[:, i, j], expected, atol=1e-12, rtol=0)


def test_doubling_repeats_pixels_before_it_convolves():
    layer, x = randomised(Upsample(3)), normal(1, 3, 2, 3)
    large = x[0].repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    torch.testing.assert_close(layer(x)[0], naive_conv(large, layer.conv), atol=1e-12, rtol=0)


def test_features_are_handed_out_finest_first_and_changes_take_effect():
    encoder, decoder = randomised(Encoder(SIZES)), randomised(Decoder(SIZES, blocks=2))
    latent, features = encoder(normal(1, 3, 8, 8))
    assert [tuple(x.shape[1:]) for x in features] == [(32, 8, 8), (64, 4, 4)]
    assert latent.shape == (1, 4, 4, 4)
    levels: list[int] = []

    def silence(level: int, x: Tensor) -> Tensor:
        levels.append(level)
        return torch.zeros_like(x) if level == 1 else x

    silent, dark = encoder(normal(1, 3, 8, 8), change=silence)
    assert float(dark[1].abs().max()) == 0
    other, _ = encoder(normal(1, 3, 8, 8, seed=2), change=silence)
    assert torch.equal(silent, other), "all that is below depends only on the replaced features"
    image, features = decoder(latent, change=silence)
    assert [tuple(x.shape[1:]) for x in features] == [(32, 8, 8), (64, 4, 4)]
    assert torch.equal(image, decoder(2 * latent, change=silence)[0])
    assert levels == [0, 1, 0, 1, 1, 0, 1, 0]
