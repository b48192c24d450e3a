"""Photos and videos restored by a network, each picture by itself: no motion, no neighbours."""

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
from freezeframe.data.media.files.publish import Claim
from freezeframe.data.media.folder.source import ImageFolderSource
from freezeframe.data.media.photo.encode import ENCODERS
from freezeframe.data.media.photo.files import PHOTO_SUFFIXES, PhotoPicture, claim_photo, encoded, read_photo
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.media.video_out.fingerprint import unchanged
from freezeframe.data.types import Frame
from freezeframe.models.imageops.upscale import enlarged
from freezeframe.models.restorer.image_restorer import WholeRestorer, load_whole
from freezeframe.models.runtime.device import find_device, number_format
from freezeframe.models.store.weights_cache import Weights, at_hand, find, sha256_of
from freezeframe.pipeline.stages.capacity import PHOTO_BYTES, require
from freezeframe.pipeline.support.media import open_sink, open_source, versions
from freezeframe.pipeline.support.progress import Advance, quiet

from .config import AUTO, RestoreConfig, Restored, configure, table
from .model_selection import Ailment, Choice, choose, examine, not_changed

__all__ = ["RestoreConfig", "Restored", "configure", "restore", "table"]

RECOMMENDED = RestoreConfig()
LOOKS = 5  # frames of a video by which its restorer is chosen


def restore(
    source: str | Path,
    output: str | Path,
    *,
    config: RestoreConfig = RECOMMENDED,
    progress: Advance = quiet,
) -> list[Restored]:
    """Restore a photo, every photo of a folder, or every frame of a video.

    Args:
        source: A photo, a folder of photos of any sizes, or a video.
        output: A photo, a folder (made if need be; photos that are in it already are skipped), or a video.
        config: Every knob.
        progress: Told tiles, photos or frames done since the last call, and all (None where unknown).

    Returns:
        What became of each; one that failed stops no other of its folder.

    Raises:
        FreezeframeError: The one photo or video cannot be read, restored or written; the model is not here.
    """
    origin, target = Path(source), Path(output)
    number_format(find_device(config.device), config.precision)  # what is not to be had is learned now
    crew = _Crew(config)
    photo = not origin.is_dir() and origin.suffix.lower() in PHOTO_SUFFIXES
    if (origin.is_dir() or photo) and (config.output.start, config.output.end) != (None, None):
        raise FreezeframeError(f"{origin}: has no times; --start and --end are for videos")
    if origin.is_dir():
        return _folder(origin, target, crew, progress)
    if photo:
        place = claim_photo(target, inputs=[origin], force=config.output.force)
        return [_photo(origin, place, crew, watch=progress)]
    return [_video(origin, target, crew, progress)]


class _Crew:
    """Chooses restorers, and keeps the last one at work."""

    def __init__(self, config: RestoreConfig) -> None:
        self.config = config
        self.named: Weights | None = None if config.model == AUTO else find(config.model)
        self._last: tuple[Weights, WholeRestorer] | None = None

    def choice(self, looks: Callable[[], Ailment]) -> Choice:
        """Who works; `looks` is asked only where the user has not said."""
        if self.named is not None:
            return Choice(weights=self.named, reason=f"restored with {self.named.name} (as requested)")
        chosen = choose(looks(), at_hand())
        if chosen.weights is None and not chosen.sound:
            raise FreezeframeError(chosen.reason)
        return chosen

    def at_work(self, weights: Weights) -> WholeRestorer:
        if self._last is None or self._last[0] != weights:
            self._last = None  # gives its memory back before the next one takes some
            wish = self.config
            restorer = load_whole(
                find(weights.name).path if weights.release else weights.path,
                device=wish.device,
                precision=wish.precision,
                tile=wish.tile,
            )
            self._last = weights, restorer
        return self._last[1]

    def restored(self, light: Tensor, restorer: WholeRestorer) -> Tensor:
        """[3, H, W] linear RGB at the strength that was asked for."""
        if not self.config.strength:
            return enlarged(light[None], restorer.scale)[0]
        after = restorer(light[None])
        return torch.lerp(enlarged(light[None], restorer.scale), after, self.config.strength)[0]


def _photo(source: Path, output: Claim, crew: _Crew, *, watch: Advance = quiet) -> Restored:
    check = unchanged(source)
    picture = read_photo(source)
    require(str(source), picture.size, bytes_per_pixel=PHOTO_BYTES)
    light = picture.linear()
    chosen = crew.choice(lambda: examine(light))
    after, reason = picture, chosen.reason
    if chosen.weights is not None:
        restorer = crew.at_work(chosen.weights)
        restorer.watch = watch
        after = picture.with_light(crew.restored(light, restorer))
    if np.array_equal(after.pixels, picture.pixels):
        reason, data = not_changed(chosen), _passed_on(picture, output.path)
    else:
        data = encoded(after, output.path)
    check()
    output.write(data)
    return Restored(source=source, output=output.path, status="done", reason=reason)


def _passed_on(picture: PhotoPicture, output: Path) -> bytes:
    """A sound photo: the very file where its kind stays the same, else its pixels."""
    if picture.file is not None and picture.file.suffix.lower() == output.suffix.lower():
        return picture.file.read_bytes()
    return encoded(picture, output)


def _folder(source: Path, output: Path, crew: _Crew, progress: Advance) -> list[Restored]:
    """Each photo by itself: they need not be of one size, and what is there already is not made again."""
    photos = photos_in(source)
    if output.exists() and not output.is_dir():
        raise UnwritableOutput(f"{output}: is a file; name a folder")
    if output.resolve() == source.resolve():
        raise UnwritableOutput(f"{output}: is the input folder itself; name another one")
    places = _places(photos, output)
    force = crew.config.output.force
    finished = {} if force else {p: t for p, t in places.items() if t.exists()}
    claims = {
        photo: claim_photo(target, inputs=[photo], force=force, trial=False)
        for photo, target in places.items()
        if photo not in finished
    }
    progress(len(finished), len(places))
    done = []
    for photo, target in places.items():
        if photo in finished:
            done.append(Restored(source=photo, output=target, status="skipped", reason="is there already"))
            continue
        done.append(_one_of_many(photo, claims[photo], crew))
        progress(1, len(places))
    return done


def _one_of_many(photo: Path, target: Claim, crew: _Crew) -> Restored:
    try:
        return _photo(photo, target, crew)
    except FreezeframeError as error:
        return Restored(source=photo, output=target.path, status="failed", reason=str(error))


def photos_in(folder: Path) -> list[Path]:
    """The photos of a folder, by name; hidden ones and what is no photo are left out."""
    files = sorted(folder.iterdir())
    photos = [f for f in files if f.suffix.lower() in PHOTO_SUFFIXES and not f.name.startswith(".")]
    if not photos:
        raise UnreadableMedia(f"{folder}: holds no photos; name a folder of {', '.join(sorted(ENCODERS))}")
    return photos


def _places(photos: Sequence[Path], output: Path) -> dict[Path, Path]:
    """Each photo's name in the output folder; .png where its kind can only be read."""
    names = {p: p.name if p.suffix.lower() in ENCODERS else f"{p.stem}.png" for p in photos}
    taken: dict[str, Path] = {}
    for photo, name in names.items():
        other = taken.setdefault(name, photo)
        if other != photo:
            raise UnwritableOutput(f"{output / name}: both {other} and {photo} would become this; rename one")
    return {photo: output / name for photo, name in names.items()}


def _video(source: Path, output: Path, crew: _Crew, progress: Advance) -> Restored:
    opened = open_source(source, crew.config.output)
    chosen = crew.choice(lambda: _typical(opened))
    restorer = crew.at_work(chosen.weights) if chosen.weights else None
    if restorer is not None and restorer.scale > 1:
        raise FreezeframeError(
            f"{source}: {crew.config.model} makes pictures {restorer.scale} times as large, and a video keeps"
            " its size; write its frames as photos first, or name a restorer at scale 1"
        )
    sink = open_sink(opened, output, crew.config.output, key=_key(crew.config, chosen))
    try:
        progress(sink.finished, opened.count)
        changed = sink.finished > 0  # what an earlier run did is not known
        for frame in opened.frames(first=sink.finished):
            after = _frame(frame, restorer, crew)
            changed = changed or after is not frame
            sink.write([after])
            progress(1, opened.count)
        sheet = sink.finish()
    except BaseException:
        sink.abort()
        raise
    reason = chosen.reason if changed else not_changed(chosen)
    return Restored(source=source, output=output, status="done", reason=reason, plumbing=sheet)


def _frame(frame: Frame, restorer: WholeRestorer | None, crew: _Crew) -> Frame:
    """The frame itself where it stays as it is."""
    if restorer is None:
        return frame
    light = frame.picture.linear()
    after = crew.restored(light, restorer)
    return frame if torch.equal(after, light) else frame.showing(after)


def _typical(source: VideoSource | ImageFolderSource) -> Ailment:
    """What ails the middle one of several frames, number by number."""
    looks = [examine(frame.picture.linear()) for run in source.glimpses(LOOKS, 1) for frame in run]
    if not looks:
        raise UnreadableMedia(f"{source.name}: shows no frame by which to choose a restorer; name one")
    qualities = [look.quality or 100 for look in looks]
    return Ailment(
        noise=median(look.noise for look in looks),
        quality=int(median(qualities)),
        blur=median(look.blur for look in looks),
        defocus=median(look.defocus for look in looks),
        grey=all(look.grey for look in looks),
    )


def _key(config: RestoreConfig, chosen: Choice) -> str:
    """A fingerprint of all that changes a frame, so that a resumed run joins only its own kind."""
    weights = sha256_of(chosen.weights.path) if chosen.weights else ""
    what = asdict(replace(config, output=replace(config.output, force=False), model=weights))
    return hashlib.sha256(json.dumps([what, versions()], default=str).encode()).hexdigest()[:16]
