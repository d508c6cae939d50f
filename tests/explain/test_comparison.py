"""All methods judged on a fold, and the tables made of it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from edits import CODE, pretend
from torch import nn
from two_bands import FRONT_END, NAMES, small_data

from esc_lib.config import PROFILES, Dictionaries, Network
from esc_lib.explain import comparison, table
from esc_lib.explain.components import KL
from esc_lib.explain.methods import CONTROLS, OURS, SHAPES, Choice
from esc_lib.models.se_cnn import SECNN
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import checkpoint
from esc_lib.training import runs as experiments

PROFILE = replace(
    PROFILES["demo"],
    front_end=FRONT_END,
    network=Network(channels=(4, 4, 6, 8, 8), se_reduction=2, hidden=8),
    dictionaries=Dictionaries(layer="conv_block4", epochs=2, steps_per_epoch=1),
)


@pytest.fixture(scope="module")
def data():
    return small_data()


# ------------------------------------------------------------------------------------ a whole fold


@pytest.fixture
def runs(data, tmp_path):
    """Return the folder of runs with an untrained network whose maps do not vanish."""
    torch.manual_seed(0)
    model = SECNN(2, PROFILE.network)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        waveforms, n_valid = data.batch(np.arange(16))
        model(LogMel(FRONT_END).features(waveforms, n_valid))
    folder = tmp_path / "runs" / experiments.name_of(PROFILE)
    folder.mkdir(parents=True)
    checkpoint.save(folder / "model.safetensors", model, PROFILE, NAMES)
    return tmp_path / "runs"


def explain(data, runs):
    return comparison.explain_fold(data, PROFILE, runs, runs.parent / "fold1")


def note_judged(monkeypatch, stop_after=1000):
    """Return a list that grows with every method that is judged from now on, until a stop."""
    calls, judge = [], comparison.judge

    def noted(*args):
        if len(calls) == stop_after:
            raise KeyboardInterrupt
        calls.append(args)
        return judge(*args)

    monkeypatch.setattr(comparison, "judge", noted)
    return calls


def test_a_fold_is_explained_by_all_methods_in_all_conditions(data, runs, monkeypatch):
    found = explain(data, runs)
    rows = np.flatnonzero(data.clips.fold == PROFILE.test_fold)
    constrained = {"LinearNoBiasSoftplus", "MelConstrainedLinear", "MelBasisTransform", "optimum"}
    clean = {OURS, *SHAPES, *(f"control: {name}" for name in CONTROLS)}
    clean |= {f"block {i}, {name}" for i in range(1, 6) for name in (KL, Choice.dictionary)}
    clean |= {f"block 4, {name}" for name in constrained}
    expected = {
        "clean": clean, "other clip": clean | {"oracle"}, "white noise": set(comparison.IN_NOISE),
    }  # fmt: skip
    for condition, names in expected.items():
        here = found[found.condition == condition]
        assert set(here.method) == names
        assert here.groupby("method").row.agg(sorted).map(rows.tolist().__eq__).all()
        assert (here.si_sdr.notna() == (condition != "clean")).all()
    one = found[(found.method == OURS) & (found.condition == "clean")].set_index("row")
    assert one.filename.tolist() == data.clips.filename[one.index].tolist()
    assert one.label.tolist() == data.clips.label[one.index].tolist()
    assert one.source.tolist() == data.clips.src_file[one.index].tolist()
    model = checkpoint.load(next(runs.glob("*/model.safetensors")), PROFILE, NAMES).cpu()
    given = comparison.probabilities(model, LogMel(FRONT_END), *data.batch(one.index.to_numpy()))
    assert one.predicted.tolist() == given.argmax(dim=1).tolist()
    np.testing.assert_allclose(one.p, given.amax(dim=1), atol=1e-4)
    whole_numbers = found[["row", "source", "label", "predicted"]]
    assert (whole_numbers.dtypes == np.int64).all() and found.same.dtype == bool
    assert found[["p", "o", "m", "energy", "sparseness", "complexity"]].notna().all(axis=None)
    mixed = found[found.condition == "other clip"].groupby("method").si_sdr.mean()
    assert mixed.idxmax() == "oracle"  # knows both sounds

    monkeypatch.setattr(comparison, "judge", lambda *_: pytest.fail("judged again"))
    pd.testing.assert_frame_equal(explain(data, runs), found, check_dtype=False, atol=1e-6)


def test_an_interrupted_run_goes_on_with_the_next_method(data, runs, monkeypatch):
    with monkeypatch.context() as patch:
        note_judged(patch, stop_after=24)  # a few methods into the second condition
        with pytest.raises(KeyboardInterrupt):
            explain(data, runs)
    path = runs.parent / "fold1" / "scores.csv"
    kept = pd.read_csv(path)
    assert kept.groupby(["condition", "method"]).ngroups == 24
    calls = note_judged(monkeypatch)
    found = explain(data, runs)
    groups = found.groupby(["condition", "method"], sort=False)
    assert len(calls) == groups.ngroups - 24 and len(found) == len(pd.read_csv(path))
    assert (groups.size() == (data.clips.fold == PROFILE.test_fold).sum()).all()
    pd.testing.assert_frame_equal(found[: len(kept)][kept.columns], kept, check_dtype=False)


@pytest.mark.parametrize("changed", ["weights", "code"])
def test_other_weights_or_code_start_anew(changed, data, runs, monkeypatch):
    found = explain(data, runs)
    if changed == "weights":
        weights = next(runs.glob("*/model.safetensors"))
        model = checkpoint.load(weights, PROFILE, NAMES).cpu()
        with torch.no_grad():
            model.fc2.bias += torch.tensor([0.3, -0.3])
        checkpoint.save(weights, model, PROFILE, NAMES)
    else:
        pretend(monkeypatch, "explain/masks", CODE)
    calls = note_judged(monkeypatch)
    again = explain(data, runs)
    assert len(calls) == found.groupby(["condition", "method"]).ngroups
    assert len(again) == len(found)
    assert np.allclose(again.p, found.p) == (changed == "code")


def test_dictionaries_are_fitted_once(data, runs, monkeypatch):
    asked, really_fit = [], comparison.fit_divergence

    def fit_and_note(train, block):
        asked.append(block)
        return really_fit(train, block)

    monkeypatch.setattr(comparison, "fit_divergence", fit_and_note)
    explain(data, runs)
    model = checkpoint.load(next(runs.glob("*/model.safetensors")), PROFILE, NAMES)
    front_end = LogMel(FRONT_END).to(next(model.parameters()).device)
    split = experiments.split_for(data, PROFILE)
    given = runs.parent / "fold1" / "hidden.pt", model, front_end, split, PROFILE
    kept = comparison.fit(*given, (PROFILE.dictionaries.layer,))
    other = comparison.fit(*given)
    assert asked == list(comparison.BLOCKS)  # by explain; then opened, whatever else is compared
    assert set(other) < set(kept)
    assert all(torch.equal(one.w, kept[key].w) for key, one in other.items())


def test_a_fold_that_was_not_trained_is_named(data, tmp_path):
    message = r"model.safetensors is missing; train the fold first, as with .*--folds 1\.$"
    with pytest.raises(FileNotFoundError, match=message):
        comparison.explain_fold(data, PROFILE, tmp_path, tmp_path / "fold1")
    assert not (tmp_path / "fold1").exists()


# ----------------------------------------------------------------------------------------- tables


def judged(n=60, methods=("a", "b"), condition="clean", seed=0):
    rng = np.random.default_rng(seed)
    rows = {key: rng.random(n) for key in ("p", "o", "m", "p_twice", "o_twice", "energy")}
    rows |= {
        "sparseness": rng.random(n),
        "complexity": 5 * rng.random(n),
        "same": rng.random(n) > 0.3,
    }
    rows |= {"source": rng.integers(0, 15, n), "method": np.resize(methods, n)}
    return pd.DataFrame(rows).assign(condition=condition)


def test_summary_means_and_intervals():
    rows = judged(methods=("z", "a"))
    found = table.summary(rows, n_draws=300)
    assert list(found.index) == ["z", "a"]
    by_method = rows.assign(
        AI=100.0 * (rows.o > rows.p),
        AD=100 * (rows.p - rows.o).clip(lower=0) / rows.p,
        AG=100 * (rows.o - rows.p).clip(lower=0) / (1 - rows.p),
        FF=rows.p - rows.m,
    ).groupby("method", sort=False)
    names = {"AI": "AI", "AD": "AD", "AG": "AG", "FF": "FF", "Fid-In": "same", "energy": "energy"}
    for name, column in (names | {"SPS": "sparseness", "COMP": "complexity"}).items():
        np.testing.assert_allclose(found[name, "mean"], by_method[column].mean())
        assert (found[name, "low"] < found[name, "mean"]).all()
        assert (found[name, "mean"] < found[name, "high"]).all()
    assert found["clips", "n"].tolist() == [30, 30]
    pd.testing.assert_frame_equal(found, table.summary(rows, n_draws=300))


def test_an_interval_knows_that_clips_of_a_recording_go_together():
    rows = judged(200, ("a",))
    together = rows.assign(source=np.repeat(np.arange(10), 20), energy=np.repeat(np.arange(10), 20))
    apart = together.assign(source=np.arange(200))
    wide, narrow = (
        float((found["energy", "high"] - found["energy", "low"]).iloc[0])
        for found in map(table.summary, (together, apart))
    )
    assert wide / narrow == pytest.approx(20**0.5, rel=0.15)


def test_criterion_by_hand():
    rows = pd.DataFrame(
        {
            "condition": ["clean", "clean", "noisy"], "p": [0.8, 0.5, 0.5], "o": [0.9, 0.25, 0.5],
            "m": [0.3, 0.5, 0.1], "same": [True, False, True],
        }
    )  # fmt: skip
    clean = (50 + 25 - 25) / 100 + 0.25 + 0.5
    noisy = 0.4 + 1
    assert table.criterion(rows) == pytest.approx((clean + noisy) / 2)


def test_separation_by_hand():
    rows = pd.DataFrame(
        {
            "method": ["b", "b", "b", "a", "a"], "condition": ["mix", "mix", "mix", "mix", "clean"],
            "label": [0, 1, 1, 0, 0], "predicted": [0, 1, 0, 0, 0],
            "si_sdr": [6.0, 3.0, 99.0, 1.0, np.nan], "si_sdr_input": [1.0, -1.0, 0.0, 2.0, np.nan],
        }
    )  # fmt: skip
    found = table.separation(rows)
    assert found.index.tolist() == ["b", "a"] and found.columns.tolist() == ["mix"]
    assert found.mix.tolist() == [4.5, -1.0]
