"""The nearest training clips: against brute force, and where the answer is known."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest

from esc_lib.config import PROFILES, Network
from esc_lib.data.clips import Data
from esc_lib.layers import embeddings
from esc_lib.models.se_cnn import SECNN
from esc_lib.sound.log_mel import LogMel

RNG = np.random.default_rng(0)
QUERIES, BANK = RNG.random((7, 12)), RNG.random((40, 12))
CLASSES = np.arange(40) % 3


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


def by_hand(query, rows):
    """Return the rows of the bank, nearest first, and their cosines."""
    found = sorted(((cosine(query, BANK[row]), row) for row in rows), reverse=True)
    return [row for _, row in found], [value for value, _ in found]


def test_nearest_equals_brute_force():
    rows, cosines = embeddings.nearest(QUERIES, BANK)
    assert rows.shape == cosines.shape == (7,)
    for query, found, value in zip(QUERIES, rows, cosines, strict=True):
        expected, expected_values = by_hand(query, range(40))
        assert found == expected[0]
        np.testing.assert_allclose(value, expected_values[0], atol=1e-12)


def test_length_does_not_matter_and_direction_does():
    bank = np.array([[0.0, 9.0], [3.0, 0.1], [1.0, 1.0]], np.float32)
    rows, cosines = embeddings.nearest(np.array([[0.001, 0], [5, 5]], np.float32), bank)
    assert rows.tolist() == [1, 2]
    assert cosines[1] == pytest.approx(1, abs=1e-6)


def test_a_silent_hidden_layer_is_near_to_nothing():
    rows, cosines = embeddings.nearest(np.zeros((1, 12)), BANK)
    assert cosines.tolist() == [0] and 0 <= rows[0] < 40


@pytest.mark.parametrize("bank", [BANK[:0], BANK[:, :9]])
def test_a_bank_that_does_not_fit_is_refused(bank):
    with pytest.raises(ValueError, match=rf"nearest: a bank of shape \({len(bank)},"):
        embeddings.nearest(QUERIES, bank)


def test_nearest_of_class_stays_in_the_class():
    asked = np.array([0, 1, 2, 2, 1, 0, 0])
    rows, cosines = embeddings.nearest_of_class(QUERIES, asked, BANK, CLASSES)
    for query, of_class, row, value in zip(QUERIES, asked, rows, cosines, strict=True):
        expected, values = by_hand(query, np.flatnonzero(CLASSES == of_class))
        assert (row, value) == (expected[0], pytest.approx(values[0]))


def test_examples_are_those_of_the_two_classes_and_of_all():
    decisions = pd.DataFrame(
        {"predicted": [0, 1, 2, 2, 1, 0, 0], "other": [1, 2, 0, 1, 0, 2, 1]}, index=range(50, 57)
    )
    found = embeddings.examples(decisions, QUERIES, BANK, CLASSES)
    assert found.index.tolist() == decisions.index.tolist()
    for query, clip in zip(QUERIES, found.itertuples(), strict=True):
        for of_class, row, value in (
            (clip.predicted, clip.nearest_predicted, clip.cosine_predicted),
            (clip.other, clip.nearest_other, clip.cosine_other),
        ):
            expected, values = by_hand(query, np.flatnonzero(CLASSES == of_class))
            assert (row, value) == (expected[0], pytest.approx(values[0]))
        assert clip.nearest_class == CLASSES[by_hand(query, range(40))[0][0]]
    assert "nearest_class" not in decisions


def test_agreement_is_counted_for_wrong_and_right_decisions():
    decisions = pd.DataFrame(
        {"label": [0, 0, 0, 1, 1, 1, 2], "predicted": [1, 1, 1, 2, 1, 1, 2],
         "nearest_class": [1, 1, 0, 0, 1, 2, 2]}
    )  # fmt: skip
    found = embeddings.agreement(decisions)
    counts = ["clips", "of the predicted class", "of the true class"]
    assert found.loc["wrong", counts].tolist() == [4, 2, 1]
    assert found.loc["right", counts].tolist() == [3, 2, 2]
    assert found["share (%)"].tolist() == pytest.approx([50, 200 / 3])
    wilson = binomtest(2, 4).proportion_ci(method="wilson")
    assert found.loc["wrong", ["low (%)", "high (%)"]].tolist() == pytest.approx(
        [100 * wilson.low, 100 * wilson.high]
    )


def test_agreement_without_mistakes_says_that_nothing_is_known():
    decisions = pd.DataFrame({"label": [0, 1], "predicted": [0, 1], "nearest_class": [0, 0]})
    found = embeddings.agreement(decisions)
    assert found.loc["wrong", ["clips", "low (%)", "high (%)"]].tolist() == [0, 0, 100]
    assert np.isnan(found.loc["wrong", "share (%)"])


def test_embeddings_are_what_the_last_layer_reads():
    settings = PROFILES["demo"].front_end
    torch.manual_seed(0)
    model = SECNN(3, Network(channels=(4, 4, 8, 8, 16), se_reduction=4, hidden=24)).eval()
    noise = torch.randint(-9000, 9000, (20, settings.n_samples), dtype=torch.int16)
    data = Data(pd.DataFrame({"label": [0] * 20}), noise, torch.full((20,), settings.n_samples))
    front_end = LogMel(settings)
    rows = np.array([19, 0, 3, *range(4, 18)])  # more than a batch, not in order
    found = embeddings.embed(model, front_end, data, rows)["fc1"]
    assert found.shape == (17, 24) and found.dtype == np.float32
    with torch.no_grad():
        logits = model(front_end.features(*data.batch(rows)))
        from_layer = model.fc2(torch.from_numpy(found))
    assert found.min() >= 0 and found.std() > 0
    # where the machine has half precision, the hidden layer is rounded to its eight bits
    torch.testing.assert_close(
        from_layer, logits, rtol=0.02, atol=0.02 * float(logits.std()) + 1e-3
    )
