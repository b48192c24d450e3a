"""What a benchmark compares: simple means that everybody has, rivals, and our own whole command.

Each takes a folder of numbered PNG and writes the same pictures, restored, into another: all are rounded to
8 bits and read back alike.

Nothing here takes a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from freezeframe.data.errors import UnreadableMedia
from freezeframe.data.media.folder.source import open_folder
from freezeframe.data.metrics.image import Codes, srgb_codes
from freezeframe.data.metrics.temporal import light_of
from freezeframe.models.registry.bundled import REFINER
from freezeframe.models.restorer.image_restorer import load_whole
from freezeframe.models.restorer.load import load_restorer
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.pipeline.config import Config, RefineConfig
from freezeframe.pipeline.stages.measure import survey
from freezeframe.pipeline.stages.refine import refine
from freezeframe.pipeline.tasks.video import deblur_video

from .classical import Undo, along_motion, richardson_lucy, textbook, wiener

Method = Callable[[Path, Path], None]
"""Restores the numbered pictures of the first folder into the second, which does not exist yet."""

INPUT, TRUTH = "do nothing", "the truth itself"
OURS, WEIGHTLESS = "freezeframe", "freezeframe, no network"


def methods_for(config: Config, *, restorer: Path | None) -> dict[str, Method]:
    """Every row of a table but the input and the truth, simplest first.

    Raises:
        MissingExtra: scikit-image is not there.
        UnreadableMedia: The restorer's checkpoint cannot be loaded.
    """
    textbook()
    found: dict[str, Method] = {
        "unsharp mask": partial(_each, change=unsharp),
        "Wiener along the motion": partial(_along, undo=wiener),
        "Richardson-Lucy along the motion": partial(_along, undo=richardson_lucy),
        WEIGHTLESS: partial(ours, config=replace(config, fuse=replace(config.fuse, network="none"))),
        OURS: partial(ours, config=config),
    }
    if restorer is not None:
        loaded = load_restorer(restorer, device=config.device, precision=config.precision)
        found[f"{restorer.stem} alone"] = partial(
            _each, change=lambda image: refine(image[None], loaded, RefineConfig())[0]
        )
    return found


def ours(source: Path, output: Path, *, config: Config) -> None:
    """The whole command: `freezeframe video`; for a photo by itself `freezeframe restore` by the refiner."""
    if len(open_folder(source).images) > 1:
        deblur_video(source, output, config=config)
        return
    if config.fuse.network == "none":
        _each(source, output, change=lambda image: image)
        return
    restorer = load_whole(REFINER, device=config.device, precision=config.precision)
    _each(source, output, change=lambda image: restorer(image[None])[0])


def unsharp(image: Tensor) -> Tensor:
    """Unsharp mask on gamma-coded light, radius 2 pixels, half of the detail added once more."""
    codes = srgb_codes(image)
    sharper = cv2.addWeighted(codes, 1.5, cv2.GaussianBlur(codes, (0, 0), 2), -0.5, 0)
    return light_of(np.asarray(sharper, np.uint8))


def shutter_of(source: Path) -> float:
    """Exposure time over frame interval of a folder, as the whole command measures it."""
    opened = open_folder(source)
    return survey(opened, Config().measure).shutter if opened.count > 1 else 1.0


def ways(images: Iterable[Tensor], *, shutter: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Each picture, [3, H, W] linear RGB, with its measured way while the shutter was open, [2, H, W] pixels.

    Central differences of the flow to both neighbours. Streams: holds three pictures at a time.
    """
    before: Tensor | None = None
    behind: list[Tensor] = []
    for image in images:
        if before is None:
            before = image
            continue
        ahead, back = dis_pair(before, image)
        yield before, shutter * torch.stack([*behind, ahead.shift]).mean(0)
        before, behind = image, [-back.shift]
    if before is not None:
        still = before.new_zeros(2, *before.shape[1:])
        yield before, shutter * (behind[0] if behind else still)


def read(path: Path) -> Codes:
    """[H, W, 3] uint8 sRGB of a picture file, as it is: no turning, no profile."""
    found = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if found is None:
        raise UnreadableMedia(f"{path}: cannot be read as a picture; unpack the set again")
    return np.ascontiguousarray(np.asarray(found, np.uint8)[..., ::-1])


def write(path: Path, codes: Codes) -> None:
    """[H, W, 3] uint8 sRGB as PNG."""
    _, packed = cv2.imencode(".png", cv2.cvtColor(codes, cv2.COLOR_RGB2BGR))
    path.write_bytes(packed.tobytes())


def _each(source: Path, output: Path, *, change: Callable[[Tensor], Tensor]) -> None:
    """Frame by frame."""
    output.mkdir()
    for path in open_folder(source).images:
        write(output / path.name, srgb_codes(change(light_of(read(path)))))


def _along(source: Path, output: Path, *, undo: Undo) -> None:
    """Frame by frame, each deconvolved along its own measured way."""
    output.mkdir()
    paths = open_folder(source).images
    images = (light_of(read(path)) for path in paths)
    for path, (image, way) in zip(paths, ways(images, shutter=shutter_of(source)), strict=True):
        write(output / path.name, srgb_codes(along_motion(image, way, undo=undo)))
