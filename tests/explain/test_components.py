"""Dictionaries ready to share out a spectrogram: how they are fitted, kept and opened."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from edits import CODE, each_edit, pretend
from two_bands import FRONT_END, small_data, small_network

from esc_lib.config import PROFILES, Dictionaries
from esc_lib.dictionaries.gather import Gathered
from esc_lib.dictionaries.models import MODELS
from esc_lib.dictionaries.solvers import Statistics, divergence, solve_divergence
from esc_lib.explain import components
from esc_lib.explain.components import (
    KL,
    Choice,
    Components,
    fit,
    fit_divergence,
    fit_squared,
    open_dictionaries,
)
from esc_lib.models.se_cnn import BLOCKS
from esc_lib.sound.log_mel import LogMel


def planted(levels=(1.0, 1.0, 1.0, 1.0, 0.0)):
    """Return clips that four atoms made, and H at these levels; the fifth atom never sounds."""
    g = torch.Generator().manual_seed(5)
    h = torch.rand(6, 5, 20, generator=g).pow(3)
    v = torch.rand(24, 5, generator=g).pow(6) @ (h * torch.tensor([1, 1, 1, 1, 0.0])[:, None])
    h = h * torch.tensor(levels)[:, None]
    return v, h, Gathered({"block": Statistics.of(v, h)}, {}, {"block": h}, v)


def test_divergence_recovers_planted_atoms_whatever_the_level_of_a_channel():
    v, h, train = planted()
    fitted = fit_divergence(train, "block")
    rebuilt = fitted.w @ fitted.level(h)
    assert (rebuilt - v).norm() / v.norm() < 0.02
    assert fitted.w.min() >= 0 and fitted.scale[4] == 0
    _, louder, train = planted((1000.0, 0.01, 1.0, 1.0, 0.0))
    again = fit_divergence(train, "block")
    torch.testing.assert_close(again.w @ again.level(louder), rebuilt, rtol=1e-3, atol=1e-4)
    keep = torch.tensor([1.0, 0, 0, 0, 0])[None, :, None]
    torch.testing.assert_close(
        fitted.mask(h, keep, 80), again.mask(louder, keep, 80), rtol=1e-2, atol=1e-3
    )


def test_divergence_is_least_by_kullback_and_leibler():
    v, h, train = planted()
    noise = torch.rand(v.shape, generator=torch.Generator().manual_seed(0))
    v = v * (0.2 + 1.6 * noise)  # no W fits any more
    fitted = fit_divergence(replace(train, mel=v), "block")
    h = fitted.level(h)
    squared = solve_divergence(v, h, beta=2)
    assert divergence(v, fitted.w @ h, 1) < divergence(v, squared @ h, 1)
    assert divergence(v, fitted.w @ h, 2) > divergence(v, squared @ h, 2)


def test_squared_error_gives_every_constrained_dictionary_and_the_optimum():
    v, h, train = planted()
    found = fit_squared(train.statistics["block"], "block", Dictionaries(epochs=20), seed=0)
    names = ("optimum", *(model.__name__ for model in MODELS))
    assert set(found) == {("block", name) for name in names}
    error = {
        name: float((one.w @ one.level(h) - v).norm() / v.norm())
        for (_, name), one in found.items()
    }
    assert all(isinstance(one, Components) and one.layer == "block" for one in found.values())
    assert min(error, key=error.get) == "optimum" and error["optimum"] < 0.02


# --------------------------------------------------------------------------- kept and opened

PROFILE = replace(
    PROFILES["demo"],
    front_end=FRONT_END,
    dictionaries=Dictionaries(layer="conv_block4", epochs=2, steps_per_epoch=1),
)


@pytest.fixture
def given(tmp_path):
    return tmp_path / "hidden.pt", small_network(), LogMel(FRONT_END), small_data()


@pytest.fixture
def fits(monkeypatch):
    """Return a list that grows with every block that is fitted by divergence."""
    asked, really_fit = [], components.fit_divergence

    def fit_and_note(train, block):
        asked.append(block)
        return really_fit(train, block)

    monkeypatch.setattr(components, "fit_divergence", fit_and_note)
    return asked


def test_dictionaries_are_fitted_once(given, fits):
    other = fit(*given, PROFILE)
    kept = fit(*given, PROFILE, ("conv_block4",))
    assert fits == list(BLOCKS)  # then opened, whatever else is compared
    assert set(other) == {(block, name) for block in BLOCKS for name in (KL, Choice.dictionary)}
    names = ("optimum", *(model.__name__ for model in MODELS))
    assert set(kept) == {*other, *(("conv_block4", name) for name in names)}
    assert all(torch.equal(one.w, kept[key].w) for key, one in other.items())


def test_another_setting_or_network_fits_anew(given, fits):
    fit(*given, PROFILE)
    longer = replace(PROFILE, dictionaries=replace(PROFILE.dictionaries, epochs=3))
    fit(*given, longer)
    path, _, *rest = given
    fit(path, small_network(1), *rest, longer)
    assert len(fits) == 3 * len(BLOCKS)


@each_edit
@pytest.mark.parametrize("module", ["explain/components", "dictionaries/solvers"])
def test_changed_code_fits_anew(given, fits, monkeypatch, module, edit):
    fit(*given, PROFILE)
    pretend(monkeypatch, module, edit)
    fit(*given, PROFILE)
    assert len(fits) == len(BLOCKS) * (1 + (edit == CODE))


def test_dictionaries_of_notebook_05_are_opened_with_their_levels(tmp_path):
    rng = np.random.default_rng(0)
    saved = {f"conv_block{i}/{name}": rng.random((6, i)) for i in (1, 2) for name in ("a", "b")}
    scales = {f"conv_block{i}/scale": rng.random(i) for i in (1, 2)}
    np.savez(tmp_path / "dictionaries.npz", **saved, **scales)
    found = open_dictionaries(tmp_path / "dictionaries.npz")
    assert {f"{layer}/{name}" for layer, name in found} == set(saved)
    for (layer, name), one in found.items():
        assert one.layer == layer and one.w.dtype == torch.float32
        np.testing.assert_allclose(one.w, saved[f"{layer}/{name}"], rtol=1e-6)
        np.testing.assert_allclose(one.scale, scales[f"{layer}/scale"], rtol=1e-6)
