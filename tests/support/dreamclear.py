"""A DreamClear of two controlled blocks, and what it takes."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from freezeframe.models.nets.dreamclear.controlnet import Conditions, ControlConfig, Crossing, DreamClearNet
from freezeframe.models.nets.dreamclear.pipeline import NetConfig
from freezeframe.models.nets.dreamclear.pixart_dit import Caption, PixArtConfig

from .weights import normal

Net = TypeVar("Net", bound=nn.Module)

SIZES = PixArtConfig(width=144, depth=3, patch=2, latent=4, caption=(6, 10), grid=4)
TINY = NetConfig(transformer=SIZES, control=ControlConfig(blocks=2, modulator=12, experts=3, gate=8))


def randomised(network: Net, *, scale: float = 0.1) -> Net:
    """Draw every parameter and every buffer: the embedding of no caption is a buffer, and zero at first."""
    for i, value in enumerate((*network.parameters(), *network.buffers())):
        value.requires_grad_(False).copy_(scale * normal(*value.shape, seed=i))
    return network.eval()


def tiny_network(*, crossing: Crossing = "correct") -> DreamClearNet:
    return randomised(DreamClearNet(SIZES, TINY.control, crossing=crossing)).double()


def make_caption(batch: int = 1, *, tokens: int = 4, seed: int = 5) -> Caption:
    """Random features of `tokens` tokens, and padding up to six."""
    present = torch.arange(6).expand(batch, -1) < tokens
    return Caption(features=normal(batch, 6, 10, seed=seed), present=present)


def make_conditions(side: int = 8, *, batch: int = 1, seed: int = 7) -> Conditions:
    degraded, coarse = (normal(batch, 4, side, side, seed=seed + i) for i in range(2))
    return Conditions(degraded=degraded, coarse=coarse, caption=make_caption(batch))
