"""Scores of explanations: what the network makes of what a mask keeps, and of what it removes.

p, o, m: the probability of the explained class, which is the class predicted for the input, on
the input, on the masked-in sound and on the masked-out sound, arrays of shape (clips,).

References
----------
paissan2024lmac, section 4.1, for the set; chattopadhay2018gradcampp for AI and AD;
hurley2009comparing for the Gini index; leroux2019sdr for SI-SDR.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import rankdata


def increase(p: np.ndarray, o: np.ndarray) -> np.ndarray:
    """Return 100 where the explanation is surer than the input, else 0; the mean is AI."""
    return 100.0 * (o > p)


def drop(p: np.ndarray, o: np.ndarray) -> np.ndarray:
    """Return the relative loss of probability in percent; the mean is AD."""
    return 100 * np.maximum(0, p - o) / p


def gain(p: np.ndarray, o: np.ndarray) -> np.ndarray:
    """Return the share of the doubt that the explanation removes in percent; the mean is AG."""
    return 100 * np.maximum(0, o - p) / np.maximum(1 - p, 1e-12)


def faithfulness(p: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Return the probability that goes with what is removed; the mean is FF."""
    return p - m


def softmax_again(probabilities: torch.Tensor) -> torch.Tensor:
    """Return the softmax of probabilities, which a widely used recipe computes AD from.

    Such a drop cannot exceed 1 - 1 / e, 63.2 %, which it has where certainty turns into certainty
    of another class; with 50 classes, and all others alike, 62.7 %. Published here beside the
    textbook's only.
    """
    return probabilities.softmax(dim=-1)


def sparseness(maps: torch.Tensor) -> torch.Tensor:
    """Return the Gini index of each map's absolute values, shape (clips,); 0 where all are equal.

    A map that is zero everywhere counts as even, 0.

    Parameters
    ----------
    maps : tensor, shape (clips, mel, frames).
    """
    values = maps.abs().flatten(1).double().sort(dim=1).values
    n = values.shape[1]
    rank = torch.arange(1, n + 1, dtype=torch.float64, device=maps.device)
    total = values.sum(dim=1).clamp_min(1e-30)
    gini = ((2 * rank - n - 1) * values).sum(dim=1) / (n * total)
    return gini.float()


def complexity(maps: torch.Tensor) -> torch.Tensor:
    """Return the entropy of each map's absolute values in nats, shape (clips,).

    At most ln(mel * frames), which an even map has; the grid has to be named with the number.
    """
    values = maps.abs().flatten(1).double()
    share = values / values.sum(dim=1, keepdim=True).clamp_min(1e-30)
    return torch.special.entr(share).sum(dim=1).float()


def si_sdr(estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the scale-invariant signal-to-distortion ratio in dB, (clips,), of (clips, samples).

    Any gain of the estimate is free; silence has -inf.
    """
    estimate, target = estimate.double(), target.double()
    gain = (estimate * target).sum(dim=1, keepdim=True) / target.square().sum(
        dim=1, keepdim=True
    ).clamp_min(1e-30)
    wanted = gain * target
    distortion = (estimate - wanted).square().sum(dim=1)
    return (10 * (wanted.square().sum(dim=1) / distortion.clamp_min(1e-30)).log10()).float()


def kept_energy(sounds: torch.Tensor, waveforms: torch.Tensor) -> torch.Tensor:
    """Return the energy of each sound over its clip's, shape (clips,); 0 for silence."""
    return sounds.square().sum(dim=1) / waveforms.square().sum(dim=1).clamp_min(1e-12)


def area(curve: np.ndarray) -> np.ndarray:
    """Return the mean height of curves at even steps, trapezoidal, (...,) of (..., steps)."""
    return (curve[..., 1:] + curve[..., :-1]).mean(axis=-1) / 2


def similarity(one: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    """Return the rank correlation of two sets of maps, clip by clip, (clips,); 0 if one is flat.

    References
    ----------
    adebayo2018sanity (Spearman's correlation of explanations before and after randomisation).
    """
    found = []
    for a, b in zip(one.flatten(1).cpu().numpy(), other.flatten(1).cpu().numpy(), strict=True):
        flat = np.ptp(a) == 0 or np.ptp(b) == 0
        found.append(0.0 if flat else np.corrcoef(rankdata(a), rankdata(b))[0, 1])
    return np.array(found)
