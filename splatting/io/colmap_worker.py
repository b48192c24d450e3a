"""COLMAP in a process of its own, which can be ended: `python -m freezeframe.splatting.io.colmap_worker`.

It reads the frames that `colmap` laid out in a folder, prints a line after each step, and leaves the largest
model in `best`. COLMAP gives no word while it works and cannot be stopped from within.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

MIN_CAMERAS = 3  # cameras of a scene
COMPLETE_FRACTION = 0.9  # of the frames: what ends the search
EXHAUSTIVE_MAX_FRAMES = 25  # frames up to which every one is compared with every other
SEQUENTIAL_OVERLAP = 10  # frames that a frame of a clip is compared with
REFERENCE_SIDE_PX = 1000  # pixels of the longer side for which the thresholds below were made
SEED = 0

FrameOrder = Literal["clip", "photos"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColmapJob:
    """One run of COLMAP in a folder of its own."""

    folder: Path
    sharpest_first: tuple[str, ...]  # names of the frames, the sharpest first
    long_side: int  # pixels of the longer side
    K: tuple[float, float, float, float] | None  # fx, fy, cx, cy as COLMAP counts them, if known
    masked: bool
    exhaustive: bool  # compare every frame with every other

    @property
    def database(self) -> Path:
        return self.folder / "database.db"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    def save(self) -> None:
        """Leave it in its folder, for `load`."""
        (self.folder / "work.json").write_text(json.dumps({**asdict(self), "folder": str(self.folder)}))

    @staticmethod
    def load(folder: Path) -> ColmapJob:
        saved = json.loads((folder / "work.json").read_text())
        K = tuple(saved["K"]) if saved["K"] else None
        return ColmapJob(
            **{
                **saved,
                "folder": Path(saved["folder"]),
                "sharpest_first": tuple(saved["sharpest_first"]),
                "K": K,
            }
        )


def extract(pycolmap: Any, job: ColmapJob) -> None:
    """Find features in every frame."""
    reader = pycolmap.ImageReaderOptions(camera_model="PINHOLE" if job.K else "SIMPLE_PINHOLE")
    if job.K:
        reader.camera_params = ",".join(f"{number:.6f}" for number in job.K)
    if job.masked:
        reader.mask_path = job.folder / "masks"
    features = pycolmap.FeatureExtractionOptions(use_gpu=False)
    features.sift.estimate_affine_shape = True
    features.sift.domain_size_pooling = True
    pycolmap.extract_features(
        job.database, job.images, camera_mode=pycolmap.CameraMode.SINGLE, reader_options=reader,
        extraction_options=features, device=pycolmap.Device.cpu,
    )  # fmt: skip


def match(pycolmap: Any, job: ColmapJob) -> None:
    """Compare the features of frames with each other."""
    options: dict[str, Any] = {
        "matching_options": pycolmap.FeatureMatchingOptions(use_gpu=False, guided_matching=True),
        "verification_options": pycolmap.TwoViewGeometryOptions(),
        "device": pycolmap.Device.cpu,
    }
    options["verification_options"].ransac.random_seed = SEED
    if job.exhaustive:
        pycolmap.match_exhaustive(job.database, **options)
    else:
        pairs = pycolmap.SequentialPairingOptions(overlap=SEQUENTIAL_OVERLAP, quadratic_overlap=True)
        pycolmap.match_sequential(job.database, pairing_options=pairs, **options)


def reconstruct(pycolmap: Any, job: ColmapJob) -> None:
    """The largest model: around the sharpest half, else from all at once, else of all directions together."""
    sharpest_first = job.sharpest_first
    core = _incremental(pycolmap, job, sharpest_first[: max(MIN_CAMERAS, len(sharpest_first) // 2)])
    models = [core, core and _incremental(pycolmap, job, sharpest_first, start=core)]
    for attempt in (partial(_incremental, names=sharpest_first), _global):
        if max(map(_count, models)) < COMPLETE_FRACTION * len(sharpest_first):
            models.append(attempt(pycolmap, job))
    best = max(models, key=_count)
    if best is not None:
        (job.folder / "best").mkdir()
        best.write(job.folder / "best")


def _count(model: Any) -> int:
    return 0 if model is None else int(model.num_reg_images())


def _largest(models: Mapping[int, Any]) -> Any:
    return max(models.values(), key=_count, default=None)


def _incremental(pycolmap: Any, job: ColmapJob, names: Sequence[str], *, start: Any = None) -> Any:
    options = mapper_options(pycolmap, long_side=job.long_side, fixed_intrinsics=job.K is not None)
    options.image_names = list(names)
    output = job.folder / "models"
    output.mkdir(exist_ok=True)
    extra_arguments = {}
    if start is not None:
        extra_arguments["input_path"] = job.folder / "start"
        extra_arguments["input_path"].mkdir()
        start.write(extra_arguments["input_path"])
    models = pycolmap.incremental_mapping(
        job.database, job.images, output, options=options, **extra_arguments
    )
    return _largest(models)


def _global(pycolmap: Any, job: ColmapJob) -> Any:
    output = job.folder / "global"
    output.mkdir()
    try:
        models = pycolmap.global_mapping(job.database, job.images, output)
    except (RuntimeError, ValueError):  # it gives up with either
        return None
    return _largest(models)


def mapper_options(pycolmap: Any, *, long_side: int, fixed_intrinsics: bool) -> Any:
    """A mapper that bears blurred features, and the small parallax of a clip.

    Args:
        pycolmap: The module.
        long_side: Pixels of the longer side.
        fixed_intrinsics: The lens is known and stays as it is.
    """
    tolerance_scale = max(0.4, long_side / REFERENCE_SIDE_PX)
    options = pycolmap.IncrementalPipelineOptions(
        min_num_matches=5,
        min_model_size=MIN_CAMERAS,
        ba_refine_focal_length=not fixed_intrinsics,
        ba_global_max_num_iterations=100,
        random_seed=SEED,
    )
    mapper, points = options.mapper, options.triangulation
    mapper.init_min_tri_angle, mapper.ba_local_min_tri_angle, mapper.filter_min_tri_angle = 2.0, 1.0, 0.3
    points.min_angle = 0.3
    mapper.init_max_error, mapper.abs_pose_max_error, mapper.filter_max_reproj_error = (
        12 * tolerance_scale,
        20 * tolerance_scale,
        8 * tolerance_scale,
    )
    mapper.init_min_num_inliers, mapper.abs_pose_min_num_inliers = 30, 15
    mapper.abs_pose_min_inlier_ratio = 0.12
    points.ignore_two_view_tracks = True
    mapper.random_seed = points.random_seed = SEED
    return options


STEPS = (extract, match, reconstruct)


def _end_with_parent() -> None:
    """The parent never writes: what can be read is that it is gone."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def main() -> None:
    """Do the work in the folder that is named."""
    import pycolmap

    threading.Thread(target=_end_with_parent, daemon=True).start()
    pycolmap.logging.minloglevel = 3
    job = ColmapJob.load(Path(sys.argv[1]))
    for step in STEPS:
        step(pycolmap, job)
        sys.stdout.write(f"{step.__name__}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
