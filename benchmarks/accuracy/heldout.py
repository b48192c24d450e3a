"""What network and physics gain on rendered clips that no training saw, chosen to be hard.

The choice: from seed HELD_OUT + 10^6 on (training's own trials look at the first thousands after HELD_OUT),
every clip of several frames with something that moves by itself on at least a hundredth of the middle frame,
with photon or read noise, and with H.264 or JPEG compression; without detail, as in training, none. The first
24. The motion is measured, the shutter fraction given with the error that training assumes (up to 15 %).

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

from freezeframe.data.metrics.image import Codes, psnr_codes
from freezeframe.data.synthesis.clips.clips import SINGLE, SynthClip, pictures_in, synth_clip
from freezeframe.data.synthesis.clips.random_scene import random_scene
from freezeframe.data.synthesis.degradations.camera_isp import Camera
from freezeframe.models.deblur.fusion_net import CHANNELS, FRAME, FUSED
from freezeframe.models.registry.bundled import WEIGHTS, Network, read_network
from freezeframe.models.runtime.engine import engine
from freezeframe.pipeline.config import FuseConfig
from freezeframe.pipeline.stages.fusion_network import share_of
from freezeframe.pipeline.training.fusion_data import DETAIL, HELD_OUT, SIDE, detail, sample

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "train"
FIRST = HELD_OUT + 10**6
LEAST = 0.01  # of the middle frame that must move by itself
FLOORS = (2.0, 1.5)  # dB over the input, over the weightless path


def promising(seed: int, pictures: Sequence[Codes]) -> bool:
    """Whether the draws with which `synth_clip` begins fit the choice; rendering takes far longer."""
    rng = np.random.default_rng((seed, 1))
    scene = random_scene(rng, pictures, side=SIDE).scene
    camera = Camera.by_chance(rng)
    return rng.random() >= SINGLE and hard(camera) and moving(scene.movers(0.0))


def chosen(clip: SynthClip) -> bool:
    several = len(clip.frames) > 1
    return several and hard(clip.camera) and moving(clip.movers(clip.middle)) and detail(clip.truth) >= DETAIL


def hard(camera: Camera) -> bool:
    return camera.shot > 0 and (camera.h264 is not None or camera.jpeg is not None)


def moving(movers: Tensor) -> bool:
    return bool((movers > 0.5).float().mean() > LEAST)


def clips(pictures: Sequence[Codes]) -> Iterator[tuple[int, SynthClip]]:
    for seed in count(FIRST):
        if promising(seed, pictures):
            clip = synth_clip(seed, pictures, side=SIDE)
            if chosen(clip):
                yield seed, clip


def scores(seed: int, clip: SynthClip, network: Network) -> tuple[float, float, float]:
    """PSNR of the middle frame: as recorded, by physics alone, with the network."""
    alone, seen = (
        torch.from_numpy(sample(clip, seed=seed, config=config).astype(np.float32))
        for config in (FuseConfig(network="none"), FuseConfig())
    )
    evidence, truth = seen[:CHANNELS], seen[CHANNELS:]
    mended = evidence[FUSED] + share_of(evidence) * network(evidence[None])[0]
    given, fused, ours = (
        psnr_codes(codes(each), codes(truth)) for each in (evidence[FRAME], alone[FUSED], mended)
    )
    return given, fused, ours


def codes(image: Tensor) -> Codes:
    rounded: Codes = (image.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).contiguous().numpy()
    return rounded


def told(clip: SynthClip) -> str:
    camera = clip.camera
    coded = f"H.264 {camera.h264}" if camera.h264 is not None else f"JPEG {camera.jpeg}"
    return f"{coded}, read noise {camera.read:.4f}, shutter {clip.exposed.shutter:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--clips", type=int, default=24)
    given = parser.parse_args()
    network = engine(read_network(given.weights), device="cpu")
    found = []
    print("| seed - 10^9 | clip | input | physics | network |\n|---|---|---|---|---|", flush=True)
    for seed, clip in islice(clips(pictures_in(PHOTOS)), given.clips):
        found.append(scores(seed, clip, network))
        start, fused, ours = found[-1]
        figures = f"{start:.2f} | {fused - start:+.2f} | {ours - start:+.2f}"
        print(f"| {seed - HELD_OUT} | {told(clip)} | {figures} |", flush=True)
    start, fused, ours = np.array(found).T
    print(
        f"\n{len(found)} clips, input {start.mean():.2f} dB: physics alone {(fused - start).mean():+.2f} dB,"
        f" network {(ours - start).mean():+.2f} dB (floor {FLOORS[0]:+.1f}),"
        f" worst clip {(ours - start).min():+.2f} dB,"
        f" network over physics {(ours - fused).mean():+.2f} dB (floor {FLOORS[1]:+.1f})"
    )


if __name__ == "__main__":
    main()
