"""Explanations judged: by hand, on a classifier whose reason is known."""

import numpy as np
import pytest
import torch
from two_bands import FRONT_END, HIGH, LOW, LouderBand, mask_of, tones

from esc_lib.explain.conditions import Inputs
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.judge import judge
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
