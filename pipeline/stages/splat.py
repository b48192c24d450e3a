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
from freezeframe.pipeline.solvers.camera_estimation import sight
from freezeframe.pipeline.solvers.camera_poses import located
from freezeframe.pipeline.solvers.scene_fit import Shot, Shutter, deep, judged, prepared, rebuilt, run
from freezeframe.splatting.decision.feasibility import too_few
from freezeframe.splatting.optim.optimizer import Told


@dataclass(slots=True)
class Scenes:
    """What became of the scenes of a clip, for the report and for whoever waits."""

    tell: Callable[[Told], None] = lambda told: None
    reasons: dict[str, str] = field(default_factory=dict)  # by the span of frames

    def notes(self) -> list[str]:
        """A line for each reason, with the frames that it held for."""
        spans: dict[str, list[str]] = {}
        for span, reason in self.reasons.items():
            spans.setdefault(reason, []).append(span)
        return [f"scene of frames {', '.join(found)}: {reason}" for reason, found in spans.items()]


def splat(  # noqa: PLR0913  # one of them each from the stages before
    sharp: Tensor,
    clip: Clip,
    motion: Motion,
    config: SplatConfig,
    *,
    which: Sequence[int],
    confidence: float,
    scenes: Scenes,
    place: torch.device | None = None,
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
        place: Where to work; None for the CPU.
    """
    # What takes a GPU seconds takes a CPU minutes: there only those who ask for it wait.
    wanted = config.mode == "on" or (config.mode == "auto" and torch.cuda.is_available())
    if not wanted or not which:
        return sharp
    span = f"{float(clip.times[0]):.2f} to {float(clip.times[-1]):.2f} s"
    try:
        done, reason = _rebuilt(
            sharp, clip, motion, config, which=which, confidence=confidence, scenes=scenes, place=place
        )
    except FreezeframeError as error:
        done, reason = sharp, str(error)
    scenes.reasons[span] = reason
    return done


def _rebuilt(  # noqa: PLR0913
    sharp: Tensor,
    clip: Clip,
    motion: Motion,
    config: SplatConfig,
    *,
    which: Sequence[int],
    confidence: float,
    scenes: Scenes,
    place: torch.device | None,
) -> tuple[Tensor, str]:
    if few := too_few(len(clip.times)):
        return sharp, few
    times = torch.tensor([float(time) for time in clip.times])
    restored = clip.images.clone()
    restored[list(which)] = sharp
    shot = Shot(
        images=clip.images,
        sighting=sight(clip.images, times, motion.flows, shutter=motion.shutter),
        shutter=Shutter(fraction=motion.shutter, confidence=confidence),
        restored=restored,
    )
    numbers = tuple(range(len(times)))
    if not (early := judged(shot)):
        return sharp, early.reason
    if shot.sighting.path.kind == "parallax":
        found = located(restored, times, order="clip", static=shot.sighting.static)
        shot, numbers = deep(shot, found), found.numbers
    ruling = judged(shot)
    if not ruling:
        return sharp, ruling.reason
    fit = prepared(shot, ruling, config, place=place)
    run(fit, scenes.tell)
    done, shares = sharp.clone(), [0.0]
    for k, frame in enumerate(which):
        if frame in numbers:
            done[k], share = rebuilt(fit, shot, numbers.index(frame), sharp[k])
            shares.append(float(share.mean()))
    seen = sum(shares) / max(len(shares) - 1, 1)
    return done, f"rebuilt in {seen:.0%} of the picture ({ruling.reason})"
