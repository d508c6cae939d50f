"""How good the classifier is: accuracy with intervals, confusion, ROC, per-class report."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import (
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)


def accuracy_interval(n_correct: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the Wilson interval of a share, both ends in [0, 1].

    References
    ----------
    wilson1927probable
    """
    interval = binomtest(n_correct, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def confusion(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Return counts, shape (true class, predicted class)."""
    return confusion_matrix(labels, predicted, labels=np.arange(n_classes))


def frequent_confusions(counts: np.ndarray, names: list[str], at_most: int = 10) -> pd.DataFrame:
    """Return the most frequent confusions: true, predicted, clips, and clips of the true class."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:at_most]
    rows = [(i, j) for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True)]
    return pd.DataFrame(
        [
            {
                "true class": names[i],
                "predicted class": names[j],
                "clips": wrong[i, j],
                "of": counts[i].sum(),
            }
            for i, j in rows
            if wrong[i, j] > 0
        ],
        columns=["true class", "predicted class", "clips", "of"],
    )


def per_class(labels: np.ndarray, predicted: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Return precision, recall and F1 of every class, each in [0, 1], and its number of clips.

    A class that is never predicted has precision 0.
    """
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(names)), zero_division=0
    )
    return pd.DataFrame(
        {"precision": precision, "recall": recall, "F1": f1, "clips": support}, index=names
    )


def micro_roc(
    labels: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return false and true positive rates and the area, all one-against-rest decisions pooled."""
    hits = np.eye(probabilities.shape[1], dtype=int)[labels]
    false_positive, true_positive, _ = roc_curve(hits.ravel(), probabilities.ravel())
    return false_positive, true_positive, float(roc_auc_score(hits.ravel(), probabilities.ravel()))


def class_roc(
    labels: np.ndarray, probabilities: np.ndarray, label: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return false and true positive rates and the area of one class against the rest."""
    hits = labels == label
    false_positive, true_positive, _ = roc_curve(hits, probabilities[:, label])
    return false_positive, true_positive, float(roc_auc_score(hits, probabilities[:, label]))


def variance_between_classes(values: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of the variance over clips that lies between class means, in [0, 1].

    Parameters
    ----------
    values : array, shape (clips, channels); variances are summed over channels.
    labels : int array, shape (clips,).

    Returns
    -------
    float; 0 where nothing varies.
    """
    total = values.var(axis=0).sum()
    if total == 0:
        return 0.0
    of_class = np.empty_like(values)
    for label in np.unique(labels):
        of_class[labels == label] = values[labels == label].mean(axis=0)
    return float(of_class.var(axis=0).sum() / total)


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


def root_ratio(
    above: np.ndarray, below: np.ndarray, draws: np.ndarray
) -> tuple[float, float, float]:
    """Return the root of a ratio of sums over clips, and its 95 % interval.

    Parameters
    ----------
    above, below : arrays, shape (clips,), >= 0: squared errors over energies make a relative
        error, squared errors of two dictionaries the factor between their errors.
    draws : array, shape (draws, clips), as :func:`source_draws` returns it.
    """
    counted = draws.any(axis=1)  # a class may be missing from a draw
    spread = np.sqrt((draws[counted] @ above) / (draws[counted] @ below))
    low, high = np.percentile(spread, [2.5, 97.5])
    return float(np.sqrt(above.sum() / below.sum())), float(low), float(high)
