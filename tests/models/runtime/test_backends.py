"""Every backend of a restorer agrees with plain fp32; the fastest one is timed once."""

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
from freezeframe.models.restorer.inference import restorer_model
from freezeframe.models.runtime import autotune as autotune_module
from freezeframe.models.runtime.autotune import (
    AutotuneConfig,
    AutotunedBackend,
    DeferredBackend,
    build_backends,
    synthetic_image,
)
from freezeframe.models.runtime.backends import (
    Backend,
    NetworkBackend,
    available_backends,
    backends_used,
    torch_backend,
)
from freezeframe.models.runtime.timing_cache import cache_key, load_cache, save_cache

CPU = torch.device("cpu")
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="the extra openvino is not installed")
# The size that is worth a measurement, and those that are timed, shrink together.
QUICK = AutotuneConfig(min_pixels=70 * 70, small=(48, 64), large=(64, 64))
TOLERANCE = QUICK.tolerance
SMALL = refiner.NetConfig(widths=(8, 16, 24), down=(1, 1, 1), up=(1, 1))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


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


def backends_of(network: Network, **options: str) -> tuple[Backend, ...]:
    return build_backends(restorer_model(network), device=CPU, config=QUICK, **options)


def reference(network: Network) -> NetworkBackend:
    return torch_backend(restorer_model(network), CPU, torch.float32)


def scene(height: int, width: int) -> Tensor:
    return synthetic_image(-(-height // 64) * 64, -(-width // 64) * 64)[None, :, :height, :width]


@pytest.mark.parametrize("build", [random_refiner, random_swinir, random_nafnet])
def test_the_selected_backend_agrees_with_plain_fp32_and_is_stored(build):
    network, encoded = build(), scene(75, 93)
    exact = network.module.correction(encoded)
    assert exact.abs().max() > TOLERANCE, "there is something to disagree on"
    fastest, last = backends_of(network)
    assert last.resolve(encoded.shape).name == "torch fp32"
    assert (fastest.with_context([encoded])(encoded) - exact).abs().max() <= TOLERANCE
    (entry,) = load_cache().values()
    assert entry["backend"] == min(entry["seconds"], key=entry["seconds"].__getitem__)


def test_a_small_picture_is_not_worth_a_measurement():
    network, encoded = random_swinir(), scene(64, 72)
    fastest = backends_of(network)[0]
    assert isinstance(fastest, AutotunedBackend)
    torch.testing.assert_close(
        fastest.with_context([encoded])(encoded), network.module.correction(encoded), atol=1e-6, rtol=0
    )
    assert load_cache() == {}


def test_tiles_of_a_large_picture_are_its_parts():
    """Each tile is small; the image that they belong to is not, and decides."""
    fastest = backends_of(random_swinir())[0]
    assert fastest.with_context([scene(96, 96)]) in fastest.candidates.values()
    assert fastest.with_context([scene(64, 64)]) == fastest.exact


def test_a_backend_that_disagrees_is_not_selected():
    network = random_swinir()
    exact = reference(network)
    wrong = replace(
        exact, correct=lambda encoded: network.module.correction(encoded) + 3 * TOLERANCE, name="wrong"
    )
    fastest = AutotunedBackend(
        candidates={"wrong": wrong}, exact=exact, key="key", example=lambda size: scene(*size), config=QUICK
    )
    encoded = scene(80, 80)
    assert fastest.resolve(encoded.shape).name == "torch fp32"
    torch.testing.assert_close(fastest(encoded), exact(encoded), atol=0, rtol=0)


def test_a_pinned_format_is_not_measured():
    first, *rest = backends_of(random_swinir(), precision="bf16")
    assert isinstance(first, NetworkBackend)
    assert (first.name, [each.name for each in rest]) == ("torch bf16", ["torch fp32"])
    assert [each.name for each in backends_of(random_swinir(), precision="fp32")] == ["torch fp32"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("backend", ["torch", pytest.param("openvino", marks=openvino)])
def test_a_pinned_restorer_gives_the_same_pixels_whatever_the_cache_holds(backend, precision):
    """And from the first picture of a size to the tenth, six tiles each: nothing is deferred."""
    network, light = random_refiner(), scene(96, 120) ** 2.2
    candidates = available_backends(restorer_model(network), device=CPU)
    key = f"refiner | {cache_key(network.module, CPU, candidates)} | large"
    answers = []
    for name in (*candidates, "exact"):
        save_cache({key: {"backend": name, "seconds": {}}})
        before = load_cache()
        run = build_image_restorer(
            network, device="cpu", precision=precision, backend=backend, tile=64, autotune=QUICK
        )
        answers += [run(light) for _ in range(2)]
        assert load_cache() == before
        assert backends_used(restorer=run) == {"restorer": f"{backend} {precision}"}
    assert all(torch.equal(answer, answers[0]) for answer in answers)


@openvino
def test_every_format_of_openvino_is_a_candidate_of_its_own():
    """`--backend openvino` alone: the formats are timed, and none has a counterpart of torch's."""
    run = build_image_restorer(random_refiner(), device="cpu", backend="openvino", autotune=QUICK)
    run(scene(96, 120))
    assert backends_used(restorer=run)["restorer"].startswith("openvino")


def test_without_a_cache_file_it_is_measured_once(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    calls = []
    monkeypatch.setattr(
        autotune_module, "autotune", lambda *_backends, **_options: calls.append("again") or "torch fp32"
    )
    fastest = backends_of(random_swinir())[0]
    for _ in range(3):
        fastest.with_context([scene(96, 96)])
    assert calls == ["again"]


@pytest.mark.parametrize(("build", "fits"), [(random_swinir, False), (random_nafnet, True)])
def test_fp16_is_no_candidate_for_networks_that_overflow_in_it(build, fits):
    names = available_backends(restorer_model(build()), device=torch.device("cuda"))
    assert ("torch fp16" in names) == fits


def test_global_statistics_of_a_whole_picture_are_not_computed_beforehand():
    """HAIR's embedding takes half the network: computing it apart would cost more than tiles save."""
    network, encoded = random_refiner(), scene(64, 64)
    embedded = []
    plain = reference(network)
    watched = replace(plain, embed=lambda part: embedded.append(part.shape) or plain.embed(part))
    with_context = watched.with_context([encoded])
    torch.testing.assert_close(with_context(encoded), network.module.correction(encoded), atol=0, rtol=0)
    assert not embedded
    for _ in range(2):
        with_context(encoded[..., :32])
    assert embedded == [encoded.shape], "tiles share the statistics of the whole"


@openvino
@pytest.mark.parametrize("size", [(64, 96), (101, 75)])
def test_the_compiled_refiner_agrees_at_any_size(size):
    network, encoded = random_refiner(), scene(*size)
    compiled = backends_of(network, precision="fp32", backend="openvino")[0].with_context([encoded])
    torch.testing.assert_close(compiled(encoded), network.module.correction(encoded), atol=1e-4, rtol=0)


def test_a_size_is_compiled_once_it_came_often():
    """Photos of all sizes would wait for a compiler longer than it ever saves."""
    plain = replace(reference(random_swinir()), name="plain")
    deferred = DeferredBackend(compiled=replace(plain, name="compiled"), plain=plain, after=2)
    names = []
    for side in (32, 40, 32, 32, 40, 32):
        x = scene(side, side)
        names.append(f"{deferred.with_context([x]).resolve(x.shape).name} {side}")
    assert names == ["plain 32", "plain 40", "plain 32", "compiled 32", "plain 40", "compiled 32"]


def test_an_unavailable_backend_says_why(monkeypatch):
    with pytest.raises(FreezeframeError, match="runs the fusion network and the refiner, not SwinIR"):
        backends_of(random_swinir(), backend="openvino")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pip install OpenVINO"):
        backends_of(random_refiner(), backend="openvino")


def test_a_photo_is_restored_by_the_selected_backend():
    network, light = random_refiner(), scene(96, 120) ** 2.2
    exact = build_image_restorer(network, device="cpu", precision="fp32", tile=64, backend="torch")(light)
    run = build_image_restorer(network, device="cpu", tile=64, autotune=QUICK)
    assert (run(light) - exact).abs().max() <= TOLERANCE
    assert load_cache()
    assert backends_used(restorer=run)["restorer"].startswith("torch"), "compiling is deferred"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
def test_torch_compile_agrees_too():
    network, encoded = random_nafnet(), scene(64, 96)
    compiled = backends_of(network, precision="fp32", backend="compile")[0]
    assert compiled.resolve(encoded.shape).name == "compile fp32"
    torch.testing.assert_close(compiled(encoded), network.module.correction(encoded), atol=1e-4, rtol=0)
