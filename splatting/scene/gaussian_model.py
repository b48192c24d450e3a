"""A scene with depth: Gaussians as a fit moves them, and where they begin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from freezeframe.data.color import SRGB, to_light, to_signal
from freezeframe.splatting.camera.trajectory import Views

from .adaptive_density import Evidence, Growth, adopt, grow
from .gaussians import FIELDS, Gaussians, draw, flat_colours
from .mcmc import Sampling, resample, shaken

EVERY = 50  # steps between births
BIRTHS = (0.1, 0.75)  # progress between which Gaussians are born
COVERING = 0.6  # standard deviation of a Gaussian over the distance to its neighbours
FAINT, THICK = 0.01, 0.01  # weights of opacity and of size: what is not needed shrinks away (3DGS-MCMC)
NEIGHBOURS = 3  # points whose depths speak for a pixel
ASIDE = 1.25  # of the frame: Gaussians begin this far beyond its borders too


class Splats(nn.Module):
    """Gaussians that an optimiser may move, and that become more where they are needed.

    Args:
        start: Where they begin.
        pixel: What one pixel of the frames spans at the scene's usual distance, in the scene's unit.
        way: How they become more, by chance or where the pictures pull; None keeps their number.
    """

    def __init__(self, start: Gaussians, *, pixel: float, way: Sampling | Growth | None = None) -> None:
        super().__init__()
        self.pixel, self.way = pixel, way
        self.evidence = Evidence.none(len(start))
        self.random = torch.Generator().manual_seed(0)
        self.values = nn.ParameterDict({name: nn.Parameter(v.clone()) for name, v in start.parts().items()})
        self.seen: list[dict[str, Any]] = []  # what the pictures of a step told of the Gaussians

    @property
    def gaussians(self) -> Gaussians:
        """The parameters themselves."""
        return Gaussians(**{name: self.values[name] for name in FIELDS})

    def forward(self, views: Views, size: Sequence[int]) -> Tensor:
        """[M, 3, H, W] linear light that M views see, on black."""
        codes, _, told = draw(self.gaussians, views.poses, views.lenses.detach(), (size[0], size[1]))
        if isinstance(self.way, Growth) and told["means2d"].requires_grad:
            told["means2d"].retain_grad()
            self.seen.append(told)
        # Before light is averaged, never after; codes above white stay above.
        light: Tensor = to_light(codes, SRGB)
        return light

    def groups(self) -> list[dict[str, Any]]:
        """What may change, as an optimiser takes it; means by pixels."""
        rates = {"means": 0.1 * self.pixel, "scales": 7e-3, "quats": 3e-3, "opacities": 4e-2, "colours": 2e-2}
        return [{"params": [self.values[name]], "lr": rate, "part": name} for name, rate in rates.items()]

    def prior(self) -> Tensor:
        thick = (self.values["scales"].exp() / self.pixel).mean()
        held: Tensor = 1e-3 * (FAINT * self.values["opacities"].sigmoid().mean() + THICK * thick)
        return held

    def resized(self, factor: float) -> Splats:
        """Themselves: Gaussians have no pixels."""
        del factor
        return self

    def tend(self, optimiser: torch.optim.Optimizer, *, step: int, progress: float) -> None:
        """After a step: shake, and now and then let Gaussians be born and die."""
        if isinstance(self.way, Sampling):
            rate = next(group["lr"] for group in optimiser.param_groups if group.get("part") == "means")
            with torch.no_grad():
                self.values["means"].copy_(
                    shaken(
                        self.gaussians, rate=rate, pixel=self.pixel, noise=self.way.noise, random=self.random
                    )
                )
        seen, self.seen = self.seen, []
        for told in seen:
            self.evidence = self.evidence.after(told, pictures=len(told["means2d"]) * len(seen))
        if self.way is None or step % EVERY or not BIRTHS[0] <= progress < BIRTHS[1]:
            return
        with torch.no_grad():
            scene = self.gaussians
            if isinstance(self.way, Sampling):
                heirs = resample(scene, self.way, random=self.random)
            else:
                heirs = grow(scene, self.evidence, self.way, progress=progress, random=self.random)
        adopt(self.values, optimiser, heirs)
        self.evidence = Evidence.none(len(heirs.scene))

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As any module's, and of any number of Gaussians."""
        for name in FIELDS:
            self.values[name] = nn.Parameter(torch.empty_like(state[f"values.{name}"]))
        return super().load_state_dict(state, strict, assign)


def seeded(  # noqa: PLR0913
    points: Tensor, views: Views, frames: Tensor, *, count: int, degree: int = 0, seed: int = 0
) -> Gaussians:
    """Gaussians in front of every camera, at the depths of known points. Takes no gradient.

    As many as are asked for lie under random pixels of random frames, also a little beyond the borders; the
    points that a frame sees nearest to such a pixel tell its depth, the frame its colour.

    Args:
        points: [P, 3].
        views: Of the frames.
        frames: [T, 3, H, W] linear light.
        count: Gaussians.
        degree: Of their harmonics.
        seed: Of the choice.
    """
    random = torch.Generator().manual_seed(seed)
    height, width = frames.shape[2:]
    share = count // len(frames) + 1
    means, colours = [], []
    for view, lens, frame in zip(views.poses, views.lenses, frames, strict=True):
        places = (torch.rand(share, 2, generator=random) - 0.5) * ASIDE + 0.5
        pixel = places * torch.tensor([width - 1.0, height - 1.0])
        depth = _depth_at(pixel, points, view, lens)
        ray = torch.cat([(pixel - lens[:2, 2]) / lens[[0, 1], [0, 1]], torch.ones(share, 1)], dim=1)
        means.append((ray * depth[:, None] - view[:3, 3]) @ view[:3, :3])
        x, y = pixel[:, 0].round().clamp(0, width - 1).long(), pixel[:, 1].round().clamp(0, height - 1).long()
        colours.append(to_signal(frame[:, y, x].T.clamp(0, 1), SRGB))
    chosen = torch.randperm(share * len(frames), generator=random)[:count]
    middle = torch.cat(means)[chosen]
    # One layer of Gaussians over what all frames see together.
    depth = (middle @ views.poses[0, :3, :3].T + views.poses[0, :3, 3])[:, 2].abs()
    spread = COVERING * depth * math.sqrt(height * width * ASIDE**2 / count) / float(views.lenses[0, 0, 0])
    return Gaussians(
        means=middle,
        quats=torch.randn(count, 4, generator=random),
        scales=spread.log()[:, None].repeat(1, 3),
        opacities=torch.zeros(count),
        colours=flat_colours(torch.cat(colours)[chosen], degree=degree),
    )


def pixel_at(points: Tensor, views: Views) -> float:
    """What one pixel spans at the usual distance of [P, 3] points."""
    depths = [(points @ view[:3, :3].T + view[:3, 3])[:, 2] for view in views.poses]
    usual = torch.cat([depth[depth > 0] for depth in depths]).median()
    return float(usual / views.lenses[:, 0, 0].mean())


def _depth_at(pixel: Tensor, points: Tensor, view: Tensor, lens: Tensor) -> Tensor:
    """[N] depths at pixels [N, 2]: of one of the points nearest to each in the picture, taken at random."""
    x, y, z = (points @ view[:3, :3].T + view[:3, 3]).unbind(1)
    ahead = z > 0
    screen = torch.stack([x, y], dim=1)[ahead] / z[ahead, None] * lens[[0, 1], [0, 1]] + lens[:2, 2]
    near = torch.cdist(pixel, screen).topk(min(NEIGHBOURS, len(screen)), largest=False)
    share = 1 / (near.values + 1)
    inverse = (share / z[ahead][near.indices]).sum(1) / share.sum(1)
    return 1 / inverse
