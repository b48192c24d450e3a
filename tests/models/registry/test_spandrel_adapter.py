"""Architectures that spandrel reads, by spandrel itself where it can be imported; no test doubles."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
import torch

from freezeframe.data.errors import FreezeframeError, UnreadableMedia
from freezeframe.models.registry.architectures import read_network
from freezeframe.models.registry.spandrel_adapter import read_with_spandrel
from freezeframe.models.restorer.image_restorer import load_image_restorer


@pytest.fixture(scope="module")
def architectures() -> ModuleType:
    try:
        return importlib.import_module("spandrel.architectures")
    except (ImportError, RuntimeError) as error:
        return pytest.skip(f"spandrel cannot be imported here: {str(error).splitlines()[0]}")


def light(height: int = 40, width: int = 52) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def encode(light: torch.Tensor) -> torch.Tensor:
    """IEC 61966-2-1."""
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def decode(encoded: torch.Tensor) -> torch.Tensor:
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("scale", [1, 2])
def test_a_compact_network_restores_or_enlarges(architectures, tmp_path, scale):
    torch.manual_seed(1)
    module = architectures.Compact.Compact(num_feat=8, num_conv=2, upscale=scale).eval()
    torch.save({"params_ema": module.state_dict()}, tmp_path / "net.pth")
    network = read_network(tmp_path / "net.pth")
    assert (network.title, network.scale, network.channels) == ("RealESRGAN Compact", scale, 3)
    with torch.no_grad():
        expected = decode(module(encode(light())).clamp(0, 1))
    out = load_image_restorer(tmp_path / "net.pth", device="cpu", precision="fp32")(light())
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)
    tiled = load_image_restorer(tmp_path / "net.pth", device="cpu", precision="fp32", tile=32)(light(90, 70))
    whole = load_image_restorer(tmp_path / "net.pth", device="cpu", precision="fp32")(light(90, 70))
    assert (tiled - whole).abs().max() < 1 / 255


def test_a_network_for_grey_pictures_is_given_each_colour(architectures, tmp_path):
    torch.manual_seed(2)
    module = architectures.DnCNN.DnCNN(in_nc=1, out_nc=1, nc=8, nb=4).eval()
    torch.save(module.state_dict(), tmp_path / "net.pth")
    network = read_network(tmp_path / "net.pth")
    assert network.channels == 1
    with torch.no_grad():
        planes = [module(plane).clamp(0, 1) for plane in encode(light()).split(1, 1)]
    out = load_image_restorer(tmp_path / "net.pth", device="cpu", precision="fp32")(light())
    torch.testing.assert_close(out, decode(torch.cat(planes, 1)), atol=1e-5, rtol=0)


def test_the_size_rule_of_a_network_is_taken_over(architectures, tmp_path):
    torch.manual_seed(3)
    module = architectures.RetinexFormer.RetinexFormer(n_feat=8, stage=1)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    assert read_network(tmp_path / "net.pth").multiple == 8
    out = load_image_restorer(tmp_path / "net.pth", device="cpu", precision="fp32")(light(37, 51))
    assert out.shape == (1, 3, 37, 51)


def test_what_nobody_knows_is_one_sentence(architectures, tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"some.weight": torch.ones(4)}, path)
    with pytest.raises(UnreadableMedia, match=r"other\.pth: holds weights of no network that freezeframe or"):
        read_network(path)


def test_without_spandrel_the_cure_names_one_index_for_both(tmp_path, monkeypatch):
    """torch and torchvision from different package indexes are the most frequent failure."""
    import sys

    (tmp_path / "spandrel.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "spandrel"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(FreezeframeError) as error_info:
        read_with_spandrel({}, path=tmp_path / "other.pth")
    version, _, build = torch.__version__.partition("+")
    text = str(error_info.value)
    assert "torchvision::nms does not exist" in text
    assert f"torch=={version} torchvision" in text
    assert (f"--index-url https://download.pytorch.org/whl/{build}" if build else "pypi.org") in text
    assert "must come from one index" in text
    assert "\n" not in text
