"""People and a network on the same clips."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from esc_lib.evaluation import listeners


def answers(label, answer, n_sources=10):
    label = np.asarray(label)
    return pd.DataFrame(
        {"label": label, "answer": answer, "src_file": np.arange(len(label)) % n_sources}
    )


def test_each_class_has_both_accuracies_and_their_difference():
    labels = np.repeat([0, 1], 40)
    people = answers(labels, np.where(np.arange(80) % 4 == 0, 1 - labels, labels))
    network = answers(labels, np.where(labels == 0, 0, np.arange(80) % 2))
    found = listeners.by_class(people, network, ["cat", "dog"], 200)
    assert found.people.tolist() == [75, 75]
    assert found.network.loc[["cat", "dog"]].tolist() == [100, 50]
    assert found.difference.loc[["cat", "dog"]].tolist() == [25, -25]
    assert (found.low <= found.difference).all() and (found.difference <= found.high).all()
    assert found.loc["cat"].low > 0 > found.loc["dog"].high


def test_best_heard_classes_come_first():
    labels = np.repeat([0, 1, 2], 10)
    people = answers(labels, np.where(labels == 1, 1, np.where(labels == 2, 2, 1)))
    found = listeners.by_class(people, people, list("abc"), 50)
    assert found.people.is_monotonic_decreasing and found.index[-1] == "a"
    assert (found.difference == 0).all()


def confusions(n_classes, seed):
    rng = np.random.default_rng(seed)
    return rng.poisson(1.0, (n_classes, n_classes)) + 30 * np.eye(n_classes, dtype=int)


def test_mantel_finds_errors_that_go_the_same_way_and_no_others():
    one = confusions(20, 0)
    assert listeners.mantel(one, one, 499) == pytest.approx((1, 1 / 500))
    other = np.random.default_rng(1).poisson(one)
    r, p = listeners.mantel(one, other, 499)
    assert 0.3 < r < 1 and p < 0.01
    chance = [listeners.mantel(one, confusions(20, seed), 99)[1] for seed in range(2, 42)]
    assert 0.3 < np.mean(chance) < 0.7  # p values of nothing are spread evenly


def test_mantel_does_not_look_at_the_diagonal_or_at_how_often_a_class_was_heard():
    one = confusions(12, 0)
    other = one + 100 * np.eye(12, dtype=int)
    assert listeners.mantel(one, other * 3, 9)[0] == pytest.approx(1)


def test_area_is_that_of_scikit_learn_and_within_classes_the_mean_over_their_pairs():
    rng = np.random.default_rng(0)
    difficulty, wrong = rng.choice([0, 1 / 3, 0.5, 1], 300), rng.integers(0, 2, 300)
    classes, sources = rng.integers(0, 5, 300), np.arange(300) // 2
    area, low, high = listeners.error_auc(difficulty, wrong, sources, n_draws=50)
    assert area == pytest.approx(roc_auc_score(wrong, difficulty)) and low < area < high
    found = listeners.error_auc(difficulty, wrong, sources, classes, 50)[0]
    own = [(wrong[classes == k], difficulty[classes == k]) for k in range(5)]
    weights = [bad.sum() * (1 - bad).sum() for bad, _ in own]
    areas = [roc_auc_score(bad, hard) for bad, hard in own]
    assert found == pytest.approx(np.average(areas, weights=weights))


def test_hard_classes_alone_make_no_area_within_classes():
    classes = np.repeat([0, 1], 100)
    difficulty = np.where(classes, 0.8, 0.1) + np.tile([0.0, 0.05], 100)
    wrong = np.where(classes, np.arange(200) % 4 < 2, np.arange(200) % 20 < 2).astype(int)
    sources = np.arange(200)
    assert listeners.error_auc(difficulty, wrong, sources, n_draws=50)[0] > 0.6
    within, low, high = listeners.error_auc(difficulty, wrong, sources, classes, 50)
    assert within == pytest.approx(0.5) and low < 0.5 < high


def test_without_a_wrong_clip_nothing_is_known():
    found = listeners.error_auc(np.arange(4.0), np.zeros(4, int), np.arange(4), n_draws=5)
    assert found == (0.5, 0.0, 1.0)
