"""BAST: its published sizes, what flows through it, its attention and the three losses."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from esc_lib.companions.binaural.losses import LOSSES, angular_distance, hybrid, squared_error
from esc_lib.companions.binaural.network import BAST, ENCODERS
from esc_lib.companions.binaural.settings import Settings

SMALL = {"width": 24, "layers": 2, "heads": 3, "head_width": 8, "hidden": 32, "stride": 12}


@pytest.fixture(autouse=True)
def same_noise():
    torch.manual_seed(0)


def small(**changes):
    torch.manual_seed(0)
    return BAST(Settings(dropout=0.0, **{**SMALL, **changes})).eval()


@pytest.mark.parametrize(
    ("changes", "millions"),
    [({}, 57.14), ({"shared": True}, 38.25), ({"fusion": "concatenate"}, 76.04),
     ({"fusion": "add"}, 57.14)],
)  # fmt: skip
def test_published_numbers_of_parameters(changes, millions):
    with torch.device("meta"):
        model = BAST(Settings(**changes))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert round(count / 1e6, 2) == millions


def test_published_grid_of_patches():
    settings = Settings()
    assert settings.grid == (20, 9)
    with torch.device("meta"):
        assert BAST(settings).positions.shape[1] == 181
    assert settings.padding == (1, 3)  # 129 + 1 and 61 + 3 are whole numbers of strides


def test_embedding_equals_unfolded_patches_through_a_linear_layer():
    model = small()
    ear = torch.randn(2, 1, 129, 61)
    padded = nn.functional.pad(ear, (0, model.settings.padding[1], 0, model.settings.padding[0]),
                               mode="reflect")  # fmt: skip
    patches = nn.functional.unfold(padded, 16, stride=12).transpose(1, 2)
    by_hand = patches @ model.patches.weight.flatten(1).T + model.patches.bias
    found = model.embed(ear)
    assert found.shape == (2, model.positions.shape[1], 24)
    torch.testing.assert_close(found[:, 1:], by_hand + model.positions[:, 1:])
    torch.testing.assert_close(found[0, 0], (model.class_token + model.positions[:, :1])[0, 0])


def test_layer_equals_torch_multi_head_attention():
    model = small()  # 3 heads x 8 = width: what torch's layer can do as well
    layer = model.left.layers[0]
    torch_layer = nn.MultiheadAttention(24, 3, batch_first=True)
    with torch.no_grad():
        torch_layer.in_proj_weight.copy_(layer.query_key_value.weight)
        torch_layer.in_proj_bias.zero_()
        torch_layer.out_proj.weight.copy_(layer.out.weight)
        torch_layer.out_proj.bias.copy_(layer.out.bias)
        x = torch.randn(2, 5, 24)
        normed = layer.norm_attention(x)
        mixed, weights = torch_layer(normed, normed, normed, average_attn_weights=False)
        x1 = x + mixed
        hidden = nn.functional.gelu(layer.mlp_in(layer.norm_mlp(x1)))
        found, attention = layer(x, True)
        torch.testing.assert_close(found, x1 + layer.mlp_out(hidden), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(attention, weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fusion", ["subtract", "add", "concatenate"])
def test_attention_is_complete_and_asking_for_it_changes_nothing(fusion):
    model = small(fusion=fusion)
    heard = torch.randn(3, 2, 129, 61)
    with torch.no_grad():
        plain = model(heard)
        points, attentions = model(heard, attentions=True)
    torch.testing.assert_close(points, plain, rtol=1e-4, atol=1e-5)
    assert points.shape == (3, 2)
    assert tuple(attentions) == ENCODERS
    tokens = math.prod(model.settings.grid) + 1
    for attention in attentions.values():
        assert attention.shape == (2, 3, 3, tokens, tokens)
        torch.testing.assert_close(attention.sum(-1), torch.ones(2, 3, 3, tokens))


def test_fusions_treat_the_ears_as_they_say():
    heard = torch.randn(2, 2, 129, 61)
    swapped = heard.flip(1)
    with torch.no_grad():
        added = small(fusion="add", shared=True)
        torch.testing.assert_close(added(heard), added(swapped), rtol=1e-4, atol=1e-5)
        subtracted = small(shared=True)
        assert not torch.allclose(subtracted(heard), subtracted(swapped), atol=1e-3)
        alike = heard[:, :1].expand(-1, 2, -1, -1)  # the same in both ears: their difference is 0
        points = subtracted(alike)
        torch.testing.assert_close(points[0], points[1])
        separate = small()(alike)
        assert not torch.allclose(separate[0], separate[1], atol=1e-3)


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="fusion='multiply', expected one of subtract, add"):
        Settings(fusion="multiply")
    with pytest.raises(ValueError, match="a patch of 62 does not fit in 129 bins x 61 frames"):
        Settings(patch=62)
    with pytest.raises(ValueError, match=r"shape \(1, 1, 129, 61\), expected \(batch, 2"):
        small()(torch.zeros(1, 1, 129, 61))


# ----------------------------------------------------------------------------------------- losses


def on_circle(degrees):
    angle = np.deg2rad(degrees)
    return torch.tensor(np.stack([np.cos(angle), np.sin(angle)], -1), dtype=torch.float32)


def test_losses_by_hand():
    points, truth = torch.tensor([[0.5, 0.0], [0.0, 2.0]]), on_circle([0.0, 0.0])
    assert squared_error(points, truth).item() == pytest.approx((0.25 + 0 + 1 + 4) / 4)
    assert angular_distance(points, truth).item() == pytest.approx(np.pi / 4)
    assert hybrid(points, truth).item() == pytest.approx(5.25 / 4 + np.pi / 4)


def test_angular_distance_equals_the_arc_cosine_and_its_slope():
    rng = np.random.default_rng(0)
    degrees = rng.uniform(0, 360, 50)
    points = torch.tensor(rng.normal(size=(50, 2)), dtype=torch.float32, requires_grad=True)
    dot = (nn.functional.normalize(points) * on_circle(degrees)).sum(1)
    by_cosine = dot.acos().mean()
    found = angular_distance(points, on_circle(degrees))
    assert found.item() == pytest.approx(by_cosine.item(), rel=1e-5)
    slopes = [torch.autograd.grad(loss, points)[0] for loss in (by_cosine, found)]
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("off", [0.0, 1e-4, 180.0, 180.0001])
def test_slopes_are_finite_where_the_arc_cosine_has_none(loss, off):
    points = on_circle([off]).requires_grad_()
    LOSSES[loss](points, on_circle([0.0])).backward()
    assert torch.isfinite(points.grad).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_slopes_are_finite_at_the_centre(loss):
    points = torch.zeros(1, 2, requires_grad=True)
    LOSSES[loss](points, on_circle([40.0])).backward()
    assert torch.isfinite(points.grad).all()
