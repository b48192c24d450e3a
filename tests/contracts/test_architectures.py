"""What every architecture of the registry does with its weights and with images.

A new architecture needs one line in `CASES`; what only it does is tested beside its own module.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from freezeframe.models.deblur import refiner
from freezeframe.models.nets import nafnet
from freezeframe.models.nets.dreamclear import pipeline as dreamclear
from freezeframe.models.nets.dreamclear.controlnet import Conditions, ControlConfig, DreamClearNet
from freezeframe.models.nets.dreamclear.pixart_dit import Caption, PixArtConfig
from freezeframe.models.nets.dual import model as dual
from freezeframe.models.nets.hair import model as hair
from freezeframe.models.nets.restormer import model as restormer
from freezeframe.models.nets.swinir import model as swinir
from freezeframe.models.nets.varformer import model as varformer
from freezeframe.models.nets.varformer.config import guides, to_published_keys
from freezeframe.models.nets.varformer.tokenizer import TokenizerConfig
from freezeframe.models.nets.varformer.var_transformer import VarConfig
from freezeframe.models.registry.architectures import KNOWN_ARCHITECTURES
from tests.support.weights import fill_zeros, normal, random_images, random_weights

NO_NAMES: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Case:
    """One small network, and which laws hold for it."""

    title: str  # in the registry
    module: ModuleType  # with matches, load and infer_config
    config: object
    build: Callable[..., nn.Module]  # from the config
    key: str  # of a weight that no hyper-parameter is inferred from
    state: Callable[[nn.Module], Mapping[str, Tensor]] = nn.Module.state_dict  # under published keys
    channels: int = 3
    scale: int = 1  # upsampling factor
    multiple: int = 1  # sides that need no padding
    shortest: int = 1  # to which shorter sides are padded
    padding: str | None = None  # numpy's name of it; None: statistics of the whole image come in
    idle: frozenset[str] | None = NO_NAMES  # weights without effect; None: dead parts have tests of their own
    half_precision: bool = True  # whether the network may compute in bf16
    weight_scale: float = 0.3  # of random weights
    dtype: torch.dtype = torch.float64  # in which it computes here
    size: tuple[int, int] = (16, 32)  # of the images in which every weight has an effect
    adjust: Callable[[nn.Module], object] = nn.Module.eval  # of random weights

    def fresh(self) -> nn.Module:
        torch.manual_seed(0)
        return self.build(self.config)

    def random(self) -> nn.Module:
        """The network with random weights, in `dtype`; it is made once, and nobody may change it."""
        return _random(self)

    def published(self) -> dict[str, Tensor]:
        return dict(_published(self))


@cache
def _random(case: Case) -> nn.Module:
    network = random_weights(case.fresh(), scale=case.weight_scale)
    case.adjust(network)
    return network.to(case.dtype)


@cache
def _published(case: Case) -> Mapping[str, Tensor]:
    return case.state(deepcopy(case.random()).float())


BODY = restormer.NetConfig(dim=4, blocks=(1, 1, 2), refinement=1, heads=(1, 2, 2), expansion=2.5)
CASES: dict[str, Case] = {}

nafnet_case = partial(
    Case, title="NAFNet", module=nafnet, build=nafnet.NAFNet, key="encoders.1.1.conv2.weight",
    multiple=4, padding="constant", weight_scale=0.2,
)  # fmt: skip
CASES["NAFNet"] = nafnet_case(config=nafnet.NetConfig(width=4, encoders=(1, 2), middle=1, decoders=(2, 1)))
CASES["NAFNet, three blocks at one scale"] = nafnet_case(
    config=nafnet.NetConfig(width=5, encoders=(3,), middle=2, decoders=(1,)),
    key="encoders.0.1.conv2.weight",
    multiple=2,
)

restormer_case = partial(
    Case, title="Restormer", module=restormer, build=restormer.Restormer, key="latent.1.attn.qkv.weight",
    multiple=4, padding="reflect",
)  # fmt: skip
CASES["Restormer"] = restormer_case(config=BODY)
CASES["Restormer, grey, norms without bias"] = restormer_case(
    config=restormer.NetConfig(
        dim=6, blocks=(2, 2), refinement=3, heads=(1, 3), expansion=2.5, channels=1, centred=False
    ),
    channels=1,
    multiple=2,
)

hair_case = partial(
    Case, title="HAIR", module=hair, build=hair.HAIR, key="latent.extracts.1.net.4.weight",
    multiple=4, shortest=16, padding="reflect",
    # A bias of the keys adds the same to all logits of a pixel: softmax cancels it.
    idle=frozenset({"feature.mid.attn_1.k.bias"}),
)  # fmt: skip
HAIR = hair.NetConfig(
    body=replace(BODY, reduce_latent=True), box_sizes=(3, 2, 4, 2), embedding_dim=16, encoder_width=6
)
CASES["HAIR"] = hair_case(config=HAIR)
CASES["HAIR, grey"] = hair_case(
    config=replace(
        HAIR, body=replace(HAIR.body, dim=6, heads=(1, 3, 2), channels=1, centred=False), embedding_dim=24
    ),
    channels=1,
)

swinir_case = partial(
    Case, title="SwinIR", module=swinir, build=swinir.SwinIR, multiple=4, padding="reflect",
    key="layers.1.residual_group.blocks.1.attn.proj.weight",
    state=partial(swinir.to_published_state, side=12),
)  # fmt: skip
SWINIR = swinir.NetConfig(dim=8, depths=(2, 2), heads=(2, 4), window=4)
SWINIR_HEADS = {
    "in place": {},
    "3conv": {"narrow": True},
    "x2": {"scale": 2, "upsampler": "pixelshuffle"},
    "x3": {"scale": 3, "upsampler": "pixelshuffle"},
    "light x3": {"scale": 3, "upsampler": "pixelshuffledirect"},
    "real x4": {"scale": 4, "upsampler": "nearest+conv"},
    "cells of 4": {"unshuffle": 4, "upsampler": "nearest+conv"},
    "grey light x2": {"scale": 2, "upsampler": "pixelshuffledirect", "channels": 1},
}
for name, options in SWINIR_HEADS.items():
    config = replace(SWINIR, **options)
    CASES[f"SwinIR, {name}"] = swinir_case(
        config=config,
        channels=config.channels,
        scale=config.scale,
        multiple=config.multiple,
        size=(2 * config.multiple, 2 * config.multiple),
    )

CASES["dual transformers"] = Case(
    title="dual transformers",
    module=dual,
    config=dual.NetConfig(width=8, blocks=2, heads=2, estimate=8, layers=1),
    build=dual.Dual,
    key="blocks.1.attention.proj.weight",
    multiple=16,
    padding="edge",
    # It adds the same to all logits: softmax cancels it.
    idle=frozenset(f"blocks.{i}.attention.bias.bias" for i in range(2)),
    size=(32, 32),
)

CASES["refiner"] = Case(
    title="refiner",
    module=refiner,
    config=refiner.NetConfig(widths=(8, 16, 16), down=(1, 1, 1), up=(1, 1)),
    build=refiner.Refiner,
    key="decoders.1.0.second.weight",
    idle=None,
    half_precision=False,  # the backends run only a part of it in half precision
    weight_scale=0.05,
    dtype=torch.float32,
    adjust=lambda network: network.gate.bias.fill_(1),  # behind a shut gate nothing is added
)

VAR_CONVOLUTIONS = TokenizerConfig(width=32, multiples=(1, 1, 2, 2, 4), blocks=1, latent=8)
CASES["VarFormer"] = Case(
    title="VarFormer",
    module=varformer,
    config=varformer.NetConfig(
        convolutions=VAR_CONVOLUTIONS,
        transformer=VarConfig(width=32, heads=4, blocks=3, cross_blocks=2, classes=5),
        vocab_size=24,
        scales=(1, 2, 4),
        enhance=1,
        decoder_blocks=(2, 1),
        encoder_guides=guides(
            VAR_CONVOLUTIONS, side=64, heads=4, select=(32,) * 5, blend=(48, 48, 96, 96, 64)
        ),
        decoder_guides=guides(
            VAR_CONVOLUTIONS, side=64, heads=2, select=(16, 16, 32, 32, 64), blend=(64, 64, 128, 128, 256)
        ),
    ),
    build=varformer.VarFormer,
    key="main_decoder.up.0.block.0.conv2.weight",
    state=lambda network: to_published_keys(network.state_dict()),
    idle=None,
    half_precision=False,
    weight_scale=0.1,
    dtype=torch.float32,
)

# It restores latents: the laws of images are tested on its pipeline.
DREAMCLEAR = Case(
    title="DreamClear",
    module=dreamclear,
    config=dreamclear.NetConfig(
        transformer=PixArtConfig(width=144, depth=3, patch=2, latent=4, caption=(6, 10), grid=64),
        control=ControlConfig(blocks=2, modulator=12, experts=3, gate=8),
    ),
    build=lambda config: DreamClearNet(config.transformer, config.control),
    key="am_lq.1.gate.0.bias",
    weight_scale=0.1,
)

every_network = pytest.mark.parametrize("case", [*CASES.values(), DREAMCLEAR], ids=[*CASES, "DreamClear"])
every_restorer = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
IN_PLACE = {name: case for name, case in CASES.items() if case.scale == 1}
every_corrector = pytest.mark.parametrize("case", IN_PLACE.values(), ids=IN_PLACE)


def images(case: Case, height: int, width: int, *, batch: int = 1, seed: int = 1) -> Tensor:
    return random_images(batch, case.channels, height, width, seed=seed, dtype=case.dtype)


def test_every_architecture_of_the_registry_has_a_case():
    titles = {case.title for case in (*CASES.values(), DREAMCLEAR)}
    assert titles == {architecture.title for architecture in KNOWN_ARCHITECTURES}


@every_network
def test_weights_are_taken_for_their_own_architecture_and_no_other(case):
    state = case.published()
    assert [kind.title for kind in KNOWN_ARCHITECTURES if kind.matches(state)] == [case.title]
    assert not case.module.matches({})
    assert not case.module.matches({f"other.{key}": value for key, value in state.items()})


@every_network
def test_hyper_parameters_are_read_off_the_shapes(case):
    assert case.module.infer_config(case.published()) == case.config


@every_network
@pytest.mark.parametrize("harm", ["missing", "left over", "misshapen"])
def test_a_state_that_does_not_fit_exactly_is_refused_by_key_name(case, harm):
    state, key = case.published(), case.key
    if harm == "missing":
        del state[key]
    elif harm == "left over":
        key = f"{key}2"
        state[key] = torch.zeros(1)
    else:
        state[key] = state[key][:1]
    with pytest.raises(RuntimeError, match=key.replace(".", r"\.")):
        case.module.load(state)


@every_network
def test_loaded_weights_are_the_saved_ones_in_float32(case):
    state = case.published()
    network = case.module.load({key: value.double() for key, value in state.items()})
    assert not network.training
    assert not any(value.requires_grad for value in network.parameters())
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    loaded = case.state(network)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(value, loaded[key]) for key, value in state.items())


@every_restorer
@pytest.mark.parametrize(("height", "width"), [(16, 16), (9, 15), (1, 1), (3, 30)])
def test_any_size_comes_back_scaled(case, height, width):
    network = case.random()
    encoded = images(case, height, width, batch=2)
    restored = network(encoded)
    assert restored.shape == (2, case.channels, height * case.scale, width * case.scale)
    assert restored.isfinite().all()


PADDED = {name: case for name, case in CASES.items() if case.padding}


@pytest.mark.parametrize("case", PADDED.values(), ids=PADDED)
@pytest.mark.parametrize(("height", "width"), [(16, 32), (9, 15), (1, 1), (3, 30)])
def test_any_size_is_restored_as_part_of_its_padded_self(case, height, width):
    network = case.random()
    encoded = images(case, height, width)
    below, right = (max(n + -n % case.multiple, case.shortest) - n for n in (height, width))
    padded = np.pad(encoded.numpy(), ((0, 0), (0, 0), (0, below), (0, right)), mode=case.padding)
    expected = network(torch.from_numpy(padded))[..., : height * case.scale, : width * case.scale]
    # float64 on both sides, values up to 100: only the order of the sums differs.
    torch.testing.assert_close(network(encoded), expected, atol=1e-10, rtol=0)


@every_restorer
def test_images_of_a_batch_do_not_meet(case):
    network = case.random()
    encoded = images(case, 16, 16, batch=3)
    encoded[1] *= 0.2
    alone = torch.cat([network(image[None]) for image in encoded])
    tolerance = 1e-10 if case.dtype == torch.float64 else 1e-5
    torch.testing.assert_close(network(encoded), alone, atol=tolerance, rtol=0)


@every_corrector
def test_the_correction_is_the_answer_less_the_image(case):
    network = case.random()
    encoded = images(case, 32, 33)
    change = network(encoded) - encoded
    assert change.abs().max() > 1e-4, "the network changes nothing"
    tolerance = 1e-12 if case.dtype == torch.float64 else 1e-6
    torch.testing.assert_close(network.correction(encoded), change, atol=tolerance, rtol=0)


LOADING = """
import sys
from tests.contracts.test_architectures import CASES

states = {name: case.published() for name, case in CASES.items() if name != "VarFormer"}
assert "torch._dynamo" not in sys.modules
for name, state in states.items():
    CASES[name].module.load(state)
    assert "torch._dynamo" not in sys.modules, name
"""


@pytest.mark.slow
def test_loading_does_not_wait_for_the_compiler_of_torch():
    """Importing it takes a second. VarFormer's masks need it."""
    subprocess.run([sys.executable, "-c", LOADING], cwd=Path(__file__).parents[2], check=True)


COUNTED = {name: case for name, case in CASES.items() if case.idle is not None}


@pytest.mark.parametrize("case", COUNTED.values(), ids=COUNTED)
def test_every_operation_counts(case):
    """A weight without effect would load without a word wherever its key is wired to."""
    network = deepcopy(case.random()).requires_grad_(True)
    restored = network(images(case, *case.size))
    (restored * normal(*restored.shape, dtype=case.dtype)).sum().backward()
    slopes = {name: float(value.grad.abs().max()) for name, value in network.named_parameters()}
    # What cancels leaves the rounding of float64, 1e-16 of the terms.
    idle = {name for name, slope in slopes.items() if slope < 1e-13 * max(slopes.values())}
    assert idle == case.idle, slopes


@pytest.mark.parametrize("case", COUNTED.values(), ids=COUNTED)
def test_gradients_reach_every_weight(case):
    network = fill_zeros(case.fresh())
    encoded = images(case, 32, 32, batch=2).float()
    restored = network(encoded)
    ((restored - torch.rand_like(restored)) ** 2).mean().backward()
    for name, value in network.named_parameters():
        assert value.grad is not None, name
        assert value.grad.isfinite().all(), name
        assert value.grad.any() or name in case.idle, f"{name} never learns"


HALVES = {name: case for name, case in IN_PLACE.items() if case.half_precision}


@pytest.mark.parametrize("case", HALVES.values(), ids=HALVES)
def test_half_precision_rounds_the_change_and_not_the_image(case):
    network = fill_zeros(case.fresh()).eval().requires_grad_(False)
    encoded = images(case, 32, 40).float()
    exact = network.correction(encoded)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = network.correction(encoded).float()
    rough = network.bfloat16().correction(encoded.bfloat16()).float()
    # bf16 has 8 bits: the roundings of some thirty layers add up to a few per cent of the change.
    for answer in (mixed, rough):
        assert 0 < (answer - exact).abs().max() < 0.08 * exact.abs().max()


def test_dreamclear_weights_all_have_gradients():
    """The one network that takes a caption and two latents."""
    network = deepcopy(DREAMCLEAR.random()).requires_grad_(True)
    caption = Caption(features=normal(1, 6, 10), present=torch.arange(6).expand(1, -1) < 4)
    latents = Conditions(
        degraded=normal(1, 4, 8, 8, seed=7), coarse=normal(1, 4, 8, 8, seed=8), caption=caption
    )
    predicted = network(normal(1, 4, 8, 8), torch.tensor([400]), latents)
    (predicted * normal(1, 8, 8, 8, seed=9)).sum().backward()
    for name, value in network.named_parameters():
        assert value.grad is not None, name
        assert float(value.grad.abs().max()) > 0, name
