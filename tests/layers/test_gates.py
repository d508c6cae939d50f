"""What SE gates do: their values in numbers, forced gates, and what is lost with them."""

import numpy as np
import pandas as pd
import pytest
import torch

from esc_lib.config import Network
from esc_lib.evaluation.intervals import source_draws
from esc_lib.layers import gates
from esc_lib.models.se_cnn import GATES, SECNN


def test_describe_by_hand():
    values = np.array([[0.5, 0.04, 0.9, 0.01], [0.5, 0.01, 0.04, 0.5]])
    table = gates.describe({"se1": values}, np.array([0, 1]))
    assert list(table.index) == ["se1"]
    row = table.loc["se1"]
    assert row["mean"] == pytest.approx(2.5 / 8)
    assert row["sd"] == pytest.approx(np.sqrt((values**2).mean() - (2.5 / 8) ** 2))
    assert row["closed (%)"] == 50
    assert row["closed for every clip (%)"] == 25  # the second: others are open for a clip at least
    assert row["at exactly 0.5 (%)"] == pytest.approx(300 / 8)
    assert row["variance between classes (%)"] == 100  # one clip per class
    table = gates.describe({"se1": values}, np.array([0, 0]))
    assert table.loc["se1", "variance between classes (%)"] == 0


def test_a_gate_whose_hidden_units_are_silent_stands_at_exactly_one_half():
    module = SECNN(3, Network(channels=(4, 8, 8, 8, 8), se_reduction=2, hidden=8)).se1
    maps = torch.rand(5, 8, 6, 6)
    with torch.no_grad():
        module.fc1.weight.copy_(-module.fc1.weight.abs())  # negative for maps after a ReLU
        values = module.gate(maps).numpy()
    assert gates.describe({"se1": values}, np.zeros(5, int)).loc["se1", "at exactly 0.5 (%)"] == 100


def test_variants_force_each_gate_and_all_of_them_in_three_ways():
    means = {gate: np.full(4, 0.1 * i) for i, gate in enumerate(GATES, 1)}
    forced = gates.variants(means)
    assert list(forced)[0] == "as trained" and forced["as trained"] == {}
    assert len(forced) == 1 + 3 * 5
    assert forced["se2, open"] == {"se2": 1} and forced["se2, half"] == {"se2": 0.5}
    assert list(forced["se2, mean"]) == ["se2"] and forced["se2, mean"]["se2"] is means["se2"]
    assert forced["all, open"] == dict.fromkeys(GATES, 1)
    assert forced["all, mean"] == means


# clips 0 to 3, two classes; the second network gets clip 1 wrong and clip 2 right
LABELS = np.array([0, 0, 1, 1])
FIRST = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]])
SECOND = torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 1]])


def test_compare_by_hand():
    sources = np.array([*"aabb"])
    draws = source_draws(sources, n_draws=500)
    table = gates.compare({"as trained": FIRST, "open": SECOND}, LABELS, draws)
    right, wrong = np.log1p(np.exp(-1)), np.log1p(np.exp(1))
    assert table.accuracy.tolist() == [75, 75]
    assert table.changed.tolist() == [0, 2]
    np.testing.assert_allclose(table.nll, (3 * right + wrong) / 4, rtol=1e-6)
    zero = ["difference", "low", "high", "nll_difference", "nll_low", "nll_high"]
    assert not table.loc["as trained", zero].any()
    # recording a loses one of two, b wins one: draws are aa, ab and bb
    assert table.loc["open", ["difference", "low", "high"]].tolist() == [0, -50, 50]
    nats = (wrong - right) / 2
    found = table.loc["open", ["nll_difference", "nll_low", "nll_high"]].astype(float)
    np.testing.assert_allclose(found, [0, -nats, nats], atol=1e-6)


def test_compare_draws_recordings_not_clips():
    logits = {"as trained": FIRST, "open": FIRST.flip(1)}
    kept = {name: values.clone() for name, values in logits.items()}
    alone = gates.compare(logits, LABELS, source_draws(np.arange(4)))
    together = gates.compare(logits, LABELS, source_draws(np.zeros(4)))
    assert alone.loc["open", "difference"] == together.loc["open", "difference"] == -50
    assert alone.loc["open", "low"] < -50 < alone.loc["open", "high"]
    assert together.loc["open", "low"] == together.loc["open", "high"] == -50
    assert all(torch.equal(logits[name], kept[name]) for name in kept)


def test_share_of_parameters():
    model = SECNN(3, Network(channels=(4, 8, 16, 8, 8), se_reduction=4, hidden=8))
    own = sum(3 * c * (c // 4) for c in (8, 16, 8, 8))  # 2 c to c / 4, c / 4 to c
    total = sum(p.numel() for p in model.parameters())
    assert gates.share_of_parameters(model) == pytest.approx(100 * own / total)


@pytest.mark.parametrize(
    ("high", "nll_low", "words"),
    [(-0.5, 0.1, "decisions get worse"), (0.0, 0.1, "probabilities get worse"),
     (2.0, -0.1, "nothing gets measurably worse"), (-1.0, -0.1, "decisions get worse")],
)  # fmt: skip
def test_verdict_says_what_the_intervals_do(high, nll_low, words):
    assert gates.verdict(pd.Series({"high": high, "nll_low": nll_low})).startswith(words)
