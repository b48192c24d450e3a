"""Restormer, attention across channels in a U-net (Zamir et al. 2022, arXiv 2111.09881).

Its attention is global, at a cost linear in pixels. Released for motion blur, defocus, rain and noise.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from freezeframe.models.imageops.padding import pad_to_multiple
from freezeframe.models.nets.state import load_network, simplest_ratio
from freezeframe.models.store.state_dict import count_keys

from .unet import NetConfig, blocks, build_unet, decode, decoder_stages, encode

__all__ = ["DEBLUR", "DENOISE", "NetConfig", "Restormer", "infer_config", "load", "matches"]

DEBLUR = NetConfig()  # motion, defocus and rain: 26.13 million parameters
DENOISE = NetConfig(centred=False)  # Gaussian and real noise: norms without bias


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether the weights are those of a Restormer for RGB or grey images."""
    needed = ("patch_embed.proj.weight", "latent.0.attn.temperature", "refinement.0.ffn.dwconv.weight")
    if any(key not in state for key in needed) or "output.weight" not in state:
        return False
    channels, out = state["patch_embed.proj.weight"].shape[1], state["output.weight"].shape[0]
    return channels == out and channels in (1, 3)


def load(state: Mapping[str, Tensor]) -> Restormer:
    """Load the network with these weights, in float32.

    Raises:
        RuntimeError: A key is missing or unexpected, or a shape differs; the message names it.
    """
    return load_network(lambda: Restormer(infer_config(state)), state)


def infer_config(state: Mapping[str, Tensor]) -> NetConfig:
    """Infer the hyper-parameters from the shapes and the number of blocks with keys."""
    early = [f"encoder_level{i + 1}" for i in range(count_keys(state, "encoder_level"))]
    stages = [*early, "latent"]
    outs = (state[f"{stage}.0.ffn.project_out.weight"].shape for stage in [*stages, "refinement"])
    dim, channels = state["patch_embed.proj.weight"].shape[:2]
    return NetConfig(
        dim=dim,
        blocks=tuple(count_keys(state, f"{stage}.") for stage in stages),
        refinement=count_keys(state, "refinement."),
        heads=tuple(state[f"{stage}.0.attn.temperature"].shape[0] for stage in stages),
        expansion=simplest_ratio({out[0]: out[1] for out in outs}),
        channels=channels,
        centred="latent.0.norm1.body.bias" in state,
        reduce_latent="reduce_latent.weight" in state,
    )


class Restormer(nn.Module):
    """Restore sRGB-encoded images of any size, [B, channels, H, W] in [0, 1]; the result is not clamped.

    Sides are reflect-padded to a multiple of `multiple`. Attention is global, so a tile agrees with the
    whole image only where their contents are alike (`layers.attend`).
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
        """Compute the residual to add to `encoded`, in its number format."""
        features, skips = encode(self, pad_to_multiple(encoded, self.multiple))
        stages = {name: self.get_submodule(name) for name in self.stage_names}
        change = decode(self, features, skips, stages)
        return change[..., : encoded.shape[-2], : encoded.shape[-1]]
