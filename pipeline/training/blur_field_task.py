"""Training task of the blur field of one photograph.

Rendered photographs without noise are stored in shards, as for the fusion network; noise, tone curve and
JPEG are drawn anew each time. The first steps see even blur only: a network that has not learnt the cepstrum
of one blur cannot tell where it changes.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from freezeframe.data.srgb import SrgbImage
from freezeframe.data.synthesis.clips.blurred_photo import (
    DEFAULT_BLUR,
    EVEN_BLUR,
    BlurredPhoto,
    blurred_photo,
)
from freezeframe.data.synthesis.degradations.camera_isp import Camera, record_clip
from freezeframe.models.deblur.blur_field import line_targets, radius_targets
from freezeframe.models.deblur.blur_field_net import BLOCK, BlurFieldNet
from freezeframe.models.deblur.local_cepstrum import CELL

from .fusion_data import save_array
from .loop import Validator
from .objective import is_matrix_weight
from .restorer_task import bytes_to_float

Half = npt.NDArray[np.float16]

SIDE = 160  # pixels of a stored photograph
PATCH = 128  # pixels of the part that a step sees
PHOTOS_PER_SHARD = 32
EVEN_EVERY = 4  # one shard of this many holds even blur, and is rendered first
INITIAL_SHARDS = 32  # before the first step
STEPS_PER_SHARD = 3  # after which one more shard is used
EXPOSURE = (-0.7, 0.5)  # logarithm of the light by which a stored photograph is scaled
_LIGHT, _LABEL = 3 * SIDE**2, 3 * (SIDE // BLOCK) ** 2
SHARD_BYTES = 2 * PHOTOS_PER_SHARD * (_LIGHT + _LABEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlurFieldSchedule:
    """Which photographs the steps see, and what counts in the loss."""

    even_steps: int = 400  # steps of even blur only
    even_share: float = 0.3  # of even blur after them
    cell_weight: float = 0.5  # of the loss of the cepstra alone
    radius_weight: float = 0.3  # of the loss of the radii
    flat_weight: float = 0.25  # of a block without texture; of others 1
    texture: float = 4 / 255  # code values of [0, 1]: mean slope of a block that counts half way


@dataclass(frozen=True, slots=True, kw_only=True)
class BlurFieldTask:
    """Estimate the blur of each block of a photograph."""

    pictures: Sequence[SrgbImage]
    folder: Path  # of the shards
    batch_size: int
    num_shards: int
    seed: int
    val_photos: Path | None = None
    schedule: BlurFieldSchedule = field(default_factory=BlurFieldSchedule)
    uses_muon = staticmethod(is_matrix_weight)

    def network(self) -> nn.Module:
        return BlurFieldNet()

    def batch(self, step: int, *, rank: int) -> Tensor:
        """[B, 3 * 128 * 128 + 3 * 32 * 32]: the recorded photographs, then vectors and radius."""
        rng = np.random.default_rng((self.seed, rank, step, 11))
        available = min(self.num_shards, INITIAL_SHARDS + step // STEPS_PER_SHARD)
        even_only = step < self.schedule.even_steps
        rows = []
        for _ in range(self.batch_size):
            even = even_only or rng.random() < self.schedule.even_share
            stored = np.load(self.shard(self._draw_shard(rng, available, even=even)), mmap_mode="r")
            rows.append(_record(rng, stored[rng.integers(PHOTOS_PER_SHARD)]))
        return torch.stack(rows)

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Cross-entropy of the lines of blocks and of cells, and of the radii; texture counts more."""
        encoded, vectors, radius = split_batch(batch)
        lines, cell_lines, radii = model(encoded)
        weights = self._block_weights(encoded)
        at_cells = slice(CELL // BLOCK // 2, None, CELL // BLOCK)
        total: Tensor = (
            _cross_entropy(lines, line_targets(vectors), weights)
            + self.schedule.cell_weight
            * _cross_entropy(
                cell_lines,
                line_targets(vectors[:, :, at_cells, at_cells]),
                avg_pool2d(weights[:, None], CELL // BLOCK)[:, 0],
            )
            + self.schedule.radius_weight * _cross_entropy(radii, radius_targets(radius), weights)
        )
        return total

    def validators(self) -> list[Validator]:
        if self.val_photos is None:
            return []
        from .blur_field_validation import blur_field_validator

        return [blur_field_validator(self.val_photos)]

    def shard(self, number: int) -> Path:
        """The file of a shard, rendered if it is missing."""
        path = self.folder / f"photos_{number:05d}.npy"
        if not path.exists():
            save_array(make_shard(number, self.pictures), path)
        return path

    def _draw_shard(self, rng: np.random.Generator, available: int, *, even: bool) -> int:
        """Of the first `available` shards of each kind."""
        number = int(rng.integers(max(1, available // EVEN_EVERY)))
        if even:
            return number * EVEN_EVERY
        number = int(rng.integers(max(1, available - available // EVEN_EVERY)))
        return number // (EVEN_EVERY - 1) * EVEN_EVERY + 1 + number % (EVEN_EVERY - 1)

    def _block_weights(self, encoded: Tensor) -> Tensor:
        luma = encoded.mean(1, keepdim=True)
        slope = (luma - luma.roll(1, -1)).abs() + (luma - luma.roll(1, -2)).abs()
        texture = avg_pool2d(slope, BLOCK)
        texture = avg_pool2d(texture, 5, stride=1, padding=2, count_include_pad=False)[:, 0]
        share = texture / (texture + self.schedule.texture)
        return self.schedule.flat_weight + (1 - self.schedule.flat_weight) * share


def _cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    entropy = -(targets * logits.float().log_softmax(1)).sum(1)
    return (weights * entropy).sum() / weights.sum()


def make_shard(number: int, pictures: Sequence[SrgbImage]) -> Half:
    """[32, ...] rows of light, vectors and radius; the same numbers and pictures give the same shard."""
    rng = np.random.default_rng((number, 12))
    distribution = DEFAULT_BLUR if number % EVEN_EVERY else EVEN_BLUR
    return np.stack(
        [
            _row(blurred_photo(rng, pictures, side=SIDE, distribution=distribution))
            for _ in range(PHOTOS_PER_SHARD)
        ]
    )


def _row(photo: BlurredPhoto) -> Half:
    parts = (photo.linear, photo.vectors, photo.radius)
    return torch.cat([part.flatten() for part in parts]).numpy().astype(np.float16)


def _record(rng: np.random.Generator, row: Half) -> Tensor:
    """A part of a stored photograph, mirrored and turned, recorded by a random camera."""
    blocks = SIDE // BLOCK
    light, label = (torch.from_numpy(part.astype(np.float32)) for part in (row[:_LIGHT], row[_LIGHT:]))
    linear, label = light.view(3, SIDE, SIDE), label.view(3, blocks, blocks)
    top, left = rng.integers((SIDE - PATCH) // BLOCK + 1, size=2).tolist()
    linear = linear[:, BLOCK * top : BLOCK * top + PATCH, BLOCK * left : BLOCK * left + PATCH]
    label = label[:, top : top + PATCH // BLOCK, left : left + PATCH // BLOCK]
    linear, label = turn(linear, label, transpose=rng.random() < 0.5, mirror=rng.random(2) < 0.5)
    camera = Camera.random(rng)
    if camera.h264 is not None:
        camera = replace(camera, h264=None, jpeg=int(rng.integers(55, 99)) if rng.random() < 0.5 else None)
    exposed = (float(np.exp(rng.uniform(*EXPOSURE))) * linear).clamp(0, 1)
    encoded = bytes_to_float(record_clip([exposed], camera, seed=int(rng.integers(2**31)))[0])
    return torch.cat([encoded.flatten(), label.flatten()])


def turn(
    picture: Tensor, label: Tensor, *, transpose: bool, mirror: npt.NDArray[np.bool_]
) -> tuple[Tensor, Tensor]:
    """Transpose, then mirror across and down, a picture [3, H, W] and its label [3, h, w]."""
    if transpose:
        picture, label = picture.mT, label[[1, 0, 2]].mT
    for axis, sign in ((-1, [-1, 1, 1]), (-2, [1, -1, 1])):
        if mirror[axis]:
            picture, label = picture.flip(axis), label.flip(axis) * label.new_tensor(sign)[:, None, None]
    return picture.contiguous(), label.contiguous()


def split_batch(batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Photographs [B, 3, 128, 128], vectors [B, 2, 32, 32] and radii [B, 32, 32] of a batch."""
    blocks = PATCH // BLOCK
    light, label = batch.tensor_split([3 * PATCH**2], 1)
    label = label.reshape(-1, 3, blocks, blocks)
    return light.reshape(-1, 3, PATCH, PATCH), label[:, :2], label[:, 2]
