"""Accuracy intervals, confusion, per-class scores and ROC: closed formulas and cases by hand."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from esc_lib import evaluation

# six clips of three classes; class c is never predicted
NAMES = ["a", "b", "c"]
LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 0, 0])
COUNTS = [[2, 1, 0], [1, 1, 0], [1, 0, 0]]


@pytest.fixture
def drawn():
    """Return labels and probabilities of 60 clips in five classes, right more often than not."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 12)
    logits = rng.normal(size=(60, 5)) + 1.5 * np.eye(5)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, probabilities


# ----------------------------------------------------------------------------------- accuracy


@pytest.mark.parametrize("level", [0.95, 0.99])
@pytest.mark.parametrize(
    ("k", "n"), [(0, 10), (1, 10), (5, 10), (10, 10), (40, 40), (354, 400), (283, 320)]
)
def test_interval_is_wilson_s(k, n, level):
    z = norm.ppf((1 + level) / 2)
    p = k / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = evaluation.accuracy_interval(k, n, level)
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-12)
    assert 0 <= low <= p <= high <= 1


def test_interval_of_354_of_400_is_that_of_the_tables():
    # z = 1.96: centre 0.88134, half-width 0.03136
    low, high = evaluation.accuracy_interval(354, 400)
    assert (round(low, 3), round(high, 3)) == (0.850, 0.913)
    assert all(type(end) is float for end in (low, high))  # for the record in JSON


# ---------------------------------------------------------------------------------- confusion


def test_confusion_has_true_classes_down_and_predicted_ones_across():
    counts = evaluation.confusion(LABELS, PREDICTED, 3)
    assert counts.tolist() == COUNTS


def test_confusion_has_a_row_and_a_column_for_a_class_that_never_occurs():
    counts = evaluation.confusion(LABELS, PREDICTED, 5)
    assert counts.shape == (5, 5)
    assert counts[:3, :3].tolist() == COUNTS and counts.sum() == len(LABELS)


def test_frequent_confusions_are_sorted_and_leave_out_the_diagonal():
    counts = np.array([[9, 0, 4], [2, 0, 7], [0, 1, 5]])
    kept = counts.copy()
    table = evaluation.frequent_confusions(counts, NAMES)
    assert table.to_numpy().tolist() == [
        ["b", "c", 7, 9], ["a", "c", 4, 13], ["b", "a", 2, 9], ["c", "b", 1, 6],
    ]  # fmt: skip
    assert list(table) == ["true class", "predicted class", "clips", "of"]
    assert (counts == kept).all()
    assert len(evaluation.frequent_confusions(counts, NAMES, at_most=2)) == 2


def test_frequent_confusions_of_a_perfect_classifier_is_an_empty_table():
    table = evaluation.frequent_confusions(np.diag([3, 2, 1]), NAMES)
    assert table.empty
    assert list(table) == ["true class", "predicted class", "clips", "of"]


# ---------------------------------------------------------------------------------- per class


def test_per_class_by_hand():
    scores = evaluation.per_class(LABELS, PREDICTED, NAMES)
    assert list(scores.index) == NAMES
    # a: 2 of 4 predictions right, 2 of 3 clips found; b: 1 of 2 and 1 of 2; c: never predicted
    np.testing.assert_allclose(scores.precision, [1 / 2, 1 / 2, 0])
    np.testing.assert_allclose(scores.recall, [2 / 3, 1 / 2, 0])
    np.testing.assert_allclose(scores.F1, [4 / 7, 1 / 2, 0])
    assert scores.clips.tolist() == [3, 2, 1]


def test_per_class_equals_scikit_learn(drawn):
    labels, probabilities = drawn
    predicted = probabilities.argmax(axis=1)
    scores = evaluation.per_class(labels, predicted, list("abcde"))
    for column, score in (
        ("precision", precision_score), ("recall", recall_score), ("F1", f1_score),
    ):  # fmt: skip
        np.testing.assert_allclose(scores[column], score(labels, predicted, average=None))


# ---------------------------------------------------------------------------------------- ROC


def test_class_roc_by_hand():
    # class 1 against the rest, by falling score: hit, miss, hit, miss
    probabilities = np.array([[0.1, 0.9], [0.3, 0.7], [0.6, 0.4], [0.8, 0.2]])
    false_positive, true_positive, area = evaluation.class_roc(
        np.array([1, 0, 1, 0]), probabilities, 1
    )
    assert false_positive.tolist() == [0, 0, 0.5, 0.5, 1]
    assert true_positive.tolist() == [0, 0.5, 0.5, 1, 1]
    assert area == 0.75  # three of four pairs of a hit and a miss are in order


def test_micro_roc_pools_all_decisions():
    labels = np.array([0, 1])
    probabilities = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1]])
    # hits at 0.6 and 0.4, misses at 0.5, 0.3, 0.1, 0.1: seven of eight pairs in order
    *_, area = evaluation.micro_roc(labels, probabilities)
    assert area == pytest.approx(7 / 8)


def test_roc_equals_scikit_learn_and_its_own_trapezoids(drawn):
    labels, probabilities = drawn
    hits = np.eye(5)[labels]
    false_positive, true_positive, area = evaluation.micro_roc(labels, probabilities)
    assert area == pytest.approx(roc_auc_score(hits, probabilities, average="micro"))
    assert area == pytest.approx(np.trapezoid(true_positive, false_positive))
    for label in range(5):
        false_positive, true_positive, area = evaluation.class_roc(labels, probabilities, label)
        assert area == pytest.approx(roc_auc_score(hits[:, label], probabilities[:, label]))
        assert area == pytest.approx(np.trapezoid(true_positive, false_positive))
        assert 0.5 < area < 1


def test_perfect_and_reversed_orders_have_areas_one_and_zero():
    labels = np.arange(4)
    assert evaluation.micro_roc(labels, np.eye(4))[2] == 1
    assert evaluation.class_roc(labels, 1 - np.eye(4), 2)[2] == 0


def test_variance_between_classes_by_hand():
    labels = np.array([0, 0, 1, 1])
    share = evaluation.variance_between_classes
    assert share(np.array([[1.0], [1.0], [3.0], [3.0]]), labels) == 1
    assert share(np.array([[1.0], [3.0], [1.0], [3.0]]), labels) == 0
    assert share(np.array([[0.0], [2.0], [4.0], [6.0]]), labels) == pytest.approx(4 / 5)
    assert share(np.full((4, 3), 0.5), labels) == 0  # a gate that never moves


# ------------------------------------------------------------------------------- intervals


def test_mean_interval_by_hand():
    values = np.array([1.0, 0.0, 4.0])
    draws = np.array([[1, 1, 1], [3, 0, 0], [0, 2, 1], [0, 0, 3]])
    mean, low, high = evaluation.mean_interval(values, draws)
    assert mean == pytest.approx(5 / 3)
    expected = np.percentile([5 / 3, 1, 4 / 3, 4], [2.5, 97.5])
    assert (low, high) == pytest.approx(tuple(expected))


def test_mean_interval_is_as_wide_as_theory_says():
    values = np.random.default_rng(0).normal(size=400)
    _, low, high = evaluation.mean_interval(values, evaluation.source_draws(np.arange(400)))
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    quarters = np.repeat(values[:100], 4)  # four clips of each recording are worth one
    _, low, high = evaluation.mean_interval(
        quarters, evaluation.source_draws(np.repeat(np.arange(100), 4))
    )
    assert high - low == pytest.approx(2 * 1.96 * quarters.std() / 10, rel=0.1)
