"""Gain on photographs in uniform motion, blurred by 6 to 16 pixels, with true and with measured blur vectors.

Run: python -m benchmarks.accuracy.known_motion   (needs ../shared/data; about a minute on two cores)
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from freezeframe.data.media.photo.files import read_photo
from freezeframe.data.metrics.image import psnr
from freezeframe.data.synthesis.scene2d.layered_scene import Layer, Scene
from freezeframe.data.synthesis.scene2d.motion import translation
from freezeframe.data.types import Clip, Motion
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.pipeline.config import FuseConfig
from freezeframe.pipeline.stages.flows import ChainedFlows, adjacent_flows
from freezeframe.pipeline.stages.fuse import deconvolve_frame, fuse
from freezeframe.pipeline.stages.measure import velocities

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "test" / "photos"
SHUTTER, FRAMES = 0.8, 5


def scene_of(photo: Tensor, vector: tuple[float, float], *, height: int = 256, width: int = 384) -> Scene:
    """A photo that moves by `vector` pixels per frame behind a window; centred in the middle frame."""
    _, h, w = photo.shape
    alpha = torch.ones(1, h, w)
    texture = torch.cat([photo, alpha]).permute(1, 2, 0).contiguous().numpy()
    dx, dy = vector
    middle = FRAMES // 2

    start_pose = translation(-(w - width) / 2, -(h - height) / 2)

    def homography(t: float) -> np.ndarray:
        return start_pose @ translation(dx * (t - middle), dy * (t - middle))

    return Scene(layers=(Layer(texture=texture, homography=homography, mirrored=True),), size=(height, width))


def gains(photo: Tensor, *, length: float, angle: float) -> tuple[float, float]:
    """Gain in dB of the middle frame with true and with measured blur vectors."""
    speed = length / SHUTTER
    vector = (speed * math.cos(angle), speed * math.sin(angle))
    scene = scene_of(photo, vector)
    images = torch.stack([scene.blurred(float(t), shutter=SHUTTER) for t in range(FRAMES)])
    truth = scene.sharp(float(FRAMES // 2))
    before = psnr(images[FRAMES // 2], truth)
    return _gain(images, truth, before, true=vector), _gain(images, truth, before, true=None)


def _gain(images: Tensor, truth: Tensor, before: float, *, true: tuple[float, float] | None) -> float:
    flows = adjacent_flows(images, dis_pair)
    velocity = velocities(flows, images)
    if true is not None:
        velocity = torch.tensor(true).view(1, 2, 1, 1).expand_as(velocity).contiguous()
        flows = {
            (i, j): type(flow)(uv=velocity[0] * (j - i), confidence=torch.ones_like(flow.confidence))
            for (i, j), flow in flows.items()
        }
    times = tuple(Fraction(i, 25) for i in range(len(images)))
    clip = Clip(images=images, times=times, shutter=SHUTTER, owned=range(len(images)))
    zeros = velocity.new_zeros(len(images), *images.shape[2:])
    motion = Motion(flows=ChainedFlows(flows), velocity=velocity, independent_motion=zeros, shutter=SHUTTER)
    middle = len(images) // 2
    if true is None:
        return psnr(fuse(clip, motion, FuseConfig(), which=[middle]).images[0], truth) - before
    blur_vectors = dict(enumerate(motion.blur))
    return (
        psnr(deconvolve_frame(images, motion, blur_vectors, middle, config=FuseConfig())[0], truth) - before
    )


def main() -> None:
    if not PHOTOS.is_dir():
        raise SystemExit("needs the photographs in ../shared/data/test/photos")
    print("| blur | true blur vectors | measured blur vectors |\n|---|---|---|")
    photos = [read_photo(path).linear() for path in sorted(PHOTOS.glob("*.png"))]
    for length in (6.0, 11.0, 16.0):
        gains_db = [
            gains(photo, length=length, angle=angle)
            for photo, angle in zip(photos, (0.0, 0.5, 1.1, 2.2), strict=True)
        ]
        true, measured = torch.tensor(gains_db).mean(0).tolist()
        print(f"| {length:g} px | {true:+.2f} dB | {measured:+.2f} dB |", flush=True)


if __name__ == "__main__":
    main()
