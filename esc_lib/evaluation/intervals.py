"""How sure a number is: intervals over source recordings.

Everywhere `sources`, shape (clips,), names the source recording of each clip.
"""

import numpy as np
import pandas as pd
from scipy.special import ndtri


def accuracy_interval(n_correct: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return the Wilson interval of a share of independent answers, both ends in [0, 1].

    References
    ----------
    wilson1927probable
    """
    z = ndtri(0.5 + level / 2)
    share = n_correct / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    margin = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = min(share, middle - margin), max(share, middle + margin)  # rounding aside
    return float(max(0.0, low)), float(min(1.0, high))


def accuracy(right: np.ndarray, sources: np.ndarray) -> tuple[float, float, float]:
    """Return the accuracy in percent, and the ends of its 95 % interval over source recordings.

    Parameters
    ----------
    right : array, shape (clips,), bool, or the share of several networks that were right.

    Notes
    -----
    Wilson's interval for the effective number of clips: their number over the design effect, which
    is the variance of the mean over recordings by that over independent clips, at least 1. Where
    all answers are alike, as many as there are recordings.

    References
    ----------
    korn1998confidence
    """
    right = np.asarray(right, float)
    n, share = len(right), float(np.mean(right))
    index, names = pd.factorize(np.asarray(sources))
    of_source = np.bincount(index, right - share)  # sums of deviations
    m = len(names)
    variance = m / max(m - 1, 1) * np.square(of_source).sum() / n**2
    alone = share * (1 - share) / n
    effective = n / max(1.0, variance / alone) if alone else m
    low, high = accuracy_interval(share * effective, effective)
    return 100 * share, 100 * low, 100 * high


def paired_difference(
    one: np.ndarray, other: np.ndarray, sources: np.ndarray
) -> tuple[float, float, float]:
    """Return by how many points `one` is more often right than `other`, and its 95 % interval.

    Both are of shape (clips,), right or not on the same clips; their recordings are drawn.
    """
    points = 100 * (np.asarray(one, float) - np.asarray(other, float))
    return mean_interval(points, source_draws(np.asarray(sources)))


def versus(low: float, high: float) -> str:
    """Say what the 95 % interval of a difference to something says of it, where more is better."""
    if low > 0:
        return "ahead of"
    return "behind" if high < 0 else "level with"


def source_draws(sources: np.ndarray, n_draws: int = 2000, seed: int = 0) -> np.ndarray:
    """Return how often each clip is in each draw of a bootstrap, shape (draws, clips).

    Whole source recordings are drawn, with replacement: clips cut from one are not independent.
    """
    index, names = pd.factorize(sources)
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(0, len(names), len(names)) for _ in range(n_draws))
    return np.stack([np.bincount(draw, minlength=len(names))[index] for draw in drawn])


def mean_interval(values: np.ndarray, draws: np.ndarray) -> tuple[float, float, float]:
    """Return the mean over clips, and its 95 % interval over source recordings.

    Parameters
    ----------
    values : array, shape (clips,): 1 and 0 make a share, differences of two networks on the same
        clips a paired comparison.
    draws : array, shape (draws, clips), as :func:`source_draws` returns it.
    """
    low, high = np.percentile((draws @ values) / draws.sum(axis=1), [2.5, 97.5])
    return float(np.mean(values)), float(low), float(high)
