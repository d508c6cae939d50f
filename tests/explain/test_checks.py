"""Beside the scores: variants judged by hand, curves, randomised weights, other fills."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from two_bands import FRONT_END, HIGH, LOW, LouderBand, mask_of, small_network, tones

from esc_lib.explain import scores
from esc_lib.explain.checks import (
    STAGES,
    by_rank,
    curve,
    every_dictionary,
    fills,
    neighbours,
    randomisation,
    randomised,
    rival_shapes,
    try_options,
)
from esc_lib.explain.components import Choice
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.masks import cut_out
from esc_lib.explain.methods import METHODS, names_of
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


def test_every_dictionary_is_tried_alone(explainer):
    found = every_dictionary(explainer.fitted, Choice())
    assert list(found) == list(explainer.fitted)
    alone = replace(Choice(), blocks=("conv_block4",), dictionary="optimum")
    expected = explainer.components(alone)
    assert torch.equal(found["conv_block4", "optimum"](explainer), expected)


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
    assert {name.split(",")[0] for name in rival_shapes()} == set(names_of("rival"))


# -------------------------------------------------------------------------------- curves and fills


@pytest.fixture(scope="module")
def front_end():
    return LogMel(FRONT_END)


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
    explainer = Explainer(LouderBand(), front_end, {}, inputs, targets)
    (found,) = curve(explainer, order, **steps)
    np.testing.assert_allclose(found, [first, *[between] * 4, last], atol=1e-6)
    by_hand = (first / 2 + 4 * between + last / 2) / 5
    assert scores.area(found) == pytest.approx(by_hand, abs=1e-6)
    (other,) = curve(replace(explainer, classes=1 - targets), order, **steps)
    np.testing.assert_allclose(other, 1 - found, atol=1e-6)


def test_insertion_of_all_points_gives_the_probability_of_the_input(heat, front_end):
    inputs = tones(0.4, 0.2)
    full = torch.ones_like(mask_of(LOW))
    whole = cut_out(front_end, inputs.waveforms, full)
    torch.testing.assert_close(whole, inputs.waveforms, rtol=0, atol=1e-6)
    explainer = Explainer(LouderBand(), front_end, {}, inputs, torch.tensor([0]))
    (found,) = curve(explainer, heat, insert=True)
    given = float(explainer.given[0, 0])
    assert found.shape == (9,) and found[-1] == pytest.approx(given, abs=1e-6)


def test_fills(front_end):
    masks = {"band": 0.9 * mask_of(LOW), "full": torch.ones_like(mask_of(LOW))}
    explainer = Explainer(LouderBand(), front_end, {}, tones(0.4, 0.2))
    found = fills(explainer, masks, floors_db=(-np.inf, -6.0, 0.0))
    found = found.set_index(["method", "mask", "floor (dB)"])
    assert len(found) == 12
    full = [0, 0, 0, 0.3, 1]
    for method in masks:  # nothing is taken out
        for kind in ("soft", "binary"):
            assert found.loc[method, kind, 0.0].tolist() == pytest.approx(full, abs=1e-4)
    kept = found.loc["band", "binary", -np.inf]
    assert kept.tolist() == pytest.approx([100, 0, 95, 0.79, 1], abs=1e-4)
    soft = found.loc["band", "soft", -6.0]  # the other band sounds too, at half its level
    assert soft[["AI", "AD", "AG", "Fid-In"]].tolist() == pytest.approx([0, 0, 0, 1], abs=1e-4)


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
