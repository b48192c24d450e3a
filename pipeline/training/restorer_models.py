"""The restorers that can be trained here: the shipped one, and small ones to compare at equal cost."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from freezeframe.models.deblur import refiner
from freezeframe.models.nets import nafnet
from freezeframe.models.nets.dual import model as dual
from freezeframe.models.nets.hair import model as hair
from freezeframe.models.nets.restormer import model as restormer
from freezeframe.models.nets.restormer.unet import NetConfig as Frame
from freezeframe.models.nets.swinir import model as swinir
from freezeframe.models.registry.bundled import read_psf_estimator
from freezeframe.pipeline.config import Arch


class UnshuffledSwinIR(nn.Module):
    """A SwinIR that sees squares of pixels as one, and whose answer is added to the picture.

    At full size a step takes a hundred times as long as one of the others' here. What it learns is a change,
    so that its weights serve nowhere else: their names say so, and no reader takes them for a SwinIR's.
    """

    def __init__(self, config: swinir.NetConfig) -> None:
        super().__init__()
        self.inner = swinir.SwinIR(config)

    def forward(self, codes: Tensor) -> Tensor:
        return codes + self.correction(codes)

    def correction(self, codes: Tensor) -> Tensor:
        """What has to be added to `codes`, [B, 3, H, W]."""
        change: Tensor = self.inner(codes) - codes.new_tensor(swinir.MEAN)[:, None, None]
        return change


def _dual() -> nn.Module:
    return dual.Dual(dual.NetConfig())


def _hair() -> nn.Module:
    body = Frame(dim=12, blocks=(1, 1, 2, 2), refinement=1, heads=(1, 1, 2, 4), reduce_latent=True)
    return _zero_init(
        hair.HAIR(hair.NetConfig(body=body, box_sizes=(3,) * 5, embedding_dim=32, encoder_width=24)), "output"
    )


def _nafnet() -> nn.Module:
    config = nafnet.NetConfig(width=16, encoders=(1, 1, 4), middle=6, decoders=(1, 1, 1))
    return _zero_init(nafnet.NAFNet(config), "ending")


def _restormer() -> nn.Module:
    return _zero_init(restormer.Restormer(Frame(dim=16, blocks=(1, 1, 2, 2), refinement=1)), "output")


def _swinir() -> nn.Module:
    config = swinir.NetConfig(
        dim=60, depths=(6,) * 4, heads=(6,) * 4, unshuffle=UNSHUFFLE, upsampler="pixelshuffledirect"
    )
    return _zero_init(UnshuffledSwinIR(config), "inner.upsample.0")


def _refiner() -> nn.Module:
    network = refiner.Refiner(refiner.NetConfig())
    network.blur = read_psf_estimator()
    return network


def _zero_init(network: nn.Module, last: str) -> nn.Module:
    """The network with nothing in its last layer: like the others it begins by changing nothing."""
    for weight in network.get_submodule(last).parameters():
        nn.init.zeros_(weight)
    return network


UNSHUFFLE = 4  # pixels on a side that SwinIR sees as one: the others' middles see as many

ARCHITECTURES: dict[Arch, Callable[[], nn.Module]] = {
    "dual": _dual,
    "hair": _hair,
    "nafnet": _nafnet,
    "refiner": _refiner,
    "restormer": _restormer,
    "swinir": _swinir,
}
