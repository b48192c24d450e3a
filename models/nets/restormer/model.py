"""Restormer, attention between channels in a U-net (Zamir et al. 2022, arXiv 2111.09881).

Its attention costs as much per pixel for a large picture as for a small one, and looks at all of it. Released
for motion blur, defocus, rain and noise.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from freezeframe.models.imageops.padding import pad_to_multiple

from .unet import NetConfig, blocks, build_unet, count, decode, decoder_stages, encode, simplest_ratio

__all__ = ["DEBLUR", "DENOISE", "NetConfig", "Restormer", "infer_config", "load", "matches"]

DEBLUR = NetConfig()  # motion, defocus and rain: 26.13 million parameters
DENOISE = NetConfig(centred=False)  # Gaussian and real noise: norms without bias


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether these are the weights of a Restormer for RGB or grey pictures."""
    needed = ("patch_embed.proj.weight", "latent.0.attn.temperature", "refinement.0.ffn.dwconv.weight")
    if any(key not in state for key in needed) or "output.weight" not in state:
        return False
    inside, out = state["patch_embed.proj.weight"].shape[1], state["output.weight"].shape[0]
    return inside == out and inside in (1, 3)


def load(state: Mapping[str, Tensor]) -> Restormer:
    """The network that these weights belong to, in float32; RuntimeError names what does not fit."""
    # On the meta device a layout costs no memory, and no time for weights that are replaced at once.
    with torch.device("meta"):
        network = Restormer(infer_config(state))
    network.load_state_dict({key: value.float() for key, value in state.items()}, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def infer_config(state: Mapping[str, Tensor]) -> NetConfig:
    """The hyper-parameters, from the shapes and from the number of blocks that have keys."""
    early = [f"encoder_level{i + 1}" for i in range(count(state, "encoder_level"))]
    stages = [*early, "latent"]
    outs = (state[f"{stage}.0.ffn.project_out.weight"].shape for stage in [*stages, "refinement"])
    dim, channels = state["patch_embed.proj.weight"].shape[:2]
    return NetConfig(
        dim=dim,
        blocks=tuple(count(state, f"{stage}.") for stage in stages),
        refinement=count(state, "refinement."),
        heads=tuple(state[f"{stage}.0.attn.temperature"].shape[0] for stage in stages),
        expansion=simplest_ratio({out[0]: out[1] for out in outs}),
        channels=channels,
        centred="latent.0.norm1.body.bias" in state,
        reduce_latent="reduce_latent.weight" in state,
    )


class Restormer(nn.Module):
    """Restores sRGB-coded pictures of any size, [B, channels, H, W] in [0, 1], in place of the light given.

    Sides that do not divide by `multiple` are mirrored until they do. Attention is global, so tiles agree
    with the whole picture only where their content is alike (`restormer_layers.attend`).
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.multiple = config.multiple
        for name, module in build_unet(config).items():
            self.add_module(name, module)
        self.stage_names = tuple(decoder_stages(config))
        for name, (shape, number) in decoder_stages(config).items():
            self.add_module(name, blocks(shape, number))

    def forward(self, encoded: Tensor) -> Tensor:
        return encoded + self.correction(encoded)

    def correction(self, encoded: Tensor) -> Tensor:
        """What has to be added to `encoded`, in its number format."""
        features, skips = encode(self, pad_to_multiple(encoded, self.multiple))
        stages = {name: self.get_submodule(name) for name in self.stage_names}
        change = decode(self, features, skips, stages)
        return change[..., : encoded.shape[-2], : encoded.shape[-1]]
