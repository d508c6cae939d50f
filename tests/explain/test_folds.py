"""All methods judged on a fold: resumed, kept, collected with other folds."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from edits import CODE, each_edit, pretend
from two_bands import FRONT_END, NAMES, settled, small_data

from esc_lib.config import NARROW, PROFILES, Dictionaries, Network, variant
from esc_lib.explain import checks, folds
from esc_lib.explain.conditions import CONDITIONS, take
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.methods import METHODS, OURS, names_of, rival
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


@pytest.fixture(scope="module", autouse=True)
def rehearsal():
    """Let rivals that are trained take two steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folds, "REHEARSED", 2)
        yield


@pytest.fixture(scope="module")
def data():
    return small_data()


def make_runs(data, folder):
    """Return the folder of runs with an untrained network whose maps do not vanish."""
    torch.manual_seed(0)
    features = LogMel(FRONT_END).features(*data.batch(np.arange(16)))
    model = settled(SECNN(2, PROFILE.network), features)
    run = folder / "runs" / experiments.name_of(PROFILE)
    run.mkdir(parents=True)
    checkpoint.save(run / "model.safetensors", model, PROFILE, NAMES)
    return folder / "runs"


@pytest.fixture
def runs(data, tmp_path):
    return make_runs(data, tmp_path)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Return the folder of runs beside a fold explained by all methods, and what was found."""
    runs = make_runs(data, tmp_path_factory.mktemp("whole"))
    return runs, explain(data, runs)


@pytest.fixture
def explained(whole, tmp_path):
    """Return a copy of it, which a test may change."""
    runs, found = whole
    shutil.copytree(runs.parent, tmp_path / "copy")
    return tmp_path / "copy" / "runs", found


def explain(data, runs, only=()):
    return folds.explain_fold(data, PROFILE, runs, runs.parent / "fold1", only)


def test_a_name_that_is_no_method_is_refused(data, runs):
    with pytest.raises(ValueError, match="no method is called Grad-Kam; choose of components"):
        explain(data, runs, only=("Grad-Kam",))


def note_judged(monkeypatch, stop_after=1000):
    """Return a list that grows with every method that is judged from now on, until a stop."""
    calls, judge = [], folds.judge

    def noted(*args):
        if len(calls) == stop_after:
            raise KeyboardInterrupt
        calls.append(args)
        return judge(*args)

    monkeypatch.setattr(folds, "judge", noted)
    return calls


def test_a_fold_is_explained_by_all_methods_in_all_conditions(data, explained, monkeypatch):
    runs, found = explained
    rows = np.flatnonzero(data.clips.fold == PROFILE.test_fold)
    clean = {OURS, *names_of("rival"), *names_of("control")}
    clean |= {f"block {i} alone" for i in range(1, 6)}
    clean |= {f"relevance of {kind}" for kind in ("bands", "channels")}
    main = {name for name, method in METHODS.items() if method.main}
    expected = {"clean": clean, "other clip": clean | {"oracle"}}
    expected |= dict.fromkeys(("one after the other", "white noise"), main)
    for condition, names in expected.items():
        here = found[found.condition == condition]
        assert set(here.method) == names
        assert here.groupby("method").row.agg(sorted).map(rows.tolist().__eq__).all()
        known = here.predicted == here.label  # or, of two classes, that of the other clip
        known |= condition in ("other clip", "one after the other")
        assert (here.si_sdr.notna() == (known & (condition != "clean"))).all()
        assert here[["gain forest", "class forest"]].notna().all(axis=None)
        asked = here.method.isin(main) & (condition == "clean")
        assert (here.gain_wrong.notna() == asked).all() and (here.stays.notna() == asked).all()
    one = found[(found.method == OURS) & (found.condition == "clean")].set_index("row")
    assert one.filename.tolist() == data.clips.filename[one.index].tolist()
    assert one.label.tolist() == data.clips.label[one.index].tolist()
    assert one.source.tolist() == data.clips.src_file[one.index].tolist()
    model = checkpoint.load(next(runs.glob("*/model.safetensors")), PROFILE, NAMES).cpu()
    inputs = take(data, one.index.to_numpy(), "clean", FRONT_END.sr)
    given = Explainer(model, LogMel(FRONT_END), {}, inputs).given
    assert one.predicted.tolist() == given.argmax(dim=1).tolist()
    np.testing.assert_allclose(one.p, given.amax(dim=1), atol=1e-4)
    whole_numbers = found[["row", "source", "label", "predicted"]]
    assert (whole_numbers.dtypes == np.int64).all() and found.same.dtype == bool
    assert found[["p", "o", "m", "energy", "sparseness", "complexity"]].notna().all(axis=None)
    mixed = found[found.condition == "other clip"].groupby("method").si_sdr.mean()
    assert mixed.idxmax() == "oracle"  # knows both sounds

    monkeypatch.setattr(folds, "judge", lambda *_: pytest.fail("judged again"))
    pd.testing.assert_frame_equal(explain(data, runs), found, check_dtype=False, atol=1e-5)


def test_an_interrupted_run_goes_on_with_the_next_method(data, runs, monkeypatch):
    with monkeypatch.context() as patch:
        note_judged(patch, stop_after=24)  # a few methods into the second condition
        with pytest.raises(KeyboardInterrupt):
            explain(data, runs)
    path = runs.parent / "fold1" / "scores.csv.gz"
    kept = pd.read_csv(path)
    assert kept.groupby(["condition", "method"]).ngroups == 24
    calls = note_judged(monkeypatch)
    found = explain(data, runs)
    groups = found.groupby(["condition", "method"], sort=False)
    assert len(calls) == groups.ngroups - 24 and len(found) == len(pd.read_csv(path))
    assert (groups.size() == (data.clips.fold == PROFILE.test_fold).sum()).all()
    pd.testing.assert_frame_equal(
        found[: len(kept)][kept.columns], kept, check_dtype=False, atol=1e-5
    )


def test_a_large_fold_is_explained_in_parts_and_gone_on_with(data, runs, monkeypatch):
    only = (OURS, "saliency")
    whole = explain(data, runs, only=only)
    (runs.parent / "fold1" / "scores.csv.gz").unlink()
    monkeypatch.setattr(folds, "AT_ONCE", 1 + len(whole.row.unique()) // 2)
    with monkeypatch.context() as patch:
        note_judged(patch, stop_after=3)  # into the second part
        with pytest.raises(KeyboardInterrupt):
            explain(data, runs, only=only)
    calls = note_judged(monkeypatch)
    parts = explain(data, runs, only=only)
    assert len(calls) == 2 * whole.groupby(["condition", "method"]).ngroups - 3
    clean = [t[t.condition == "clean"].sort_values(["method", "row"]) for t in (whole, parts)]
    by = {"check_dtype": False, "atol": 1e-4}
    pd.testing.assert_frame_equal(*(t.reset_index(drop=True) for t in clean), **by)


def test_other_weights_start_anew(data, explained, monkeypatch):
    runs, found = explained
    weights = next(runs.glob("*/model.safetensors"))
    model = checkpoint.load(weights, PROFILE, NAMES).cpu()
    with torch.no_grad():
        model.fc2.bias += torch.tensor([0.3, -0.3])
    checkpoint.save(weights, model, PROFILE, NAMES)
    calls = note_judged(monkeypatch)
    again = explain(data, runs)
    assert len(calls) == found.groupby(["condition", "method"]).ngroups
    assert len(again) == len(found)
    assert not np.allclose(again.p, found.p)


@each_edit
def test_other_code_starts_anew_and_other_words_do_not(data, runs, monkeypatch, edit):
    found = explain(data, runs, only=(OURS, "Grad-CAM"))
    pretend(monkeypatch, "explain/masks", edit)
    calls = note_judged(monkeypatch)
    again = explain(data, runs, only=(OURS, "Grad-CAM"))
    assert len(calls) == (edit == CODE) * 2 * len(CONDITIONS)
    assert len(again) == len(found)
    assert np.allclose(again.p, found.p, atol=1e-5)


def test_other_dictionaries_start_anew(data, runs, monkeypatch):
    explain(data, runs, only=("Grad-CAM",))
    calls = note_judged(monkeypatch)
    explain(data, runs, only=("Grad-CAM",))
    assert not calls
    other = replace(PROFILE, dictionaries=replace(PROFILE.dictionaries, epochs=3))
    folds.explain_fold(data, other, runs, runs.parent / "fold1", ("Grad-CAM",))
    assert len(calls) == len(CONDITIONS)


def test_a_new_method_is_found_in_the_comparison(data, runs, monkeypatch):
    monkeypatch.setitem(METHODS, "loud", rival(lambda _model, features, _targets: features[:, 0]))
    found = explain(data, runs, only=(OURS, "loud")).assign(fold=1)
    assert set(found[found.condition == "clean"].method) == {OURS, "loud"}
    assert set(found[found.condition == "white noise"].method) == {OURS}
    assert any(name.startswith("loud, ") for name in checks.rival_shapes())


def test_a_fold_that_was_not_trained_is_named(data, tmp_path):
    message = r"model.safetensors is missing; train the fold first, as with .*--folds 1\.$"
    with pytest.raises(FileNotFoundError, match=message):
        folds.explain_fold(data, PROFILE, tmp_path, tmp_path / "fold1")
    assert not (tmp_path / "fold1").exists()


def test_the_second_judges_are_those_that_were_trained(data, runs):
    front_end = LogMel(FRONT_END)
    assert list(folds.panel(data, PROFILE, runs, front_end)) == ["forest"]
    other = variant(PROFILE, seed=1)
    run = runs / experiments.name_of(other)
    run.mkdir()
    checkpoint.save(run / "model.safetensors", SECNN(2, other.network), other, NAMES)
    assert list(folds.panel(data, PROFILE, runs, front_end)) == ["another seed", "forest"]
    narrow = replace(PROFILE, network=NARROW)
    run = runs / experiments.name_of(narrow)
    run.mkdir()
    checkpoint.save(run / "model.safetensors", SECNN(2, NARROW), narrow, NAMES)
    found = folds.panel(data, PROFILE, runs, front_end)
    assert list(found) == ["another seed", "narrow network", "forest"]
    assert list(folds.panel(data, narrow, runs, front_end)) == ["forest"]


def test_networks_are_collected_and_a_recorded_one_goes_before(data, tmp_path, monkeypatch):
    def save(path, p):
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = dict.fromkeys(folds.NUMBERS[path.name], 1)
        pd.DataFrame({"p": [p], "method": "m"} | columns).to_csv(path, index=False)

    def made(data, profile, runs, folder):
        asked.append(folder)
        save(folder / "scores.csv.gz", 0.1)

    def name(fold, **changes):
        return experiments.name_of(replace(variant(PROFILE, test_fold=fold), **changes))

    asked = []
    monkeypatch.setattr(folds, "explain_fold", made)
    own, recorded = tmp_path / "explanations", tmp_path / "recorded"
    save(own / name(2) / "scores.csv.gz", 0.2)
    save(own / name(3) / "scores.csv.gz", 0.3)
    save(own / name(2, network=NARROW) / "scores.csv.gz", 0.4)
    save(recorded / "explanations" / name(3) / "scores.csv.gz", 0.7)
    found = folds.collect(data, PROFILE, tmp_path, own, recorded)
    full, narrow = (found[found.network == each] for each in ("own", "narrow"))
    assert dict(zip(full.fold, full.p)) == {1: 0.1, 2: 0.2, 3: 0.7}  # fold 4 was not explained
    assert dict(zip(narrow.fold, narrow.p)) == {2: 0.4}
    assert asked == [own / name(1)]
    save(recorded / "explanations" / name(1) / "scores.csv.gz", 0.9)
    found = folds.collect(data, PROFILE, tmp_path, own, recorded)
    assert found.p.tolist() == [0.9, 0.2, 0.7, 0.4] and len(asked) == 1
    save(own / name(2) / "rivals.csv", 0.5)
    save(own / name(3) / "rivals.csv", 0.6)  # the recorded network of fold 3 has none
    found = folds.collect(data, PROFILE, tmp_path, own, recorded, "rivals.csv")
    assert found.p.tolist() == [0.5]


def test_the_training_of_rivals_is_told(data, runs, tmp_path):
    explain(data, runs, only=("L2I",))
    told = pd.read_csv(runs.parent / "fold1" / "rivals.csv").set_index("method")
    assert list(told.index) == ["L2I"] and 0 <= told.foretold["L2I"] <= 100
    losses = pd.Series([4.0, 3.0, 2.0, 1.0, 0.5, 0.5, 0.5, 0.25])

    class Rival:
        history = pd.DataFrame({"validation_loss": losses})

    class Asked:
        learned = {"L-MAC": Rival()}

    (row,) = folds.progress(Asked()).to_dict("records")
    assert row == {"method": "L-MAC", "epochs": 8, "25%": 3, "50%": 1, "75%": 0.5, "100%": 0.25}
