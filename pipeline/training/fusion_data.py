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

from freezeframe.data.color import SRGB, to_light
from freezeframe.data.synthesis.clips.clips import SynthClip, pictures_in, synth_clip
from freezeframe.data.synthesis.scene2d.patterns import Codes
from freezeframe.data.types import Clip, Motion
from freezeframe.models.deblur.fusion_net import AFTER, BEFORE, CHANNELS, FRAME, FUSED, WAY
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.pipeline.config import FuseConfig
from freezeframe.pipeline.stages.fuse import fuse
from freezeframe.pipeline.stages.fusion_network import seen
from freezeframe.pipeline.stages.measure import ChainedFlows, adjacent_flows, velocities

Half = npt.NDArray[np.float16]

PER_SHARD = 16  # clips
SIDE = 256  # pixels of a clip's frames
SHARD_BYTES = PER_SHARD * (CHANNELS + 3) * SIDE * SIDE * 2
HELD_OUT = 10**9  # seeds from here on are never trained on
DETAIL = 2.0  # codes; mean step between pixels that a clip must have to teach anything
TRUTH = slice(CHANNELS, CHANNELS + 3)  # of a sample
MIRRORS = 4  # ways in which a sample may be turned, see `turned`
RECOLOURED = 0.5  # share of patches whose colours change places: fewer can be known by heart
MISJUDGED = 0.15  # by how much, relatively, the shutter fraction may be wrong


def sample(clip: SynthClip, *, seed: int, config: FuseConfig | None = None) -> Half:
    """Evidence and truth of the middle frame of a clip: [16 + 3, H, W], codes in [0, 1].

    Args:
        clip: What was recorded, and the truth.
        seed: Chooses how wrong the shutter fraction is.
        config: Of the deconvolution; None: as in use.
    """
    images = torch.stack([as_light(frame) for frame in clip.frames])
    wrong = np.random.default_rng((seed, 2)).uniform(1 - MISJUDGED, 1 + MISJUDGED)
    shutter = min(1.0, float(wrong) * clip.exposed.shutter)
    i = clip.middle
    taken = Clip(
        images=images,
        times=tuple(Fraction(k, 25) for k in range(len(images))),
        shutter=shutter,
        kept=range(i, i + 1),
    )
    motion = as_measured(taken)
    fused = fuse(taken, motion, config or FuseConfig(), which=[i])
    truth = torch.from_numpy(clip.truth).permute(2, 0, 1) / 255
    return torch.cat([seen(fused, taken, motion, (0, i)), truth]).numpy().astype(np.float16)


def as_measured(clip: Clip) -> Motion:
    """The clip's motion as the pipeline would measure it, its shutter as the clip says."""
    near = adjacent_flows(clip.images, dis_pair)
    velocity = velocities(near, clip.images)
    still = velocity.new_zeros(len(velocity), *velocity.shape[2:])
    return Motion(flows=ChainedFlows(near), velocity=velocity, movers=still, shutter=clip.shutter)


def as_light(codes: Codes) -> Tensor:
    """[H, W, 3] sRGB codes as [3, H, W] linear RGB."""
    return to_light(torch.from_numpy(np.ascontiguousarray(codes)).permute(2, 0, 1).float() / 255, SRGB)


def shard(number: int, pictures: Sequence[Codes]) -> Half:
    """The samples of shard `number`, [16, 19, 256, 256]; clips without detail are left out for the next."""
    samples: list[Half] = []
    seed = number * 10 * PER_SHARD
    while len(samples) < PER_SHARD:
        clip = synth_clip(seed, pictures, side=SIDE)
        if detail(clip.truth) >= DETAIL:
            samples.append(sample(clip, seed=seed))
        seed += 1
    return np.stack(samples)


def detail(codes: Codes) -> float:
    """Mean step between neighbouring pixels, in codes."""
    return float(np.abs(np.diff(codes.astype(np.int16), axis=1)).mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Shards in a folder."""

    folder: Path
    pictures: Sequence[Codes]

    def make(self, number: int) -> Path:
        """The file of a shard, made where it is missing."""
        path = self.folder / f"shard_{number:05d}.npy"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(f".{os.getpid()}.part")
            with unfinished.open("wb") as file:
                np.save(file, shard(number, self.pictures))
            unfinished.rename(path)
        return path

    def batch(self, step: int, *, size: int, patch: int, shards: range, seed: int) -> Tensor:
        """Random patches, [size, 19, patch, patch] float32, mirrored and so on; a function of `step`."""
        rng = np.random.default_rng((seed, step))
        chosen = []
        for number, clip in zip(rng.choice(shards, size), rng.integers(PER_SHARD, size=size), strict=True):
            stored = np.load(self.make(int(number)), mmap_mode="r")[clip]
            top, left = rng.integers(SIDE - patch + 1, size=2)
            piece = torch.from_numpy(stored[:, top : top + patch, left : left + patch].astype(np.float32))
            piece = turned(piece, mirror=rng.random(MIRRORS) < 0.5)
            chosen.append(recoloured(piece, rng.permutation(3)) if rng.random() < RECOLOURED else piece)
        return torch.stack(chosen)


@contextmanager
def made_ahead(photos: Path, folder: Path, numbers: Iterable[int], *, workers: int) -> Iterator[None]:
    """While inside, other processes make the shards `numbers`, in this order. 0 workers: nobody does."""
    if workers == 0:
        yield
        return
    # Spawned, not forked: threads of torch and OpenCV do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_apprentice) as others:
        for number in numbers:
            others.submit(_make, photos, folder, number)
        try:
            yield
        finally:
            others.shutdown(wait=False, cancel_futures=True)


_pools: dict[Path, Pool] = {}  # of a worker process: pictures are read once


def _make(photos: Path, folder: Path, number: int) -> None:
    if folder not in _pools:
        _pools[folder] = Pool(folder=folder, pictures=pictures_in(photos))
    _pools[folder].make(number)


def _apprentice() -> None:
    """One thread each, and behind everybody else: the one that learns comes first."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.environ["NUMBA_NUM_THREADS"] = "1"
    if hasattr(os, "nice"):
        os.nice(10)


def turned(piece: Tensor, *, mirror: npt.NDArray[np.bool_]) -> Tensor:
    """`piece` mirrored left to right, top to bottom and along its diagonal, and time turned round."""
    across, down, diagonal, backwards = mirror.tolist()
    sign = piece.new_ones(len(piece), 1, 1)
    order = list(range(len(piece)))
    if across:
        piece, sign[WAY.start] = piece.flip(-1), -1
    if down:
        piece, sign[WAY.start + 1] = piece.flip(-2), -1
    if backwards:
        sign[WAY] *= -1
        order[BEFORE], order[AFTER] = order[AFTER], order[BEFORE]
    piece = piece * sign
    if diagonal:
        piece = piece.transpose(-1, -2)
        order[WAY] = reversed(order[WAY])
    return piece[order].contiguous()


def recoloured(piece: Tensor, colours: npt.NDArray[np.int64]) -> Tensor:
    """`piece` with its three colours in another order: blur treats all alike."""
    order = np.arange(len(piece))
    for picture in (FRAME, FUSED, BEFORE, AFTER, TRUTH):
        order[picture] = order[picture][colours]
    return piece[torch.from_numpy(order)]


def parted(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Evidence [B, 16, H, W] and truth [B, 3, H, W]."""
    return batch[:, :CHANNELS], batch[:, TRUTH]
