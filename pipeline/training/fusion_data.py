"""Training samples of the fusion network: rendered clips, measured and deconvolved as real ones are.

Samples are stored in shards on disk. A shard is a function of its number: a training is reproducible to the
bit, any process can render a shard at any time, and a lost one is rendered again.

Nothing here takes a gradient.
"""

from __future__ import annotations

import io
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from freezeframe.data.color import SRGB, to_linear
from freezeframe.data.media.files.publish import write_atomic
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
FRAME_SIZE_PX = 256  # side in pixels of a clip's frames
SAMPLE_CHANNELS = CHANNELS + 4  # network input, ground truth, mask of the movers
SHARD_BYTES = CLIPS_PER_SHARD * SAMPLE_CHANNELS * FRAME_SIZE_PX * FRAME_SIZE_PX * 2
HELD_OUT_SEED = 10**9  # seeds from here on are for validation only
HELD_OUT_SHARD = HELD_OUT_SEED // (10 * CLIPS_PER_SHARD)  # the first shard of held-out clips
HELD_OUT_MOVER_SHARD = HELD_OUT_SHARD + 1000  # the first shard of held-out clips of small fast movers
MOVER_SHARE = 0.3  # of the training clips: small fast movers before a sharp photograph
MIN_GRADIENT = 2.0  # 8-bit code values per pixel; clips with less detail are left out
TRUTH, MOVERS = slice(CHANNELS, CHANNELS + 3), slice(CHANNELS + 3, SAMPLE_CHANNELS)  # of a sample
NUM_FLIPS = 4  # independent flips of a sample, see `augment_flip`
PERMUTE_PROBABILITY = 0.5  # probability that the colour channels of a patch are permuted, against overfitting
SHUTTER_ERROR = 0.15  # largest relative error of the shutter fraction


def make_sample(clip: SynthClip, *, seed: int, config: FuseConfig | None = None) -> Half:
    """Network input, ground truth and mask of the movers of the middle frame of a clip: [16 + 3 + 1, H, W].

    Images are encoded in [0, 1]. The mask is the largest alpha of the movers during the exposure.

    Args:
        clip: The recorded frames and the ground truth.
        seed: Draws the error of the shutter fraction.
        config: Settings of the deconvolution; None: the default.
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
    movers = clip.swept_movers(i)[None]
    return torch.cat([fusion_input(fused, window, motion, (0, i)), truth, movers]).numpy().astype(np.float16)


def measure_training_motion(clip: Clip) -> Motion:
    """Motion of a clip as the pipeline measures it, with the shutter fraction of the clip."""
    flows = adjacent_flows(clip.images, dis_pair)
    velocity = velocities(flows, clip.images)
    zeros = velocity.new_zeros(len(velocity), *velocity.shape[2:])
    return Motion(
        flows=ChainedFlows(flows), velocity=velocity, independent_motion=zeros, shutter=clip.shutter
    )


def srgb_to_linear(encoded: SrgbImage) -> Tensor:
    """[H, W, 3] uint8 sRGB as [3, H, W] linear RGB."""
    return to_linear(torch.from_numpy(np.ascontiguousarray(encoded)).permute(2, 0, 1).float() / 255, SRGB)


def make_shard(number: int, pictures: Sequence[SrgbImage]) -> Half:
    """The samples of shard `number`, [16, 20, 256, 256]; clips with little detail are skipped."""
    samples: list[Half] = []
    seed = number * 10 * CLIPS_PER_SHARD
    while len(samples) < CLIPS_PER_SHARD:
        clip = synth_clip(seed, pictures, side=FRAME_SIZE_PX, mover_share=mover_share(number))
        if mean_gradient(clip.truth) >= MIN_GRADIENT:
            samples.append(make_sample(clip, seed=seed))
        seed += 1
    return np.stack(samples)


def mover_share(number: int) -> float:
    """Share of clips of small fast movers in shard `number`; held-out shards have all or none."""
    return MOVER_SHARE if number < HELD_OUT_SHARD else float(number >= HELD_OUT_MOVER_SHARD)


def mean_gradient(encoded: SrgbImage) -> float:
    """Mean absolute horizontal difference, in 8-bit code values per pixel."""
    return float(np.abs(np.diff(encoded.astype(np.int16), axis=1)).mean())


def save_array(array: npt.NDArray[np.float16], path: Path) -> None:
    """Write a .npy file atomically; other processes may write the same one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.save(content, array)
    write_atomic(content.getvalue(), path)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPool:
    """Shards in a folder."""

    folder: Path
    pictures: Sequence[SrgbImage]

    def make(self, number: int) -> Path:
        """The file of a shard, rendered if it is missing."""
        path = self.folder / f"clips_{number:05d}.npy"
        if not path.exists():
            save_array(make_shard(number, self.pictures), path)
        return path

    def batch(self, step: int, *, batch_size: int, patch_size: int, shards: range, seed: int) -> Tensor:
        """Random augmented patches, [batch_size, 20, patch_size, patch_size]; a function of `step`."""
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
    """Render the shards `numbers`, in this order, in other processes while the block runs."""
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


def _make_shard_file(photos: Path, folder: Path, number: int) -> None:
    _worker_pool(photos, folder).make(number)


@cache
def _worker_pool(photos: Path, folder: Path) -> ShardPool:
    # A worker process reads the pictures once.
    return ShardPool(folder=folder, pictures=load_pictures(photos))


def _init_worker() -> None:
    """Use one thread at low priority, so that training is not starved."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.environ["NUMBA_NUM_THREADS"] = "1"
    if hasattr(os, "nice"):
        os.nice(10)


def augment_flip(patch_tensor: Tensor, *, mirror: npt.NDArray[np.bool_]) -> Tensor:
    """Flip a sample [20, H, W] horizontally, vertically, diagonally and in time, as `mirror` selects."""
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
    """Permute the colour channels of a sample: blur is the same in all of them."""
    order = np.arange(len(patch_tensor))
    for picture in (FRAME, FUSED, BEFORE, AFTER, TRUTH):
        order[picture] = order[picture][permutation]
    return patch_tensor[torch.from_numpy(order)]


def split_sample(batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Network input [B, 16, H, W], ground truth [B, 3, H, W] and mask of the movers [B, 1, H, W]."""
    return batch[:, :CHANNELS], batch[:, TRUTH], batch[:, MOVERS]
