"""The restorers that can be trained here: the shipped one, and small ones to compare at equal cost."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from freezeframe.models.deblur import refiner
from freezeframe.models.nets import nafnet
from freezeframe.models.nets.dual import model as dual
from freezeframe.models.nets.hair import model as hair
from freezeframe.models.nets.restormer import model as restormer
from freezeframe.models.nets.restormer.unet import Layout as Frame
from freezeframe.models.nets.swinir import model as swinir
from freezeframe.models.registry.bundled import read_estimator
from freezeframe.pipeline.config import Arch


class OnCells(nn.Module):
    """A SwinIR that sees squares of pixels as one, and whose answer is added to the picture.

    At full size a step takes a hundred times as long as one of the others' here. What it learns is a change,
    so that its weights serve nowhere else: their names say so, and no reader takes them for a SwinIR's.
    """

    def __init__(self, layout: swinir.Layout) -> None:
        super().__init__()
        self.inner = swinir.SwinIR(layout)

    def forward(self, codes: Tensor) -> Tensor:
        return codes + self.correction(codes)

    def correction(self, codes: Tensor) -> Tensor:
        """What has to be added to `codes`, [B, 3, H, W]."""
        change: Tensor = self.inner(codes) - codes.new_tensor(swinir.MEAN)[:, None, None]
        return change


def _dual() -> nn.Module:
    return dual.Dual(dual.Layout())


def _hair() -> nn.Module:
    body = Frame(dim=12, blocks=(1, 1, 2, 2), refinement=1, heads=(1, 1, 2, 4), reduced=True)
    return _still(hair.HAIR(hair.Layout(body=body, boxes=(3,) * 5, described=32, sensed=24)), "output")


def _nafnet() -> nn.Module:
    layout = nafnet.Layout(width=16, encoders=(1, 1, 4), middle=6, decoders=(1, 1, 1))
    return _still(nafnet.NAFNet(layout), "ending")


def _restormer() -> nn.Module:
    return _still(restormer.Restormer(Frame(dim=16, blocks=(1, 1, 2, 2), refinement=1)), "output")


def _swinir() -> nn.Module:
    layout = swinir.Layout(
        dim=60, depths=(6,) * 4, heads=(6,) * 4, unshuffle=CELL, enlarging="pixelshuffledirect"
    )
    return _still(OnCells(layout), "inner.upsample.0")


def _refiner() -> nn.Module:
    made = refiner.Refiner(refiner.Layout())
    made.blur = read_estimator()
    return made


def _still(network: nn.Module, last: str) -> nn.Module:
    """The network with nothing in its last layer: like the others it begins by changing nothing."""
    for weight in network.get_submodule(last).parameters():
        nn.init.zeros_(weight)
    return network


CELL = 4  # pixels on a side that SwinIR sees as one: the others' middles see as many

ARCHITECTURES: dict[Arch, Callable[[], nn.Module]] = {
    "dual": _dual,
    "hair": _hair,
    "nafnet": _nafnet,
    "refiner": _refiner,
    "restormer": _restormer,
    "swinir": _swinir,
}
