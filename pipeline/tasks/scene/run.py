"""`freezeframe scene`: one clip or a folder of photos, its static scene rebuilt, and what to show of it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
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
from freezeframe.pipeline.solvers.scene_fit import Shot, build_fit, check_feasibility, render_frame, run
from freezeframe.pipeline.support.deadline import Deadline
from freezeframe.pipeline.support.media import open_sink, open_source, settings_key
from freezeframe.pipeline.support.progress import ProgressCallback, null_progress
from freezeframe.splatting.camera.trajectory import Views
from freezeframe.splatting.decision.feasibility import too_few_frames
from freezeframe.splatting.io.nerf_datasets import PosedImages
from freezeframe.splatting.optim.losses import psnr_of_reblur
from freezeframe.splatting.optim.optimizer import Fit, FitProgress

from .evaluate import EvalMetrics, evaluate
from .exports import render_flythrough, render_slow_motion, save_scene
from .fallback import FallbackResult, locked_job_folder, sharp_name, write_fallback
from .report import SceneReport
from .shot import SceneContext, locate_shot, measure_shot, read_frames

SCENE_SUFFIXES = (".ply", ".png")  # what `--save-scene` may be: Gaussians, or a panorama
CHECKPOINT_SECONDS = 10.0  # seconds between checkpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneOptions:
    """What the user wants to see beside the sharp frames."""

    subframes: int = 0  # pictures inside one exposure; 0: none
    scene: Path | None = None  # also keep the scene itself here
    poses: Path | None = None  # a COLMAP model or an LLFF folder
    evaluate: bool = False  # on the held-out views of an LLFF folder


def rebuild(  # noqa: PLR0913  # what, where, how, and who is told of either way
    source: Path,
    output: Path,
    *,
    config: Config,
    scene_options: SceneOptions,
    on_fit_progress: Callable[[FitProgress], None],
    on_prepare_progress: ProgressCallback = null_progress,
    on_progress: ProgressCallback = null_progress,
    on_rejected: Callable[[str], None] = lambda reason: None,
) -> SceneReport | FallbackResult:
    """Rebuild the static scene of one shot and write it into the folder `output`.

    Where the scene cannot be rebuilt, the frames are sharpened the usual way instead, and the reason is told.

    Args:
        source: A video file or a folder of photos.
        output: A folder, made when everything is done; an interrupted run goes on from its last checkpoint.
        config: `splat`, `measure` and `output` are used; all of it where frames are sharpened the usual way.
        scene_options: What to show.
        on_fit_progress: Told after each step of the fit.
        on_prepare_progress: Told of each piece of the work before the fit: frames read, laid onto each other, sharpened.
        on_progress: Told of each frame that is sharpened the usual way.
        on_rejected: Told why no scene can be rebuilt, as soon as that is known.

    Raises:
        FreezeframeError: The footage cannot be read, or the folder cannot be written.
    """
    deadline = Deadline.within(60 * config.splat.budget)
    target_claim = _claim_output(source, output, scene_options, force=config.output.force)
    posed_images = load_posed_images(scene_options.poses or source)
    if scene_options.poses and posed_images is None:
        raise UnreadableMedia(
            f"{scene_options.poses}: holds no cameras; name a COLMAP model or an LLFF folder"
        )
    pictures = posed_images.paths[0].parent if posed_images and not scene_options.poses else source
    context = SceneContext(
        deadline=deadline, on_fit_progress=on_fit_progress, on_prepare_progress=on_prepare_progress
    )
    with locked_job_folder(target_claim):
        try:
            return _rebuild_scene(
                source,
                target_claim,
                config=config,
                scene_options=scene_options,
                context=context,
                known=(pictures, posed_images),
            )
        except (NoScene, MissingExtra) as why:
            on_rejected(str(why))
            return write_fallback(
                pictures, target_claim, str(why), config=config, on_progress=on_progress, deadline=deadline
            )


def _claim_output(source: Path, output: Path, scene_options: SceneOptions, *, force: bool) -> Claim:
    """Learn now that a result would replace something, and find what an earlier run moved aside."""
    check_collisions({"the output": output, "--save-scene": scene_options.scene})
    if scene_options.scene is not None and scene_options.scene.suffix.lower() not in SCENE_SUFFIXES:
        raise UnwritableOutput(
            f"{scene_options.scene}: a scene is kept as {' or '.join(SCENE_SUFFIXES)}; name such a file"
        )
    restore_replaced(work_dir(output), output)
    return claim(output, inputs=[source], force=force, kind="folder")


def _rebuild_scene(  # noqa: PLR0913
    source: Path,
    target_claim: Claim,
    *,
    config: Config,
    scene_options: SceneOptions,
    context: SceneContext,
    known: tuple[Path, PosedImages | None],
) -> SceneReport:
    start_time, output = time.monotonic(), target_claim.path
    pictures, posed_images = known
    opened = open_source(pictures, config.output)
    before = opened.fingerprint()
    scene_claim = scene_options.scene and claim(
        scene_options.scene, inputs=[source], force=config.output.force, trial=True
    )
    frames = read_frames(opened, context)
    if few := too_few_frames(len(frames)):
        raise NoScene(few)
    shot, clear = measure_shot(
        frames,
        config,
        context,
        photos=source.is_dir() and config.measure.shutter is None,
        posed=bool(posed_images),
    )
    fallback_frames = shot.images if shot.restored is None else shot.restored
    shot, numbers = locate_shot(shot, clear, frames, posed_images, source, context)
    feasibility = check_feasibility(shot)
    if not feasibility:
        raise NoScene(feasibility.reason)
    context.deadline.check("the fit was to begin")
    timed = replace(config.splat, budget=context.deadline.remaining / 60)
    fit = build_fit(shot, feasibility, timed, device=find_device(config.device))
    job = _job(output, f"{opened.name} {len(frames)} {settings_key(config)}")
    psnr = _run_resumable(fit, job / "fit.pt", context.on_fit_progress)
    staging = job / "made"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    area_fraction = _write_frames(
        opened, frames, FittedShot(fit, shot, numbers, fallback_frames), staging / sharp_name(source), config
    )
    save_scene(fit, [frames[k] for k in numbers], staging)
    render_flythrough(fit, staging / "flythrough.mp4", rate=opened.rate)
    if scene_options.subframes:
        render_slow_motion(fit, staging / "slow.mp4", count=scene_options.subframes, rate=opened.rate)
    report = SceneReport(
        source=str(source), output=str(output), kind=shot.camera.path.kind, mode=feasibility.mode,
        reason=feasibility.reason, shutter=float(fit.trajectory.shutter.detach()), frames=len(frames),
        registered=len(numbers), static=float(shot.camera.static.mean()), psnr=psnr, area_fraction=area_fraction,
        seconds=time.monotonic() - start_time, evaluation=_evaluate(fit, posed_images) if scene_options.evaluate else None,
        files=tuple(sorted(each.name for each in staging.iterdir())),
    )  # fmt: skip
    (staging / "report.json").write_text(json.dumps(asdict(report), indent=2) + "\n")
    check_unchanged(opened, before)
    target_claim.publish(staging)
    remove(job / "fit.pt")
    if scene_claim:
        _copy_scene(output, scene_claim)
    return report


def _evaluate(fit: Fit, posed_images: PosedImages | None) -> EvalMetrics:
    paths, views = holdout_views(posed_images) if posed_images else ([], None)
    if not paths or views is None:
        raise FreezeframeError("--eval needs a folder with cameras and held-out views; see docs/user/scenes.md")
    truths = torch.stack([read_photo(path).linear() for path in paths])
    device = fit.observations.images.device
    views_on_device = Views(viewmats=views.viewmats.to(device), Ks=views.Ks.to(device))
    return evaluate(fit.scene, truths.to(device), views_on_device)


def _copy_scene(output: Path, target: Claim) -> None:
    """Copy the scene to where the user wants it too."""
    scene_file = next(
        (output / name for name in ("scene.ply", "panorama.png") if (output / name).exists()), None
    )
    if scene_file is None or target.path.suffix.lower() != scene_file.suffix:
        suffix = scene_file.suffix if scene_file else "its own suffix"
        raise UnwritableOutput(f"{target.path}: this scene is kept as {suffix}; it is complete in {output}")
    with target.draft() as path:
        shutil.copyfile(scene_file, path)


def _job(output: Path, identity: str) -> Path:
    """The folder of the unfinished work; an older one of another kind is emptied."""
    job, label = work_dir(output), work_dir(output) / "identity"
    if not label.exists() or label.read_text() != identity:
        for entry in job.iterdir():
            if entry.name != LOCK:
                remove(entry)
    write_atomic(identity.encode(), label)
    return job


def _run_resumable(fit: Fit, checkpoint: Path, on_fit_progress: Callable[[FitProgress], None]) -> float:
    """Run the fit, from its last checkpoint on; the mean PSNR of the re-blurred frames, dB."""
    if checkpoint.exists():
        fit.restore(torch.load(checkpoint, weights_only=True, map_location="cpu"))
    saved = time.monotonic()

    def save_checkpoint(running_fit: Fit) -> None:
        nonlocal saved
        if time.monotonic() - saved > CHECKPOINT_SECONDS or running_fit.progress >= 1:
            torch.save(running_fit.state(), checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
            saved = time.monotonic()

    run(fit, on_fit_progress, save_checkpoint=save_checkpoint)
    with torch.no_grad():
        psnrs = [
            psnr_of_reblur(fit.reblurred(k), fit.observations.images[k], fit.observations.weights[k])
            for k in range(len(fit.observations))
        ]
    return sum(psnrs) / len(psnrs)


@dataclass(frozen=True, slots=True)
class FittedShot:
    """A fit, which frames it was made of, and what becomes of places and frames that it does not show."""

    fit: Fit
    shot: Shot
    numbers: tuple[int, ...]
    fallback_frames: Tensor  # [T, 3, H, W] of all frames


def _write_frames(
    source: VideoSource | ImageFolderSource,
    frames: Sequence[Frame],
    placed: FittedShot,
    path: Path,
    config: Config,
) -> float:
    """The footage with its scene made sharp, all else the usual way; the mean share of the scene."""
    sink, area_fractions = open_sink(source, path, config.output, key=settings_key(config)), []
    try:
        for k, (frame, other) in enumerate(zip(frames, placed.fallback_frames, strict=True)):
            if k not in placed.numbers:
                # What is not changed is not written anew: a photograph stays the file that it was.
                same = torch.equal(other, frame.picture.linear())
                sink.write([frame if same else frame.with_image(other)])
                continue
            image, area_fraction = render_frame(placed.fit, placed.shot, placed.numbers.index(k), other)
            sink.write([frame.with_image(image)])
            area_fractions.append(float(area_fraction.mean()))
        sink.finish()
    except BaseException:
        sink.abort()
        raise
    return sum(area_fractions) / len(area_fractions)
