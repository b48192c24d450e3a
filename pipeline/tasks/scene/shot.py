"""What `freezeframe scene` knows of its footage before the fit: frames, motion, cameras."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from freezeframe.data.errors import NoScene
from freezeframe.data.media.folder.source import ImageFolderSource
from freezeframe.data.media.video_in.source import VideoSource
from freezeframe.data.types import Flow, Frame, stack_light
from freezeframe.motion.shutter.estimator import shutter_fraction
from freezeframe.pipeline.config import Config
from freezeframe.pipeline.solvers.camera_estimation import sight
from freezeframe.pipeline.solvers.camera_poses import located, named
from freezeframe.pipeline.solvers.scene_fit import Shot, Shutter, deep, judged
from freezeframe.pipeline.stages.first_pass import is_cut
from freezeframe.pipeline.stages.measure import ESTIMATORS, USUAL_SHUTTER, FlowPair, Flows, adjacent_flows
from freezeframe.pipeline.support.deadline import Beat, Deadline
from freezeframe.pipeline.support.progress import Advance
from freezeframe.splatting.io.colmap_worker import Order
from freezeframe.splatting.io.nerf_datasets import Shots
from freezeframe.splatting.io.sfm import LONGEST
from freezeframe.splatting.optim.optimizer import Told

from .sharpen_shot import sharpened

MOST = 2 * 10**9  # bytes of light held at once; what is made of it takes several times as many
PARTS = 4  # times that every frame is worked on before the fit: read, flow, registered, sharpened
PHOTOS = 0.05  # shutter of photographs: the time between them says nothing of their blur


@dataclass(frozen=True, slots=True, kw_only=True)
class Going:
    """How long the work may take, and who is told how it goes."""

    deadline: Deadline
    tell: Callable[[Told], None]
    prepare: Advance

    def beat(self, doing: str, total: int) -> Beat:
        """Called before each of `total` pieces of work."""
        return self.deadline.beat(doing, self.prepare, PARTS * total)


def gathered(source: VideoSource | ImageFolderSource, going: Going) -> list[Frame]:
    """Every frame of a short clip; a scene is fitted to all of them at once."""
    frames: list[Frame] = []
    for frame in source.frames():
        going.beat("frames were read", source.count or len(frames) + 1)()
        frames.append(frame)
        height, width = frame.picture.size
        if 12 * height * width * len(frames) > MOST:
            raise NoScene("these are more frames than fit into memory; name a part with --start and --end")
        if len(frames) > 1 and is_cut(frames[-2].picture.luma(), frame.picture.luma()):
            raise NoScene(
                f"the scene changes at frame {frame.index} ({float(frame.time):.2f} s); name a part within"
                " one with --start and --end"
            )
    return frames


def seen_shot(
    frames: Sequence[Frame], config: Config, going: Going, *, photos: bool, posed: bool
) -> tuple[Shot, Tensor]:
    """What is known of the footage, and the clearest pictures [T, 3, H, W] that COLMAP can be shown.

    What cannot be rebuilt is refused as soon as that is known, before the work that takes long.
    """
    images, count = stack_light(frames), len(frames)
    pair, matched = ESTIMATORS[config.measure.estimator], going.beat("motion was measured", count)
    flows = adjacent_flows(images, partial(_beaten, pair, matched))
    shutter = _shutter(images, flows, config, photos=photos)
    times = torch.tensor([float(frame.time) for frame in frames])
    laid = going.beat("frames were registered", count)
    seen = sight(images, times, flows, shutter=shutter.fraction, beat=laid)
    shot = Shot(images=images, sighting=seen, shutter=shutter)
    if photos:  # no neighbours in time: what lies between them says nothing of their blur
        return shot, images
    if not posed and not (ruling := judged(shot)):
        raise NoScene(ruling.reason)
    exact = [frame.time for frame in frames]
    cleared = going.beat("frames were sharpened", count)
    usual = sharpened(images, exact, flows, shutter=shutter.fraction, config=config, beat=cleared)
    return replace(shot, restored=usual.delivered), usual.clear


def _beaten(pair: FlowPair, beat: Beat, source: Tensor, target: Tensor) -> tuple[Flow, Flow]:
    beat()
    return pair(source, target)


def _shutter(images: Tensor, flows: Flows, config: Config, *, photos: bool) -> Shutter:
    if config.measure.shutter is not None:
        return Shutter(fraction=config.measure.shutter, confidence=1.0)
    if photos:
        return Shutter(fraction=PHOTOS, confidence=1.0)
    found = shutter_fraction(images, flows)
    return Shutter(
        fraction=found.fraction if found.confidence else USUAL_SHUTTER, confidence=found.confidence
    )


def placed_shot(  # noqa: PLR0913, PLR0917
    shot: Shot, clear: Tensor, frames: Sequence[Frame], shots: Shots | None, source: Path, going: Going
) -> tuple[Shot, tuple[int, ...]]:
    """The shot of the frames whose cameras are known, and their numbers. Takes no gradient."""
    times = torch.tensor([float(frame.time) for frame in frames])
    if shots is not None:
        found = named(shots, times, where=source)
    elif shot.sighting.path.kind == "parallax":
        order: Order = "photos" if source.is_dir() else "clip"
        # Half of what is left of a budget: a scene whose cameras are known still has to be fitted.
        limited = going.deadline.end < math.inf
        seconds = going.deadline.left / 2 if limited else LONGEST
        found = located(
            clear, times, order=order, static=shot.sighting.static, seconds=seconds,
            beat=lambda: going.prepare(0, PARTS * len(frames)),
        )  # fmt: skip
    else:
        return shot, tuple(range(len(frames)))
    return deep(shot, found), found.numbers
