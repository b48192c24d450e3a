"""Trainable restorers: the refiner, and small networks of other architectures at equal cost."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from freezeframe.models.deblur import refiner
from freezeframe.models.nets import nafnet
from freezeframe.models.nets.dual import model as dual
from freezeframe.models.nets.hair import model as hair
from freezeframe.models.nets.restormer import model as restormer
from freezeframe.models.nets.restormer.unet import NetConfig as UNetConfig
from freezeframe.models.nets.swinir import model as swinir
from freezeframe.models.registry.bundled import read_psf_estimator
from freezeframe.pipeline.config import Arch


class UnshuffledSwinIR(nn.Module):
    """A SwinIR on pixel-unshuffled images that predicts a residual.

    Without unshuffling a step takes a hundred times as long as for the other networks. The weights of a
    residual SwinIR fit no other program: the prefix `inner` keeps readers from taking them for a SwinIR's.
    """

    def __init__(self, config: swinir.NetConfig) -> None:
        super().__init__()
        self.inner = swinir.SwinIR(config)

    def forward(self, encoded: Tensor) -> Tensor:
        return encoded + self.correction(encoded)

    def correction(self, encoded: Tensor) -> Tensor:
        """The residual, [B, 3, H, W] encoded."""
        change: Tensor = self.inner(encoded) - encoded.new_tensor(swinir.MEAN)[:, None, None]
        return change


def _dual() -> nn.Module:
    return dual.Dual(dual.NetConfig())


def _hair() -> nn.Module:
    body = UNetConfig(dim=12, blocks=(1, 1, 2, 2), refinement=1, heads=(1, 1, 2, 4), reduce_latent=True)
    return _zero_init(
        hair.HAIR(hair.NetConfig(body=body, box_sizes=(3,) * 5, embedding_dim=32, encoder_width=24)), "output"
    )


def _nafnet() -> nn.Module:
    config = nafnet.NetConfig(width=16, encoders=(1, 1, 4), middle=6, decoders=(1, 1, 1))
    return _zero_init(nafnet.NAFNet(config), "ending")


def _restormer() -> nn.Module:
    return _zero_init(restormer.Restormer(UNetConfig(dim=16, blocks=(1, 1, 2, 2), refinement=1)), "output")


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
    """Set the last layer to zero, so that the initial network is the identity."""
    for weight in network.get_submodule(last).parameters():
        nn.init.zeros_(weight)
    return network


UNSHUFFLE = 4  # factor of SwinIR's pixel unshuffling; the inner resolution of the other networks is the same

ARCHITECTURES: dict[Arch, Callable[[], nn.Module]] = {
    "dual": _dual,
    "hair": _hair,
    "nafnet": _nafnet,
    "refiner": _refiner,
    "restormer": _restormer,
    "swinir": _swinir,
}
