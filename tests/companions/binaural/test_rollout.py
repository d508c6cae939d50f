"""Attention rollout by hand, its rows, its maps; and masks that tell true maps from false ones."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from esc_lib.companions.binaural import masking, rollout
from esc_lib.companions.binaural.network import BAST
from esc_lib.companions.binaural.settings import Settings

SETTINGS = Settings(width=16, layers=2, heads=2, head_width=8, hidden=16, stride=12)


@pytest.fixture(autouse=True)
def same_noise():
    torch.manual_seed(0)


def random_attention(layers=3, batch=2, heads=4, tokens=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(layers, batch, heads, tokens, tokens, generator=generator)).softmax(-1)


def test_one_layer_with_the_mean_of_heads_by_hand():
    attention = random_attention(layers=1)
    expected = (attention[0].mean(1) + torch.eye(7)) / 2
    torch.testing.assert_close(rollout.roll_out(attention), expected)


def test_layers_equal_a_product_in_numpy_from_the_last_to_the_first():
    attention = random_attention(batch=1).numpy().astype(np.float64)
    expected = np.eye(7)
    for layer in attention[:, 0]:
        fused = layer.min(axis=0) + np.eye(7)
        expected = np.diag(1 / fused.sum(axis=1)) @ fused @ expected
    found = rollout.roll_out(torch.from_numpy(attention), "min")[0]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("how", rollout.FUSED)
def test_rows_sum_to_one_whatever_the_fusion(how):
    ears = {name: random_attention(seed=i) for i, name in enumerate(("TE-L", "TE-R", "TE-C"))}
    for rolled in rollout.roll_out_ears(ears, how).values():
        torch.testing.assert_close(rolled.sum(-1), torch.ones(2, 7))
        assert (rolled >= 0).all()


def test_dividing_columns_would_break_rows_except_with_the_mean():
    """The fault of code in circulation, so that the test above is known to catch it."""
    for how, harmless in (("mean", True), ("min", False), ("max", False)):
        mixed = rollout.fuse_heads(random_attention(batch=1)[0, :1], how)[0] + torch.eye(7)
        wrong = mixed / mixed.sum(dim=-1)
        assert torch.allclose(wrong.sum(-1), torch.ones(7), atol=1e-4) == harmless


def test_central_encoder_starts_from_the_mean_of_the_ears():
    ears = {name: random_attention(seed=i) for i, name in enumerate(("TE-L", "TE-R", "TE-C"))}
    found = rollout.roll_out_ears(ears)
    nothing_more = {**ears, "TE-C": torch.eye(7).expand(2, 2, 4, 7, 7)}  # attends to itself only
    mean = (found["TE-L"] + found["TE-R"]) / 2
    torch.testing.assert_close(rollout.roll_out_ears(nothing_more)["TE-C"], mean)
    torch.testing.assert_close(found["TE-C"], rollout.roll_out(ears["TE-C"]) @ mean)


def test_shares_leave_the_class_token_out_and_sum_to_one():
    rolled = torch.tensor([[[0.5, 0.5, 0.0], [0.2, 0.4, 0.4], [0.2, 0.0, 0.8]]])
    torch.testing.assert_close(rollout.patch_shares(rolled), torch.tensor([[0.9, 1.2]]) / 2.1)


def test_map_is_the_mean_of_the_patches_that_cover_a_place():
    rows, columns = SETTINGS.grid
    shares = torch.rand(2, rows * columns, generator=torch.Generator().manual_seed(0))
    expected, count = np.zeros((2, 200, 200)), np.zeros((200, 200))
    for patch in range(rows * columns):
        top, left = 12 * (patch // columns), 12 * (patch % columns)
        expected[:, top : top + 16, left : left + 16] += shares[:, patch, None, None].numpy()
        count[top : top + 16, left : left + 16] += 1
    expected = (rows * columns * expected / np.maximum(count, 1))[:, :129, :61]
    np.testing.assert_allclose(rollout.as_map(shares, SETTINGS).numpy(), expected, rtol=1e-5)


def test_even_shares_make_a_map_of_ones_and_a_marked_patch_lies_where_it_was_cut():
    even = torch.full((1, 180), 1 / 180)
    torch.testing.assert_close(rollout.as_map(even, Settings()), torch.ones(1, 129, 61))
    one = torch.zeros(1, 180)
    one[0, 9 * 3 + 2] = 1.0  # fourth in frequency, third in time
    places = np.argwhere(rollout.as_map(one, Settings())[0].numpy())
    assert places.min(0).tolist() == [18, 12] and places.max(0).tolist() == [33, 27]


def test_maps_of_a_network_do_not_depend_on_the_batch():
    torch.manual_seed(0)
    model, heard = BAST(SETTINGS), torch.randn(3, 2, 129, 61)
    together = rollout.rollout_maps(model, heard)
    alone = [rollout.rollout_maps(model, one[None]) for one in heard]
    assert set(together) == {"TE-L", "TE-R", "TE-C"}
    for name, values in together.items():
        assert values.shape == (3, 129, 61)
        np.testing.assert_allclose(values, np.concatenate([m[name] for m in alone]), rtol=1e-4)


def test_unknown_fusion_of_heads():
    with pytest.raises(ValueError, match="how='median', expected one of mean, min, max"):
        rollout.fuse_heads(torch.zeros(1, 2, 3, 3), "median")


# ---------------------------------------------------------------------------------------- masking


class BandListener(nn.Module):
    """Point ahead if one band of the left ear is loud, behind if it is not; nothing else counts."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, heard):
        loud = heard[:, 0, 40:60, 10:40].mean((1, 2)) > 0.5
        return torch.stack([2.0 * loud - 1, torch.zeros(len(heard))], dim=1)


def scenes_with_a_band(n=12):
    heard = torch.zeros(n, 2, 129, 61)
    heard[::2, :, 40:60, 10:40] = 1.0
    azimuth = np.where(np.arange(n) % 2, 180.0, 0.0)
    table = pd.DataFrame({"azimuth_deg": azimuth, "src_file": np.arange(n)})
    true = np.zeros((n, 129, 61))
    true[:, 40:60, 10:40] = 1.0
    return heard, table, true


def test_a_true_map_costs_more_than_its_moved_self_and_a_false_one_does_not():
    heard, table, true = scenes_with_a_band()
    kept = heard.clone()
    share = 600 / (129 * 61)  # the band
    maps = {"true": true, "false": np.roll(true, 50, axis=1)}
    found = masking.masking_table(BandListener(), heard, table, maps, share)
    assert list(found.index) == ["nothing", "true", "false"]
    assert found.error_deg["nothing"] == 0
    assert found.error_deg["true"] == 90  # the half with the band is heard behind
    assert found.lowest_deg["true"] == 0
    assert found.gain_deg["true"] > 60 and found.gain_low["true"] > 0
    assert found.error_deg["false"] == 0 and found.gain_deg["false"] <= 0
    torch.testing.assert_close(heard, kept)


def test_marked_places_are_the_highest_and_equally_many():
    maps = np.random.default_rng(0).random((3, 10, 20))
    masks = masking.marked(maps, 0.2)
    assert masks.sum((1, 2)).tolist() == [40, 40, 40]
    for values, mask in zip(maps, masks):
        assert values[mask].min() > values[~mask].max()
    assert masking.marked(np.ones((1, 10, 20)), 0.2).sum() == 40  # ties


def test_moved_masks_keep_size_and_shape_and_leave_their_place():
    mask = np.zeros((20, 128, 60), bool)
    mask[:, 10:20, 5:15] = True
    moved = masking.elsewhere(mask, np.random.default_rng(0))
    assert (moved.sum((1, 2)) == 100).all()
    assert not (moved & mask).any()  # at least a quarter of all bins away
    assert len({tuple(np.argwhere(m)[0]) for m in moved}) > 10
    again = masking.elsewhere(mask, np.random.default_rng(0))
    assert (again == moved).all()


def test_two_ways_to_hide():
    heard, masks = torch.randn(2, 2, 6, 5), np.zeros((2, 6, 5), bool)
    masks[:, 2] = True
    flat, both = (masking.hide(heard, masks, fill) for fill in masking.FILLS)
    assert (flat[:, :, 2] == 0).all()
    torch.testing.assert_close(both[:, 0, 2], heard[:, :, 2].mean(1))
    torch.testing.assert_close(both[:, 1, 2], both[:, 0, 2])
    for hidden in (flat, both):
        torch.testing.assert_close(hidden[:, :, 3:], heard[:, :, 3:])
    with pytest.raises(ValueError, match="fill='noise', expected one of flat, both ears"):
        masking.hide(heard, masks, "noise")
