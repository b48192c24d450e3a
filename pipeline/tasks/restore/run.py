"""Restoration of photos and videos by a single-image network: no motion, no neighbouring frames."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from freezeframe.data.errors import FreezeframeError, UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.fingerprint import unchanged_check
from freezeframe.data.media.files.publish import Claim
from freezeframe.data.media.files.suffixes import PHOTO_SUFFIXES
from freezeframe.data.media.folder.source import ImageFolderSource
from freezeframe.data.media.photo.encode import ENCODERS
from freezeframe.data.media.photo.files import claim_photo, encode_photo, read_photo
from freezeframe.data.media.photo.photo import PhotoPicture
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.types import Frame
from freezeframe.models.imageops.upscale import upsample
from freezeframe.models.restorer.image_restorer import ImageRestorer, load_image_restorer
from freezeframe.models.runtime.backends import RunLog
from freezeframe.models.runtime.device import find_device, number_format
from freezeframe.models.store.weights_cache import Weights, available, find, sha256_of
from freezeframe.pipeline.support.limits.capacity import PHOTO_BYTES, check_memory
from freezeframe.pipeline.support.media import open_sink, open_source, versions
from freezeframe.pipeline.support.output_paths import check_unique_outputs
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress

from .config import AUTO, RestoreConfig, RestoreResult
from .model_selection import Choice, Degradations, choose, detect_degradations, unchanged_reason

RECOMMENDED = RestoreConfig()
SAMPLED_FRAMES = 5  # frames of a video from which its restorer is selected


def restore(
    source: str | Path,
    output: str | Path,
    *,
    config: RestoreConfig = RECOMMENDED,
    progress: ProgressCallback = null_progress,
) -> list[RestoreResult]:
    """Restore a photo, every photo of a folder, or every frame of a video.

    Args:
        source: A photo, a folder of photos of any sizes, or a video.
        output: A photo, a folder (created if missing; photos that exist in it are skipped), or a video.
        config: The settings.
        progress: Called with the tiles, photos or frames done since the last call and their total (None:
            unknown).

    Returns:
        One result for each photo or video; a failed photo of a folder does not stop the others.

    Raises:
        FreezeframeError: The single photo or video cannot be read, restored or written; the model is not
            installed.
    """
    source_path, target = Path(source), Path(output)
    number_format(
        find_device(config.device), config.precision
    )  # refuses an unavailable device before any work
    pool = _RestorerPool(config)
    photo = not source_path.is_dir() and source_path.suffix.lower() in PHOTO_SUFFIXES
    if (source_path.is_dir() or photo) and (config.output.start, config.output.end) != (None, None):
        raise FreezeframeError(f"{source_path}: has no timestamps; --start and --end are for videos")
    if source_path.is_dir():
        return _folder(source_path, target, pool, progress)
    if photo:
        output_claim = claim_photo(target, inputs=[source_path], force=config.output.force)
        return [_photo(source_path, output_claim, pool, on_progress=progress)]
    return [_video(source_path, target, pool, progress)]


class _RestorerPool:
    """Selects restorers, and holds the last one in memory."""

    def __init__(self, config: RestoreConfig) -> None:
        self.config = config
        self._requested: Weights | None = None if config.model == AUTO else find(config.model)
        self._last: tuple[Weights, ImageRestorer] | None = None

    def select(self, detect: Callable[[], Degradations]) -> Choice:
        """The requested restorer, else one for the degradations that `detect` returns.

        Raises:
            FreezeframeError: No installed restorer removes them.
        """
        if self._requested is not None:
            return Choice(
                weights=self._requested, reason=f"restored with {self._requested.name} (as requested)"
            )
        selected = choose(detect(), available())
        if selected.weights is None and not selected.is_clean:
            raise FreezeframeError(selected.reason)
        return selected

    def active(self, weights: Weights) -> ImageRestorer:
        """The restorer with these weights, loaded."""
        if self._last is None or self._last[0] != weights:
            self._last = None  # frees its memory before the next one is loaded
            config = self.config
            restorer = load_image_restorer(
                find(weights.name).path if weights.release else weights.path,
                device=config.device,
                precision=config.precision,
                tile=config.tile,
                backend=config.backend,
            )
            self._last = weights, restorer
        return self._last[1]

    def apply(
        self,
        linear: Tensor,
        restorer: ImageRestorer,
        log: RunLog,
        on_progress: ProgressCallback = null_progress,
    ) -> Tensor:
        """Restore a [3, H, W] linear RGB picture at the configured strength."""
        if not self.config.strength:
            return upsample(linear[None], restorer.scale)[0]
        after = restorer(linear[None], on_progress=on_progress, log=log)
        return torch.lerp(upsample(linear[None], restorer.scale), after, self.config.strength)[0]


def _photo(
    source: Path, output: Claim, pool: _RestorerPool, *, on_progress: ProgressCallback = null_progress
) -> RestoreResult:
    check = unchanged_check(source)
    picture = read_photo(source)
    check_memory(str(source), picture.size, bytes_per_pixel=PHOTO_BYTES)
    linear = picture.linear()
    choice = pool.select(lambda: detect_degradations(linear))
    after, reason, log = picture, choice.reason, RunLog()
    if choice.weights is not None:
        restorer = pool.active(choice.weights)
        after = picture.with_linear(pool.apply(linear, restorer, log, on_progress))
    if np.array_equal(after.pixels, picture.pixels):
        reason, data = unchanged_reason(choice), _encode_unchanged(picture, output.path)
    else:
        data = encode_photo(after, output.path)
    check()
    output.write(data)
    return RestoreResult(
        source=source, output=output.path, status="done", reason=reason, backends=log.report("restorer")
    )


def _encode_unchanged(picture: PhotoPicture, output: Path) -> bytes:
    """An unchanged photo: the bytes of its file if the format stays the same, else its pixels encoded."""
    if picture.file is not None and picture.file.suffix.lower() == output.suffix.lower():
        return picture.file.read_bytes()
    return encode_photo(picture, output)


def _folder(
    source: Path, output: Path, pool: _RestorerPool, progress: ProgressCallback
) -> list[RestoreResult]:
    """Restore each photo by itself, of any size; photos with an existing output are skipped."""
    photos = find_photos(source)
    if output.exists() and not output.is_dir():
        raise UnwritableOutput(f"{output}: is a file; name a folder")
    if output.resolve() == source.resolve():
        raise UnwritableOutput(f"{output}: is the input folder itself; name another one")
    targets = _output_paths(photos, output)
    force = pool.config.output.force
    existing = {} if force else {p: t for p, t in targets.items() if t.exists()}
    claims = {
        photo: claim_photo(target, inputs=[photo], force=force, trial=False)
        for photo, target in targets.items()
        if photo not in existing
    }
    progress(len(existing), len(targets))
    results = []
    for photo, target in targets.items():
        if photo in existing:
            results.append(
                RestoreResult(source=photo, output=target, status="skipped", reason="output exists")
            )
            continue
        results.append(_restore_or_fail(photo, claims[photo], pool))
        progress(1, len(targets))
    return results


def _restore_or_fail(photo: Path, target: Claim, pool: _RestorerPool) -> RestoreResult:
    try:
        return _photo(photo, target, pool)
    except FreezeframeError as error:
        return RestoreResult(source=photo, output=target.path, status="failed", reason=str(error))


def find_photos(folder: Path) -> list[Path]:
    """The photos of a folder, sorted by name, without hidden files and files of other kinds.

    Raises:
        UnreadableMedia: The folder holds no photos.
    """
    files = sorted(folder.iterdir())
    photos = [f for f in files if f.suffix.lower() in PHOTO_SUFFIXES and not f.name.startswith(".")]
    if not photos:
        raise UnreadableMedia(f"{folder}: holds no photos; name a folder of {', '.join(sorted(ENCODERS))}")
    return photos


def _output_paths(photos: Sequence[Path], output: Path) -> dict[Path, Path]:
    """The path of each photo in the output folder; .png replaces formats that can only be read."""
    names = {p: p.name if p.suffix.lower() in ENCODERS else f"{p.stem}.png" for p in photos}
    outputs = {photo: output / name for photo, name in names.items()}
    check_unique_outputs(outputs)
    return outputs


def _video(source: Path, output: Path, pool: _RestorerPool, progress: ProgressCallback) -> RestoreResult:
    opened = open_source(source, pool.config.output)
    choice = pool.select(lambda: _median_degradations(opened))
    restorer = pool.active(choice.weights) if choice.weights else None
    if restorer is not None and restorer.scale > 1:
        raise FreezeframeError(
            f"{source}: {pool.config.model} enlarges pictures {restorer.scale} times, and a video keeps its"
            " size; write its frames as photos first, or name a restorer at scale 1"
        )
    sink = open_sink(opened, output, pool.config.output, key=_key(pool.config, choice))
    try:
        progress(sink.finished_frames, opened.count)
        changed = sink.finished_frames > 0  # an earlier run may have changed some
        log = RunLog()
        for frame in opened.frames(first=sink.finished_frames):
            after = _frame(frame, restorer, pool, log)
            changed = changed or after is not frame
            sink.write([after])
            progress(1, opened.count)
        verification = sink.finish()
    except BaseException:
        sink.abort()
        raise
    reason = choice.reason if changed else unchanged_reason(choice)
    return RestoreResult(
        source=source, output=output, status="done", reason=reason, verification=verification,
        backends=log.report("restorer"),
    )  # fmt: skip


def _frame(frame: Frame, restorer: ImageRestorer | None, pool: _RestorerPool, log: RunLog) -> Frame:
    """The restored frame; the same object if nothing changed."""
    if restorer is None:
        return frame
    linear = frame.picture.linear()
    after = pool.apply(linear, restorer, log)
    return frame if torch.equal(after, linear) else frame.with_image(after)


def _median_degradations(source: VideoSource | ImageFolderSource) -> Degradations:
    """The median of each degradation over several frames of a clip."""
    samples = [
        detect_degradations(frame.picture.linear())
        for frames in source.sample_clips(SAMPLED_FRAMES, 1)
        for frame in frames
    ]
    if not samples:
        raise UnreadableMedia(f"{source.name}: holds no frame from which to select a restorer; name one")
    qualities = [sample.quality or 100 for sample in samples]
    return Degradations(
        noise=median(sample.noise for sample in samples),
        quality=int(median(qualities)),
        blur=median(sample.blur for sample in samples),
        defocus=median(sample.defocus for sample in samples),
        grayscale=all(sample.grayscale for sample in samples),
    )


def _key(config: RestoreConfig, choice: Choice) -> str:
    """A hash of all settings that change a frame: a run resumes only one with the same hash."""
    weights = sha256_of(choice.weights.path) if choice.weights else ""
    fields = asdict(replace(config, output=replace(config.output, force=False), model=weights))
    return hashlib.sha256(json.dumps([fields, versions()], default=str).encode()).hexdigest()[:16]
