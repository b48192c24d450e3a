"""What ails a clip, before any work is done: where it is blurred, how far, in which direction and by what."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from freezeframe.data.errors import MissingExtra, UnwritableOutput
from freezeframe.data.media.files.publish import Claim, claim
from freezeframe.data.media.folder.source import ImageFolderSource, open_folder
from freezeframe.data.media.photo.files import PHOTO_SUFFIXES, exposure_seconds, read_photo
from freezeframe.data.media.video_in.source import VideoSource, open_video
from freezeframe.data.types import Clip, Frame, Motion, stack_light
from freezeframe.motion.camera.homography import homography_of_flow
from freezeframe.motion.camera.segmentation import movers
from freezeframe.motion.diagnosis.diagnose import diagnose
from freezeframe.motion.diagnosis.plot import plot_diagnosis
from freezeframe.pipeline.config import GateConfig, MeasureConfig, ShotConfig
from freezeframe.pipeline.stages.capacity import PHOTO_BYTES, require, require_window
from freezeframe.pipeline.stages.first_pass import is_cut
from freezeframe.pipeline.stages.gate import blur_threshold
from freezeframe.pipeline.stages.measure import Memory, Survey, blurred, measure, survey
from freezeframe.pipeline.support.progress import Advance, quiet

from .result import Probe, Sight

Trio = tuple[Frame | None, Frame, Frame | None]

PLOTS = (".png", ".svg", ".pdf")


def probe(
    source: str | Path,
    *,
    every: int = 5,
    plot: str | Path | None = None,
    force: bool = False,
    progress: Advance = quiet,
) -> Probe:
    """Diagnose a clip, a folder of numbered images or a photo. Holds a few frames at a time.

    Args:
        source: A video file, a folder or a photo.
        every: Look at each n-th frame only; all are decoded, to find the cuts.
        plot: Draw blur and sharpness over time and the most blurred frame here (.png, .svg or .pdf).
        force: Replace a drawing that is there.
        progress: Called with frames done since the last call and frames in all (None where unknown).

    Raises:
        UnreadableMedia: The source is no video, photo or folder of images.
        UnwritableOutput: The drawing cannot go where it should.
        MissingExtra: A drawing is asked for without matplotlib.
    """
    if every < 1:
        raise ValueError(f"every must be 1 or more, not {every}")
    path = Path(source)
    canvas = None if plot is None else _canvas(Path(plot), path, force=force)
    found, strongest = _photo(path) if _is_photo(path) else _clip(path, every, progress)
    if canvas is not None:
        _draw(canvas, found, strongest)
    return found


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTO_SUFFIXES and not path.is_dir()


def _photo(path: Path) -> tuple[Probe, Frame]:
    picture = read_photo(path)
    require(str(path), picture.size, bytes_per_pixel=PHOTO_BYTES)
    frame = Frame(index=0, time=Fraction(0), picture=picture)
    sight = _blind(frame)
    found = Probe(
        name=str(path),
        kind="photo",
        size=picture.size,
        rate=None,
        frames=1,
        shutter=None,
        shutter_confidence=0.0,
        exposure=exposure_seconds(picture),
        limit=blur_threshold(picture.size, GateConfig()),
        sights=(sight,),
    )
    return found, frame


def _clip(path: Path, every: int, progress: Advance) -> tuple[Probe, Frame]:
    source = _open(path)
    require_window(source, ShotConfig())
    seen = survey(source, MeasureConfig(), progress=progress)
    look = _Look(seen)
    progress(0, source.count)
    for trio in _trios(source.frames()):
        look.over(trio, closely=trio[1].index % every == 0)
        progress(1, source.count)
    rate = float(source.rate) if isinstance(source, VideoSource) else None
    found = Probe(
        name=source.name,
        kind="clip",
        size=look.strongest.picture.size,
        rate=rate,
        frames=look.frames,
        shutter=seen.shutter,
        shutter_confidence=seen.confidence,
        exposure=seen.shutter / rate if rate else None,
        limit=blur_threshold(look.strongest.picture.size, GateConfig()),
        sights=tuple(look.sights),
        cuts=tuple(look.cuts),
        turned=_turned(source),
        notes=(*source.notes, *_damage(source)),
    )
    return found, look.strongest


def _open(path: Path) -> VideoSource | ImageFolderSource:
    # What is damaged is still worth a diagnosis.
    return open_folder(path) if path.is_dir() else open_video(path, skip_damaged=True)


def _damage(source: VideoSource | ImageFolderSource) -> Iterator[str]:
    return (str(place) for place in source.damage)


def _turned(source: VideoSource | ImageFolderSource) -> bool:
    matrix = source.info.display_matrix if isinstance(source, VideoSource) else None
    return matrix is not None and matrix[0] == 0 and matrix[1] != 0


def _trios(frames: Iterable[Frame]) -> Iterator[Trio]:
    """Each frame between its neighbours of the same shot, None where it has none."""
    before: Frame | None = None
    here: Frame | None = None
    for after in itertools.chain(frames, [None]):
        cut = bool(here and after and is_cut(here.picture.luma(), after.picture.luma()))
        if here is not None:
            yield before, here, None if cut else after
        before, here = None if cut else here, after


class _Look:
    """Goes over a clip frame by frame and notes what it sees."""

    def __init__(self, seen: Survey) -> None:
        self._seen, self._memory = seen, Memory()
        self.sights: list[Sight] = []
        self.cuts: list[int] = []
        self.frames = 0
        self.strongest: Frame

    def over(self, trio: Trio, *, closely: bool) -> None:
        """The next frame of the clip, with its neighbours."""
        before, here, after = trio
        self.frames += 1
        if before is None and here.index:
            self.cuts.append(here.index)
        if not closely:
            return
        sight = _sight(here, *self._between(before, here, after)) if before or after else _blind(here)
        if not self.sights or sight.reach > max(each.reach for each in self.sights):
            self.strongest = here
        self.sights.append(sight)

    def _between(self, before: Frame | None, here: Frame, after: Frame | None) -> tuple[Clip, Motion, int]:
        frames = [frame for frame in (before, here, after) if frame is not None]
        times = tuple(frame.time for frame in frames)
        images = stack_light(frames)
        clip = Clip(images=images, times=times, shutter=self._seen.shutter, kept=range(len(frames)))
        shot = len(self.cuts)
        motion = measure(clip, shot, self._seen, config=MeasureConfig(), memory=self._memory)
        return clip, motion, frames.index(here)


def _sight(frame: Frame, clip: Clip, motion: Motion, place: int) -> Sight:
    apart = _apart(motion, place)
    diagnosis = diagnose(clip.images[place], blur=motion.blur[place], movers=apart)
    return Sight(
        index=frame.index,
        time=float(frame.time),
        reach=diagnosis.blur,
        blurred=bool(blurred(motion, range(place, place + 1), GateConfig())),
        camera=_camera_speed(motion.velocity[place], apart),
        diagnosis=diagnosis,
    )


def _apart(motion: Motion, place: int) -> Tensor:
    """What moves otherwise than the camera. [H, W] in [0, 1]."""
    neighbour = place + 1 if place + 1 < len(motion.velocity) else place - 1
    flow = motion.flows[place, neighbour]
    camera = homography_of_flow(flow.shift, flow.trust)
    return torch.zeros_like(flow.trust) if camera is None else movers(flow, camera)


def _blind(frame: Frame) -> Sight:
    """What a frame without neighbours tells by itself."""
    diagnosis = diagnose(frame.picture.linear())
    return Sight(
        index=frame.index,
        time=float(frame.time),
        reach=diagnosis.blur,
        blurred=diagnosis.blur >= blur_threshold(frame.picture.size, GateConfig()),
        camera=None,
        diagnosis=diagnosis,
    )


def _camera_speed(velocity: Tensor, apart: Tensor) -> float | None:
    background = torch.hypot(*velocity[:, ::4, ::4])[apart[::4, ::4] < 0.5]
    return float(background.median()) if len(background) else None


def _canvas(plot: Path, source: Path, *, force: bool) -> Claim:
    """Where to draw, once it is sure that this can be done: a long clip must not be looked at for nothing."""
    if find_spec("matplotlib") is None:
        raise MissingExtra("matplotlib", "plot", "Drawing a diagnosis")
    found = claim(plot, inputs=[source], force=force, trial=plot.suffix.lower() in PLOTS)
    if plot.suffix.lower() not in PLOTS:
        raise UnwritableOutput(f"{plot}: draws {', '.join(PLOTS)} only; name such a file")
    return found


def _draw(plot: Claim, found: Probe, strongest: Frame) -> None:
    index = [sight.index for sight in found.sights].index(strongest.index)
    with plot.draft() as path:
        plot_diagnosis(
            path,
            [sight.diagnosis for sight in found.sights],
            times=[sight.time for sight in found.sights],
            frame=strongest.picture.linear(),
            index=index,
            limit=found.limit if found.kind == "clip" else None,
        )
