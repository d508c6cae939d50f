"""Runs compared: accuracy over folds and seeds, optimism, differences."""

import numpy as np
import pandas as pd
import pytest

from esc_lib.evaluation import runs
from esc_lib.evaluation.intervals import paired_difference


def judged(right, label="a", fold=1, part="test", seed=0, names=None, sources=None):
    right = np.asarray(right, bool)
    names = names or [f"{fold}-{i}.wav" for i in range(len(right))]
    return pd.DataFrame(
        {
            "group": "g", "label": label, "fold": fold, "seed": seed, "run": "r", "part": part,
            "filename": names, "src_file": sources or names, "right": right, "right_whole": ~right,
        }
    )  # fmt: skip


def test_accuracy_table_by_hand():
    table = pd.concat(
        [judged([1, 1, 1, 0]), judged([1, 1, 0, 0], seed=1), judged([1, 1, 1, 1], fold=2)]
    )
    row = runs.accuracy_table(table, "test").loc["a"]
    assert row.runs == 3 and row.clips == 8
    assert row["mean"] == pytest.approx((75 + 50 + 100) / 3)
    assert row.sd == pytest.approx(25)
    assert row.pooled == pytest.approx(100 * (1 + 1 + 0.5 + 0 + 4) / 8)
    assert row.low < row.pooled < row.high
    assert runs.accuracy_table(table, "validation").empty


def test_a_paired_difference_by_hand():
    table = pd.concat(
        [
            judged([1, 1, 1, 0, 0], "base", part="validation"),
            judged([1, 1, 1, 1, 0], "better", part="validation"),
            judged([1, 1, 1, 0, 0], "same", part="validation"),
            judged([1, 1, 0], "fewer clips", part="validation"),
        ]
    )
    found = runs.against(table, "base")
    assert found.difference.drop("fewer clips").to_dict() == pytest.approx(
        {"base": 0, "better": 20, "same": 0}
    )
    assert found.clips.to_dict() == {"base": 5, "better": 5, "same": 5, "fewer clips": 3}
    assert found.loc["same", ["low", "high"]].tolist() == [0, 0]
    one, other = np.array([1, 1, 1, 1, 0]), np.array([1, 1, 1, 0, 0])
    expected = paired_difference(one, other, np.arange(5))
    assert found.loc["better", ["difference", "low", "high"]].tolist() == pytest.approx(expected)
    assert found.difference["fewer clips"] == pytest.approx(-100 / 3)


def test_clips_of_one_recording_are_drawn_together():
    right = {"base": [0] * 20, "better": [1] * 10 + [0] * 10}
    apart, together = (
        runs.against(
            pd.concat(judged(r, name, sources=sources) for name, r in right.items()), "base", "test"
        ).loc["better"]
        for sources in ([str(i) for i in range(20)], [str(i // 10) for i in range(20)])
    )
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_optimism_sees_leakage_and_draws_recordings_not_clips():
    rng = np.random.default_rng(0)
    names = [f"{i}.wav" for i in range(400)]
    sources = [str(i // 4) for i in range(400)]
    chance = {("random_clips", "validation"): 0.95, ("random_clips", "test"): 0.7}
    chance |= {("source_grouped", "validation"): 0.7, ("source_grouped", "test"): 0.7}
    tables = []
    for (label, part), share in chance.items():
        half = slice(0, 200) if part == "test" else slice(200, 400)
        right = np.repeat(rng.random(50) < share, 4)  # clips of a recording go together
        tables.append(judged(right, label, 1, part, 0, names[half], sources[half]))
    found = runs.optimism(pd.concat(tables))
    gap = found.loc["difference"]
    assert gap.low < gap.optimism < gap.high and 0 < gap.optimism
    assert gap.optimism == pytest.approx(
        found.optimism["random_clips"] - found.optimism["source_grouped"]
    )
    # four clips a recording tell no more than one: half-width of about 2 sd of four means of 50
    expected = 1.96 * 100 * np.sqrt((3 * 0.7 * 0.3 + 0.95 * 0.05) / 50)
    assert (gap.high - gap.low) / 2 == pytest.approx(expected, rel=0.35)
    again = runs.optimism(pd.concat(tables))
    pd.testing.assert_frame_equal(found, again)
