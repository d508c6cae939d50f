"""Attention rollout: how far each patch reaches the output through all layers of attention.

By abnar2020rollout; by kuang2022bast for the two ears.
"""

import numpy as np
import torch
from torch.nn import functional

from esc_lib.companions.binaural.network import BAST, ENCODERS
from esc_lib.companions.binaural.settings import Settings
from esc_lib.companions.binaural.spectrograms import BINS, FRAMES

FUSED = ("mean", "min", "max")


def fuse_heads(attention: torch.Tensor, how: str = "mean") -> torch.Tensor:
    """Make one of all heads, (..., heads, tokens, tokens) to (..., tokens, tokens).

    With "min" and "max" rows no longer sum to one.
    """
    if how not in FUSED:
        raise ValueError(f"fuse_heads: how={how!r}, expected one of {', '.join(FUSED)}.")
    return attention.mean(-3) if how == "mean" else getattr(attention, f"a{how}")(-3)


def roll_out(
    attention: torch.Tensor, how: str = "mean", start: torch.Tensor | None = None
) -> torch.Tensor:
    """Follow attention and shortcuts from the last layer back to the tokens that went in.

    It maps (layers, batch, heads, tokens, tokens) to (batch, tokens, tokens): row i says what
    token i of the output is made of, and sums to one. `start`, of that shape, says what the first
    layer's input is made of; without it each token is made of itself.

    R_l = A_l R_(l - 1), where A_l is the fused attention plus the identity, each row divided by
    its own sum. Code in circulation divides by ``a.sum(dim=-1)`` without keeping the dimension,
    which divides columns by the sums of rows: no harm with the mean, whose rows all sum to two,
    but with "min" and "max" rows no longer sum to one.
    """
    identity = torch.eye(attention.shape[-1], device=attention.device)
    rolled = identity if start is None else start
    for layer in fuse_heads(attention.float(), how):
        mixed = layer + identity
        rolled = (mixed / mixed.sum(dim=-1, keepdim=True)) @ rolled
    return rolled


def roll_out_ears(attentions: dict[str, torch.Tensor], how: str = "mean") -> dict:
    """Return the rollout of each encoder, (batch, tokens, tokens).

    The central encoder starts from the mean of both ears: token i of its input is made of token i
    of each. That holds for the difference, the sum and the concatenation of the ears alike, as all
    three join tokens of the same place; which ear counts more is not known to attention.
    """
    left, right, central = (attentions[name] for name in ENCODERS)
    ears = [roll_out(ear, how) for ear in (left, right)]
    both = roll_out(central, how, start=(ears[0] + ears[1]) / 2)
    return dict(zip(ENCODERS, (*ears, both), strict=True))


def patch_shares(rolled: torch.Tensor) -> torch.Tensor:
    """Return what the pooled output is made of, patch by patch, (batch, patches).

    BAST averages all tokens, so the rows of the rollout are averaged as well. The class token's
    share is left out and the rest divided by its sum.
    """
    shares = rolled.mean(dim=-2)[:, 1:]
    return shares / shares.sum(dim=1, keepdim=True)


def as_map(shares: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Lay patches on the spectrogram; where several overlap, their mean.

    It maps (batch, patches) to (batch, bins, frames), in multiples of an even share: 1 everywhere
    if no patch counts more than another.
    """
    size = (BINS + settings.padding[0], FRAMES + settings.padding[1])
    stacked = torch.stack([shares * shares.shape[1], torch.ones_like(shares)])
    # (2 batch, pixels of a patch, patches)
    spread = stacked.flatten(0, 1)[:, None].expand(-1, settings.patch**2, -1)
    laid = functional.fold(spread, size, settings.patch, stride=settings.stride)
    value, count = laid[:, 0, :BINS, :FRAMES].chunk(2)
    return value / count


@torch.no_grad()
def rollout_maps(
    model: BAST, spectrograms: torch.Tensor, how: str = "mean"
) -> dict[str, np.ndarray]:
    """Return the rollout of "TE-L", "TE-R" and "TE-C" laid on (scenes, 2, bins, frames).

    Maps are float32, (scenes, bins, frames), 1 where a patch counts as much as the average one.
    """
    model.eval()
    device = next(model.parameters()).device
    found: dict[str, list] = {name: [] for name in ENCODERS}
    for batch in spectrograms.split(16):
        _, attentions = model(batch.to(device), attentions=True)
        for name, rolled in roll_out_ears(attentions, how).items():
            found[name].append(as_map(patch_shares(rolled), model.settings).cpu())
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}
