"""A layer against its controls: differences by hand, their interval under the null, words."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from esc_lib.dictionaries import controls, level_free
from esc_lib.evaluation.intervals import source_draws

R2 = controls.Measure("left", "there", controls.explained)
N = 60


def errors(share, seed, n=N):
    """Return squared errors of about `share` of what there is."""
    rng = np.random.default_rng(seed)
    there = np.linspace(1, 3, n)
    return {"left": share * there * rng.lognormal(0, 0.2, n), "there": there}


def test_values_and_differences_by_hand():
    table, others = (
        errors(0.4, 0),
        [errors(share, seed) for seed, share in enumerate((0.6, 0.7), 1)],
    )
    found = controls.compare(table, others, R2, source_draws(np.arange(N)))
    value, *rest = (1 - one["left"].sum() / one["there"].sum() for one in (table, *others))
    assert found["value"] == pytest.approx(value)
    assert found["others"] == pytest.approx(np.mean(rest))
    assert (found["least"], found["most"]) == pytest.approx((min(rest), max(rest)))
    assert found["difference"] == pytest.approx(value - np.mean(rest))
    assert found["low"] < value < found["high"]
    assert 0 < found["difference_low"] < found["difference"] < found["difference_high"]


def test_a_relative_error_is_compared_with_another_column_of_the_same_table():
    table = errors(0.25, 0) | {"loud": errors(0.16, 1)["left"]}
    measure = controls.Measure("left", "there", np.sqrt)
    draws = source_draws(np.arange(N))
    found = controls.compare(table, [table], measure, draws, against="loud")
    loud = np.sqrt(table["loud"].sum() / table["there"].sum())
    assert found["others"] == found["least"] == found["most"] == pytest.approx(loud)
    gaps = [
        np.sqrt((one @ table["left"]) / (one @ table["there"]))
        - np.sqrt((one @ table["loud"]) / (one @ table["there"]))
        for one in draws
    ]
    expected = np.percentile(gaps, [2.5, 97.5])
    assert (found["difference_low"], found["difference_high"]) == pytest.approx(tuple(expected))


def test_an_interval_is_wider_over_few_recordings_and_over_seeds_that_differ():
    def width(table, others, sources):
        found = controls.compare(table, others, R2, source_draws(sources))
        return found["difference_high"] - found["difference_low"]

    table, alike = errors(0.4, 0), [errors(0.5, 1)] * 5
    apart = [errors(share, 1) for share in (0.3, 0.4, 0.5, 0.6, 0.7)]
    each, few = np.arange(N), np.repeat(np.arange(N // 10), 10)
    blocks = np.repeat(np.random.default_rng(3).lognormal(0, 0.3, N // 10), 10)
    uneven = table | {"left": table["left"] * blocks}
    assert width(uneven, alike, few) > 1.5 * width(uneven, alike, each)
    assert width(table, apart, each) > 1.5 * width(table, alike, each)


def test_a_network_like_the_others_is_seldom_called_different():
    """Ten exchangeable seeds: a 95 % interval that leaves out 0 far more often would be wrong."""
    draws, wrong, n_sets = source_draws(np.arange(N), 400), 0, 200
    for seed in range(n_sets):
        rng = np.random.default_rng(seed)
        clips = rng.lognormal(0, 0.3, N)  # hard for every network
        shares = 0.5 + 0.004 * rng.standard_normal(11)
        there = np.ones(N)
        networks = [
            {"left": share * clips * rng.lognormal(0, 0.1, N), "there": there} for share in shares
        ]
        found = controls.compare(networks[0], networks[1:], R2, draws)
        wrong += found["difference_low"] > 0 or found["difference_high"] < 0
    assert wrong <= scipy.stats.binom.ppf(0.999, n_sets, 0.10)


def tables(shares, seed):
    return {f"conv_block{i}": errors(share, seed + i) for i, share in enumerate(shares, 1)}


def test_layers_and_what_is_said_of_them():
    trained = tables((0.2, 0.5, 0.8), 0)
    others = [tables((0.5, 0.5, 0.5), 10 * seed) for seed in range(1, 6)]
    compared = controls.compare_layers(trained, others, R2, source_draws(np.arange(N)))
    assert list(compared.index) == list(trained)
    assert controls.in_words(compared, "more", "less") == (
        "more in block 1, less in block 3, no measurable difference in block 2"
    )
    first = compared.iloc[[0, 0]].set_axis(["conv_block1", "conv_block2"])
    assert controls.in_words(first, "more", "less") == "more in every block"
    both = pd.concat([first, compared.iloc[2:]])
    assert controls.in_words(both, "more", "less") == "more in blocks 1 and 2, less in block 3"
    assert controls.verdict(-1, 1, "more", "less") == controls.NOTHING


def test_components_come_in_order_and_end_with_all_atoms():
    names = {2: "ridge, 2 components", 4: "ridge, 4 components", 6: level_free.RIDGE}
    table = {name: errors(0.5, n)["left"] for n, name in names.items()}
    table |= {level_free.components(level_free.FEW): errors(0.1, 0)["left"]}  # of a wider layer
    table |= {level_free.MEAN_SHAPE: errors(0.5, 0)["there"]}
    found = controls.compare_components(table, [table], 6, source_draws(np.arange(N)))
    assert list(found.index) == [2, 4, 6]
    for n, name in names.items():
        assert found.value[n] == pytest.approx(
            1 - table[name].sum() / errors(0.5, 0)["there"].sum()
        )
    assert (found.difference == 0).all()


def test_a_match_is_compared_with_that_of_other_networks_source_for_source():
    rng = np.random.default_rng(0)
    cosine = pd.Series(rng.uniform(0.5, 1, 12))
    others = [cosine - 0.2 + 0.05 * pd.Series(rng.standard_normal(12)) for _ in range(5)]
    found, words = controls.compare_matches(cosine, others)
    assert words == "a better match"
    assert found.trained - found.untrained == pytest.approx(found.difference)
    assert found.low < found.difference < found.high
    assert controls.compare_matches(others[0], [cosine])[1] == "a worse match"
    noisy = [cosine + 0.2 * pd.Series(rng.standard_normal(12)) for _ in range(3)]
    assert controls.compare_matches(cosine, noisy)[1] == "no measurable difference"
