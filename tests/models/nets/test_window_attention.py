from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.models.nets.blocks.window_attention import (
    MASK_LOGIT,
    Layer,
    LayerShape,
    WindowAttention,
    attend,
    full_shift_mask,
    relative_positions,
    shift_masks,
    window_partition,
    window_reverse,
)


def test_pixels_of_windows_in_rows():
    x = torch.arange(2.0 * 6 * 9).reshape(2, 6, 9, 1)
    windows = window_partition(x, 3)
    assert windows.shape == (2, 6, 9, 1)
    assert windows[1, 4, :, 0].tolist() == x[1, 3:6, 3:6, 0].flatten().tolist()
    assert torch.equal(window_reverse(windows, (6, 9)), x)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 8))
def test_a_row_of_the_table_is_a_difference_of_places(window):
    """The same row exactly where one pixel sees the other in the same direction; (0, 0) in the middle."""
    index = relative_positions(window).numpy()
    places = list(np.ndindex(window, window))
    for i, (y, x) in enumerate(places):
        for j, (v, u) in enumerate(places):
            assert index[i, j] == (y - v + window - 1) * (2 * window - 1) + (x - u + window - 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 7))
def test_masks_part_what_lay_apart_before_the_shift(down, across, window):
    """Two pixels of a shifted window see each other when the shift moved both by the same way."""
    height, width, half = down * window, across * window, window // 2
    at = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), -1)
    came_from = window_partition(at.roll((-half, -half), (0, 1))[None], window)[0]
    stands_at = window_partition(at[None], window)[0]
    way = came_from - stands_at
    apart = (way[:, :, None] != way[:, None]).any(-1)
    assert torch.equal(full_shift_mask((height, width), window), apart * MASK_LOGIT)


def test_seams_lie_in_the_last_row_and_column_only():
    assert shift_masks((12, 20), 4).at.tolist() == [4, 9, 10, 11, 12, 13, 14]


def naive_layer_attention(x: np.ndarray, attention: WindowAttention, *, shift: int) -> np.ndarray:
    """Pixel by pixel: softmax over those of its window, by their positions in the unshifted image."""
    window, heads = attention.window, attention.heads
    height, width, channels = x.shape
    table = attention.relative_position_bias_table.numpy()
    weight, bias = attention.qkv.weight.numpy(), attention.qkv.bias.numpy()
    per_head = channels // heads
    out = np.zeros_like(x)

    def cell(place: int) -> int:
        """Cells start `shift` pixels inside; the pixels before the first form a narrower cell."""
        return (place - shift) // window

    qkv = x @ weight.T + bias
    for y, z in np.ndindex(height, width):
        neighbours = [
            (v, u) for v in range(height) for u in range(width) if (cell(v), cell(u)) == (cell(y), cell(z))
        ]
        for head in range(heads):
            part = slice(head * per_head, (head + 1) * per_head)
            query = qkv[y, z, :channels][part]
            logits = [
                query @ qkv[v, u, channels : 2 * channels][part] / math.sqrt(per_head)
                + table[(y - v + window - 1) * (2 * window - 1) + z - u + window - 1, head]
                for v, u in neighbours
            ]
            weights = np.exp(np.array(logits) - max(logits))
            for (v, u), share in zip(neighbours, weights / weights.sum(), strict=True):
                out[y, z, part] += share * qkv[v, u, 2 * channels :][part]
    return out @ attention.proj.weight.numpy().T + attention.proj.bias.numpy()


def random_attention(window: int) -> WindowAttention:
    generator = torch.Generator().manual_seed(2)
    attention = WindowAttention(LayerShape(channels=6, heads=2, window=window, hidden=12))
    attention = attention.double().requires_grad_(False)
    for value in attention.parameters():
        value.copy_(torch.randn(value.shape, generator=generator))
    return attention


@pytest.mark.parametrize(("window", "height", "width"), [(4, 8, 12), (3, 6, 9), (4, 4, 4)])
@pytest.mark.parametrize("shifted", [False, True])
def test_window_attention_against_loops(window, height, width, shifted):
    """The loops know no cyclic shift and no mask: pixels attend to those of their cell of a moved grid."""
    attention = random_attention(window)
    x = torch.randn(2, height, width, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    result = attention(x, shift_masks((height, width), window) if shifted else None)
    for image, features in zip(result, x, strict=True):
        expected = naive_layer_attention(features.numpy(), attention, shift=window // 2 if shifted else 0)
        # float64 on both sides: only the order of the sums differs.
        np.testing.assert_allclose(image.numpy(), expected, atol=1e-11)


@pytest.mark.parametrize("shifted", [False, True])
def test_attention_moves_with_the_picture_by_whole_windows(shifted):
    """An image moved around by a window gives the result moved so, away from what the move tore apart."""
    window, half = 4, 2
    attention = random_attention(window)
    x = torch.randn(1, 12, 16, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    joined = shift_masks((12, 16), window) if shifted else None
    moved = attention(x.roll((window, -window), (1, 2)), joined)
    expected = attention(x, joined).roll((window, -window), (1, 2))
    # Shifted cells that the move glued or tore: half a window at the old and new borders.
    inner = (slice(None), slice(window + half, -half), slice(half, -window - half)) if shifted else ...
    torch.testing.assert_close(moved[inner], expected[inner], atol=1e-11, rtol=0)
    by_half = attention(x.roll((half, half), (1, 2)), joined)
    assert (by_half - attention(x, joined).roll((half, half), (1, 2)))[:, 4:-4, 4:-4].abs().max() > 0.1


def test_a_shifted_layer_is_an_unshifted_one_on_a_moved_grid():
    """Away from the border a shifted window is nothing but a window that starts elsewhere."""
    attention = random_attention(4)
    x = torch.randn(1, 16, 16, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    shifted = attention(x, shift_masks((16, 16), 4))[:, 2:14, 2:14]
    torch.testing.assert_close(shifted, attention(x[:, 2:14, 2:14], None), atol=1e-11, rtol=0)


def test_a_layer_is_two_residuals():
    layer = Layer(LayerShape(channels=6, heads=2, window=4, hidden=12)).double().requires_grad_(False)
    x = torch.randn(1, 8, 8, 6, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    for value in layer.parameters():
        value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(7)))
    middle = x + layer.attn(layer.norm1(x), None)
    wide = middle
    wide = layer.norm2(wide) @ layer.mlp.fc1.weight.T + layer.mlp.fc1.bias
    wide = wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2)))
    expected = middle + wide @ layer.mlp.fc2.weight.T + layer.mlp.fc2.bias
    torch.testing.assert_close(layer(x, None), expected, atol=1e-11, rtol=0)


def test_gradients_of_shifted_attention_against_finite_differences():
    """float64 gradcheck, through the windows that are computed twice."""
    attention = WindowAttention(LayerShape(channels=2, heads=1, window=2, hidden=2)).double()
    x = torch.randn(1, 4, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    x.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda value: attention(value, shift_masks((4, 4), 2)), (x,))


@pytest.mark.parametrize("shifted", [False, True])
def test_windows_some_at_a_time_are_all_at_once(shifted):
    attention = random_attention(2)
    x = torch.randn(2, 12, 14, 6, generator=torch.Generator().manual_seed(11), dtype=torch.float64)
    joined = shift_masks((12, 14), 2) if shifted else None
    expected = attention(x, joined)
    attention.cpu_batch = 5
    torch.testing.assert_close(attention(x, joined), expected, atol=1e-13, rtol=0)


def test_gathering_against_the_fused_kernel_of_torch():
    """CPUs use another implementation; both are softmax(q k' / sqrt(d) + bias) v."""
    generator = torch.Generator().manual_seed(12)
    q, k, v = torch.randn(3, 7, 2, 16, 5, generator=generator, dtype=torch.float64)
    bias = torch.randn(2, 16, 16, generator=generator, dtype=torch.float64)
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    torch.testing.assert_close(attend(q, k, v, bias), fused, atol=1e-13, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("window", [4, 7])
def test_the_gpu_agrees_with_the_cpu(window):
    attention = random_attention(window).float()
    size = (3 * window, 4 * window)
    x = torch.randn(2, *size, 6, generator=torch.Generator().manual_seed(13))
    expected = attention(x, shift_masks(size, window))
    there = attention.cuda()(x.cuda(), shift_masks(size, window, device=torch.device("cuda")))
    # TF32 keeps ten bits of numbers up to 10.
    torch.testing.assert_close(there.cpu(), expected, atol=2e-2, rtol=0)
