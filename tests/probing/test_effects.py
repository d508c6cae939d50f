"""Units silenced: real changes against a forward pass with a hook, orders and losses by hand."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from two_bands import FRONT_END, NAMES, settled, small_data

from esc_lib.config import Network
from esc_lib.explain.relevance import log_odds
from esc_lib.layers.hooks import record
from esc_lib.models.se_cnn import SECNN
from esc_lib.probing import effects
from esc_lib.probing.bases import Channels
from esc_lib.probing.behind import Behind
from esc_lib.probing.sparse import random_basis
from esc_lib.sound.log_mel import LogMel

LAYER, GATE, ROWS = "conv_block4", "se3", np.arange(12)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    data, front_end = small_data(), LogMel(FRONT_END)
    features = front_end.features(*data.batch(np.arange(16)))
    model = SECNN(len(NAMES), Network(channels=(4, 4, 6, 8, 8), se_reduction=2, hidden=32))
    return settled(model, features), front_end, data


@pytest.fixture(scope="module")
def behind(network):
    return Behind.of(*network, ROWS, LAYER)


def without(network, channel):
    """Return the logits of a whole forward pass in which the gate lets no such channel pass."""
    model, front_end, data = network

    def silence(_module, _inputs, maps):
        maps = maps.clone()
        maps[:, channel] = 0
        return maps

    handle = model.get_submodule(GATE).register_forward_hook(silence)
    with torch.no_grad():
        logits = model(front_end.features(*data.batch(ROWS)))
    handle.remove()
    return logits


def test_effects_are_those_of_whole_passes_without_a_channel(network, behind):
    model, front_end, data = network
    with torch.no_grad():
        whole = model(front_end.features(*data.batch(ROWS)))
    torch.testing.assert_close(behind.whole, whole)
    classes = torch.arange(12) % 2
    found = behind.effects(classes)
    for channel in range(8):
        change = log_odds(whole, classes) - log_odds(without(network, channel), classes)
        torch.testing.assert_close(found[:, channel], change, atol=1e-5, rtol=1e-4)


def test_what_is_expected_is_gradient_times_activation(network, behind):
    model, front_end, data = network
    classes = torch.zeros(12, dtype=torch.long)
    with record(model, [GATE], keep_graph=True) as maps:
        logits = model(front_end.features(*data.batch(ROWS)))
    (slope,) = torch.autograd.grad(log_odds(logits, classes).sum(), maps[GATE])
    by_hand = (slope * maps[GATE]).sum(dim=(2, 3)).detach()
    torch.testing.assert_close(behind.expected(classes), by_hand, atol=1e-6, rtol=1e-4)


def test_a_unit_of_a_sparse_basis_takes_what_it_wrote_out_of_the_maps(network, behind):
    basis = random_basis(behind.h, 12, 3, torch.Generator().manual_seed(0))
    other = behind.within(basis)
    active = other.codes.amax(dim=2) > 0
    classes = torch.ones(12, dtype=torch.long)
    found = other.effects(classes)
    assert (found[~active] == 0).all() and found[active].abs().max() > 0
    clip, unit = (int(each) for each in torch.nonzero(active)[5])
    gone = torch.zeros(1, 12, dtype=torch.bool)
    gone[0, unit] = True
    rest = behind.maps[clip : clip + 1] * basis.left(behind.h[clip : clip + 1], gone)[:, :, None]
    model = behind.model
    with torch.no_grad():
        maps = model.se4(model.conv_block5(rest))
        logits = model.fc2(model.relu(model.fc1(model.pool(maps).flatten(1))))
    change = log_odds(other.whole[clip : clip + 1], classes[:1]) - log_odds(logits, classes[:1])
    torch.testing.assert_close(found[clip, unit], change[0], atol=1e-5, rtol=1e-4)


class Sum(nn.Module):
    """Classes whose logits are sums of groups of channels, of clips given as maps."""

    def __init__(self, weights):
        super().__init__()
        self.conv_block5 = nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc2 = nn.Linear(weights.shape[1], len(weights), bias=False)
        with torch.no_grad():
            self.fc2.weight.copy_(weights)


def planted(clips=40, seed=0):
    """Return a network of two classes, three channels each, and clips of which it knows all."""
    rng = np.random.default_rng(seed)
    labels = np.arange(clips) % 2
    values = rng.uniform(0.1, 0.2, (clips, 6))
    values[labels == 0, :3] += [0.5, 0.3, 0.1]
    values[labels == 1, 3:] += [0.1, 0.3, 0.5]
    maps = torch.from_numpy(values).float()[:, :, None, None]
    model = Sum(10 * torch.tensor([[1.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]))
    return Behind(model, Channels(), "conv_block5", maps[..., 0], maps), labels


def test_ranks_are_those_of_scipy_and_dealing_leaves_nothing():
    behind, labels = planted(clips=200)
    classes = torch.from_numpy(labels)
    table = effects.ranked(behind, classes)
    real, expected = behind.effects(classes).numpy(), behind.expected(classes).detach().numpy()
    by_hand = [spearmanr(a, b).statistic for a, b in zip(real, expected, strict=True)]
    np.testing.assert_allclose(table.own, by_hand)
    assert table.own.mean() > 0.95 and abs(table.dealt.mean()) < 0.1
    assert (table.units == 6).all()


def test_a_class_goes_with_its_own_channels_and_the_other_stays():
    behind, labels = planted()
    orders = effects.orders(behind, labels)
    by_name = dict(orders)
    assert by_name["by effect"][:, :3].tolist() == [[0, 1, 2], [5, 4, 3]]
    classes, clips = effects.erase(behind, labels, orders)
    own = classes[classes.order == "by effect"]
    assert (own.before == 1).all() and (own.after <= 0.5).all() and (own.needed <= 2).all()
    assert (clips[clips.order == "by effect"].after == 1).all()
    chance = classes[classes.order == "random"]
    assert len(chance) == 2 * effects.RANDOM and chance.needed.mean() > own.needed.mean()


def test_as_many_units_go_as_are_needed_and_no_more():
    behind, labels = planted()
    order = np.array([[5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5]])  # the worst there is
    classes, clips = effects.erase(behind, labels, [("worst", order)])
    needed = dict(zip(classes["class"], classes.needed, strict=True))
    own = np.flatnonzero(labels == 1)
    sets = [order[1][:n] for n in range(1, 7)]
    right = effects._right(behind, labels, own, sets).sum(axis=1).tolist()
    assert needed[1] == 1 + next(n for n, each in enumerate(right) if each <= len(own) / 2)
    assert needed[1] > 3  # the other class went first
    assert np.isnan(needed[0])  # it is said of a clip of which nothing is left
    assert np.array_equal(clips.after.isna(), labels[clips["clip"]] == 1)
    assert (clips.after.dropna() == 0).mean() == 0


def test_without_a_class_that_is_recognised_there_is_none_to_lose():
    behind, labels = planted()
    with pytest.raises(ValueError, match="none of the clips is recognised"):
        effects.erase(behind, 1 - labels, effects.orders(behind, labels))
