"""Attention: what is read off a network, where patches lie, distances and entropy by hand."""

from dataclasses import replace

import librosa
import matplotlib as mpl
import numpy as np
import pytest
import torch
from torch import nn

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, Rectangle

from esc_lib.companions.transformer import attention, figures
from esc_lib.companions.transformer.attention import PatchGrid
from esc_lib.companions.transformer.network import small_ast
from esc_lib.config import FrontEnd

# 100 frames a second, 3 x 5 patches
SETTINGS = FrontEnd(
    sr=8000, n_fft=512, win_length=512, hop_length=80, n_mels=36, f_max_hz=4000.0, n_frames=60
)
GRID = PatchGrid(3, 5, 16, 10, SETTINGS)


def tiny(seed=0):
    torch.manual_seed(seed)
    return small_ast(3, 36, 60, width=16, layers=3, heads=2, dropout=0.3)


def with_tokens(among, share=0.25):
    """Give class and distillation token a share of every row, and rows of their own."""
    n = among.shape[-1]
    whole = torch.full((n + 2, n + 2), 1 / (n + 2))
    whole[2:, :2] = share / 2
    whole[2:, 2:] = (1 - share) * among
    return whole


def neighbours():
    """Return attention from every patch to the next one in time, the last one to the one before."""
    among = torch.zeros(15, 15)
    for row in range(3):
        for column in range(5):
            among[5 * row + column, 5 * row + (column + 1 if column < 4 else 3)] = 1
    return among


# ------------------------------------------------------------------------------ the network's


@torch.no_grad()
def test_attentions_are_the_softmax_of_queries_and_keys():
    network = tiny().train()
    features = torch.randn(4, 1, 36, 60)
    found = attention.attentions(network, features)
    assert found.shape == (3, 4, 2, 17, 17)
    assert network.training and network.config._attn_implementation == "sdpa"

    network.eval()
    inputs = {}
    hooks = [
        layer.register_forward_hook(lambda module, args, out, i=i: inputs.update({i: args[0]}))
        for i, layer in enumerate(network.encoder.layers)
    ]
    network(features)
    for hook in hooks:
        hook.remove()
    for i, layer in enumerate(network.encoder.layers):
        normal = layer.layernorm_before(inputs[i])
        for head in range(2):
            own = slice(8 * head, 8 * head + 8)
            query = layer.attention.q_proj(normal)[..., own]
            key = layer.attention.k_proj(normal)[..., own]
            expected = (query @ key.transpose(1, 2) / 8**0.5).softmax(dim=-1)
            torch.testing.assert_close(found[i, :, head], expected)


@torch.no_grad()
def test_a_query_of_one_patch_finds_the_key_of_another():
    # layer 1 is taught to match one position's query with another position's key
    network = tiny()
    embeddings, layer = network.encoder.embeddings, network.encoder.layers[0]
    for parameter in (*embeddings.parameters(), *layer.attention.parameters()):
        nn.init.zeros_(parameter)
    asks, answers = GRID.patch(2, 1), GRID.patch(0, 4)
    embeddings.position_embeddings[0, 2 + asks, 3] = 1.0
    embeddings.position_embeddings[0, 2 + answers, 5] = 1.0
    layer.attention.q_proj.weight[0, 3] = layer.attention.k_proj.weight[0, 5] = 30.0
    among = attention.between_patches(attention.attentions(network, torch.zeros(1, 1, 36, 60)))
    row = among[0, 0, 0, asks]
    assert row.argmax() == answers and row.max() > 0.99
    assert GRID.corner(answers) == (0, 40) and GRID.corner(asks) == (20, 10)


# ------------------------------------------------------------------------------------ patches


@torch.no_grad()
def test_tokens_count_through_time_first_then_upwards():
    network = tiny().eval()
    blank = torch.zeros(1, 1, 36, 60)
    grid = PatchGrid.of(network, SETTINGS, 60)
    assert grid == GRID and len(grid) == 15
    for row, column in ((0, 0), (1, 3), (2, 4)):
        band, frame = GRID.corner(GRID.patch(row, column))
        marked = blank.clone()
        # this patch's own points, which its neighbours' 6 outer ones do not cover
        marked[..., band + 6 : band + 10, frame + 6 : frame + 10] = 1.0
        before, after = (
            network.encoder.embeddings(attention.input_values_of(x)) for x in (blank, marked)
        )
        changed = (before != after).any(dim=2)[0].nonzero().flatten().tolist()
        assert changed == [2 + GRID.patch(row, column)]


def test_grid_of_an_excerpt_has_its_own_columns():
    network = tiny()
    grid = PatchGrid.of(network, SETTINGS, 36)
    assert (grid.rows, grid.columns) == (3, 3)
    network.config.time_stride = 8
    with pytest.raises(ValueError, match="PatchGrid.of: steps of 10 bands and 8 frames differ"):
        PatchGrid.of(network, SETTINGS, 60)


def test_centres_in_hz_and_seconds():
    centres = GRID.centres()
    edges = librosa.mel_frequencies(38, fmin=20, fmax=4000)
    # band 8 on the axis lies between the centres of the eighth and the ninth band
    assert centres.hz[0] == pytest.approx((edges[8] + edges[9]) / 2, rel=1e-4)
    assert centres.band.tolist() == [8.0] * 5 + [18.0] * 5 + [28.0] * 5
    np.testing.assert_allclose(centres.time_s[:5], [0.08, 0.18, 0.28, 0.38, 0.48])


def test_places_outside_the_grid_are_refused():
    with pytest.raises(ValueError, match="PatchGrid.patch: row 3, column 0 lie outside 3 rows"):
        GRID.patch(3, 0)


def test_loudest_patches_are_those_of_each_range_of_frequency():
    log_mel = torch.full((36, 60), -80.0)
    log_mel[20:36, 40:56] = -10.0
    log_mel[0:16, 20:36] = -20.0
    low, middle, high = attention.loudest_patches(log_mel, GRID, 3)
    assert (low, high) == (GRID.patch(0, 2), GRID.patch(2, 4))
    assert middle == GRID.patch(1, 4)  # it shares six rows with the loudest
    assert attention.loudest_patches(log_mel, GRID, 1) == [high]
    with pytest.raises(ValueError, match="loudest_patches: n=4; give a number from 1 to 3 rows"):
        attention.loudest_patches(log_mel, GRID, 4)


# ----------------------------------------------------------------------------------- measures


def test_tokens_are_left_out_and_rows_sum_to_one_again():
    among = torch.rand(15, 15, dtype=torch.double).softmax(dim=1).float()
    whole = with_tokens(among, share=0.25)
    torch.testing.assert_close(attention.between_patches(whole), among)
    only_tokens = with_tokens(among, share=1.0)
    assert attention.between_patches(only_tokens).abs().max() == 0


def measured(among):
    table = attention.measure(with_tokens(among)[None, None, None], GRID)
    assert table.shape == (1, 7)
    return table.iloc[0]


def test_looking_at_oneself_is_no_distance_and_no_entropy():
    row = measured(torch.eye(15))
    assert [row[name] for name in attention.MEASURES] == [0, 0, 0, 0]
    assert row[["layer", "clip", "head"]].tolist() == [1, 0, 1]


def test_looking_at_the_neighbour_is_one_step():
    row = measured(neighbours())
    assert row.time_s == pytest.approx(0.10)  # ten frames of 10 ms
    assert (row.octaves, row.mel_bands, row.entropy_nat) == (0, 0, 0)


def test_looking_one_row_up_is_one_step_in_frequency():
    among = torch.zeros(15, 15)
    up = {0: 1, 1: 2, 2: 1}
    for row in range(3):
        for column in range(5):
            among[5 * row + column, 5 * up[row] + column] = 1
    row = measured(among)
    hz = GRID.centres().hz
    steps = [np.log2(hz[5] / hz[0]), np.log2(hz[10] / hz[5]), np.log2(hz[10] / hz[5])]
    assert row.octaves == pytest.approx(np.mean(steps))
    assert row.mel_bands == pytest.approx(10)
    assert (row.time_s, row.entropy_nat) == (0, 0)


def test_looking_everywhere_alike():
    row = measured(torch.full((15, 15), 1 / 15))
    # mean of |i - j| over all pairs of n places is (n^2 - 1) / 3 n: five columns, three rows
    assert row.time_s == pytest.approx(0.1 * (25 - 1) / 15)
    assert row.mel_bands == pytest.approx(10 * (9 - 1) / 9)
    assert row.entropy_nat == pytest.approx(np.log(15))
    expected = attention.uniform(GRID)
    assert list(expected) == list(attention.MEASURES)
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-5)


def test_half_here_half_there():
    row = measured((torch.eye(15) + neighbours()) / 2)
    assert row.time_s == pytest.approx(0.05)
    assert row.entropy_nat == pytest.approx(np.log(2))


def test_heads_layers_and_clips_are_kept_apart():
    kinds = torch.stack([torch.eye(15), neighbours(), torch.full((15, 15), 1 / 15)])
    order = torch.tensor([[[0, 1]], [[2, 0]]])  # (layers, clips, heads)
    whole = torch.stack([with_tokens(kind) for kind in kinds])[order]
    table = attention.measure(whole, GRID)
    assert table[["layer", "head"]].to_numpy().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    np.testing.assert_allclose(table.time_s, [0, 0.1, 0.16, 0], atol=1e-6)
    with pytest.raises(ValueError, match="measure: attention among 15 patches, but the grid has 9"):
        attention.measure(whole, replace(GRID, columns=3))


def test_many_clips_are_measured_as_each_alone():
    network = tiny()
    features = torch.randn(5, 1, 36, 60)
    table = attention.measure_clips(network, features, SETTINGS, batch=2)
    assert table.groupby("clip").size().tolist() == [6] * 5
    alone = attention.measure_clips(network, features[3:4], SETTINGS)
    np.testing.assert_allclose(
        table[table["clip"] == 3][list(attention.MEASURES)],
        alone[list(attention.MEASURES)],
        rtol=1e-4,
    )
    mean = attention.per_head(table)
    assert mean[["layer", "head"]].to_numpy().tolist() == [
        [layer, head] for layer in (1, 2, 3) for head in (1, 2)
    ]
    first = table[(table.layer == 2) & (table["head"] == 1)]
    assert mean.time_s[2] == pytest.approx(first.time_s.mean())


# ---------------------------------------------------------------------------------- the picture


def drawn(among, query=6, queries=(6,)):
    """Return, of one layer, the arcs and the boxes of both rows of the picture."""
    weights = among.expand(1, 2, 15, 15).numpy()
    log_mel = np.linspace(-80, 0, 36 * 60).reshape(36, 60)
    figure = figures.heads(log_mel, weights, GRID, query, queries, layers=(1,), n=1)
    arcs, boxes = [], []
    for ax in figure.axes[-2:]:
        arcs.append([p for p in ax.patches if isinstance(p, FancyArrowPatch)])
        boxes.append([p.get_xy() for p in ax.patches if isinstance(p, Rectangle)])
    plt.close(figure)
    return arcs, boxes


def test_picture_of_a_patch_that_looks_at_itself_has_arcs_to_other_heads_only():
    (within, across), _ = drawn(torch.eye(15))
    assert (len(within), len(across)) == (0, 1)  # from head 1, its home, to head 2


def test_picture_of_a_patch_that_looks_at_the_next_one_has_its_box_there():
    (within, across), (boxes, _) = drawn(neighbours())
    assert (len(within), len(across)) == (2, 2)
    # patch 6 lies in row 1, column 1: bands from 10, frames from 10; the next one starts at 0.2 s
    assert sorted({round(x, 6) for x, _ in boxes}) == [10, 10 + 36 * 1.14]  # a gap of 14 %
    assert sorted({round(y, 6) for _, y in boxes}) == [0.1, 0.2]


def test_picture_of_layers_that_are_not_there_is_refused():
    with pytest.raises(ValueError, match="heads: layers=.8,. of 1, 1 queries"):
        figures.heads(np.zeros((36, 60)), np.zeros((1, 2, 15, 15)), GRID, 0, (0,), layers=(8,))
