"""However a restorer is run, it answers as plain fp32 does; which way is the fastest is found out once."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from freezeframe.data.errors import FreezeframeError, MissingExtra
from freezeframe.models.deblur import refiner
from freezeframe.models.nets import nafnet
from freezeframe.models.nets.swinir import model as swinir
from freezeframe.models.registry.architectures import Network
from freezeframe.models.restorer.image_restorer import build_image_restorer
from freezeframe.models.runtime import backends as ways
from freezeframe.models.runtime.autotune import TOLERANCE, load_cache, synthetic_image
from freezeframe.models.runtime.backends import AutotunedBackend, BackendCorrection, build_backends

CPU = torch.device("cpu")
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="the extra openvino is not installed")
SMALL = refiner.NetConfig(widths=(8, 16, 24), down=(1, 1, 1), up=(1, 1))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # What is worth a measurement, and what it is made on, shrink together.
    monkeypatch.setattr(ways, "MIN_AUTOTUNE_PIXELS", 70 * 70)
    monkeypatch.setattr(ways, "BENCHMARK_SIZES", {"small": (48, 64), "large": (64, 64)})


def random_refiner() -> Network:
    torch.manual_seed(3)
    module = refiner.Refiner(SMALL).eval().requires_grad_(False)
    nn.init.normal_(module.head.weight, std=0.05)
    return Network(title="refiner", module=module, multiple=8, has_global_context=True)


def random_swinir() -> Network:
    torch.manual_seed(4)
    module = swinir.SwinIR(swinir.NetConfig(dim=12, depths=(2,), heads=(2,), window=4)).eval()
    return Network(title="SwinIR", module=module.requires_grad_(False), multiple=4)


def random_nafnet() -> Network:
    torch.manual_seed(5)
    config = nafnet.NetConfig(width=8, encoders=(1,), middle=1, decoders=(1,))
    module = nafnet.NAFNet(config, window=64).eval().requires_grad_(False)
    for value in module.parameters():
        value.normal_(std=0.1)
    return Network(title="NAFNet", module=module, multiple=2, fp16=True)


def scene(height: int, width: int) -> Tensor:
    return synthetic_image(-(-height // 64) * 64, -(-width // 64) * 64)[None, :, :height, :width]


@pytest.mark.parametrize("made", [random_refiner, random_swinir, random_nafnet])
def test_the_way_that_is_taken_agrees_with_plain_fp32_and_is_remembered(made):
    network, encoded = made(), scene(75, 93)
    exact = network.module.correction(encoded)
    assert exact.abs().max() > TOLERANCE, "there is something to disagree on"
    quick, last = build_backends(network, device=CPU)
    assert last.name() == "torch fp32"
    change = quick.with_context([encoded])(encoded)
    assert (change - exact).abs().max() <= TOLERANCE
    (entry,) = load_cache().values()
    assert entry["engine"] == quick.name() == min(entry["seconds"], key=entry["seconds"].__getitem__)


def test_a_small_picture_is_not_worth_a_measurement():
    network, encoded = random_swinir(), scene(64, 72)
    quick = build_backends(network, device=CPU)[0]
    assert isinstance(quick, AutotunedBackend)
    torch.testing.assert_close(
        quick.with_context([encoded])(encoded), network.module.correction(encoded), atol=1e-6, rtol=0
    )
    assert load_cache() == {}


def test_tiles_of_a_large_picture_are_its_parts():
    """Each tile is small; the picture that they are settled on is not."""
    quick = build_backends(random_swinir(), device=CPU)[0]
    assert quick.with_context([scene(96, 96)]) in quick.backends.values()
    assert quick.with_context([scene(64, 64)]) == quick.exact


def test_a_way_that_strays_is_not_taken():
    network = random_swinir()
    _, exact = build_backends(network, device=CPU)
    astray = replace(
        exact, run=lambda encoded: network.module.correction(encoded) + 3 * TOLERANCE, title="astray"
    )
    fastest = AutotunedBackend({"astray": astray}, {}, exact, "key", 3, None)
    encoded = scene(80, 80)
    torch.testing.assert_close(fastest(encoded), exact(encoded), atol=0, rtol=0)


def test_one_format_that_is_asked_for_is_not_measured():
    first, *rest = build_backends(random_swinir(), device=CPU, precision="bf16")
    assert isinstance(first, BackendCorrection)
    assert (first.name(), [each.name() for each in rest]) == ("torch bf16", ["torch fp32"])
    assert [each.name() for each in build_backends(random_swinir(), device=CPU, precision="fp32")] == [
        "torch fp32"
    ]


def test_where_nothing_can_be_remembered_it_is_measured_once(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    asked = []
    monkeypatch.setattr(ways, "autotune", lambda *_ways, **_facts: asked.append("again") or "torch fp32")
    quick = build_backends(random_swinir(), device=CPU)[0]
    for _ in range(3):
        quick.with_context([scene(96, 96)])
    assert asked == ["again"]


@pytest.mark.parametrize(("made", "fits"), [(random_swinir, False), (random_nafnet, True)])
def test_fp16_runs_for_nobody_who_overflows_in_it(made, fits):
    assert ("fp16" in ways._formats(made(), torch.device("cuda"), "auto")) == fits


def test_a_whole_picture_is_not_described_beforehand():
    """HAIR's description takes half the network: twice over it would be slower than doing nothing clever."""
    network, encoded = random_refiner(), scene(64, 64)
    described = []
    plain = build_backends(network, device=CPU, precision="fp32", backend="torch")[0]
    watched = replace(plain, embed=lambda part: described.append(part.shape) or plain.embed(part))
    with_context = watched.with_context([encoded])
    torch.testing.assert_close(with_context(encoded), network.module.correction(encoded), atol=0, rtol=0)
    assert not described
    for _ in range(2):
        with_context(encoded[..., :32])
    assert described == [encoded.shape], "tiles share what is told of the whole once"


@openvino
@pytest.mark.parametrize("size", [(64, 96), (101, 75)])
def test_the_compiled_refiner_agrees_at_any_size(size):
    network, encoded = random_refiner(), scene(*size)
    quick = build_backends(network, device=CPU, precision="fp32", backend="openvino")[0].with_context(
        [encoded]
    )
    torch.testing.assert_close(quick(encoded), network.module.correction(encoded), atol=1e-4, rtol=0)


@openvino
def test_a_size_is_compiled_for_once_it_came_often(monkeypatch):
    """Photos of all sizes would wait for a compiler longer than it ever saves."""
    monkeypatch.setattr(ways, "COMPILE_AFTER", 2)
    compiled = []
    plain = replace(build_backends(random_swinir(), device=CPU)[1], run=lambda encoded: encoded)
    patient = ways._defer_compile(
        replace(plain, run=lambda encoded: compiled.append(encoded.shape) or encoded), plain
    )
    for side in (32, 40, 32, 32, 40, 32):
        patient(scene(side, side))
    assert [shape[-1] for shape in compiled] == [32, 32]


def test_a_way_that_cannot_be_had_says_why(monkeypatch):
    with pytest.raises(FreezeframeError, match="runs the refiner on the CPU, not SwinIR"):
        build_backends(random_swinir(), device=CPU, backend="openvino")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pip install OpenVINO"):
        build_backends(random_refiner(), device=CPU, backend="openvino")


def test_a_photo_goes_the_way_that_was_found():
    network, light = random_refiner(), scene(96, 120) ** 2.2
    exact = build_image_restorer(network, device="cpu", precision="fp32", tile=64, backend="torch")(light)
    run = build_image_restorer(network, device="cpu", tile=64)
    assert (run(light) - exact).abs().max() <= TOLERANCE
    assert load_cache()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
def test_torch_compile_agrees_too():
    network, encoded = random_nafnet(), scene(64, 96)
    quick = build_backends(network, device=CPU, precision="fp32", backend="compile")[0]
    torch.testing.assert_close(quick(encoded), network.module.correction(encoded), atol=1e-4, rtol=0)
