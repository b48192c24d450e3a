"""From a checkpoint of every architecture to a restorer: detection, and requirements on images."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from freezeframe.data.errors import FreezeframeError, UnreadableMedia
from freezeframe.models.imageops.context_crops import context_crops
from freezeframe.models.nets import nafnet
from freezeframe.models.nets.hair import model as hair
from freezeframe.models.nets.restormer import model as restormer
from freezeframe.models.nets.swinir import model as swinir
from freezeframe.models.registry.architectures import KNOWN_ARCHITECTURES, identify, read_network
from freezeframe.models.restorer.image_restorer import load_image_restorer, load_restorer
from freezeframe.models.runtime.backends import format_for
from freezeframe.pipeline.config import RefineConfig
from freezeframe.pipeline.stages.refine import refine

BODY = restormer.NetConfig(dim=4, blocks=(1, 1, 1), refinement=1, heads=(1, 2, 2))
SWIN = swinir.NetConfig(dim=8, depths=(2, 2), heads=(2, 2), window=4)
HAIR = hair.NetConfig(
    body=replace(BODY, reduce_latent=True), box_sizes=(3, 2, 2, 2), embedding_dim=16, encoder_width=6
)
NETWORKS = {
    "NAFNet": nafnet.NAFNet(nafnet.NetConfig(width=4, encoders=(1, 1), middle=1, decoders=(1, 1))),
    "Restormer": restormer.Restormer(BODY),
    "SwinIR": swinir.SwinIR(SWIN),
    "HAIR": hair.HAIR(HAIR),
}


def random_weights(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        key: 0.2 * torch.randn(value.shape, generator=generator)
        for key, value in network.state_dict().items()
    }


def saved(network: nn.Module, path: Path, *, container: str = "params", prefix: str = "") -> Path:
    state = {prefix + key: value for key, value in random_weights(network).items()}
    torch.save({container: state}, path)
    return path


@pytest.fixture
def light() -> Tensor:
    return torch.rand(1, 3, 40, 37, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("title", NETWORKS)
def test_each_network_is_taken_for_itself_and_no_other(title):
    state = random_weights(NETWORKS[title])
    assert [kind.title for kind in KNOWN_ARCHITECTURES if kind.matches(state)] == [title]
    network_read = identify(state)
    assert network_read is not None
    assert network_read.title == title


@pytest.mark.parametrize(
    ("container", "prefix"), [("params", ""), ("params_ema", "module."), ("state_dict", "net.")]
)
@pytest.mark.parametrize("title", NETWORKS)
def test_every_network_restores_from_every_kind_of_file(tmp_path, light, title, container, prefix):
    path = saved(NETWORKS[title], tmp_path / "weights.pth", container=container, prefix=prefix)
    restorer = load_restorer(path, device="cpu", precision="fp32")
    restored = restorer(light)
    assert restored.shape == light.shape
    assert (restored - light).abs().max() > 1e-3
    # The other way to run it autocasts and tiles; in fp32, in one tile, it is the same. Curves of slope 13.
    whole = load_image_restorer(path, device="cpu", precision="fp32", tile=64)
    if title != "NAFNet":  # whose pooling the two ways bound differently
        torch.testing.assert_close(whole(light), restored, atol=5e-5, rtol=0)


@pytest.mark.parametrize("title", ["Restormer", "SwinIR", "HAIR"])
def test_half_precision_on_the_cpu_is_close(tmp_path, light, title):
    path = saved(NETWORKS[title], tmp_path / "weights.pth")
    exact = load_restorer(path, device="cpu", precision="fp32")(light)
    rough = load_restorer(path, device="cpu", precision="bf16")(light)
    # Random weights clip most of the picture; where they do not, bf16's 8 bits leave a few per cent.
    assert (rough - exact).abs().mean() < 0.03 * (exact - light).abs().mean()
    assert not torch.equal(rough, exact)


@pytest.mark.parametrize("title", ["Restormer", "SwinIR", "HAIR"])
def test_weights_that_do_not_fit_are_named(tmp_path, title):
    state = random_weights(NETWORKS[title])
    key = next(key for key in state if key.endswith(("norm1.weight", "project_in.weight")))
    torch.save({**state, key: state[key][:1]}, tmp_path / "cut.pth")
    sentence = rf"cut\.pth: is a {title} whose weights do not fit \(.+\); download it again"
    for load in (load_restorer, read_network):
        with pytest.raises(UnreadableMedia, match=sentence):
            load(tmp_path / "cut.pth")


def test_what_networks_ask_of_pictures(tmp_path):
    jpeg = replace(SWIN, window=7, channels=1)
    larger = replace(SWIN, scale=3, upsampler="pixelshuffledirect")
    requirements = {
        "jpeg": (swinir.SwinIR(jpeg), (1, 1, 7, False)),
        "x3": (swinir.SwinIR(larger), (3, 3, 4, False)),
        "hair": (NETWORKS["HAIR"], (3, 1, 4, True)),
        "grey": (restormer.Restormer(replace(BODY, channels=1)), (1, 1, 4, False)),
    }
    for name, (network, expected) in requirements.items():
        network_read = read_network(saved(network, tmp_path / f"{name}.pth"))
        assert (
            network_read.channels,
            network_read.scale,
            network_read.multiple,
            network_read.has_global_context,
        ) == expected
        assert not network_read.fp16


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (replace(SWIN, scale=2, upsampler="pixelshuffle"), "restores RGB images at scale 2"),
        (replace(SWIN, channels=1), "restores greyscale images"),
    ],
    ids=["upsampler", "grey"],
)
def test_the_refine_stage_wants_rgb_in_its_own_size(tmp_path, config, said):
    path = saved(swinir.SwinIR(config), tmp_path / "other.pth")
    with pytest.raises(UnreadableMedia, match=rf"other\.pth.*{said}.*freezeframe restore"):
        load_restorer(path)


def test_enlarging_and_grey_networks_run_on_whole_pictures(tmp_path, light):
    doubled = swinir.SwinIR(replace(SWIN, scale=2, upsampler="nearest+conv"))
    path = saved(doubled, tmp_path / "x2.pth", container="params_ema")
    assert load_image_restorer(path, device="cpu", precision="fp32", tile=32)(light).shape == (1, 3, 80, 74)
    grey = saved(swinir.SwinIR(replace(SWIN, channels=1, window=7)), tmp_path / "grey.pth")
    restorer = load_image_restorer(grey, device="cpu", precision="fp32", tile=32)
    assert restorer.tile == 28, "windows of 7 pixels: tiles in multiples of 7"
    assert restorer(light).shape == light.shape
    plain = light[:, :1].expand(-1, 3, -1, -1)
    restored = restorer(plain)
    assert torch.equal(restored[:, 0], restored[:, 1]), "grey stays grey"


def test_networks_that_overflow_in_fp16_never_compute_in_it(tmp_path, monkeypatch):
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    for title in ("Restormer", "SwinIR", "HAIR"):
        network = read_network(saved(NETWORKS[title], tmp_path / "weights.pth"))
        assert format_for(network, cuda, "auto") == torch.bfloat16
        with pytest.raises(FreezeframeError, match=f"precision fp16: {title} overflows"):
            format_for(network, cuda, "fp16")


def test_the_refine_stage_tells_every_tile_what_happened_to_the_whole_frame(tmp_path):
    """HAIR on frames larger than a tile: the kernels of all tiles are those of the frame."""
    # Kernels that depend strongly on the image, and corrections that do not clip.
    gains = {"extracts": 4.0, "output": 0.02}
    state = {
        f"net.{key}": value * next((gain for part, gain in gains.items() if part in key), 1.0)
        for key, value in random_weights(NETWORKS["HAIR"]).items()
    }
    path = tmp_path / "hair.ckpt"
    torch.save({"state_dict": state}, path)
    restorer = load_restorer(path, device="cpu", precision="fp32")
    frame = torch.rand(1, 3, 32, 160, generator=torch.Generator().manual_seed(2))
    frame[..., 80:] = 0.5
    tile = frame[..., :64]
    alone, known = restorer(tile), restorer.for_tiles_of(frame)(tile)
    assert (alone - known).abs().max() > 1e-4, "the tile's own description is another"
    refined = refine(frame, restorer, RefineConfig(checkpoint=path, tile=64, overlap=32))
    # The left eighth of a frame lies in its first tile only.
    torch.testing.assert_close(refined[..., :16], known[..., :16], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("network", "config", "side", "giga"),
    [
        (swinir.SwinIR, swinir.NetConfig(), 128, 200.1),
        (swinir.SwinIR, swinir.NetConfig(window=7), 126, 190.8),
        (hair.HAIR, hair.RELEASED, 128, 38.7),
    ],
    ids=["SwinIR", "SwinIR for JPEG", "HAIR"],
)
def test_the_released_networks_cost_what_the_references_do(network, config, side, giga):
    """Multiplications of the authors' code, counted in the same way. Nothing is allocated.

    Ours computes the attention of windows on a seam twice: 2 / 16 of the windows in half of the layers.
    """
    with torch.device("meta"):
        module, encoded = network(config), torch.rand(1, 3, side, side)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(encoded)
    counted = counter.get_total_flops() / 2e9
    assert 0 <= counted - giga + 0.05 < 0.006 * giga


def of_others(package: str, architecture: str) -> type:
    """An architecture of spandrel, if it is installed and runs with this torch."""
    try:
        network_read = importlib.import_module(f"{package}.architectures.{architecture}")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{package} cannot be imported: {error}")
    return getattr(network_read, f"{architecture}Arch")


@pytest.mark.filterwarnings("ignore")  # of spandrel
@pytest.mark.parametrize(
    ("package", "module", "network"),
    [
        ("spandrel", "KBNet", "KBNet_s"),
        ("spandrel", "HAT", "HAT"),
        ("spandrel_extra_arches", "M3SNet", "M3SNet"),
    ],
)
def test_what_is_like_ours_is_not_taken_for_ours(package, module, network):
    try:
        theirs = importlib.import_module(f"{package}.architectures.{module}")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{package} cannot be imported: {error}")
    assert identify(getattr(theirs, network)().state_dict()) is None


@pytest.mark.parametrize(
    ("config", "without", "beside"),
    [
        (nafnet.NetConfig(width=8, encoders=(1,), middle=1, decoders=(1,)), "encoders.0.0.conv2.weight", ""),
        (nafnet.NetConfig(width=8, encoders=(1,), middle=1, decoders=(1,)), "", "middle_ups.0.0.weight"),
        (
            swinir.NetConfig(dim=12, depths=(2,), heads=(2,)),
            "",
            "layers.0.residual_group.overlap_attn.qkv.weight",
        ),
    ],
    ids=["KBNet", "M3SNet", "HAT"],
)
def test_names_that_tell_relatives_apart(config, without, beside):
    """Keys that the relatives of NAFNet and SwinIR lack or add; needs no spandrel."""
    network = (nafnet.NAFNet if isinstance(config, nafnet.NetConfig) else swinir.SwinIR)(config)
    state = dict(network.state_dict())
    if isinstance(network, swinir.SwinIR):
        state = swinir.to_published_state(network, side=4 * config.window)
    assert identify(state) is not None
    state.pop(without, None)
    state.update({beside: torch.zeros(1)} if beside else {})
    assert identify(state) is None


SWINS = {
    "noise": {},
    "grey": {"channels": 1},
    "jpeg": {"window": 7, "value_range": 255.0},
    "3conv": {"narrow": True},
    "x3": {"scale": 3, "upsampler": "pixelshuffle"},
    "x8": {"scale": 8, "upsampler": "pixelshuffle"},
    "light": {"scale": 2, "upsampler": "pixelshuffledirect"},
    "real": {"scale": 4, "upsampler": "nearest+conv"},
    "cells": {"unshuffle": 8, "upsampler": "nearest+conv"},
}


@pytest.mark.filterwarnings("ignore")  # of spandrel
@pytest.mark.parametrize("options", SWINS.values(), ids=SWINS.keys())
def test_swinir_answers_as_spandrels_does(options):
    theirs = of_others("spandrel", "SwinIR")()
    sizes = {"dim": 24, "depths": (2, 2), "heads": (6, 6)}
    network = swinir.SwinIR(swinir.NetConfig(**{**sizes, **options})).eval().requires_grad_(False)
    network.load_state_dict(random_weights(network))
    encoded = torch.rand(1, network.config.channels, *[2 * network.multiple] * 2)
    state = swinir.to_published_state(network, side=4 * network.config.window)
    expected = theirs.load(state).model.eval()(encoded).detach()
    # Another order of float32 sums.
    torch.testing.assert_close(network(encoded), expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


@pytest.mark.filterwarnings("ignore")  # of spandrel
@pytest.mark.parametrize("centred", [True, False])
def test_restormer_answers_as_spandrels_does(centred):
    theirs = of_others("spandrel_extra_arches", "Restormer")()
    sizes = {"dim": 16, "blocks": (1, 2, 1, 2), "refinement": 2, "heads": (1, 2, 4, 8)}
    network = restormer.Restormer(restormer.NetConfig(**sizes, centred=centred)).eval().requires_grad_(False)
    network.load_state_dict(random_weights(network))
    encoded = torch.rand(1, 3, 24, 32)
    expected = theirs.load(dict(network.state_dict())).model.eval()(encoded).detach()
    torch.testing.assert_close(network(encoded), expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_glances_of_a_small_picture_are_the_picture():
    encoded = torch.rand(1, 3, 720, 1280)
    assert [part.shape for part in context_crops(encoded)] == [encoded.shape]
    assert context_crops(encoded)[0] is encoded


@pytest.mark.parametrize(("height", "width", "number"), [(2160, 3840, 9), (4000, 500, 3), (900, 2000, 6)])
def test_glances_spread_over_a_large_picture(height, width, number):
    encoded = torch.arange(float(height * width)).reshape(1, 1, height, width)
    parts = context_crops(encoded)
    assert len(parts) == number
    assert all(part.shape[-2] == min(512, height) and part.shape[-1] == min(512, width) for part in parts)
    assert all(int(part[0, 0, 0, 0]) % width % 8 == 0 for part in parts), "where JPEG's blocks start"
    first, last = parts[0], parts[-1]
    assert first[0, 0, 0, 0] == 0
    # To the lower right corner but for less than a block.
    assert divmod(int(last[0, 0, -1, -1]), width) >= (height - 8, 0)
