"""People and a network on the same clips: who is ahead where, and do they err alike?"""

import numpy as np
import pandas as pd

from esc_lib.evaluation.intervals import accuracy, source_draws


def by_class(
    people: pd.DataFrame, network: pd.DataFrame, class_names: list[str], n_draws: int = 2000
) -> pd.DataFrame:
    """Return both accuracies in each class, and their difference.

    Parameters
    ----------
    people, network : a row per answer: label, answer, src_file.

    Returns
    -------
    DataFrame, a row per class, best heard first: accuracy in percent with the 95 % interval over
    recordings, ``people``, ``people_low``, ``people_high``, the same for ``network``, and
    ``difference`` (network minus people, points) with ``low`` and ``high``, the class's recordings
    drawn for both at once.
    """
    rows = {}
    for label, name in enumerate(class_names):
        row, parts = {}, []
        for who, answers in (("people", people), ("network", network)):
            own = answers[answers.label == label]
            right = (own.answer == label).to_numpy(float)
            found = accuracy(right, own.src_file.to_numpy())
            row |= dict(zip((who, f"{who}_low", f"{who}_high"), found))
            parts.append(pd.DataFrame({"src_file": own.src_file, "right": right, "who": who}))
        both = pd.concat(parts, ignore_index=True)
        draws = source_draws(both.src_file.to_numpy(), n_draws)
        shares = [
            (draws[:, mine] @ both.right.to_numpy()[mine]) / draws[:, mine].sum(axis=1)
            for mine in ((both.who == who).to_numpy() for who in ("network", "people"))
        ]
        row["difference"] = row["network"] - row["people"]
        ends = np.nanpercentile(100 * (shares[0] - shares[1]), [2.5, 97.5])
        rows[name] = row | dict(zip(("low", "high"), ends))
    return pd.DataFrame.from_dict(rows, orient="index").sort_values("people", ascending=False)


def mantel(one: np.ndarray, other: np.ndarray, n_draws: int = 9999, seed: int = 0):
    """Return the correlation of two confusion matrices off the diagonal, and its p value.

    Rows become shares of all wrong answers in the row first. The p value is the share of joint
    permutations of classes, in one matrix, with a correlation at least as high.

    References
    ----------
    mantel1967detection; phipson2010permutation for the p value.
    """
    shares = []
    for matrix in (one, other):
        wrong = np.array(matrix, float)
        np.fill_diagonal(wrong, 0)
        shares.append(wrong / np.maximum(wrong.sum(axis=1, keepdims=True), 1))
    first, second = shares
    off = ~np.eye(len(first), dtype=bool)
    rng = np.random.default_rng(seed)

    def correlation(order) -> float:
        return float(np.corrcoef(first[off], second[np.ix_(order, order)][off])[0, 1])

    found = correlation(np.arange(len(first)))
    drawn = np.array([correlation(rng.permutation(len(first))) for _ in range(n_draws)])
    return found, (1 + int((drawn >= found - 1e-12).sum())) / (1 + n_draws)


def error_auc(
    difficulty: np.ndarray, wrong: np.ndarray, sources: np.ndarray,
    classes: np.ndarray | None = None, n_draws: int = 1000,
) -> tuple[float, float, float]:  # fmt: skip
    """Return how well a clip's difficulty for people tells the clips a network gets wrong.

    The area under the ROC curve, 0.5 to know nothing, with its 95 % interval over recordings. With
    `classes` only clips of one class are compared: then hard classes alone make no area. Where no
    two clips can be compared nothing is known: 0.5, from 0 to 1.

    Parameters
    ----------
    difficulty : array, shape (clips,), as the share of people's wrong answers.
    wrong : array, shape (clips,), 1 where the network is wrong, else 0.
    """
    levels, level = np.unique(difficulty, return_inverse=True)
    groups, group = np.unique(
        np.zeros(len(wrong)) if classes is None else classes, return_inverse=True
    )
    shape = len(groups), len(levels)
    cells = np.eye(len(groups) * len(levels))[np.ravel_multi_index((group, level), shape)]
    draws = np.vstack([np.ones(len(wrong)), source_draws(np.asarray(sources), n_draws)])
    # (draws, groups, levels): clips that the network gets wrong, and right
    bad, good = ((draws * side @ cells).reshape(-1, *shape) for side in (wrong, 1 - wrong))
    easier = good.cumsum(axis=2) - good / 2
    pairs = (bad.sum(axis=2) * good.sum(axis=2)).sum(axis=1)
    areas = (bad * easier).sum(axis=(1, 2)) / np.where(pairs, pairs, np.nan)
    if not pairs[0]:
        return 0.5, 0.0, 1.0
    low, high = np.nanpercentile(areas[1:], [2.5, 97.5])
    return float(areas[0]), float(low), float(high)
