"""Explanations judged: by hand, on a classifier whose reason is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from two_bands import FRONT_END, HIGH, LOW, LouderBand, mask_of, tones

from esc_lib.explain.conditions import Inputs
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.judge import SHARES, budget, by_energy, judge, specificity
from esc_lib.explain.scores import FIVE
from esc_lib.sound.log_mel import LogMel

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
    return judge(Explainer(LouderBand().eval(), front_end, {}, inputs), mask)


@pytest.mark.parametrize("kept", EXPECTED)
def test_scores_of_masks_by_hand(kept, front_end):
    mask, o, m, expected = EXPECTED[kept]
    table = judged(front_end, tones(0.4, 0.2), mask)
    (row,) = table.itertuples()
    assert (row.p, row.o, row.m) == pytest.approx((0.8, o, m), abs=1e-6)
    found = [float(score(table)[0]) for score in FIVE]
    assert all(low <= value <= high for value, (low, high) in zip(found, (s.range for s in FIVE)))
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_other_class_is_explained_by_the_other_band(front_end):
    table = judged(front_end, tones(0.05, 0.4), mask_of(HIGH))
    assert (table.p[0], table.o[0], table.m[0]) == pytest.approx((0.8, 0.99, 0.01), abs=1e-6)
    again = judged(front_end, tones(0.05, 0.4), mask_of(LOW))
    assert not again.same[0] and again.o[0] == pytest.approx(0.01, abs=1e-6)


def test_judge_of_the_mask(front_end):
    table = judged(front_end, tones(0.4, 0.2), mask_of(LOW))
    assert table.energy[0] == pytest.approx(0.8, abs=0.01)  # 0.4**2 of 0.4**2 + 0.2**2
    assert table.sparseness[0] == pytest.approx(1 - 5 / 32, abs=1e-5)  # five bands of 32 are 1
    assert table.complexity[0] == pytest.approx(np.log(5 * FRONT_END.n_frames), abs=1e-4)
    assert "si_sdr" not in table


@pytest.fixture(scope="module")
def mixture():
    """Return both tones at once, as two sounds of different classes."""
    low, high = tones(0.4, 0.0), tones(0.0, 0.3)
    mixed, classes = low.waveforms + high.waveforms, torch.tensor([[0, 1]])
    return Inputs("mixed", low.rows, mixed, low.n_valid, low.waveforms, high.waveforms, classes)


def test_judge_lifts_the_explained_sound_out_of_a_mixture(front_end, mixture):
    found = {kept: judged(front_end, mixture, mask) for kept, (mask, *_) in EXPECTED.items()}
    level_db = 20 * np.log10(0.4 / 0.3)
    assert found["all"].si_sdr_input[0] == pytest.approx(level_db, abs=0.1)
    assert found["all"].si_sdr[0] == pytest.approx(level_db, abs=0.1)
    assert found["the band it reads"].si_sdr[0] > 20
    assert found["the other band"].si_sdr[0] < -20


@pytest.mark.parametrize(("explained", "own"), [(0, LOW), (1, HIGH)])
def test_judge_asks_for_the_sound_that_the_class_is_of(front_end, mixture, explained, own):
    classes = torch.tensor([explained])
    explainer = Explainer(LouderBand().eval(), front_end, {}, mixture, classes)
    other = HIGH if own == LOW else LOW
    right, wrong = (judge(explainer, mask_of(bands)).loc[0] for bands in (own, other))
    assert right.si_sdr > 20 and wrong.si_sdr < -20
    assert right.pointed == 1 and wrong.pointed == 0
    power = [front_end.mel_power(part) for part in (mixture.wanted, mixture.unwanted)]
    both = power[0] + power[1]
    heard = both > both.max() * 1e-8
    own_power, other = power if explained == 0 else power[::-1]
    chance = float(((own_power > other) & heard).sum() / heard.sum())
    constant = judge(explainer, FULL).loc[0]
    assert constant.louder == pytest.approx(chance, abs=1e-6)
    assert constant.precision == pytest.approx(chance, abs=1e-6)
    assert right.precision > chance + 0.1 and wrong.precision < chance + 0.001


def test_a_class_that_is_of_neither_sound_has_no_truth(front_end, mixture):
    other = replace(mixture, classes=torch.tensor([[1, -1]]))
    table = judge(Explainer(LouderBand(), front_end, {}, other, torch.tensor([0])), FULL)
    names = ["si_sdr", "si_sdr_input", "precision", "louder", "pointed"]
    assert table[names].isna().all(axis=None) and table.p.notna().all()


# ------------------------------------------------------------------------------- second judges


def louder_or(strict):
    """Return a judge of its own mind: it hears the lower band only, and is surer if strict."""

    def ask(waveforms, n_valid):
        features = LogMel(FRONT_END).features(waveforms, n_valid)
        return LouderBand()(features).exp() ** (2 if strict else 1)

    return ask


def test_second_judges_are_asked_about_the_sound_and_once_about_the_clip(front_end):
    asked = []

    def noting(waveforms, n_valid):
        asked.append(len(waveforms))
        return louder_or(False)(waveforms, n_valid)

    judges = {"same": louder_or(False), "noting": noting}
    explainer = Explainer(LouderBand(), front_end, {}, tones(0.4, 0.2), judges=judges)
    for mask, *_ in EXPECTED.values():
        table = judge(explainer, mask)
        expected = np.log(table.o / (1 - table.o)) - np.log(table.p / (1 - table.p))
        np.testing.assert_allclose(table["gain same"], expected, atol=1e-4)
        assert (table["class same"] == 0)[0] == (table.o[0] >= 0.5)
    assert len(asked) == 1 + len(EXPECTED)


# --------------------------------------------------------------------- specificity and the budget


def test_a_mask_for_a_wrong_class_is_asked_for_and_judged(front_end):
    explainer = Explainer(LouderBand(), front_end, {}, tones(0.4, 0.2))

    def band_of(asked):
        return mask_of(HIGH) if asked.targets[0] else mask_of(LOW)

    (row,) = specificity(explainer, band_of).itertuples()
    assert row.gain_wrong == pytest.approx(np.log(99) - np.log(0.2 / 0.8), abs=1e-3)
    assert row.turned  # the wrong class is decided for: this mask argues for anything
    (fair,) = specificity(explainer, lambda _asked: FULL).itertuples()
    assert fair.gain_wrong == pytest.approx(0, abs=1e-4) and not fair.turned


def test_a_wrong_class_is_drawn_outside_the_first_five():
    class Even(LouderBand):
        def forward(self, features):
            return torch.arange(9.0, 0, -1).expand(len(features), 9).log()

    drawn = []
    for seed in range(40):
        explainer = Explainer(Even(), LogMel(FRONT_END), {}, tones(0.4, 0.2))

        def note(asked):
            drawn.append(int(asked.targets[0]))
            return FULL

        specificity(explainer, note, seed=seed)
    assert set(drawn) == {5, 6, 7, 8}


def test_points_are_chosen_until_they_hold_the_share_of_energy(front_end):
    explainer = Explainer(LouderBand(), front_end, {}, tones(0.4, 0.2))
    power = front_end.mel_power(explainer.inputs.waveforms)
    heat = torch.rand(FULL.shape, generator=torch.Generator().manual_seed(0))
    shares = (0.1, 0.5, 0.9)
    for share, mask in zip(shares, by_energy(explainer, heat, shares), strict=True):
        held = float((power * mask).sum() / power.sum())
        assert held <= share + 1e-6 and held > share - float(power.max() / power.sum())
        assert heat[mask == 1].min() >= heat[mask == 0].max()
    (even,) = by_energy(explainer, FULL, [0.5])  # ties come at random
    assert abs(np.corrcoef(even.flatten(), torch.arange(even.numel()))[0, 1]) < 0.05


def test_the_budget_of_the_right_band_keeps_the_decision(front_end):
    explainer = Explainer(LouderBand(), front_end, {}, tones(0.4, 0.2))
    right, wrong = (budget(explainer, mask_of(bands)) for bands in (LOW, HIGH))
    assert right.share.tolist() == list(SHARES) and right["clip"].tolist() == [0] * len(SHARES)
    assert right.stays.all() and (right.kept > 0).all()
    assert not wrong.stays[0] and wrong.kept[0] < 0 < wrong.lost[0]
    assert right.lost.iloc[-1] < 0  # four fifths of the energy are the band that decides
