from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from freezeframe.data.errors import FreezeframeError, UnreadableMedia
from freezeframe.models.nets.nafnet import NAFNet, NetConfig
from freezeframe.models.registry.architectures import Network
from freezeframe.models.restorer.image_restorer import ImageRestorer, load_restorer
from freezeframe.models.restorer.inference import restorer_model
from freezeframe.models.runtime.backends import torch_backend
from freezeframe.models.runtime.device import find_device, number_format

SMALL = NetConfig(width=8, encoders=(1, 1), middle=1, decoders=(1, 1))
CPU = torch.device("cpu")


def small_network(seed: int = 0) -> NAFNet:
    """Random weights that change an image by some per cent."""
    network = NAFNet(SMALL).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for value in network.parameters():
        value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    return network


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "nafnet.pth"
    torch.save({"params": small_network().state_dict()}, path)
    return path


@pytest.fixture
def light() -> Tensor:
    return torch.rand(1, 3, 33, 46, generator=torch.Generator().manual_seed(7))


def encode(light: Tensor) -> Tensor:
    """IEC 61966-2-1."""
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def decode(encoded: Tensor) -> Tensor:
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def test_the_network_sees_srgb_codes_and_the_pipeline_linear_light(checkpoint, light):
    restorer = load_restorer(checkpoint, device="cpu", precision="fp32")
    expected = decode(small_network()(encode(light)).clamp(0, 1))
    assert (expected - light).abs().max() > 0.01, "the network changes nothing: nothing is tested"
    # Rounding of the curves in float32, far below a 16-bit step (1.5e-5).
    torch.testing.assert_close(restorer(light), expected, atol=5e-6, rtol=0)


def test_light_beyond_the_codes_range_is_kept(checkpoint):
    """An HDR highlight of 7 is restored as 1 and keeps the 6 above it."""
    restorer = load_restorer(checkpoint, device="cpu", precision="fp32")
    light = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(8))
    light[..., 4:8, 4:8] = 1
    brighter = light.clone()
    brighter[..., 4:8, 4:8] = 7
    torch.testing.assert_close(
        restorer(brighter)[..., 4:8, 4:8] - restorer(light)[..., 4:8, 4:8],
        torch.full((1, 3, 4, 4), 6.0),
        atol=1e-6,
        rtol=0,
    )


def test_a_network_that_adds_nothing_returns_every_bit(tmp_path, light):
    network = small_network()
    network.ending.weight.zero_()
    network.ending.bias.zero_()
    path = tmp_path / "idle.pth"
    torch.save(network.state_dict(), path)
    hdr = 3 * light - 0.5
    assert torch.equal(load_restorer(path, device="cpu", precision="bf16")(hdr), hdr)


def test_half_precision_rounds_the_change_and_not_the_picture(checkpoint, light):
    exact = load_restorer(checkpoint, device="cpu", precision="fp32")(light)
    rough = load_restorer(checkpoint, device="cpu", precision="bf16")(light)
    change = (exact - light).abs().max()
    # bf16 has 8 bits: a dozen layers that each round by 2^-9 stay below 4 % of the change.
    assert 0 < (rough - exact).abs().max() < 0.04 * change


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "auto"])
def test_the_gpu_agrees_with_the_cpu(checkpoint, light, precision):
    exact = load_restorer(checkpoint, device="cpu", precision="fp32")(light)
    there = load_restorer(checkpoint, device="cuda", precision=precision)(light)
    assert there.device == light.device
    change = (exact - light).abs().max()
    assert (there - exact).abs().max() < (0.001 if precision == "fp32" else 0.04) * change


def test_what_overflows_in_half_precision_is_computed_again_in_float32(tmp_path, light):
    """bf16 has the exponent range of fp32, so the overflow is simulated: the first backend returns NaN."""
    network = small_network()
    described = Network(title="NAFNet", module=network)
    exact_backend = torch_backend(restorer_model(described), CPU, torch.float32)
    overflow = replace(exact_backend, correct=lambda encoded: torch.full_like(encoded, torch.nan))
    restorer = ImageRestorer(network=described, backends=(overflow, exact_backend), device=CPU)
    path = tmp_path / "exact.pth"
    torch.save(network.state_dict(), path)
    exact = load_restorer(path, device="cpu", precision="fp32")
    # Another order of float32 sums.
    torch.testing.assert_close(restorer(light), exact(light), atol=2e-6, rtol=0)
    assert restorer.log.failed_tiles == 0


@pytest.mark.parametrize("size", [3e38, -3e38])
def test_a_network_without_a_finite_answer_hands_the_picture_back_and_counts(tmp_path, light, size, caplog):
    """Its weights are finite, or it would not be read; its output is not."""
    network = small_network()
    network.ending.weight[1], network.ending.bias[1] = size, size
    path = tmp_path / "poisoned.pth"
    torch.save(network.state_dict(), path)
    restorer = load_restorer(path, device="cpu", precision="bf16")
    assert torch.equal(restorer(light), light)
    assert torch.equal(restorer(light), light)
    assert restorer.log.failed_tiles == 2
    assert "2 tiles left unchanged" in caplog.text


def test_weights_that_do_not_fit_are_named(tmp_path):
    state = small_network().state_dict()
    del state["encoders.1.0.conv2.weight"]
    path = tmp_path / "cut.pth"
    torch.save(state, path)
    with pytest.raises(UnreadableMedia, match=r"cut\.pth.*encoders\.1\.0\.conv2\.weight.*download it again"):
        load_restorer(path)


def without_channels(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"intro.weight": torch.zeros(0, 3, 3, 3)}


def with_fifty_stages(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {f"downs.{i}.weight": torch.zeros(1) for i in range(50)}


def of_another_shape(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.flatten() if "conv" in key else value for key, value in state.items()}


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("harm", [without_channels, with_fifty_stages, of_another_shape])
def test_an_impossible_network_is_refused_before_memory_is_asked_for(tmp_path, harm):
    path = tmp_path / "odd.pth"
    torch.save(harm(small_network().state_dict()), path)
    with pytest.raises(UnreadableMedia, match=r"odd\.pth: is a NAFNet whose weights do not fit \(.+\)"):
        load_restorer(path)


def test_half_precision_checkpoints_become_float32(tmp_path, light):
    path = tmp_path / "half.pth"
    torch.save({key: value.half() for key, value in small_network().state_dict().items()}, path)
    assert load_restorer(path, device="cpu", precision="fp32")(light).dtype == torch.float32


def forget_spandrel(monkeypatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "spandrel"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ImportError('No module named spandrel')", "No module named spandrel"),
        ("raise RuntimeError('operator torchvision::nms does not exist')", "torchvision::nms"),
    ],
    ids=["absent", "torchvision does not fit"],
)
def test_another_network_asks_for_spandrel(tmp_path, monkeypatch, source, reason):
    (tmp_path / "spandrel.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    forget_spandrel(monkeypatch)
    path = tmp_path / "other.pth"
    torch.save({"conv_first.weight": torch.ones(4, 3, 3, 3)}, path)
    with pytest.raises(FreezeframeError, match=rf"other\.pth.*{reason}.*pip install spandrel"):
        load_restorer(path)


def test_auto_takes_half_precision_only_where_it_is_computed():
    assert number_format(torch.device("cuda"), "auto") == torch.float16
    assert number_format(torch.device("mps"), "auto") == torch.float32
    assert number_format(CPU, "auto") in {torch.bfloat16, torch.float32}
    assert number_format(CPU, "fp32") == torch.float32
    with pytest.raises(FreezeframeError, match="fp16 needs a CUDA device"):
        number_format(CPU, "fp16")


def test_a_device_that_is_not_there_is_named():
    assert find_device("cpu") == CPU
    with pytest.raises(FreezeframeError, match=r"cuda:99.*use auto or cpu"):
        find_device("cuda:99")
    with pytest.raises(FreezeframeError, match="toaster"):
        find_device("toaster")
