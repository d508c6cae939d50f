"""Grad-CAM: against its two equations written out, and on networks whose reasons are known."""

import numpy as np
import pytest
import torch
from torch import nn

from esc_lib.config import Network
from esc_lib.explain.gradcam import BATCH, gradcam, map_correlations
from esc_lib.models.se_cnn import SECNN


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
    model = SECNN(5, Network(channels=(4, 8, 8, 16, 16), se_reduction=4, hidden=32))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():  # sets the normalisation: else the deep maps all but vanish
        model(torch.randn(8, 1, 64, 96))
    return model.eval()


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
    maps = gradcam(TwoHalves(), "bands", features, torch.full((3,), target))
    share = maps[:, bands].sum(dim=(1, 2)) / maps.sum(dim=(1, 2))
    assert (share > 0.97).all()  # interpolation carries a little over the edge
    assert (maps.amax(dim=(1, 2)) == 1).all()


def test_map_follows_the_one_patch_that_is_there():
    features = torch.zeros(1, 1, 32, 40)
    features[:, :, 4:8, 20:26] = 1
    (found,) = gradcam(TwoHalves(), "bands", features, torch.tensor([0]))
    assert found[4:8, 20:26].min() > 0.5
    outside = found.clone()
    outside[3:9, 19:27] = 0
    assert not outside.any()


def test_each_clip_is_explained_for_its_own_target():
    features = torch.rand(2, 1, 32, 40, generator=torch.Generator().manual_seed(1))
    together = gradcam(TwoHalves(), "bands", features, torch.tensor([1, 0]))
    for clip, target in ((0, 1), (1, 0)):
        alone = gradcam(TwoHalves(), "bands", features[[clip]], torch.tensor([target]))
        torch.testing.assert_close(together[[clip]], alone)


def test_a_class_that_nothing_speaks_for_has_a_map_of_zeros():
    features = torch.rand(2, 1, 32, 40, generator=torch.Generator().manual_seed(2))
    maps = gradcam(TwoHalves(), "bands", features, torch.tensor([2, 0]))
    assert torch.equal(maps[0], torch.zeros(32, 40))
    assert maps[1].max() == 1
    silent = gradcam(TwoHalves(), "bands", torch.zeros(1, 1, 32, 40), torch.tensor([0]))
    assert torch.equal(silent, torch.zeros(1, 32, 40))


# ------------------------------------------------------------------------- on the real network


@pytest.mark.parametrize("layer", ["conv_block2", "conv_block3", "conv_block5", "se3"])
def test_equals_grad_cam_by_hand(layer):
    model = secnn()
    features = torch.randn(4, 1, 64, 96, generator=torch.Generator().manual_seed(3))
    targets = torch.tensor([0, 4, 2, 0])
    found = gradcam(model, layer, features, targets)
    assert found.shape == (4, 64, 96)
    torch.testing.assert_close(found, by_hand(model, layer, features, targets), rtol=0, atol=1e-5)
    assert found.std() > 0.05  # else the comparison would say little


def test_range_is_zero_to_one():
    model = secnn()
    features = torch.randn(5, 1, 64, 96, generator=torch.Generator().manual_seed(4))
    for target in range(5):
        maps = gradcam(model, "conv_block4", features, torch.full((5,), target))
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
    gradcam(model, "conv_block5", features, torch.tensor([1, 2]))
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
        gradcam(model, "conv_block5", torch.zeros(1, 7, 64, 96), torch.tensor([0]))
    assert not any(module._forward_hooks for module in model.modules())


def test_unknown_layer_is_named():
    with pytest.raises(ValueError, match=r"layer='conv_block9' is unknown; choose one of"):
        gradcam(nn.Sequential(nn.Conv2d(1, 1, 1)), "conv_block9", torch.zeros(1, 1, 2, 2), None)


def test_more_clips_than_one_batch_give_the_same_maps():
    torch.manual_seed(0)
    model = SECNN(3, Network(channels=(2, 2, 2, 2, 2), se_reduction=1, hidden=4)).eval()
    features, targets = torch.randn(BATCH + 3, 1, 32, 32), torch.arange(BATCH + 3) % 3
    whole = gradcam(model, "conv_block3", features, targets)
    last = gradcam(model, "conv_block3", features[-1:], targets[-1:])
    torch.testing.assert_close(whole[-1:], last, rtol=1e-4, atol=1e-6)


# ----------------------------------------------------------------------------- two maps compared


def test_correlation_of_two_maps_is_known():
    first = np.random.default_rng(0).random((5, 6, 9))
    noise = np.random.default_rng(1).random((6, 9))
    noise -= noise.mean()
    centred = first[4] - first[4].mean()
    noise -= centred * (noise * centred).sum() / (centred**2).sum()  # orthogonal to the map
    second = np.stack([3 * first[0] + 1, 1 - first[1], np.zeros((6, 9)), first[3], noise])
    first[3] = 0.3  # constant, and not exactly its own mean
    found = map_correlations(first.astype(np.float32), second.astype(np.float32))
    np.testing.assert_allclose(found, [1, -1, np.nan, np.nan, 0], atol=1e-6)
