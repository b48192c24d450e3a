"""Estimation of the shutter fraction from moving patches by a small network.

Patches are resampled so that motion runs along their rows at eight samples per frame interval, at any speed.
Motion blur then extends over eight times the shutter fraction. Compression removes detail in both
directions, motion blur in one. The log-likelihoods of patches add up.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

SIDE = 32  # samples of a patch's side
PER_INTERVAL = 8  # samples of motion per frame interval
FRAMES = 3  # before, current, after: the same content, compressed three times
NUM_FEATURES = 4  # of a patch: log speed, log contrast, relative change of speed before and after
FRACTIONS = tuple(round(0.02 + 0.04 * k, 2) for k in range(25))  # classes: exposure time over frame interval
_CHANNELS = (24, 32, 48, 64)
_STRIDES = (1, 2, 1, 2)
_HIDDEN = 96


class ShutterNet(nn.Module):
    """Logits of patches, and their combination for a clip."""

    def __init__(self) -> None:
        super().__init__()
        widths = zip((FRAMES, *_CHANNELS), _CHANNELS, _STRIDES, strict=False)
        self.looks = nn.ModuleList(nn.Conv2d(a, b, 3, stride=step, padding=1) for a, b, step in widths)
        self.reads = nn.ModuleList(
            [nn.Linear(2 * _CHANNELS[-1] + NUM_FEATURES, _HIDDEN), nn.Linear(_HIDDEN, _HIDDEN)]
        )
        self.votes = nn.Linear(_HIDDEN, len(FRACTIONS))
        self.says = nn.Linear(_HIDDEN, 1)
        self.power = nn.Parameter(torch.tensor(-0.5))  # patches are correlated: many count as fewer
        self.weight = nn.Parameter(torch.tensor(-1.2))
        self.level = nn.Parameter(torch.zeros(len(FRACTIONS)))

    def forward(self, patches: Tensor, features: Tensor) -> Tensor:
        """Logits of each patch for each of `FRACTIONS`: [N, K].

        Args:
            patches: [N, 3, 32, 32], each of mean 0 and contrast about 1.
            features: [N, 4].
        """
        x = patches
        for conv in self.looks:
            x = relu(conv(x))
        x = torch.cat([x.mean((2, 3)), x.amax((2, 3)), features], 1)
        for linear in self.reads:
            x = relu(linear(x))
        votes: Tensor = self.votes(x).float()
        return (votes - votes.mean(1, keepdim=True)) * torch.sigmoid(self.says(x).float())

    def combine(self, votes: Tensor) -> Tensor:
        """Log-likelihood of `FRACTIONS`, [..., K] nats, from the logits [..., N, K] of a clip's patches."""
        count = votes.shape[-2]
        log_likelihood: Tensor = votes.sum(-2) * count**self.power * self.weight.exp() + self.level
        return log_likelihood
