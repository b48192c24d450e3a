"""Every backend agrees with plain fp32; the selected one is stored in the timing cache."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import warnings

import pytest
import torch
from torch import Tensor, nn

from freezeframe.data.errors import FreezeframeError, MissingExtra
from freezeframe.models.deblur.fusion_net import FusionNet, NetConfig
from freezeframe.models.runtime.autotune import (
    AutotuneConfig,
    AutotunedBackend,
    autotune,
    synthetic_input,
)
from freezeframe.models.runtime.backends import available_backends, backends_used, torch_backend
from freezeframe.models.runtime.fusion import AUTOTUNE, OVERLAP, build_inference, fusion_model
from freezeframe.models.runtime.timing_cache import cache_file, cache_key, load_cache, save_cache

CPU = torch.device("cpu")
TOLERANCE = AutotuneConfig().tolerance
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="the extra openvino is not installed")
SMALL = NetConfig(widths=(8, 16, 24), down=(1, 1, 1), up=(1, 1))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def network() -> FusionNet:
    """Random weights, also of the head: its outputs reach a fifth of the range."""
    torch.manual_seed(3)
    net = FusionNet(SMALL)
    nn.init.normal_(net.head.weight, std=0.03)
    nn.init.normal_(net.head.bias, std=0.02)
    return net.eval().requires_grad_(False)


def picture(height: int, width: int) -> Tensor:
    """Network input of any size, with content up to its borders."""
    return synthetic_input(-(-height // 64) * 64, -(-width // 64) * 64)[..., :height, :width].contiguous()


def pins() -> list[tuple[str, str]]:
    both = [(backend, precision) for backend in ("torch", "openvino") for precision in ("fp32", "bf16")]
    return [pytest.param(*each, marks=openvino if each[0] == "openvino" else ()) for each in both]


@pytest.mark.parametrize(("backend", "precision"), pins())
@pytest.mark.parametrize("size", [(64, 96), (101, 75), (3, 250)])
def test_every_way_agrees_with_plain_fp32_at_any_size(network, backend, precision, size):
    network_input = picture(*size)
    truth = network(network_input)
    assert truth.abs().max() > 5 * TOLERANCE, "there is something to disagree on"
    answer = build_inference(network, device="cpu", precision=precision, backend=backend)(network_input)
    assert answer.shape == (1, 3, *size)
    assert (answer - truth).abs().max() <= (1e-5 if precision == "fp32" else TOLERANCE)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
def test_torch_compile_agrees_too(network):
    network_input = picture(64, 96)
    answer = build_inference(network, device="cpu", precision="fp32", backend="compile")(network_input)
    assert (answer - network(network_input)).abs().max() <= 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp16", "bf16", "auto"])
def test_cuda_agrees_too_and_hands_back_where_it_took_from(network, precision):
    network_input = picture(101, 75)
    answer = build_inference(network, device="cuda", precision=precision)(network_input)
    assert answer.device == CPU
    assert (answer - network(network_input)).abs().max() <= TOLERANCE


def test_tiles_leave_no_seam():
    """A receptive field of radius 27 px; blending discards the outermost 24 px of the overlap."""
    torch.manual_seed(4)
    shallow = FusionNet(NetConfig(widths=(8, 8, 8), down=(0, 0, 1), up=(0, 0))).eval().requires_grad_(False)
    nn.init.normal_(shallow.head.weight, std=0.05)
    network_input = picture(200, 1100)
    whole = build_inference(shallow, device="cpu", precision="fp32", backend="torch", tile=2000)(
        network_input
    )
    tiled = build_inference(shallow, device="cpu", precision="fp32", backend="torch", tile=256)(network_input)
    assert whole.abs().max() > 5 * TOLERANCE
    assert OVERLAP / 4 == 24
    # The last 3 px and the local mean leave a tenth of a code value; with 32 px of overlap, half of one.
    assert (whole - tiled).abs().max() < 0.1 / 255


def test_training_on_changes_nothing_in_an_engine(network):
    network_input = picture(64, 64)
    run = build_inference(network, device="cpu", precision="fp32", backend="torch")
    before = run(network_input)
    with torch.no_grad():
        network.head.bias.add_(1)
    after = run(network_input)
    with torch.no_grad():
        network.head.bias.sub_(1)
    assert torch.equal(before, after)


@openvino
def test_two_networks_of_one_layout_answer_each_for_itself(network):
    """The second graph is the first one with other weights."""
    other = copy.deepcopy(network)
    for value in other.parameters():
        value.mul_(0.8)
    network_input = picture(64, 64)
    assert (other(network_input) - network(network_input)).abs().max() > 5 * TOLERANCE
    runs = {
        each: build_inference(each, device="cpu", precision="fp32", backend="openvino")
        for each in (network, other)
    }
    for each, run in runs.items():
        assert (run(network_input) - each(network_input)).abs().max() <= 1e-5


@openvino
def test_a_layout_is_traced_once_as_torch_never_forgets_a_trace(network):
    """Each trace adds to torch's memory: a process that builds a runtime for every clip would grow."""

    def counter() -> int:
        """The suffix that torch gives to the next repeated name."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated
            name = torch.jit.trace(nn.Identity(), torch.zeros(1))._c._type().qualified_name()
        return int(re.search(r"mangle_(\d+)", name + "mangle_0")[1])

    build_inference(network, device="cpu", precision="fp32", backend="openvino")(picture(64, 64))
    counter()
    first, second = counter(), counter()
    build_inference(copy.deepcopy(network), device="cpu", precision="fp32", backend="openvino")(
        picture(72, 64)
    )
    assert counter() - second == second - first > 0


class Fragile(nn.Module):
    """Returns NaN where convolutions run in half precision, as fp16 does on overflow."""

    def __init__(self, *, always: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 3, 1)
        self.always = always

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.conv(x)
        fails = self.always or answer.dtype != torch.float32
        return answer * float("nan") if fails else answer


def test_what_is_not_a_number_in_half_precision_is_computed_again_in_fp32():
    network = Fragile().requires_grad_(False)
    network_input = picture(64, 64)
    run = build_inference(network, device="cpu", precision="bf16", backend="torch")
    assert torch.allclose(run(network_input), network(network_input), atol=1e-6)
    assert backends_used(fusion_network=run) == {"fusion_network": "torch fp32"}


def test_what_is_never_a_number_changes_nothing():
    answer = build_inference(Fragile(always=True), device="cpu", precision="fp32", backend="torch")(
        picture(64, 64)
    )
    assert not answer.any()


def test_auto_answers_as_fp32_does_and_remembers_what_it_chose(network):
    network_input = picture(64, 96)
    answer = build_inference(network, device="cpu")(network_input)
    assert (answer - network(network_input)).abs().max() <= TOLERANCE
    (entry,) = load_cache().values()
    assert entry["backend"] in available_backends(fusion_model(network, CPU), device=CPU)
    assert entry["seconds"][entry["backend"]] == min(entry["seconds"].values())


@pytest.mark.parametrize(("backend", "precision"), pins())
def test_a_pinned_backend_gives_the_same_pixels_whatever_the_cache_holds(network, backend, precision):
    """The cache names other backends, is damaged, or does not exist: nothing is read and nothing written."""
    network_input, path = picture(64, 96), cache_file()
    assert path is not None
    path.parent.mkdir(parents=True)
    candidates = available_backends(fusion_model(network, CPU), device=CPU)
    key = f"fusion network | {cache_key(network, CPU, candidates)}"
    answers = []
    for content in (
        *(
            json.dumps({f"{key} | {size}": {"backend": name} for size in ("small", "large")})
            for name in (*candidates, "exact")
        ),
        "{",
    ):
        path.write_text(content)
        run = build_inference(network, device="cpu", precision=precision, backend=backend)
        answers.append(run(network_input))
        assert path.read_text() == content
        assert backends_used(fusion_network=run) == {"fusion_network": f"{backend} {precision}"}
    path.unlink()
    answers.append(
        build_inference(network, device="cpu", precision=precision, backend=backend)(network_input)
    )
    assert not path.exists()
    assert all(torch.equal(answer, answers[0]) for answer in answers)


def test_the_report_names_the_backend_that_the_cache_selects(network):
    """Without a pin the cache decides, and the log says so."""
    candidates = available_backends(fusion_model(network, CPU), device=CPU)
    key = f"fusion network | {cache_key(network, CPU, candidates)}"
    for name in candidates:
        save_cache({f"{key} | small": {"backend": name}})
        run = build_inference(network, device="cpu")
        assert backends_used(fusion_network=run, restorer=None) == {}, "nothing has run yet"
        run(picture(64, 64))
        assert backends_used(fusion_network=run) == {"fusion_network": name}


def show() -> Tensor:
    return picture(64, 64)


def never(network_input: Tensor) -> Tensor:
    raise AssertionError("measured again")


def test_the_remembered_choice_is_taken_without_measuring():
    save_cache({"here": {"backend": "b", "seconds": {}}})
    assert autotune({"a": never, "b": never}, never, key="here", example=show) == "b"


def test_an_engine_that_strays_or_fails_is_not_chosen_however_fast():
    def exact(network_input: Tensor) -> Tensor:
        return network_input[:, :3] @ torch.eye(network_input.shape[-1])  # takes its time

    def stray(network_input: Tensor) -> Tensor:
        return network_input[:, :3] + 2 * TOLERANCE

    def broken(network_input: Tensor) -> Tensor:
        raise RuntimeError("no such instruction")

    def no_number(network_input: Tensor) -> Tensor:
        return network_input[:, :3] * float("nan")

    quick = {"stray": stray, "broken": broken, "no number": no_number}
    assert autotune({**quick, "slow": exact}, exact, key="a", example=show) == "slow"
    assert autotune(quick, exact, key="b", example=show) == "exact"
    assert autotune({"stray": never}, never, key="b", example=show) == "exact", "that is remembered too"


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"here": 3}', '{"here": {"backend": "gone"}}', "\xff"])
def test_a_broken_cache_file_is_ignored_and_rewritten(content):
    path = cache_file()
    assert path is not None
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode("latin-1"))
    plain = {"only": lambda network_input: network_input[:, :3]}
    assert autotune(plain, plain["only"], key="here", example=show) == "only"
    assert json.loads(path.read_text())["here"]["backend"] == "only"


@pytest.mark.parametrize("cache", ["/dev/null", "/proc/nowhere"])
def test_a_home_that_cannot_be_written_to_costs_a_measurement_only(monkeypatch, cache):
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    plain = {"only": lambda network_input: network_input[:, :3]}
    assert autotune(plain, plain["only"], key="here", example=show) == "only"
    assert load_cache() == {}


def test_choices_are_kept_apart_by_layout_contestants_and_size(network):
    other = FusionNet(NetConfig(widths=(8, 16, 32), down=(1, 1, 1), up=(1, 1)))
    keys = {cache_key(each, CPU, names) for each in (network, other) for names in ("a", "ab")}
    assert len(keys) == 4
    exact = torch_backend(fusion_model(network, CPU), CPU, torch.float32)
    run = AutotunedBackend(
        candidates={"a": exact, "b": exact},
        exact=exact,
        key="here",
        config=AUTOTUNE,
        example=lambda size: picture(*size),
    )
    for size in ((64, 64), (384, 384), (72, 80)):
        run(picture(*size))
    assert set(load_cache()) == {"here | small", "here | large"}


def test_a_way_that_cannot_be_had_says_what_to_install(network, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pip install OpenVINO"):
        build_inference(network, device="cpu", backend="openvino")
    assert all(
        name.startswith("torch") for name in available_backends(fusion_model(network, CPU), device=CPU)
    )


def test_openvino_is_not_asked_of_a_gpu(network):
    with pytest.raises(FreezeframeError, match="on the CPU"):
        available_backends(fusion_model(network, CPU), device=torch.device("cuda"), backend="openvino")
