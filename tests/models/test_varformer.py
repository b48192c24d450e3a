from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.flop_counter import FlopCounterMode

from freezeframe.models import varformer_layout
from freezeframe.models.checkpoint import unwrap
from freezeframe.models.varformer import RELEASED_16, Layout, Settings, VarFormer, detect, load, read_layout
from freezeframe.models.varformer import restore as restore_picture
from freezeframe.models.varformer_enhance import Enhance, MutualCurves, curve
from freezeframe.models.varformer_guide import AnchorAttention, Enhancement, Guide, Prior, Selector
from freezeframe.models.varformer_layout import SCALES, published
from freezeframe.models.varformer_quant import Quantiser, nearest_phi, nearest_words
from freezeframe.models.varformer_swin import Layer, WindowAttention, from_windows, shift_mask, to_windows
from freezeframe.models.varformer_vae import Convolutions
from freezeframe.models.varformer_var import (
    CachedAttention,
    Questions,
    Transformer,
    Var,
    causal_bias,
    guide,
    modulate,
    scale_of_tokens,
)

SMALL = Convolutions(width=32, multiples=(1, 1, 2, 2, 4), blocks=1, latent=8)
TINY = Layout(
    convolutions=SMALL,
    transformer=Transformer(width=32, heads=4, blocks=3, crossed=2, classes=5),
    codes=24,
    scales=(1, 2, 4),
    enhance=1,
    decoder_blocks=(2, 1),
    encoder_guides=varformer_layout.guides(
        SMALL, side=64, heads=4, select=(32,) * 5, blend=(48, 48, 96, 96, 64)
    ),
    decoder_guides=varformer_layout.guides(
        SMALL, side=64, heads=2, select=(16, 16, 32, 32, 64), blend=(64, 64, 128, 128, 256)
    ),
)


def randomised(network: nn.Module, seed: int = 0, spread: float = 0.1) -> nn.Module:
    """Every weight drawn at random, gains too: at their initial zero nothing would be tested."""
    generator = torch.Generator().manual_seed(seed)
    for value in network.parameters():
        value.requires_grad_(False).copy_(spread * torch.randn(value.shape, generator=generator))
    return network.eval()


def noise(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(scope="module")
def tiny() -> VarFormer:
    return randomised(VarFormer(TINY))


def conv(table: dict, name: str, out: int, inside: int, side: int = 1) -> None:
    table[f"{name}.weight"], table[f"{name}.bias"] = [out, inside, side, side], [out]


def linear(table: dict, name: str, out: int, inside: int) -> None:
    table[f"{name}.weight"], table[f"{name}.bias"] = [out, inside], [out]


def norm(table: dict, name: str, width: int) -> None:
    table[f"{name}.weight"] = table[f"{name}.bias"] = [width]


def convolutional(
    table: dict, name: str, *, direction: str, blocks: int, width: int, latent: int, multiples: tuple
) -> None:
    """Key table of one half of the tokeniser, as measured on the published code."""
    channels = [width * m for m in multiples]
    bottom, down = channels[-1], direction == "down"

    def residual(at: str, a: int, b: int) -> None:
        norm(table, f"{at}.norm1", a)
        conv(table, f"{at}.conv1", b, a, 3)
        norm(table, f"{at}.norm2", b)
        conv(table, f"{at}.conv2", b, b, 3)
        if a != b:
            conv(table, f"{at}.nin_shortcut", b, a)

    def attention(at: str, c: int) -> None:
        norm(table, f"{at}.norm", c)
        conv(table, f"{at}.qkv", 3 * c, c)
        conv(table, f"{at}.proj_out", c, c)

    conv(table, f"{name}.conv_in", width if down else bottom, 3 if down else latent, 3)
    before = width if down else bottom
    for i in range(len(channels)) if down else reversed(range(len(channels))):
        for j in range(blocks):
            residual(f"{name}.{direction}.{i}.block.{j}", before, channels[i])
            before = channels[i]
            if i == len(channels) - 1:
                attention(f"{name}.{direction}.{i}.attn.{j}", before)
        if down and i < len(channels) - 1:
            conv(table, f"{name}.down.{i}.downsample.conv", before, before, 3)
        if not down and i > 0:
            conv(table, f"{name}.up.{i}.upsample.conv", before, before, 3)
    residual(f"{name}.mid.block_1", bottom, bottom)
    attention(f"{name}.mid.attn_1", bottom)
    residual(f"{name}.mid.block_2", bottom, bottom)
    norm(table, f"{name}.norm_out", bottom if down else width)
    conv(table, f"{name}.conv_out", latent if down else 3, bottom if down else width, 3)


def transformer(
    table: dict, *, c: int, heads: int, tokens: int, scales: int, blocks: int, crossed: int
) -> None:
    table |= {"pos_start": [1, 1, c], "pos_1LC": [1, tokens, c], "lvl_1L": [1, tokens]}
    table |= {"attn_bias_for_masking": [1, 1, tokens, tokens], "lvl_embed.weight": [scales, c]}
    linear(table, "head_nm.ada_lin.1", 2 * c, c)
    for i in range(blocks):
        table[f"blocks.{i}.attn.scale_mul_1H11"] = [1, heads, 1, 1]
        for bias in ("q_bias", "v_bias", "zero_k_bias"):
            table[f"blocks.{i}.attn.{bias}"] = [c]
        table[f"blocks.{i}.attn.mat_qkv.weight"] = [3 * c, c]
        linear(table, f"blocks.{i}.attn.proj", c, c)
        linear(table, f"blocks.{i}.ffn.fc1", 4 * c, c)
        linear(table, f"blocks.{i}.ffn.fc2", c, 4 * c)
        linear(table, f"blocks.{i}.ada_lin.1", 6 * c, c)
    for i in range(crossed):
        for bias in ("q_bias", "v_bias", "zero_k_bias"):
            table[f"cross_attn_blocks.{i}.{bias}"] = [c]
        table[f"cross_attn_blocks.{i}.mat_q.weight"] = [c, c]
        table[f"cross_attn_blocks.{i}.mat_kv.weight"] = [2 * c, c]
        linear(table, f"cross_attn_blocks.{i}.proj", c, c)


def swin_groups(table: dict, at: str, *, d: int, heads: int, side: int) -> None:
    for j in range(2):
        for k in range(2):
            layer = f"{at}.swin_blocks.{j}.residual_group.blocks.{k}"
            norm(table, f"{layer}.norm1", d)
            norm(table, f"{layer}.norm2", d)
            linear(table, f"{layer}.attn.qkv", 3 * d, d)
            linear(table, f"{layer}.attn.proj", d, d)
            table[f"{layer}.attn.relative_position_bias_table"] = [49, heads]
            table[f"{layer}.attn.relative_position_index"] = [16, 16]
            linear(table, f"{layer}.mlp.fc1", 4 * d, d)
            linear(table, f"{layer}.mlp.fc2", d, 4 * d)
        table[f"{at}.swin_blocks.{j}.residual_group.blocks.1.attn_mask"] = [side * side // 16, 16, 16]
        conv(table, f"{at}.swin_blocks.{j}.conv", d, d, 3)
        table[f"{at}.swin_blocks.{j}.patch_embed.proj.weight"] = [d, 0, 4, 4]
        table[f"{at}.swin_blocks.{j}.patch_embed.proj.bias"] = [d]


def named_by_the_publication() -> dict[str, list[int]]:
    """The keys that were measured by name: all but the inner layers of the guides and of `ft_layers`."""
    table: dict[str, list[int]] = {}
    transformer(table, c=1024, heads=16, tokens=680, scales=10, blocks=16, crossed=8)
    linear(table, "word_embed", 1024, 32)
    linear(table, "head", 4096, 1024)
    table["class_emb.weight"] = [1001, 1024]
    table |= {"quantize.embedding.weight": [4096, 32], "quantize.ema_vocab_hit_SV": [10, 4096]}
    for i in range(4):
        conv(table, f"quantize.quant_resi.qresi_ls.{i}", 32, 32, 3)
    conv(table, "quant_conv", 32, 32, 3)
    conv(table, "post_quant_conv", 32, 32, 3)
    sizes = {"width": 160, "latent": 32, "multiples": (1, 1, 2, 2, 4)}
    for name in ("encoder", "Mainencoder"):
        convolutional(table, name, direction="down", blocks=2, **sizes)
    convolutional(table, "decoder", direction="up", blocks=3, **sizes)
    convolutional(table, "main_decoder", direction="up", blocks=2, **sizes)
    table |= {"main_decoder.theta": [5], "main_decoder.input_w": []}
    widths = {
        "Mainencoder": ((96, 320), (96, 320), (96, 640), (96, 640), (96, 640)),
        "main_decoder": ((100, 320), (100, 320), (200, 640), (200, 640), (400, 1280)),
    }
    for name, heads in (("Mainencoder", 8), ("main_decoder", 4)):
        for i, c in enumerate((160, 160, 320, 320, 640)):
            select, blend = widths[name][i]
            norm(table, f"{name}.cat_rec_syn_bf_nm.Level_{i}", 2 * c)
            conv(table, f"{name}.cat_rec_syn_bf.Level_{i}", c, 2 * c)
            side = 256 >> i
            swin_groups(table, f"{name}.cat_rec_syn.Level_{i}", d=select, heads=heads, side=side)
            swin_groups(table, f"{name}.DAE.Level_{i}", d=blend, heads=heads, side=side)
    return table


@pytest.fixture(scope="module")
def released_network() -> VarFormer:
    with torch.device("meta"):
        return VarFormer(RELEASED_16)


@pytest.fixture(scope="module")
def released(released_network) -> dict[str, Tensor]:
    return published(released_network.state_dict())


def test_every_key_that_the_publication_names_is_there_in_its_shape(released):
    table = named_by_the_publication()
    assert {key: list(released[key].shape) for key in table if key in released} == table
    ours_alone = {key for key in released if key not in table}
    parts = ("ft_layers.", ".DAE.", ".AFT.", ".cat_rec_syn.", "main_decoder.conv1__w.")
    assert all(any(part in key for part in parts) for key in ours_alone)


def test_as_many_keys_and_weights_as_were_measured(released, released_network):
    assert len(released) == 2668

    def millions(name: str) -> float:
        return sum(value.numel() for value in released_network.get_submodule(name).parameters()) / 1e6

    # Measured to 0.1 (0.01 for the small ones) million.
    for name, expected in (("encoder", 44.1), ("decoder", 64.7), ("var.blocks", 302.2)):
        assert millions(name) == pytest.approx(expected, abs=0.05)
    for name, expected in (("var.cross_attn_blocks", 33.6), ("var.head_nm", 2.1), ("var.head", 4.2)):
        assert millions(name) == pytest.approx(expected, abs=0.05)
    for name, expected in (("quantize", 0.17), ("ft_layers", 0.16)):
        assert millions(name) == pytest.approx(expected, abs=0.005)
    assert millions("Mainencoder") == pytest.approx(175.8, abs=0.05)
    # The guides' inner widths are not published: these come close.
    assert millions("main_decoder") == pytest.approx(279.4, abs=0.35)
    assert millions("") == pytest.approx(908.17, abs=0.35)


def test_blending_costs_what_was_measured():
    """111 GMAC for DAE at the second and at the third level, in the encoder and in the decoder."""
    for guides in (RELEASED_16.encoder_guides, RELEASED_16.decoder_guides):
        for level in (1, 2):
            with torch.device("meta"):
                groups = Enhancement(guides[level]).swin_blocks
                x = torch.zeros(1, guides[level].blend, 256 >> level, 256 >> level)
                with FlopCounterMode(display=False) as counter, torch.no_grad():
                    groups(x)
            assert counter.get_total_flops() / 2e9 == pytest.approx(111, rel=0.01)


def test_hyper_parameters_are_read_off_the_shapes(released, tiny):
    for layout, state, side in ((RELEASED_16, released, 256), (TINY, published(tiny.state_dict()), 64)):
        assert detect(state)
        assert read_layout(state) == layout
        assert layout.side == side


def test_other_networks_are_not_taken_for_it(tiny):
    state = published(tiny.state_dict())
    assert not detect({})
    assert not detect({key: value for key, value in state.items() if not key.startswith("Mainencoder")})


def test_a_training_codes_container_is_opened(tiny):
    state = unwrap({"params_ema": published(tiny.state_dict())})
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    assert torch.equal(load(state)(picture), tiny(picture))


@pytest.mark.parametrize("harm", ["missing", "left over", "misshapen"])
def test_a_state_that_does_not_fit_exactly_is_refused_by_key_name(tiny, harm):
    state = published(tiny.state_dict())
    key = "main_decoder.up.0.block.0.conv2.weight"
    if harm == "missing":
        del state[key]
    elif harm == "left over":
        key = "main_decoder.off_attn.weight"
        state[key] = torch.zeros(1)
    else:
        state[key] = state[key][:3]
    with pytest.raises(RuntimeError, match=key.replace(".", r"\.")):
        load(state)


def test_unpublished_inner_names_may_differ_if_order_and_shapes_agree(tiny):
    state = published(tiny.state_dict())
    other = {
        key.replace(".AFT.Level_2.anchor.", ".AFT.Level_2.token_conv."): value for key, value in state.items()
    }
    assert other.keys() != state.keys()
    loaded = published(load(other).state_dict())
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    swapped = {
        key.replace(".logits.", ".x.").replace(".merge.", ".logits.").replace(".x.", ".merge."): value
        for key, value in state.items()
    }
    with pytest.raises(RuntimeError, match="size mismatch"):
        load(swapped)
    renamed_elsewhere = {key.replace("quant_conv", "vq_conv"): value for key, value in state.items()}
    with pytest.raises(RuntimeError, match="vq_conv"):
        load(renamed_elsewhere | {"quant_conv.weight": state["quant_conv.weight"]})


# The quantiser


def test_the_nearest_word_against_loops():
    x, words = noise(2, 3, 4, 5), noise(7, 3, seed=3)
    found = nearest_words(x, words)
    for b in range(2):
        for n in range(20):
            pixel = x[b, :, n // 5, n % 5]
            distances = [float(((pixel - word) ** 2).sum()) for word in words]
            assert found[b, n] == distances.index(min(distances))


def test_autocast_leaves_the_choice_of_words_alone():
    x, words = noise(1, 32, 16, 16, dtype=torch.float32), noise(4096, 32, seed=3, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nearest_words(x, words), nearest_words(x.double(), words.double()))


def quantiser(scales: tuple[int, ...], *, identity: bool = False) -> Quantiser:
    made = randomised(Quantiser(codes=16, width=6, scales=scales), spread=0.5).double()
    for convolution in made.quant_resi.qresi_ls:
        if identity:
            convolution.weight.zero_()
            convolution.weight[range(6), range(6), 1, 1] = 1
            convolution.bias.zero_()
    return made


def test_ten_scales_add_up_to_the_code_map():
    """Word by word and scale by scale, enlarged, softened and summed, as the equation has it."""
    made = quantiser(SCALES)
    latent = noise(1, 6, 16, 16, seed=4)
    total, indices = torch.zeros_like(latent), made.encode(latent)
    phis = (0, 0, nearest_phi(2 / 9), 1, 1, 2, 2, nearest_phi(7 / 9), 3, 3)
    for words, side, phi in zip(indices, SCALES, phis, strict=True):
        small = made.embedding.weight[words[0]].T.reshape(1, 6, side, side)
        large = interpolate(small, size=(16, 16), mode="bicubic") if side < 16 else small
        total += 0.5 * large + 0.5 * made.quant_resi.qresi_ls[phi](large)
    parts = made.contributions(indices)
    assert parts.shape == (1, 10, 6, 16, 16)
    torch.testing.assert_close(parts.sum(1), total, atol=1e-12, rtol=0)


def test_neighbouring_scales_share_a_convolution():
    phis = [nearest_phi(i / 9) for i in range(10)]
    assert phis == sorted(phis)
    assert set(phis) == {0, 1, 2, 3}


def test_each_scale_explains_what_those_before_have_left():
    made = quantiser((1, 2, 4))
    latent = noise(1, 6, 4, 4, seed=5)
    indices = made.encode(latent)
    rest = latent - made.contributions(indices)[:, :2].sum(1)
    assert torch.equal(indices[2], nearest_words(rest, made.embedding.weight))


def test_quantisation_decodes_what_it_encodes():
    """At one scale any map of words comes back; with more, a flat one does, if the other scales can say 0."""
    made = quantiser((4,), identity=True)
    words = torch.randint(16, (2, 16), generator=torch.Generator().manual_seed(6))
    latent = made.contributions([words]).sum(1)
    assert torch.equal(made.encode(latent)[0], words)
    torch.testing.assert_close(made.contributions(made.encode(latent)).sum(1), latent, atol=1e-12, rtol=0)

    made = quantiser((1, 2, 4), identity=True)
    made.embedding.weight[0] = 0
    latent = made.embedding.weight[5][None, :, None, None].expand(1, 6, 4, 4)
    assert [words.unique().tolist() for words in made.encode(latent)] == [[5], [0], [0]]
    torch.testing.assert_close(made.contributions(made.encode(latent)).sum(1), latent, atol=1e-12, rtol=0)


def test_the_transformer_reads_the_latent_known_so_far():
    made = quantiser((1, 2, 4))
    parts = noise(1, 3, 6, 4, 4, seed=7)
    second, third = made.inputs(parts)
    quarters = parts[:, 0].reshape(1, 6, 2, 2, 2, 2).mean((3, 5))
    torch.testing.assert_close(second[0], quarters[0].flatten(1).T, atol=1e-12, rtol=0)
    torch.testing.assert_close(third[0], parts[0, :2].sum(0).flatten(1).T, atol=1e-12, rtol=0)


# The transformer


def test_modulation_against_its_definition():
    x, scale, shift = noise(2, 3, 8), noise(2, 1, 8, seed=8), noise(2, 1, 8, seed=9)
    centred = x - x.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + scale) + shift
    torch.testing.assert_close(modulate(x, scale, shift), expected, atol=1e-12, rtol=0)


def naive_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    return ((query @ key.transpose(-1, -2)) + bias).softmax(-1) @ value


def test_scale_by_scale_attention_is_masked_attention_over_all_scales():
    """What the cache remembers must be what the training mask lets through."""
    scales = (1, 2, 3)
    attention = randomised(CachedAttention(12, heads=3), spread=0.4).double()
    x = noise(2, 14, 12, seed=10)
    cache, found = (None, None), []
    for part in x.split([scale**2 for scale in scales], dim=1):
        answer, cache = attention(part, cache)
        found.append(answer)

    bias = torch.cat([attention.q_bias, torch.zeros(12).double(), attention.v_bias])
    query, key, value = (
        part.reshape(2, 14, 3, 4).transpose(1, 2)
        for part in (x @ attention.mat_qkv.weight.T + bias).chunk(3, dim=2)
    )
    sharp = attention.scale_mul_1H11.exp()
    query, key = (part / part.norm(dim=-1, keepdim=True) for part in (query, key))
    seen = naive_attention(query * sharp, key, value, causal_bias(scale_of_tokens(scales)).double())
    expected = attention.proj(seen.transpose(1, 2).reshape(2, 14, 12))
    torch.testing.assert_close(torch.cat(found, dim=1), expected, atol=1e-12, rtol=0)


def test_sharpness_ends_at_a_hundred():
    attention = randomised(CachedAttention(8, heads=2)).double()
    x = noise(1, 4, 8, seed=11)
    attention.scale_mul_1H11.fill_(math.log(100))
    at_the_end = attention(x, (None, None))[0]
    attention.scale_mul_1H11.fill_(50)
    torch.testing.assert_close(attention(x, (None, None))[0], at_the_end, atol=1e-12, rtol=0)


def test_the_causal_bias_counts_scales_not_tokens():
    bias = causal_bias(scale_of_tokens((1, 2)))[0, 0]
    assert bias.isinf().tolist() == [[False, True, True, True, True], *[[False] * 5] * 4]


def questions_and_answer() -> tuple[Questions, Tensor, Tensor, Tensor]:
    """Answers by head, [B, heads, L, c], written out."""
    crossed = randomised(Questions(8, heads=2), spread=0.5).double()
    question, x = noise(2, 3, 8, seed=12), noise(2, 3, 8, seed=13)
    query = (question @ crossed.mat_q.weight.T + crossed.q_bias).reshape(2, 3, 2, 4).transpose(1, 2)
    both = x @ crossed.mat_kv.weight.T + torch.cat([torch.zeros(8).double(), crossed.v_bias])
    key, value = (part.reshape(2, 3, 2, 4).transpose(1, 2) for part in both.chunk(2, dim=2))
    return crossed, question, x, naive_attention(query * 0.25 / 2, key, value)


def test_correct_mixing_keeps_the_heads_of_a_token_together():
    crossed, question, x, heads = questions_and_answer()
    expected = crossed.proj(torch.cat([heads[:, 0], heads[:, 1]], dim=2))
    torch.testing.assert_close(crossed(question, x, mixing="correct"), expected, atol=1e-12, rtol=0)


def test_released_mixing_reads_memory_in_the_wrong_order():
    crossed, question, x, heads = questions_and_answer()
    memory = [heads[b, h, n, c] for h in range(2) for b in range(2) for n in range(3) for c in range(4)]
    expected = crossed.proj(torch.stack(memory).reshape(2, 3, 8))
    torch.testing.assert_close(crossed(question, x, mixing="released"), expected, atol=1e-12, rtol=0)


def test_guidance_of_nothing_is_the_conditional_branch():
    one, other = noise(1, 4, 5), noise(1, 4, 5, seed=14)
    assert torch.equal(guide(one, other, 0), one)
    torch.testing.assert_close(guide(one, other, 0.5), 1.5 * one - 0.5 * other)


def clean_parts(*, guidance: float, mixing: str) -> Tensor:
    made = randomised(Quantiser(codes=32, width=6, scales=(1, 2, 4)), spread=0.5).double()
    network = Var(TINY.transformer, codes=32, latent=6, scales=(1, 2, 4))
    network = randomised(network, seed=3, spread=0.4).double()
    degraded = noise(1, 3, 6, 4, 4, seed=15)
    return network(degraded, made, guidance=guidance, mixing=mixing)


def test_guidance_works_only_through_the_scrambled_heads():
    """Both copies are given the same class: mixed correctly they agree, and nothing is left to be led by."""
    assert torch.equal(clean_parts(guidance=0, mixing="correct"), clean_parts(guidance=50, mixing="correct"))
    calm, led = clean_parts(guidance=0, mixing="released"), clean_parts(guidance=50, mixing="released")
    assert torch.equal(calm[:, 0], led[:, 0]), "the coarsest scale is not guided"
    assert not torch.equal(calm, led)


# Swin layers


def naive_window_attention(attention: WindowAttention, window: Tensor) -> Tensor:
    heads, c = attention.heads, window.shape[1] // attention.heads
    parts = (window @ attention.qkv.weight.T + attention.qkv.bias).reshape(16, 3, heads, c)
    rows = []
    for i in range(16):
        row = []
        for h in range(heads):
            logits = []
            for j in range(16):
                place = (i // 4 - j // 4 + 3) * 7 + i % 4 - j % 4 + 3
                likeness = float(parts[i, 0, h] @ parts[j, 1, h]) / math.sqrt(c)
                logits.append(likeness + float(attention.relative_position_bias_table[place, h]))
            weights = [math.exp(logit) for logit in logits]
            row.append(sum(w * parts[j, 2, h] for j, w in enumerate(weights)) / sum(weights))
        rows.append(torch.cat(row))
    return torch.stack(rows) @ attention.proj.weight.T + attention.proj.bias


def test_window_attention_against_loops():
    attention = randomised(WindowAttention(6, heads=2), spread=0.5).double()
    windows = noise(1, 2, 16, 6, seed=16)
    expected = torch.stack([naive_window_attention(attention, window) for window in windows[0]])[None]
    torch.testing.assert_close(attention(windows, None), expected, atol=1e-12, rtol=0)


def test_windows_are_cut_and_joined():
    x = noise(2, 8, 12, 3, seed=17)
    windows = to_windows(x)
    assert torch.equal(windows[1, 4].reshape(4, 4, 3), x[1, 4:8, 4:8])
    assert torch.equal(from_windows(windows, (8, 12)), x)


def test_the_mask_parts_what_only_the_shift_brought_together():
    """Pixels of a shifted window see each other where they were within four pixels before."""
    mask = shift_mask(12, 2)
    y, x = torch.meshgrid(torch.arange(12), torch.arange(12), indexing="ij")
    place = to_windows(torch.stack([y, x], dim=-1).roll((-2, -2), (0, 1))[None])[0]
    near = ((place[:, :, None] - place[:, None]).abs() < 4).all(-1)
    assert torch.equal(mask == 0, near)
    assert set(mask.unique().tolist()) == {0.0, -100.0}


@pytest.mark.parametrize("shift", [0, 2])
def test_a_layer_follows_whole_windows(shift):
    layer = randomised(Layer(6, heads=2, side=16, shift=shift), spread=0.3).double()
    layer.attn_mask = None  # without it, the picture is a torus and every window like any other
    x = noise(1, 16, 16, 6, seed=18)
    torch.testing.assert_close(
        layer(x.roll((4, 8), (1, 2))), layer(x).roll((4, 8), (1, 2)), atol=1e-12, rtol=0
    )
    assert not torch.allclose(layer(x.roll(1, 1)), layer(x).roll(1, 1), atol=1e-3)


# The guides

LEVEL = Guide(channels=32, side=8, heads=2, select=8, blend=8)


def test_the_weights_of_the_scales_add_up_to_one():
    selector = randomised(Selector(LEVEL, Prior(scales=10, channels=4)), spread=0.3)
    weights = selector.weights(noise(3, 32, 8, 8, dtype=torch.float32))
    assert weights.shape == (3, 10)
    assert bool((weights > 0).all())
    torch.testing.assert_close(weights.sum(1), torch.ones(3), atol=1e-6, rtol=0)


def test_the_norm_after_selection_takes_the_selection_back():
    """A quirk of the release: each channel is weighed and then brought to variance 1, whatever its weight."""
    selector = randomised(Selector(LEVEL, Prior(scales=3, channels=4)), spread=0.1).double()
    seen, prior = noise(1, 32, 8, 8), noise(1, 3, 4, 4, 4, seed=19)
    even = selector(seen, 100 * prior)
    before = selector.weights(seen)
    selector.logits.bias.copy_(torch.tensor([1.0, 0, -1]))
    assert not torch.allclose(selector.weights(seen), before, atol=0.1)
    # What is left of it is the norm's floor, 1e-5 against a variance of some hundreds.
    torch.testing.assert_close(selector(seen, 100 * prior), even, atol=1e-6, rtol=0)
    assert not torch.allclose(selector(seen, prior.flip(1)), even, atol=0.1)


def test_enhancement_lies_between_what_it_blends():
    blend = randomised(Enhancement(LEVEL), spread=0.3).double()
    x, prior = noise(1, 32, 8, 8), noise(1, 32, 8, 8, seed=21)
    out = blend(x, prior)
    assert bool((out >= torch.minimum(x, prior)).all())
    assert bool((out <= torch.maximum(x, prior)).all())
    for bias, expected in ((60.0, x), (-60.0, prior)):
        blend.logits.bias.copy_(torch.tensor([bias, -bias]))
        torch.testing.assert_close(blend(x, prior), expected, atol=1e-12, rtol=0)


def test_anchor_attention_is_two_attentions():
    transform = randomised(AnchorAttention(LEVEL), spread=0.4).double()
    x, prior = noise(1, 32, 8, 8), noise(1, 32, 8, 8, seed=22)
    query, source = transform.norm_q(x), transform.norm_kv(prior)
    anchors = transform.norm_a(transform.anchor(torch.cat([query, source], dim=1)))
    key, value = transform.kv(source).chunk(2, dim=1)
    asked, out = transform.q(query), torch.zeros_like(x)
    for h, head in enumerate((slice(0, 16), slice(16, 32))):
        a, k, v, q = (part[0, head].flatten(1).T for part in (anchors, key, value, asked))
        gathered = ((transform.scale_k[0, h] / 4) * (a @ k.T)).softmax(-1) @ v
        spread = ((transform.scale_q[0, h] / 4) * (q @ a.T)).softmax(-1) @ gathered
        out[0, head] = spread.T.reshape(16, 8, 8)
    assert anchors.shape == (1, 32, 2, 2)
    torch.testing.assert_close(transform(x, prior), x + transform.proj(out), atol=1e-12, rtol=0)


# The enhancement


def test_curves_keep_black_and_white():
    ends = torch.tensor([-3.0, 0.0, 1.0, 7.0])
    assert curve(ends, torch.tensor(0.7)).tolist() == [0, 0, 1, 1]
    x = torch.linspace(0, 1, 33, dtype=torch.float64)
    assert torch.equal(curve(x, torch.zeros(())), x)
    assert bool((curve(x, torch.tensor(0.5))[1:-1] > x[1:-1]).all())
    once = x + 0.5 * (x - x**2)
    twice = once + 0.5 * (once - once**2)
    torch.testing.assert_close(curve(x, torch.tensor(0.5)), twice + 0.5 * (twice - twice**2))


def test_no_quarter_bends_itself():
    curves = randomised(MutualCurves(8), spread=0.5).double()
    x = noise(1, 8, 5, 5).sigmoid()
    other = x.clone()
    other[:, :2] = 0.5
    bends = [torch.cat([part[:, :2], part[:, 2:]], dim=1) for part in (curves(x), curves(other))]
    # Black stays black and white white whatever the bend, so the bend is read off where a quarter is 1/2.
    x[:, :2, 2, 2] = 0.5
    torch.testing.assert_close(curves(x)[:, :2, 2, 2], curves(other)[:, :2, 2, 2], atol=1e-12, rtol=0)
    assert not torch.allclose(bends[0][:, 2:], bends[1][:, 2:], atol=1e-4)


def test_a_fresh_enhancement_passes_its_input_on():
    x = noise(1, 8, 5, 5, dtype=torch.float32)
    assert torch.equal(Enhance(8)(x), x)
    assert not torch.allclose(randomised(Enhance(8), spread=0.5)(x), x, atol=1e-3)


# The whole


@pytest.mark.parametrize("size", [(64, 64), (50, 100), (1, 1)])
def test_pictures_of_any_size_stay_in_range(tiny, size):
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(23))
    restored = tiny(picture)
    assert restored.shape == picture.shape
    assert float(restored.min()) >= 0
    assert float(restored.max()) <= 1
    assert not torch.allclose(restored, picture, atol=0.05)
    torch.testing.assert_close(picture + tiny.correction(picture), restored)


@pytest.mark.parametrize("size", [(64, 64), (70, 150), (5, 9)])
def test_with_the_input_in_full_any_picture_passes_unchanged(tiny, size):
    """out = (1 - w) drawn + w input: at w = 1 tiles, padding and colour coding must be the identity."""
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(24))
    share = tiny.main_decoder.input_w
    kept = share.clone()
    share.fill_(1)
    # float32 codes through [-1, 1] and through tiles whose weights add up to 1.
    torch.testing.assert_close(tiny(picture), picture, atol=2e-7, rtol=0)
    share.copy_(kept)


def test_a_picture_of_the_networks_size_is_not_cut(tiny):
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(25))
    square = tiny.restore_square(picture, settings=Settings())
    assert torch.equal(restore_picture(tiny, picture), square)
    assert torch.equal(restore_picture(tiny, picture, settings=Settings(framing="resized")), square)


def test_the_release_answers_in_the_networks_size(tiny):
    picture = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(26))
    settings = Settings(framing="resized")
    restored = restore_picture(tiny, picture, settings=settings)
    small = interpolate(picture, size=(64, 64), mode="bilinear", align_corners=False)
    assert torch.equal(restored, tiny.restore_square(small, settings=settings))


def test_pictures_of_a_batch_do_not_mix(tiny):
    pair = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(27))
    assert torch.equal(tiny(pair), torch.cat([tiny(pair[:1]), tiny(pair[1:])]))


def test_the_prior_is_made_of_words(tiny):
    """The coarsest scale is one word all over: it must be one of the book's."""
    latent = noise(1, 8, 4, 4, dtype=torch.float32)
    prior = tiny.prior(latent, settings=Settings())
    assert prior.shape == (1, 3, 8, 4, 4)
    coarsest = tiny.quantize.contribution(torch.arange(24)[:, None], 0)
    assert any(torch.allclose(prior[0, 0], each, atol=1e-6) for each in coarsest)


def test_what_is_dead_in_the_release_is_dead_here_and_nothing_else():
    network = randomised(VarFormer(TINY), spread=0.05)
    trained = dict(network.named_parameters())
    for value in trained.values():
        value.requires_grad_(True)
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(28))
    drawn = network.restore_square(picture, settings=Settings()).mul(noise(3, 64, 64, dtype=torch.float32))
    drawn.sum().backward()
    for name, value in trained.items():
        if not name.startswith(("Mainencoder.", "main_decoder.")) or not value.numel():
            continue
        dead = ".Level_0." in name or "conv1__w" in name or "patch_embed" in name
        # Here the coarsest level has a single anchor, and nothing to choose.
        dead = dead or name.partition(".AFT.Level_4.")[2] in ("q.weight", "q.bias", "scale_q")
        alive = value.grad is not None and bool(value.grad.abs().max() > 0)
        assert alive != dead, name


@pytest.mark.parametrize("overlap", [-0.1, 0.6])
def test_tiles_share_at_most_half(overlap):
    with pytest.raises(ValueError, match="half"):
        Settings(overlap=overlap)
