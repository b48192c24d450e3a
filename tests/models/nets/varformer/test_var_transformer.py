from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from freezeframe.models.nets.blocks.transformer import modulate
from freezeframe.models.nets.varformer.config import SCALES
from freezeframe.models.nets.varformer.var_transformer import (
    Block,
    CausalSelfAttention,
    CrossAttention,
    Var,
    VarConfig,
    apply_guidance,
    causal_bias,
    scale_of_tokens,
)
from freezeframe.models.nets.varformer.vector_quantizer import VectorQuantizer, nearest_codewords, nearest_phi
from tests.support.weights import normal, random_weights

SIZES = VarConfig(width=32, heads=4, blocks=3, cross_blocks=2, classes=5)


def test_the_nearest_word_against_loops():
    x, words = normal(2, 3, 4, 5), normal(7, 3, seed=3)
    actual = nearest_codewords(x, words)
    for b in range(2):
        for n in range(20):
            pixel = x[b, :, n // 5, n % 5]
            distances = [float(((pixel - word) ** 2).sum()) for word in words]
            assert actual[b, n] == distances.index(min(distances))


def test_autocast_leaves_the_choice_of_words_alone():
    x, words = normal(1, 32, 16, 16, dtype=torch.float32), normal(4096, 32, seed=3, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nearest_codewords(x, words), nearest_codewords(x.double(), words.double()))


def quantiser(scales: tuple[int, ...], *, identity: bool = False) -> VectorQuantizer:
    quantizer = random_weights(VectorQuantizer(vocab_size=16, width=6, scales=scales), scale=0.5).double()
    for convolution in quantizer.quant_resi.qresi_ls:
        if identity:
            convolution.weight.zero_()
            convolution.weight[range(6), range(6), 1, 1] = 1
            convolution.bias.zero_()
    return quantizer


def test_ten_scales_add_up_to_the_code_map():
    """Word by word and scale by scale, enlarged, softened and summed, as the equation has it."""
    quantizer = quantiser(SCALES)
    latent = normal(1, 6, 16, 16, seed=4)
    total, indices = torch.zeros_like(latent), quantizer.encode(latent)
    phis = (0, 0, nearest_phi(2 / 9), 1, 1, 2, 2, nearest_phi(7 / 9), 3, 3)
    for words, side, phi in zip(indices, SCALES, phis, strict=True):
        small = quantizer.embedding.weight[words[0]].T.reshape(1, 6, side, side)
        large = interpolate(small, size=(16, 16), mode="bicubic") if side < 16 else small
        total += 0.5 * large + 0.5 * quantizer.quant_resi.qresi_ls[phi](large)
    parts = quantizer.contributions(indices)
    assert parts.shape == (1, 10, 6, 16, 16)
    torch.testing.assert_close(parts.sum(1), total, atol=1e-12, rtol=0)


def test_neighbouring_scales_share_a_convolution():
    phis = [nearest_phi(i / 9) for i in range(10)]
    assert phis == sorted(phis)
    assert set(phis) == {0, 1, 2, 3}


def test_each_scale_explains_what_those_before_have_left():
    quantizer = quantiser((1, 2, 4))
    latent = normal(1, 6, 4, 4, seed=5)
    indices = quantizer.encode(latent)
    rest = latent - quantizer.contributions(indices)[:, :2].sum(1)
    assert torch.equal(indices[2], nearest_codewords(rest, quantizer.embedding.weight))


def test_quantisation_decodes_what_it_encodes():
    """At one scale any map of words comes back; with more, a flat one does, if the other scales can say 0."""
    quantizer = quantiser((4,), identity=True)
    words = torch.randint(16, (2, 16), generator=torch.Generator().manual_seed(6))
    latent = quantizer.contributions([words]).sum(1)
    assert torch.equal(quantizer.encode(latent)[0], words)
    torch.testing.assert_close(
        quantizer.contributions(quantizer.encode(latent)).sum(1), latent, atol=1e-12, rtol=0
    )

    quantizer = quantiser((1, 2, 4), identity=True)
    quantizer.embedding.weight[0] = 0
    latent = quantizer.embedding.weight[5][None, :, None, None].expand(1, 6, 4, 4)
    assert [words.unique().tolist() for words in quantizer.encode(latent)] == [[5], [0], [0]]
    torch.testing.assert_close(
        quantizer.contributions(quantizer.encode(latent)).sum(1), latent, atol=1e-12, rtol=0
    )


def test_the_transformer_reads_the_latent_known_so_far():
    quantizer = quantiser((1, 2, 4))
    parts = normal(1, 3, 6, 4, 4, seed=7)
    second, third = quantizer.inputs(parts)
    quarters = parts[:, 0].reshape(1, 6, 2, 2, 2, 2).mean((3, 5))
    torch.testing.assert_close(second[0], quarters[0].flatten(1).T, atol=1e-12, rtol=0)
    torch.testing.assert_close(third[0], parts[0, :2].sum(0).flatten(1).T, atol=1e-12, rtol=0)


def test_modulation_against_its_definition():
    x, scale, shift = normal(2, 3, 8), normal(2, 1, 8, seed=8), normal(2, 1, 8, seed=9)
    centred = x - x.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + scale) + shift
    torch.testing.assert_close(modulate(x, scale, shift), expected, atol=1e-12, rtol=0)


def naive_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    return ((query @ key.transpose(-1, -2)) + bias).softmax(-1) @ value


def test_scale_by_scale_attention_is_masked_attention_over_all_scales():
    """What the cache remembers must be what the training mask lets through."""
    scales = (1, 2, 3)
    attention = random_weights(CausalSelfAttention(12, heads=3), scale=0.4).double()
    x = normal(2, 14, 12, seed=10)
    cache, outputs = (None, None), []
    for part in x.split([scale**2 for scale in scales], dim=1):
        output, cache = attention(part, cache)
        outputs.append(output)

    bias = torch.cat([attention.q_bias, torch.zeros(12).double(), attention.v_bias])
    query, key, value = (
        part.reshape(2, 14, 3, 4).transpose(1, 2)
        for part in (x @ attention.mat_qkv.weight.T + bias).chunk(3, dim=2)
    )
    sharp = attention.scale_mul_1H11.exp()
    query, key = (part / part.norm(dim=-1, keepdim=True) for part in (query, key))
    attended = naive_attention(query * sharp, key, value, causal_bias(scale_of_tokens(scales)).double())
    expected = attention.proj(attended.transpose(1, 2).reshape(2, 14, 12))
    torch.testing.assert_close(torch.cat(outputs, dim=1), expected, atol=1e-12, rtol=0)


def test_sharpness_ends_at_a_hundred():
    attention = random_weights(CausalSelfAttention(8, heads=2)).double()
    x = normal(1, 4, 8, seed=11)
    attention.scale_mul_1H11.fill_(math.log(100))
    at_the_end = attention(x, (None, None))[0]
    attention.scale_mul_1H11.fill_(50)
    torch.testing.assert_close(attention(x, (None, None))[0], at_the_end, atol=1e-12, rtol=0)


def test_the_causal_bias_counts_scales_not_tokens():
    bias = causal_bias(scale_of_tokens((1, 2)))[0, 0]
    assert bias.isinf().tolist() == [[False, True, True, True, True], *[[False] * 5] * 4]


def questions_and_answer() -> tuple[CrossAttention, Tensor, Tensor, Tensor]:
    """Answers by head, [B, heads, L, c], written out."""
    cross_blocks = random_weights(CrossAttention(8, heads=2), scale=0.5).double()
    question, x = normal(2, 3, 8, seed=12), normal(2, 3, 8, seed=13)
    query = (question @ cross_blocks.mat_q.weight.T + cross_blocks.q_bias).reshape(2, 3, 2, 4).transpose(1, 2)
    both = x @ cross_blocks.mat_kv.weight.T + torch.cat([torch.zeros(8).double(), cross_blocks.v_bias])
    key, value = (part.reshape(2, 3, 2, 4).transpose(1, 2) for part in both.chunk(2, dim=2))
    return cross_blocks, question, x, naive_attention(query * 0.25 / 2, key, value)


def test_correct_mixing_keeps_the_heads_of_a_token_together():
    cross_blocks, question, x, heads = questions_and_answer()
    expected = cross_blocks.proj(torch.cat([heads[:, 0], heads[:, 1]], dim=2))
    torch.testing.assert_close(cross_blocks(question, x, mixing="correct"), expected, atol=1e-12, rtol=0)


def test_released_mixing_reads_memory_in_the_wrong_order():
    cross_blocks, question, x, heads = questions_and_answer()
    memory = [heads[b, h, n, c] for h in range(2) for b in range(2) for n in range(3) for c in range(4)]
    expected = cross_blocks.proj(torch.stack(memory).reshape(2, 3, 8))
    torch.testing.assert_close(cross_blocks(question, x, mixing="released"), expected, atol=1e-12, rtol=0)


def test_guidance_of_nothing_is_the_conditional_branch():
    one, other = normal(1, 4, 5), normal(1, 4, 5, seed=14)
    assert torch.equal(apply_guidance(one, other, 0), one)
    torch.testing.assert_close(apply_guidance(one, other, 0.5), 1.5 * one - 0.5 * other)


def clean_parts(*, guidance: float, mixing: str) -> Tensor:
    quantizer = random_weights(VectorQuantizer(vocab_size=32, width=6, scales=(1, 2, 4)), scale=0.5).double()
    network = Var(SIZES, vocab_size=32, latent=6, scales=(1, 2, 4))
    network = random_weights(network, seed=3, scale=0.4).double()
    degraded = normal(1, 3, 6, 4, 4, seed=15)
    return network(degraded, quantizer, guidance=guidance, mixing=mixing)


def test_guidance_works_only_through_the_scrambled_heads():
    """Both copies are given the same class: mixed correctly they agree, and guidance has no effect."""
    assert torch.equal(clean_parts(guidance=0, mixing="correct"), clean_parts(guidance=50, mixing="correct"))
    unguided, guided = clean_parts(guidance=0, mixing="released"), clean_parts(guidance=50, mixing="released")
    assert torch.equal(unguided[:, 0], guided[:, 0]), "the coarsest scale is not guided"
    assert not torch.equal(unguided, guided)


def test_the_transformer_against_its_equations():
    """Scale by scale: two copies, cross-attention after the first blocks, guidance that grows."""
    quantizer = random_weights(VectorQuantizer(vocab_size=32, width=6, scales=(1, 2, 4)), scale=0.5).double()
    var = random_weights(Var(SIZES, vocab_size=32, latent=6, scales=(1, 2, 4)), seed=3, scale=0.4).double()
    degraded, no_class = normal(1, 3, 6, 4, 4, seed=15), var.class_emb.weight[5]
    caches = [(None, None)] * 3
    contributions = torch.zeros(1, 0, 6, 4, 4, dtype=torch.float64)
    for i, tokens in enumerate((slice(0, 1), slice(1, 5), slice(5, 21))):
        place = var.pos_1LC[:, tokens] + var.lvl_embed.weight[i]
        if i == 0:
            x = query_input = no_class + var.pos_start + place
        else:
            x = var.word_embed(quantizer.inputs(contributions)[i - 1]) + place
            query_input = var.word_embed(quantizer.inputs(degraded)[i - 1]) + place
        x, query_input = (part.repeat(2, 1, 1) for part in (x, query_input))
        for j, block in enumerate(var.blocks):
            x, caches[j] = block(x, no_class.repeat(2, 1), caches[j])
            if j < 2:
                x = var.cross_attn_blocks[j](query_input, x, mixing="released")
        first, second = var.head(var.head_nm(x, no_class.repeat(2, 1)))
        guided = (1 + 8 * i / 2) * first - 8 * i / 2 * second
        contributions = torch.cat(
            [contributions, quantizer.contribution(guided.argmax(1)[None], i)[:, None]], dim=1
        )
    output = var(degraded, quantizer, guidance=8, mixing="released")
    torch.testing.assert_close(output, contributions, atol=1e-10, rtol=0)
    assert not torch.allclose(output, var(degraded, quantizer, guidance=-8, mixing="released"), atol=1e-3)


def test_a_block_against_its_equations():
    block = random_weights(Block(12, heads=3), scale=0.4).double()
    x, condition = normal(2, 4, 12), normal(2, 12, seed=2)
    modulation = block.ada_lin[1](condition / (1 + torch.exp(-condition)))[:, None]
    gain1, gain2, scale1, scale2, shift1, shift2 = modulation.split(12, dim=2)
    middle = x + gain1 * block.attn(modulate(x, scale1, shift1), (None, None))[0]
    hidden = block.ffn.fc1(modulate(middle, scale2, shift2))
    gelu = 0.5 * hidden * (1 + torch.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
    expected = middle + gain2 * block.ffn.fc2(gelu)
    torch.testing.assert_close(block(x, condition, (None, None))[0], expected, atol=1e-12, rtol=0)
