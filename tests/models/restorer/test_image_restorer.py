"""Restoration of whole images: invariance under tiles, colours, scales and number formats."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from freezeframe.data.errors import FreezeframeError
from freezeframe.models.imageops.upscale import upsample
from freezeframe.models.nets.nafnet import NAFNet, NetConfig
from freezeframe.models.registry.architectures import Network, read_network
from freezeframe.models.restorer.image_restorer import ImageRestorer, build_image_restorer
from freezeframe.models.runtime.backends import format_for
from freezeframe.models.runtime.memory import bytes_per_pixel, free_bytes, max_tile_side

CPU = torch.device("cpu")


def light(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def encode(light: Tensor) -> Tensor:
    """IEC 61966-2-1."""
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def decode(encoded: Tensor) -> Tensor:
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


class Local(nn.Module):
    """Three convolutions and a pixel shuffle by `scale`: a receptive field of radius 3 pixels."""

    def __init__(self, channels: int = 3, *, scale: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(8, channels * scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
        )
        self.scale = scale
        self.input_sizes: list[tuple[int, int]] = []
        generator = torch.Generator().manual_seed(1)
        for value in self.requires_grad_(False).parameters():
            value.copy_(0.15 * torch.randn(value.shape, generator=generator))

    def forward(self, encoded: Tensor) -> Tensor:
        self.input_sizes.append((encoded.shape[-2], encoded.shape[-1]))
        grown = interpolate(encoded, scale_factor=self.scale, mode="nearest")
        change: Tensor = self.layers(encoded)
        return grown + change


def restorer(module: nn.Module, *, tile: int = 4096, **facts: object) -> ImageRestorer:
    network = Network(title="Test", module=module, **facts)
    return build_image_restorer(network, device="cpu", precision="fp32", tile=tile)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_the_network_sees_codes_and_the_caller_light(scale):
    module, image = Local(scale=scale), light(20, 31)
    expected = decode(module(encode(image)).clamp(0, 1))
    grown = upsample(image, scale)
    assert (expected - grown).abs().max() > 0.05, "the network changes nothing: nothing is tested"
    # Rounding of the curves in float32.
    torch.testing.assert_close(restorer(module, scale=scale)(image), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("tile", [96, 200])
@pytest.mark.parametrize(("scale", "channels"), [(1, 3), (2, 3), (1, 1)])
def test_any_tile_gives_the_same_picture(scale, channels, tile):
    module, image = Local(channels, scale=scale), light(150, 213)
    whole = restorer(module, scale=scale, channels=channels)(image)
    tiled = restorer(module, scale=scale, channels=channels, tile=tile)(image)
    assert whole.shape[-2:] == (150 * scale, 213 * scale)
    # The radius is 3 px, a quarter of the overlap is 16: only the order of sums differs, far below 1/255.
    torch.testing.assert_close(tiled, whole, atol=2e-5, rtol=0)


def test_no_change_is_no_change_to_the_last_bit():
    class Idle(nn.Module):
        def correction(self, encoded: Tensor) -> Tensor:
            return torch.zeros_like(encoded)

    image = 3 * light(40, 50) - 0.5
    assert torch.equal(restorer(Idle(), tile=32)(image), image)


@pytest.mark.parametrize("scale", [1, 2])
def test_light_beyond_the_codes_range_is_kept(scale):
    """A highlight of 7 is restored as 1 and keeps the 6 above it, also when upscaled."""
    image = 0.5 * light(24, 24)
    image[..., 4:20, 4:20] = 1
    brighter = image.clone()
    brighter[..., 4:20, 4:20] = 7
    run = restorer(Local(scale=scale), scale=scale)
    gained = (run(brighter) - run(image))[..., 8 * scale : 16 * scale, 8 * scale : 16 * scale]
    torch.testing.assert_close(gained, torch.full_like(gained, 6), atol=1e-5, rtol=0)


def test_a_network_for_grey_restores_every_colour_as_a_grey_picture():
    module, image = Local(1), light(20, 30)
    run = restorer(module, channels=1)
    expected = [decode(module(encode(plane)).clamp(0, 1)) for plane in image.split(1, 1)]
    torch.testing.assert_close(run(image), torch.cat(expected, 1), atol=1e-5, rtol=0)


def test_a_grey_picture_stays_grey_and_is_computed_once():
    module, image = Local(1), light(20, 30)[:, :1].expand(-1, 3, -1, -1)
    out = restorer(module, channels=1)(image)
    assert len(module.input_sizes) == 1
    assert torch.equal(out[:, 0], out[:, 1])
    assert torch.equal(out[:, 0], out[:, 2])


class Evening(nn.Module):
    """Shifts the mean of the image to 0.5, which a tile alone does not determine."""

    def __init__(self) -> None:
        super().__init__()
        self.embedded_sizes: list[tuple[int, int]] = []

    def degradation(self, encoded: Tensor) -> Tensor:
        self.embedded_sizes.append((encoded.shape[-2], encoded.shape[-1]))
        return encoded.mean((1, 2, 3))[:, None]

    def correction(self, encoded: Tensor, *, degradation: Tensor | None = None) -> Tensor:
        embedding = self.degradation(encoded) if degradation is None else degradation
        return (0.5 - embedding[..., None, None]).expand_as(encoded)


def dark_and_bright(height: int, width: int) -> Tensor:
    image = torch.full((1, 3, height, width), 0.1)
    image[..., width // 2 :] = 0.3
    return image


@pytest.mark.parametrize("tile", [64, 96, 4096])
def test_what_is_known_of_the_whole_picture_is_computed_once_and_shared_by_all_tiles(tile):
    module, image = Evening(), dark_and_bright(150, 260)
    out = restorer(module, tile=tile, has_global_context=True)(image)
    assert module.embedded_sizes == [(150, 260)]
    encoded = encode(image)
    torch.testing.assert_close(encode(out), encoded + 0.5 - encoded.mean(), atol=1e-5, rtol=0)


def test_statistics_of_a_large_picture_come_from_the_same_squares_for_any_tile():
    image = dark_and_bright(1100, 1300)
    outs = []
    for tile in (512, 1024):
        module = Evening()
        outs.append(restorer(module, tile=tile, has_global_context=True)(image))
        assert set(module.embedded_sizes) == {(512, 512)}
        assert len(module.embedded_sizes) == 9
    torch.testing.assert_close(outs[0], outs[1], atol=1e-6, rtol=0)
    # Evenly spread crops cover as much of the dark half as of the bright one.
    assert float(encode(outs[0]).mean()) == pytest.approx(0.5, abs=0.02)


def test_tiles_start_and_stop_at_multiples_of_the_networks_grid():
    """A window of 7 that starts elsewhere contains other pixels than in the whole image."""
    module = Local()
    restorer(module, tile=200, multiple=7)(light(300, 500))
    heights, widths = {height for height, _ in module.input_sizes}, {width for _, width in module.input_sizes}
    assert heights | widths <= {196, 300 % 7 + 196, *(side for side in heights | widths if side < 196)}
    assert max(heights | widths) == 196
    inner = [side for side in heights | widths if side % 7]
    assert all((300 - side) % 7 == 0 or (500 - side) % 7 == 0 for side in inner), "only the last tiles"


def test_a_tile_that_is_halved_stays_on_the_grid():
    class Small(Local):
        def forward(self, encoded: Tensor) -> Tensor:
            self.input_sizes.append((encoded.shape[-2], encoded.shape[-1]))
            if encoded.shape[-1] * encoded.shape[-2] > 120**2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return encoded

    module = Small()
    restorer(module, tile=399, multiple=7)(light(630, 630))
    assert [side for side, _ in module.input_sizes if side > 120] == [399, 196], "399 / 2 is no multiple of 7"
    assert max(side for side, _ in module.input_sizes[2:]) == 98


@pytest.mark.parametrize("size", [(64, 64), (40, 100), (150, 130)], ids=str)
def test_a_network_of_one_size_sees_no_other(size):
    module, image = Local(), light(*size)
    out = restorer(module, side=64)(image)
    assert set(module.input_sizes) == {(64, 64)}
    inner = (..., slice(4, -4), slice(4, -4))
    whole = restorer(module)(image)
    # A smaller image is padded by its last row, of which the receptive field covers 3 px.
    torch.testing.assert_close(out[inner], whole[inner], atol=2e-5, rtol=0)


class Fussy(nn.Module):
    """NaN in half precision, or always."""

    def __init__(self, *, always: bool = False) -> None:
        super().__init__()
        self.always = always

    def correction(self, encoded: Tensor) -> Tensor:
        half = torch.is_autocast_enabled("cpu")
        return torch.full_like(encoded, torch.nan if half or self.always else 0.1)


def test_what_overflows_is_computed_again_in_fp32():
    network = Network(title="Fussy", module=Fussy())
    run = build_image_restorer(network, device="cpu", precision="bf16", tile=64)
    image = 0.5 * light(20, 20)
    torch.testing.assert_close(encode(run(image)), encode(image) + 0.1, atol=1e-5, rtol=0)
    assert run.log.failed_tiles == 0


def test_without_a_finite_answer_the_picture_passes_and_is_counted(caplog):
    run = restorer(Fussy(always=True), tile=64)
    image = light(20, 20)
    assert torch.equal(run(image), image)
    assert run.log.failed_tiles == 1
    assert "1 tiles left unchanged" in caplog.text


def test_bf16_changes_a_twentieth_of_the_change_at_most():
    module, image = Local(), light(30, 30)
    exact = restorer(module)(image)
    rough = build_image_restorer(Network(title="T", module=module), device="cpu", precision="bf16", tile=64)(
        image
    )
    assert 0 < (rough - exact).abs().max() < 0.05 * (exact - image).abs().max()


def test_fp16_is_refused_where_it_overflows_and_auto_goes_round_it():
    cuda = torch.device("cuda")
    swin, naf = (Network(title="SwinIR", module=nn.Identity(), fp16=fits) for fits in (False, True))
    with pytest.raises(FreezeframeError, match=r"SwinIR overflows in it.*use bf16 or auto"):
        format_for(swin, cuda, "fp16")
    assert format_for(swin, cuda, "auto") in {torch.bfloat16, torch.float32}
    assert format_for(naf, cuda, "auto") == torch.float16
    assert format_for(swin, cuda, "bf16") == torch.bfloat16


def test_memory_is_counted_without_computing():
    """A convolution holds its input and its output: 3 + 16 numbers of 4 bytes per pixel."""
    layers = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 1))
    assert bytes_per_pixel(layers[0]) == 4 * (3 + 16)
    # While ReLU runs, its input and its output are alive, and so is the image of the caller.
    assert bytes_per_pixel(layers) == 4 * (3 + 16 + 16)


def test_a_wider_network_takes_more_memory_and_gets_smaller_tiles():
    narrow, wide = (NAFNet(NetConfig(width=w, encoders=(1,), middle=1, decoders=(1,))) for w in (8, 64))
    assert bytes_per_pixel(wide) > 6 * bytes_per_pixel(narrow)
    sides = [max_tile_side(need, CPU, multiple=7) for need in (1e3, 1e6, 1e9)]
    assert sides == sorted(sides, reverse=True)
    assert all(side % 7 == 0 for side in sides)
    assert free_bytes(CPU) > 0


def test_a_checkpoint_becomes_a_network_that_says_what_it_asks(tmp_path):
    module = NAFNet(NetConfig(width=8, encoders=(1, 1), middle=1, decoders=(1, 1)))
    torch.save({"params": module.state_dict()}, tmp_path / "net.pth")
    network = read_network(tmp_path / "net.pth")
    assert (network.title, network.channels, network.scale, network.multiple) == ("NAFNet", 3, 1, 4)
    run = build_image_restorer(network, device="cpu", precision="fp32")
    run(light(20, 20))
    assert run.tile is None, "a small picture is not worth counting memory for"
    run(light(300, 260))
    assert run.tile % 4 == 0
