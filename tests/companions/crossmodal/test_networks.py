"""SA-CMGAN: attention against torch's own and by hand, shapes, spectral norms, losses."""

import numpy as np
import pytest
import torch
from torch import nn

from esc_lib.companions.crossmodal.networks import (
    STAGES,
    Discriminator,
    Encoder,
    Generator,
    SelfAttention,
    Tower,
    stage_channels,
)
from esc_lib.companions.crossmodal.settings import Settings
from esc_lib.companions.crossmodal.training import discriminator_loss, generator_loss

EVERYWHERE = [*STAGES, None]
NARROW, PLAIN = Settings(width=0.125), Settings(width=0.125, attention=None)


def attention(channels=16, gamma=0.7, seed=0):
    torch.manual_seed(seed)
    layer = SelfAttention(channels)
    with torch.no_grad():
        layer.gamma.fill_(gamma)
    return layer


# ------------------------------------------------------------------------------ attention


@torch.no_grad()
def test_attention_is_that_of_torch_with_scale_one():
    layer, maps = attention(), torch.randn(3, 16, 5, 4)
    flat = maps.flatten(2).transpose(1, 2)  # (batch, places, channels)
    query, key, value = (
        nn.functional.linear(flat, conv.weight[:, :, 0, 0], conv.bias)
        for conv in (layer.query, layer.key, layer.value)
    )
    attended = nn.functional.scaled_dot_product_attention(query, key, value, scale=1.0)
    expected = maps + 0.7 * attended.transpose(1, 2).reshape(maps.shape)
    torch.testing.assert_close(layer(maps), expected)


@torch.no_grad()
def test_attention_by_hand():
    """One channel, two places: weights are logistic functions of differences of products."""
    layer = attention(1, gamma=0.5)
    for conv, weight, bias in ((layer.query, 1, 0), (layer.key, 2, 0), (layer.value, 3, 1)):
        conv.weight.fill_(weight)
        conv.bias.fill_(bias)
    low, high = 0.25, 1.0
    maps = torch.tensor([low, high]).reshape(1, 1, 1, 2)
    expected = []
    for x in (low, high):
        to_high = 1 / (1 + np.exp(-x * 2 * (high - low)))
        attended = to_high * (3 * high + 1) + (1 - to_high) * (3 * low + 1)
        expected.append(x + 0.5 * attended)
    assert layer(maps).flatten().tolist() == pytest.approx(expected, rel=1e-6)
    assert float(layer.weights(maps)[0, 0, 1]) == pytest.approx(1 / (1 + np.exp(-0.375)), rel=1e-6)


@torch.no_grad()
def test_weights_make_up_what_the_layer_adds():
    layer, maps = attention(24), torch.randn(2, 24, 4, 4)
    weights = layer.weights(maps)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 16))
    value = layer.value(maps).flatten(2)  # (batch, channels, places)
    added = torch.einsum("bij,bcj->bci", weights, value).reshape(maps.shape)
    torch.testing.assert_close(layer(maps), maps + 0.7 * added)


def test_attention_starts_as_the_identity_and_learns_gamma_first():
    torch.manual_seed(0)
    layer, maps = SelfAttention(16), torch.randn(2, 16, 4, 4)
    assert torch.equal(layer(maps), maps)
    layer(maps).square().sum().backward()
    assert layer.gamma.grad != 0
    assert not layer.value.weight.grad.any()


@torch.no_grad()
def test_pooled_attention_looks_at_the_maxima_of_squares():
    torch.manual_seed(0)
    layer, maps = SelfAttention(16, pool=2), torch.randn(2, 16, 4, 6)
    layer.gamma.fill_(1)
    flat = maps.flatten(2).transpose(1, 2)
    pooled = {}
    for name in ("key", "value"):
        squares = getattr(layer, name)(maps).reshape(2, -1, 2, 2, 3, 2)  # 2 x 3 squares of 2 x 2
        pooled[name] = squares.amax(dim=(3, 5)).flatten(2).transpose(1, 2)
    query = nn.functional.linear(flat, layer.query.weight[:, :, 0, 0], layer.query.bias)
    weights = (query @ pooled["key"].transpose(1, 2)).softmax(-1)
    assert weights.shape == (2, 24, 6)
    torch.testing.assert_close(layer.weights(maps), weights)
    added = (weights @ pooled["value"]).transpose(1, 2).reshape(maps.shape)
    torch.testing.assert_close(layer(maps), maps + added)


def test_attention_is_the_same_for_channels_last():
    layer, maps = attention(), torch.randn(2, 16, 6, 6)
    last = maps.to(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(last), layer(maps))


# ------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("stage", EVERYWHERE)
def test_the_attention_stands_after_the_stage_of_its_channels(stage):
    places = {64: 32 * 32, 128: 16 * 16, 256: 8 * 8, 512: 4 * 4}
    settings = Settings(width=0.125, attention=stage)
    encoder, generator, discriminator = (
        Encoder(10, 1, settings), Generator(3, settings), Discriminator(3, settings)
    )  # fmt: skip
    seen = []
    for network in (encoder.tower, generator, discriminator.tower):
        layers = [m for m in network.modules() if isinstance(m, SelfAttention)]
        assert len(layers) == (stage is not None)
        for layer in layers:
            layer.register_forward_hook(lambda _, inputs, output: seen.append(output.shape))
    pictures, codes = torch.randn(2, 1, 64, 64), torch.randn(2, 64)
    assert encoder(pictures).shape == (2, 64)
    assert encoder.logits(pictures).shape == (2, 10)
    generated = generator(codes, torch.randn(2, 62))
    assert generated.shape == (2, 3, 64, 64)
    assert generated.abs().max() <= 1
    assert discriminator(codes, generated).shape == (2,)
    if stage is None:
        assert seen == []
        with pytest.raises(ValueError, match="attention_weights: this tower has no self-attention"):
            encoder.tower.attention_weights(pictures)
        return
    channels = stage_channels(settings)[stage]
    assert {tuple(shape) for shape in seen} == {(2, channels, *[round(places[stage] ** 0.5)] * 2)}
    assert len(seen) == 4  # the encoder ran twice
    assert encoder.tower.attention_weights(pictures).shape == (2, places[stage], places[stage])


def test_published_widths():
    encoder, generator = Encoder(13, 3, Settings()), Generator(3, Settings())
    kernels = [tuple(m.weight.shape) for m in encoder.tower.modules() if isinstance(m, nn.Conv2d)]
    assert kernels == [
        (64, 3, 4, 4), (8, 64, 1, 1), (8, 64, 1, 1), (64, 64, 1, 1), (128, 64, 4, 4),
        (256, 128, 4, 4), (256, 256, 4, 4), (512, 256, 4, 4),
    ]  # fmt: skip
    dense = [m.out_features for m in encoder.modules() if isinstance(m, nn.Linear)]
    assert dense == [1024, 128, 64, 13]
    deconvs = [m.weight.shape[:2] for m in generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert deconvs == [(512, 256), (256, 256), (256, 128), (128, 64), (64, 3)]
    assert generator.fc[0].weight.shape == (512 * 16, 64 + 62)
    discriminator = Discriminator(3, Settings())
    assert discriminator.fc1.weight.shape == (1024, (512 + 64) * 16)


def test_a_stage_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"stage_channels: attention=32 is no stage; choose one"):
        Generator(3, Settings(attention=32))


def test_every_layer_of_the_discriminator_has_spectral_norm_one():
    torch.manual_seed(0)
    network = Discriminator(1, NARROW)
    for _ in range(20):  # each pass in training mode improves the estimate of the norm
        network(torch.randn(2, 64), torch.randn(2, 1, 64, 64))
    layers = (nn.Conv2d, nn.Linear)
    weights = {n: m.weight for n, m in network.named_modules() if isinstance(m, layers)}
    assert len(weights) == 5 + 3 + 2
    for name, weight in weights.items():
        norm = float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2))
        assert norm == pytest.approx(1, abs=0.02), name


def test_a_tower_without_spectral_norm_is_not_bounded():
    torch.manual_seed(0)
    tower = Tower(1, PLAIN, spectral=False)
    norm = torch.linalg.matrix_norm(tower.conv2[1].weight.detach().flatten(1), 2)
    assert abs(float(norm) - 1) > 0.05


@torch.no_grad()
def test_the_discriminator_looks_at_the_code_and_at_the_picture():
    network = Discriminator(1, PLAIN).eval()
    codes, pictures = torch.randn(2, 64), torch.randn(2, 1, 64, 64)
    scores = network(codes, pictures)
    assert not torch.allclose(network(codes.flip(0), pictures), scores)
    assert not torch.allclose(network(codes, pictures.flip(0)), scores)
    torch.testing.assert_close(network.score(codes, network.tower(pictures)), scores)


# --------------------------------------------------------------------------------- losses


def test_losses_by_hand():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    mismatched = torch.tensor([0.0, -0.5])
    # real: (0 + 0.5) / 2; fake: (0 + 2) / 2; mismatched: (1 + 0.5) / 2
    assert float(discriminator_loss(real, fake, mismatched)) == 0.25 + (1 + 0.75) / 2
    assert float(generator_loss(fake)) == 1


def test_losses_stop_pushing_beyond_the_margin():
    scores = torch.tensor([1.5, -1.5, -1.5], requires_grad=True)
    discriminator_loss(*scores.split(1)).backward()
    assert scores.grad.tolist() == [0, 0, 0]
    inside = torch.zeros(3, requires_grad=True)
    discriminator_loss(*inside.split(1)).backward()
    assert inside.grad.tolist() == [-1, 0.5, 0.5]
