from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from freezeframe.motion.regions.detector import RegionConfig, RegionDetector

from .conftest import SIZE, Disc, Drawing


def movers(frames, *, cuts=(), config=None):
    detector = RegionDetector(config=config or RegionConfig())
    for number, frame in enumerate(frames):
        detector.add(frame, cut=number in cuts)
    return detector.finish()


def line(x, y, dx, dy):
    return lambda t: (x + dx * t, y + dy * t)


def errors(track, path, camera=lambda t: (0.0, 0.0)):
    """Pixels from the true centre, of the detections that are entirely in the frame."""
    truth = {i: np.subtract(path(i), camera(i)) for i in track.span}
    inside = [i for i in track.span if (truth[i] > 20).all() and (truth[i] < np.array(SIZE[::-1]) - 20).all()]
    return [math.dist(track.at(i).centre, truth[i]) for i in inside]


def test_a_still_clip_has_no_mover_and_a_still_camera(draw):
    """Grain is no motion: the homographies are exactly the identity."""
    found = movers(draw(Drawing(noise=4)))
    assert found.tracks == ()
    assert all(torch.equal(step, torch.eye(3, dtype=torch.float64)) for step in found.camera)


@pytest.mark.parametrize("radius", [4.0, 9.0])
def test_a_ball_is_one_track_with_its_centres(radius, draw):
    """The centroid of a blurred silhouette is the middle of the exposure."""
    ball = Disc(radii=(radius, radius), path=line(40, 60, 18, 6))
    (track,) = movers(draw(Drawing(discs=[ball]))).tracks
    assert track.span == range(14)
    assert np.median(errors(track, ball.path)) < 1
    assert track.velocity(7) == pytest.approx((18, 6), abs=1)


def test_a_ball_at_three_diameters_per_frame_is_detected_in_nine_of_ten_frames(draw):
    ball = Disc(radii=(5, 5), path=line(30, 120, 30, -5))
    (track,) = movers(draw(Drawing(discs=[ball], frames=10))).tracks
    assert sum(not d.predicted for d in track.detections) >= 0.9 * 10


def test_time_reversal_reverses_the_velocity(draw):
    frames = draw(Drawing(discs=[Disc(radii=(7, 7), path=line(40, 60, 18, 6))]))
    (forward,), (backward,) = movers(frames).tracks, movers(frames[::-1]).tracks
    assert backward.velocity(6) == pytest.approx([-v for v in forward.velocity(7)], abs=0.5)


def test_a_ball_before_a_panning_camera(draw):
    """The camera is known to 0.3 pixels in the corners, and the velocity is that before the background."""
    camera, ball = line(-70, 0, 12, 1), Disc(radii=(8, 8), path=line(180, 40, -6, 9))
    found = movers(draw(Drawing(discs=[ball], camera=camera)))
    corners = torch.tensor([[0.0, 0, 1], [SIZE[1], 0, 1], [0, SIZE[0], 1], [*SIZE[::-1], 1]]).double()
    for step in found.camera:
        ends = corners @ step.T
        moves = ends[:, :2] / ends[:, 2:] - corners[:, :2]
        assert float((moves - torch.tensor([-12.0, -1])).norm(dim=1).max()) < 0.3
    (track,) = found.tracks
    assert len(track.span) >= 13
    assert np.median(errors(track, ball.path, camera)) < 1
    assert track.velocity(7) == pytest.approx((-6, 9), abs=1)


def test_what_rests_on_the_screen_is_no_mover(draw):
    """A logo moves before the background of a pan, but no exposure blurs it."""
    camera = line(-70, 0, 12, 1)
    logo = Disc(radii=(12, 6), path=lambda t: tuple(np.add(camera(t), (200, 40))))
    assert movers(draw(Drawing(discs=[logo], camera=camera))).tracks == ()


def test_several_posts_that_a_pan_shifts_alike_are_the_foreground(draw):
    """Nearer than the background, they move against the pan at one velocity: parallax."""
    posts = [Disc(radii=(4, 14), path=line(40 + 60 * k, 40 + 25 * k, -7, 0)) for k in range(5)]
    camera = line(-70, 0, 8, 0)
    assert movers(draw(Drawing(discs=posts, camera=camera))).tracks == ()
    assert len(movers(draw(Drawing(discs=posts[2:3], camera=camera))).tracks) == 1


def test_a_shaking_camera_moves_nothing(draw):
    shaken = movers(draw(Drawing(camera=lambda t: (5 * math.sin(0.9 * t), 4 * math.cos(0.7 * t)))))
    assert shaken.tracks == ()


def test_balls_that_cross_are_two_tracks(draw):
    """Each continues on its own side."""
    balls = [Disc(radii=(7, 7), path=line(40, 40, 20, 9)), Disc(radii=(7, 7), path=line(300, 40, -20, 9))]
    tracks = movers(draw(Drawing(discs=balls))).tracks
    assert len(tracks) == 2
    assert sorted(round(t.velocity(2)[0]) for t in tracks) == pytest.approx([-20, 20], abs=1)
    assert sorted(round(t.velocity(11)[0]) for t in tracks) == pytest.approx([-20, 20], abs=1)


@pytest.mark.parametrize("amplitude", [2.0, 5.0])
def test_what_fidgets_in_place_is_no_mover(amplitude, draw):
    figure = Disc(radii=(9, 22), path=lambda t: (150 + amplitude * math.sin(1.1 * t), 100))
    assert movers(draw(Drawing(discs=[figure], frames=24))).tracks == ()


@pytest.mark.parametrize("gain", [lambda t: 1.6 if t == 6 else 1.0, lambda t: 1 + 0.1 * math.sin(2 * t)])
def test_a_flash_and_flicker_are_no_movers(gain, draw):
    assert movers(draw(Drawing(light=gain))).tracks == ()


def test_no_track_crosses_a_cut(draw):
    ball = Disc(radii=(7, 7), path=line(40, 60, 18, 6))
    found = movers(draw(Drawing(discs=[ball])), cuts={7})
    assert found.camera[6] is None
    assert [t.span for t in found.tracks] == [range(7), range(7, 14)]


def test_reduced_frames_give_pixels_of_the_full_frame(draw):
    ball = Disc(radii=(9, 9), path=line(40, 60, 18, 6))
    (track,) = movers(draw(Drawing(discs=[ball])), config=RegionConfig(max_side=SIZE[1] // 2)).tracks
    assert np.median(errors(track, ball.path)) < 1


def test_memory_does_not_grow_with_the_clip(draw):
    frame = draw(Drawing(frames=1))[0][:60, :80].contiguous()
    detector, held = RegionDetector(), []
    for _ in range(70):
        detector.add(frame, cut=False)
        held.append(len(detector._frames))
    assert max(held[45:]) <= max(held[:45])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_clip_of_few_frames_has_no_mover(count, draw):
    found = movers(draw(Drawing(frames=count)))
    assert found.tracks == ()
    assert len(found.camera) == max(0, count - 1)
