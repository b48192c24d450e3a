"""Gain of deconvolution and network on held-out rendered clips, selected to be hard; and inside their movers.

The selection: from seed HELD_OUT_SEED + 10^6 on (validation uses the first thousands after HELD_OUT_SEED),
every clip of several frames with independent motion on at least 1 % of the middle frame, with photon noise,
with H.264 or JPEG compression, and with enough detail. The first 24. The motion is measured; the shutter
fraction has the error that training assumes (up to 15 %). Inside: pixels weighted by the largest alpha of
the movers during the exposure.

Run: python -m benchmarks.accuracy.heldout [--weights FILE] [--clips 24]   (needs ../shared/data; minutes)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from freezeframe.data.metrics.image import psnr_srgb
from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.clips.clips import (
    SINGLE_PHOTO_PROBABILITY,
    SynthClip,
    load_pictures,
    synth_clip,
)
from freezeframe.data.synthesis.clips.random_scene import random_scene
from freezeframe.data.synthesis.degradations.camera_isp import Camera
from freezeframe.models.deblur.fusion_net import FRAME, FUSED
from freezeframe.models.registry.bundled import WEIGHTS, FusionInference, read_network
from freezeframe.models.runtime.fusion import build_inference
from freezeframe.pipeline.config import FuseConfig
from freezeframe.pipeline.stages.fusion_network import residual_scale
from freezeframe.pipeline.training.fusion_data import (
    FRAME_SIZE_PX,
    HELD_OUT_SEED,
    MIN_GRADIENT,
    make_sample,
    mean_gradient,
    split_sample,
)
from freezeframe.pipeline.training.fusion_validation import masked_psnr

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "train"
FIRST = HELD_OUT_SEED + 10**6
MIN_MOVING_FRACTION = 0.01  # smallest fraction of the middle frame with independent motion
HEADER = (
    "| seed - 10^9 | clip | input | deconvolution | network | input inside | deconvolution | network |\n"
    "|---|---|---|---|---|---|---|---|"
)
MIN_GAINS_DB = (2.0, 1.5)  # required gain in dB over the input, and over deconvolution alone


def accepts_seed(seed: int, pictures: Sequence[SrgbImage]) -> bool:
    """Whether the first random draws of `synth_clip` fit the selection; rendering takes far longer."""
    rng = np.random.default_rng((seed, 1))
    scene = random_scene(rng, pictures, side=FRAME_SIZE_PX).scene
    camera = Camera.random(rng)
    return (
        rng.random() >= SINGLE_PHOTO_PROBABILITY
        and is_noisy_and_compressed(camera)
        and has_movers(scene.movers(0.0))
    )


def accepts_clip(clip: SynthClip) -> bool:
    several = len(clip.frames) > 1
    return (
        several
        and is_noisy_and_compressed(clip.camera)
        and has_movers(clip.movers(clip.middle))
        and mean_gradient(clip.truth) >= MIN_GRADIENT
    )


def is_noisy_and_compressed(camera: Camera) -> bool:
    return camera.shot > 0 and (camera.h264 is not None or camera.jpeg is not None)


def has_movers(movers: Tensor) -> bool:
    return bool((movers > 0.5).float().mean() > MIN_MOVING_FRACTION)


def clips(pictures: Sequence[SrgbImage]) -> Iterator[tuple[int, SynthClip]]:
    for seed in count(FIRST):
        if accepts_seed(seed, pictures):
            clip = synth_clip(seed, pictures, side=FRAME_SIZE_PX)
            if accepts_clip(clip):
                yield seed, clip


def scores(seed: int, clip: SynthClip, network: FusionInference) -> tuple[float, ...]:
    """PSNR of the middle frame in dB: recorded, deconvolved, and with the network; then the same inside."""
    deconvolved_sample, network_sample = (
        torch.from_numpy(make_sample(clip, seed=seed, config=config).astype(np.float32))
        for config in (FuseConfig(network="none"), FuseConfig())
    )
    network_input, truth, movers = (part[0] for part in split_sample(network_sample[None]))
    restored = network_input[FUSED] + residual_scale(network_input) * network(network_input[None])[0]
    images = (network_input[FRAME], deconvolved_sample[FUSED], restored)
    return (
        *(psnr_srgb(quantize(image), quantize(truth)) for image in images),
        *(masked_psnr(image, truth, movers) for image in images),
    )


def quantize(image: Tensor) -> SrgbImage:
    rounded: SrgbImage = (image.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).contiguous().numpy()
    return rounded


def describe_clip(clip: SynthClip) -> str:
    camera = clip.camera
    codec = f"H.264 {camera.h264}" if camera.h264 is not None else f"JPEG {camera.jpeg}"
    return f"{codec}, read noise {camera.read:.4f}, shutter {clip.exposure.shutter:.2f}"


def format_cells(start: float, fused: float, network_psnr: float) -> str:
    return f"{start:.2f} | {fused - start:+.2f} | {network_psnr - start:+.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--clips", type=int, default=24)
    args = parser.parse_args()
    network = build_inference(read_network(args.weights), device="cpu")
    rows = []
    print(HEADER, flush=True)
    for seed, clip in islice(clips(load_pictures(PHOTOS)), args.clips):
        rows.append(scores(seed, clip, network))
        cells = " | ".join(format_cells(*part) for part in (rows[-1][:3], rows[-1][3:]))
        print(f"| {seed - HELD_OUT_SEED} | {describe_clip(clip)} | {cells} |", flush=True)
    start, fused, network_psnr, *inside = np.array(rows).T
    print(
        f"\n{len(rows)} clips, input {start.mean():.2f} dB: deconvolution {(fused - start).mean():+.2f} dB,"
        f" network {(network_psnr - start).mean():+.2f} dB (floor {MIN_GAINS_DB[0]:+.1f}),"
        f" worst clip {(network_psnr - start).min():+.2f} dB,"
        f" network over deconvolution {(network_psnr - fused).mean():+.2f} dB (floor {MIN_GAINS_DB[1]:+.1f})"
        f"\ninside the movers, input {inside[0].mean():.2f} dB: deconvolution"
        f" {(inside[1] - inside[0]).mean():+.2f} dB, network {(inside[2] - inside[0]).mean():+.2f} dB"
    )


if __name__ == "__main__":
    main()
