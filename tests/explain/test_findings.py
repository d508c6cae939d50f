"""What is said of the judged explanations: every sentence has its number, and can say no."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from esc_lib.explain import findings
from esc_lib.explain.methods import EQUALISER, OURS
from esc_lib.study.metrics import Metric

METHODS = (OURS, *findings.WITHOUT.values(), "control: constant", "oracle")


def judged(better=0.0, turned=0.0, wrong=0.0, n=60):
    """Return judged explanations; ours is better than all others by a probability."""
    rows, rng = [], np.random.default_rng(0)
    p = rng.uniform(0.3, 0.4, n)
    for condition in ("clean", "other clip"):
        for method in METHODS:
            o = p + 0.1 + (method == OURS) * better + rng.normal(scale=0.01, size=n)
            rows.append(pd.DataFrame({
                "condition": condition, "method": method, "row": np.arange(n), "p": p, "o": o,
                "m": p, "same": True, "source": np.arange(n) // 2, "label": 0, "fold": 1,
                "network": "own", "gain forest": o - 0.2 * (method == EQUALISER), "class forest": 0,
                "turned": rng.random(n) < turned, "gain_wrong": wrong, "stays": 0.5,
                "si_sdr": 2.0, "si_sdr_input": 0.0, "precision": 0.6, "energy": 0.5,
            }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def test_numbers_are_those_of_the_table():
    rows = judged(better=0.1)
    found = findings.numbers(rows)
    assert found["folds"] == 1 and found["clips"] == 60 and found["judges"] == "forest"
    ours, other = (rows[rows.method == name] for name in (OURS, EQUALISER))
    gap = 100 * ((other.o - other.p) / (1 - other.p)).mean()
    gap -= 100 * ((ours.o - ours.p) / (1 - ours.p)).mean()
    assert found["equaliser_minus_ours"].value == pytest.approx(gap / 100, abs=1e-6)
    low, high = found["equaliser_minus_ours"].interval
    assert low < gap / 100 < high < 0 and found["equaliser_minus_ours"].n == 120
    clean = rows[(rows.condition == "clean") & (rows.method == OURS)]
    assert found["clean_forest"].value == pytest.approx(clean["gain forest"].mean())
    assert found["clean_forest_ahead"].value == pytest.approx(0.2 + 0.1, abs=0.01)
    assert found["lift_oracle"].value == 2


@pytest.mark.parametrize(("better", "word", "verdict"), [
    (0.1, "is behind them", "they need the hidden layer"),
    (0.0, "is level with them", "no hidden layer is needed for them"),
    (-0.05, "is ahead of them", "no hidden layer is needed for them"),
])  # fmt: skip
def test_what_is_said_of_the_hidden_layer_follows_the_intervals(better, word, verdict):
    said = findings.without_the_layer(findings.numbers(judged(better)))
    assert said.endswith(verdict) and said.count(word) == 4, said


def test_one_control_that_stays_behind_is_not_enough():
    found = findings.numbers(judged(0.1))
    found["no_layer_minus_ours"] = Metric(-0.1, "", 120, (-0.2, 0.01))
    assert findings.without_the_layer(found).endswith("no hidden layer is needed for them")


@pytest.mark.parametrize(("turned", "wrong", "words"), [
    (0.0, 0.0, "they pass"), (0.3, 0.0, "they do not pass"), (0.0, 5.0, "they do not pass"),
])  # fmt: skip
def test_specificity_needs_both(turned, wrong, words):
    said = findings.is_specific(findings.numbers(judged(turned=turned, wrong=wrong)))
    assert said.endswith(words), said


def test_second_judges_are_named_with_both_conditions():
    rows = judged()
    said = findings.to_others(findings.numbers(rows))
    assert said.startswith("forest +") and "ahead of the equaliser" in said
    twin = {f"{of} another seed": rows[f"{of} forest"] for of in ("gain", "class")}
    both = rows.assign(**twin)
    assert findings.to_others(findings.numbers(both)).count("on mixtures") == 2


def test_a_number_stands_with_its_interval():
    one = Metric(0.25, "", 9, (-0.5, 1.0))
    assert findings.with_interval(one) == "+0.25 (-0.50 to +1.00)"
    assert findings.with_interval(replace(one, value=3.0), ".1f") == "3.0 (-0.5 to 1.0)"
