from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from freezeframe.data.errors import FreezeframeError
from freezeframe.models.nets.dreamclear import pipeline as dreamclear
from freezeframe.models.nets.dreamclear.color_fix import coarse
from freezeframe.models.nets.dreamclear.controlnet import DreamClearNet
from freezeframe.models.nets.dreamclear.pipeline import (
    RELEASED,
    DreamClear,
    Settings,
    infer_config,
    load,
)
from freezeframe.models.nets.dreamclear.pixart_dit import Caption
from freezeframe.models.store.state_dict import unwrap
from tests.support.dreamclear import SIZES, TINY, make_caption, make_conditions, randomised, tiny_network
from tests.support.weights import normal


def published_shapes() -> dict[str, list[int]]:
    """The key table of the released weights, written down from their layout and not from our modules."""
    c, text = 1152, 4096
    table: dict[str, list[int]] = {}

    def linear(name: str, out: int, inside: int) -> None:
        table[f"{name}.weight"], table[f"{name}.bias"] = [out, inside], [out]

    def block(name: str) -> None:
        table[f"{name}.scale_shift_table"] = [6, c]
        linear(f"{name}.attn.qkv", 3 * c, c)
        linear(f"{name}.cross_attn.kv_linear", 2 * c, c)
        for square in ("attn.proj", "cross_attn.q_linear", "cross_attn.proj"):
            linear(f"{name}.{square}", c, c)
        linear(f"{name}.mlp.fc1", 4 * c, c)
        linear(f"{name}.mlp.fc2", c, 4 * c)

    def modulator(name: str) -> None:
        linear(f"{name}.shared_proj", 576, c)
        linear(f"{name}.proj_add", c, 576)
        linear(f"{name}.proj_mul", c, 576)

    for embedder in ("base_model.x_embedder", *(f"{x}_embedder_{y}" for x in "xc" for y in ("lq", "pre"))):
        table[f"{embedder}.proj.weight"], table[f"{embedder}.proj.bias"] = [c, 4, 2, 2], [c]
    for name, width in (("t_embedder", c), ("csize_embedder", 384), ("ar_embedder", 384)):
        linear(f"base_model.{name}.mlp.0", width, 256)
        linear(f"base_model.{name}.mlp.2", width, width)
    linear("base_model.t_block.1", 6 * c, c)
    table["base_model.y_embedder.y_embedding"] = [120, text]
    linear("base_model.y_embedder.y_proj.fc1", c, text)
    linear("base_model.y_embedder.y_proj.fc2", c, c)
    linear("base_model.final_layer.linear", 32, c)
    table["base_model.final_layer.scale_shift_table"] = [2, c]
    for i in range(28):
        block(f"base_model.blocks.{i}")
        for branch in ("lq", "pre"):
            block(f"controlnet_{branch}.{i}.copied_block")
        modulator(f"am_pre.{i}")
        for expert in range(3):
            modulator(f"am_lq.{i}.experts.{expert}")
        linear(f"am_lq.{i}.gate.0", 24, c)
        linear(f"am_lq.{i}.gate.2", 3, 24)
        linear(f"cross_de.{i}.kv_linear", 2 * c, c)
        for square in ("q_linear", "proj", "de_proj"):
            linear(f"cross_de.{i}.{square}", c, c)
        for norm in ("norm1", "norm2"):
            table[f"cross_de.{i}.{norm}.weight"] = table[f"cross_de.{i}.{norm}.bias"] = [c]
    return table


def test_the_published_network_has_its_published_keys_shapes_and_size():
    with torch.device("meta"):
        network = DreamClearNet(RELEASED.transformer, RELEASED.control)
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == published_shapes()

    def millions(part: nn.Module) -> float:
        return sum(value.numel() for value in part.parameters()) / 1e6

    # Measured to 0.01 million; the caption that stands for none is no parameter.
    assert millions(network.base_model.blocks[0]) == pytest.approx(21.26, abs=0.005)
    assert millions(network.base_model) == pytest.approx(611.35, abs=0.005)
    assert millions(network) - millions(network.base_model) == pytest.approx(1600.53, abs=0.005)
    assert millions(network) == pytest.approx(2211.88, abs=0.005)
    table = {key: math.prod(shape) for key, shape in published_shapes().items()}
    assert sum(table.values()) - 120 * 4096 == sum(value.numel() for value in network.parameters())


def test_the_grid_is_read_off_the_stored_positions():
    table = published_shapes() | {"base_model.pos_embed": [1, 4096, 1152]}
    state = {key: torch.zeros(shape, device="meta") for key, shape in table.items()}
    assert infer_config(state) == RELEASED
    small = tiny_network().state_dict()
    assert infer_config(small | {"base_model.pos_embed": torch.zeros(1, 16, 144)}) == TINY
    assert infer_config(small).transformer.grid == 64


def test_the_authors_container_with_stored_positions_is_opened():
    network = tiny_network()
    file = {"state_dict": network.state_dict() | {"base_model.pos_embed": normal(1, 16, 144)}}
    loaded = load(unwrap(file), crossing="correct").double()
    latent, level, conditions = normal(1, 4, 8, 8), torch.tensor([300]), make_conditions()
    # Weights are loaded in float32.
    torch.testing.assert_close(
        loaded(latent, level, conditions), network(latent, level, conditions), atol=1e-5, rtol=0
    )


class Blocks:
    """A latent coder of averages: colours of 8 x 8 blocks, and their grey. Exact on images of blocks."""

    def __init__(self) -> None:
        self.decoded: list[Tensor] = []

    def encode(self, encoded: Tensor) -> Tensor:
        means = interpolate(encoded, scale_factor=1 / 8, mode="area")
        return torch.cat([means, means.mean(1, keepdim=True)], dim=1) * 2 - 1

    def decode(self, latent: Tensor) -> Tensor:
        self.decoded.append(latent)
        return interpolate((latent[:, :3] + 1) / 2, scale_factor=8, mode="nearest")


def system(**others: object) -> DreamClear:
    network = randomised(DreamClearNet(SIZES, TINY.control))
    # Trained networks keep to about -1 to 1; far outside, the logarithm of a variance overflows.
    for value in network.base_model.final_layer.parameters():
        value.mul_(0.1)
    return DreamClear(network=network, coder=Blocks(), **others)


QUICK = Settings(steps=3, shortest=64, tile=8, overlap=4)


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (20, 90)])
@pytest.mark.parametrize("upscale", [1, 2])
def test_pictures_of_any_size_come_back_in_range(size, upscale):
    encoded = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    restored = dreamclear.restore(system(), encoded, caption="", settings=replace(QUICK, upscale=upscale))
    assert restored.shape == (1, 3, size[0] * upscale, size[1] * upscale)
    assert bool(restored.isfinite().all())
    assert float(restored.min()) >= 0
    assert float(restored.max()) <= 1


def test_one_seed_gives_one_picture():
    encoded = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    first, again, other = (
        dreamclear.restore(system(), encoded, settings=replace(QUICK, seed=seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.01)


def test_the_release_starts_from_the_coarse_picture():
    encoded = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    parts = system()
    for start in ("coarse", "noise"):
        dreamclear.restore(parts, encoded, settings=replace(QUICK, steps=1, start=start))
    from_coarse, from_noise = parts.coder.decoded
    clean = parts.coder.encode(encoded)
    # One step divides by sqrt(a), 0.0064: what the start holds of the coarse latent comes back in full, and
    # what the network makes of the slightly different start is small against it at float32's precision.
    share = ((from_coarse - from_noise) * clean).sum() / clean.square().sum()
    assert 0.5 < float(share) < 2


def test_colours_are_those_of_the_cleaned_picture():
    """Whatever a random network samples, the low frequencies must be those of the cleaned image."""
    encoded = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    encoded = interpolate(encoded, size=(128, 128), mode="bicubic").clamp(0, 1)
    calm = system(clean=lambda image: 0.2 * image + 0.4)
    restored = {
        way: dreamclear.restore(calm, encoded, settings=replace(QUICK, tile=16, color=way))
        for way in ("wavelet", "adain", "none")
    }
    expected = coarse(0.2 * encoded + 0.4)
    errors = {method: float((coarse(image) - expected).abs().mean()) for method, image in restored.items()}
    # Blurred twice, what is fine in the drawing still shows a little; and codes are cut to [0, 1].
    assert errors["wavelet"] < 0.5 * errors["none"]
    assert errors["adain"] < 0.7 * errors["none"]


def test_captions_are_given_empty_asked_for_or_encoded():
    encoded = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    heard: list[str] = []

    def encode(text: str) -> Caption:
        heard.append(text)
        words = make_caption(tokens=max(len(text.split()), 1), seed=len(text))
        return Caption(features=words.features.float(), present=words.present)

    captioned = system(encode_caption=encode, caption=lambda image: f"{image.shape[3]} pixels wide")
    restored = [
        dreamclear.restore(captioned, encoded, caption=caption, settings=QUICK)
        for caption in ("a dog", "", None, encode("a dog"))
    ]
    assert heard == ["a dog", "a dog", "", "64 pixels wide"]
    assert torch.equal(restored[0], restored[3])
    assert not torch.allclose(restored[0], restored[1], atol=1e-3)
    assert not torch.allclose(restored[0], restored[2], atol=1e-3)


def test_without_text_encoder_only_the_empty_caption_is_taken():
    encoded = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(FreezeframeError, match="text encoder"):
        dreamclear.restore(system(), encoded, caption="a dog", settings=QUICK)
    silent, loud = (
        dreamclear.restore(system(), encoded, caption="", settings=replace(QUICK, guidance=scale))
        for scale in (1.0, 4.5)
    )
    # Nothing said against nothing said: guidance finds no difference but rounding.
    torch.testing.assert_close(silent, loud, atol=1e-3, rtol=0)


@pytest.mark.parametrize("wrong", [{"overlap": 128}, {"steps": 0}, {"upscale": 0}])
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ValueError, match=r"overlap|positive"):
        Settings(**wrong)


def test_an_encoded_caption_of_another_size_is_refused():
    encoded = torch.rand(1, 3, 64, 64)
    with pytest.raises(ValueError, match=r"\[1, 6, 10\]"):
        dreamclear.restore(system(), encoded, caption=make_caption(2), settings=QUICK)
