"""Heat maps: Grad-CAM by its equations, rivals on networks whose reasons are known, their masks."""

import numpy as np
import pytest
import torch
from captum.attr import DeepLift
from scipy.ndimage import uniform_filter
from torch import nn
from two_bands import settled

from esc_lib.config import Network
from esc_lib.explain import heatmaps
from esc_lib.explain.conditions import BATCH
from esc_lib.explain.heatmaps import Shape, gradcam
from esc_lib.models.se_cnn import SECNN

pytestmark = pytest.mark.usefixtures("exact")


class Half(nn.Module):
    """Pool 2 x 2; channel 0 keeps the lower half of the bands, channel 1 the upper half."""

    def forward(self, features):
        maps = nn.functional.avg_pool2d(features, 2)
        low = torch.zeros_like(maps)
        low[:, :, : maps.shape[2] // 2] = 1
        return torch.cat([maps * low, maps * (1 - low)], dim=1)


class TwoHalves(nn.Module):
    """Class 0 speaks for the lower bands, class 1 for the upper ones, class 2 against both."""

    def __init__(self):
        super().__init__()
        self.bands = Half()
        self.vote = nn.Linear(2, 3, bias=False)
        self.vote.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])

    def forward(self, features):
        return self.vote(self.bands(features).mean(dim=(2, 3)))


def secnn():
    torch.manual_seed(0)
    return settled(SECNN(5, Network(channels=(4, 8, 8, 16, 16), se_reduction=4, hidden=32)))


def by_hand(model, layer, features, targets):
    """Write out equations 1 and 2 of the paper, with a gradient of our own."""
    kept = {}

    def keep(_module, _inputs, output):
        kept["maps"] = output

    handle = model.get_submodule(layer).register_forward_hook(keep)
    logits = model(features)
    handle.remove()
    maps = kept["maps"]
    score = logits.gather(1, targets[:, None]).sum()  # the clips do not touch each other
    (gradient,) = torch.autograd.grad(score, maps)
    weight = gradient.mean(dim=(2, 3))
    cam = torch.einsum("bk,bkft->bft", weight, maps).relu().detach()
    wide = nn.functional.interpolate(
        cam[:, None], features.shape[2:], mode="bilinear", align_corners=False
    )[:, 0]
    peak = wide.flatten(1).max(dim=1).values
    return torch.stack([w / p if p > 0 else w for w, p in zip(wide, peak, strict=True)])


# ------------------------------------------------------------------------------ known reasons


@pytest.mark.parametrize(("target", "bands"), [(0, slice(0, 16)), (1, slice(16, 32))])
def test_mass_lies_where_the_class_is_decided(target, bands):
    features = torch.rand(3, 1, 32, 40, generator=torch.Generator().manual_seed(0))
    maps = gradcam(TwoHalves(), features, torch.full((3,), target), "bands")
    share = maps[:, bands].sum(dim=(1, 2)) / maps.sum(dim=(1, 2))
    assert (share > 0.97).all()  # interpolation carries a little over the edge
    assert (maps.amax(dim=(1, 2)) == 1).all()


def test_map_follows_the_one_patch_that_is_there():
    features = torch.zeros(1, 1, 32, 40)
    features[:, :, 4:8, 20:26] = 1
    (found,) = gradcam(TwoHalves(), features, torch.tensor([0]), "bands")
    assert found[4:8, 20:26].min() > 0.5
    outside = found.clone()
    outside[3:9, 19:27] = 0
    assert not outside.any()


def test_each_clip_is_explained_for_its_own_target():
    features = torch.rand(2, 1, 32, 40, generator=torch.Generator().manual_seed(1))
    together = gradcam(TwoHalves(), features, torch.tensor([1, 0]), "bands")
    for clip, target in ((0, 1), (1, 0)):
        alone = gradcam(TwoHalves(), features[[clip]], torch.tensor([target]), "bands")
        torch.testing.assert_close(together[[clip]], alone)


def test_a_class_that_nothing_speaks_for_has_a_map_of_zeros():
    features = torch.rand(2, 1, 32, 40, generator=torch.Generator().manual_seed(2))
    maps = gradcam(TwoHalves(), features, torch.tensor([2, 0]), "bands")
    assert torch.equal(maps[0], torch.zeros(32, 40))
    assert maps[1].max() == 1
    silent = gradcam(TwoHalves(), torch.zeros(1, 1, 32, 40), torch.tensor([0]), "bands")
    assert torch.equal(silent, torch.zeros(1, 32, 40))


# ------------------------------------------------------------------------- on the real network


@pytest.mark.parametrize("layer", ["conv_block2", "conv_block3", "conv_block5", "se3"])
def test_equals_grad_cam_by_hand(layer):
    model = secnn()
    features = torch.randn(4, 1, 64, 96, generator=torch.Generator().manual_seed(3))
    targets = torch.tensor([0, 4, 2, 0])
    found = gradcam(model, features, targets, layer)
    assert found.shape == (4, 64, 96)
    torch.testing.assert_close(found, by_hand(model, layer, features, targets), rtol=0, atol=1e-5)
    assert found.std() > 0.05  # else the comparison would say little


def test_range_is_zero_to_one():
    model = secnn()
    features = torch.randn(5, 1, 64, 96, generator=torch.Generator().manual_seed(4))
    for target in range(5):
        maps = gradcam(model, features, torch.full((5,), target), "conv_block4")
        assert torch.isfinite(maps).all() and maps.min() >= 0
        peaks = maps.amax(dim=(1, 2))
        assert torch.logical_or(peaks == 1, peaks == 0).all()
        assert not maps.requires_grad


@pytest.mark.parametrize("training", [False, True])
def test_model_and_input_are_left_as_they_were(training):
    model = secnn().train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    features = torch.randn(2, 1, 64, 96, generator=torch.Generator().manual_seed(5))
    kept = features.clone()
    gradcam(model, features, torch.tensor([1, 2]))
    assert model.training == training
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
        assert not module._backward_hooks and not module._backward_pre_hooks
    after = model.named_parameters() if training else model.state_dict().items()
    assert all(torch.equal(value, before[name]) for name, value in after)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(features, kept) and not features.requires_grad


def test_hooks_are_removed_after_an_exception():
    model = secnn()
    with pytest.raises((RuntimeError, ValueError)):
        gradcam(model, torch.zeros(1, 7, 64, 96), torch.tensor([0]))
    assert not any(module._forward_hooks for module in model.modules())


def test_unknown_layer_is_named():
    with pytest.raises(ValueError, match=r"layer='conv_block9' is unknown; choose one of"):
        gradcam(nn.Sequential(nn.Conv2d(1, 1, 1)), torch.zeros(1, 1, 2, 2), None, "conv_block9")


def test_more_clips_than_one_batch_give_the_same_maps():
    torch.manual_seed(0)
    model = SECNN(3, Network(channels=(2, 2, 2, 2, 2), se_reduction=1, hidden=4)).eval()
    features, targets = torch.randn(BATCH + 3, 1, 32, 32), torch.arange(BATCH + 3) % 3
    whole = gradcam(model, features, targets, "conv_block3")
    last = gradcam(model, features[-1:], targets[-1:], "conv_block3")
    torch.testing.assert_close(whole[-1:], last, rtol=1e-4, atol=1e-6)


# -------------------------------------------------------------------------------------- gradients

GRID = (8, 12)
TARGETS = torch.tensor([2, 0, 1])


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


def test_saliency_of_a_linear_network_is_the_size_of_its_weights():
    model, features = Plain(), random_features()
    expected = model.weight.detach()[TARGETS].abs().reshape(3, *GRID)
    torch.testing.assert_close(heatmaps.saliency(model, features, TARGETS), expected)


def test_smoothgrad_of_a_linear_network_is_its_saliency_and_draws_from_nobody_else():
    model, features = Plain(), random_features()
    before = torch.get_rng_state()
    found = heatmaps.smoothgrad(model, features, TARGETS)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(found, heatmaps.saliency(model, features, TARGETS))


def test_smoothgrad_averages_over_noise_of_the_stated_size():
    features = random_features(seed=1)
    weight = (model := Plain(power=3)).weight.detach()[TARGETS].reshape(3, *GRID).abs()
    found = heatmaps.smoothgrad(model, features, TARGETS)
    assert torch.equal(found, heatmaps.smoothgrad(model, features, TARGETS))
    # the slope of x**3 is 3 x**2; its mean over x + noise is 3 (x**2 + noise**2)
    expected = 3 * weight * (features[:, 0].square() + 0.3**2)
    assert float((found.mean() / expected.mean() - 1).abs()) < 0.05
    plain = heatmaps.saliency(model, features, TARGETS)
    assert float((found - plain).mean()) > 0.5 * float((expected - plain).mean())


def test_integrated_gradients_of_a_linear_network():
    model, features = Plain(), random_features(20)  # more than one batch
    targets = torch.arange(20) % 3
    above = features[:, 0] - features.amin(dim=(1, 2, 3))[:, None, None]
    expected = (model.weight.detach()[targets].reshape(20, *GRID) * above).clamp_min(0)
    found = heatmaps.integrated_gradients(model, features, targets)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_integrated_gradients_add_up_to_what_the_clip_has_over_silence():
    model, features = Plain(power=3, lowest=0.0), random_features()  # no point speaks against it
    silence = features.amin(dim=(1, 2, 3), keepdim=True).expand_as(features)
    with torch.no_grad():
        difference = (model(features) - model(silence))[torch.arange(3), TARGETS]
    found = heatmaps.integrated_gradients(model, features, TARGETS).sum(dim=(1, 2))
    torch.testing.assert_close(found, difference, rtol=1e-4, atol=1e-3)


# -------------------------------------------------------------------------------------- occlusion


def log_odds(model, features, target):
    with torch.no_grad():
        p = model(features).softmax(dim=1)[0, target]
    return float((p / (1 - p)).log())


@pytest.mark.parametrize(
    ("heat", "windows"),
    [
        (heatmaps.occluded_bands, [(slice(at, at + 2), slice(None)) for at in range(0, 16, 2)]),
        (heatmaps.occluded_frames, [(slice(None), slice(at, at + 9)) for at in (0, 9, 18)]),
    ],
)
def test_occlusion_one_window_after_the_other(heat, windows):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16 * 20, 4))
    features, targets = random_features(grid=(16, 20)), torch.tensor([3, 0, 1])
    found = heat(model, features, targets)
    for clip, target in enumerate(targets):
        own = features[clip : clip + 1]
        before, falls = log_odds(model, own, target), []
        for bands, frames in windows:
            hidden = own.clone()
            hidden[:, :, bands, frames] = own.min()
            falls.append(before - log_odds(model, hidden, target))
            expected = torch.full_like(hidden[0, 0, bands, frames], max(falls[-1], 0))
            torch.testing.assert_close(found[clip, bands, frames], expected, rtol=1e-3, atol=1e-4)
        assert max(falls) > 0.1


# --------------------------------------------------------------------------------------- DeepLIFT


@pytest.mark.parametrize("reduction", [4, 0])
def test_the_chain_is_the_network_on_its_clips_and_its_attributions_add_up(reduction):
    torch.manual_seed(0)
    network = Network(channels=(4, 8, 8, 8, 8), se_reduction=reduction, hidden=16)
    model, features = settled(SECNN(3, network)), random_features(grid=(32, 48))
    chain = heatmaps.unrolled(model, features)
    with torch.no_grad():
        torch.testing.assert_close(chain(features), model(features))
        silence = features.amin(dim=(1, 2, 3), keepdim=True).expand_as(features)
        difference = (chain(features) - chain(silence))[torch.arange(3), TARGETS]
    relus = [module for module in chain.modules() if isinstance(module, nn.ReLU)]
    assert len({id(relu) for relu in relus}) == len(relus) == 11
    inputs = features.clone().requires_grad_()
    with pytest.warns(UserWarning, match="forward, backward hooks"):
        attributed = DeepLift(chain).attribute(inputs, silence, target=TARGETS)
    torch.testing.assert_close(attributed.sum(dim=(1, 2, 3)), difference, rtol=1e-3, atol=1e-3)
    found = heatmaps.deep_lift(model, features, TARGETS)
    torch.testing.assert_close(found, attributed[:, 0].clamp_min(0).detach())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_deep_lift_of_a_linear_network_would_be_refused_by_its_name():
    with pytest.raises(ValueError, match="deep_lift: model is a Plain, which is no chain"):
        heatmaps.deep_lift(Plain(), random_features(), TARGETS)


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
    heat = heatmaps.feature_factorization(
        ThreeConcepts(), features, torch.tensor([0, 1, 2]), "maps"
    )
    assert heat.shape == (3, 24, 20) and heat.min() >= 0
    for clip, bands in enumerate((slice(0, 8), slice(8, 16), slice(16, 24))):
        assert heat[clip, bands].sum() / heat[clip].sum() > 0.9  # interpolation crosses the edge


def test_deep_feature_factorization_of_few_positions():
    features = torch.rand(1, 1, 6, 2, generator=generator())  # 3 positions, 5 channels
    heat = heatmaps.feature_factorization(
        ThreeConcepts(), features, torch.tensor([1]), "maps"
    )
    assert torch.isfinite(heat).all() and heat[0, 2:4].sum() > 0.6 * heat.sum()


# ----------------------------------------------------------------------------------------- masks


def test_a_mask_without_smoothing_by_hand():
    heat = torch.arange(1000.0).reshape(1, 20, 50)
    found = Shape(exponent=0.5, width=1).mask(heat)
    top = np.quantile(np.arange(1000), 0.99)
    expected = np.sqrt(np.minimum(np.arange(1000) / top, 1)).reshape(1, 20, 50)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (Shape(0.5, 1).mask(0 * heat) == 0).all()
    torch.testing.assert_close(Shape(0.5, 1).mask(heat * 1e3), found)  # a level of its own
    torch.testing.assert_close(Shape(0.5, 1, 0.4).mask(heat), found.clamp_min(0.4))


def test_a_mask_averages_frames_and_a_third_as_many_bands():
    heat = torch.rand(1, 30, 40, generator=generator()).pow(8)
    found = Shape(exponent=1, width=9).mask(heat)[0]
    window = {"size": (3, 9), "mode": "constant"}
    inside = uniform_filter(np.ones((30, 40)), **window)  # at the edge there is less to average
    smooth = uniform_filter(heat[0].double().numpy(), **window) / inside
    np.testing.assert_allclose(found, np.minimum(smooth / np.quantile(smooth, 0.99), 1), rtol=1e-4)
