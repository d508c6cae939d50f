"""Dictionaries ready to share out a spectrogram: how they are fitted, kept and opened."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from edits import CODE, each_edit, pretend
from two_bands import FRONT_END, small_data, small_network

from esc_lib.config import PROFILES, Dictionaries
from esc_lib.dictionaries.fitting import fit_layer
from esc_lib.dictionaries.gather import gather
from esc_lib.dictionaries.models import MODELS
from esc_lib.explain import components
from esc_lib.explain.components import Choice, fit, open_dictionaries
from esc_lib.models.se_cnn import BLOCKS
from esc_lib.sound.log_mel import LogMel

PROFILE = replace(
    PROFILES["demo"],
    front_end=FRONT_END,
    dictionaries=Dictionaries(layer="conv_block4", epochs=2, steps_per_epoch=1),
)


@pytest.fixture
def given(tmp_path):
    return tmp_path / "dictionaries.pt", small_network(), LogMel(FRONT_END), small_data()


@pytest.fixture
def fits(monkeypatch):
    """Return a list that grows with every block that is fitted."""
    asked, really_fit = [], components.fit_layer

    def fit_and_note(*args, **options):
        asked.append(args)
        return really_fit(*args, **options)

    monkeypatch.setattr(components, "fit_layer", fit_and_note)
    return asked


def test_the_chosen_dictionary_is_fitted_to_every_block_once(given, fits):
    found = fit(*given, PROFILE)
    again = fit(*given, PROFILE)
    assert len(fits) == len(BLOCKS)  # then opened
    assert set(found) == {(block, Choice.dictionary) for block in BLOCKS}
    path, model, front_end, data = given
    sums = gather(model, front_end, data, data.split.train, BLOCKS).statistics
    for (block, name), one in found.items():
        assert torch.equal(one.w, again[block, name].w)
        chosen = [each for each in MODELS if each.__name__ == name]
        by_hand = fit_layer(sums[block], PROFILE.dictionaries, 0, chosen, solve=False)
        torch.testing.assert_close(one.w, by_hand.dictionaries()[name].float())
        torch.testing.assert_close(one.scale, by_hand.scale.float())


def test_another_setting_or_network_fits_anew(given, fits):
    fit(*given, PROFILE)
    longer = replace(PROFILE, dictionaries=replace(PROFILE.dictionaries, epochs=3))
    fit(*given, longer)
    path, _, *rest = given
    fit(path, small_network(1), *rest, longer)
    assert len(fits) == 3 * len(BLOCKS)


@each_edit
@pytest.mark.parametrize("module", ["explain/components", "dictionaries/fitting"])
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
