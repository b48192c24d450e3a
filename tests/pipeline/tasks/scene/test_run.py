"""`freezeframe scene` and the splat stage on a small clip of a turning camera."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from freezeframe.cli import app
from freezeframe.data.blur.operator import integrate_exposure
from freezeframe.data.errors import UnwritableOutput
from freezeframe.data.media.video_in.source import open_video
from freezeframe.data.media.video_out.simple_writer import write_video
from freezeframe.data.types import Clip, Flow, Motion
from freezeframe.pipeline.config import Config, SplatConfig
from freezeframe.pipeline.solvers.camera_estimation import estimate_camera
from freezeframe.pipeline.stages.flows import ESTIMATORS, ChainedFlows, adjacent_flows
from freezeframe.pipeline.stages.splat import SceneLog, splat
from freezeframe.pipeline.tasks.scene.fallback import FallbackResult
from freezeframe.pipeline.tasks.scene.run import SceneCallbacks, SceneOptions, rebuild
from freezeframe.splatting.camera.lie import compose_se3, so3_exp
from freezeframe.splatting.optim.optimizer import Fit, FitMetrics
from tests.support.known_views import sphere_view

SIZE = (96, 160)
FOCAL = 150.0
INTRINSICS = torch.tensor([[FOCAL, 0, 79.5], [0, FOCAL, 47.5], [0, 0, 1]])
COUNT = 8
SHUTTER = 0.8


def panorama() -> Tensor:
    random = torch.Generator().manual_seed(0)
    picture = torch.full((3, 300, 520), 0.25)
    for k in range(500):
        size = 70 if k < 80 else 18
        y, x, h, w = (int(torch.randint(low, high, (1,), generator=random)) for low, high in
                      ((0, 295), (0, 515), (4, size), (4, size)))  # fmt: skip
        picture[:, y : y + h, x : x + w] = torch.rand(3, 1, 1, generator=random)
    return picture


def pan(time: float) -> Tensor:
    """A pan of growing speed, in pixels."""
    return torch.tensor([1.5 * math.sin(time), 4 * time + 0.5 * time**2 - 30, 0.0])


def render_frames(rotation_px: object = pan) -> tuple[Tensor, Tensor]:
    """[T, 3, H, W] blurred and sharp frames."""
    view = sphere_view(panorama(), INTRINSICS, SIZE, reach=(0.95, 0.55))

    def render(time: float) -> Tensor:
        return view(compose_se3(so3_exp(rotation_px(time) / FOCAL), torch.zeros(3)))

    blurred = [
        integrate_exposure(lambda u, k=k: render(k + u), 0.0, shutter=SHUTTER, count=9) for k in range(COUNT)
    ]
    return torch.stack(blurred).clamp(0, 1), torch.stack([render(float(k)) for k in range(COUNT)])


@pytest.fixture(scope="module")
def frames() -> tuple[Tensor, Tensor]:
    return render_frames()


@pytest.fixture(scope="module")
def clip(frames, tmp_path_factory) -> Path:
    return write_video(frames[0], tmp_path_factory.mktemp("scene") / "pan.mp4", rate=Fraction(24))


def settings(steps: int = 12) -> Config:
    config = Config()
    return replace(
        config, splat=replace(config.splat, steps=steps), measure=replace(config.measure, shutter=SHUTTER)
    )


def test_a_film_keeps_every_picture_and_its_colours(frames, clip):
    with av.open(str(clip)) as container:
        decoded = list(container.decode(video=0))
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (160, 96, 24)
        assert stream.codec_context.colorspace == 1
    assert len(decoded) == COUNT
    shown = next(iter(open_video(clip).frames())).picture.linear()
    # Chroma has half the resolution: block means are compared.
    apart = torch.nn.functional.avg_pool2d(shown, 8) - torch.nn.functional.avg_pool2d(frames[0][0], 8)
    assert float(apart.abs().mean()) < 0.01


def test_the_camera_is_found_to_a_fifth_of_a_pixel(frames):
    """Rotations between blurred frames, by enhanced correlation, against the true ones."""
    blurred = frames[0]
    flows = adjacent_flows(blurred, ESTIMATORS["dis"])
    estimate = estimate_camera(blurred, torch.arange(COUNT).float(), flows, shutter=SHUTTER, focal=FOCAL)
    assert estimate.path.kind == "rotation"
    assert not estimate.unregistered
    for k in range(1, COUNT):
        true = so3_exp(pan(float(k)) / FOCAL) @ so3_exp(pan(0.0) / FOCAL).T
        apart = estimate.path.rotations[k] @ estimate.path.rotations[0].T @ true.T
        angle = math.acos(min(1.0, (float(apart.trace()) - 1) / 2))
        assert angle * FOCAL < 0.2 * math.sqrt(k) + 0.2


def test_what_moves_by_itself_is_no_part_of_the_scene(frames):
    blurred = frames[0].clone()
    for k in range(COUNT):
        blurred[k, :, 30:60, 20 + 12 * k : 50 + 12 * k] = torch.rand(
            3, 1, 1, generator=torch.Generator().manual_seed(1)
        ) + 0.1 * torch.rand(3, 30, 30, generator=torch.Generator().manual_seed(2))
    flows = adjacent_flows(blurred, ESTIMATORS["dis"])
    estimate = estimate_camera(blurred, torch.arange(COUNT).float(), flows, shutter=SHUTTER, focal=FOCAL)
    # A flow of small frames sees a small mover's middle only.
    assert float(estimate.static[3, 35:55, 60:80].mean()) < 0.6
    assert float(estimate.static[3, :, 110:].mean()) > 0.9


def test_a_scene_becomes_a_folder_with_everything_in_it(clip, tmp_path):
    output = tmp_path / "scene"
    report = rebuild(clip, output, config=settings(), scene_options=SceneOptions(subframes=2))
    names = {each.name for each in output.iterdir()}
    expected = {"sharp.mp4", "panorama.png", "camera.json", "flythrough.mp4", "slow.mp4", "report.json"}
    assert names == expected
    assert (report.kind, report.frames, report.registered) == ("rotation", COUNT, COUNT)
    with av.open(str(output / "slow.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 2 * COUNT
    with av.open(str(output / "sharp.mp4")) as sharp, av.open(str(clip)) as old:
        assert [f.pts for f in sharp.decode(video=0)] == [f.pts for f in old.decode(video=0)]
    assert len(json.loads((output / "camera.json").read_text())["frames"]) == COUNT
    document = json.loads((output / "report.json").read_text())
    assert (document["schema"], document["mode"]) == (1, report.mode)
    assert cv2.imread(str(output / "panorama.png")).shape[1] > SIZE[1]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["scene"], "nothing unfinished is left behind"


def test_an_existing_folder_is_kept(clip, tmp_path):
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene" / "notes.txt").write_text("mine")
    with pytest.raises(UnwritableOutput, match="exists"):
        rebuild(clip, tmp_path / "scene", config=settings())
    assert (tmp_path / "scene" / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_an_interrupted_fit_is_taken_up_again(clip, tmp_path):
    options = SceneOptions(checkpoint_seconds=0.0)
    progresses: list[float] = []

    def stop(progress: FitMetrics) -> None:
        progresses.append(progress.progress)
        if len(progresses) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild(
            clip,
            tmp_path / "scene",
            config=settings(),
            scene_options=options,
            callbacks=SceneCallbacks(on_fit_progress=stop),
        )
    assert not (tmp_path / "scene").exists()
    resumed: list[float] = []
    rebuild(
        clip,
        tmp_path / "scene",
        config=settings(),
        scene_options=options,
        callbacks=SceneCallbacks(on_fit_progress=lambda t: resumed.append(t.progress)),
    )
    assert resumed[0] == pytest.approx(progresses[-1]), (
        "the step that was stopped is done again, and no other"
    )


# Fallback


def delivered(clip: Path, output: Path, *, reason: str, checkpoint_seconds: float = 10.0) -> FallbackResult:
    """The result of a clip without a scene: the reason, and as many frames at the same times."""
    result = rebuild(
        clip, output, config=settings(), scene_options=SceneOptions(checkpoint_seconds=checkpoint_seconds)
    )
    assert isinstance(result, FallbackResult)
    assert re.search(reason, result.format_text())
    assert re.search(reason, (output / "report.json").read_text())
    assert {each.name for each in output.iterdir()} == {f"sharp{clip.suffix}", "report.json"}
    with av.open(str(output / f"sharp{clip.suffix}")) as sharp, av.open(str(clip)) as old:
        assert [f.pts for f in sharp.decode(video=0)] == [f.pts for f in old.decode(video=0)]
    return result


def test_a_still_camera_has_no_scene_and_its_clip_is_delivered(frames, tmp_path):
    still = write_video(frames[1][:1].expand(8, -1, -1, -1), tmp_path / "still.mp4", rate=Fraction(24))
    delivered(still, tmp_path / "scene", reason="camera is static")
    shown = zip(
        open_video(tmp_path / "scene" / "sharp.mp4").frames(), open_video(still).frames(), strict=True
    )
    assert all(torch.equal(one.picture.linear(), other.picture.linear()) for one, other in shown)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["scene", "still.mp4"]


def test_a_cut_is_told_with_its_place(frames, tmp_path):
    other = 1 - frames[1].flip(3)
    both = write_video(torch.cat([frames[1][:4], other[4:]]), tmp_path / "cut.mp4", rate=Fraction(24))
    delivered(both, tmp_path / "scene", reason=r"scene cut at frame 4.*--start")


def test_one_frame_is_no_scene(frames, tmp_path):
    one = write_video(frames[0][:1], tmp_path / "one.mp4", rate=Fraction(24))
    delivered(one, tmp_path / "scene", reason="1 frame is too few")


@pytest.mark.slow
def test_a_fit_that_falls_apart_leaves_its_checkpoint_and_the_clip(clip, tmp_path, monkeypatch):
    original = Fit.render_exposure

    def diverge(self: Fit, frame: int, *, jitter: bool) -> tuple[Tensor, Tensor]:
        linear, temporal_change = original(self, frame, jitter=jitter)
        return (linear * math.nan if self.step == 5 else linear), temporal_change

    monkeypatch.setattr(Fit, "render_exposure", diverge)
    result = delivered(clip, tmp_path / "scene", reason="diverged at step 5", checkpoint_seconds=0.0)
    assert result.checkpoint is not None
    assert torch.load(result.checkpoint, weights_only=True)["step"] == 5


@pytest.mark.parametrize(
    "trouble",
    [
        MemoryError(),
        # Every error of this kind is told from others by one function, which the tests of tiles hold.
        pytest.param(RuntimeError("DefaultCPUAllocator: can't allocate memory"), marks=pytest.mark.slow),
    ],
)
def test_memory_that_runs_out_is_told_and_the_clip_delivered(clip, tmp_path, monkeypatch, trouble):
    def full(*_: object, **__: object) -> None:
        raise trouble

    monkeypatch.setattr(Fit, "optimize_step", full)
    delivered(clip, tmp_path / "scene", reason="fit into memory.*--start")


def test_what_was_asked_for_by_name_and_is_not_there_shows_in_the_exit_code(frames, tmp_path):
    still = write_video(frames[1][:1].expand(8, -1, -1, -1), tmp_path / "still.mp4", rate=Fraction(24))
    command = ["scene", str(still), str(tmp_path / "scene")]
    result = CliRunner().invoke(app, [*command, "--save-scene", str(tmp_path / "it.ply")])
    assert result.exit_code == 1
    assert re.search(r"(?s)No scene: the camera is static.*copied", result.output)
    assert CliRunner().invoke(app, [*command, "--force"]).exit_code == 0


@pytest.mark.parametrize("words", ["10", "m", "0s", "5 d"])
def test_a_budget_that_is_no_time_is_refused(clip, tmp_path, words):
    result = CliRunner().invoke(app, ["scene", str(clip), str(tmp_path / "out"), "--budget", words])
    assert result.exit_code == 2
    assert "90s, 10m or 1h" in " ".join(result.output.replace("│", " ").split())


@pytest.mark.slow
def test_the_command_makes_a_pan_sharper(frames, clip, tmp_path):
    """At least 4 dB of brightness at 160x96, compression and all; 4:2:0 loses small squares' colours."""
    output = tmp_path / "scene"
    result = CliRunner().invoke(
        app, ["scene", str(clip), str(output), "--shutter", str(SHUTTER), "--steps", "400", "--budget", "5m"]
    )
    assert result.exit_code == 0, result.output
    sharp = torch.stack([f.picture.linear() for f in open_video(output / "sharp.mp4").frames()])

    recorded = torch.stack([f.picture.linear() for f in open_video(clip).frames()])

    def psnr(images: Tensor) -> float:
        apart = torch.einsum("tchw,c->thw", images - frames[1], torch.tensor([0.2126, 0.7152, 0.0722]))
        return -10 * math.log10(float(apart[..., 8:-8, 8:-8].square().mean()))

    assert psnr(sharp) > psnr(recorded) + 4


# The stage inside `freezeframe video`


def make_clip(images: Tensor) -> tuple[Clip, Motion]:
    near = adjacent_flows(images, ESTIMATORS["dis"])
    shape = images.shape[2:]
    clip = Clip(
        images=images,
        times=tuple(Fraction(k, 24) for k in range(len(images))),
        shutter=SHUTTER,
        owned=range(len(images)),
    )
    motion = Motion(
        flows=ChainedFlows(near), velocity=torch.zeros(len(images), 2, *shape),
        independent_motion=torch.zeros(len(images), *shape), shutter=SHUTTER,
    )  # fmt: skip
    return clip, motion


def test_the_stage_is_off_unless_asked_for(frames):
    clip, motion = make_clip(frames[0][:3])
    scenes = SceneLog()
    sharp = torch.rand(1, 3, *SIZE)
    same = splat(sharp, clip, motion, SplatConfig(), which=[1], confidence=1.0, scenes=scenes)
    assert same is sharp
    assert not scenes.notes()


def test_what_is_refused_stays_as_the_other_path_made_it(frames):
    clip, motion = make_clip(frames[1][:1].expand(6, -1, -1, -1))
    scenes = SceneLog()
    sharp = torch.rand(1, 3, *SIZE)
    same = splat(sharp, clip, motion, SplatConfig(mode="on"), which=[1], confidence=1.0, scenes=scenes)
    assert torch.equal(same, sharp)
    assert "camera is static" in scenes.notes()[0]


def test_the_stage_changes_only_what_the_scene_explains(frames):
    clip, motion = make_clip(frames[0])
    scenes, progresses = SceneLog(), []
    scenes.on_progress = progresses.append
    sharp = frames[0][2:4].clone()
    sharp[:, :, :20] = 0.5  # kept where the rendering does not match
    output = splat(
        sharp, clip, motion, SplatConfig(mode="on", steps=12), which=[2, 3], confidence=1.0, scenes=scenes
    )
    assert len(progresses) == 12
    assert "rebuilt in" in scenes.notes()[0]
    assert output.shape == sharp.shape
    assert bool(output.isfinite().all())


def test_flows_of_one_frame_are_no_camera():
    """A window of one frame is refused by the gate, not by a crash."""
    images = torch.rand(1, 3, *SIZE)
    flows: dict[tuple[int, int], Flow] = {}
    clip = Clip(images=images, times=(Fraction(0),), shutter=0.5, owned=range(1))
    motion = Motion(
        flows=flows, velocity=torch.zeros(1, 2, *SIZE), independent_motion=torch.zeros(1, *SIZE), shutter=0.5
    )
    scenes = SceneLog()
    same = splat(images, clip, motion, SplatConfig(mode="on"), which=[0], confidence=1.0, scenes=scenes)
    assert torch.equal(same, images)
    assert "too few" in scenes.notes()[0]
