"""Rivals on networks whose reasons are known, and controls that keep what they promise."""

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter
from torch import nn
from two_bands import LOW, mask_of

from esc_lib.explain import rivals
from esc_lib.machine import hardware

GRID = (8, 12)
TARGETS = torch.tensor([2, 0, 1])


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Switch fast precision off: closed forms are compared here."""
    monkeypatch.setattr(hardware, "best_precision", lambda: "32-true")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_features(n=3, grid=GRID, seed=0):
    return torch.randn(n, 1, *grid, generator=generator(seed))


class Plain(nn.Module):
    """Logits that are weighted sums of the features, to a power."""

    def __init__(self, power=1, lowest=-1.0):
        super().__init__()
        self.power = power
        span = torch.rand(3, GRID[0] * GRID[1], generator=generator(9))
        self.weight = nn.Parameter(lowest + (1 - lowest) * span)

    def forward(self, features):
        return features.flatten(1) ** self.power @ self.weight.T


# ------------------------------------------------------------------------------------ gradients


def test_saliency_of_a_linear_network_is_the_size_of_its_weights():
    model, features = Plain(), random_features()
    expected = model.weight.detach()[TARGETS].abs().reshape(3, *GRID)
    torch.testing.assert_close(rivals.saliency(model, features, TARGETS), expected)


def test_smoothgrad_of_a_linear_network_is_its_saliency_and_draws_from_nobody_else():
    model, features = Plain(), random_features()
    before = torch.get_rng_state()
    found = rivals.smoothgrad(model, features, TARGETS)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(found, rivals.saliency(model, features, TARGETS))


def test_smoothgrad_averages_over_noise_of_the_stated_size():
    features = random_features(seed=1)
    weight = (model := Plain(power=3)).weight.detach()[TARGETS].reshape(3, *GRID).abs()
    found = rivals.smoothgrad(model, features, TARGETS)
    assert torch.equal(found, rivals.smoothgrad(model, features, TARGETS))
    # the slope of x**3 is 3 x**2; its mean over x + noise is 3 (x**2 + noise**2)
    expected = 3 * weight * (features[:, 0].square() + 0.3**2)
    assert float((found.mean() / expected.mean() - 1).abs()) < 0.05
    plain = rivals.saliency(model, features, TARGETS)
    assert float((found - plain).mean()) > 0.5 * float((expected - plain).mean())


def test_integrated_gradients_of_a_linear_network():
    model, features = Plain(), random_features(20)  # more than one batch
    targets = torch.arange(20) % 3
    above = features[:, 0] - features.amin(dim=(1, 2, 3))[:, None, None]
    expected = (model.weight.detach()[targets].reshape(20, *GRID) * above).clamp_min(0)
    found = rivals.integrated_gradients(model, features, targets)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_integrated_gradients_add_up_to_what_the_clip_has_over_silence():
    model, features = Plain(power=3, lowest=0.0), random_features()  # no point speaks against it
    silence = features.amin(dim=(1, 2, 3), keepdim=True).expand_as(features)
    with torch.no_grad():
        difference = (model(features) - model(silence))[torch.arange(3), TARGETS]
    found = rivals.integrated_gradients(model, features, TARGETS).sum(dim=(1, 2))
    torch.testing.assert_close(found, difference, rtol=1e-4, atol=1e-3)


# ------------------------------------------------------------------- deep feature factorisation


class ThreeConcepts(nn.Module):
    """Pool 2 x 2; channels 0 and 1 see the lower bands, 2 the middle, 3 and 4 the upper ones."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Sequential(nn.AvgPool2d(2), _Stripes())
        self.vote = nn.Linear(5, 3, bias=False)
        self.vote.weight.data = torch.tensor(
            [[1.0, 1, 0, 0, 0], [0.0, 0, 1, 0, 0], [-1.0, -1, -1, 1, 1]]
        )

    def forward(self, features):
        return self.vote(self.maps(features).mean(dim=(2, 3)))


class _Stripes(nn.Module):
    def forward(self, maps):
        stripe = torch.arange(maps.shape[2])[:, None] * 3 // maps.shape[2]
        gains = ((0, 1.0), (0, 0.5), (1, 1.0), (2, 0.7), (2, 1.3))
        return torch.cat([gain * maps * (stripe == at) for at, gain in gains], dim=1)


def test_deep_feature_factorization_lies_on_the_concept_that_supports_the_class():
    features = torch.rand(3, 1, 24, 20, generator=generator()) + 0.1
    heat = rivals.deep_feature_factorization(
        ThreeConcepts(), "maps", features, torch.tensor([0, 1, 2]), n_factors=3
    )
    assert heat.shape == (3, 24, 20) and heat.min() >= 0
    for clip, bands in enumerate((slice(0, 8), slice(8, 16), slice(16, 24))):
        assert heat[clip, bands].sum() / heat[clip].sum() > 0.9  # interpolation crosses the edge


def test_deep_feature_factorization_of_few_positions():
    features = torch.rand(1, 1, 6, 2, generator=generator())  # 3 positions, 5 channels
    heat = rivals.deep_feature_factorization(ThreeConcepts(), "maps", features, torch.tensor([1]))
    assert torch.isfinite(heat).all() and heat[0, 2:4].sum() > 0.6 * heat.sum()


# ----------------------------------------------------------------------------- masks and controls


def test_as_mask_without_smoothing_by_hand():
    heat = torch.arange(1000.0).reshape(1, 20, 50)
    found = rivals.as_mask(heat, exponent=0.5, width=1)
    top = np.quantile(np.arange(1000), 0.99)
    expected = np.sqrt(np.minimum(np.arange(1000) / top, 1)).reshape(1, 20, 50)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (rivals.as_mask(0 * heat, 0.5, 1) == 0).all()
    torch.testing.assert_close(rivals.as_mask(heat * 1e3, 0.5, 1), found)  # a level of its own


def test_as_mask_averages_frames_and_a_third_as_many_bands():
    heat = torch.rand(1, 30, 40, generator=generator()).pow(8)
    found = rivals.as_mask(heat, exponent=1, width=9)[0]
    window = {"size": (3, 9), "mode": "constant"}
    inside = uniform_filter(np.ones((30, 40)), **window)  # at the edge there is less to average
    smooth = uniform_filter(heat[0].double().numpy(), **window) / inside
    np.testing.assert_allclose(found, np.minimum(smooth / np.quantile(smooth, 0.99), 1), rtol=1e-4)


@pytest.fixture(scope="module")
def masks():
    return torch.rand(4, 32, 70, generator=generator(5)).pow(2)


@pytest.mark.parametrize("control", [rivals.shuffled, rivals.random_like])
def test_moved_masks_keep_their_values_exactly(control, masks):
    found = control(masks, generator())
    assert torch.equal(found.flatten(1).sort(dim=1).values, masks.flatten(1).sort(dim=1).values)
    assert torch.equal(found, control(masks, generator()))
    for one, other in zip(found, masks, strict=True):
        assert abs(np.corrcoef(one.flatten(), other.flatten())[0, 1]) < 0.1


def test_shuffled_moves_the_shapes_as_they_are():
    mask = mask_of(LOW)
    found = rivals.shuffled(mask, generator())[0]
    rows = found.amax(dim=1).bool()
    assert rows.sum() == 5 and not rows[LOW].all() and (found[rows] == 1).all()


def test_random_like_is_smooth(masks):
    found = rivals.random_like(masks, generator())
    step = found.diff(dim=2).abs().mean() / masks.diff(dim=2).abs().mean()
    assert step < 0.3


def test_constant_has_the_mean(masks):
    found = rivals.constant(masks)
    assert found.shape == masks.shape
    torch.testing.assert_close(found[:, 3, 7], masks.mean(dim=(1, 2)))
    assert (found == found[:, :1, :1]).all()


def test_random_atoms_deals_among_those_in_use_and_keeps_the_count():
    keep = (torch.rand(6, 9, 11, generator=generator()) > 0.7).float()
    in_use = torch.tensor([1, 1, 0, 1, 1, 1, 0, 1, 1]).bool()
    kept = keep.clone()
    found = rivals.random_atoms(keep, in_use, generator(1))
    assert torch.equal(keep, kept)
    torch.testing.assert_close(found.sum(dim=1), keep.sum(dim=1))
    assert torch.equal(found[:, ~in_use], keep[:, ~in_use])
    rows = [sorted(map(tuple, one[in_use].tolist())) for one in (found[2], keep[2])]
    assert rows[0] == rows[1] and not torch.equal(found[2], keep[2])
    assert len({tuple((found[i] - keep[i]).flatten().tolist()) for i in range(6)}) == 6


def test_ideal_by_hand():
    target, other = torch.tensor([[[3.0, 0.0, 0.0]]]), torch.tensor([[[1.0, 2.0, 0.0]]])
    assert rivals.ideal(target, other).tolist() == [[[0.75, 0, 0]]]
