"""Variants tried on validation clips: judged by hand, and each unlike the choice in one thing."""

from dataclasses import replace

import pytest
import torch
from two_bands import FRONT_END, LOW, LouderBand, mask_of, tones

from esc_lib.explain.methods import Choice
from esc_lib.explain.tuning import neighbours, try_options
from esc_lib.sound.log_mel import LogMel


def test_options_are_judged_by_hand():
    clean = tones(0.4, 0.2)  # class 0, for the lower band
    mixed = replace(tones(0.05, 0.4), condition="other clip")  # class 1
    options = {
        "lower band": lambda explainer: mask_of(LOW),
        "all": lambda explainer: torch.ones_like(mask_of(LOW)),
    }
    found = try_options(LouderBand(), LogMel(FRONT_END), {}, [clean, mixed], options)
    assert list(found.index) == list(options)
    scores = ["AI", "AD", "AG", "FF", "Fid-In", "criterion"]
    right, wrong = [100, 0, 95, 0.79, 1], [0, 98.75, 0, -0.19, 0]
    criterion = ((1 + 0.95 + 0.79 + 1) + (-0.9875 - 0.19)) / 2
    expected = [*((a + b) / 2 for a, b in zip(right, wrong, strict=True)), criterion]
    assert found.loc["lower band", scores].tolist() == pytest.approx(expected, abs=1e-4)
    assert found.loc["all", scores].tolist() == pytest.approx([0, 0, 0, 0.3, 1, 1.3], abs=1e-4)
    assert found.energy["all"] == pytest.approx(1, abs=1e-4)


def test_neighbours_of_a_choice_differ_from_it_in_one_thing():
    class Noting:
        """Stands for an explainer and returns the choice it is asked for."""

        def components(self, choice):
            return choice

    choice = Choice()
    options = neighbours(choice)
    first, *others = (make(Noting()) for make in options.values())
    assert first == choice and len(set(others)) == len(options) - 1 >= 5
    for other in others:
        changed = [key for key in vars(choice) if getattr(choice, key) != getattr(other, key)]
        assert len(changed) == 1
    name = next(iter(options))
    assert name.startswith("blocks ") and f"exponent {choice.exponent:g}, floor" in name
