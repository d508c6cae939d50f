"""Which decisions went wrong, and against which class each decision is to be explained."""

import numpy as np
import pandas as pd


def described(decisions: pd.DataFrame, probabilities: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Return the decisions with the class that each is to be compared with.

    That is the true class where the decision is wrong, the second most probable one where it is
    right.

    Parameters
    ----------
    decisions : a row per clip: label, predicted, category.
    probabilities : array, shape (clips, classes), of the same clips.

    Returns
    -------
    DataFrame, the same rows and columns, and: wrong, predicted_category, other (class index),
    other_category, probability_other.
    """
    labels, predicted = decisions.label.to_numpy(), decisions.predicted.to_numpy()
    wrong = labels != predicted
    clip = np.arange(len(decisions))
    rest = probabilities.copy()
    rest[clip, predicted] = -1  # the predicted class is not the most probable one by rounding only
    other = np.where(wrong, labels, rest.argmax(axis=1))
    return decisions.assign(
        wrong=wrong,
        predicted_category=np.array(names)[predicted],
        other=other,
        other_category=np.array(names)[other],
        probability_other=probabilities[clip, other],
    )


def ranked(decisions: pd.DataFrame, pairs: list[tuple[str, str]]) -> pd.DataFrame:
    """Return the wrong decisions, those of `pairs` first, then the most confident.

    Where nothing is wrong, all decisions stand in, the least certain first.

    Parameters
    ----------
    decisions : as :func:`described` returns it.
    pairs : of (true category, predicted category).
    """
    wrong = decisions[decisions.wrong]
    if wrong.empty:
        return decisions.sort_values("confidence", kind="stable")
    found = list(zip(wrong.category, wrong.predicted_category, strict=True))
    last = np.array([pair not in pairs for pair in found])
    return wrong.iloc[np.lexsort([-wrong.confidence, last])]


def occurrence(decisions: pd.DataFrame, pairs: list[tuple[str, str]], names: list[str]) -> str:
    """Say in a sentence how often each of `pairs` was confused, or which class the set lacks."""
    parts = []
    for true, heard in pairs:
        lacking = [name for name in (true, heard) if name not in names]
        found = (decisions.category == true) & (decisions.predicted_category == heard)
        if lacking:
            count = f"cannot occur, as the set has no class {' and no class '.join(lacking)}"
        else:
            count = f"occurs {found.sum()} times" if found.sum() != 1 else "occurs once"
        parts.append(f"{true} heard as {heard} {count}")
    return "; ".join(parts).replace("_", " ")
