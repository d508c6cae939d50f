"""The hidden layer taken away: what stands in for H, by loops and against the exact solver."""

import numpy as np
import pandas as pd
import pytest
import torch

from esc_lib.data.clips import Data
from esc_lib.dictionaries import solvers, stand_ins
from esc_lib.dictionaries.statistics import Statistics, relative_error

N_FREQ, N_FRAMES = 6, 8


@pytest.fixture(scope="module")
def data():
    part = ["train"] * 8 + ["test"] * 4
    clips = pd.DataFrame({"label": [0, 1, 2, 0, 1, 2, 0, 1, 2, 1, 0, 0], "part": part})
    clips["category"] = clips.label.map(dict(enumerate("abc")))
    return Data(clips, torch.zeros(12, 1, dtype=torch.int16), torch.ones(12, dtype=torch.int64))


@pytest.fixture(scope="module")
def v(data):
    g = torch.Generator().manual_seed(0)
    values = torch.rand(12, N_FREQ, N_FRAMES, generator=g).double() ** 3
    return {part: values[getattr(data.split, part)] for part in ("train", "test")}


def test_what_stands_in_by_loops(v, data):
    found = stand_ins.stand_ins(v, data)
    assert list(found) == list(stand_ins.KNOWS)
    labels = data.clips.label.to_numpy()[data.split.test]
    for i, clip in enumerate(v["test"].numpy()):
        assert (found[stand_ins.MEAN]["test"][i] == 1).all()
        np.testing.assert_allclose(found[stand_ins.FRAME]["test"][i, 0], clip.mean(axis=0))
        np.testing.assert_allclose(found[stand_ins.CLIP]["test"][i, 0], clip.mean(), rtol=1e-6)
        for label in range(3):
            assert (found[stand_ins.CLASS]["test"][i, label] == (label == labels[i])).all()


def test_errors_are_those_of_mean_spectra_by_hand(v, data):
    errors = stand_ins.squared_errors(v, data)
    train, test = (v[part].double().numpy() for part in ("train", "test"))
    labels = data.clips.label.to_numpy()
    mean = train.mean(axis=(0, 2))[:, None]
    np.testing.assert_allclose(errors[stand_ins.MEAN], ((test - mean) ** 2).sum(axis=(1, 2)))
    for i, clip in enumerate(test):
        label = labels[data.split.test][i]
        own = train[labels[data.split.train] == label].mean(axis=(0, 2))[:, None]
        assert errors[stand_ins.CLASS][i] == pytest.approx(((clip - own) ** 2).sum())


def test_no_w_does_better_with_what_stands_in(v, data):
    for name, h in stand_ins.stand_ins(v, data).items():
        test = Statistics.of(v["test"], h["test"])
        w = solvers.solve_exact(Statistics.of(v["train"], h["train"]))
        expected = relative_error(w, test) ** 2 * float(test.energy)
        assert stand_ins.squared_errors(v, data)[name].sum() == pytest.approx(expected, rel=1e-6)


def test_sounds_of_one_spectrum_are_all_loudness(data):
    g = torch.Generator().manual_seed(1)
    spectrum = torch.rand(N_FREQ, 1, generator=g)
    level = torch.rand(12, 1, N_FRAMES, generator=g)
    v = {"train": spectrum * level[:8], "test": spectrum * level[8:]}
    errors = stand_ins.squared_errors(v, data).sum()
    assert errors[stand_ins.FRAME] < 1e-10
    assert errors[stand_ins.FRAME] < 1e-6 * errors[stand_ins.CLIP] < errors[stand_ins.MEAN]
