from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu
from torch.utils.flop_counter import FlopCounterMode

from freezeframe.models.nets.varformer import config as varformer_config
from freezeframe.models.nets.varformer.config import to_published_keys
from freezeframe.models.nets.varformer.model import (
    RELEASED_16,
    NetConfig,
    Settings,
    VarFormer,
    infer_config,
    load,
)
from freezeframe.models.nets.varformer.model import restore as restore_picture
from freezeframe.models.nets.varformer.prior_fusion import Enhancement
from freezeframe.models.nets.varformer.tokenizer import TokenizerConfig
from freezeframe.models.nets.varformer.var_transformer import VarConfig
from freezeframe.models.store.state_dict import unwrap
from tests.support.weights import normal, random_weights

SMALL = TokenizerConfig(width=32, multiples=(1, 1, 2, 2, 4), blocks=1, latent=8)

TINY = NetConfig(
    convolutions=SMALL,
    transformer=VarConfig(width=32, heads=4, blocks=3, cross_blocks=2, classes=5),
    vocab_size=24,
    scales=(1, 2, 4),
    enhance=1,
    decoder_blocks=(2, 1),
    encoder_guides=varformer_config.guides(
        SMALL, side=64, heads=4, select=(32,) * 5, blend=(48, 48, 96, 96, 64)
    ),
    decoder_guides=varformer_config.guides(
        SMALL, side=64, heads=2, select=(16, 16, 32, 32, 64), blend=(64, 64, 128, 128, 256)
    ),
)


@pytest.fixture(scope="module")
def tiny() -> VarFormer:
    return random_weights(VarFormer(TINY), scale=0.1)


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
    table: dict, *, c: int, heads: int, tokens: int, scales: int, blocks: int, cross_blocks: int
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
    for i in range(cross_blocks):
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
    transformer(table, c=1024, heads=16, tokens=680, scales=10, blocks=16, cross_blocks=8)
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
    return to_published_keys(released_network.state_dict())


def test_every_key_that_the_publication_names_is_there_in_its_shape(released):
    table = named_by_the_publication()
    assert {key: list(released[key].shape) for key in table if key in released} == table
    ours_alone = {key for key in released if key not in table}
    parts = ("ft_layers.", ".DAE.", ".AFT.", ".cat_rec_syn.", "main_decoder.conv1__w.")
    assert all(any(part in key for part in parts) for key in ours_alone)


def test_as_many_keys_and_weights_as_were_measured(released, released_network):
    assert len(released) == 2668
    assert infer_config(released) == RELEASED_16
    assert RELEASED_16.side == 256

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
    # The guides' inner widths are not published: these come close. All that is missing is missing there.
    assert millions("main_decoder") == pytest.approx(279.4, abs=0.35)
    assert millions("") - millions("main_decoder") == pytest.approx(908.17 - 279.4, abs=0.05)


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


def test_a_training_codes_container_is_opened(tiny):
    state = unwrap({"params_ema": to_published_keys(tiny.state_dict())})
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    assert torch.equal(load(state)(image), tiny(image))


def test_unpublished_inner_names_may_differ_if_order_and_shapes_agree(tiny, caplog):
    state = to_published_keys(tiny.state_dict())
    other = {
        key.replace(".AFT.Level_2.anchor.", ".AFT.Level_2.token_conv."): value for key, value in state.items()
    }
    assert other.keys() != state.keys()
    loaded = to_published_keys(load(other).state_dict())
    assert "4 inner weights have unknown names" in caplog.text
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


@pytest.mark.parametrize("size", [(64, 64), (50, 100), (1, 1)])
def test_pictures_of_any_size_stay_in_range(tiny, size):
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(23))
    restored = tiny(image)
    assert restored.shape == image.shape
    assert float(restored.min()) >= 0
    assert float(restored.max()) <= 1
    assert not torch.allclose(restored, image, atol=0.05)
    torch.testing.assert_close(image + tiny.correction(image), restored)


@pytest.mark.parametrize("size", [(64, 64), (70, 150), (5, 9)])
def test_with_the_input_in_full_any_picture_passes_unchanged(tiny, size):
    """out = (1 - w) restored + w input: at w = 1 tiles, padding and colour coding must be the identity."""
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(24))
    ratio = tiny.main_decoder.input_w
    saved = ratio.clone()
    ratio.fill_(1)
    # float32 codes through [-1, 1] and through tiles whose weights add up to 1.
    torch.testing.assert_close(tiny(image), image, atol=2e-7, rtol=0)
    ratio.copy_(saved)


def test_a_picture_of_the_networks_size_is_not_cut(tiny):
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(25))
    square = tiny.restore_square(image, settings=Settings())
    assert torch.equal(restore_picture(tiny, image), square)
    assert torch.equal(restore_picture(tiny, image, settings=Settings(framing="resized")), square)


def test_the_release_answers_in_the_networks_size(tiny):
    image = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(26))
    settings = Settings(framing="resized")
    restored = restore_picture(tiny, image, settings=settings)
    small = interpolate(image, size=(64, 64), mode="bilinear", align_corners=False)
    assert torch.equal(restored, tiny.restore_square(small, settings=settings))


def test_the_prior_is_made_of_words(tiny):
    """The coarsest scale is one word all over: it must be one of the book's."""
    latent = normal(1, 8, 4, 4, dtype=torch.float32)
    prior = tiny.prior(latent, settings=Settings())
    assert prior.shape == (1, 3, 8, 4, 4)
    coarsest = tiny.quantize.contribution(torch.arange(24)[:, None], 0)
    assert any(torch.allclose(prior[0, 0], each, atol=1e-6) for each in coarsest)


def test_what_is_dead_in_the_release_is_dead_here_and_nothing_else():
    network = random_weights(VarFormer(TINY), scale=0.05)
    trained = dict(network.named_parameters())
    for value in trained.values():
        value.requires_grad_(True)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(28))
    restored = network.restore_square(image, settings=Settings()).mul(normal(3, 64, 64, dtype=torch.float32))
    restored.sum().backward()
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
    with pytest.raises(ValueError, match="overlap"):
        Settings(overlap=overlap)


def test_the_whole_against_its_equations(tiny):
    """Which features go where: the frozen networks guide the trained ones, but for the finest levels."""
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(29))
    latent, frozen_features = tiny.encoder(2 * image - 1)
    prior = tiny.prior(latent, settings=Settings())
    _, frozen_decoding = tiny.decoder(tiny.post_quant_conv(prior[:, 0] + prior[:, 1] + prior[:, 2]))

    def fused(network: nn.Module, level: int, x: Tensor, frozen: Tensor) -> Tensor:
        at = f"Level_{level}"
        mixed = network.cat_rec_syn_bf[at](network.cat_rec_syn_bf_nm[at](torch.cat([frozen, x], dim=1)))
        clean = network.cat_rec_syn[at](mixed, prior)
        return network.AFT[at](network.DAE[at](x, clean), clean)

    x, features, network = tiny.Mainencoder.conv_in(2 * image - 1), [], tiny.Mainencoder
    for level, stage in enumerate(network.down):
        x = stage.block[0](x)
        if level == 4:
            x = stage.attn[0](x)
        features.append(fused(network, level, x, frozen_features[level]) if level else x)
        x = stage.downsample(features[-1]) if level < 4 else features[-1]
    x = network.conv_out(silu(network.norm_out(network.mid(x))))

    network = tiny.main_decoder
    x = network.mid(network.conv_in(x))
    for level in (4, 3, 2, 1, 0):
        x = network.up[level].block[0](x)
        if level == 4:
            x = network.up[level].attn[0](x)
        own = 1 / (1 + torch.exp(-network.theta[level]))
        x = own * x + (1 - own) * features[level]
        if level:
            x = network.up[level].upsample(fused(network, level, x, frozen_decoding[level]))
    x = network.conv_out(silu(network.norm_out(x)))
    expected = (1 - network.input_w) * x + network.input_w * (2 * image - 1)
    actual = tiny.restore_square(image, settings=Settings())
    # Only the order of float32 sums differs.
    torch.testing.assert_close(actual, (expected.clamp(-1, 1) + 1) / 2, atol=1e-5, rtol=0)
