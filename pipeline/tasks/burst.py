"""Merge a burst of photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from freezeframe.data.media.files.fingerprint import unchanged_check
from freezeframe.data.media.photo.files import claim_photo, encode_photo, read_burst
from freezeframe.data.media.photo.photo import to_photo
from freezeframe.models.runtime.backends import backends_used
from freezeframe.pipeline.config import Config, Preset, preset
from freezeframe.pipeline.prepare import prepare_restorer
from freezeframe.pipeline.stages.refine import refine
from freezeframe.pipeline.support.limits.capacity import PHOTO_BYTES, check_memory
from freezeframe.pipeline.support.media import PathLike
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstResult:
    """Result of `deblur_burst`."""

    output: Path
    reference: Path  # the photo that the others were aligned to
    image: Tensor  # [3, H, W] linear RGB
    confidence: Tensor  # [H, W] in [0, 1]: agreement of the photos
    backends: Mapping[str, str] = field(default_factory=dict)  # that ran the networks: torch bf16


def deblur_burst(
    images: Sequence[PathLike],
    output: PathLike,
    *,
    config: Config | Preset = "auto",
    progress: ProgressCallback = null_progress,
) -> BurstResult:
    """Merge several blurred photos of one scene into a sharp one.

    Args:
        images: At least two photos of one size, in any order.
        output: The photo to write, in the format of its suffix, with the metadata of the reference.
        config: Settings, or the name of a preset; `strength`, `refine`, `device`, `precision` and
            `output.force` apply.
        progress: Called with the steps since the last call and the steps in all.

    Raises:
        UnreadableMedia: Fewer than two photos, of differing sizes, or unreadable.
        UnwritableOutput: The output exists (without `force`), or cannot be written.
    """
    settings = preset(config) if isinstance(config, str) else config
    paths = [Path(image) for image in images]
    target = Path(output)
    destination = claim_photo(target, inputs=paths, force=settings.output.force)
    restorer, check = prepare_restorer(settings), unchanged_check(*paths)
    from freezeframe.pipeline.solvers.fourier_burst import fuse_burst

    frames = read_burst(paths)
    check_memory(str(paths[0]), frames[0].picture.size, bytes_per_pixel=PHOTO_BYTES * len(paths))
    linear = [frame.picture.linear() for frame in frames]
    merged = fuse_burst(linear, strength=settings.strength, progress=progress)
    image = refine(merged.image[None], restorer, settings.refine)[0]
    picture = frames[merged.reference].picture.with_linear(image)
    check()
    destination.write(encode_photo(to_photo(picture), target))
    return BurstResult(
        output=target, reference=paths[merged.reference], image=image, confidence=merged.confidence,
        backends=backends_used(restorer=restorer),
    )  # fmt: skip
