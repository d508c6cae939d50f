"""All methods on the same decisions, and what is left of them when weights are randomised."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from two_bands import FRONT_END

from esc_lib.config import Network
from esc_lib.explain.checks import STAGES, randomisation, randomised
from esc_lib.explain.components import Components
from esc_lib.explain.inputs import Inputs
from esc_lib.explain.methods import CONTROLS, OURS, SHAPES, Choice, Explainer, methods
from esc_lib.machine import hardware
from esc_lib.models.se_cnn import BLOCKS, SECNN
from esc_lib.sound.log_mel import LogMel


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Switch fast precision off: what is compared here differs in the last digits."""
    monkeypatch.setattr(hardware, "best_precision", lambda: "32-true")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def small_network(seed=0):
    """Return a network whose normalisation is set, so that classes and maps differ by clip."""
    torch.manual_seed(seed)
    model = SECNN(3, Network(channels=(4, 4, 6, 8, 8), se_reduction=2, hidden=32))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(torch.randn(8, 1, FRONT_END.n_mels, FRONT_END.n_frames))
    return model.eval()


@pytest.fixture(scope="module")
def explainer():
    model, g = small_network(), generator(6)
    n_samples = FRONT_END.n_samples
    wanted, unwanted = 0.2 * torch.randn(2, 4, n_samples, generator=g)
    wanted = 0.2 * wanted.cumsum(dim=1).sin()  # low frequencies
    n_valid = torch.full((4,), n_samples)
    inputs = Inputs("mixed", np.arange(4), wanted + unwanted, n_valid, wanted, unwanted)
    channels = dict(zip(BLOCKS, (4, 4, 6, 8, 8), strict=True))
    fitted = {
        (block, name): Components(
            block,
            torch.rand(FRONT_END.n_mels, n, generator=g).pow(4),
            torch.rand(n, generator=g) + 0.1,
        )
        for block, n in channels.items()
        for name in (Choice.dictionary, "optimum")[: 1 + (block == "conv_block4")]
    }
    targets = torch.tensor([0, 0, 2, 1])
    return Explainer(model, LogMel(FRONT_END), fitted, inputs, targets)


def test_every_method_returns_masks(explainer):
    found = methods(explainer)
    names = {
        OURS,
        "oracle",
        "block 4, optimum",
        *SHAPES,
        *(f"control: {name}" for name in CONTROLS),
    }
    assert names | {f"block {i}, {Choice.dictionary}" for i in range(1, 6)} == set(found)
    for name, make in found.items():
        mask = make()
        assert mask.shape == (4, FRONT_END.n_mels, FRONT_END.n_frames), name
        assert torch.isfinite(mask).all() and mask.min() >= 0 and mask.max() <= 1 + 1e-6, name
        assert torch.equal(mask, make()), name
        if name != "control: constant":
            assert (mask.flatten(1).std(dim=1) > 1e-3).any(), name
    clean = replace(explainer, inputs=replace(explainer.inputs, wanted=None, unwanted=None))
    assert set(found) - set(methods(clean)) == {"oracle"}


@pytest.mark.parametrize("kind", ["bands", "channels", "both"])
def test_components_and_their_negative_share_the_clip(explainer, kind):
    plain = replace(explainer, choice=Choice(relevance=kind, exponent=1.0, floor=0.0))
    ours, negative = plain.components(), plain.control("negative")
    torch.testing.assert_close(ours + negative, torch.ones_like(ours))
    softer = plain.components(Choice(relevance=kind, exponent=0.5, floor=0.2))
    torch.testing.assert_close(softer, ours.sqrt().clamp_min(0.2))
    assert float(softer.min()) >= 0.2
    assert 0.05 < float(ours.mean()) < 0.95


def test_relevance_of_both_kinds_is_their_sum_on_one_level(explainer):
    fitted = explainer.fitted["conv_block3", Choice.dictionary]
    bands, channels = (explainer.relevance(fitted, kind) for kind in ("bands", "channels"))
    by_hand = sum(each / each.abs().mean(dim=(1, 2), keepdim=True) for each in (bands, channels))
    torch.testing.assert_close(explainer.relevance(fitted, "both"), by_hand)
    torch.testing.assert_close(channels, explainer.asked.channels["conv_block3"])
    assert (bands.sign() != channels.sign()).any()


def test_another_clips_atoms_are_those_of_a_clip_explained_for_another_class(explainer):
    asked_for = []

    def note(keep, fitted):
        asked_for.append(keep)
        return keep

    explainer.components(alter=note)
    others = [2, 2, 3, 0]  # the next clip of another class; targets are 0, 0, 2, 1
    expected = iter([keep[others] for keep in asked_for])
    assert not torch.equal(asked_for[0][others], asked_for[0])
    by_hand = explainer.components(alter=lambda _keep, _fitted: next(expected))
    assert torch.equal(explainer.control("another clip's"), by_hand)


def test_clips_that_are_all_explained_for_one_class_have_every_method(explainer):
    same = replace(explainer, targets=torch.ones(4, dtype=torch.long))
    for make in methods(same).values():
        assert torch.isfinite(make()).all()


def test_an_unknown_control_is_named(explainer):
    with pytest.raises(ValueError, match="control: 'louder' is unknown; choose one of constant,"):
        explainer.control("louder")


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


def test_a_method_that_ignores_the_network_survives_randomisation_and_ours_does_not(explainer):
    makers = {"level": lambda e: e.features[:, 0].sigmoid(), "ours": lambda e: e.components()}
    found = randomisation(explainer, small_network(1), makers)
    assert len(found) == 4 * len(STAGES) and found.stage.nunique() == len(STAGES)
    assert set(found["clip"]) == {0, 1, 2, 3}
    np.testing.assert_allclose(found.level, 1)
    assert (found.groupby("stage").ours.mean() < 0.95).all()
