"""The spectrogram transformer: size, any input, the package's own numbers; freezing; its costs."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_study import NAMES, STRONG, make_data, with_training
from torch import nn
from transformers import ASTConfig, ASTForAudioClassification

from esc_lib.companions.transformer import freezing
from esc_lib.companions.transformer import network as ast
from esc_lib.config import Stage
from esc_lib.training import classifier

N_CLASSES = 7


def tiny(seed=0, **settings):
    torch.manual_seed(seed)
    settings = {"width": 16, "layers": 3, "heads": 2, "dropout": 0.1} | settings
    return ast.small_ast(N_CLASSES, 32, 56, **settings)


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


# ----------------------------------------------------------------------------------- networks


def test_full_size_has_the_published_number_of_parameters_and_patches():
    with torch.device("meta"):
        network = ast.full_ast(50)
    assert round(n_parameters(network) / 1e6, 2) == 85.76
    assert network.encoder.embeddings.position_embeddings.shape == (1, 2 + 600, 768)
    assert (len(network.encoder.layers), network.config.num_attention_heads) == (12, 12)


def test_small_size_has_eight_layers_of_eight_heads():
    with torch.device("meta"):
        network = ast.small_ast(50)
    assert len(network.encoder.layers) == network.config.num_attention_heads == 8
    assert n_parameters(network) < 4e6


@torch.no_grad()
def test_at_the_size_of_its_table_it_is_the_package_s_network():
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        num_mel_bins=32, max_length=56, num_labels=N_CLASSES,
    )  # fmt: skip
    theirs = ASTForAudioClassification(config).eval()
    nn.init.normal_(theirs.audio_spectrogram_transformer.embeddings.position_embeddings)
    features = torch.randn(2, 1, 32, 56)
    # the publication's input: (batch, frames, mel), mean 0 and deviation 0.5
    expected = theirs(features[:, 0].transpose(1, 2) / 2).logits
    ours = ast.SpectrogramAST(copy.deepcopy(theirs)).eval()
    torch.testing.assert_close(ours(features), expected, rtol=0, atol=0)


@torch.no_grad()
def test_the_classifier_reads_the_tokens_or_the_mean_of_the_patches():
    features = torch.randn(2, 1, 32, 56)
    for pool, taken in (("tokens", slice(0, 2)), ("patches", slice(2, None))):
        network = tiny(pool=pool).eval()
        tokens = network.encoder(ast.input_values_of(features)).last_hidden_state
        expected = network.classifier(tokens[:, taken].mean(dim=1))
        torch.testing.assert_close(network(features), expected)
    with pytest.raises(ValueError, match="SpectrogramAST: pool='all'; choose tokens or patches"):
        tiny(pool="all")


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 56), (32, 16), (64, 200), (16, 33), (48, 40)])
def test_any_size_gives_logits(size):
    logits = tiny().eval()(torch.randn(2, 1, *size))
    assert logits.shape == (2, N_CLASSES)
    assert torch.isfinite(logits).all()
    assert (logits[0] - logits[1]).abs().max() > 1e-4


def test_smaller_than_a_patch_is_refused():
    with pytest.raises(ValueError, match="grid_size: 32 mel bands x 15 frames hold no patch"):
        tiny()(torch.zeros(1, 1, 32, 15))


@torch.no_grad()
def test_fewer_frames_get_the_middle_of_the_table_and_more_a_stretched_one():
    network = tiny()
    embeddings = network.encoder.embeddings
    table = torch.arange(2 * 5, dtype=torch.float).view(2, 5)  # rows x columns; 32 x 56
    embeddings.position_embeddings[:] = torch.cat([torch.tensor([90.0, 91]), table.flatten()])[
        None, :, None
    ]

    def positions(n_mels, n_frames):
        blank = torch.zeros(1, n_frames, n_mels)
        without = embeddings.patch_embeddings(blank)
        got = (embeddings.eval()(blank)[:, 2:] - without)[0, :, 0]
        special = embeddings(blank)[0, :2, 0] - torch.stack(
            [embeddings.cls_token[0, 0, 0], embeddings.distillation_token[0, 0, 0]]
        )
        torch.testing.assert_close(special, torch.tensor([90.0, 91]))
        return got.view(*ast.grid_size(network.config, n_mels, n_frames))

    torch.testing.assert_close(positions(32, 56), table)
    torch.testing.assert_close(positions(32, 36), table[:, 1:4])
    torch.testing.assert_close(positions(32, 46), table[:, :4])  # of an odd rest, one less on left
    # ten columns for five: every place counts half a step; the outermost are held
    wide = positions(32, 106)
    assert wide.shape == (2, 10)
    steps = np.clip((np.arange(10) + 0.5) / 2 - 0.5, 0, 4)
    torch.testing.assert_close(wide[0], torch.from_numpy(steps).float(), rtol=0, atol=1e-5)


def test_saved_weights_come_back_with_a_fresh_classifier(tmp_path):
    saved = tiny()
    saved.network.save_pretrained(tmp_path)
    loaded = ast.pretrained(str(tmp_path), N_CLASSES + 1)
    assert loaded.eval()(torch.zeros(1, 1, 32, 56)).shape == (1, N_CLASSES + 1)
    theirs = loaded.encoder.state_dict()
    for name, value in saved.encoder.state_dict().items():
        torch.testing.assert_close(theirs[name], value, rtol=0, atol=0)


def test_missing_weights_are_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="pretrained: the weights of .*nowhere' cannot be read"):
        ast.pretrained(str(tmp_path / "nowhere"), 3)


# ----------------------------------------------------------------------------------- freezing


@pytest.mark.parametrize(
    ("level", "learning"),
    [
        ("full", ("",)),
        ("frozen", ("network.classifier.",)),
        (
            "last2",
            (
                "network.classifier.",
                "network.audio_spectrogram_transformer.layernorm.",
                "network.audio_spectrogram_transformer.layers.1.",
                "network.audio_spectrogram_transformer.layers.2.",
            ),
        ),
    ],
)
def test_only_what_the_level_names_learns(level, learning):
    network = ast.freeze(tiny(dropout=0.0), level).train()
    before = {name: value.clone() for name, value in network.named_parameters()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=0.1)
    network(torch.randn(4, 1, 32, 56)).logsumexp(1).sum().backward()
    optimizer.step()
    moved = {n for n, value in network.named_parameters() if not torch.equal(value, before[n])}
    wanted = {n for n in before if n.startswith(learning) and not n.endswith("k_proj.bias")}
    # softmax does not see a bias of the keys: its gradient is 0, up to rounding
    assert {n for n in moved if not n.endswith("k_proj.bias")} == wanted
    assert freezing.n_trainable(network) == sum(
        value.numel() for name, value in before.items() if name.startswith(learning)
    )


def test_levels_replace_each_other():
    network = ast.freeze(ast.freeze(tiny(), "frozen"), "full")
    assert freezing.n_trainable(network) == n_parameters(network)


@pytest.mark.parametrize("level", ["half", "last", "last0", "last4", "last-1"])
def test_unknown_levels_are_refused(level):
    with pytest.raises(ValueError, match=f"freeze: level='{level}' is unknown; .* to last3"):
        ast.freeze(tiny(), level)


def test_dropout_is_off_in_what_is_frozen_and_on_in_what_learns():
    features = torch.randn(2, 1, 32, 56)
    frozen = ast.freeze(tiny(dropout=0.5), "frozen").train()
    torch.testing.assert_close(frozen(features), frozen(features), rtol=0, atol=0)
    partly = ast.freeze(tiny(dropout=0.5), "last1").train()
    assert not torch.equal(partly(features), partly(features))
    assert [layer.training for layer in partly.encoder.layers] == [False, False, True]


def test_a_linear_probe_reads_what_the_classifier_reads():
    network = tiny().train()
    features = torch.randn(9, 1, 32, 56)
    embedded = freezing.embeddings(network, features, batch=4)
    assert network.training and embedded.shape == (9, 16)
    network.eval()
    logits = network.classifier(torch.from_numpy(embedded))
    torch.testing.assert_close(logits, network(features))
    separable = np.vstack([np.eye(3), 2 * np.eye(3)])
    assert freezing.linear_probe(separable, np.tile([0, 1, 2], 2)).score(
        separable, np.tile([0, 1, 2], 2)
    ) == 1  # fmt: skip


# -------------------------------------------------------------------------------------- costs


def test_freezing_costs_less_and_leaves_the_network_as_it_was():
    network = ast.freeze(tiny(), "last2").eval()
    kept = copy.deepcopy(network.state_dict())
    features, targets = torch.randn(4, 1, 32, 56), torch.arange(4)
    table = freezing.costs(network, features, targets, ("full", "last1", "frozen"), repeats=2)
    assert list(table.index) == ["full", "last1", "frozen"]
    for column in ("trainable", "gradient_mb", "optimizer_mb", "activation_mb", "memory_ratio"):
        assert table[column].is_monotonic_decreasing and table[column].is_unique
    assert table.parameter_mb.nunique() == 1
    assert table.loc["full", ["time_ratio", "memory_ratio"]].tolist() == [1, 1]
    assert (table.step_ms > 0).all()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, kept[name], rtol=0, atol=0)
    assert not network.training
    assert freezing.n_trainable(network) == freezing.n_trainable(ast.freeze(network, "last2"))


# ------------------------------------------------------------------------- the training loop


def test_the_loop_trains_only_what_learns_from_the_given_start(tmp_path):
    data = make_data()
    recipe = replace(STRONG, stages=(Stage(1.0, 24),))
    profile = replace(
        with_training(recipe=recipe, epochs=1, learning_rate=1e-3),
        architecture="transformer-frozen",
    )
    torch.manual_seed(3)
    start = ast.small_ast(len(NAMES), 32, 24)
    frozen = ast.freeze(copy.deepcopy(start), "frozen")
    fit = classifier.fit(data, profile, tmp_path, "32-true", start=frozen)
    theirs = start.state_dict()
    moved = {n for n, v in fit.model.state_dict().items() if not torch.equal(v, theirs[n])}
    assert moved == {n for n in theirs if ".classifier." in n}
