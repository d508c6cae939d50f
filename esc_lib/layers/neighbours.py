"""The training clips that lie nearest to a clip, where the network's classifier reads it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from esc_lib.data.clips import Data
from esc_lib.evaluation.intervals import accuracy_interval
from esc_lib.layers.hooks import stream
from esc_lib.models.se_cnn import SECNN
from esc_lib.sound.log_mel import LogMel


def embeddings(model: SECNN, front_end: LogMel, data: Data, rows: np.ndarray) -> np.ndarray:
    """Return the hidden layer that the last linear layer reads: fc1 after its ReLU.

    Returns
    -------
    float32 array, shape (clips, hidden), >= 0: of whole clips, in evaluation mode.
    """
    batches = stream(model, front_end, data, rows, ["relu"])
    return np.concatenate([maps["relu"].float().cpu().numpy() for _, _, maps in batches])


def nearest(queries: np.ndarray, bank: np.ndarray, k: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return the `k` nearest rows of a bank for each query, by cosine, nearest first.

    Parameters
    ----------
    queries : array, shape (queries, hidden).
    bank : array, shape (clips, hidden); compared in chunks, so that it may be large.
    k : int, at most the number of rows of the bank.

    Returns
    -------
    rows of the bank : int array, shape (queries, k).
    cosines : array, shape (queries, k), in [-1, 1]; 0 where one of the two is zero everywhere.

    Raises
    ------
    ValueError
        If the bank has fewer than `k` rows, or rows of another length.
    """
    if len(bank) < k or bank.shape[1:] != queries.shape[1:]:
        raise ValueError(
            f"nearest: k={k} of a bank of shape {bank.shape} for queries of shape "
            f"{queries.shape}; give a bank of the same layer with at least k clips."
        )
    search = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(bank)
    distances, rows = search.kneighbors(queries)
    return rows, 1 - distances


def nearest_of_class(
    queries: np.ndarray, classes: np.ndarray, bank: np.ndarray, bank_classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each query the nearest row of the bank within a class of its own, and the cosine.

    Parameters
    ----------
    queries : array, shape (queries, hidden).
    classes : int array, shape (queries,), in which to search.
    bank : array, shape (clips, hidden).
    bank_classes : int array, shape (clips,).
    """
    rows = np.empty(len(queries), int)
    cosines = np.empty(len(queries))
    for of_class in np.unique(classes):
        asked = classes == of_class
        members = np.flatnonzero(bank_classes == of_class)
        found, cosine = nearest(queries[asked], bank[members])
        rows[asked], cosines[asked] = members[found[:, 0]], cosine[:, 0]
    return rows, cosines


def examples(
    decisions: pd.DataFrame, queries: np.ndarray, bank: np.ndarray, classes: np.ndarray
) -> pd.DataFrame:
    """Return the decisions with the clips of the bank that explain them by example.

    Parameters
    ----------
    decisions : DataFrame with predicted and other (class indices), a row per query.
    queries : array, shape (queries, hidden).
    bank : array, shape (clips, hidden).
    classes : int array, shape (clips,), of the bank.

    Returns
    -------
    DataFrame, the same rows and columns, and: nearest_class, of the nearest clip of all; nearest_
        and cosine_ followed by predicted and by other, the nearest clip of that class (row of the
        bank) and its cosine.
    """
    found = {"nearest_class": classes[nearest(queries, bank)[0][:, 0]]}
    for name in ("predicted", "other"):
        asked = decisions[name].to_numpy()
        rows, cosines = nearest_of_class(queries, asked, bank, classes)
        found |= {f"nearest_{name}": rows, f"cosine_{name}": cosines}
    return decisions.assign(**found)


def agreement(decisions: pd.DataFrame) -> pd.DataFrame:
    """Count how often the nearest clip belongs to the class that was predicted.

    Parameters
    ----------
    decisions : DataFrame with nearest_class, predicted and label (class indices), a row per clip.

    Returns
    -------
    DataFrame, rows "wrong" and "right" (decisions): clips; how many have the nearest clip of the
        predicted class; of the true class; and the share of the former in percent, with its Wilson
        interval (95 %, which takes clips for independent). Without clips the share is missing, and
        the interval holds everything.
    """
    of_predicted = decisions.nearest_class == decisions.predicted
    of_true = decisions.nearest_class == decisions.label
    wrong = decisions.predicted != decisions.label
    rows = {}
    for name, chosen in (("wrong", wrong), ("right", ~wrong)):
        n, found = int(chosen.sum()), int(of_predicted[chosen].sum())
        low, high = accuracy_interval(found, n) if n else (0.0, 1.0)
        rows[name] = {
            "clips": n,
            "of the predicted class": found,
            "of the true class": int(of_true[chosen].sum()),
            "share (%)": 100 * found / n if n else np.nan,
            "low (%)": 100 * low,
            "high (%)": 100 * high,
        }
    counts = dict.fromkeys(["clips", "of the predicted class", "of the true class"], int)
    return pd.DataFrame.from_dict(rows, orient="index").astype(counts)
