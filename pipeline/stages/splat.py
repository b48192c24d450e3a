"""The splat stage: blends the static scene of a shot, rebuilt from its blur, into deblurred frames.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from freezeframe.data.errors import FreezeframeError, NoScene
from freezeframe.data.types import Clip, Motion
from freezeframe.pipeline.config import SplatConfig
from freezeframe.pipeline.solvers.camera_estimation import estimate_camera
from freezeframe.pipeline.solvers.camera_poses import run_sfm
from freezeframe.pipeline.solvers.scene_fit import (
    FittedShot,
    Shot,
    Shutter,
    fit_shot,
    render_frame,
    require_feasible,
    run,
)
from freezeframe.pipeline.support.progress import FitProgress
from freezeframe.splatting.decision.feasibility import too_few_frames


@dataclass(slots=True)
class SceneLog:
    """Results of the splat stage over a clip, for the report."""

    on_progress: Callable[[FitProgress], None] = lambda progress: None
    reasons: dict[str, str] = field(default_factory=dict)  # by time span

    def notes(self) -> list[str]:
        """One line per reason, with its time spans."""
        spans: dict[str, list[str]] = {}
        for span, reason in self.reasons.items():
            spans.setdefault(reason, []).append(span)
        return [f"scene of frames {', '.join(labels)}: {reason}" for reason, labels in spans.items()]


def splat(  # noqa: PLR0913  # results of the stages before
    sharp: Tensor,
    clip: Clip,
    motion: Motion,
    config: SplatConfig,
    *,
    which: Sequence[int],
    confidence: float,
    scenes: SceneLog,
    device: torch.device | None = None,
) -> Tensor:
    """Blend the rebuilt scene into deblurred frames where its re-blurred rendering matches the recording.

    If the scene cannot be rebuilt, the frames are returned unchanged and the reason is logged.

    Args:
        sharp: Deblurred frames. [K, 3, H, W] linear RGB.
        clip: Consecutive frames of one shot, all used by the fit.
        motion: Flows between neighbours, shutter fraction.
        config: Settings of the stage.
        which: Indices of the K frames in the clip.
        confidence: Confidence of the shutter fraction, [0, 1].
        scenes: Log.
        device: Device of the fit; None for the CPU.
    """
    # A fit takes seconds on a GPU and minutes on a CPU.
    enabled = config.mode == "on" or (config.mode == "auto" and torch.cuda.is_available())
    if not enabled or not which:
        return sharp
    span = f"{float(clip.times[0]):.2f} to {float(clip.times[-1]):.2f} s"
    try:
        shot = _shot(sharp, clip, motion, which=which, confidence=confidence)
        fitted = _fit(shot, clip, config, on_progress=scenes.on_progress, device=device)
    except FreezeframeError as error:
        scenes.reasons[span] = str(error)
        return sharp
    output, area_fraction = _blend(sharp, fitted, which)
    scenes.reasons[span] = f"rebuilt in {area_fraction:.0%} of the frame area ({fitted.feasibility.reason})"
    return output


def _shot(sharp: Tensor, clip: Clip, motion: Motion, *, which: Sequence[int], confidence: float) -> Shot:
    if reason := too_few_frames(len(clip.times)):
        raise NoScene(reason)
    restored = clip.images.clone()
    restored[list(which)] = sharp
    return Shot(
        images=clip.images,
        camera=estimate_camera(clip.images, _seconds(clip), motion.flows, shutter=motion.shutter),
        shutter=Shutter(fraction=motion.shutter, confidence=confidence),
        restored=restored,
    )


def _fit(
    shot: Shot,
    clip: Clip,
    config: SplatConfig,
    *,
    on_progress: Callable[[FitProgress], None],
    device: torch.device | None,
) -> FittedShot:
    require_feasible(shot)
    poses = None
    if shot.camera.path.kind == "parallax" and shot.restored is not None:
        poses = run_sfm(shot.restored, _seconds(clip), order="clip", static=shot.camera.static)
    return fit_shot(shot, poses, config, run_fit=lambda fit: run(fit, on_progress), device=device)


def _blend(sharp: Tensor, fitted: FittedShot, which: Sequence[int]) -> tuple[Tensor, float]:
    """The frames with the scene blended in, and its mean area fraction."""
    output, area_fractions = sharp.clone(), [0.0]
    for k, frame in enumerate(which):
        if frame in fitted.numbers:
            index = fitted.numbers.index(frame)
            output[k], weight = render_frame(fitted.fit, fitted.shot, index, sharp[k])
            area_fractions.append(float(weight.mean()))
    return output, sum(area_fractions) / max(len(area_fractions) - 1, 1)


def _seconds(clip: Clip) -> Tensor:
    return torch.tensor([float(time) for time in clip.times])
