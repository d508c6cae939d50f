"""Scores of explanations: by hand and against other implementations; how they are read; tables."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from esc_lib.explain import scores
from esc_lib.explain.scores import DELETION, FIVE, INSERTION, SCORES

P, O, M = np.array([0.8, 0.8, 0.5]), np.array([0.9, 0.2, 0.5]), np.array([0.1, 0.9, 0.5])  # noqa: E741


def random_maps(seed=0, shape=(5, 8, 9)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------------------- by hand


def test_increase_drop_gain_and_faithfulness_by_hand():
    table = pd.DataFrame({"p": P, "o": O, "m": M})
    assert SCORES["AI"](table).tolist() == [100, 0, 0]
    np.testing.assert_allclose(SCORES["AD"](table), [0, 75, 0])
    np.testing.assert_allclose(SCORES["AG"](table), [50, 0, 0])
    np.testing.assert_allclose(SCORES["FF"](table), [0.7, -0.1, 0])


def test_certainty_cannot_gain():
    assert SCORES["AG"](pd.DataFrame({"p": [1.0], "o": [1.0]})).tolist() == [0]


@pytest.mark.parametrize(
    ("others", "ceiling"),
    [([1 / 49] * 49, 62.7), ([1.0] + [0.0] * 48, 63.2)],
    ids=["all others alike", "certain of another"],
)
def test_a_drop_with_the_softmax_taken_twice_has_a_ceiling(others, ceiling):
    given = torch.zeros(1, 50, dtype=torch.float64)
    given[0, 0] = 1
    left = torch.tensor([[0.0, *others]], dtype=torch.float64)
    assert scores.drop(given[:, 0].numpy(), left[:, 0].numpy()) == [100]
    p, o = (each.softmax(dim=1)[:, 0].numpy() for each in (given, left))
    assert scores.drop(p, o)[0] == pytest.approx(ceiling, abs=0.05)
    by_hand = 1 - (1 / sum(np.exp([0, *others]))) / (np.e / (np.e + 49))
    assert scores.drop(p, o)[0] == pytest.approx(100 * by_hand)


def test_no_probabilities_have_a_larger_drop_with_the_softmax_taken_twice():
    logits = 8 * torch.randn(2, 20_000, 50, generator=torch.Generator().manual_seed(0)).double()
    p, o = (each.softmax(dim=1).softmax(dim=1)[:, 0].numpy() for each in logits)
    assert 40 < scores.drop(p, o).max() <= 100 * (1 - 1 / np.e)


# ---------------------------------------------------------------------- against other definitions


def test_sparseness_is_half_the_relative_mean_absolute_difference():
    maps = random_maps()
    for found, values in zip(scores.sparseness(maps), maps.abs().flatten(1).double(), strict=True):
        differences = (values[:, None] - values).abs().mean()
        assert float(found) == pytest.approx(float(differences / (2 * values.mean())), rel=1e-5)


def test_sparseness_and_complexity_of_one_point_and_of_an_even_map():
    one_hot, even = torch.zeros(1, 4, 5), torch.full((1, 4, 5), 0.3)
    one_hot[0, 2, 1] = 0.7
    maps = torch.cat([one_hot, even, torch.zeros(1, 4, 5)])
    np.testing.assert_allclose(scores.sparseness(maps), [1 - 1 / 20, 0, 0], atol=1e-6)
    np.testing.assert_allclose(scores.complexity(maps), [0, np.log(20), 0], atol=1e-6)


def test_complexity_is_the_entropy():
    maps = random_maps(1)
    expected = scipy.stats.entropy(maps.abs().flatten(1).numpy(), axis=1)
    np.testing.assert_allclose(scores.complexity(maps), expected, rtol=1e-5)
    np.testing.assert_allclose(scores.complexity(100 * maps), expected, rtol=1e-5)


def test_si_sdr_equals_torchmetrics():
    audio = pytest.importorskip("torchmetrics.functional.audio")
    estimate, target = random_maps(2, (4, 500)) + 0.2, random_maps(3, (4, 500))
    estimate[1:] += target[1:] * torch.tensor([[0.5], [3.0], [-20.0]])
    expected = audio.scale_invariant_signal_distortion_ratio(
        estimate.double(), target.double(), zero_mean=False
    )
    found = scores.si_sdr(estimate, target)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores.si_sdr(-7 * estimate, target), found, rtol=1e-4, atol=1e-4)


def test_si_sdr_by_hand():
    target = torch.tensor([[1.0, 1.0, 0.0]] * 4)
    estimate = torch.tensor([[2.0, 2.0, 0.2], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [5.0, 5.0, 0.0]])
    found = scores.si_sdr(estimate, target)
    assert float(found[0]) == pytest.approx(10 * np.log10(8 / 0.04), abs=1e-3)
    assert found[1] == found[2] == -torch.inf
    assert found[3] > 200


def test_kept_energy():
    clips = torch.ones(3, 10)
    sounds = torch.stack([0.5 * clips[0], 0 * clips[1], clips[2]])
    assert scores.kept_energy(sounds, clips).tolist() == [0.25, 0, 1]
    assert scores.kept_energy(0 * clips, 0 * clips).tolist() == [0, 0, 0]


def test_area_under_known_curves():
    share = np.linspace(0, 1, 9)
    assert scores.area(np.stack([np.ones(9), share, 1 - share])).tolist() == [1, 0.5, 0.5]
    assert scores.area(np.array([0.0, 1, 1, 1, 1])) == 0.875
    np.testing.assert_allclose(scores.area(share**2), np.trapezoid(share**2, share))


def test_similarity_is_spearmans_correlation():
    one, other = random_maps(4).round(decimals=1), random_maps(5).round(decimals=1)  # has ties
    other[1] = one[1].exp()
    other[2] = -one[2]
    expected = [
        scipy.stats.spearmanr(a.flatten(), b.flatten()).statistic
        for a, b in zip(one, other, strict=True)
    ]
    found = scores.similarity(one, other)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(found[1:3], [1, -1])
    one[3] = 0.5
    assert scores.similarity(one, other)[3] == 0


def test_correlation_of_two_maps_is_known():
    first = np.random.default_rng(0).random((5, 6, 9))
    noise = np.random.default_rng(1).random((6, 9))
    noise -= noise.mean()
    centred = first[4] - first[4].mean()
    noise -= centred * (noise * centred).sum() / (centred**2).sum()  # orthogonal to the map
    second = np.stack([3 * first[0] + 1, 1 - first[1], np.zeros((6, 9)), first[3], noise])
    first[3] = 0.3  # constant, and not exactly its own mean
    found = scores.map_correlations(first.astype(np.float32), second.astype(np.float32))
    np.testing.assert_allclose(found, [1, -1, np.nan, np.nan, 0], atol=1e-6)


# --------------------------------------------------------------------------- how they are read


@pytest.mark.parametrize("score", [*SCORES.values(), INSERTION, DELETION], ids=lambda s: s.name)
def test_every_score_says_which_side_is_better(score):
    arrow = {"higher": " ↑", "lower": " ↓", "neither": ""}[score.better]
    assert score.heading == score.name + arrow
    values = pd.Series({"low": 0.1, "high": 0.2})
    assert score.best(values) == ("low" if score.better == "lower" else "high")
    assert score.range[0] < score.range[1] and score.label


def test_a_better_explanation_has_better_scores_within_their_ranges():
    rows = {"p": 0.6, "p_twice": 0.6, "energy": 0.5, "complexity": 7.0, "sparseness": 0.2}
    worse = pd.DataFrame([rows | {"o": 0.3, "o_twice": 0.5, "m": 0.7, "same": False}])
    better = pd.DataFrame([rows | {"o": 0.9, "o_twice": 0.7, "m": 0.1, "same": True}])
    for score in (*FIVE, SCORES["AD, softmax twice"]):
        pair = pd.Series({"worse": score(worse)[0], "better": score(better)[0]})
        assert score.best(pair) == "better" and pair.nunique() == 2
        assert pair.between(*score.range).all()
    assert scores.criterion(better.assign(condition="clean")) > scores.criterion(
        worse.assign(condition="clean")
    )


def test_a_shown_table_points_to_the_better_side():
    table = pd.DataFrame({"AD": [1.0], "COMP": [2.0], "energy": [np.nan], "criterion": [3.0]})
    html = scores.shown(table).to_html()
    assert "AD ↓" in html and "COMP ↓" in html and "energy<" in html and "nan" not in html


# ----------------------------------------------------------------------------------------- tables


def judged(n=60, methods=("a", "b"), condition="clean", seed=0):
    rng = np.random.default_rng(seed)
    rows = {key: rng.random(n) for key in ("p", "o", "m", "p_twice", "o_twice", "energy")}
    rows |= {
        "sparseness": rng.random(n),
        "complexity": 5 * rng.random(n),
        "same": rng.random(n) > 0.3,
    }
    rows |= {"source": rng.integers(0, 15, n), "method": np.resize(methods, n)}
    return pd.DataFrame(rows).assign(condition=condition)


def test_summary_means_and_intervals():
    rows = judged(methods=("z", "a"))
    found = scores.summary(rows)
    assert list(found.index) == ["z", "a"]
    by_method = rows.assign(
        AI=100.0 * (rows.o > rows.p),
        AD=100 * (rows.p - rows.o).clip(lower=0) / rows.p,
        AG=100 * (rows.o - rows.p).clip(lower=0) / (1 - rows.p),
        FF=rows.p - rows.m,
    ).groupby("method", sort=False)
    names = {"AI": "AI", "AD": "AD", "AG": "AG", "FF": "FF", "Fid-In": "same", "energy": "energy"}
    for name, column in (names | {"SPS": "sparseness", "COMP": "complexity"}).items():
        np.testing.assert_allclose(found[name, "mean"], by_method[column].mean())
        assert (found[name, "low"] < found[name, "mean"]).all()
        assert (found[name, "mean"] < found[name, "high"]).all()
    assert found["clips", "n"].tolist() == [30, 30]
    pd.testing.assert_frame_equal(found, scores.summary(rows))


def test_an_interval_knows_that_clips_of_a_recording_go_together():
    rows = judged(200, ("a",))
    together = rows.assign(source=np.repeat(np.arange(10), 20), energy=np.repeat(np.arange(10), 20))
    apart = together.assign(source=np.arange(200))
    wide, narrow = (
        float((found["energy", "high"] - found["energy", "low"]).iloc[0])
        for found in map(scores.summary, (together, apart))
    )
    assert wide / narrow == pytest.approx(20**0.5, rel=0.15)


def test_criterion_by_hand():
    rows = pd.DataFrame(
        {
            "condition": ["clean", "clean", "noisy"], "p": [0.8, 0.5, 0.5], "o": [0.9, 0.25, 0.5],
            "m": [0.3, 0.5, 0.1], "same": [True, False, True],
        }
    )  # fmt: skip
    clean = (50 + 25 - 25) / 100 + 0.25 + 0.5
    noisy = 0.4 + 1
    assert scores.criterion(rows) == pytest.approx((clean + noisy) / 2)


def test_separation_by_hand():
    rows = pd.DataFrame(
        {
            "method": ["b", "b", "b", "a", "a"], "condition": ["mix", "mix", "mix", "mix", "clean"],
            "label": [0, 1, 1, 0, 0], "predicted": [0, 1, 0, 0, 0],
            "si_sdr": [6.0, 3.0, 99.0, 1.0, np.nan], "si_sdr_input": [1.0, -1.0, 0.0, 2.0, np.nan],
        }
    )  # fmt: skip
    found = scores.separation(rows)
    assert found.index.tolist() == ["b", "a"] and found.columns.tolist() == ["mix"]
    assert found.mix.tolist() == [4.5, -1.0]


def test_ranking_compares_on_the_same_clips():
    rows = pd.concat(
        [
            judged(12, ("ours", "partly"), condition).assign(fold=1, row=np.arange(12) // 2)
            for condition in ("clean", "other clip")
        ]
    )
    rows = rows[(rows.method == "ours") | (rows.row < 4)]
    once = rows[(rows.method == "ours") & (rows.condition == "clean")].assign(method="clean only")
    found = scores.ranking(pd.concat([rows, once]), "ours", pd.Series({"ours": 2.0}))
    assert set(found.index) == {"ours", "partly"}
    assert found.criterion.is_monotonic_decreasing
    assert found.clips.to_dict() == {"ours": 6, "partly": 4}
    assert found["ms per clip"]["ours"] == 2 and np.isnan(found["ms per clip"]["partly"])
    few = rows[(rows.method == "ours") & (rows.row < 4)]
    expected = {"ours": rows[rows.method == "ours"], "partly": few}
    for method, same in expected.items():
        assert found["ours, same clips"][method] == pytest.approx(scores.criterion(same))
