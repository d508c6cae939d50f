"""Controls keep what they promise; and the mask of one who knows."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from two_bands import FRONT_END, small_network

from esc_lib.explain import controls
from esc_lib.explain.components import Choice, Components
from esc_lib.explain.masks import stretch
from esc_lib.layers.hooks import pool_frames, record
from esc_lib.models.se_cnn import BLOCKS

MASKS = torch.rand(4, 32, 70, generator=torch.Generator().manual_seed(5)).pow(2)


def that_finds(masks):
    """Stand for an explainer with these masks."""
    return SimpleNamespace(components=lambda: masks)


# ------------------------------------------------------------------ the hidden layer taken away


def test_h_of_one_leaves_the_dictionary_and_the_gradient(explainer, exact):
    choice, total = explainer.choice, 0
    for block in choice.blocks:
        fitted = explainer.fitted[block, choice.dictionary]
        n_frames = explainer.layers[block][0].shape[2]
        pooled = pool_frames(explainer.bands, n_frames)
        speaks = (fitted.w.T @ (pooled / fitted.w.sum(dim=1)[:, None]) > 0).float()
        share = fitted.w @ speaks / fitted.w.sum(dim=1)[:, None]
        total = total + stretch(share, FRONT_END.n_frames) / len(choice.blocks)
    by_hand = total.pow(choice.exponent).clamp_min(choice.floor)
    torch.testing.assert_close(controls.no_layer(explainer), by_hand, atol=1e-4, rtol=1e-4)


def test_permuted_deals_levelled_rows_alike_for_all_clips(explainer, monkeypatch):
    asked = {}
    monkeypatch.setattr(explainer, "components", lambda layers: asked.update(layers))
    controls.permuted(explainer)
    assert list(asked) == list(explainer.layers)
    for block, (h, channels) in asked.items():
        own, by = explainer.layers[block]
        scale = explainer.fitted[block, Choice.dictionary].scale[:, None]
        nearest = torch.cdist((h * scale).transpose(0, 1).flatten(1),
                              (own * scale).transpose(0, 1).flatten(1))  # fmt: skip
        dealt = nearest.argmin(dim=1)
        assert sorted(dealt.tolist()) == list(range(len(scale)))
        torch.testing.assert_close(h * scale, (own * scale)[:, dealt])
        torch.testing.assert_close(channels, by[:, dealt])
        assert block == "conv_block1" or not torch.equal(dealt, torch.arange(len(scale)))


def test_untrained_networks_take_turns_by_clip(explainer, exact):
    others = tuple((small_network(seed), explainer.fitted) for seed in (1, 2, 3))
    asked = replace(explainer, untrained=others)
    found = controls.untrained(asked)
    for clip in range(4):
        model, _ = others[clip % 3]
        part = explainer.part(torch.tensor([clip]))
        with torch.no_grad(), record(model, BLOCKS) as maps:
            model(part.features)
        layers = {block: (maps[block].mean(dim=2),) * 2 for block in BLOCKS}
        by_hand = part.components(replace(Choice(), relevance="bands"), layers=layers)
        torch.testing.assert_close(found[clip], by_hand[0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found, explainer.components())


@pytest.mark.parametrize("form", ["smoothed", "per bin", "static"])
def test_the_equaliser_is_the_sign_of_the_gradient(explainer, form):
    bands, n_frames = explainer.bands.numpy(), FRONT_END.n_frames
    if form == "smoothed":
        smooth = gaussian_filter1d(bands, 1, axis=1, mode="nearest", truncate=3)
        grids = [h.shape[2] for h, _ in explainer.layers.values()]
        signs = [pool_frames(torch.from_numpy(smooth), n) > 0 for n in grids]
        shares = torch.stack([stretch(sign.float(), n_frames) for sign in signs]).mean(dim=0)
    else:
        gained = bands if form == "per bin" else bands.mean(axis=2, keepdims=True)
        shares = torch.from_numpy(np.broadcast_to(gained > 0, bands.shape).astype(np.float32))
    by_hand = (shares**0.7).clamp_min(0.4)
    torch.testing.assert_close(controls.equaliser(explainer, form), by_hand)
    assert 0.4 < float(by_hand.mean()) < 1


def test_any_signed_relevance_can_have_the_shape_of_ours(explainer):
    found = controls.signs(explainer, -explainer.bands, "per bin")
    ours = controls.equaliser(explainer, "per bin")
    assert torch.equal(found == 1, ours < 1)


# --------------------------------------------------------------------- atoms and masks, exchanged


def test_a_random_mask_keeps_its_values_and_is_smooth():
    found = controls.random_mask(that_finds(MASKS))
    assert torch.equal(found.flatten(1).sort(dim=1).values, MASKS.flatten(1).sort(dim=1).values)
    assert torch.equal(found, controls.random_mask(that_finds(MASKS)))
    for one, other in zip(found, MASKS, strict=True):
        assert abs(np.corrcoef(one.flatten(), other.flatten())[0, 1]) < 0.1
    step = found.diff(dim=2).abs().mean() / MASKS.diff(dim=2).abs().mean()
    assert step < 0.3


def test_constant_has_the_mean():
    found = controls.constant(that_finds(MASKS))
    assert found.shape == MASKS.shape
    torch.testing.assert_close(found[:, 3, 7], MASKS.mean(dim=(1, 2)))
    assert (found == found[:, :1, :1]).all()


def test_random_atoms_deals_among_those_in_use_and_keeps_the_count():
    keep = (torch.rand(6, 9, 11, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    in_use = torch.tensor([1, 1, 0, 1, 1, 1, 0, 1, 1]).bool()
    fitted = Components("block", in_use.float().expand(4, 9), torch.ones(9))
    kept = keep.clone()
    found = controls.random_atoms(SimpleNamespace(components=lambda alter: alter(keep, fitted)))
    assert torch.equal(keep, kept)
    torch.testing.assert_close(found.sum(dim=1), keep.sum(dim=1))
    assert torch.equal(found[:, ~in_use], keep[:, ~in_use])
    rows = [sorted(map(tuple, one[in_use].tolist())) for one in (found[2], keep[2])]
    assert rows[0] == rows[1] and not torch.equal(found[2], keep[2])
    assert len({tuple((found[i] - keep[i]).flatten().tolist()) for i in range(6)}) == 6


def test_another_clips_atoms_are_those_of_a_clip_explained_for_another_class(explainer, exact):
    asked_for = []

    def note(keep, fitted):
        asked_for.append(keep)
        return keep

    explainer.components(alter=note)
    others = [2, 2, 3, 0]  # the next clip of another class; targets are 0, 0, 2, 1
    expected = iter([keep[others] for keep in asked_for])
    assert not torch.equal(asked_for[0][others], asked_for[0])
    by_hand = explainer.components(alter=lambda _keep, _fitted: next(expected))
    assert torch.equal(controls.another_clips(explainer), by_hand)


def test_ideal_by_hand():
    target, other = torch.tensor([[[3.0, 0.0, 0.0]]]), torch.tensor([[[1.0, 2.0, 0.0]]])
    known = SimpleNamespace(
        inputs=SimpleNamespace(sound_of=lambda _targets: (target, other)),
        targets=None,
        front_end=SimpleNamespace(mel_power=torch.square),
    )
    assert controls.ideal(known).tolist() == [[[0.75, 0, 0]]]
