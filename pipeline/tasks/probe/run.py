"""Diagnosis of a clip before any work: where it is blurred, how far, in which direction and why."""

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
from freezeframe.data.media.files.suffixes import PHOTO_SUFFIXES
from freezeframe.data.media.folder.source import ImageFolderSource, open_folder
from freezeframe.data.media.photo.files import exposure_seconds, read_photo
from freezeframe.data.media.video_in.source import VideoSource, open_video
from freezeframe.data.types import Clip, Frame, Motion, stack_linear
from freezeframe.motion.camera.homography import fit_homography
from freezeframe.motion.camera.segmentation import segment_movers
from freezeframe.motion.diagnosis.diagnose import diagnose
from freezeframe.motion.diagnosis.plot import plot_diagnosis
from freezeframe.pipeline.config import GateConfig, MeasureConfig, ShotConfig
from freezeframe.pipeline.stages.first_pass import is_cut
from freezeframe.pipeline.stages.flows import FlowCache
from freezeframe.pipeline.stages.gate import blur_threshold
from freezeframe.pipeline.stages.measure import blurred_frames, measure
from freezeframe.pipeline.stages.survey import Survey, survey
from freezeframe.pipeline.support.limits.capacity import PHOTO_BYTES, check_memory, check_window_memory
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress

from .result import Probe, SampledFrame

FrameTriplet = tuple[Frame | None, Frame, Frame | None]

PLOTS = (".png", ".svg", ".pdf")


def probe(
    source: str | Path,
    *,
    stride: int = 5,
    plot: str | Path | None = None,
    force: bool = False,
    progress: ProgressCallback = null_progress,
) -> Probe:
    """Diagnose a clip, a folder of numbered images or a photo. Holds a few frames at a time.

    Args:
        source: A video file, a folder or a photo.
        stride: Diagnose every `stride`-th frame; all are decoded, to detect the cuts.
        plot: Path of a plot of blur and sharpness over time and of the most blurred frame (.png, .svg, .pdf).
        force: Replace an existing plot.
        progress: Called with the frames done since the last call and their total (None: unknown).

    Raises:
        UnreadableMedia: The source is no video, photo or folder of images.
        UnwritableOutput: The plot exists (without force) or cannot be written.
        MissingExtra: A plot needs matplotlib.
    """
    if stride < 1:
        raise ValueError(f"stride must be 1 or more, not {stride}")
    path = Path(source)
    plot_claim = None if plot is None else _claim_plot(Path(plot), path, force=force)
    result, most_blurred = _probe_photo(path) if _is_photo(path) else _probe_clip(path, stride, progress)
    if plot_claim is not None:
        _write_plot(plot_claim, result, most_blurred)
    return result


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTO_SUFFIXES and not path.is_dir()


def _probe_photo(path: Path) -> tuple[Probe, Frame]:
    picture = read_photo(path)
    check_memory(str(path), picture.size, bytes_per_pixel=PHOTO_BYTES)
    frame = Frame(index=0, time=Fraction(0), picture=picture)
    sampled_frame = _diagnose_single_frame(frame)
    result = Probe(
        name=str(path),
        kind="photo",
        size=picture.size,
        rate=None,
        frames=1,
        shutter=None,
        shutter_confidence=0.0,
        exposure_time=exposure_seconds(picture),
        blur_threshold_px=blur_threshold(picture.size, GateConfig()),
        sampled_frames=(sampled_frame,),
    )
    return result, frame


def _probe_clip(path: Path, stride: int, progress: ProgressCallback) -> tuple[Probe, Frame]:
    source = _open(path)
    check_window_memory(source, ShotConfig())
    motion_survey = survey(source, MeasureConfig(), progress=progress)
    scanner = _ClipScanner(motion_survey)
    progress(0, source.count)
    for triplet in _frame_triplets(source.frames()):
        scanner.add(triplet, sampled=triplet[1].index % stride == 0)
        progress(1, source.count)
    rate = float(source.rate) if isinstance(source, VideoSource) else None
    result = Probe(
        name=source.name,
        kind="clip",
        size=scanner.most_blurred.picture.size,
        rate=rate,
        frames=scanner.frames,
        shutter=motion_survey.shutter,
        shutter_confidence=motion_survey.confidence,
        exposure_time=motion_survey.shutter / rate if rate else None,
        blur_threshold_px=blur_threshold(scanner.most_blurred.picture.size, GateConfig()),
        sampled_frames=tuple(scanner.sampled_frames),
        scene_cuts=tuple(scanner.scene_cuts),
        rotated_90=_is_rotated_90(source),
        notes=(*source.notes, *_damage_notes(source)),
    )
    return result, scanner.most_blurred


def _open(path: Path) -> VideoSource | ImageFolderSource:
    # A damaged clip still gets a diagnosis.
    return open_folder(path) if path.is_dir() else open_video(path, skip_damaged=True)


def _damage_notes(source: VideoSource | ImageFolderSource) -> Iterator[str]:
    return (str(position) for position in source.damage)


def _is_rotated_90(source: VideoSource | ImageFolderSource) -> bool:
    matrix = source.info.display_matrix if isinstance(source, VideoSource) else None
    return matrix is not None and matrix[0] == 0 and matrix[1] != 0


def _frame_triplets(frames: Iterable[Frame]) -> Iterator[FrameTriplet]:
    """Each frame between its neighbours of the same shot; None at the ends of a shot."""
    before: Frame | None = None
    current: Frame | None = None
    for after in itertools.chain(frames, [None]):
        cut = bool(current and after and is_cut(current.picture.luma(), after.picture.luma()))
        if current is not None:
            yield before, current, None if cut else after
        before, current = None if cut else current, after


class _ClipScanner:
    """Diagnoses a clip frame by frame."""

    def __init__(self, motion_survey: Survey) -> None:
        self._survey, self._flow_cache = motion_survey, FlowCache()
        self.sampled_frames: list[SampledFrame] = []
        self.scene_cuts: list[int] = []
        self.frames = 0
        self.most_blurred: Frame

    def add(self, triplet: FrameTriplet, *, sampled: bool) -> None:
        """Add the next frame of the clip; only a `sampled` one is diagnosed."""
        before, current, after = triplet
        self.frames += 1
        if before is None and current.index:
            self.scene_cuts.append(current.index)
        if not sampled:
            return
        sampled_frame = (
            _diagnose_frame(current, *self._measure_triplet(before, current, after))
            if before or after
            else _diagnose_single_frame(current)
        )
        if not self.sampled_frames or sampled_frame.blur_px > max(
            each.blur_px for each in self.sampled_frames
        ):
            self.most_blurred = current
        self.sampled_frames.append(sampled_frame)

    def _measure_triplet(
        self, before: Frame | None, current: Frame, after: Frame | None
    ) -> tuple[Clip, Motion, int]:
        frames = [frame for frame in (before, current, after) if frame is not None]
        times = tuple(frame.time for frame in frames)
        images = stack_linear(frames)
        clip = Clip(images=images, times=times, shutter=self._survey.shutter, owned=range(len(frames)))
        shot = len(self.scene_cuts)
        motion = measure(clip, shot, self._survey, config=MeasureConfig(), flow_cache=self._flow_cache)
        return clip, motion, frames.index(current)


def _diagnose_frame(frame: Frame, clip: Clip, motion: Motion, position: int) -> SampledFrame:
    independent = _independent_motion(motion, position)
    diagnosis = diagnose(clip.images[position], blur=motion.blur[position], independent_motion=independent)
    return SampledFrame(
        index=frame.index,
        time=float(frame.time),
        blur_px=diagnosis.blur,
        blurred=bool(blurred_frames(motion, range(position, position + 1), GateConfig())),
        camera_speed=_camera_speed(motion.velocity[position], independent),
        diagnosis=diagnosis,
    )


def _independent_motion(motion: Motion, position: int) -> Tensor:
    """Probability of motion other than the camera's. [H, W] in [0, 1]."""
    neighbour = position + 1 if position + 1 < len(motion.velocity) else position - 1
    flow = motion.flows[position, neighbour]
    camera = fit_homography(flow.uv, flow.confidence)
    return torch.zeros_like(flow.confidence) if camera is None else segment_movers(flow, camera)


def _diagnose_single_frame(frame: Frame) -> SampledFrame:
    """Diagnose a frame without neighbours."""
    diagnosis = diagnose(frame.picture.linear())
    return SampledFrame(
        index=frame.index,
        time=float(frame.time),
        blur_px=diagnosis.blur,
        blurred=diagnosis.blur >= blur_threshold(frame.picture.size, GateConfig()),
        camera_speed=None,
        diagnosis=diagnosis,
    )


def _camera_speed(velocity: Tensor, independent: Tensor) -> float | None:
    background = torch.hypot(*velocity[:, ::4, ::4])[independent[::4, ::4] < 0.5]
    return float(background.median()) if len(background) else None


def _claim_plot(plot: Path, source: Path, *, force: bool) -> Claim:
    """Check that the plot can be written before a long clip is diagnosed."""
    if find_spec("matplotlib") is None:
        raise MissingExtra("matplotlib", "plot", "Plotting a diagnosis")
    result = claim(plot, inputs=[source], force=force, trial=plot.suffix.lower() in PLOTS)
    if plot.suffix.lower() not in PLOTS:
        raise UnwritableOutput(f"{plot}: a plot is written as {', '.join(PLOTS)}; name such a file")
    return result


def _write_plot(plot: Claim, result: Probe, most_blurred: Frame) -> None:
    index = [sampled_frame.index for sampled_frame in result.sampled_frames].index(most_blurred.index)
    with plot.draft() as path:
        plot_diagnosis(
            path,
            [sampled_frame.diagnosis for sampled_frame in result.sampled_frames],
            times=[sampled_frame.time for sampled_frame in result.sampled_frames],
            frame=most_blurred.picture.linear(),
            index=index,
            blur_threshold_px=result.blur_threshold_px if result.kind == "clip" else None,
        )
