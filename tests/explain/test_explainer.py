"""Some decisions of a network: what is read of it, how atoms speak, and the masks they make."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from two_bands import FRONT_END, small_data, small_network

from esc_lib.explain import controls, relevance
from esc_lib.explain.components import Choice
from esc_lib.explain.conditions import take
from esc_lib.explain.explainer import Explainer
from esc_lib.models.se_cnn import BLOCKS
from esc_lib.sound.log_mel import LogMel

pytestmark = pytest.mark.usefixtures("exact")


def test_the_predicted_class_is_explained_unless_another_is_asked_for():
    inputs = take(small_data(), np.arange(20), "clean", FRONT_END.sr)  # more than one batch
    model, front_end = small_network(), LogMel(FRONT_END)
    found = Explainer(model, front_end, {}, inputs)
    with torch.no_grad():
        by_hand = model(front_end.features(inputs.waveforms, inputs.n_valid)).softmax(dim=1)
    torch.testing.assert_close(found.given, by_hand)
    assert torch.equal(found.targets, by_hand.argmax(dim=1))
    other = replace(found, classes=torch.zeros(20, dtype=torch.long))
    assert not other.targets.any()


@pytest.mark.parametrize("kind", ["bands", "channels", "both"])
def test_components_and_their_negative_share_the_clip(explainer, kind):
    plain = replace(explainer, choice=Choice(relevance=kind, exponent=1.0, floor=0.0))
    ours, negative = plain.components(), controls.negative(plain)
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
    torch.testing.assert_close(channels, explainer.layers["conv_block3"][1])
    assert (bands.sign() != channels.sign()).any()


def test_each_block_is_read_at_the_gate_behind_it(explainer):
    model, inputs = explainer.model, explainer.inputs
    behind = dict(zip(BLOCKS, ("conv_block1", "se1", "se2", "se3", "se4"), strict=True))
    layers = {layer: layer for layer in (*BLOCKS, *behind.values())}
    sounds = inputs.waveforms, inputs.n_valid
    by_hand = relevance.read(model, explainer.front_end, *sounds, explainer.targets, layers)
    found = by_hand.layers
    assert list(explainer.layers) == list(BLOCKS)
    for block, layer in behind.items():
        h, channels = explainer.layers[block]
        assert torch.equal(channels, found[layer][1])
        assert torch.equal(h, found[block][0])
    with torch.no_grad():
        maps = model.conv_block1(explainer.features[:1])
        for number in range(2, 6):
            block = getattr(model, f"conv_block{number}")(maps)
            maps = getattr(model, f"se{number - 1}")(block)
        gate = model.se4.gate(block)
    gated, plain = found["se4"][0][0], explainer.layers["conv_block5"][0][0]
    relation, active = gated / plain.clamp_min(1e-9), plain > 1e-3
    assert active.any()
    torch.testing.assert_close(relation[active], gate[0][:, None].expand_as(relation)[active])
    assert torch.equal(explainer.bands, by_hand.bands)


def test_one_pass_decides_and_explains_what_two_would(explainer, monkeypatch):
    passes = []
    forward = explainer.model.forward
    monkeypatch.setattr(explainer.model, "forward", lambda x: passes.append(1) or forward(x))
    alone = replace(explainer, classes=None)
    mask = alone.components()
    assert len(passes) == 1
    after = replace(explainer, classes=None)
    decided = after.targets
    assert torch.equal(alone.targets, decided) and len(passes) == 2
    torch.testing.assert_close(alone.given, after.given)
    torch.testing.assert_close(mask, after.components())
    torch.testing.assert_close(mask, replace(explainer, classes=decided).components())


def test_only_blocks_with_a_dictionary_are_read(explainer):
    block = "conv_block4"
    one = replace(explainer, fitted={(block, "optimum"): explainer.fitted[block, "optimum"]})
    assert list(one.layers) == [block]
