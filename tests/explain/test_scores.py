"""Scores of explanations: by hand and against other implementations; how they are read; tables."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from esc_lib.explain import scores
from esc_lib.explain.scores import FIVE, SCORES

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


@pytest.mark.parametrize("score", SCORES.values(), ids=lambda s: s.name)
def test_every_score_says_which_side_is_better(score):
    arrow = {"higher": " ↑", "lower": " ↓", "neither": ""}[score.better]
    assert score.heading == score.name + arrow
    values = pd.Series({"low": 0.1, "high": 0.2})
    assert score.best(values) == ("low" if score.better == "lower" else "high")
    assert score.range[0] < score.range[1] and score.label


def test_a_better_explanation_has_better_scores_within_their_ranges():
    rows = {"p": 0.6, "energy": 0.5, "complexity": 7.0, "sparseness": 0.2, "gain_wrong": 0.1}
    rows |= {"si_sdr_input": 0.0}
    worse = rows | {"o": 0.3, "m": 0.7, "same": False, "turned": True, "si_sdr": -2.0}
    better = rows | {"o": 0.9, "m": 0.1, "same": True, "turned": False, "si_sdr": 3.0}
    worse |= {"precision": 0.3, "pointed": 0, "stays": 0.2, "kept": -3.0, "lost": 0.2}
    better |= {"precision": 0.8, "pointed": 1, "stays": 0.9, "kept": -0.1, "lost": -2.0}
    for score in SCORES.values():
        if score.better != "neither" and score.name not in ("SPS", "COMP"):
            pair = [score(pd.DataFrame([each]))[0] for each in (worse, better)]
            pair = pd.Series(pair, ["worse", "better"])
            assert score.best(pair) == "better" and pair.nunique() == 2, score.name
            assert pair.between(*score.range).all(), score.name


def test_gain_is_the_change_of_clipped_log_odds():
    table = pd.DataFrame({"p": [0.5, 0.2, 1e-9, 0.5], "o": [0.9, 0.2, 0.5, 1.0]})
    expected = [np.log(9), 0, np.log(999), np.log(999)]
    np.testing.assert_allclose(scores.gain(table), expected, rtol=1e-6)


def test_specificity_is_what_the_own_class_gains_above_a_wrong_one():
    table = pd.DataFrame({"p": [0.5], "o": [0.9], "gain_wrong": [1.5]})
    np.testing.assert_allclose(SCORES["specificity"](table), [np.log(9) - 1.5])


def test_average_precision_counts_heard_points_only():
    maps, wanted = random_maps(8).abs(), random_maps(9) > 0.5
    heard = random_maps(10) > -0.5
    wanted &= heard
    wanted[4] = False
    found = scores.average_precision(maps, wanted, heard)
    for clip in range(4):  # mean over wanted points of the share of wanted ones ranked above
        values, right = maps[clip][heard[clip]], wanted[clip][heard[clip]]
        order = right[values.argsort(descending=True)].double()
        at = order.cumsum(0) / torch.arange(1, len(order) + 1)
        assert float(found[clip]) == pytest.approx(float(at[order.bool()].mean()))
    assert found[4].isnan()
    even = scores.average_precision(torch.ones_like(maps), wanted, heard)
    chance = wanted.sum(dim=(1, 2)) / heard.sum(dim=(1, 2))
    torch.testing.assert_close(even[:4].float(), chance[:4])


def test_what_a_second_judge_says_is_read_by_its_name():
    table = pd.DataFrame({"gain forest": [1.5, -1], "class forest": [2, 0], "label": [2, 1]})
    assert scores.judges_in(table) == ["forest"]
    assert scores.of_judge("forest")(table).tolist() == [1.5, -1]
    assert scores.right_by("forest")(table).tolist() == [100, 0]


def test_a_shown_table_points_to_the_better_side():
    table = pd.DataFrame({"AD": [1.0], "COMP": [2.0], "energy": [np.nan], "criterion": [3.0]})
    html = scores.shown(table).to_html()
    assert "AD ↓" in html and "COMP ↓" in html and "energy<" in html and "nan" not in html


# ----------------------------------------------------------------------------------------- tables


def judged(n=60, methods=("a", "b"), condition="clean", seed=0):
    rng = np.random.default_rng(seed)
    rows = {key: rng.random(n) for key in ("p", "o", "m", "energy", "sparseness")}
    rows |= {"complexity": 5 * rng.random(n), "same": rng.random(n) > 0.3, "network": "full"}
    rows |= {"source": rng.integers(0, 15, n), "method": np.resize(methods, n), "fold": 1}
    return pd.DataFrame(rows).assign(condition=condition, row=np.arange(n) // len(methods))


SHOWN = (*FIVE, SCORES["energy"], SCORES["SPS"], SCORES["COMP"])


def test_summary_means_and_intervals():
    rows = judged(methods=("z", "a"))
    found = scores.summary(rows, SHOWN)
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
    assert found["AI", "n"].tolist() == [30, 30]
    pd.testing.assert_frame_equal(found, scores.summary(rows, SHOWN))


def test_an_interval_knows_that_clips_of_a_recording_go_together():
    rows = judged(200, ("a",))
    together = rows.assign(source=np.repeat(np.arange(10), 20), energy=np.repeat(np.arange(10), 20))
    apart = together.assign(source=np.arange(200))
    wide, narrow = (
        float((found["energy", "high"] - found["energy", "low"]).iloc[0])
        for found in (scores.summary(each, SHOWN) for each in (together, apart))
    )
    assert wide / narrow == pytest.approx(20**0.5, rel=0.15)


def test_clips_whose_score_is_not_known_are_left_out():
    rows = judged(40, ("a", "b"))
    rows.loc[rows.index[:20], "energy"] = np.nan
    rows.loc[rows.method == "b", "energy"] = np.nan
    found = scores.summary(rows, [SCORES["energy"]])["energy"]
    assert found.n.tolist() == [10, 0]
    assert found["mean"]["a"] == pytest.approx(rows[rows.method == "a"].energy.mean())
    assert found.loc["b", ["mean", "low", "high"]].isna().all()


def test_methods_are_compared_clip_by_clip():
    rows = judged(90, ("a", "b", "c"))
    of = {name: t.set_index("row") for name, t in rows.groupby("method")}
    rows = rows.drop(rows[(rows.method == "c") & (rows.row > 19)].index).sample(frac=1.0)
    found = scores.against(rows, "b", SHOWN)
    assert set(found.index) == {"a", "c"}
    for name, n in (("a", 30), ("c", 20)):
        expected = (of[name].energy - of["b"].energy)[:n]
        assert found.loc[name, ("energy", "mean")] == pytest.approx(expected.mean())
        assert found.loc[name, ("energy", "n")] == n
        assert found.loc[name, ("energy", "low")] < expected.mean()
    same = rows[rows.method == "b"].assign(method="twin")
    none = scores.against(pd.concat([rows, same]), "b", SHOWN).loc["twin"]
    assert (none.xs("mean", level=1) == 0).all() and (none.xs("high", level=1) == 0).all()


def test_criterion_by_hand():
    rows = pd.DataFrame(
        {
            "p": [0.8, 0.5, 0.5], "o": [0.9, 0.25, 0.5], "m": [0.3, 0.5, 0.1],
            "same": [True, False, True],
        }
    )  # fmt: skip
    expected = [1 + 0.5 + 0.5 + 1, -0.5, 0.4 + 1]
    np.testing.assert_allclose(SCORES["criterion"](rows), expected)
