"""Flow estimators against known motion over real photos, sharp and blurred: error and time as Markdown.

python -m benchmarks.accuracy.flow [--photos ../shared/data] [--count 2]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
import torch
from kornia.metrics import aepe
from torch import Tensor

from freezeframe.data.types import Flow, FlowEstimator
from freezeframe.motion.flow.estimators import dis_flow, dis_uv, gamma_luma_uint8, kornia_flow
from freezeframe.motion.flow.variational import SolverConfig

SIZE = (720, 1280)
SHUTTER = 0.8
Array = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A photo seen by a moving camera, and optionally a second photo moving in front of it.

    `camera(t)` and `actor(t)` map texture pixels to frame pixels at time t in frame intervals, [3, 3].
    """

    name: str
    camera: Callable[[float], Array]
    actor: Callable[[float], Array] | None = None


def similarity_motion(
    dx: float, dy: float, *, turn: float = 0.0, zoom: float = 1.0
) -> Callable[[float], Array]:
    """Uniform motion about the frame's centre: dx, dy pixels, turn radians and zoom factor per frame."""
    centre = np.array([SIZE[1] / 2, SIZE[0] / 2])

    def at(t: float) -> Array:
        c, s = math.cos(turn * t) * zoom**t, math.sin(turn * t) * zoom**t
        linear = np.array([[c, -s], [s, c]])
        matrix = np.eye(3)
        matrix[:2, :2] = linear
        matrix[:2, 2] = centre - linear @ centre + np.array([dx, dy]) * t
        return matrix

    return at


SCENES = (
    Scene(name="pan 6 px", camera=similarity_motion(5.3, 2.7)),
    Scene(name="pan 20 px", camera=similarity_motion(-19.6, 4.1)),
    Scene(name="pan 40 px", camera=similarity_motion(38.7, -10.2)),
    Scene(name="zoom 4 %", camera=similarity_motion(0.4, 0, zoom=1.04)),
    Scene(name="turn 2.3°", camera=similarity_motion(1.5, -0.6, turn=0.04)),
    Scene(name="two layers", camera=similarity_motion(-7.7, 1.2), actor=similarity_motion(14.4, -5.3)),
    Scene(name="actor alone", camera=similarity_motion(0, 0), actor=similarity_motion(23.5, 8.2)),
)


@cache
def blob() -> Array:
    """[H, W] in [0, 1]: a soft-edged body with limbs in the middle of the frame."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    angle, radius = np.arctan2(y - SIZE[0] / 2, x - SIZE[1] / 2), np.hypot(y - SIZE[0] / 2, x - SIZE[1] / 2)
    return np.clip(190 + 50 * np.cos(5 * angle) - radius, -0.5, 0.5) + 0.5


def render(scene: Scene, photos: tuple[Array, Array], t: float) -> Array:
    """The scene at one instant. [H, W, 3] linear light."""
    view = partial(
        cv2.warpPerspective, dsize=SIZE[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    image = view(photos[0], scene.camera(t))
    if scene.actor is not None:
        cover = cv2.warpPerspective(blob(), scene.actor(t), SIZE[::-1])[..., None]
        image = image * (1 - cover) + view(photos[1], scene.actor(t)) * cover
    return np.clip(image, 0, 1)


def expose(scene: Scene, photos: tuple[Array, Array], t: float, *, shutter: float) -> Array:
    """The frame recorded at time t: mean light of the exposure, sensor noise, 8 bits. [H, W, 3] linear."""
    steps = 11 if shutter else 1
    linear = np.zeros((*SIZE, 3), np.float32)
    for k in range(steps):
        cv2.accumulate(render(scene, photos, t + shutter * ((k + 0.5) / steps - 0.5)), linear)
    linear /= steps
    noise = np.random.default_rng(round(97 * t)).standard_normal(linear.shape, np.float32)
    encoded = linear ** (1 / 2.2) + 0.008 * noise
    return (np.clip(encoded * 255 + 0.5, 0, 255).astype(np.uint8) / np.float32(255)) ** 2.2


def true_flow(scene: Scene) -> tuple[Tensor, Tensor]:
    """Flow from time 0 to 1, [H, W, 2], and the mask of points that stay in view and unoccluded, [H, W]."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float64)
    points = np.stack((x, y, np.ones_like(x)), axis=-1)
    move = [layer(1) @ np.linalg.inv(layer(0)) for layer in (scene.camera, scene.actor) if layer]
    mapped = [(points @ m.T)[..., :2] / (points @ m.T)[..., 2:] for m in move]
    end, visible = mapped[0], np.ones(SIZE, bool)
    if scene.actor is not None:
        body = blob() > 0.5
        cover = cv2.warpPerspective(blob(), scene.actor(1), SIZE[::-1])
        cover_at_target = cv2.remap(cover, *mapped[0].astype(np.float32).transpose(2, 0, 1), cv2.INTER_LINEAR)
        end, visible = np.where(body[..., None], mapped[1], mapped[0]), body | (cover_at_target < 0.5)
    limits = np.array([SIZE[1] - 1, SIZE[0] - 1])
    visible &= ((end >= 0) & (end <= limits)).all(-1)
    return torch.from_numpy(end - points[..., :2]).float(), torch.from_numpy(visible)


def photo_pairs(folder: Path, count: int) -> Iterator[tuple[Array, Array]]:
    paths = [*sorted(folder.glob("train/elem_*.webp")), *sorted(folder.glob("test/photos/*.png"))]
    step = max(1, len(paths) // count)
    for back, front in zip(paths[::step][:count], reversed(paths), strict=False):
        yield load(back), load(front)


def load(path: Path) -> Array:
    """[H, W, 3] linear light, at least as large as a frame."""
    image = cv2.imread(str(path))[..., ::-1]
    scale = max(SIZE[1] / image.shape[1], SIZE[0] / image.shape[0])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return ((image[: SIZE[0], : SIZE[1]] / np.float32(255)) ** 2.2).astype(np.float32)


def tensor(image: Array) -> Tensor:
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1).contiguous()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One pair of frames and its ground truth."""

    scene: str
    blurred: bool
    source: Tensor
    target: Tensor
    uv: Tensor  # [H, W, 2] pixels
    visible: Tensor  # [H, W] whether a point of the source is visible in the target


def cases(folder: Path, count: int) -> Iterator[Case]:
    for photos in photo_pairs(folder, count):
        for scene in SCENES:
            uv, visible = true_flow(scene)
            for shutter in (0.0, SHUTTER):
                source, target = (tensor(expose(scene, photos, t, shutter=shutter)) for t in (0, 1))
                yield Case(
                    scene=scene.name,
                    blurred=bool(shutter),
                    source=source,
                    target=target,
                    uv=uv,
                    visible=visible,
                )


def refined_flow(source: Tensor, target: Tensor) -> Flow:
    """The variational flow started from DIS."""
    start = dis_uv(gamma_luma_uint8(source), gamma_luma_uint8(target))
    return kornia_flow(source, target, start=start, config=SolverConfig(warps=2))


ESTIMATORS: dict[str, FlowEstimator] = {
    "dis ultrafast": partial(dis_flow, preset="ultrafast"),
    "dis fast": partial(dis_flow, preset="fast"),
    "dis medium": partial(dis_flow, preset="medium"),
    "kornia": kornia_flow,
    "kornia from dis": refined_flow,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Scores of one estimator on one case."""

    error: float  # pixels, mean endpoint error of the visible points
    weighted_error: float  # pixels, the same weighted by confidence
    confidence: float  # mean confidence of the visible points
    occluded_confidence: float  # mean confidence of the occluded ones
    seconds: float  # both directions


def score(estimator: FlowEstimator, case: Case) -> Score:
    start = time.perf_counter()
    flow = estimator(case.source, case.target)
    seconds = time.perf_counter() - start
    error = aepe(flow.uv.permute(1, 2, 0), case.uv, reduction="none")
    visible, occluded = flow.confidence[case.visible], flow.confidence[~case.visible]
    return Score(
        error=float(error[case.visible].mean()),
        weighted_error=float((error[case.visible] * visible).sum() / visible.sum()),
        confidence=float(visible.mean()),
        occluded_confidence=float(occluded.mean()) if len(occluded) else 0.0,
        seconds=seconds,
    )


def table(scores: dict[tuple[str, str, bool], list[Score]]) -> Iterator[str]:
    """Error of each estimator per scene, sharp / blurred, and its means."""
    names = list(ESTIMATORS)
    yield "| scene | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for scene in SCENES:
        cells = [
            " / ".join(f"{mean(scores[name, scene.name, b], 'error'):.2f}" for b in (False, True))
            for name in names
        ]
        yield f"| {scene.name} | " + " | ".join(cells) + " |"
    for field in ("error", "weighted_error", "confidence", "occluded_confidence"):
        cells = [
            " / ".join(f"{mean(of_estimator(scores, name, blurred=b), field):.2f}" for b in (False, True))
            for name in names
        ]
        yield f"| all: {field} | " + " | ".join(cells) + " |"
    best_seconds = [
        min(s.seconds for b in (False, True) for s in of_estimator(scores, name, blurred=b)) for name in names
    ]
    yield (
        "| ms per pair, both ways | " + " | ".join(f"{1000 * seconds:.0f}" for seconds in best_seconds) + " |"
    )


def of_estimator(
    scores: dict[tuple[str, str, bool], list[Score]], name: str, *, blurred: bool
) -> list[Score]:
    return [s for (n, _, b), entries in scores.items() if n == name and b == blurred for s in entries]


def mean(scores: list[Score], field: str) -> float:
    return float(np.mean([getattr(s, field) for s in scores]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=Path("../shared/data"))
    parser.add_argument("--count", type=int, default=2, help="photographs")
    args = parser.parse_args()
    scores: dict[tuple[str, str, bool], list[Score]] = {}
    for case in cases(args.photos, args.count):
        for name, estimator in ESTIMATORS.items():
            scores.setdefault((name, case.scene, case.blurred), []).append(score(estimator, case))
    print("\n".join(table(scores)))


if __name__ == "__main__":
    main()
