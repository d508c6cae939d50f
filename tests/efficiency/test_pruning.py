"""Compression: every smaller network against the one it was made from."""

import itertools

import pytest
import torch
from torch import nn

from esc_lib.config import Network
from esc_lib.efficiency import pruning
from esc_lib.models.se_cnn import BLOCKS, SECNN

NARROW = Network(channels=(8, 16, 16, 16, 16), hidden=16)
N_CLASSES = 4


def network(settings=NARROW, seed=0):
    """Return a network whose normalisation is far from its neutral start."""
    torch.manual_seed(seed)
    model = SECNN(N_CLASSES, settings)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 2.0)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
    return model.eval()


def silence(model, keep, seed=0):
    """Switch off a random choice of each layer's channels, so that they give zero everywhere."""
    generator = torch.Generator().manual_seed(seed)
    for name in BLOCKS:
        for norm in (getattr(model, name).bn1, getattr(model, name).bn2):
            width = norm.num_features
            off = torch.randperm(width, generator=generator)[round(keep * width) :]
            with torch.no_grad():
                norm.weight[off] = 0
                norm.bias[off] = 0
    return model


@pytest.mark.parametrize("keep", [0.125, 0.25, 0.5, 0.625, 0.75, 1.0])
def test_dropping_channels_that_are_zero_changes_nothing(keep):
    model = silence(network(Network((8, 16, 24, 32, 40), hidden=24)), keep)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pruned = pruning.prune_channels(model, keep)
    torch.manual_seed(2)
    features = torch.randn(3, 1, 32, 40)
    with torch.no_grad():
        logits = model(features)
        # both sum the same terms, the wide one with zeros between them
        torch.testing.assert_close(pruned(features), logits, rtol=0, atol=1e-5)
    assert logits.std() > 1e-3
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_largest_scales_are_kept_whatever_their_sign():
    model = network()
    norm = model.conv_block3.bn2
    with torch.no_grad():
        norm.weight[3] = -9.0
    kept = norm.weight.detach().abs().topk(8).indices.sort().values
    pruned = pruning.prune_channels(model, 0.5)
    torch.testing.assert_close(pruned.conv_block3.bn2.weight, norm.weight[kept])
    torch.testing.assert_close(pruned.conv_block3.bn2.running_var, norm.running_var[kept])
    torch.testing.assert_close(pruned.se2.fc2.weight, model.se2.fc2.weight[kept])
    both = torch.cat([kept, 16 + kept])
    torch.testing.assert_close(pruned.se2.fc1.weight, model.se2.fc1.weight[:, both])


@pytest.mark.parametrize(
    ("settings", "keep", "expected"),
    [
        (Network(), 0.5, Network((32, 64, 128, 256, 512), 4)),
        (Network(), 0.75, Network((48, 96, 192, 384, 768), 6)),
        (NARROW, 0.25, Network((2, 4, 4, 4, 4), 2, 16)),
        (Network((4, 8, 8, 16, 16), 4, 32), 0.5, Network((2, 4, 4, 8, 8), 2, 32)),
        (Network((3, 20, 21, 40, 41), 4, 32, 0.1), 0.25, Network((1, 5, 5, 10, 10), 1, 32, 0.1)),
    ],
)
def test_pruned_network_is_an_ordinary_one_of_fewer_parameters(settings, keep, expected):
    model = SECNN(N_CLASSES, settings)
    assert pruning.settings_of(model) == settings
    pruned = pruning.prune_channels(model, keep)
    assert pruning.settings_of(pruned) == expected
    assert pruned.training and pruned.fc1.weight.requires_grad
    ordinary = SECNN(N_CLASSES, expected)
    ordinary.load_state_dict(pruned.state_dict())
    widths = (1, *expected.channels)
    units = [getattr(model, f"se{i}").fc1.out_features for i in range(1, 5)]
    assert sum(p.numel() for p in pruned.parameters()) == (
        sum(9 * a * b + 9 * b * b + 4 * b for a, b in itertools.pairwise(widths))
        + sum(3 * width * n for width, n in zip(widths[2:], units))
        + (widths[-1] + 1) * expected.hidden
        + (expected.hidden + 1) * N_CLASSES
    )


@pytest.mark.parametrize("keep", [0.0, -0.5, 1.5, float("nan")])
def test_prune_refuses_a_share_out_of_range(keep):
    with pytest.raises(ValueError, match=r"prune_channels: keep=.*, expected a share in \(0, 1\]"):
        pruning.prune_channels(network(), keep)


def test_prune_refuses_what_would_cut_a_gate_and_other_networks():
    for keep in (0.3, 0.01):
        with pytest.raises(ValueError, match="units of the gates; choose a multiple of 1/8"):
            pruning.prune_channels(network(), keep)
    with pytest.raises(TypeError, match="model is a Linear, expected an SECNN"):
        pruning.prune_channels(nn.Linear(2, 2), 0.5)
