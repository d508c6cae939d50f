"""Controls keep what they promise; and the mask of one who knows."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from two_bands import LOW, mask_of

from esc_lib.explain import controls
from esc_lib.explain.components import Components

MASKS = torch.rand(4, 32, 70, generator=torch.Generator().manual_seed(5)).pow(2)


def that_finds(masks):
    """Stand for an explainer with these masks."""
    return SimpleNamespace(components=lambda: masks)


@pytest.mark.parametrize("control", [controls.shuffled, controls.random_mask])
def test_moved_masks_keep_their_values_exactly(control):
    found = control(that_finds(MASKS))
    assert torch.equal(found.flatten(1).sort(dim=1).values, MASKS.flatten(1).sort(dim=1).values)
    assert torch.equal(found, control(that_finds(MASKS)))
    for one, other in zip(found, MASKS, strict=True):
        assert abs(np.corrcoef(one.flatten(), other.flatten())[0, 1]) < 0.1


def test_shuffled_moves_the_shapes_as_they_are():
    found = controls.shuffled(that_finds(mask_of(LOW)))[0]
    rows = found.amax(dim=1).bool()
    assert rows.sum() == 5 and not rows[LOW].all() and (found[rows] == 1).all()


def test_a_random_mask_is_smooth():
    found = controls.random_mask(that_finds(MASKS))
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
        inputs=SimpleNamespace(wanted=target, unwanted=other),
        front_end=SimpleNamespace(mel_power=torch.square),
    )
    assert controls.ideal(known).tolist() == [[[0.75, 0, 0]]]
