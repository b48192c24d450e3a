"""What the sense for shutters learns: how long they were open while cameras moved across pictures.

Nothing here takes a gradient.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from freezeframe.data.synthesis.clips.pans import BRIEFEST, Pan, density, pan
from freezeframe.data.synthesis.scene2d.patterns import Codes
from freezeframe.models.deblur.shutter_net import FACTS, FRACTIONS, FRAMES, SIDE, ShutterSense
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.motion.shutter.patches import squares
from freezeframe.pipeline.stages.measure import adjacent_flows

from .fusion_data import HELD_OUT, as_light
from .loop import Trial
from .objective import matrices

FIRST = 64  # clips that a training begins with; one more joins every step
STORED = 48  # squares kept of a frame
SHOWN = 24  # of them in a sample
CLIP_BYTES = 10**6  # on disk, about
JUDGED = 40  # held-out clips
WIDTH = 0.035  # of the answer asked for, standard deviation: nobody can tell a shutter to the last digit
_PICTURE = FRAMES * SIDE * SIDE
_LONG = STORED * (_PICTURE + FACTS)


@dataclass(frozen=True, slots=True)
class Shutters:
    """Squares of moving pictures, and the shutter behind them."""

    pictures: Sequence[Codes]
    folder: Path  # of clips that were made already
    size: int
    clips: int
    seed: int
    inner = staticmethod(matrices)

    def network(self) -> nn.Module:
        return ShutterSense()

    def batch(self, step: int, *, rank: int) -> Tensor:
        """[B, 24 * (3 * 32 * 32 + 4) + 1]: squares, their facts, the shutter."""
        rng = np.random.default_rng((self.seed, rank, step, 9))
        known = min(self.clips, FIRST + step)
        chosen: list[Tensor] = []
        while len(chosen) < self.size:
            stored = self._clip(int(rng.integers(known)))
            if len(stored):
                frame = np.array(stored[rng.integers(len(stored))], np.float32)
                chosen.append(_shown(torch.from_numpy(frame), rng))
        return torch.stack(chosen)

    def miss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Cross-entropy with a narrow bell around the true shutter."""
        seen = batch[:, :-1].reshape(len(batch) * SHOWN, _PICTURE + FACTS)
        with torch.autocast(batch.device.type, dtype=torch.bfloat16):
            pictures = seen[:, :_PICTURE].reshape(-1, FRAMES, SIDE, SIDE)
            votes = model(pictures.to(memory_format=torch.channels_last), seen[:, _PICTURE:])
        sense = cast(ShutterSense, getattr(model, "module", model))  # DistributedDataParallel hides it
        told = sense.together(votes.reshape(len(batch), SHOWN, -1)) + _drawn().to(batch)
        total: Tensor = -(bell(batch[:, -1]) * told.log_softmax(1)).sum(1).mean()
        return total

    def trials(self) -> list[Trial]:
        held_out = [pan(HELD_OUT + k, self.pictures) for k in range(JUDGED)]
        return [lambda network: right(network, held_out)]

    def _clip(self, number: int) -> npt.NDArray[np.float16]:
        """[T, L] squares, facts and shutter of the frames of a clip; made where it is missing."""
        path = self.folder / f"pan_{number:06d}.npy"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(f".{os.getpid()}.part")
            with unfinished.open("wb") as file:
                np.save(file, cut(pan(number, self.pictures), seed=number))
            unfinished.rename(path)
        stored: npt.NDArray[np.float16] = np.load(path, mmap_mode="r")
        return stored


def cut(clip: Pan, *, seed: int) -> npt.NDArray[np.float16]:
    """[T, L] half floats: squares, facts and shutter of every frame with squares enough."""
    images = torch.stack([as_light(frame) for frame in clip.frames])
    rows = [
        np.concatenate(
            [each.pictures[:STORED].flatten(1), each.facts[:STORED]], axis=1, dtype=np.float16
        ).ravel()
        for each in squares(images, adjacent_flows(images, dis_pair), seed=seed)
        if len(each.pictures) >= STORED
    ]
    told = np.full((len(rows), 1), clip.shutter, np.float16)
    return np.concatenate([np.reshape(rows, (len(rows), _LONG)), told], axis=1, dtype=np.float16)


def bell(shutter: Tensor) -> Tensor:
    """[B] shutters as shares [B, K] of `FRACTIONS`."""
    off = (shutter[:, None] - torch.tensor(FRACTIONS).to(shutter)) / WIDTH
    return torch.softmax(-off.square() / 2, dim=1)


def right(network: nn.Module, clips: Sequence[Pan]) -> dict[str, float]:
    """How far off it is in the mean over clips, and in the mean over compressed ones; less is better."""
    sense = cast(ShutterSense, network)
    errors: list[tuple[bool, float]] = []
    for clip in clips:
        images = torch.stack([as_light(frame) for frame in clip.frames])
        seen = squares(images, adjacent_flows(images, dis_pair))
        if seen:
            with torch.no_grad():
                votes = torch.cat([sense(each.pictures, each.facts) for each in seen])
                told = FRACTIONS[int(sense.together(votes).argmax())]
            errors.append((clip.rate is not None, abs(told - clip.shutter)))
    coded = [error for was_coded, error in errors if was_coded]
    # The loop keeps what scores most.
    return {"all": -mean(error for _, error in errors), "coded": -mean(coded)}


@cache
def _drawn() -> Tensor:
    """[K] logarithms of how often each of `FRACTIONS` is asked for: not for the network to learn."""
    shutters = np.linspace(BRIEFEST, 1, 2000)
    often = torch.from_numpy(density(shutters))
    return (often @ bell(torch.from_numpy(shutters)) / often.sum()).log().float()


def _shown(row: Tensor, rng: np.random.Generator) -> Tensor:
    """Some of the squares of a frame, mirrored, turned round in time, and as a negative, by chance."""
    seen = row[:-1].reshape(STORED, _PICTURE + FACTS)[torch.from_numpy(rng.permutation(STORED)[:SHOWN])]
    pictures, facts = seen[:, :_PICTURE].reshape(-1, FRAMES, SIDE, SIDE), seen[:, _PICTURE:]
    across, back, negative, noisy = (rng.random(4) < (0.5, 0.5, 0.5, 0.3)).tolist()
    if across:
        pictures = pictures.flip(2)
    if back:
        pictures, facts = pictures.flip(3).flip(1), facts[:, [0, 1, 3, 2]]
    if negative:
        pictures = -pictures
    if noisy:
        grain = torch.from_numpy(rng.standard_normal(pictures.shape, dtype=np.float32))
        pictures = pictures + float(rng.uniform(0, 0.15)) * grain
    return torch.cat([torch.cat([pictures.flatten(1), facts], 1).flatten(), row[-1:]])
