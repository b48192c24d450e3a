"""Every architecture end to end: a checkpoint of random weights restores a photo.

DreamClear, which is no single file, runs end to end in `tests/models/nets/dreamclear/test_pipeline.py`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from freezeframe.cli import app
from freezeframe.models.nets import nafnet
from freezeframe.models.nets.dual import model as dual
from freezeframe.models.nets.hair import model as hair
from freezeframe.models.nets.restormer import model as restormer
from freezeframe.models.nets.swinir import model as swinir
from freezeframe.models.nets.varformer import config as varformer_config
from freezeframe.models.nets.varformer import model as varformer
from freezeframe.models.nets.varformer.tokenizer import TokenizerConfig
from freezeframe.models.nets.varformer.var_transformer import VarConfig

_BODY = restormer.NetConfig(
    dim=4, blocks=(1, 1, 1, 2), refinement=1, heads=(1, 2, 2, 4), expansion=2.5, reduce_latent=True
)
_CODES = TokenizerConfig(width=32, multiples=(1, 1, 2, 2, 4), blocks=1, latent=8)


def _varformer() -> nn.Module:
    config = varformer_config.NetConfig(
        convolutions=_CODES,
        transformer=VarConfig(width=32, heads=4, blocks=3, cross_blocks=2, classes=5),
        vocab_size=24,
        scales=(1, 2, 4),
        enhance=1,
        decoder_blocks=(2, 1),
        encoder_guides=varformer_config.guides(
            _CODES, side=64, heads=4, select=(32,) * 5, blend=(48, 48, 96, 96, 64)
        ),
        decoder_guides=varformer_config.guides(
            _CODES, side=64, heads=2, select=(16, 16, 32, 32, 64), blend=(64, 64, 128, 128, 256)
        ),
    )
    return varformer.VarFormer(config)


SYSTEMS = {
    "NAFNet": lambda: nafnet.NAFNet(nafnet.NetConfig(width=4, encoders=(1,), middle=1, decoders=(1,))),
    "Restormer": lambda: restormer.Restormer(_BODY),
    "SwinIR": lambda: swinir.SwinIR(swinir.NetConfig(dim=8, depths=(2, 2), heads=(2, 4), window=4)),
    "HAIR": lambda: hair.HAIR(
        hair.NetConfig(body=_BODY, box_sizes=(3, 2, 4, 2, 3), embedding_dim=16, encoder_width=6)
    ),
    "dual transformers": lambda: dual.Dual(dual.NetConfig(width=8, blocks=2, heads=2, estimate=8, layers=1)),
    "VarFormer": _varformer,
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_photo_goes_through_every_system(name, tmp_path):
    network, generator = SYSTEMS[name]().requires_grad_(False), torch.Generator().manual_seed(0)
    for value in network.parameters():
        value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    state = network.state_dict()
    torch.save(
        {"params": varformer_config.to_published_keys(state) if name == "VarFormer" else state},
        tmp_path / "w.pth",
    )
    pixels = np.random.default_rng(0).integers(60, 190, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    arguments = ["restore", tmp_path / "in.png", tmp_path / "out.png", "--model", tmp_path / "w.pth"]
    result = CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu", "--precision", "fp32"])
    assert result.exit_code == 0, result.output
    restored = np.asarray(Image.open(tmp_path / "out.png"))
    assert restored.shape == pixels.shape
    assert (restored != pixels).any(), "random weights change every picture"
