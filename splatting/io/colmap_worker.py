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

FEWEST = 3  # cameras of a scene
ALMOST = 0.9  # of the frames: what ends the search
EXHAUSTIVE = 25  # frames up to which every one is compared with every other
AHEAD = 10  # frames that a frame of a clip is compared with
USUAL = 1000  # pixels of the longer side for which the thresholds below were made
SEED = 0

Order = Literal["clip", "photos"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One run of COLMAP in a folder of its own."""

    folder: Path
    sharp: tuple[str, ...]  # names of the frames, the sharpest first
    side: int  # pixels of the longer side
    lens: tuple[float, float, float, float] | None  # fx, fy, cx, cy as COLMAP counts them, if known
    masked: bool
    every: bool  # compare every frame with every other

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
    def load(folder: Path) -> Work:
        told = json.loads((folder / "work.json").read_text())
        lens = tuple(told["lens"]) if told["lens"] else None
        return Work(**{**told, "folder": Path(told["folder"]), "sharp": tuple(told["sharp"]), "lens": lens})


def extract(pycolmap: Any, work: Work) -> None:
    """Find features in every frame."""
    reader = pycolmap.ImageReaderOptions(camera_model="PINHOLE" if work.lens else "SIMPLE_PINHOLE")
    if work.lens:
        reader.camera_params = ",".join(f"{number:.6f}" for number in work.lens)
    if work.masked:
        reader.mask_path = work.folder / "masks"
    features = pycolmap.FeatureExtractionOptions(use_gpu=False)
    features.sift.estimate_affine_shape = True
    features.sift.domain_size_pooling = True
    pycolmap.extract_features(
        work.database, work.images, camera_mode=pycolmap.CameraMode.SINGLE, reader_options=reader,
        extraction_options=features, device=pycolmap.Device.cpu,
    )  # fmt: skip


def match(pycolmap: Any, work: Work) -> None:
    """Compare the features of frames with each other."""
    options: dict[str, Any] = {
        "matching_options": pycolmap.FeatureMatchingOptions(use_gpu=False, guided_matching=True),
        "verification_options": pycolmap.TwoViewGeometryOptions(),
        "device": pycolmap.Device.cpu,
    }
    options["verification_options"].ransac.random_seed = SEED
    if work.every:
        pycolmap.match_exhaustive(work.database, **options)
    else:
        pairs = pycolmap.SequentialPairingOptions(overlap=AHEAD, quadratic_overlap=True)
        pycolmap.match_sequential(work.database, pairing_options=pairs, **options)


def reconstruct(pycolmap: Any, work: Work) -> None:
    """The largest model: around the sharpest half, else from all at once, else of all directions together."""
    sharp = work.sharp
    core = _incremental(pycolmap, work, sharp[: max(FEWEST, len(sharp) // 2)])
    found = [core, core and _incremental(pycolmap, work, sharp, start=core)]
    for attempt in (partial(_incremental, names=sharp), _global):
        if max(map(_count, found)) < ALMOST * len(sharp):
            found.append(attempt(pycolmap, work))
    best = max(found, key=_count)
    if best is not None:
        (work.folder / "best").mkdir()
        best.write(work.folder / "best")


def _count(model: Any) -> int:
    return 0 if model is None else int(model.num_reg_images())


def _largest(models: Mapping[int, Any]) -> Any:
    return max(models.values(), key=_count, default=None)


def _incremental(pycolmap: Any, work: Work, names: Sequence[str], *, start: Any = None) -> Any:
    options = mapper_options(pycolmap, side=work.side, steady=work.lens is not None)
    options.image_names = list(names)
    output = work.folder / "models"
    output.mkdir(exist_ok=True)
    given = {}
    if start is not None:
        given["input_path"] = work.folder / "start"
        given["input_path"].mkdir()
        start.write(given["input_path"])
    models = pycolmap.incremental_mapping(work.database, work.images, output, options=options, **given)
    return _largest(models)


def _global(pycolmap: Any, work: Work) -> Any:
    output = work.folder / "global"
    output.mkdir()
    try:
        models = pycolmap.global_mapping(work.database, work.images, output)
    except (RuntimeError, ValueError):  # it gives up with either
        return None
    return _largest(models)


def mapper_options(pycolmap: Any, *, side: int, steady: bool) -> Any:
    """A mapper that bears blurred features, and the small parallax of a clip.

    Args:
        pycolmap: The module.
        side: Pixels of the longer side.
        steady: The lens is known and stays as it is.
    """
    loose = max(0.4, side / USUAL)
    options = pycolmap.IncrementalPipelineOptions(
        min_num_matches=5,
        min_model_size=FEWEST,
        ba_refine_focal_length=not steady,
        ba_global_max_num_iterations=100,
        random_seed=SEED,
    )
    mapper, points = options.mapper, options.triangulation
    mapper.init_min_tri_angle, mapper.ba_local_min_tri_angle, mapper.filter_min_tri_angle = 2.0, 1.0, 0.3
    points.min_angle = 0.3
    mapper.init_max_error, mapper.abs_pose_max_error, mapper.filter_max_reproj_error = (
        12 * loose,
        20 * loose,
        8 * loose,
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
    work = Work.load(Path(sys.argv[1]))
    for step in STEPS:
        step(pycolmap, work)
        sys.stdout.write(f"{step.__name__}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
