"""Parts of transformers on tokens [B, N, C], for VAR (arXiv 2404.02905) and DiT (arXiv 2212.09748)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm


class Mlp(nn.Module):
    """Two linear layers per token with a GELU between, in its tanh form. [..., C] to [..., out]."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.fc2(gelu(self.fc1(x), approximate="tanh"))
        return changed


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Apply adaptive layer norm: (1 + scale) norm(x) + shift. [B, N, C]."""
    return layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Reshape [B, N, heads c] to [B, heads, N, c]."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Invert `split_heads`."""
    return x.transpose(1, 2).flatten(2)
