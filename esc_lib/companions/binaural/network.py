"""BAST: a transformer that reads the spectrograms of two ears and says where a sound comes from.

By kuang2022bast and the authors' public code, which settles what the text leaves open.
"""

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional

from esc_lib.companions.binaural.settings import Settings
from esc_lib.companions.binaural.spectrograms import BINS, FRAMES

ENCODERS = ("TE-L", "TE-R", "TE-C")


class Layer(nn.Module):
    """Attention and a two-layer network, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, settings: Settings):
        super().__init__()
        inner = settings.heads * settings.head_width
        self.heads = settings.heads
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * inner, bias=False)
        self.out = nn.Linear(inner, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, settings.hidden)
        self.mlp_out = nn.Linear(settings.hidden, width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: torch.Tensor, keep: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map (batch, tokens, width) to the same shape, and to the attention if it is kept."""
        projected = self.query_key_value(self.norm_attention(x))
        # (batch, tokens, 3 inner) -> 3 of (batch, heads, tokens, head_width)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in projected.chunk(3, -1)
        )
        if keep:
            scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
            attention = scores.float().softmax(-1)  # in half precision rows would not sum to one
            mixed = attention.to(value.dtype) @ value
        else:
            attention, mixed = None, functional.scaled_dot_product_attention(query, key, value)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        hidden = self.dropout(functional.gelu(self.mlp_in(self.norm_mlp(x))))
        return x + self.dropout(self.mlp_out(hidden)), attention


class Encoder(nn.Module):
    """A stack of layers."""

    def __init__(self, width: int, settings: Settings):
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, settings) for _ in range(settings.layers))

    def forward(self, x: torch.Tensor, keep: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the output and, if kept, the attention (layers, batch, heads, tokens, tokens)."""
        kept = []
        for layer in self.layers:
            x, attention = layer(x, keep)
            kept.append(attention)
        return x, torch.stack(kept) if keep else None


class BAST(nn.Module):
    """Map the spectrograms of two ears to a point (x, y) near the unit circle.

    x points ahead, y to the left; the azimuth is atan2(y, x), whatever the distance from zero.

    57.14 million parameters as published, 38.25 with a shared encoder, 76.04 with concatenation,
    whose central encoder is twice as wide. Patch embedding, positions and class token are shared
    by the ears. All tokens, the class token too, are averaged in the end.

    Examples
    --------
    >>> small = Settings(width=32, layers=1, heads=2, head_width=16, hidden=32)
    >>> BAST(small)(torch.zeros(3, 2, 129, 61)).shape
    torch.Size([3, 2])
    """

    def __init__(self, settings: Settings):
        super().__init__()
        self.settings = settings
        width = settings.width
        central = 2 * width if settings.fusion == "concatenate" else width
        self.patches = nn.Conv2d(1, width, settings.patch, settings.stride)
        tokens = math.prod(settings.grid) + 1  # patches and the class token
        self.positions = nn.Parameter(torch.randn(1, tokens, width))
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.left = Encoder(width, settings)
        self.right = self.left if settings.shared else Encoder(width, settings)
        self.central = Encoder(central, settings)
        self.norm = nn.LayerNorm(central)
        self.head = nn.Linear(central, 2)

    def forward(
        self, spectrograms: torch.Tensor, attentions: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Map standardised (batch, 2, bins, frames), left ear first, to points (batch, 2).

        With attentions, what every token attended to is returned as well: "TE-L", "TE-R" and
        "TE-C" to (layers, batch, heads, tokens, tokens), whose last axis sums to one. Token 0 is
        the class token, the others are patches, time running fastest.
        """
        if spectrograms.shape[1:] != (2, BINS, FRAMES):
            raise ValueError(
                f"BAST: spectrograms of shape {tuple(spectrograms.shape)}, expected "
                f"(batch, 2, {BINS}, {FRAMES})."
            )
        left, kept_left = self.left(self.embed(spectrograms[:, :1]), attentions)
        right, kept_right = self.right(self.embed(spectrograms[:, 1:]), attentions)
        if self.settings.fusion == "concatenate":
            both = torch.cat([left, right], dim=2)
        else:
            both = left - right if self.settings.fusion == "subtract" else left + right
        both, kept_central = self.central(both, attentions)
        place = self.head(self.norm(both.mean(dim=1)))
        if not attentions:
            return place
        return place, dict(zip(ENCODERS, (kept_left, kept_right, kept_central), strict=True))

    def embed(self, ear: torch.Tensor) -> torch.Tensor:
        """Return the tokens (batch, tokens, width) of one ear, (batch, 1, bins, frames)."""
        bins, frames = self.settings.padding
        padded = functional.pad(ear, (0, frames, 0, bins), mode="reflect")
        patches = self.patches(padded).flatten(2).transpose(1, 2)
        first = self.class_token.expand(len(ear), -1, -1).to(patches.dtype)
        return torch.cat([first, patches], dim=1) + self.positions


@torch.no_grad()
def estimate(model: BAST, batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return where the network hears sounds, float32 (scenes, 2), on the CPU, from spectrograms."""
    model.eval()
    device = next(model.parameters()).device
    return torch.cat([model(batch.to(device)).float().cpu() for batch in batches])
