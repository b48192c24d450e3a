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
from freezeframe.data.media.files.lock import NAME as LOCK
from freezeframe.data.media.files.publish import Claim, claim, put_back, refuse_collisions, remove, save
from freezeframe.data.media.folder.source import ImageFolderSource
from freezeframe.data.media.photo.files import read_photo
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.media.video_out.fingerprint import refuse_changed, state_of
from freezeframe.data.media.video_out.sink import job_folder
from freezeframe.data.types import Frame
from freezeframe.models.runtime.device import find_device
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.solvers.camera_poses import held_out, posed
from freezeframe.pipeline.solvers.scene_fit import Shot, judged, prepared, rebuilt, run
from freezeframe.pipeline.support.deadline import Deadline
from freezeframe.pipeline.support.media import open_sink, open_source, settings_key
from freezeframe.pipeline.support.progress import Advance, quiet
from freezeframe.splatting.camera.trajectory import Views
from freezeframe.splatting.decision.feasibility import too_few
from freezeframe.splatting.io.nerf_datasets import Shots
from freezeframe.splatting.optim.losses import psnr_of_reblur
from freezeframe.splatting.optim.optimizer import Fit, Told

from .evaluate import Judged, evaluate
from .exports import fly_through, keep_scene, slow_motion
from .fallback import Instead, named_after, sharpened_instead, working_on
from .report import SceneReport
from .shot import Going, gathered, placed_shot, seen_shot

SCENES = (".ply", ".png")  # what `--save-scene` may be: Gaussians, or a panorama
SAVED = 10.0  # seconds between checkpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneWish:
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
    wish: SceneWish,
    tell: Callable[[Told], None],
    prepare: Advance = quiet,
    advance: Advance = quiet,
    refuse: Callable[[str], None] = lambda reason: None,
) -> SceneReport | Instead:
    """Rebuild the static scene of one shot and write it into the folder `output`.

    Where the scene cannot be rebuilt, the frames are sharpened the usual way instead, and the reason is told.

    Args:
        source: A video file or a folder of photos.
        output: A folder, made when everything is done; an interrupted run goes on from its last checkpoint.
        config: `splat`, `measure` and `output` are used; all of it where frames are sharpened the usual way.
        wish: What to show.
        tell: Told after each step of the fit.
        prepare: Told of each piece of the work before the fit: frames read, laid onto each other, sharpened.
        advance: Told of each frame that is sharpened the usual way.
        refuse: Told why no scene can be rebuilt, as soon as that is known.

    Raises:
        FreezeframeError: The footage cannot be read, or the folder cannot be written.
    """
    deadline = Deadline.within(60 * config.splat.budget)
    place = _claimed(source, output, wish, force=config.output.force)
    shots = posed(wish.poses or source)
    if wish.poses and shots is None:
        raise UnreadableMedia(f"{wish.poses}: holds no cameras; name a COLMAP model or an LLFF folder")
    pictures = shots.paths[0].parent if shots and not wish.poses else source
    going = Going(deadline=deadline, tell=tell, prepare=prepare)
    with working_on(place):
        try:
            return _rebuilt(source, place, config=config, wish=wish, going=going, known=(pictures, shots))
        except (NoScene, MissingExtra) as why:
            refuse(str(why))
            return sharpened_instead(
                pictures, place, str(why), config=config, advance=advance, deadline=deadline
            )


def _claimed(source: Path, output: Path, wish: SceneWish, *, force: bool) -> Claim:
    """Learn now that a result would replace something, and find what an earlier run moved aside."""
    refuse_collisions({"the output": output, "--save-scene": wish.scene})
    if wish.scene is not None and wish.scene.suffix.lower() not in SCENES:
        raise UnwritableOutput(f"{wish.scene}: a scene is kept as {' or '.join(SCENES)}; name such a file")
    put_back(job_folder(output), output)
    return claim(output, inputs=[source], force=force, kind="folder")


def _rebuilt(  # noqa: PLR0913
    source: Path,
    place: Claim,
    *,
    config: Config,
    wish: SceneWish,
    going: Going,
    known: tuple[Path, Shots | None],
) -> SceneReport:
    begun, output = time.monotonic(), place.path
    pictures, shots = known
    opened = open_source(pictures, config.output)
    before = state_of(opened)
    aside = wish.scene and claim(wish.scene, inputs=[source], force=config.output.force, trial=True)
    frames = gathered(opened, going)
    if few := too_few(len(frames)):
        raise NoScene(few)
    shot, clear = seen_shot(
        frames, config, going, photos=source.is_dir() and config.measure.shutter is None, posed=bool(shots)
    )
    others = shot.images if shot.restored is None else shot.restored
    shot, numbers = placed_shot(shot, clear, frames, shots, source, going)
    ruling = judged(shot)
    if not ruling:
        raise NoScene(ruling.reason)
    going.deadline.check("the fit was to begin")
    timed = replace(config.splat, budget=going.deadline.left / 60)
    fit = prepared(shot, ruling, timed, place=find_device(config.device))
    job = _job(output, f"{opened.name} {len(frames)} {settings_key(config)}")
    psnr = _worked(fit, job / "fit.pt", going.tell)
    made = job / "made"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    share = _write_sharp(
        opened, frames, Placed(fit, shot, numbers, others), made / named_after(source), config
    )
    keep_scene(fit, [frames[k] for k in numbers], made)
    fly_through(fit, made / "flythrough.mp4", rate=opened.rate)
    if wish.subframes:
        slow_motion(fit, made / "slow.mp4", count=wish.subframes, rate=opened.rate)
    report = SceneReport(
        source=str(source), output=str(output), kind=shot.sighting.path.kind, mode=ruling.mode,
        reason=ruling.reason, shutter=float(fit.track.shutter.detach()), frames=len(frames),
        placed=len(numbers), static=float(shot.sighting.static.mean()), psnr=psnr, share=share,
        seconds=time.monotonic() - begun, judged=_judged(fit, shots) if wish.evaluate else None,
        files=tuple(sorted(each.name for each in made.iterdir())),
    )  # fmt: skip
    (made / "report.json").write_text(json.dumps(asdict(report), indent=2) + "\n")
    refuse_changed(opened, before)
    place.publish(made)
    remove(job / "fit.pt")
    if aside:
        _keep_aside(output, aside)
    return report


def _judged(fit: Fit, shots: Shots | None) -> Judged:
    paths, views = held_out(shots) if shots else ([], None)
    if not paths or views is None:
        raise FreezeframeError("--eval needs a folder with cameras and held-out views; see docs/splatting.md")
    truths = torch.stack([read_photo(path).linear() for path in paths])
    place = fit.footage.images.device
    there = Views(poses=views.poses.to(place), lenses=views.lenses.to(place))
    return evaluate(fit.scene, truths.to(place), there)


def _keep_aside(output: Path, target: Claim) -> None:
    """Copy the scene to where the user wants it too."""
    kept = next((output / name for name in ("scene.ply", "panorama.png") if (output / name).exists()), None)
    if kept is None or target.path.suffix.lower() != kept.suffix:
        wanted = kept.suffix if kept else "its own suffix"
        raise UnwritableOutput(f"{target.path}: this scene is kept as {wanted}; it is complete in {output}")
    with target.draft() as path:
        shutil.copyfile(kept, path)


def _job(output: Path, identity: str) -> Path:
    """The folder of the unfinished work; an older one of another kind is emptied."""
    job, label = job_folder(output), job_folder(output) / "identity"
    if not label.exists() or label.read_text() != identity:
        for entry in job.iterdir():
            if entry.name != LOCK:
                remove(entry)
    save(identity.encode(), label)
    return job


def _worked(fit: Fit, checkpoint: Path, tell: Callable[[Told], None]) -> float:
    """Run the fit, from its last checkpoint on; the mean PSNR of the re-blurred frames, dB."""
    if checkpoint.exists():
        fit.restore(torch.load(checkpoint, weights_only=True, map_location="cpu"))
    saved = time.monotonic()

    def keep(going: Fit) -> None:
        nonlocal saved
        if time.monotonic() - saved > SAVED or going.progress >= 1:
            torch.save(going.state(), checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
            saved = time.monotonic()

    run(fit, tell, keep=keep)
    with torch.no_grad():
        told = [
            psnr_of_reblur(fit.reblurred(k), fit.footage.images[k], fit.footage.weights[k])
            for k in range(len(fit.footage))
        ]
    return sum(told) / len(told)


@dataclass(frozen=True, slots=True)
class Placed:
    """A fit, which frames it was made of, and what becomes of places and frames that it does not show."""

    fit: Fit
    shot: Shot
    numbers: tuple[int, ...]
    others: Tensor  # [T, 3, H, W] of all frames


def _write_sharp(
    source: VideoSource | ImageFolderSource,
    frames: Sequence[Frame],
    placed: Placed,
    path: Path,
    config: Config,
) -> float:
    """The footage with its scene made sharp, all else the usual way; the mean share of the scene."""
    sink, shares = open_sink(source, path, config.output, key=settings_key(config)), []
    try:
        for k, (frame, other) in enumerate(zip(frames, placed.others, strict=True)):
            if k not in placed.numbers:
                # What is not changed is not written anew: a photograph stays the file that it was.
                same = torch.equal(other, frame.picture.linear())
                sink.write([frame if same else frame.showing(other)])
                continue
            image, share = rebuilt(placed.fit, placed.shot, placed.numbers.index(k), other)
            sink.write([frame.showing(image)])
            shares.append(float(share.mean()))
        sink.finish()
    except BaseException:
        sink.abort()
        raise
    return sum(shares) / len(shares)
