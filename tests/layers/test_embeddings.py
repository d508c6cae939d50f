"""Embeddings of clips: which are taken, their neighbours, maps, and excerpts to listen to."""

from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial import procrustes
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier

from esc_lib.config import FrontEnd, Network
from esc_lib.data.clips import Data
from esc_lib.evaluation import intervals
from esc_lib.layers import embeddings, hooks
from esc_lib.models.se_cnn import BLOCKS, GATES, SECNN
from esc_lib.sound.log_mel import LogMel

FRONT_END = FrontEnd(
    sr=8000, n_fft=256, win_length=256, hop_length=128, n_mels=32, f_max_hz=4000.0, n_frames=45
)
RNG = np.random.default_rng(0)


def directions(angles):
    """Return points on a circle: cosines between them follow from angles alone."""
    angles = np.asarray(angles, dtype=float)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def three_bundles(n=12):
    """Return clips of three classes that point in three directions, and their labels."""
    labels = np.repeat(np.arange(3), n)
    centres = np.eye(3)[labels]
    noise = np.random.default_rng(1).normal(0, 0.05, (3 * n, 3))
    return (centres + noise).astype(np.float32), labels


# ------------------------------------------------------------------------------- which clips


def test_evenly_takes_as_many_of_each_class_as_of_any_other():
    classes = np.array(["a"] * 30 + ["b"] * 3 + ["c"] * 10)
    taken = embeddings.evenly(classes, 11)
    assert (np.diff(taken) > 0).all()
    assert sorted(np.unique(classes[taken], return_counts=True)[1]) == [3, 4, 4]
    assert np.array_equal(embeddings.evenly(classes, 11), taken)
    assert np.array_equal(embeddings.evenly(classes, 99), np.arange(43))


# -------------------------------------------------------------------------------- embeddings


def test_embedding_is_the_mean_of_each_layers_output(monkeypatch):
    monkeypatch.setattr(hooks, "autocast", lambda device: nullcontext())
    torch.manual_seed(0)
    model = SECNN(3, Network(channels=(4, 4, 8, 8, 8), se_reduction=2, hidden=16))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():  # sets the normalisation: else the deep maps all but vanish
        model(torch.randn(16, 1, 32, 45))
    model.eval()
    waveforms = torch.from_numpy(RNG.integers(-9000, 9000, (5, FRONT_END.n_samples), np.int16))
    data = Data(pd.DataFrame({"label": range(5)}), waveforms, torch.full((5,), len(waveforms[0])))
    front_end, rows = LogMel(FRONT_END), np.array([4, 0, 2])
    found = embeddings.embed(model, front_end, data, rows)
    expected = {}
    with torch.no_grad():
        maps = front_end.features(*data.batch(rows))
        for index, block in enumerate(BLOCKS, 1):
            maps = getattr(model, block)(maps)
            expected[f"block {index}"] = maps.mean(dim=(2, 3))
            if index > 1:
                maps = getattr(model, GATES[index - 2])(maps)
        expected["fc1"] = model.fc1(maps.mean(dim=(2, 3))).clamp_min(0)
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-6)
        assert found[name].std(axis=0).max() > 0.01  # else the comparison would say little


# -------------------------------------------------------------------------------- neighbours


def test_neighbours_vote_by_hand():
    # clips by angle; k = 3: the first sees two of its own, the fourth none
    embedding = directions([0.0, 0.1, 0.2, 0.15, 1.5, 1.6, 1.65])
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    right = embeddings.neighbours_right(embedding, labels, np.arange(7), k=3)
    assert right.tolist() == [True, True, True, False, True, True, True]
    # far and near have the same direction: only angles count
    stretched = embedding * np.array([1, 50, 1, 9, 1, 0.01, 3])[:, None]
    again = embeddings.neighbours_right(stretched, labels, np.arange(7), k=3)
    assert np.array_equal(again, right)


def test_a_tie_goes_to_the_nearest():
    embedding = directions([0.0, 0.1, 0.3, 2.0, 2.1])
    sources = np.arange(5)
    assert embeddings.neighbours_right(embedding, np.array([0, 0, 1, 1, 1]), sources, k=2)[0]
    assert not embeddings.neighbours_right(embedding, np.array([0, 1, 0, 1, 1]), sources, k=2)[0]


def test_clips_of_the_same_recording_do_not_vote():
    # pairs cut from one recording lie together, other recordings of the class far away
    angles = np.array([0.0, 0.01, 1.0, 1.01, 2.0, 2.01, 3.0, 3.01])
    labels = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    own = np.arange(8)
    pairs = np.array([*"aabbccdd"])
    assert embeddings.neighbours_right(directions(angles), labels, own, k=1).all()
    assert not embeddings.neighbours_right(directions(angles), labels, pairs, k=1).any()
    with pytest.raises(ValueError, match="a clip has fewer than k=5 clips of other recordings"):
        embeddings.neighbours_right(directions(angles), labels, np.array([*"aaaabcde"]), k=5)


def test_neighbours_vote_as_in_scikit_learn():
    embedding = RNG.random((60, 8))
    labels = RNG.integers(0, 2, 60)  # two classes and k = 5: no ties
    expected = [
        KNeighborsClassifier(5, metric="cosine", algorithm="brute")
        .fit(np.delete(embedding, i, axis=0), np.delete(labels, i))
        .predict(embedding[i : i + 1])[0]
        == labels[i]
        for i in range(60)
    ]
    found = embeddings.neighbours_right(embedding, labels, np.arange(60))
    assert 0 < found.sum() < 60
    assert found.tolist() == expected


# -------------------------------------------------------------------------------------- maps


@pytest.mark.parametrize("method", embeddings.METHODS)
def test_a_map_keeps_bundles_together_and_repeats(method):
    embedding, labels = three_bundles()
    kept = embedding.copy()
    places = embeddings.lay_out(embedding, method)
    assert places.shape == (36, 2)
    centres = np.stack([places[labels == c].mean(axis=0) for c in range(3)])
    distances = np.linalg.norm(places[:, None] - centres, axis=2)
    assert np.array_equal(distances.argmin(axis=1), labels)
    assert np.array_equal(embeddings.lay_out(embedding, method), places)
    np.testing.assert_array_equal(embedding, kept)
    assert torch.get_num_threads() == 1  # as all tests have it; UMAP's compiler sets it


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="lay_out: method='PCA', expected one of t-SNE, UMAP"):
        embeddings.lay_out(RNG.random((9, 3)), "PCA")


def test_all_maps_are_turned_towards_the_last_and_not_bent(monkeypatch):
    grid = RNG.normal(size=(20, 2)) * [3, 1]
    turns = {"a": np.array([[0.0, 1], [1, 0]]), "b": -np.eye(2), "c": np.eye(2)}
    monkeypatch.setattr(embeddings, "lay_out", lambda e, method: grid @ e + 7)
    maps = embeddings.all_maps(turns)
    assert {method: list(of_layer) for method, of_layer in maps.items()} == {
        "t-SNE": ["a", "b", "c"], "UMAP": ["a", "b", "c"],
    }  # fmt: skip
    for of_layer in maps.values():
        for places in of_layer.values():
            np.testing.assert_allclose(places, grid - grid.mean(axis=0), atol=1e-9)
    bent = np.random.default_rng(2).normal(size=(20, 2))
    monkeypatch.setattr(embeddings, "lay_out", lambda e, _: bent if e is turns["a"] else grid)
    turned = embeddings.all_maps(turns)["t-SNE"]["a"]
    assert procrustes(turned, bent)[2] == pytest.approx(0, abs=1e-12)
    assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(bent - bent.mean(axis=0)))


def test_measure_collects_votes_intervals_and_trustworthiness():
    embedding, labels = three_bundles()
    noise = np.random.default_rng(3).normal(size=embedding.shape)
    sources = np.arange(len(labels)) // 2
    maps = {"t-SNE": {"good": embedding[:, :2], "bad": embedding[:, :2]}}
    table = embeddings.measure({"good": embedding, "bad": noise}, maps, labels, sources)
    assert table.loc["good", ["channels", "right", "low", "high"]].tolist() == [3, 100, 100, 100]
    right = embeddings.neighbours_right(noise, labels, sources)
    expected = intervals.mean_interval(100.0 * right, intervals.source_draws(sources))
    assert tuple(table.loc["bad", ["right", "low", "high"]]) == expected
    assert table.loc["bad", "low"] < table.loc["bad", "right"] < table.loc["bad", "high"] < 90
    for name, values in (("good", embedding), ("bad", noise)):
        assert table.loc[name, "t-SNE"] == trustworthiness(
            values, embedding[:, :2], n_neighbors=5, metric="cosine"
        )


# ----------------------------------------------------------------------------------- excerpts


def test_excerpts_are_the_loudest_part_at_no_more_than_16_khz():
    sr = 44_100
    times_s = np.arange(5 * sr) / sr
    burst = (times_s > 2) & (times_s < 3.4)
    clip = 0.5 * np.sin(2 * np.pi * 500 * times_s) * burst + 0.01 * np.sin(6000 * times_s)
    waveforms = torch.from_numpy(np.stack([clip, clip * 0]) * 32768).to(torch.int16)
    data = Data(pd.DataFrame({"label": [0, 1]}), waveforms, torch.tensor([5 * sr, sr // 2]))
    (loud, short), excerpt_sr = embeddings.excerpts(data, np.array([0, 1]), sr)
    assert excerpt_sr == 16_000
    assert len(loud) == 24_000 and len(short) == 8_000 and not short.any()
    assert np.square(loud).mean() == pytest.approx(0.125 * 1.4 / 1.5, rel=0.02)  # all of the burst
    assert loud[0] == loud[-1] == 0  # no click
    (slower,), excerpt_sr = embeddings.excerpts(
        data, np.array([0]), 8000
    )  # the same, played slower
    assert (excerpt_sr, len(slower)) == (8000, 12_000)
