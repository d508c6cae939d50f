"""What a classifier decides: confusion, ROC, classes, recordings.

Everywhere `labels` and `predicted` are int arrays, shape (clips,), `probabilities` has the shape
(clips, classes), `sources` names each clip's source recording, shape (clips,), and `draws`, shape
(draws, clips), are those of :func:`intervals.source_draws`.
"""

from dataclasses import dataclass
from string import ascii_uppercase

import numpy as np
import pandas as pd

from esc_lib.evaluation.intervals import accuracy_interval

GRID = np.linspace(0, 1, 201)  # false positive rates at which curves of draws are compared
WORST = 0.1  # share of the recordings whose errors are counted together


def confusion(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Return counts, shape (true class, predicted class)."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, predicted, labels=np.arange(n_classes))


def confused_pairs(
    labels: np.ndarray,
    predicted: np.ndarray,
    sources: np.ndarray,
    names: list[str],
    at_most: int = 10,
) -> pd.DataFrame:
    """Return the pairs, up to 26, of classes confused most often, both ways counted together.

    Returns
    -------
    DataFrame, a row per pair, lettered from A: first, second, "first as second" and "second as
    first" (clips), wrong (their sum), clips (of both classes), recordings (of the wrong clips).
    Ties stand in the order of the classes.
    """
    wrong = labels != predicted
    rows = []
    for first, second in np.unique(np.sort(np.stack([labels, predicted], 1)[wrong]), axis=0):
        forth = (labels == first) & (predicted == second)
        back = (labels == second) & (predicted == first)
        rows.append(
            {
                "first": names[first],
                "second": names[second],
                "first as second": forth.sum(),
                "second as first": back.sum(),
                "wrong": (forth | back).sum(),
                "clips": np.isin(labels, (first, second)).sum(),
                "recordings": len(np.unique(sources[forth | back])),
            }
        )
    columns = ["first", "second", "first as second", "second as first", "wrong", "clips"]
    table = pd.DataFrame(rows, columns=[*columns, "recordings"])
    table = table.sort_values("wrong", ascending=False, kind="stable").head(at_most)
    return table.set_axis(list(ascii_uppercase[: len(table)]))


def per_class(labels: np.ndarray, predicted: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Return precision, recall and F1 of every class, each in [0, 1], and its number of clips.

    A class that is never predicted has precision 0. "recall low" and "recall high" are the Wilson
    interval over clips (95 %), which takes clips for independent; without clips it is [0, 1].
    """
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(names)), zero_division=0
    )
    table = pd.DataFrame(
        {"precision": precision, "recall": recall, "F1": f1, "clips": support}, index=names
    )
    found = np.bincount(labels[labels == predicted], minlength=len(names))
    table[["recall low", "recall high"]] = [
        accuracy_interval(k, n) if n else (0.0, 1.0)
        for k, n in zip(found.tolist(), support.tolist(), strict=True)
    ]
    return table


@dataclass(frozen=True)
class Roc:
    """A ROC curve and its bootstrap."""

    false_positive: np.ndarray  # rates, shape (thresholds,)
    true_positive: np.ndarray
    area: float  # under the curve, in [0, 1]; more is better, 0.5 is guessing
    interval: tuple[float, float]  # of the area, 95 %
    band: np.ndarray  # shape (2, rates): 95 % limits of true_positive at each of ``GRID``


def roc(
    labels: np.ndarray, probabilities: np.ndarray, draws: np.ndarray, label: int | None = None
) -> Roc:
    """Return the ROC curve of one class against the rest, or of all such decisions pooled.

    Parameters
    ----------
    draws : those without a clip of the class, or without one of the rest, are left out.
    label : None pools the decisions of all classes (micro-average).
    """
    from sklearn.metrics import auc, roc_curve

    n_classes = probabilities.shape[1]
    hits = np.eye(n_classes, dtype=bool)[labels]
    if label is None:
        hits, scores, draws = hits.ravel(), probabilities.ravel(), np.repeat(draws, n_classes, 1)
    else:
        hits, scores = hits[:, label], probabilities[:, label]
    false_positive, true_positive, _ = roc_curve(hits, scores)
    areas, heights = [], []
    for weights in draws:
        if weights[hits].any() and weights[~hits].any():
            drawn_false, drawn_true, _ = roc_curve(hits, scores, sample_weight=weights)
            areas.append(auc(drawn_false, drawn_true))
            heights.append(np.interp(GRID, drawn_false, drawn_true))
    interval = tuple(np.percentile(areas, [2.5, 97.5]).tolist())
    band = np.percentile(heights, [2.5, 97.5], axis=0)
    area = float(auc(false_positive, true_positive))
    return Roc(false_positive, true_positive, area, interval, band)


def by_recording(
    labels: np.ndarray, predicted: np.ndarray, sources: np.ndarray, names: list[str]
) -> pd.DataFrame:
    """Return a row per source recording: its class, clips, how many wrong, what they became.

    Most errors first; classes that a wrong clip was taken for carry their number of clips.
    """
    rows = {}
    for source in pd.unique(sources):
        here = sources == source
        wrong = here & (labels != predicted)
        heard = pd.Series([names[p] for p in predicted[wrong]], dtype=object).value_counts()
        rows[source] = {
            "class": ", ".join(names[label] for label in np.unique(labels[here])),
            "clips": here.sum(),
            "wrong": wrong.sum(),
            "heard as": ", ".join(f"{name} ({count})" for name, count in heard.items()),
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("recording")
    return table.sort_values(["wrong", "clips"], ascending=[False, True], kind="stable")


@dataclass(frozen=True)
class Clustering:
    """How errors gather in source recordings, and how they would by chance.

    Chance is the mean over shuffles of the errors among the clips of each class.
    """

    # of wrong clips that share a recording; with the number of errors given, it rises and falls
    # with the variance of errors per recording
    pairs: int
    pairs_by_chance: float
    p: float  # probability of as many pairs or more by such shuffling
    worst: int  # recordings in the worst tenth
    share: float  # of all errors that they make up, in [0, 1]
    share_by_chance: float  # each shuffle has worst recordings of its own


def error_clustering(
    wrong: np.ndarray, labels: np.ndarray, sources: np.ndarray, n_shuffles: int = 5000
) -> Clustering:
    """Say whether errors share source recordings more often than their classes alone explain.

    Errors are shuffled among the clips of each class: how hard a class is stays as it was, which
    of its clips are wrong becomes chance. The observed order counts as one of the shuffles.

    References
    ----------
    phipson2010permutation
    """
    rng = np.random.default_rng(0)
    shuffled = np.tile(wrong, (n_shuffles + 1, 1))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        shuffled[1:, members] = rng.permuted(shuffled[1:, members], axis=1)
    recordings, index = np.unique(sources, return_inverse=True)
    errors = shuffled @ np.eye(len(recordings), dtype=np.float32)[index]  # row 0 is observed
    pairs = (errors * (errors - 1) / 2).sum(axis=1)
    worst = max(1, round(WORST * len(recordings)))
    shares = np.sort(errors, axis=1)[:, -worst:].sum(axis=1) / max(1, wrong.sum())
    return Clustering(
        pairs=int(pairs[0]),
        pairs_by_chance=float(pairs[1:].mean()),
        p=float((pairs >= pairs[0]).mean()),
        worst=worst,
        share=float(shares[0]),
        share_by_chance=float(shares[1:].mean()),
    )


def variance_between_classes(values: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of the variance over clips that lies between class means; 0 if none varies.

    Parameters
    ----------
    values : array, shape (clips, channels); variances are summed over channels.
    """
    total = values.var(axis=0).sum()
    if total == 0:
        return 0.0
    of_class = np.empty_like(values)
    for label in np.unique(labels):
        of_class[labels == label] = values[labels == label].mean(axis=0)
    return float(of_class.var(axis=0).sum() / total)
