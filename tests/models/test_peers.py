"""The peer networks: any input size, counted parameters, and each against its publication."""

import librosa
import numpy as np
import pytest
import torch
from torch import nn

from esc_lib.models.peers import PEERS, ACDNetLike, PiczakCNN, SmallAST, deltas

N_CLASSES = 50
# The front end's own sizes, the training excerpts and their coarsened forms, the smallest, odd ones
SIZES = [(128, 431), (128, 128), (64, 64), (64, 188), (128, 32), (64, 33), (32, 32)]


def build(name, seed=0, n_classes=N_CLASSES):
    torch.manual_seed(seed)
    return PEERS[name](n_classes)


@pytest.fixture(scope="module", params=PEERS)
def network(request):
    """Return a network in evaluation mode, which no test changes."""
    return build(request.param).eval()


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


# ------------------------------------------------------------------------------ all networks


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_any_size_gives_logits(network, size):
    logits = network(torch.randn(2, 1, *size))
    assert logits.shape == (2, N_CLASSES)
    assert torch.isfinite(logits).all()
    assert (logits[0] - logits[1]).abs().max() > 1e-4  # the input matters


@pytest.mark.parametrize(
    ("name", "count"),
    [("piczak_cnn", 29_334_130), ("acdnet_like", 4_732_602), ("small_ast", 3_646_706)],
)
def test_parameters_are_those_of_the_docstring(name, count):
    assert n_parameters(build(name)) == count
    assert f"{count:,} parameters".replace(",", " ") in PEERS[name].__doc__


def test_all_peers_are_counted_above():
    assert PEERS == {"piczak_cnn": PiczakCNN, "acdnet_like": ACDNetLike, "small_ast": SmallAST}


@pytest.mark.parametrize("name", PEERS)
def test_gradient_reaches_every_parameter(name):
    network = build(name).train()
    loss = nn.functional.cross_entropy(network(torch.randn(4, 1, 64, 64)), torch.arange(4))
    loss.backward()
    for parameter_name, parameter in network.named_parameters():
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("gradient", [True, False])  # the transformer has another path without
def test_bfloat16_autocast_agrees_with_float32(network, gradient):
    torch.manual_seed(1)
    features = torch.randn(2, 1, 64, 96)
    with torch.set_grad_enabled(gradient):
        expected = network(features)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(features)
    assert logits.dtype == torch.bfloat16 and torch.isfinite(logits).all()
    # bfloat16 keeps 8 bits: 2**-8 of the largest logit per rounding, a few roundings deep
    tolerance = 4 * 2**-8 * expected.abs().max().item()
    torch.testing.assert_close(logits.float(), expected, rtol=0, atol=tolerance)


@torch.no_grad()
def test_a_batch_equals_its_items_and_the_input_is_unchanged(network):
    torch.manual_seed(2)
    features = torch.randn(3, 1, 64, 70)
    kept = features.clone()
    together = network(features)
    alone = torch.cat([network(item[None]) for item in features])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert torch.equal(features, kept)


@pytest.mark.parametrize("name", PEERS)
@torch.no_grad()
def test_channels_last_gives_the_same_logits(name):
    network = build(name).eval()
    features = torch.randn(2, 1, 64, 64)
    expected = network(features)
    layout = {"memory_format": torch.channels_last}
    logits = network.to(**layout)(features.contiguous(**layout))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PEERS)
@torch.no_grad()
def test_same_seed_same_network(name):
    features = torch.randn(2, 1, 64, 64)
    first, again, other = (build(name, seed).eval()(features) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("name", PEERS)
def test_dropout_works_in_training_only(name):
    network = build(name)
    features = torch.randn(2, 1, 64, 64)
    assert not torch.equal(network.train()(features), network(features))
    assert torch.equal(network.eval()(features), network(features))


@pytest.mark.parametrize("name", PEERS)
def test_features_that_a_half_precision_loop_has_rounded_are_taken(name):
    network = build(name, n_classes=4).train()
    features = torch.randn(2, 1, 64, 64).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(features)
    assert torch.isfinite(logits.float()).all()


@pytest.mark.parametrize(
    ("name", "steps"), [("piczak_cnn", 15), ("acdnet_like", 28), ("small_ast", 12)]
)
def test_four_clips_are_told_apart_after_a_few_steps(name, steps):
    network = build(name).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # else the loss is mostly noise for so few steps
    features, labels = torch.randn(4, 1, 32, 64), torch.arange(4)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(network(features), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(N_CLASSES), abs=0.5)
    assert losses[-1] < 0.9 * np.log(4)  # log 4: knowing only which labels there are


# ---------------------------------------------------------------------------------- PiczakCNN


def test_deltas_equal_librosa_s():
    x = np.random.default_rng(0).normal(size=(2, 1, 5, 40)).astype(np.float32)
    expected = librosa.feature.delta(x, width=9, mode="nearest", axis=-1)
    np.testing.assert_allclose(deltas(torch.from_numpy(x)), expected, atol=1e-6)  # float32


def test_deltas_of_a_ramp_are_its_slope():
    ramp = 0.5 * torch.arange(20.0).expand(1, 1, 3, 20)
    torch.testing.assert_close(deltas(ramp)[..., 4:-4], torch.full((1, 1, 3, 12), 0.5))


@torch.no_grad()
def test_on_its_own_input_piczak_s_network_is_the_published_one():
    network = build("piczak_cnn").eval()
    conv1, conv2 = (m for m in network.convolutions if isinstance(m, nn.Conv2d))
    dense = [m for m in network.head if isinstance(m, nn.Linear)]
    assert [tuple(conv.weight.shape) for conv in (conv1, conv2)] == [(80, 2, 57, 6), (80, 80, 1, 3)]
    features = torch.randn(2, 1, 60, 101)

    maps = torch.cat([features, deltas(features)], dim=1)
    maps = nn.functional.max_pool2d(conv1(maps).relu(), (4, 3), stride=(1, 3))
    assert maps.shape == (2, 80, 1, 32)
    maps = nn.functional.max_pool2d(conv2(maps).relu(), (1, 3), stride=(1, 3))
    assert maps.shape == (2, 80, 1, 10)
    hidden = dense[1](dense[0](maps.flatten(1)).relu()).relu()
    torch.testing.assert_close(network(features), dense[2](hidden))


@torch.no_grad()
def test_mel_bands_are_resampled_to_the_published_sixty():
    network = build("piczak_cnn").eval()
    seen = []
    network.convolutions.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    # a slope along the bands stays one, whatever their number; the frames stay as they are
    for n_mels in (64, 128):
        slope = (torch.arange(n_mels) + 0.5) / n_mels
        network(slope[:, None].expand(1, 1, n_mels, 50))
    expected = ((torch.arange(60) + 0.5) / 60)[:, None].expand(60, 50)
    for both in seen:
        assert both.shape == (1, 2, 60, 50)
        torch.testing.assert_close(both[0, 0, 2:-2], expected[2:-2], rtol=0, atol=2e-3)
        assert both[0, 1].abs().max() < 1e-6  # nothing moves along the frames


# --------------------------------------------------------------------------------- ACDNetLike


def test_acdnet_lacks_only_the_learned_front_end():
    # published: 4.74 million; SFEB: 1x9 to 8 and 1x5 to 64 channels without bias, two norms
    front_end = 9 * 8 + 5 * 8 * 64 + 2 * (8 + 64)
    assert front_end == 2_776
    assert round((n_parameters(build("acdnet_like")) + front_end) / 1e6, 2) == 4.74


def test_acdnet_s_layers_are_the_published_ones():
    network = build("acdnet_like")
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [conv.out_channels for conv in convolutions] == [
        32, 64, 64, 128, 128, 256, 256, 512, 512, N_CLASSES,
    ]  # fmt: skip
    assert [conv.kernel_size for conv in convolutions] == [(3, 3)] * 9 + [(1, 1)]
    assert all(conv.bias is None for conv in convolutions)
    kinds = [type(module) for module in network.convolutions]
    assert (kinds.count(nn.BatchNorm2d), kinds.count(nn.MaxPool2d)) == (10, 5)
    # 64 x 151, what ACDNet's front end makes of 1.5 s, leaves the published 2 x 4 for the average
    assert network.eval().convolutions(torch.zeros(1, 1, 64, 151)).shape[2:] == (2, 4)


# ----------------------------------------------------------------------------------- SmallAST


def test_layers_of_the_transformer_start_different():
    weights = [layer.linear1.weight for layer in build("small_ast").encoder.layers]
    assert len(weights) == 8
    assert not any(torch.equal(weights[0], other) for other in weights[1:])


@pytest.mark.parametrize("size", [(64, 64), (128, 216)])
def test_every_position_embedding_learns_at_any_size(size):
    network = build("small_ast")
    assert network.positions.shape == (1, 192, 12, 12)
    network(torch.randn(1, 1, *size)).square().sum().backward()
    assert (network.positions.grad.abs().sum(dim=1) > 0).all()


@torch.no_grad()
def test_positions_tell_low_from_high_and_early_from_late():
    network = build("small_ast").eval()
    network.positions.mul_(50)  # from their small start to the size of trained ones
    features = torch.randn(1, 1, 64, 64)
    for axis in (2, 3):
        assert (network(features) - network(features.flip(axis))).abs().max() > 1e-2


@torch.no_grad()
def test_transformer_equals_that_of_the_transformers_package():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    ours = SmallAST(N_CLASSES, n_mels=64, n_frames=96).eval()
    config = transformers.ASTConfig(
        hidden_size=192, num_hidden_layers=8, num_attention_heads=3, intermediate_size=768,
        patch_size=16, frequency_stride=10, time_stride=10, num_mel_bins=64, max_length=96,
        layer_norm_eps=1e-6, num_labels=N_CLASSES,
    )  # fmt: skip
    theirs = transformers.ASTForAudioClassification(config).eval()

    # our names to theirs; the three projections of an attention are one matrix here
    renamed = {
        "patches": "embeddings.patch_embeddings.projection",
        "encoder.norm": "layernorm",
        "self_attn.out_proj": "attention.o_proj",
        "encoder.layers": "layers",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "head.0": "classifier.layernorm",
        "head.1": "classifier.dense",
        "linear1": "mlp.fc1",
        "linear2": "mlp.fc2",
    }
    base, state = "audio_spectrogram_transformer.", {}
    for name, value in ours.state_dict().items():
        if name in ("positions", "tokens"):
            continue
        for old, new in renamed.items():
            name = name.replace(old, new)
        name = name if name.startswith("classifier") else base + name
        if "in_proj" in name:
            stem, kind = name.replace("self_attn", "attention").split("in_proj_")
            state |= {f"{stem}{part}_proj.{kind}": v for part, v in zip("qkv", value.chunk(3))}
        else:
            state[name] = value
    positions = ours.positions.flatten(2).transpose(1, 2)  # (1, patches, width)
    state |= {
        f"{base}embeddings.cls_token": ours.tokens[:, :1],
        f"{base}embeddings.distillation_token": ours.tokens[:, 1:],
        f"{base}embeddings.position_embeddings": nn.functional.pad(positions, (0, 0, 2, 0)),
    }
    theirs.load_state_dict(state)  # strict: nothing is left over on either side

    features = torch.randn(2, 1, 64, 96)
    expected = theirs(features[:, 0].transpose(1, 2)).logits  # theirs takes (batch, frames, mel)
    torch.testing.assert_close(ours(features), expected, rtol=1e-4, atol=1e-5)
