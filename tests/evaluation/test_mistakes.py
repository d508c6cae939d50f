"""Wrong decisions: their order, what they are compared with, and pairs that may not occur."""

import numpy as np
import pandas as pd
import pytest

from esc_lib.evaluation import mistakes

NAMES = ["dog", "hen", "rain"]
PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.6, 0.1, 0.3], [0.1, 0.5, 0.4], [0.45, 0.15, 0.4], [0.2, 0.2, 0.6]]
)
LABELS = [0, 1, 2, 1, 2]  # right, hen as dog, rain as hen, hen as dog, right
PAIRS = [("hen", "dog")]


def decisions(labels=LABELS, index=(10, 11, 12, 13, 14)):
    predicted = PROBABILITIES.argmax(axis=1)
    table = pd.DataFrame({"label": labels, "predicted": predicted}, index=list(index))
    table["category"] = [NAMES[label] for label in labels]
    table["confidence"] = PROBABILITIES.max(axis=1)
    return mistakes.described(table, PROBABILITIES, NAMES)


def test_the_other_class_is_the_true_one_or_the_runner_up():
    kept = PROBABILITIES.copy()
    found = decisions()
    assert found.wrong.tolist() == [False, True, True, True, False]
    assert found.predicted_category.tolist() == ["dog", "dog", "hen", "dog", "rain"]
    assert found.other_category.tolist() == ["hen", "hen", "rain", "hen", "dog"]
    assert found.other.tolist() == [1, 1, 2, 1, 0]
    assert found.probability_other.tolist() == [0.2, 0.1, 0.4, 0.15, 0.2]
    assert found.index.tolist() == [10, 11, 12, 13, 14]
    np.testing.assert_array_equal(PROBABILITIES, kept)


def test_the_other_class_is_never_the_predicted_one():
    table = pd.DataFrame({"label": [1], "predicted": [1], "category": ["hen"]})
    found = mistakes.described(table, np.full((1, 3), 1 / 3), NAMES)  # a tie
    assert found.other.tolist() != [1]


@pytest.mark.parametrize(
    ("pairs", "order"),
    [([], [11, 12, 13]), ([("rain", "hen")], [12, 11, 13]), (PAIRS, [11, 13, 12]),
     ([("dog", "hen")], [11, 12, 13])],
)  # fmt: skip
def test_named_pairs_come_first_then_the_most_confident(pairs, order):
    assert mistakes.ranked(decisions(), pairs).index.tolist() == order


def test_without_mistakes_the_least_certain_decisions_stand_in():
    found = mistakes.ranked(decisions(labels=[0, 0, 1, 0, 2]), PAIRS)
    assert not found.wrong.any()
    assert found.index.tolist() == [13, 12, 11, 14, 10]


def test_pairs_are_counted_or_said_to_be_impossible():
    pairs = [("hen", "dog"), ("rain", "hen"), ("dog", "rain"), ("dog", "pouring_water"), ("a", "b")]
    assert mistakes.occurrence(decisions(), pairs, NAMES).split("; ") == [
        "hen heard as dog occurs 2 times",
        "rain heard as hen occurs once",
        "dog heard as rain occurs 0 times",
        "dog heard as pouring water cannot occur, as the set has no class pouring water",
        "a heard as b cannot occur, as the set has no class a and no class b",
    ]
