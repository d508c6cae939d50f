"""Beside the scores: variants judged by hand, randomised weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from two_bands import FRONT_END, LOW, LouderBand, mask_of, small_network, tones

from esc_lib.explain.checks import (
    STAGES,
    neighbours,
    randomisation,
    randomised,
    rival_shapes,
    try_options,
)
from esc_lib.explain.components import Choice
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.methods import LEARNED, METHODS, SIGNED_IG, names_of
from esc_lib.sound.log_mel import LogMel

# ------------------------------------------------------------------------------ how it was tuned


def test_options_are_judged_by_hand():
    clean = tones(0.4, 0.2)  # class 0, for the lower band
    mixed = replace(tones(0.05, 0.4), condition="other clip")  # class 1
    options = {
        "lower band": lambda explainer: mask_of(LOW),
        "all": lambda explainer: torch.ones_like(mask_of(LOW)),
    }
    network = LouderBand(), LogMel(FRONT_END), {}
    found = try_options([Explainer(*network, clean), Explainer(*network, mixed)], options)
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


def test_rivals_are_tried_in_other_shapes_with_one_heat_map_for_all(explainer, monkeypatch):
    asked, saliency = [], METHODS["saliency"]
    noting = replace(saliency, make=lambda e: asked.append(e) or saliency.make(e))
    monkeypatch.setitem(METHODS, "saliency", noting)
    options = {name: make for name, make in rival_shapes().items() if name.startswith("saliency")}
    masks = [make(explainer) for make in options.values()]
    assert len(asked) == 1
    assert len(masks) == 7  # three exponents, smoothed or not; the usual one with our floor
    assert masks[-1].min() >= Choice.floor
    usual = masks[list(options).index("saliency, exponent 0.125, width 9, floor 0")]
    assert torch.equal(usual, saliency.masks(explainer))
    heat_maps = set(names_of("rival")) - {SIGNED_IG, *LEARNED}
    assert {name.split(",")[0] for name in rival_shapes()} == heat_maps


# ------------------------------------------------------------------------------ randomised weights


@pytest.mark.parametrize("n_stages", range(len(STAGES) + 1))
def test_randomised_replaces_exactly_the_named_stages(n_stages):
    model, fresh = small_network(0), small_network(1)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    found = randomised(model, fresh, n_stages).state_dict()
    replaced = {name for stage in STAGES[:n_stages] for name in stage}
    for name, value in found.items():
        source = fresh.state_dict() if name.split(".")[0] in replaced else kept
        assert torch.equal(value, source[name])
    assert all(torch.equal(model.state_dict()[name], kept[name]) for name in kept)
    assert {name for stage in STAGES for name in stage} == {name.split(".")[0] for name in kept}


def test_a_method_that_ignores_the_network_survives_randomisation_and_ours_does_not(
    explainer, exact
):
    makers = {"level": lambda e: e.features[:, 0].sigmoid(), "ours": lambda e: e.components()}
    found = randomisation(explainer, small_network(1), makers)
    assert len(found) == 4 * len(STAGES) and found.stage.nunique() == len(STAGES)
    assert set(found["clip"]) == {0, 1, 2, 3}
    np.testing.assert_allclose(found.level, 1)
    assert (found.groupby("stage").ours.mean() < 0.95).all()
