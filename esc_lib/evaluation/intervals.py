"""How sure a number is: intervals over source recordings."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binomtest


def accuracy_interval(n_correct: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the Wilson interval of a share, both ends in [0, 1].

    References
    ----------
    wilson1927probable
    """
    interval = binomtest(n_correct, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def source_draws(sources: np.ndarray, n_draws: int = 2000, seed: int = 0) -> np.ndarray:
    """Return how often each clip is in each draw of a bootstrap, shape (draws, clips).

    Whole source recordings are drawn, with replacement: clips cut from one are not independent.

    Parameters
    ----------
    sources : array, shape (clips,), the source recording of each clip.
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
