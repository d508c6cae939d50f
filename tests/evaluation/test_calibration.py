"""Calibration: bins by hand, scores against scikit-learn, chance against the binomial."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import binom
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import brier_score_loss, log_loss

from esc_lib.evaluation import calibration, intervals


@pytest.fixture
def drawn():
    """Return logits, calibrated probabilities and labels of 4000 clips in five classes."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=1.5, size=(4000, 5))
    probabilities = softmax(logits, axis=1)
    labels = (rng.random((4000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    return logits, probabilities, labels


# --------------------------------------------------------------------------------------- bins

CONFIDENCE = np.array([0.15, 0.12, 0.55, 0.5, 0.95, 1.0])
RIGHT = np.array([True, False, True, False, True, True])


def test_reliability_by_hand():
    table = calibration.reliability(CONFIDENCE, RIGHT)
    assert table.clips.tolist() == [0, 2, 0, 0, 0, 2, 0, 0, 0, 2]  # 0.5 opens its bin, 1 is in
    assert table.low[5] == 0.5 and table.high[9] == 1
    seen = table[table.clips > 0]
    np.testing.assert_allclose(seen.confidence, [0.135, 0.525, 0.975])
    np.testing.assert_allclose(seen.accuracy, [0.5, 0.5, 1])
    assert seen.iloc[2][["accuracy low", "accuracy high"]].tolist() == pytest.approx(
        intervals.accuracy_interval(2, 2)
    )
    assert table.accuracy.isna().sum() == 7


def test_calibration_error_by_hand():
    # two of six clips in each of three bins, gaps 0.365, 0.025 and 0.025
    assert calibration.calibration_error(CONFIDENCE, RIGHT) == pytest.approx(0.415 / 3)
    # in one bin over- and underconfidence cancel: 4 of 6 right, mean confidence 3.27 / 6
    assert calibration.calibration_error(CONFIDENCE, RIGHT, 1) == pytest.approx((4 - 3.27) / 6)


@pytest.mark.parametrize("n_bins", [10, 15])
def test_calibration_error_is_the_weighted_gap_of_the_table(drawn, n_bins):
    _, probabilities, labels = drawn
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    table = calibration.reliability(confidence, right, n_bins)
    gap = (table.accuracy - table.confidence).abs()
    expected = (gap * table.clips).sum() / len(labels)
    assert calibration.calibration_error(confidence, right, n_bins) == pytest.approx(expected)


@pytest.mark.parametrize("n_bins", [10, 15])
def test_calibration_error_equals_torchmetrics(drawn, n_bins):
    reference = pytest.importorskip("torchmetrics.functional.classification")
    _, probabilities, labels = drawn
    sharp = calibration.tempered(probabilities, 0.5)
    expected = reference.multiclass_calibration_error(
        torch.from_numpy(sharp), torch.from_numpy(labels), num_classes=5, n_bins=n_bins
    )
    found = calibration.calibration_error(sharp.max(axis=1), sharp.argmax(axis=1) == labels, n_bins)
    assert found == pytest.approx(float(expected), abs=1e-6) and found > 0.1


def test_error_of_a_calibrated_classifier_is_that_of_the_binomial():
    n, sure = 20, 0.75
    confidence = np.full(n, sure)
    right = np.arange(n) < 11  # error 0.2
    outcomes = np.arange(n + 1)
    errors, chances = np.abs(outcomes / n - sure), binom.pmf(outcomes, n, sure)
    mean, p = calibration.error_if_calibrated(confidence, right, 20_000)
    assert mean == pytest.approx(errors @ chances, rel=0.02)
    assert p == pytest.approx(chances[errors >= 0.2 - 1e-9].sum(), rel=0.1)


def test_calibrated_clips_pass_and_overconfident_ones_do_not(drawn):
    _, probabilities, labels = drawn
    sharp = calibration.tempered(probabilities, 0.7)
    p = {
        name: calibration.error_if_calibrated(given.max(axis=1), given.argmax(axis=1) == labels)[1]
        for name, given in (("calibrated", probabilities), ("sharp", sharp))
    }
    assert p["calibrated"] > 0.05
    assert p["sharp"] == 1 / 5001


# ------------------------------------------------------------------------------------- scores


def test_scores_equal_scikit_learn(drawn):
    _, probabilities, labels = drawn
    found = calibration.brier(probabilities, labels).mean()
    assert found == pytest.approx(brier_score_loss(labels, probabilities, scale_by_half=False))
    found = calibration.negative_log_likelihood(probabilities, labels).mean()
    assert found == pytest.approx(log_loss(labels, probabilities))


def test_scores_of_certainty_and_of_guessing():
    labels = np.array([0, 2])
    assert calibration.brier(np.eye(3)[labels], labels).tolist() == [0, 0]
    assert calibration.brier(np.eye(3)[[1, 1]], labels).tolist() == [2, 2]
    guess = np.full((2, 3), 1 / 3)
    np.testing.assert_allclose(calibration.negative_log_likelihood(guess, labels), np.log(3))
    wrong = calibration.negative_log_likelihood(np.eye(3)[[1, 1]], labels)
    assert np.isfinite(wrong).all()  # a recorded 0 is not impossible, only rare


def test_compare_by_hand():
    labels = np.zeros(10, dtype=int)
    sure = np.array([0.9, 0.1])
    before = np.array([sure] * 6 + [sure[::-1]] * 4)  # six of ten right, each with 0.9
    after = np.where(before > 0.5, 0.6, 0.4)
    draws = intervals.source_draws(np.arange(10))
    table = calibration.compare(labels, before, after, draws)
    assert table.before["confidence - accuracy"] == pytest.approx(0.3)
    assert table.after["confidence - accuracy"] == pytest.approx(0)
    assert table.before["Brier score"] == pytest.approx(2 * (6 * 0.1**2 + 4 * 0.9**2) / 10)
    assert table.change["negative log-likelihood"] == pytest.approx(
        0.6 * np.log(0.9 / 0.6) + 0.4 * np.log(0.1 / 0.4)
    )
    # the change of confidence is -0.3 for every clip, whatever is drawn
    ends = table.loc["confidence - accuracy", ["change low", "change high"]]
    assert ends.tolist() == pytest.approx([-0.3, -0.3])
    assert (table["before low"] < table.before).all() and (
        table.before < table["before high"]
    ).all()


# -------------------------------------------------------------------------------- temperature


class Logits(ClassifierMixin, BaseEstimator):
    """A classifier for scikit-learn that hands its input through."""

    def fit(self, inputs, labels):
        self.classes_ = np.unique(labels)
        return self

    def predict(self, inputs):
        return inputs.argmax(axis=1)

    def decision_function(self, inputs):
        return inputs


@pytest.mark.parametrize("sharpening", [0.4, 1.5])
def test_temperature_equals_scikit_learn(drawn, sharpening):
    logits, _, labels = drawn
    logits = sharpening * logits[:200]
    labels = labels[:200]
    frozen = FrozenEstimator(Logits().fit(logits, labels))
    reference = CalibratedClassifierCV(frozen, method="temperature").fit(logits, labels)
    found = calibration.fit_temperature(softmax(logits, axis=1), labels)
    np.testing.assert_allclose(
        calibration.tempered(softmax(logits, axis=1), found),
        reference.predict_proba(logits),
        atol=1e-3,
    )


def test_temperature_undoes_sharpening(drawn):
    _, probabilities, labels = drawn
    own = calibration.fit_temperature(probabilities, labels)
    assert own == pytest.approx(1, abs=0.06)  # drawn with these probabilities
    sharp = calibration.tempered(probabilities, 0.5)
    assert calibration.fit_temperature(sharp, labels) == pytest.approx(2 * own, rel=1e-3)


def test_tempered_keeps_the_order_and_the_sum(drawn):
    _, probabilities, _ = drawn
    np.testing.assert_allclose(calibration.tempered(probabilities, 1.0), probabilities)
    soft = calibration.tempered(probabilities, 3.0)
    np.testing.assert_allclose(soft.sum(axis=1), 1)
    assert (soft.argsort(axis=1) == probabilities.argsort(axis=1)).all()
    assert soft.max() < probabilities.max()
    assert np.isfinite(calibration.tempered(np.eye(3), 0.05)).all()
