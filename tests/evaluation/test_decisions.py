"""Intervals, confusion, classes, ROC, recordings: closed formulas and cases by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from esc_lib.evaluation import decisions, intervals

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


# ---------------------------------------------------------------------------------- confusion


def test_confusion_has_true_classes_down_and_predicted_ones_across():
    counts = decisions.confusion(LABELS, PREDICTED, 3)
    assert counts.tolist() == COUNTS


def test_confusion_has_a_row_and_a_column_for_a_class_that_never_occurs():
    counts = decisions.confusion(LABELS, PREDICTED, 5)
    assert counts.shape == (5, 5)
    assert counts[:3, :3].tolist() == COUNTS and counts.sum() == len(LABELS)


def test_confused_pairs_count_both_ways_and_their_recordings():
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    predicted = np.array([1, 1, 0, 0, 1, 0, 2, 2])
    sources = np.array(["p", "p", "q", "r", "s", "t", "t", "u"])
    table = decisions.confused_pairs(labels, predicted, sources, NAMES)
    assert list(table.index) == ["A", "B"]
    # a and b: two clips of recording p and one of r, of the five clips of both classes
    assert table.loc["A"].to_list() == ["a", "b", 2, 1, 3, 5, 2]
    assert table.loc["B"].to_list() == ["a", "c", 0, 1, 1, 6, 1]
    assert len(decisions.confused_pairs(labels, predicted, sources, NAMES, at_most=1)) == 1


def test_confused_pairs_agree_with_the_matrix(drawn):
    labels, probabilities = drawn
    predicted = probabilities.argmax(axis=1)
    counts = decisions.confusion(labels, predicted, 5)
    table = decisions.confused_pairs(labels, predicted, np.arange(60), list("abcde"))
    assert table.wrong.sum() == counts.sum() - np.trace(counts) > 10  # all pairs are listed
    assert table.wrong.is_monotonic_decreasing
    for _, pair in table.iterrows():
        first, second = "abcde".index(pair["first"]), "abcde".index(pair["second"])
        assert pair["first as second"] == counts[first, second]
        assert pair["second as first"] == counts[second, first]
        assert pair.recordings == pair.wrong


def test_confused_pairs_of_a_perfect_classifier_are_an_empty_table():
    table = decisions.confused_pairs(LABELS, LABELS, np.arange(6), NAMES)
    assert table.empty
    assert list(table)[:2] == ["first", "second"]


# ---------------------------------------------------------------------------------- per class


def test_per_class_by_hand():
    scores = decisions.per_class(LABELS, PREDICTED, NAMES)
    assert list(scores.index) == NAMES
    # a: 2 of 4 predictions right, 2 of 3 clips found; b: 1 of 2 and 1 of 2; c: never predicted
    np.testing.assert_allclose(scores.precision, [1 / 2, 1 / 2, 0])
    np.testing.assert_allclose(scores.recall, [2 / 3, 1 / 2, 0])
    np.testing.assert_allclose(scores.F1, [4 / 7, 1 / 2, 0])
    assert scores.clips.tolist() == [3, 2, 1]
    for name, found in zip(NAMES, (2, 1, 0), strict=True):
        interval = intervals.accuracy_interval(found, int(scores.clips[name]))
        assert tuple(scores.loc[name, ["recall low", "recall high"]]) == interval


def test_recall_of_a_class_without_clips_is_unknown():
    scores = decisions.per_class(LABELS, PREDICTED, [*NAMES, "d"])
    assert scores.loc["d", ["recall low", "recall high"]].tolist() == [0, 1]


def test_per_class_equals_scikit_learn(drawn):
    labels, probabilities = drawn
    predicted = probabilities.argmax(axis=1)
    scores = decisions.per_class(labels, predicted, list("abcde"))
    for column, score in (
        ("precision", precision_score), ("recall", recall_score), ("F1", f1_score),
    ):  # fmt: skip
        np.testing.assert_allclose(scores[column], score(labels, predicted, average=None))


# ---------------------------------------------------------------------------------------- ROC


def all_once(n):
    return np.ones((1, n), dtype=int)


def test_class_roc_by_hand():
    # class 1 against the rest, by falling score: hit, miss, hit, miss
    probabilities = np.array([[0.1, 0.9], [0.3, 0.7], [0.6, 0.4], [0.8, 0.2]])
    curve = decisions.roc(np.array([1, 0, 1, 0]), probabilities, all_once(4), 1)
    assert curve.false_positive.tolist() == [0, 0, 0.5, 0.5, 1]
    assert curve.true_positive.tolist() == [0, 0.5, 0.5, 1, 1]
    assert curve.area == 0.75  # three of four pairs of a hit and a miss are in order
    assert curve.interval == (0.75, 0.75)  # a draw that is the clips themselves
    assert curve.band[0][[0, 50, 99, 100, 200]].tolist() == [0.5, 0.5, 0.5, 1, 1]


def test_micro_roc_pools_all_decisions():
    labels = np.array([0, 1])
    probabilities = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1]])
    # hits at 0.6 and 0.4, misses at 0.5, 0.3, 0.1, 0.1: seven of eight pairs in order
    assert decisions.roc(labels, probabilities, all_once(2)).area == pytest.approx(7 / 8)
    # the first clip alone, then the second alone: two of two in order, one of two
    curve = decisions.roc(labels, probabilities, np.array([[2, 0], [0, 2]]))
    assert curve.interval == pytest.approx(np.percentile([1, 0.5], [2.5, 97.5]))


def test_roc_equals_scikit_learn_and_its_own_trapezoids(drawn):
    labels, probabilities = drawn
    hits = np.eye(5)[labels]
    once = all_once(60)
    pooled = roc_auc_score(hits, probabilities, average="micro")
    cases = {None: pooled} | {k: roc_auc_score(hits[:, k], probabilities[:, k]) for k in range(5)}
    for label, area in cases.items():
        curve = decisions.roc(labels, probabilities, once, label)
        assert curve.area == pytest.approx(area)
        assert curve.area == pytest.approx(np.trapezoid(curve.true_positive, curve.false_positive))
        assert 0.5 < curve.area < 1


def test_perfect_and_reversed_orders_have_areas_one_and_zero():
    labels = np.arange(4)
    assert decisions.roc(labels, np.eye(4), all_once(4)).area == 1
    assert decisions.roc(labels, 1 - np.eye(4), all_once(4), 2).area == 0


def test_interval_of_the_area_is_as_wide_as_delong_s():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 150)
    score = 1 / (1 + np.exp(-rng.normal(size=300) - labels))
    probabilities = np.stack([1 - score, score], axis=1)
    in_order = score[labels == 1][:, None] > score[labels == 0]
    variance = sum(in_order.mean(axis=axis).var(ddof=1) / 150 for axis in (0, 1))
    draws = intervals.source_draws(np.arange(300), 1000)
    curve = decisions.roc(labels, probabilities, draws, 1)
    low, high = curve.interval
    assert high - low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.1)
    assert low < curve.area < high
    middle = np.interp(decisions.GRID, curve.false_positive, curve.true_positive)
    assert (curve.band[0] <= middle).all() and (middle <= curve.band[1]).all()


def test_clips_copied_within_their_recording_bring_no_certainty(drawn):
    labels, probabilities = drawn
    sources = np.arange(60)
    single = decisions.roc(labels, probabilities, intervals.source_draws(sources, 200))
    twice = decisions.roc(
        np.tile(labels, 2),
        np.tile(probabilities, (2, 1)),
        intervals.source_draws(np.tile(sources, 2), 200),
    )
    assert twice.interval == pytest.approx(single.interval)


def test_draws_without_a_clip_of_the_class_are_left_out():
    probabilities = np.array([[0.1, 0.9], [0.3, 0.7], [0.6, 0.4], [0.8, 0.2]])
    draws = np.array([[1, 1, 1, 1], [0, 2, 0, 2], [2, 0, 2, 0]])
    assert decisions.roc(np.array([1, 0, 1, 0]), probabilities, draws, 1).interval == (0.75, 0.75)


# --------------------------------------------------------------------------------- recordings


def test_mean_interval_is_that_of_a_mean():
    values = np.random.default_rng(0).normal(3, 2, 500)
    _, low, high = intervals.mean_interval(values, intervals.source_draws(np.arange(500)))
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 500**0.5, rel=0.05)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.02)


def test_by_recording_by_hand():
    sources = np.array(["p", "q", "q", "r", "s", "s"])
    table = decisions.by_recording(LABELS, PREDICTED, sources, NAMES)
    assert table.index.to_list() == ["s", "q", "p", "r"]  # most errors first
    assert table.loc["s"].to_list() == ["b, c", 2, 2, "a (2)"]
    assert table.loc["q"].to_list() == ["a", 2, 1, "b (1)"]
    assert table.loc["r"].to_list() == ["b", 1, 0, ""]


ONE_CLASS = np.zeros(16, dtype=int)
FOUR_EACH = np.repeat([0, 1, 2, 3], 4)


def test_errors_of_one_recording_are_clustered():
    found = decisions.error_clustering(FOUR_EACH == 2, ONE_CLASS, FOUR_EACH, 20_000)
    assert found.pairs == 6
    # 24 of 120 pairs of clips share a recording, and any pair of clips is wrong in 6 of 120 cases
    assert found.pairs_by_chance == pytest.approx(24 * 6 / 120, rel=0.02)
    # 4 of the ways to choose 4 clips of 16 take a whole recording
    assert found.p == pytest.approx(4 / math.comb(16, 4), rel=0.4)
    assert (found.worst, found.share) == (1, 1)
    # the largest part of 4 errors in 4 recordings: 4, 3, or 2, else 1 of each
    ways = {4: 4, 3: 4 * 4 * 12, 1: 4**4}
    ways[2] = math.comb(16, 4) - sum(ways.values())
    mean = sum(part * count for part, count in ways.items()) / math.comb(16, 4)
    assert found.share_by_chance == pytest.approx(mean / 4, rel=0.02)


def test_errors_spread_over_recordings_are_not_clustered():
    spread = np.arange(16) % 4 == 0
    found = decisions.error_clustering(spread, ONE_CLASS, FOUR_EACH)
    assert (found.pairs, found.p, found.share) == (0, 1, 0.25)


def test_a_hard_class_alone_is_no_cluster():
    labels = np.repeat([0, 1], 8)  # the class of two recordings is always wrong
    found = decisions.error_clustering(labels == 0, labels, FOUR_EACH)
    assert (found.pairs, found.pairs_by_chance, found.p) == (12, 12, 1)


def test_no_errors_no_clusters():
    found = decisions.error_clustering(np.zeros(16, dtype=bool), ONE_CLASS, FOUR_EACH)
    assert (found.pairs, found.p, found.share) == (0, 1, 0)


def test_p_is_small_no_more_often_than_it_says():
    rng = np.random.default_rng(0)
    labels, sources = np.repeat([0, 1], 30), np.repeat(np.arange(20), 3)
    p = np.array([
        decisions.error_clustering(rng.random(60) < 0.3, labels, sources, 200).p
        for _ in range(300)
    ])  # fmt: skip
    assert 0.01 < (p <= 0.1).mean() < 0.13  # discrete, so it may fall short of 0.1


# ------------------------------------------------------------------------------------ classes


def test_variance_between_classes_by_hand():
    labels = np.array([0, 0, 1, 1])
    share = decisions.variance_between_classes
    assert share(np.array([[1.0], [1.0], [3.0], [3.0]]), labels) == 1
    assert share(np.array([[1.0], [3.0], [1.0], [3.0]]), labels) == 0
    assert share(np.array([[0.0], [2.0], [4.0], [6.0]]), labels) == pytest.approx(4 / 5)
    assert share(np.full((4, 3), 0.5), labels) == 0  # a gate that never moves


# ------------------------------------------------------------------------------- intervals


def test_mean_interval_by_hand():
    values = np.array([1.0, 0.0, 4.0])
    draws = np.array([[1, 1, 1], [3, 0, 0], [0, 2, 1], [0, 0, 3]])
    mean, low, high = intervals.mean_interval(values, draws)
    assert mean == pytest.approx(5 / 3)
    expected = np.percentile([5 / 3, 1, 4 / 3, 4], [2.5, 97.5])
    assert (low, high) == pytest.approx(tuple(expected))


def test_mean_interval_is_as_wide_as_theory_says():
    values = np.random.default_rng(0).normal(size=400)
    _, low, high = intervals.mean_interval(values, intervals.source_draws(np.arange(400)))
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    quarters = np.repeat(values[:100], 4)  # four clips of each recording are worth one
    _, low, high = intervals.mean_interval(
        quarters, intervals.source_draws(np.repeat(np.arange(100), 4))
    )
    assert high - low == pytest.approx(2 * 1.96 * quarters.std() / 10, rel=0.1)
