"""COLMAP in a subprocess: `python -m freezeframe.splatting.io.colmap_worker FOLDER`.

Reads the frames that `sfm.py` wrote into a folder, prints a line after each step, and writes the largest
model to `best`. A subprocess can be terminated; COLMAP itself has neither progress nor cancellation.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

FrameOrder = Literal["clip", "photos"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColmapConfig:
    """Thresholds of matching and mapping, loosened for blurred features (DeblurGS, arXiv:2404.11358)."""

    min_cameras: int = 3  # registered frames of a model
    min_registered_fraction: float = 0.5  # registered frames below which there is no scene
    complete_fraction: float = 0.9  # registered frames from which no further mapper is tried
    exhaustive_max_frames: int = 25  # up to which all pairs of frames are matched
    sequential_overlap: int = 10  # following frames with which a frame of a clip is matched
    reference_side_px: int = 1000  # longer side at which the reprojection errors below hold
    init_max_error_px: float = 12
    abs_pose_max_error_px: float = 20
    filter_max_reproj_error_px: float = 8
    min_error_scale: float = 0.4  # of these errors, for small frames
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ColmapJob:
    """One run of COLMAP in a temporary folder."""

    folder: Path
    sharpest_first: tuple[str, ...]  # file names of the frames, by decreasing sharpness
    long_side: int  # pixels
    K: tuple[float, float, float, float] | None  # fx, fy, cx, cy in COLMAP's convention, if known
    masked: bool
    exhaustive: bool  # match all pairs of frames
    config: ColmapConfig = field(default_factory=ColmapConfig)

    @property
    def database(self) -> Path:
        return self.folder / "database.db"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    def save(self) -> None:
        """Write the job into its folder."""
        (self.folder / "job.json").write_text(json.dumps({**asdict(self), "folder": str(self.folder)}))

    @staticmethod
    def load(folder: Path) -> ColmapJob:
        """Read the job in a folder."""
        saved = json.loads((folder / "job.json").read_text())
        K = tuple(saved["K"]) if saved["K"] else None
        return ColmapJob(
            **{
                **saved,
                "folder": Path(saved["folder"]),
                "sharpest_first": tuple(saved["sharpest_first"]),
                "K": K,
                "config": ColmapConfig(**saved["config"]),
            }
        )


def extract(pycolmap: Any, job: ColmapJob) -> None:
    """Detect features in every frame."""
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
    """Match the features of pairs of frames."""
    options: dict[str, Any] = {
        "matching_options": pycolmap.FeatureMatchingOptions(use_gpu=False, guided_matching=True),
        "verification_options": pycolmap.TwoViewGeometryOptions(),
        "device": pycolmap.Device.cpu,
    }
    options["verification_options"].ransac.random_seed = job.config.seed
    if job.exhaustive:
        pycolmap.match_exhaustive(job.database, **options)
    else:
        pairs = pycolmap.SequentialPairingOptions(
            overlap=job.config.sequential_overlap, quadratic_overlap=True
        )
        pycolmap.match_sequential(job.database, pairing_options=pairs, **options)


def reconstruct(pycolmap: Any, job: ColmapJob) -> None:
    """Write the largest of up to four models.

    The first is mapped from the sharpest half of the frames, the second adds the rest to it. Where frames are
    missing, all are mapped at once, incrementally and globally.
    """
    names, config = job.sharpest_first, job.config
    core = _incremental(pycolmap, job, names[: max(config.min_cameras, len(names) // 2)])
    models = [core, core and _incremental(pycolmap, job, names, start=core)]
    for mapper in (partial(_incremental, names=names), _global):
        if max(map(_num_registered, models)) < config.complete_fraction * len(names):
            models.append(mapper(pycolmap, job))
    best = max(models, key=_num_registered)
    if best is not None:
        (job.folder / "best").mkdir()
        best.write(job.folder / "best")


def _num_registered(model: Any) -> int:
    return 0 if model is None else int(model.num_reg_images())


def _largest(models: Mapping[int, Any]) -> Any:
    return max(models.values(), key=_num_registered, default=None)


def _incremental(pycolmap: Any, job: ColmapJob, names: Sequence[str], *, start: Any = None) -> Any:
    options = mapper_options(
        pycolmap, long_side=job.long_side, fixed_intrinsics=job.K is not None, config=job.config
    )
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
    except (RuntimeError, ValueError):  # COLMAP raises either when mapping fails
        return None
    return _largest(models)


def mapper_options(
    pycolmap: Any, *, long_side: int, fixed_intrinsics: bool, config: ColmapConfig = ColmapConfig()
) -> Any:
    """Options of a mapper that tolerates blurred features and the small parallax of a clip.

    Args:
        pycolmap: The module.
        long_side: Longer side of the frames in pixels.
        fixed_intrinsics: Keep the intrinsics, which are known.
        config: Thresholds.
    """
    error_scale = max(config.min_error_scale, long_side / config.reference_side_px)
    options = pycolmap.IncrementalPipelineOptions(
        min_num_matches=5,
        min_model_size=config.min_cameras,
        ba_refine_focal_length=not fixed_intrinsics,
        ba_global_max_num_iterations=100,
        random_seed=config.seed,
    )
    mapper, points = options.mapper, options.triangulation
    mapper.init_min_tri_angle, mapper.ba_local_min_tri_angle, mapper.filter_min_tri_angle = 2.0, 1.0, 0.3
    points.min_angle = 0.3
    mapper.init_max_error, mapper.abs_pose_max_error, mapper.filter_max_reproj_error = (
        config.init_max_error_px * error_scale,
        config.abs_pose_max_error_px * error_scale,
        config.filter_max_reproj_error_px * error_scale,
    )
    mapper.init_min_num_inliers, mapper.abs_pose_min_num_inliers = 30, 15
    mapper.abs_pose_min_inlier_ratio = 0.12
    points.ignore_two_view_tracks = True
    mapper.random_seed = points.random_seed = config.seed
    return options


STEPS = (extract, match, reconstruct)


def _end_with_parent() -> None:
    """Exit when the parent closes stdin, to which it never writes."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def main() -> None:
    """Run the job in the folder named by the first argument."""
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
