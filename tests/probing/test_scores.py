"""Scores of clips to values, intervals and comparisons, against loops."""

import numpy as np
import pandas as pd
import pytest

from esc_lib.evaluation.intervals import mean_interval, source_draws
from esc_lib.probing import scores

RNG = np.random.default_rng(0)
CLIPS = pd.DataFrame({"filename": [f"{i}.wav" for i in range(12)], "source": np.arange(12) // 2})


def tables():
    """Return tables as of two networks, each of two seeds."""
    found = {name: [] for name in ("held", "meanings", "effects", "classes", "clips")}
    for network in ("trained", "random"):
        for seed in (0, 1):
            label = {"network": network, "seed": seed}
            n, better = len(CLIPS), 0.3 * (network == "trained")
            found["meanings"] += [
                CLIPS.assign(basis=basis, dictionary=name, units=4, own=RNG.random(n) + better,
                             dealt=RNG.random(n), **label)
                for basis, name in (("channels", "optimum"), ("sparse 1x", "optimum"))
            ]  # fmt: skip
            found["effects"].append(CLIPS.assign(
                basis="channels", units=4, own=RNG.random(n), dealt=RNG.random(n),
                activation=RNG.random(n), **label))  # fmt: skip
            found["held"] += [
                CLIPS.assign(basis="channels", measure=measure, total=1 + RNG.random(n),
                             residual=RNG.random(n), dealt=RNG.random(n),
                             dealt_total=1 + RNG.random(n), **label)
                for measure in ("layer", "spectrum")
            ]  # fmt: skip
            for order, own in (("by effect", 0.6), ("random", 0.5)):
                found["classes"].append(pd.DataFrame({
                    "basis": "channels", "order": order, "class": [0, 1, 2],
                    "needed": [2, 4, np.nan], "units": 8, "before": [1.0, 1.0, 1.0],
                    "after": [1 - own, 1 - own, 1.0], **label,
                }))  # fmt: skip
                found["clips"].append(CLIPS.assign(
                    basis="channels", order=order, before=True, after=RNG.random(n), **label
                ))  # fmt: skip
    return {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}


@pytest.fixture(scope="module")
def given():
    return tables()


@pytest.fixture(scope="module")
def by_clip(given):
    return scores.by_clip(given)


def test_a_clip_counts_once_with_all_its_networks(by_clip):
    assert (by_clip.groupby(scores.KEYS).size() == len(CLIPS)).all()


def test_a_mean_and_its_interval_are_those_of_clips(given, by_clip):
    value = scores.values(by_clip).loc["meaning", "optimum", "trained", "own"]
    table = given["meanings"].query("network == 'trained' and basis == 'channels'")
    mean = table.groupby(["filename", "source"], sort=False).own.mean()
    draws = source_draws(mean.index.get_level_values("source").to_numpy())
    assert tuple(value[:3]) == pytest.approx(mean_interval(mean.to_numpy(), draws))
    assert value.clips == 12


def test_a_share_of_variance_is_of_sums(given, by_clip):
    table = given["held"].query("network == 'random' and measure == 'spectrum'")
    found = scores.values(by_clip)
    own = found.loc["spectrum", "channels", "random", "own"].value
    assert own == pytest.approx(1 - table.residual.sum() / table.total.sum())
    dealt = found.loc["spectrum", "channels", "random", "dealt"].value
    assert dealt == pytest.approx(1 - table.dealt.sum() / table.dealt_total.sum())


def test_a_lost_class_is_weighed_against_what_the_others_lose(given, by_clip):
    table = given["clips"].query("network == 'trained' and order == 'by effect'")
    value = scores.values(by_clip).loc["erasing", "channels", "trained", "own"].value
    # a class that was never lost says nothing: the two others fell by 0.6
    assert value == pytest.approx(1 - (1 - table.after).mean() / 0.6)


def test_a_comparison_is_of_the_same_clips(given, by_clip):
    one, other = (("meaning", "optimum", network, "own") for network in ("trained", "random"))
    found = scores.compare(by_clip, one, other)
    own = given["meanings"].query("basis == 'channels'")
    mean = own.groupby(["filename", "source", "network"], sort=False).own.mean().unstack()
    gap = (mean.trained - mean.random).reindex(CLIPS.filename, level="filename")
    draws = source_draws(gap.index.get_level_values("source").to_numpy())
    expected = mean_interval(gap.to_numpy(), draws)
    assert (found.difference, found.low, found.high) == pytest.approx(expected)
    assert found.value - found.control == pytest.approx(found.difference)
    assert found.clips == 12


def test_units_needed_are_a_share_with_an_interval_over_classes(given):
    found = scores.needed(given["classes"])
    row = found.loc["trained", "channels", "by effect"]
    assert row.value == pytest.approx(100 * (2 + 4) / 2 / 8) and row.classes == 2
    assert row.low == 25 and row.high == 50


def test_units_found_again_are_averaged_over_pairs_draw_by_draw():
    parts = [
        pd.DataFrame({
            "basis": "channels", "fold": fold, "draw": np.arange(101), "bar": 0.4, "units": 10,
            "trained": 0.5 + 0.01 * RNG.normal(size=101) + fold / 10, "correlation": 0.5,
            "untrained": 0.01, "by_chance": 0.2,
        })
        for fold in (1, 2)
    ]  # fmt: skip
    row = scores.stable(pd.concat(parts)).loc["channels"]
    gap = sum(part.trained - part.untrained for part in parts) / 2
    assert row.difference == pytest.approx(gap[0])
    assert (row.low, row.high) == pytest.approx(tuple(np.percentile(gap[1:], [2.5, 97.5])))


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.1, 0.3, "beats"), (-0.1, 0.3, "does not beat"), (-0.3, -0.1, "is worse than")],
)
def test_a_verdict_is_where_the_interval_lies(low, high, words):
    assert scores.verdict(pd.Series({"low": low, "high": high})) == words
