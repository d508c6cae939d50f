"""Scores of explanations: by hand, against other implementations, on a classifier with a reason."""

import numpy as np
import pytest
import scipy.stats
import torch
from two_bands import FRONT_END, HIGH, LOW, LouderBand, mask_of, tones

from esc_lib.explain import scores
from esc_lib.explain.checks import by_rank, curve, fills
from esc_lib.explain.comparison import judge, probabilities
from esc_lib.explain.inputs import Inputs
from esc_lib.explain.masks import cut_out
from esc_lib.explain.table import SCORES
from esc_lib.sound.log_mel import LogMel

P, O, M = np.array([0.8, 0.8, 0.5]), np.array([0.9, 0.2, 0.5]), np.array([0.1, 0.9, 0.5])  # noqa: E741


def random_maps(seed=0, shape=(5, 8, 9)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------------------- by hand


def test_increase_drop_gain_and_faithfulness_by_hand():
    assert scores.increase(P, O).tolist() == [100, 0, 0]
    np.testing.assert_allclose(scores.drop(P, O), [0, 75, 0])
    np.testing.assert_allclose(scores.gain(P, O), [50, 0, 0])
    np.testing.assert_allclose(scores.faithfulness(P, M), [0.7, -0.1, 0])


def test_certainty_cannot_gain():
    assert scores.gain(np.array([1.0]), np.array([1.0])).tolist() == [0]


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
    p, o = (scores.softmax_again(each)[:, 0].numpy() for each in (given, left))
    assert scores.drop(p, o)[0] == pytest.approx(ceiling, abs=0.05)
    by_hand = 1 - (1 / sum(np.exp([0, *others]))) / (np.e / (np.e + 49))
    assert scores.drop(p, o)[0] == pytest.approx(100 * by_hand)


def test_no_probabilities_have_a_larger_drop_with_the_softmax_taken_twice():
    logits = 8 * torch.randn(2, 20_000, 50, generator=torch.Generator().manual_seed(0)).double()
    p, o = (scores.softmax_again(each.softmax(dim=1))[:, 0].numpy() for each in logits)
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


# ------------------------------------------------------------------- on a classifier with a reason

FULL, EMPTY = torch.ones_like(mask_of(LOW)), torch.zeros_like(mask_of(LOW))
EXPECTED = {  # p = 0.8; o and m are 0.99 or 0.01 where one band is left, 0.8 or 0.2 for both
    "the band it reads": (mask_of(LOW), 0.99, 0.01, [100, 0, 95, 0.79, 1]),
    "all but that band": (1 - mask_of(LOW), 0.01, 0.99, [0, 98.75, 0, -0.19, 0]),
    "the other band": (mask_of(HIGH), 0.01, 0.99, [0, 98.75, 0, -0.19, 0]),
    "all": (FULL, 0.8, 0.5, [0, 0, 0, 0.3, 1]),
    "nothing": (EMPTY, 0.5, 0.8, [0, 37.5, 0, 0, 1]),
    "half the level": (0.5 * FULL, 0.8, 0.8, [0, 0, 0, 0, 1]),
}


@pytest.fixture(scope="module")
def front_end():
    return LogMel(FRONT_END)


def judged(front_end, inputs, mask):
    model = LouderBand().eval()
    given = probabilities(model, front_end, inputs.waveforms, inputs.n_valid)
    return judge(model, front_end, inputs, given, mask)


@pytest.mark.parametrize("kept", EXPECTED)
def test_scores_of_masks_by_hand(kept, front_end):
    mask, o, m, expected = EXPECTED[kept]
    table = judged(front_end, tones(0.4, 0.2), mask)
    (row,) = table.itertuples()
    assert (row.p, row.o, row.m) == pytest.approx((0.8, o, m), abs=1e-6)
    found = [float(SCORES[name](table)[0]) for name in ("AI", "AD", "AG", "FF", "Fid-In")]
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_other_class_is_explained_by_the_other_band(front_end):
    table = judged(front_end, tones(0.05, 0.4), mask_of(HIGH))
    assert (table.p[0], table.o[0], table.m[0]) == pytest.approx((0.8, 0.99, 0.01), abs=1e-6)
    again = judged(front_end, tones(0.05, 0.4), mask_of(LOW))
    assert not again.same[0] and again.o[0] == pytest.approx(0.01, abs=1e-6)


def test_judge_of_the_mask_and_of_the_recipe(front_end):
    table = judged(front_end, tones(0.4, 0.2), mask_of(LOW))
    two = np.exp([0.8, 0.2]) / np.exp([0.8, 0.2]).sum()
    assert table.p_twice[0] == pytest.approx(two[0], abs=1e-6)
    assert table.o_twice[0] == pytest.approx(1 / (1 + np.exp(0.01 - 0.99)), abs=1e-6)
    assert table.energy[0] == pytest.approx(0.8, abs=0.01)  # 0.4**2 of 0.4**2 + 0.2**2
    assert table.sparseness[0] == pytest.approx(1 - 5 / 32, abs=1e-5)  # five bands of 32 are 1
    assert table.complexity[0] == pytest.approx(np.log(5 * FRONT_END.n_frames), abs=1e-4)
    assert "si_sdr" not in table


def test_judge_lifts_the_wanted_sound_out_of_a_mixture(front_end):
    low, high = tones(0.4, 0.0), tones(0.0, 0.4)
    mixed = low.waveforms + high.waveforms
    inputs = Inputs("mixed", low.rows, mixed, low.n_valid, low.waveforms, high.waveforms)
    found = {kept: judged(front_end, inputs, mask) for kept, (mask, *_) in EXPECTED.items()}
    assert found["all"].si_sdr_input[0] == pytest.approx(0, abs=0.1)  # as loud as each other
    assert found["all"].si_sdr[0] == pytest.approx(0, abs=0.1)
    assert found["the band it reads"].si_sdr[0] > 20
    assert found["the other band"].si_sdr[0] < -20


# ---------------------------------------------------------------------------------- other checks


def test_by_rank_keeps_the_right_number_and_the_highest():
    heat = torch.rand(2, 6, 10, generator=torch.Generator().manual_seed(0))
    for kept in (0, 0.1, 0.5, 1):
        mask = by_rank(heat, kept)
        assert mask.shape == heat.shape and mask.sum(dim=(1, 2)).tolist() == [60 * kept] * 2
        for one, points in zip(heat, mask.bool(), strict=True):
            assert kept in (0, 1) or one[points].min() > one[~points].max()
    assert by_rank(torch.zeros(1, 4, 4), 0.25).sum() == 4  # ties too


@pytest.fixture(scope="module")
def heat():
    """Return an order of points: the band that decides first, the other one last."""
    return (mask_of(LOW) - mask_of(HIGH)) * 100 + torch.arange(32.0)[None, :, None]


@pytest.mark.parametrize(
    ("insert", "reverse", "first", "between", "last"),
    [
        (True, False, 0.5, 0.99, 0.8),  # at the top at once, until the other band comes
        (True, True, 0.5, 0.01, 0.8),  # the band comes at the very end
        (False, False, 0.8, 0.01, 0.5),
        (False, True, 0.8, 0.99, 0.5),
    ],
)
def test_insertion_and_deletion_by_hand(insert, reverse, first, between, last, heat, front_end):
    inputs, targets = tones(0.4, 0.2), torch.tensor([0])
    order = -heat if reverse else heat
    steps = {"insert": insert, "n_steps": 5}  # a fifth of the points is more than one band
    (found,) = curve(LouderBand(), front_end, inputs, targets, order, **steps)
    np.testing.assert_allclose(found, [first, *[between] * 4, last], atol=1e-6)
    by_hand = (first / 2 + 4 * between + last / 2) / 5
    assert scores.area(found) == pytest.approx(by_hand, abs=1e-6)
    (other,) = curve(LouderBand(), front_end, inputs, 1 - targets, order, **steps)
    np.testing.assert_allclose(other, 1 - found, atol=1e-6)


def test_insertion_of_all_points_gives_the_probability_of_the_input(heat, front_end):
    inputs = tones(0.4, 0.2)
    whole = cut_out(front_end, inputs.waveforms, FULL)
    torch.testing.assert_close(whole, inputs.waveforms, rtol=0, atol=1e-6)
    (found,) = curve(LouderBand(), front_end, inputs, torch.tensor([0]), heat, insert=True)
    given = probabilities(LouderBand(), front_end, inputs.waveforms, inputs.n_valid)
    assert found.shape == (9,) and found[-1] == pytest.approx(float(given[0, 0]), abs=1e-6)


def test_fills(front_end):
    masks = {"band": 0.9 * mask_of(LOW), "full": FULL}
    found = fills(
        LouderBand(), front_end, tones(0.4, 0.2), masks, floors_db=(-np.inf, -6.0, 0.0)
    ).set_index(["method", "mask", "floor (dB)"])
    assert len(found) == 12
    full = [0, 0, 0, 0.3, 1]
    for method in masks:  # nothing is taken out
        for kind in ("soft", "binary"):
            assert found.loc[method, kind, 0.0].tolist() == pytest.approx(full, abs=1e-4)
    kept = found.loc["band", "binary", -np.inf]
    assert kept.tolist() == pytest.approx([100, 0, 95, 0.79, 1], abs=1e-4)
    soft = found.loc["band", "soft", -6.0]  # the other band sounds too, at half its level
    assert soft[["AI", "AD", "AG", "Fid-In"]].tolist() == pytest.approx([0, 0, 0, 1], abs=1e-4)
