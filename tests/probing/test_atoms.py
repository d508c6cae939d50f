"""Points that an atom claims, percentiles of falls, and a network of two bands whose atoms lie."""

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from torch import nn
from two_bands import FRONT_END, HIGH, LOW, small_data

from esc_lib.dictionaries.fitting import LayerFits
from esc_lib.probing.atoms import (
    Claims,
    Listener,
    do_atoms_mean_units,
    first_in_rank,
    percentile,
)
from esc_lib.probing.bases import Channels
from esc_lib.probing.glass_box import LevelFrontEnd


def by_hand(share, power, area):
    """Return the points that go, in a loop."""
    gone, held = np.zeros(share.shape, bool), 0.0
    order = np.argsort(-share.ravel(), kind="stable")
    for count, point in enumerate(order):
        if held >= 0.1 * power.sum() or count >= int(area * power.size):
            break
        gone.ravel()[point] = True
        held += power.ravel()[point]
    return gone


@pytest.mark.parametrize("area", [0.05, 0.1, 1.0])
def test_points_go_by_share_until_a_tenth_of_the_energy_or_of_the_area(area):
    rng = np.random.default_rng(0)
    share, power = rng.random((3, 8, 20)), rng.exponential(size=(8, 20)) ** 3
    power[4:] *= 1e-4  # quiet bands
    share[2, 4:] += 1
    found = first_in_rank(torch.from_numpy(share), torch.from_numpy(power), area).numpy()
    for own, each in zip(found, share, strict=True):
        assert (own == by_hand(each, power, area)).all()
    assert found[2].sum() == min(int(area * 160), found[2].sum())


def test_percentiles_are_ranks_among_the_others():
    falls = np.array([0.3, -1.0, 0.3, 0.9, 0.0])
    ranks = (rankdata(falls) - 1) / 4
    assert [percentile(falls, unit) for unit in range(5)] == pytest.approx(ranks.tolist())


class Bands(nn.Module):
    """Channels that follow the level of four ranges of bands."""

    RANGES = (LOW, slice(12, 17), slice(18, 22), HIGH)

    def __init__(self):
        super().__init__()
        self.maps, self.scale = nn.Identity(), nn.Parameter(torch.ones(1))

    def forward(self, features):
        levels = [features[:, :, bands].mean(dim=2, keepdim=True) for bands in self.RANGES]
        return self.maps(torch.cat(levels, dim=1))


@pytest.fixture(scope="module")
def told():
    """Return what atoms of these ranges, and the same in another order, say of the channels."""
    data, model, front_end = small_data(), Bands().eval(), LevelFrontEnd(FRONT_END)
    w = torch.full((FRONT_END.n_mels, 4), 1e-3)
    for unit, bands in enumerate(Bands.RANGES):
        w[bands, unit] = 1.0
    listener = Listener(model, front_end, "maps", Channels())
    codes = listener.codes(*data.batch(np.arange(12)))
    dictionaries = {"right": w, "wrong": w.roll(1, dims=1)}
    claims = Claims(dictionaries, torch.ones(4), codes.mean(dim=(0, 2)))
    return do_atoms_mean_units(listener, claims, data, np.arange(12), units=4)


def test_right_atoms_mean_their_channels_and_wrong_ones_do_not(told):
    mean = told.groupby("dictionary")[["own", "dealt"]].mean()
    assert mean.own["right"] > 0.9 and mean.own["wrong"] < 0.5
    assert mean.dealt["right"] < 0.75
    assert (told.units == 4).all() and told.row.nunique() == 12
    assert told[["own", "dealt"]].stack().between(0, 1).all()


def test_silent_units_and_atoms_are_not_asked():
    data, model, front_end = small_data(), Bands().eval(), LevelFrontEnd(FRONT_END)
    w = torch.rand(FRONT_END.n_mels, 4)
    w[:, 0] = 0  # no atom
    listener = Listener(model, front_end, "maps", Channels())
    usual = listener.codes(*data.batch(np.arange(4))).mean(dim=(0, 2))
    usual[1] *= 1e6  # a unit that is hardly active in these clips
    table = do_atoms_mean_units(
        listener, Claims({"w": w}, torch.ones(4), usual), data, np.arange(4), units=4
    )
    assert (table.units == 2).all()
    usual[2] *= 1e6
    claims = Claims({"w": w}, torch.ones(4), usual)
    assert do_atoms_mean_units(listener, claims, data, np.arange(4), units=4).empty


def test_claims_are_of_the_fits_and_their_codes():
    codes = torch.rand(3, 4, 5)
    fits = LayerFits(torch.arange(4.0).double(), {}, torch.rand(6, 4).double())
    claims = Claims.of(fits, codes)
    assert list(claims.dictionaries) == ["optimum"]
    assert claims.dictionaries["optimum"].dtype == claims.scale.dtype == torch.float32
    torch.testing.assert_close(claims.usual, codes.transpose(0, 1).flatten(1).mean(dim=1))
