"""One table of methods: all of them make masks, and a new one is found wherever they are used."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from two_bands import FRONT_END, small_network

from esc_lib.explain import checks, scores
from esc_lib.explain.components import Choice
from esc_lib.explain.judge import judge
from esc_lib.explain.methods import (
    EQUALISER,
    LEARNED,
    METHODS,
    OURS,
    UNTRAINED,
    Method,
    compared,
    control,
    cost,
    for_sounds,
    names_of,
    rival,
)
from esc_lib.explain.sound_explainer import SoundExplainer
from esc_lib.sound.grid import Grid

pytestmark = pytest.mark.usefixtures("exact")
VARIANTS = ["relevance of bands", "relevance of channels"]
VARIANTS += [f"block {i} alone" for i in range(1, 6)]


def test_every_method_returns_masks(explainer):
    rivals = dict.fromkeys(LEARNED, SimpleNamespace(masks=lambda e: e.components().square()))
    others = ((small_network(1), explainer.fitted),)
    explainer = replace(explainer, untrained=others, learned=rivals)
    found = compared(explainer)
    assert {*METHODS, *VARIANTS} == set(found)
    for name, method in found.items():
        mask = method.masks(explainer)
        assert mask.shape == (4, FRONT_END.n_mels, FRONT_END.n_frames), name
        assert torch.isfinite(mask).all() and mask.min() >= 0 and mask.max() <= 1 + 1e-6, name
        assert torch.equal(mask, method.masks(explainer)), name
        if name != "control: constant":
            assert (mask.flatten(1).std(dim=1) > 1e-3).any(), name
    clean = replace(explainer, inputs=replace(explainer.inputs, wanted=None, unwanted=None))
    assert set(found) - set(compared(clean)) == {"oracle"}
    bare = replace(explainer, untrained=(), learned={})
    assert set(found) - set(compared(bare)) == {UNTRAINED, *LEARNED}


@pytest.mark.parametrize("condition", ["white noise", "one after the other"])
def test_the_main_methods_are_compared_in_everything(explainer, condition):
    noisy = replace(explainer, inputs=replace(explainer.inputs, condition=condition))
    assert list(compared(noisy)) == [
        OURS, "Grad-CAM", "saliency", "Deep Feature Factorization", EQUALISER, "control: H = 1",
        "control: H permuted", "control: random atoms", "control: random mask",
        "control: constant", "oracle",
    ]  # fmt: skip


def test_ours_and_its_variants_come_first_and_are_what_they_are_called(explainer):
    found = compared(explainer)
    assert list(found)[:8] == [OURS, *VARIANTS]
    choice = replace(Choice(), blocks=("conv_block4",))
    assert torch.equal(found["block 4 alone"].masks(explainer), explainer.components(choice))
    choice = replace(Choice(), relevance="channels")
    expected = explainer.components(choice)
    assert torch.equal(found["relevance of channels"].masks(explainer), expected)
    assert torch.equal(found[OURS].masks(explainer), explainer.components())


def test_clips_that_are_all_explained_for_one_class_have_every_method(explainer):
    same = replace(explainer, classes=torch.ones(4, dtype=torch.long))
    for method in compared(same).values():
        assert torch.isfinite(method.masks(same)).all()


def test_methods_that_explain_are_timed_alone_decision_included(explainer, monkeypatch):
    passes = []
    forward = explainer.model.forward
    monkeypatch.setattr(explainer.model, "forward", lambda x: passes.append(1) or forward(x))
    names = (OURS, "saliency", "block 4 alone", "control: constant", "oracle")
    found = cost(explainer, names, repeats=1)
    assert set(found.index) == set(names[:3]) and (found > 0).all()
    assert len(passes) == 4 * (1 + 2 + 1)  # three of four calls warm up; saliency decides first


def loudness(model, features, targets):
    """Return a heat map that knows nothing of the network: where the clip is loud."""
    return features[:, 0] - features.amin(dim=(1, 2, 3))[:, None, None]


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        (rival(loudness, exponent=0.5, width=1), "rival"),
        (control(lambda explainer: 1 - explainer.components()), "control"),
        (Method(lambda explainer: explainer.components().square(), "ours"), "ours"),
    ],
    ids=["rival", "control", "ours"],
)
def test_a_new_method_is_one_line_of_the_table(explainer, monkeypatch, method, kind):
    monkeypatch.setitem(METHODS, "new", method)
    assert "new" in names_of(kind)
    mask = compared(explainer)["new"].masks(explainer)
    assert mask.shape == (4, FRONT_END.n_mels, FRONT_END.n_frames) and 0 <= mask.min()
    if kind == "rival":
        heat = loudness(explainer.model, explainer.features, explainer.targets)
        top = torch.stack([one.flatten().quantile(0.99) for one in heat])[:, None, None]
        torch.testing.assert_close(mask, (heat / top).clamp_max(1).sqrt())
    tuned = {name.split(",")[0] for name in checks.rival_shapes()}
    assert ("new" in tuned) == (kind == "rival")  # its shapes are tried, too


@pytest.mark.parametrize("name", [OURS, EQUALISER, "Grad-CAM", "integrated gradients"])
def test_the_study_and_the_explainer_of_any_sound_score_alike(explainer, name):
    class OnWaves(torch.nn.Module):
        def forward(self, waves):
            n_valid = torch.full((len(waves),), waves.shape[1])
            return explainer.model(explainer.front_end.features(waves, n_valid))

    # as many samples as the frames can rebuild
    waves = explainer.inputs.waveforms[:, : (FRONT_END.n_frames - 1) * FRONT_END.hop_length]
    n_valid = torch.full((4,), waves.shape[1])
    inputs = replace(explainer.inputs, waveforms=waves, n_valid=n_valid, wanted=None)
    own = replace(explainer, inputs=inputs, classes=None)
    sounds = SoundExplainer(OnWaves(), FRONT_END.sr, grid=Grid.of(FRONT_END))
    given = explainer.model, explainer.front_end, explainer.fitted
    found = sounds.attribute(waves, own.targets, method=for_sounds(name, *given))
    assert found.method == name
    torch.testing.assert_close(found.mask, METHODS[name].masks(own))
    table = judge(own, found.mask).round({"p": 4, "o": 4, "m": 4})  # as there
    expected = {one.name: float(one(table).mean()) for one in scores.FIVE}
    expected["energy"] = table.energy.mean()
    assert found.score().loc[name, list(expected)].to_dict() == pytest.approx(expected, abs=1e-3)
