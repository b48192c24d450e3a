"""The methods of a benchmark: baselines, third-party restorers and the full pipeline.

Each reads a folder of numbered PNG files and writes the restored pictures into another: all are rounded to
8 bits and read back in the same way.

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
from freezeframe.data.srgb import SrgbImage, linear_to_srgb, srgb_to_linear
from freezeframe.models.registry.bundled import REFINER
from freezeframe.models.restorer.image_restorer import load_image_restorer, load_restorer
from freezeframe.motion.flow.estimators import dis_pair
from freezeframe.pipeline.config import Config, RefineConfig
from freezeframe.pipeline.stages.refine import refine
from freezeframe.pipeline.stages.survey import survey
from freezeframe.pipeline.tasks.video import deblur_video

from .classical import Deconvolver, deconvolve_tiled, load_skimage_restoration, richardson_lucy, wiener

Method = Callable[[Path, Path], None]
"""Restores the numbered pictures of the first folder into the second, which it creates."""

INPUT, GROUND_TRUTH = "input", "ground_truth"
FREEZEFRAME, NO_NETWORK = "freezeframe", "freezeframe_no_network"


def methods_for(config: Config, *, restorer: Path | None) -> dict[str, Method]:
    """The methods by name, without input and ground truth, the simplest first.

    Args:
        config: Settings of freezeframe.
        restorer: Checkpoint of a single-image restorer to compare with; None: none.

    Raises:
        MissingExtra: scikit-image is not installed.
        UnreadableMedia: The checkpoint cannot be loaded.
    """
    load_skimage_restoration()
    methods: dict[str, Method] = {
        "unsharp_mask": partial(_map_frames, restore_frame=unsharp_mask),
        "wiener": partial(_deconvolve_frames, deconvolve=wiener),
        "richardson_lucy": partial(_deconvolve_frames, deconvolve=richardson_lucy),
        NO_NETWORK: partial(
            run_freezeframe, config=replace(config, fuse=replace(config.fuse, network="none"))
        ),
        FREEZEFRAME: partial(run_freezeframe, config=config),
    }
    if restorer is not None:
        network = load_restorer(
            restorer, device=config.device, precision=config.precision, backend=config.backend
        )
        methods[f"{restorer.stem}_alone"] = partial(
            _map_frames, restore_frame=lambda image: refine(image[None], network, RefineConfig())[0]
        )
    return methods


def run_freezeframe(source: Path, output: Path, *, config: Config) -> None:
    """Run the complete pipeline: `freezeframe video`, or for a single photo `restore` with the refiner."""
    if len(open_folder(source).images) > 1:
        deblur_video(source, output, config=config)
        return
    if config.fuse.network == "none":
        _map_frames(source, output, restore_frame=lambda image: image)
        return
    restorer = load_image_restorer(
        REFINER, device=config.device, precision=config.precision, backend=config.backend
    )
    _map_frames(source, output, restore_frame=lambda image: restorer(image[None])[0])


def unsharp_mask(image: Tensor) -> Tensor:
    """Unsharp mask of the encoded picture, sigma 2 pixels, amount 0.5."""
    encoded = linear_to_srgb(image)
    sharper = cv2.addWeighted(encoded, 1.5, cv2.GaussianBlur(encoded, (0, 0), 2), -0.5, 0)
    return srgb_to_linear(np.asarray(sharper, np.uint8))


def measure_shutter(source: Path) -> float:
    """Exposure time over frame interval of a folder, as the pipeline measures it."""
    opened = open_folder(source)
    return survey(opened, Config().measure).shutter if opened.count > 1 else 1.0


def estimate_blur_vectors(images: Iterable[Tensor], *, shutter: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Each picture, [3, H, W] linear RGB, with its measured blur vectors, [2, H, W] pixels.

    Central differences of the flow to both neighbours. Streams: holds three pictures at a time.
    """
    previous: Tensor | None = None
    previous_backward: list[Tensor] = []
    for image in images:
        if previous is None:
            previous = image
            continue
        forward, backward = dis_pair(previous, image)
        yield previous, shutter * torch.stack([*previous_backward, forward.uv]).mean(0)
        previous, previous_backward = image, [-backward.uv]
    if previous is not None:
        zeros = previous.new_zeros(2, *previous.shape[1:])
        yield previous, shutter * (previous_backward[0] if previous_backward else zeros)


def read(path: Path) -> SrgbImage:
    """[H, W, 3] uint8 sRGB of a picture file, without EXIF rotation and colour profile.

    Raises:
        UnreadableMedia: The file is no picture.
    """
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise UnreadableMedia(f"{path}: cannot be read as a picture; unpack the dataset again")
    return np.ascontiguousarray(np.asarray(pixels, np.uint8)[..., ::-1])


def write(path: Path, encoded: SrgbImage) -> None:
    """Write [H, W, 3] uint8 sRGB as PNG."""
    _, packed = cv2.imencode(".png", cv2.cvtColor(encoded, cv2.COLOR_RGB2BGR))
    path.write_bytes(packed.tobytes())


def _map_frames(source: Path, output: Path, *, restore_frame: Callable[[Tensor], Tensor]) -> None:
    """Restore frame by frame."""
    output.mkdir()
    for path in open_folder(source).images:
        write(output / path.name, linear_to_srgb(restore_frame(srgb_to_linear(read(path)))))


def _deconvolve_frames(source: Path, output: Path, *, deconvolve: Deconvolver) -> None:
    """Deconvolve each frame along its measured blur vectors."""
    output.mkdir()
    paths = open_folder(source).images
    images = (srgb_to_linear(read(path)) for path in paths)
    for path, (image, blur_vectors) in zip(
        paths, estimate_blur_vectors(images, shutter=measure_shutter(source)), strict=True
    ):
        write(
            output / path.name, linear_to_srgb(deconvolve_tiled(image, blur_vectors, deconvolve=deconvolve))
        )
