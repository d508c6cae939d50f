"""Shapes by a loop, ridge and components by scikit-learn, the non-negative fit by SciPy."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, Ridge

from esc_lib.data.clips import Data
from esc_lib.dictionaries import level_free
from esc_lib.dictionaries.gather import Gathered
from esc_lib.dictionaries.statistics import Statistics

N_FREQ, N_ATOMS, N_FRAMES = 10, 6, 12
CLIPS = {"train": 12, "validation": 6, "test": 5}


def problem(seed=0, n_atoms=N_ATOMS, heard=True):
    """Return V and H by part; shapes depend on H, some frames of V are silent."""
    g = torch.Generator().manual_seed(seed)
    mixing = torch.rand(N_FREQ, n_atoms, generator=g) ** 4
    v, h = {}, {}
    for part, n in CLIPS.items():
        h[part] = torch.rand(n, n_atoms, N_FRAMES, generator=g) ** 2
        v[part] = mixing @ h[part] + 0.02 * torch.rand(n, N_FREQ, N_FRAMES, generator=g)
        v[part] = v[part] * (0.2 + torch.rand(n, 1, N_FRAMES, generator=g))
        if heard:
            v[part][::2, :, -3:] = 1e-6
    return v, h


def frames(v, h):
    """Return shapes (frames, freq) and H (frames, atoms) of what has a shape, clip by clip."""
    shape, heard = level_free.shapes(v.double())
    kept = heard.numpy().ravel()
    return (
        each.double().permute(0, 2, 1).reshape(-1, each.shape[1]).numpy()[kept]
        for each in (shape, h)
    )


def r2(errors, column=level_free.RIDGE, below=level_free.MEAN_SHAPE):
    return 1 - errors[column].sum() / errors[below].sum()


# ---------------------------------------------------------------------------------- the shape


def test_shapes_by_a_loop():
    v, _ = problem()
    clip = v["train"][:1]
    clip[0, :, 0] = clip.max() * 10 ** (-70 / 20)  # ten dB above the floor
    clip[0, :, 1] = clip.max() * 10 ** (-76 / 20)  # four
    shape, heard = level_free.shapes(clip)
    peak = float(clip.max())
    for t in range(N_FRAMES):
        bands = clip[0, :, t].tolist()
        level = np.array([max(20 * math.log10(x / peak), -80) for x in bands])
        assert bool(heard[0, t]) == (level.max() > -75)
        np.testing.assert_allclose(shape[0, :, t], level - level.mean(), atol=1e-4)
    assert heard[0, 0] and not heard[0, 1] and not heard[0, -1]


def test_a_shape_knows_no_level_and_silence_has_none():
    v, _ = problem(heard=False)
    shape, heard = level_free.shapes(v["train"])
    gain = torch.linspace(0.3, 1, N_FRAMES)  # nothing falls below the floor
    louder, _ = level_free.shapes(v["train"] * gain)
    assert heard.all()
    torch.testing.assert_close(shape, louder, atol=1e-3, rtol=0)
    shape, heard = level_free.shapes(torch.zeros(1, 4, 3))
    assert not heard.any() and (shape == 0).all()


# ---------------------------------------------------------------------- ridge and components


def test_ridge_is_scikit_learns_with_the_weight_of_least_validation_error():
    v, h = problem()
    own = {part: frames(v[part], h[part]) for part in v}
    (y, x), (y_val, x_val), (y_test, x_test) = own.values()
    level = x.var(axis=0).mean() * len(x)
    tried = [Ridge(weight * level).fit(x, y) for weight in level_free.WEIGHTS]
    best = min(tried, key=lambda model: ((model.predict(x_val) - y_val) ** 2).sum())
    errors = level_free.ridge_errors(v, h)
    expected = ((best.predict(x_test) - y_test) ** 2).sum()
    assert errors[level_free.RIDGE].sum() == pytest.approx(expected, rel=1e-6)
    mean = ((y_test - y.mean(axis=0)) ** 2).sum()
    assert errors[level_free.MEAN_SHAPE].sum() == pytest.approx(mean, rel=1e-6)
    assert r2(errors) > 0.5


@pytest.mark.parametrize("n", [2, 4])
def test_components_are_scikit_learns(n, monkeypatch):
    monkeypatch.setattr(level_free, "WEIGHTS", (0.0,))
    v, h = problem()
    (y, x), _, (y_test, x_test) = (frames(v[part], h[part]) for part in v)
    pca = PCA(n).fit(x)
    model = LinearRegression().fit(pca.transform(x), y)
    expected = ((model.predict(pca.transform(x_test)) - y_test) ** 2).sum()
    errors = level_free.ridge_errors(v, h)
    assert errors[level_free.components(n)].sum() == pytest.approx(expected, rel=1e-6)


def test_columns_hold_every_number_and_few_is_all_of_a_small_layer():
    v, h = problem()
    errors = level_free.ridge_errors(v, h)
    few = level_free.components(level_free.FEW)
    assert [*errors] == [
        level_free.MEAN_SHAPE, "ridge, 2 components", "ridge, 4 components", "ridge", few
    ]  # fmt: skip
    assert errors[few].equals(errors[level_free.RIDGE])
    v, h = problem(n_atoms=20)
    errors = level_free.ridge_errors(v, h)
    assert r2(errors, few) < r2(errors)


def test_a_channel_that_never_varies_and_a_dead_layer_change_nothing():
    v, h = problem()
    more = {part: torch.cat([x, torch.ones_like(x[:, :1])], dim=1) for part, x in h.items()}
    # the mean variance of a channel, and with it the unit of the weights, is another
    assert r2(level_free.ridge_errors(v, more)) == pytest.approx(
        r2(level_free.ridge_errors(v, h)), abs=0.01
    )
    nothing = {part: torch.zeros_like(x) for part, x in h.items()}
    errors = level_free.ridge_errors(v, nothing)
    assert r2(errors) == pytest.approx(0, abs=1e-9)


def test_noise_explains_nothing_and_loudness_next_to_nothing():
    v, _ = problem()
    g = torch.Generator().manual_seed(9)
    noise = {part: torch.rand(n, N_ATOMS, N_FRAMES, generator=g) for part, n in CLIPS.items()}
    assert abs(r2(level_free.ridge_errors(v, noise))) < 0.05
    # one spectrum, louder and softer: all of V, none of its shape
    spectrum = torch.rand(N_FREQ, 1, generator=g) + 0.1
    level = {part: torch.rand(n, 1, N_FRAMES, generator=g) + 0.1 for part, n in CLIPS.items()}
    only = {part: spectrum * level[part] * (1 + 0.1 * torch.rand(n, N_FREQ, N_FRAMES, generator=g))
            for part, n in CLIPS.items()}  # fmt: skip
    assert abs(r2(level_free.ridge_errors(only, level))) < 0.05


def test_frames_without_a_shape_do_not_count():
    v, h = problem()
    errors = level_free.ridge_errors(v, h).join(level_free.unit_errors(v, h))
    for part in v:
        v[part][::2, 0, -3:] = 2e-6  # as silent as before
        h[part][::2, :, -3:] = 7.0
    again = level_free.ridge_errors(v, h).join(level_free.unit_errors(v, h))
    pd.testing.assert_frame_equal(errors, again)


def test_sums_do_not_depend_on_how_many_clips_are_read_at_a_time(monkeypatch):
    v, h = problem()
    errors = level_free.ridge_errors(v, h).join(level_free.unit_errors(v, h))
    monkeypatch.setattr(level_free, "CLIPS", 2)
    again = level_free.ridge_errors(v, h).join(level_free.unit_errors(v, h))
    pd.testing.assert_frame_equal(errors, again, rtol=1e-6)


# ------------------------------------------------------------------------ frames at norm one


def test_the_non_negative_fit_of_unit_frames_is_scipys():
    v, h = problem()

    def unit(values, part):
        heard = level_free.shapes(v[part])[1].numpy().ravel()
        rows = values[part].double().permute(0, 2, 1).reshape(-1, values[part].shape[1]).numpy()
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True))[heard]

    x, y = unit(h, "train"), unit(v, "train")
    w = np.stack([scipy.optimize.nnls(x, band)[0] for band in y.T], axis=1)  # (atoms, freq)
    errors = level_free.unit_errors(v, h)
    expected = ((unit(v, "test") - unit(h, "test") @ w) ** 2).sum()
    assert errors[level_free.UNIT].sum() == pytest.approx(expected, rel=1e-6)
    mean = ((unit(v, "test") - y.mean(axis=0)) ** 2).sum()
    assert errors[level_free.MEAN_UNIT].sum() == pytest.approx(mean, rel=1e-6)


def test_unit_frames_know_no_level():
    v, h = problem(heard=False)
    g = torch.Generator().manual_seed(2)
    gained = [
        {p: x * (0.3 + torch.rand(len(x), 1, N_FRAMES, generator=g)) for p, x in each.items()}
        for each in (v, h)
    ]
    pd.testing.assert_frame_equal(
        level_free.unit_errors(v, h), level_free.unit_errors(*gained), rtol=1e-4
    )


# ------------------------------------------------------------------------------- of a layer


@pytest.fixture(scope="module")
def data():
    n = sum(CLIPS.values())
    parts = np.repeat([*CLIPS], [*CLIPS.values()])
    clips = pd.DataFrame({"label": np.arange(n) % 3, "part": parts})
    clips["category"] = clips.label.map(dict(enumerate("abc")))
    return Data(clips, torch.zeros(n, 1, dtype=torch.int16), torch.ones(n, dtype=torch.int64))


def gathered(v, h):
    return {
        part: Gathered({"layer": Statistics.of(v[part], h[part])}, {"layer": h[part]}, v[part])
        for part in v
    }


def test_a_layer_is_read_both_ways():
    v, h = problem()
    errors = level_free.read(gathered(v, h), "layer")
    expected = level_free.ridge_errors(v, h).join(level_free.unit_errors(v, h))
    pd.testing.assert_frame_equal(errors, expected)
    assert len(errors) == CLIPS["test"]


def test_what_stands_in_is_read_by_the_same_regression(data, monkeypatch):
    monkeypatch.setattr(level_free, "WEIGHTS", (1e-12,))
    v, h = problem()
    errors = level_free.read_stand_ins(gathered(v, h), "layer", data)
    assert "mean spectrum" not in errors
    labels = data.clips.label.to_numpy()
    shape, heard = level_free.shapes(v["train"].double())
    seen, counts = level_free.shapes(v["test"].double())
    for i, label in enumerate(labels[data.split.test]):
        mine = shape[labels[data.split.train] == label].permute(0, 2, 1)
        mean = mine[heard[labels[data.split.train] == label]].mean(dim=0)
        gap = ((seen[i] - mean[:, None]) ** 2).sum(dim=0)[counts[i]].sum()
        assert errors["class spectra"][i] == pytest.approx(float(gap), rel=1e-6)
