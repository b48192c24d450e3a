from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import partial

import av
import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from freezeframe.data.metrics.image import psnr, psnr_srgb, ssim_srgb
from freezeframe.data.types import Clip, Motion
from freezeframe.motion.flow.warp import warp
from freezeframe.pipeline.config import FuseConfig, MeasureConfig
from freezeframe.pipeline.stages.flows import FlowCache
from freezeframe.pipeline.stages.fuse import (
    FusedFrames,
    FuseParams,
    consistency,
    deconvolve_frame,
    downsample,
    fuse,
    iteration_count,
    unsaturated_mask,
)
from freezeframe.pipeline.stages.measure import measure
from freezeframe.pipeline.stages.survey import Survey
from freezeframe.pipeline.tasks.video import deblur_video

INNER = (..., slice(14, -14), slice(24, -24))  # pixels that are visible in every frame
SHUTTER = 0.6
VELOCITY = (16.0, 6.0)


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("shape", [(3, 12, 18), (2, 3, 30, 24), (2, 13, 19)])
def test_reduced_fields_are_means_of_squares(shape, scale):
    field = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(downsample(field, scale), avg_pool2d(field, scale, ceil_mode=True))


@pytest.fixture(scope="module")
def clip(film, clip_of) -> Clip:
    return clip_of(film(VELOCITY, [-1, 0, 1], shutter=SHUTTER), shutter=SHUTTER)


@pytest.fixture(scope="module")
def truth(film) -> Tensor:
    return film(VELOCITY, [0])[0]


@pytest.fixture(scope="module")
def motion(known_motion) -> Motion:
    return known_motion(VELOCITY, 3, shutter=SHUTTER)


@pytest.fixture(scope="module")
def fused(clip, motion) -> FusedFrames:
    """The middle frame with default settings and known motion."""
    return fuse(clip, motion, FuseConfig(), which=[1])


def gain(result: Tensor, recorded: Tensor, truth: Tensor) -> float:
    """In dB of PSNR."""
    return psnr(result[INNER], truth[INNER]) - psnr(recorded[INNER], truth[INNER])


def test_known_motion_is_undone_by_default(fused, clip, truth):
    assert gain(fused.images[0], clip.images[1], truth) >= 2.5


def test_more_steps_undo_more(clip, motion, truth):
    gains = []
    for steps in (1, 4, 12):
        config = FuseConfig(iterations=steps)
        image, _ = deconvolve_frame(clip.images, motion, motion.blur, 1, config=config)
        gains.append(gain(image, clip.images[1], truth))
    assert gains[0] < gains[1] < gains[2]
    assert gains[2] >= 3


def test_long_blur_takes_steps_and_grain_costs_them(clip):
    """Noise grows with every iteration; with the network, which removes noise, it costs fewer iterations."""
    image = clip.images[2]
    grainy = (image + 0.02 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    short, long = (torch.full(image.shape[1:], pixels) for pixels in (4.0, 14.0))
    params = FuseParams()
    alone, with_network = (
        partial(iteration_count, half_noise=noise)
        for noise in (params.half_steps_noise, params.half_steps_noise_network)
    )
    assert params.min_steps <= alone(image, short) < alone(image, long) <= params.max_steps
    assert alone(grainy, long) < with_network(grainy, long) < with_network(image, long)


def test_grain_is_left_to_the_network(clip, motion):
    """The same noisy frames are deconvolved further if the network follows."""
    noise = 0.02 * torch.randn(clip.images.shape, generator=torch.Generator().manual_seed(1))
    grainy = replace(clip, images=(clip.images + noise).clamp(0, 1))
    alone, finished = (
        fuse(grainy, motion, FuseConfig(network=which), which=[2]).images[0] - grainy.images[2]
        for which in ("none", "bundled")
    )
    assert finished.square().mean() > 1.1 * alone.square().mean()


def test_measured_motion_is_undone(clip, truth):
    """Only the images and the shutter are known, as a user may set it: +1.5 dB."""
    known = Survey(estimate=None, shutter=SHUTTER, max_shutter=SHUTTER, confidence=1.0)
    measured = measure(clip, 0, known, config=MeasureConfig(), flow_cache=FlowCache())
    fused = fuse(clip, measured, FuseConfig(), which=[1])
    assert gain(fused.images[0], clip.images[1], truth) >= 1.5


def test_a_wrong_shutter_is_mended_on_the_way(clip, motion):
    """With 0.45 instead of 0.6, the fit to the frames lengthens the blur vectors.

    Not to the full length: the neighbours were deconvolved along vectors that are as wrong.
    """
    wrong_motion = replace(motion, shutter=0.45)
    blur_vectors = fuse(clip, wrong_motion, FuseConfig(), which=[1]).blur_vectors
    true, wrong = (torch.tensor(VELOCITY) * shutter for shutter in (SHUTTER, 0.45))
    fitted = blur_vectors[0][INNER].flatten(1).mean(1)
    assert float((fitted - true).norm()) < 0.85 * float((wrong - true).norm())


def test_a_still_clip_passes_unchanged(film, clip_of, known_motion):
    """To float noise: a millionth of white."""
    still = clip_of(film((0.0, 0.0), [0, 0, 0]), shutter=0.5)
    fused = fuse(still, known_motion((0.0, 0.0), 3, shutter=0.5), FuseConfig(radius=1), which=[0])
    torch.testing.assert_close(fused.images[0], still.images[0], atol=1e-5, rtol=1e-4)


def test_light_is_kept(fused, clip):
    assert float(fused.images.mean()) == pytest.approx(float(clip.images[1].mean()), rel=0.02)


def test_only_what_is_asked_for_is_done(fused, clip, motion):
    both = fuse(clip, motion, FuseConfig(), which=[2, 1])
    assert both.images.shape == (2, 3, 96, 128)
    assert torch.equal(both.images[1], fused.images[0])
    nothing = fuse(clip, motion, FuseConfig(), which=[])
    assert (len(nothing.images), len(nothing.confidence), len(nothing.blur_vectors)) == (0, 0, 0)


def test_a_frame_alone_is_sharpened_by_its_own_way(clip, motion, truth):
    alone = Clip(images=clip.images[1:2], times=clip.times[1:2], shutter=SHUTTER, owned=range(1))
    lone = replace(
        motion, flows={}, velocity=motion.velocity[:1], independent_motion=motion.independent_motion[:1]
    )
    fused = fuse(alone, lone, FuseConfig(), which=[0])
    assert gain(fused.images[0], clip.images[1], truth) >= 2
    assert float(fused.confidence.max()) == 0, "no neighbour observed it"


def test_what_no_flow_has_seen_keeps_its_light(clip, motion):
    """Flow with confidence in the left half only: only the left is deconvolved."""
    half = torch.ones(96, 128)
    half[:, 64:] = 0
    flows = {pair: replace(flow, confidence=half) for pair, flow in motion.flows.items()}
    deblurred, _ = deconvolve_frame(
        clip.images, replace(motion, flows=flows), motion.blur, 1, config=FuseConfig()
    )
    change = (deblurred - clip.images[1]).abs()
    assert float(change[:, :, 80:].max()) < 1e-5
    assert float(change[:, 14:-14, 24:48].mean()) > 0.005


def test_frames_of_the_same_scene_agree(fused):
    assert float(fused.confidence[INNER].mean()) > 0.9


def test_true_ways_are_consistent_and_misplaced_frames_are_not(film, steady):
    """Blurs commute; a wrong alignment does not cancel."""
    velocity = (14.0, 4.0)
    short, long = (film(velocity, [k], shutter=s)[0] for k, s in ((0, 0.3), (1, 0.7)))
    blur_vectors = {
        "blur_vector": steady((0.3 * 14, 0.3 * 4)),
        "other_blur_vector": steady((0.7 * 14, 0.7 * 4)),
    }
    there = steady(velocity)
    assert float(consistency(short, warp(long, there), **blur_vectors)[INNER].mean()) > 0.95
    off = there + steady((-4.0, 8.0))
    assert float(consistency(short, warp(long, off), **blur_vectors)[INNER].mean()) < 0.65
    swapped = {
        "blur_vector": blur_vectors["other_blur_vector"],
        "other_blur_vector": blur_vectors["blur_vector"],
    }
    assert (
        consistency(short, warp(long, there), **swapped)[INNER].mean()
        < consistency(short, warp(long, there), **blur_vectors)[INNER].mean() - 0.1
    )


def test_other_scenes_are_not_believed(film, leaves, steady):
    other = film((0.0, 0.0), [0], of=np.ascontiguousarray(leaves[::-1, ::-1]))[0]
    frame, still = film((0.0, 0.0), [0])[0], steady((0.0, 0.0))
    assert float(consistency(frame, other, blur_vector=still, other_blur_vector=still).mean()) < 0.1
    assert float(consistency(frame, frame, blur_vector=still, other_blur_vector=still).min()) == 1


def test_a_flash_in_a_neighbour_leaves_no_ghost(clip, motion):
    """A bright square in one neighbour only is inconsistent and hardly shows."""
    flashed = clip.images.clone()
    flashed[2, :, 40:56, 50:70] = 0.9
    plain, ghosted = (
        deconvolve_frame(images, motion, motion.blur, 1, config=FuseConfig())[0]
        for images in (clip.images, flashed)
    )
    # Where the square lies on frame 1's grid: 16 px back and 6 up.
    ghost = (ghosted - plain)[:, 34:50, 34:54].abs().mean()
    brightness = (flashed - clip.images)[2, :, 40:56, 50:70].abs().mean()
    assert float(ghost) < 0.05 * float(brightness)


def test_clipped_pixels_are_not_evidence():
    image = torch.full((3, 2, 2), 0.5)
    image[1, 0, 1] = 1.0
    assert torch.equal(unsaturated_mask(image), torch.tensor([[1.0, 0.0], [1.0, 1.0]]))


Pictures = list[np.ndarray]  # [H, W, 3] uint8 RGB


def read(folder) -> Pictures:
    return [cv2.imread(str(path))[..., ::-1].copy() for path in sorted(folder.glob("*.png"))]


def decode(path) -> Pictures:
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24", src_colorspace="itu709") for f in container.decode(video=0)]


def encode(pictures: Pictures, path) -> None:
    """H.264 at crf 23 by plain PyAV, as a camera would write it. The same file every time."""
    height, width = pictures[0].shape[:2]
    options = {
        "crf": "23",
        "threads": "1",
        "x264-params": "mbtree=0",
    }  # its rate tree differs from run to run
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.colorspace = stream.codec_context.color_primaries = 1
        stream.codec_context.color_trc = stream.codec_context.color_range = 1
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            shown = frame.reformat(format="yuv420p", dst_colorspace="itu709")
            shown.colorspace = shown.color_primaries = shown.color_trc = shown.color_range = 1
            container.mux(stream.encode(shown))
        container.mux(stream.encode(None))


def gains(results: Pictures, recorded: Pictures, truth: Pictures) -> np.ndarray:
    """[T, 2] dB of PSNR and SSIM over the input, per frame."""
    figures = [
        (psnr_srgb(f, t) - psnr_srgb(g, t), ssim_srgb(f, t) - ssim_srgb(g, t))
        for f, g, t in zip(results, recorded, truth, strict=True)
    ]
    return np.array(figures)


@pytest.mark.slow
def test_real_frames_with_known_truth(shared_data, tmp_path):
    """REDS, two sequences as folders, whole command, default settings: +1.8 dB, no frame harmed."""
    per_sequence = []
    for sequence in sorted((shared_data / "test/reds").iterdir()):
        out = tmp_path / sequence.name
        deblur_video(sequence / "blur", out)
        per_sequence.append(gains(read(out), read(sequence / "blur"), read(sequence / "sharp")))
    figures = np.concatenate(per_sequence)
    assert figures[:, 0].mean() >= 1.8
    assert figures[:, 1].mean() >= 0.055
    assert figures[:, 0].min() >= -0.1


@pytest.mark.slow
def test_coded_frames_with_known_truth(shared_data, tmp_path):
    """The same as H.264 at crf 23, as cameras record: +1 dB, no frame harmed."""
    per_sequence = []
    for sequence in sorted((shared_data / "test/reds").iterdir()):
        clip, out = tmp_path / f"{sequence.name}.mp4", tmp_path / f"{sequence.name}_out.mp4"
        encode(read(sequence / "blur"), clip)
        deblur_video(clip, out)
        per_sequence.append(gains(decode(out), decode(clip), read(sequence / "sharp")))
    figures = np.concatenate(per_sequence)
    assert figures[:, 0].mean() >= 1.0
    assert figures[:, 0].min() >= -0.1
