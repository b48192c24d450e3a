"""`freezeframe scene`: rebuilds the static scene of a clip or a folder of photos."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from freezeframe.data.errors import FreezeframeError, MissingExtra, NoScene, UnreadableMedia, UnwritableOutput
from freezeframe.data.media.files.directories import remove, restore_replaced, work_dir
from freezeframe.data.media.files.fingerprint import check_unchanged
from freezeframe.data.media.files.lock import NAME as LOCK
from freezeframe.data.media.files.preflight import check_collisions
from freezeframe.data.media.files.publish import Claim, claim, write_atomic
from freezeframe.data.media.folder.source import ImageFolderSource
from freezeframe.data.media.photo.files import read_photo
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.types import Frame
from freezeframe.models.runtime.device import find_device
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.solvers.camera_poses import holdout_views, load_posed_images
from freezeframe.pipeline.solvers.scene_fit import FittedShot, OnProgress, fit_shot, render_frame, run
from freezeframe.pipeline.support.limits.deadline import Deadline
from freezeframe.pipeline.support.media import open_sink, open_source, settings_key
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress
from freezeframe.splatting.decision.feasibility import too_few_frames
from freezeframe.splatting.io.nerf_datasets import PosedImages
from freezeframe.splatting.optim.losses import psnr_of_reblur
from freezeframe.splatting.optim.optimizer import Fit

from .evaluate import EvalMetrics, evaluate
from .exports import render_flythrough, render_slow_motion, save_scene
from .fallback import FallbackResult, locked_job_folder, sharp_name, write_fallback
from .report import SceneReport
from .shot import SceneContext, locate_cameras, match_cameras, measure_shot, read_frames

SCENE_SUFFIXES = (".ply", ".png")  # of `--save-scene`: Gaussians, or a panorama


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneOptions:
    """Inputs and outputs beside the deblurred frames."""

    subframes: int = 0  # images per exposure of the slow motion; 0: no slow motion
    scene: Path | None = None  # copy of the scene
    poses: Path | None = None  # COLMAP model or LLFF folder
    evaluate: bool = False  # on the held-out views of the dataset
    checkpoint_seconds: float = 10.0  # between checkpoints of the fit


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneCallbacks:
    """Progress callbacks of `rebuild`."""

    on_fit_progress: OnProgress = lambda progress: None  # after each step of the fit
    on_prepare_progress: ProgressCallback = null_progress  # for each unit of work before the fit
    on_progress: ProgressCallback = (
        null_progress  # for each frame of the video pipeline, if it is used instead
    )
    on_rejected: Callable[[str], None] = lambda reason: None  # with the reason, as soon as it is known


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """Inputs, output and settings of one run."""

    source: Path  # as named by the user
    images: Path  # a video or a folder of photos
    posed_images: PosedImages | None
    output: Claim
    config: Config
    options: SceneOptions
    context: SceneContext
    start_time: float = field(default_factory=time.monotonic)


def rebuild(
    source: Path,
    output: Path,
    *,
    config: Config,
    scene_options: SceneOptions = SceneOptions(),
    callbacks: SceneCallbacks = SceneCallbacks(),
) -> SceneReport | FallbackResult:
    """Rebuild the static scene of one shot and write it into the folder `output`.

    If the scene cannot be rebuilt, the frames are deblurred by the video pipeline instead.

    Args:
        source: A video file or a folder of photos.
        output: A folder, created at the end. An interrupted run continues from its last checkpoint.
        config: `splat`, `measure` and `output` apply to the scene, all settings to the video pipeline.
        scene_options: Further inputs and outputs.
        callbacks: Progress callbacks.

    Raises:
        FreezeframeError: The input cannot be read, or the folder cannot be written.
    """
    deadline = Deadline.within(60 * config.splat.budget)
    target_claim = _claim_output(source, output, scene_options, force=config.output.force)
    posed_images = load_posed_images(scene_options.poses or source)
    if scene_options.poses and posed_images is None:
        raise UnreadableMedia(
            f"{scene_options.poses}: holds no cameras; name a COLMAP model or an LLFF folder"
        )
    job = _Job(
        source=source,
        images=posed_images.paths[0].parent if posed_images and not scene_options.poses else source,
        posed_images=posed_images,
        output=target_claim,
        config=config,
        options=scene_options,
        context=SceneContext(
            deadline=deadline,
            on_fit_progress=callbacks.on_fit_progress,
            on_prepare_progress=callbacks.on_prepare_progress,
        ),
    )
    with locked_job_folder(target_claim):
        try:
            return _rebuild_scene(job)
        except (NoScene, MissingExtra) as error:
            callbacks.on_rejected(str(error))
            return write_fallback(
                job.images, target_claim, str(error),
                config=config, on_progress=callbacks.on_progress, deadline=deadline,
            )  # fmt: skip


def _claim_output(source: Path, output: Path, scene_options: SceneOptions, *, force: bool) -> Claim:
    """Check the outputs before any work, and restore what an interrupted run moved aside."""
    check_collisions({"the output": output, "--save-scene": scene_options.scene})
    if scene_options.scene is not None and scene_options.scene.suffix.lower() not in SCENE_SUFFIXES:
        raise UnwritableOutput(
            f"{scene_options.scene}: a scene is written as {' or '.join(SCENE_SUFFIXES)}; name such a file"
        )
    restore_replaced(work_dir(output), output)
    return claim(output, inputs=[source], force=force, kind="folder")


def _rebuild_scene(job: _Job) -> SceneReport:
    opened = open_source(job.images, job.config.output)
    before = opened.fingerprint()
    scene_claim = job.options.scene and claim(
        job.options.scene, inputs=[job.source], force=job.config.output.force, trial=True
    )
    frames = read_frames(opened, job.context)
    if reason := too_few_frames(len(frames)):
        raise NoScene(reason)
    identity = f"{opened.name} {len(frames)} {settings_key(job.config)}"
    fitted, fallback_frames = _fit(job, frames, identity=identity)
    staging = work_dir(job.output.path) / "made"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    blended = _blended_frames(frames, fitted, fallback_frames)
    area_fraction = _write_frames(opened, blended, staging / sharp_name(job.source), job.config)
    save_scene(fitted.fit, [frames[k] for k in fitted.numbers], staging)
    render_flythrough(fitted.fit, staging / "flythrough.mp4", rate=opened.rate)
    if job.options.subframes:
        render_slow_motion(fitted.fit, staging / "slow.mp4", count=job.options.subframes, rate=opened.rate)
    report = _report(job, fitted, staging, frames=len(frames), area_fraction=area_fraction)
    report.save(staging / "report.json")
    check_unchanged(opened, before)
    job.output.publish(staging)
    remove(_checkpoint(job))
    if scene_claim:
        _copy_scene(job.output.path, scene_claim)
    return report


def _fit(job: _Job, frames: Sequence[Frame], *, identity: str) -> tuple[FittedShot, Tensor]:
    """The finished fit, and all frames [T, 3, H, W] after the video pipeline."""
    shot, sharp_images = measure_shot(
        frames,
        job.config,
        job.context,
        photos=job.source.is_dir() and job.config.measure.shutter is None,
        posed=bool(job.posed_images),
    )
    poses = (
        locate_cameras(shot, sharp_images, frames, job.source, context=job.context)
        if job.posed_images is None
        else match_cameras(job.posed_images, frames, job.source)
    )
    job.context.deadline.check("cameras were estimated")
    config = replace(job.config.splat, budget=job.context.deadline.remaining / 60)

    def run_fit(fit: Fit) -> None:
        _prepare_job_folder(job.output.path, identity)
        _run_resumable(fit, job)

    fitted = fit_shot(shot, poses, config, run_fit=run_fit, device=find_device(job.config.device))
    return fitted, shot.images if shot.restored is None else shot.restored


def _report(
    job: _Job, fitted: FittedShot, staging: Path, *, frames: int, area_fraction: float
) -> SceneReport:
    evaluation = _evaluate(fitted.fit, job.posed_images) if job.options.evaluate else None
    return SceneReport(
        source=str(job.source), output=str(job.output.path), kind=fitted.shot.camera.path.kind,
        mode=fitted.feasibility.mode, reason=fitted.feasibility.reason,
        shutter=float(fitted.fit.trajectory.shutter.detach()), frames=frames, registered=len(fitted.numbers),
        static=float(fitted.shot.camera.static.mean()), psnr=_mean_reblur_psnr(fitted.fit),
        area_fraction=area_fraction, seconds=time.monotonic() - job.start_time, evaluation=evaluation,
        files=tuple(sorted(each.name for each in staging.iterdir())),
    )  # fmt: skip


def _evaluate(fit: Fit, posed_images: PosedImages | None) -> EvalMetrics:
    paths, views = holdout_views(posed_images) if posed_images else ([], None)
    if not paths or views is None:
        raise FreezeframeError(
            "--eval needs a folder with cameras and held-out views; see docs/user/scenes.md"
        )
    truths = torch.stack([read_photo(path).linear() for path in paths])
    device = fit.observations.images.device
    return evaluate(fit.scene, truths.to(device), views.to(device))


def _copy_scene(output: Path, target: Claim) -> None:
    """Copy the scene to the path of `--save-scene`."""
    scene_file = next(
        (output / name for name in ("scene.ply", "panorama.png") if (output / name).exists()), None
    )
    if scene_file is None or target.path.suffix.lower() != scene_file.suffix:
        suffix = scene_file.suffix if scene_file else ".ply or .png"
        raise UnwritableOutput(
            f"{target.path}: this scene is written as {suffix}, and is complete in {output}; name a"
            f" {suffix} file"
        )
    with target.draft() as path:
        shutil.copyfile(scene_file, path)


def _prepare_job_folder(output: Path, identity: str) -> None:
    """Remove the unfinished work of runs with other inputs or settings."""
    job, label = work_dir(output), work_dir(output) / "identity"
    if not label.exists() or label.read_text() != identity:
        for entry in job.iterdir():
            if entry.name != LOCK:
                remove(entry)
    write_atomic(identity.encode(), label)


def _checkpoint(job: _Job) -> Path:
    return work_dir(job.output.path) / "fit.pt"


def _run_resumable(fit: Fit, job: _Job) -> None:
    """Run the fit from its last checkpoint, and save checkpoints."""
    checkpoint = _checkpoint(job)
    if checkpoint.exists():
        fit.load_state_dict(torch.load(checkpoint, weights_only=True, map_location="cpu"))
    saved = time.monotonic()

    def save_checkpoint(running_fit: Fit) -> None:
        nonlocal saved
        if time.monotonic() - saved > job.options.checkpoint_seconds or running_fit.progress >= 1:
            torch.save(running_fit.state_dict(), checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
            saved = time.monotonic()

    run(fit, job.context.on_fit_progress, save_checkpoint=save_checkpoint)


@torch.no_grad()
def _mean_reblur_psnr(fit: Fit) -> float:
    """Mean PSNR of the re-blurred frames, dB."""
    psnrs = [
        psnr_of_reblur(fit.reblur(k), fit.observations.images[k], fit.observations.weights[k])
        for k in range(len(fit.observations))
    ]
    return sum(psnrs) / len(psnrs)


def _blended_frames(
    frames: Sequence[Frame], fitted: FittedShot, fallback_frames: Tensor
) -> Iterator[tuple[Frame, float | None]]:
    """Frames with the scene blended in, and its area fraction; None for frames without a camera."""
    for k, (frame, fallback) in enumerate(zip(frames, fallback_frames, strict=True)):
        if k in fitted.numbers:
            image, weight = render_frame(fitted.fit, fitted.shot, fitted.numbers.index(k), fallback)
            yield frame.with_image(image), float(weight.mean())
        else:
            # Frames that do not change are copied: a photo remains the same file.
            unchanged = torch.equal(fallback, frame.picture.linear())
            yield frame if unchanged else frame.with_image(fallback), None


def _write_frames(
    source: VideoSource | ImageFolderSource,
    frames: Iterable[tuple[Frame, float | None]],
    path: Path,
    config: Config,
) -> float:
    """Write all frames; returns the mean area fraction of the scene."""
    sink, area_fractions = open_sink(source, path, config.output, key=settings_key(config)), []
    try:
        for frame, area_fraction in frames:
            sink.write([frame])
            if area_fraction is not None:
                area_fractions.append(area_fraction)
        sink.finish()
    except BaseException:
        sink.abort()
        raise
    return sum(area_fractions) / len(area_fractions)
