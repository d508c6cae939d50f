"""What codes hold: variance explained against ridge and regression by hand, and its nulls."""

import numpy as np
import torch
from sklearn.linear_model import Ridge

from esc_lib.probing import reading
from esc_lib.probing.bases import CHANNELS, Channels
from esc_lib.probing.sparse import random_basis

PARTS = {"train": 30, "validation": 10, "test": 12}


def sounds(seed=0, mel=12, frames=9, units=5):
    """Return codes that set the spectrum's shape, and V: a level of its own in each frame."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(scale=4, size=(mel, units))
    codes, v = {}, {}
    for part, n in PARTS.items():
        values = rng.exponential(size=(n, units, frames))
        level = rng.uniform(-20, 0, (n, 1, frames))
        decibel = mixing @ values + level + rng.normal(size=(n, mel, frames))
        codes[part] = torch.from_numpy(values).float()
        v[part] = torch.from_numpy(10 ** (decibel / 20)).float()
    return v, codes


def share(table):
    return 1 - table.residual.sum() / table.total.sum()


def test_codes_that_set_the_shape_explain_it_and_dealt_ones_do_not():
    v, codes = sounds()
    own, dealt = reading.spectrum(v, codes, codes["test"].roll(1, dims=1))
    assert share(own) > 0.9 and share(dealt) < 0.1
    assert own["clip"].tolist() == list(range(12)) and (own.total == dealt.total).all()


def test_the_reading_is_a_ridge_regression_whose_weight_validation_chose():
    v, codes = sounds(seed=1)
    (own,) = reading.spectrum(v, codes)
    x, y = {}, {}
    for part in PARTS:
        level = 20 * np.log10(v[part].numpy() / v[part].numpy().max(axis=(1, 2), keepdims=True))
        level = np.maximum(level, -80)
        y[part] = (level - level.mean(axis=1, keepdims=True)).transpose(0, 2, 1).reshape(-1, 12)
        x[part] = codes[part].numpy().transpose(0, 2, 1).reshape(-1, 5)
    mean, deviation = x["train"].mean(axis=0), x["train"].std(axis=0)
    x = {part: (values - mean) / deviation for part, values in x.items()}
    fits = [Ridge(weight).fit(x["train"], y["train"]) for weight in reading.WEIGHTS]
    error = [np.square(f.predict(x["validation"]) - y["validation"]).sum() for f in fits]
    rest = np.square(y["test"] - fits[int(np.argmin(error))].predict(x["test"]))
    np.testing.assert_allclose(own.residual, rest.reshape(12, -1).sum(axis=1), rtol=1e-3)
    about = np.square(y["test"] - y["train"].mean(axis=0))
    np.testing.assert_allclose(own.total, about.reshape(12, -1).sum(axis=1), rtol=1e-4)


def test_frames_near_the_floor_are_dropped_and_level_is_taken_out():
    v = torch.tensor([[[1.0, 1e-4, 0.1], [0.1, 0.5e-4, 0.01]]])
    shape, heard = reading.shapes(v)
    assert heard.tolist() == [[True, False, True]]
    torch.testing.assert_close(shape[0, :, 0], torch.tensor([10.0, -10.0]))
    torch.testing.assert_close(shape[0, :, 2], shape[0, :, 0])  # 20 dB quieter, the same shape


def test_level_free_codes_know_nothing_of_loudness():
    v, codes = sounds(seed=2)
    level = reading.decibel(v["test"]).mean(dim=1)
    loud = torch.cat([codes["test"], 5 * level[:, None], 0.1 * level[:, None].square(),
                      torch.ones(12, 1, 9)], dim=1)  # fmt: skip
    rest = reading.level_free(loud, v["test"])
    assert rest.shape == (12, 9, 8)
    assert np.abs(rest[..., 5:]).max() < 1e-3  # what loudness explains
    flat, known = rest.reshape(-1, 8), level.numpy().ravel()
    assert np.abs((known - known.mean()) @ flat[:, :5]).max() < 1e-3
    assert (rest[..., 7] == 0).all()  # never varies


def test_few_numbers_tell_the_layer_by_hand():
    v, codes = sounds(seed=3)
    train, test = codes["train"], codes["test"]
    generator = torch.Generator().manual_seed(0)
    bases = {CHANNELS: Channels(), "random 1x": random_basis(train, 5, 2, generator)}
    table = reading.layer(bases, train, test, v["test"], k=2).set_index(["basis", "clip"])
    scale = train.square().mean(dim=(0, 2)).sqrt()[:, None].numpy()
    frames = (train.numpy() / scale).transpose(0, 2, 1).reshape(-1, 5)
    about = test.numpy() / scale - frames.mean(axis=0)[:, None]
    free = reading.level_free(torch.from_numpy(about), v["test"])
    np.testing.assert_allclose(table.loc[CHANNELS].total, np.square(free).sum(axis=(1, 2)))
    told = np.where(np.abs(about) >= np.sort(np.abs(about), axis=1)[:, -2:-1], about, 0)
    rest = reading.level_free(torch.from_numpy(about - told), v["test"])
    np.testing.assert_allclose(
        table.loc[CHANNELS].residual, np.square(rest).sum(axis=(1, 2)), rtol=1e-4
    )
    axes = np.linalg.eigh(np.cov(frames.T))[1][:, -2:]
    rest = about - np.einsum("ij,njt->nit", axes @ axes.T, about)
    rest = reading.level_free(torch.from_numpy(rest), v["test"])
    np.testing.assert_allclose(
        table.loc["principal components"].residual, np.square(rest).sum(axis=(1, 2)), rtol=1e-3
    )
