"""Intervals: Wilson's, over source recordings, and of paired differences."""

import numpy as np
import pytest
from scipy.stats import binomtest

from esc_lib.evaluation import intervals


@pytest.mark.parametrize("level", [0.95, 0.99])
@pytest.mark.parametrize(
    ("k", "n"), [(0, 10), (1, 10), (5, 10), (10, 10), (40, 40), (354, 400), (283, 320)]
)
def test_interval_is_wilson_s(k, n, level):
    low, high = intervals.accuracy_interval(k, n, level)
    reference = binomtest(k, n).proportion_ci(level, method="wilson")
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=1e-12)
    assert 0 <= low <= k / n <= high <= 1


def test_interval_of_354_of_400_is_that_of_the_tables():
    # z = 1.96: centre 0.88134, half-width 0.03136
    low, high = intervals.accuracy_interval(354, 400)
    assert (round(low, 3), round(high, 3)) == (0.850, 0.913)
    assert all(type(end) is float for end in (low, high))  # for the record in JSON


def test_accuracy_of_single_clips_is_wilson_s():
    right = np.arange(400) < 354
    value, low, high = intervals.accuracy(right, np.arange(400))
    assert value == 88.5
    # with as many recordings as clips the variance has one degree of freedom less
    assert (low, high) == pytest.approx(
        [100 * end for end in intervals.accuracy_interval(354, 400)], abs=0.01
    )


def test_clips_of_one_recording_that_go_together_tell_no_more_than_one():
    right = np.repeat(np.arange(100) < 70, 4)
    value, low, high = intervals.accuracy(right, np.repeat(np.arange(100), 4))
    assert value == 70
    expected = [100 * end for end in intervals.accuracy_interval(70, 100)]
    assert (low, high) == pytest.approx(expected, abs=0.2)


def test_recordings_that_balance_do_not_make_it_surer_than_single_clips():
    right = np.tile([True, False], 100)  # one of two is right in every recording
    _, low, high = intervals.accuracy(right, np.repeat(np.arange(100), 2))
    assert (low, high) == pytest.approx(
        [100 * end for end in intervals.accuracy_interval(100, 200)], abs=1e-9
    )


@pytest.mark.parametrize("share", [0, 1])
def test_where_all_answers_are_alike_recordings_count(share):
    _, low, high = intervals.accuracy(np.full(40, share), np.repeat(np.arange(10), 4))
    expected = intervals.accuracy_interval(10 * share, 10)
    assert (low, high) == pytest.approx([100 * end for end in expected])


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        ease = np.repeat(rng.beta(4, 1, 60), 3)  # recordings differ; mean 0.8
        _, low, high = intervals.accuracy(rng.random(180) < ease, np.repeat(np.arange(60), 3))
        held += low <= 80 <= high
    assert 0.92 <= held / 400 <= 0.98


def test_a_paired_difference_draws_recordings():
    one = np.repeat([1, 1, 1, 0] * 20, 2)
    other = np.repeat([1, 1, 0, 0] * 20, 2)
    points, low, high = intervals.paired_difference(one, other, np.repeat(np.arange(80), 2))
    assert points == 25
    sd = 100 * np.std([0, 0, 1, 0]) / np.sqrt(80)
    assert (high - low) / 2 == pytest.approx(1.96 * sd, rel=0.1)
    assert intervals.paired_difference(one, one, np.arange(160)) == (0, 0, 0)
