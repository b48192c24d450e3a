"""The splat stage: sharpened frames with the static scene in them, rebuilt from its own blur.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from freezeframe.data.errors import FreezeframeError
from freezeframe.data.types import Clip, Motion
from freezeframe.pipeline.config import SplatConfig
from freezeframe.pipeline.solvers.camera_estimation import estimate_camera
from freezeframe.pipeline.solvers.camera_poses import run_sfm
from freezeframe.pipeline.solvers.scene_fit import (
    Shot,
    Shutter,
    build_fit,
    check_feasibility,
    render_frame,
    run,
    with_depth,
)
from freezeframe.splatting.decision.feasibility import too_few_frames
from freezeframe.splatting.optim.optimizer import FitProgress


@dataclass(slots=True)
class SceneLog:
    """What became of the scenes of a clip, for the report and for whoever waits."""

    on_progress: Callable[[FitProgress], None] = lambda progress: None
    reasons: dict[str, str] = field(default_factory=dict)  # by the span of frames

    def notes(self) -> list[str]:
        """A line for each reason, with the frames that it held for."""
        spans: dict[str, list[str]] = {}
        for span, reason in self.reasons.items():
            spans.setdefault(reason, []).append(span)
        return [f"scene of frames {', '.join(labels)}: {reason}" for reason, labels in spans.items()]


def splat(  # noqa: PLR0913  # one of them each from the stages before
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
    """Put the rebuilt scene into sharpened frames wherever, blurred again, it is what was recorded.

    What cannot be rebuilt stays as it was, with the reason in `scenes`.

    Args:
        sharp: The frames so far. [K, 3, H, W] linear RGB.
        clip: Consecutive frames of one shot; all of them serve the fit.
        motion: Flows between neighbours, shutter fraction.
        config: Of the stage.
        which: Positions in the clip of the K frames.
        confidence: Of the shutter fraction, [0, 1].
        scenes: Told how it goes.
        device: Where to work; None for the CPU.
    """
    # What takes a GPU seconds takes a CPU minutes: there only those who ask for it wait.
    enabled = config.mode == "on" or (config.mode == "auto" and torch.cuda.is_available())
    if not enabled or not which:
        return sharp
    span = f"{float(clip.times[0]):.2f} to {float(clip.times[-1]):.2f} s"
    try:
        output, reason = _fit_and_render(
            sharp, clip, motion, config, which=which, confidence=confidence, scenes=scenes, device=device
        )
    except FreezeframeError as error:
        output, reason = sharp, str(error)
    scenes.reasons[span] = reason
    return output


def _fit_and_render(  # noqa: PLR0913
    sharp: Tensor,
    clip: Clip,
    motion: Motion,
    config: SplatConfig,
    *,
    which: Sequence[int],
    confidence: float,
    scenes: SceneLog,
    device: torch.device | None,
) -> tuple[Tensor, str]:
    if reason_few := too_few_frames(len(clip.times)):
        return sharp, reason_few
    times = torch.tensor([float(time) for time in clip.times])
    restored = clip.images.clone()
    restored[list(which)] = sharp
    shot = Shot(
        images=clip.images,
        camera=estimate_camera(clip.images, times, motion.flows, shutter=motion.shutter),
        shutter=Shutter(fraction=motion.shutter, confidence=confidence),
        restored=restored,
    )
    numbers = tuple(range(len(times)))
    if not (early := check_feasibility(shot)):
        return sharp, early.reason
    if shot.camera.path.kind == "parallax":
        poses = run_sfm(restored, times, order="clip", static=shot.camera.static)
        shot, numbers = with_depth(shot, poses), poses.numbers
    feasibility = check_feasibility(shot)
    if not feasibility:
        return sharp, feasibility.reason
    fit = build_fit(shot, feasibility, config, device=device)
    run(fit, scenes.on_progress)
    output, shares = sharp.clone(), [0.0]
    for k, frame in enumerate(which):
        if frame in numbers:
            output[k], share = render_frame(fit, shot, numbers.index(frame), sharp[k])
            shares.append(float(share.mean()))
    area_fraction = sum(shares) / max(len(shares) - 1, 1)
    return output, f"rebuilt in {area_fraction:.0%} of the picture ({feasibility.reason})"
