"""What the network trains on: rendered clips, taken through the same measuring and deconvolving as real ones.

Samples lie in shards on disk. A shard is a function of its number, so that a training can be repeated to the
bit, its shards can be made by any process at any time, and lost ones are made again.

Nothing here takes a gradient.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_linear
from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.clips.clips import SynthClip, load_pictures, synth_clip
from freezeframe.data.types import Clip, Motion
from freezeframe.models.deblur.fusion_net import AFTER, BEFORE, BLUR_VECTOR, CHANNELS, FRAME, FUSED
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.pipeline.config import FuseConfig
from freezeframe.pipeline.stages.flows import ChainedFlows, adjacent_flows
from freezeframe.pipeline.stages.fuse import fuse
from freezeframe.pipeline.stages.fusion_network import fusion_input
from freezeframe.pipeline.stages.measure import velocities

Half = npt.NDArray[np.float16]

CLIPS_PER_SHARD = 16  # clips
FRAME_SIZE_PX = 256  # pixels of a clip's frames
SHARD_BYTES = CLIPS_PER_SHARD * (CHANNELS + 3) * FRAME_SIZE_PX * FRAME_SIZE_PX * 2
HELD_OUT_SEED = 10**9  # seeds from here on are never trained on
MIN_GRADIENT = 2.0  # codes; mean step between pixels that a clip must have to teach anything
TRUTH = slice(CHANNELS, CHANNELS + 3)  # of a sample
NUM_FLIPS = 4  # ways in which a sample may be turned, see `augment_flip`
PERMUTE_PROBABILITY = 0.5  # share of patches whose colours change places: fewer can be known by heart
SHUTTER_ERROR = 0.15  # by how much, relatively, the shutter fraction may be wrong


def make_sample(clip: SynthClip, *, seed: int, config: FuseConfig | None = None) -> Half:
    """Evidence and truth of the middle frame of a clip: [16 + 3, H, W], codes in [0, 1].

    Args:
        clip: What was recorded, and the truth.
        seed: Chooses how wrong the shutter fraction is.
        config: Of the deconvolution; None: as in use.
    """
    images = torch.stack([srgb_to_linear(frame) for frame in clip.frames])
    shutter_scale = np.random.default_rng((seed, 2)).uniform(1 - SHUTTER_ERROR, 1 + SHUTTER_ERROR)
    shutter = min(1.0, float(shutter_scale) * clip.exposure.shutter)
    i = clip.middle
    window = Clip(
        images=images,
        times=tuple(Fraction(k, 25) for k in range(len(images))),
        shutter=shutter,
        owned=range(i, i + 1),
    )
    motion = measure_training_motion(window)
    fused = fuse(window, motion, config or FuseConfig(), which=[i])
    truth = torch.from_numpy(clip.truth).permute(2, 0, 1) / 255
    return torch.cat([fusion_input(fused, window, motion, (0, i)), truth]).numpy().astype(np.float16)


def measure_training_motion(clip: Clip) -> Motion:
    """The clip's motion as the pipeline would measure it, its shutter as the clip says."""
    flows = adjacent_flows(clip.images, dis_pair)
    velocity = velocities(flows, clip.images)
    zeros = velocity.new_zeros(len(velocity), *velocity.shape[2:])
    return Motion(
        flows=ChainedFlows(flows), velocity=velocity, independent_motion=zeros, shutter=clip.shutter
    )


def srgb_to_linear(codes: SrgbImage) -> Tensor:
    """[H, W, 3] sRGB codes as [3, H, W] linear RGB."""
    return to_linear(torch.from_numpy(np.ascontiguousarray(codes)).permute(2, 0, 1).float() / 255, SRGB)


def make_shard(number: int, pictures: Sequence[SrgbImage]) -> Half:
    """The samples of shard `number`, [16, 19, 256, 256]; clips without detail are left out for the next."""
    samples: list[Half] = []
    seed = number * 10 * CLIPS_PER_SHARD
    while len(samples) < CLIPS_PER_SHARD:
        clip = synth_clip(seed, pictures, side=FRAME_SIZE_PX)
        if mean_gradient(clip.truth) >= MIN_GRADIENT:
            samples.append(make_sample(clip, seed=seed))
        seed += 1
    return np.stack(samples)


def mean_gradient(codes: SrgbImage) -> float:
    """Mean step between neighbouring pixels, in codes."""
    return float(np.abs(np.diff(codes.astype(np.int16), axis=1)).mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPool:
    """Shards in a folder."""

    folder: Path
    pictures: Sequence[SrgbImage]

    def make(self, number: int) -> Path:
        """The file of a shard, made where it is missing."""
        path = self.folder / f"shard_{number:05d}.npy"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            partial_path = path.with_suffix(f".{os.getpid()}.part")
            with partial_path.open("wb") as file:
                np.save(file, make_shard(number, self.pictures))
            partial_path.rename(path)
        return path

    def batch(self, step: int, *, batch_size: int, patch_size: int, shards: range, seed: int) -> Tensor:
        """Random patches, [size, 19, patch, patch] float32, mirrored and so on; a function of `step`."""
        rng = np.random.default_rng((seed, step))
        chosen = []
        for number, clip in zip(
            rng.choice(shards, batch_size), rng.integers(CLIPS_PER_SHARD, size=batch_size), strict=True
        ):
            stored = np.load(self.make(int(number)), mmap_mode="r")[clip]
            top, left = rng.integers(FRAME_SIZE_PX - patch_size + 1, size=2)
            patch_tensor = torch.from_numpy(
                stored[:, top : top + patch_size, left : left + patch_size].astype(np.float32)
            )
            patch_tensor = augment_flip(patch_tensor, mirror=rng.random(NUM_FLIPS) < 0.5)
            chosen.append(
                permute_channels(patch_tensor, rng.permutation(3))
                if rng.random() < PERMUTE_PROBABILITY
                else patch_tensor
            )
        return torch.stack(chosen)


@contextmanager
def prefetch_shards(photos: Path, folder: Path, numbers: Iterable[int], *, workers: int) -> Iterator[None]:
    """While inside, other processes make the shards `numbers`, in this order. 0 workers: nobody does."""
    if workers == 0:
        yield
        return
    # Spawned, not forked: threads of torch and OpenCV do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_init_worker) as executor:
        for number in numbers:
            executor.submit(_make_shard_file, photos, folder, number)
        try:
            yield
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


_pools: dict[Path, ShardPool] = {}  # of a worker process: pictures are read once


def _make_shard_file(photos: Path, folder: Path, number: int) -> None:
    if folder not in _pools:
        _pools[folder] = ShardPool(folder=folder, pictures=load_pictures(photos))
    _pools[folder].make(number)


def _init_worker() -> None:
    """One thread each, and behind everybody else: the one that learns comes first."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.environ["NUMBA_NUM_THREADS"] = "1"
    if hasattr(os, "nice"):
        os.nice(10)


def augment_flip(patch_tensor: Tensor, *, mirror: npt.NDArray[np.bool_]) -> Tensor:
    """`patch_tensor` mirrored left to right, top to bottom and along its diagonal, and time turned round."""
    across, down, diagonal, backwards = mirror.tolist()
    sign = patch_tensor.new_ones(len(patch_tensor), 1, 1)
    order = list(range(len(patch_tensor)))
    if across:
        patch_tensor, sign[BLUR_VECTOR.start] = patch_tensor.flip(-1), -1
    if down:
        patch_tensor, sign[BLUR_VECTOR.start + 1] = patch_tensor.flip(-2), -1
    if backwards:
        sign[BLUR_VECTOR] *= -1
        order[BEFORE], order[AFTER] = order[AFTER], order[BEFORE]
    patch_tensor = patch_tensor * sign
    if diagonal:
        patch_tensor = patch_tensor.transpose(-1, -2)
        order[BLUR_VECTOR] = reversed(order[BLUR_VECTOR])
    return patch_tensor[order].contiguous()


def permute_channels(patch_tensor: Tensor, permutation: npt.NDArray[np.int64]) -> Tensor:
    """`patch_tensor` with its three colours in another order: blur treats all alike."""
    order = np.arange(len(patch_tensor))
    for picture in (FRAME, FUSED, BEFORE, AFTER, TRUTH):
        order[picture] = order[picture][permutation]
    return patch_tensor[torch.from_numpy(order)]


def split_input_target(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Evidence [B, 16, H, W] and truth [B, 3, H, W]."""
    return batch[:, :CHANNELS], batch[:, TRUTH]
