"""Self-attention over the places of a feature map."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def _as_it_is(layer: nn.Module) -> nn.Module:
    return layer


class SelfAttention(nn.Module):
    """Add to every place what the places it attends to hold: ``x + gamma * softmax(g f') h``.

    Parameters
    ----------
    channels : int
    wrap : what becomes of each convolution, spectral normalisation for example.
    pool : int, keys and values are the maxima of squares of so many places a side: 1 for all
        places, as published; 2, as in the public code of SAGAN, costs a quarter.

    Notes
    -----
    f (keys) and g (queries) have an eighth of the channels, h (values) has all of them; each is a
    1x1 convolution. ``gamma`` starts at 0, and with it the layer as the identity. Products are not
    divided by the root of the width. The public code of SA-CMGAN has 4x4 kernels, batch
    normalisation and ReLU in f, g and h; those of SAGAN stand here.

    Examples
    --------
    >>> import torch
    >>> layer, maps = SelfAttention(16), torch.randn(2, 16, 4, 4)
    >>> torch.equal(layer(maps), maps), layer.weights(maps).shape
    (True, torch.Size([2, 16, 16]))

    References
    ----------
    zhang2019sagan, equations 1 to 3
    """

    def __init__(
        self, channels: int, wrap: Callable[[nn.Module], nn.Module] = _as_it_is, pool: int = 1
    ):
        super().__init__()
        self.pool = nn.MaxPool2d(pool) if pool > 1 else nn.Identity()
        inner = max(1, channels // 8)
        self.key = wrap(nn.Conv2d(channels, inner, 1))  # f
        self.query = wrap(nn.Conv2d(channels, inner, 1))  # g
        self.value = wrap(nn.Conv2d(channels, channels, 1))  # h
        self.gamma = nn.Parameter(torch.zeros(()))

    def weights(self, maps: torch.Tensor) -> torch.Tensor:
        """Return how much each place attends to each, (batch, places, places / pool ** 2).

        Rows sum to 1.
        """
        query, key = self.query(maps).flatten(2), self.pool(self.key(maps)).flatten(2)
        return (query.transpose(1, 2) @ key).softmax(dim=-1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        # (batch, channels, height, width) -> (batch, one head, places, channels)
        query, key, value = (
            part.flatten(2).transpose(1, 2)[:, None].contiguous()
            for part in (self.query(maps), self.pool(self.key(maps)), self.pool(self.value(maps)))
        )
        # zeros leave products as they are, and equal widths let torch keep no matrix of places
        missing = value.shape[-1] - query.shape[-1]
        query, key = (nn.functional.pad(part, (0, missing)) for part in (query, key))
        attended = nn.functional.scaled_dot_product_attention(query, key, value, scale=1.0)
        return maps + self.gamma * attended[:, 0].transpose(1, 2).reshape(maps.shape)
