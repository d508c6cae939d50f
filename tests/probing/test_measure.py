"""Networks probed as pieces: kept, found again, joined with recorded ones, by the command too."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from edits import CODE, each_edit, pretend
from two_bands import FRONT_END, NAMES, settled, small_data

from esc_lib import __main__ as command_line
from esc_lib.config import PROFILES, Dictionaries, Network, Probing, variant
from esc_lib.models.se_cnn import SECNN
from esc_lib.probing import findings, measure, scores
from esc_lib.sound.log_mel import LogMel
from esc_lib.study.record import measured_tables
from esc_lib.training import checkpoint
from esc_lib.training import runs as experiments

PROFILE = replace(
    PROFILES["demo"],
    front_end=FRONT_END,
    network=Network(channels=(4, 4, 6, 8, 8), se_reduction=2, hidden=8),
    dictionaries=Dictionaries(layer="conv_block4", epochs=2, steps_per_epoch=1),
    probing=Probing(clips=3, units=3, per_class=2, widths=(1,), active=2, steps=3),
)


def make_runs(folder, data, seeds=(0, 1)):
    """Return the folder of runs with networks whose head knows the classes."""
    features = LogMel(FRONT_END).features(*data.batch(np.arange(16)))
    for seed in seeds:
        profile = variant(PROFILE, seed=seed)
        torch.manual_seed(seed)
        model = settled(SECNN(2, PROFILE.network), features)
        run = folder / "runs" / experiments.name_of(profile)
        run.mkdir(parents=True)
        checkpoint.save(run / "model.safetensors", model, profile, NAMES)
    return folder / "runs"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder, data = tmp_path_factory.mktemp("study"), small_data()
    runs = make_runs(folder, data)
    return folder, data, runs, measure.probe(data, PROFILE, runs, folder / "probing")


@pytest.fixture
def study(made, tmp_path):
    """Return a copy of it, which a test may change."""
    folder, data, _, tables = made
    shutil.copytree(folder, tmp_path / "study")
    return tmp_path / "study", data, tables


def test_every_measure_has_its_table_with_clips_and_networks(made):
    folder, data, _, tables = made
    assert set(tables) == set(measure.TABLES)
    test = data.clips[data.clips.fold == 1].filename
    for name in ("held", "meanings", "effects", "clips"):
        assert set(tables[name].filename) <= set(test)
    for name, table in tables.items():
        assert (table[["fold", "seed", "width"]].drop_duplicates().to_numpy() == [1, 0, 4]).all()
        assert name == "stability" or set(table.network) == {"trained", "random"}
    few = [set(own.filename) for _, own in tables["effects"].groupby("network")]
    assert few[0] == few[1] and len(few[0]) == 3  # the same clips, or nothing compares
    assert set(tables["stability"].basis) == {"channels", "sparse 1x"}
    assert len(tables["stability"]) == 2 * (measure.DRAWS + 1)
    by_clip = scores.by_clip(tables)
    assert set(by_clip.measure) >= {"meaning", "effect", "spectrum", "layer"}
    table = findings.with_stability(findings.compared(by_clip), scores.stable(tables["stability"]))
    for claim in table.index.get_level_values("claim").unique():
        says = findings.sentence(claim, table)
        assert "nan" not in says and says.endswith(".")
    says = findings.sentence("spectrum", table, used=False)
    assert "random convolutions" in says and says.endswith("it is not used.")
    assert "does not measure it" in findings.sentence("wide_spectrum", table)


def test_a_network_is_probed_once(study, monkeypatch):
    folder, data, tables = study
    monkeypatch.setattr(measure, "every_measure", lambda *_: pytest.fail("probed again"))
    again = measure.probe(data, PROFILE, folder / "runs", folder / "probing")
    for name, table in tables.items():
        pd.testing.assert_frame_equal(again[name], table)


@each_edit
def test_other_code_probes_anew_and_other_words_do_not(study, monkeypatch, edit):
    folder, data, _ = study
    pretend(monkeypatch, "probing/atoms", edit)
    calls = []
    monkeypatch.setattr(measure, "every_measure", lambda made: calls.append(made) or {})
    monkeypatch.setattr(measure, "stability", lambda *_: pd.DataFrame({"draw": [0]}))
    measure.probe(data, PROFILE, folder / "runs", folder / "probing")
    assert len(calls) == (edit == CODE)


def test_without_another_seed_there_is_no_stability(tmp_path, monkeypatch):
    data = small_data()
    runs = make_runs(tmp_path, data, seeds=(0,))
    monkeypatch.setattr(measure, "every_measure", lambda made: {"held": pd.DataFrame({"a": [1]})})
    assert set(measure.probe(data, PROFILE, runs, tmp_path / "probing")) == {"held"}


def test_a_network_that_was_not_trained_is_named(tmp_path):
    message = r"model.safetensors is missing; train it first, as with .*--folds 1\.$"
    with pytest.raises(FileNotFoundError, match=message):
        measure.probe(small_data(), PROFILE, tmp_path, tmp_path / "probing")
    assert not (tmp_path / "probing").exists()


def test_all_networks_are_collected_and_recorded_ones_go_before(tmp_path, monkeypatch):
    def save(folder, value):
        folder.mkdir(parents=True)
        table = pd.DataFrame({"own": [value]} | dict.fromkeys(measure.LABELS, 1))
        table.to_csv(folder / "effects.csv.gz", index=False)
        (folder / "identity.json").write_text('{"identity": ""}')

    asked = []
    fake = {"effects": pd.DataFrame({"own": [0.9]})}
    monkeypatch.setattr(measure, "probe", lambda *given: asked.append(given) or fake)
    own, recorded = tmp_path / "probing", tmp_path / "recorded"
    found = measure.collect(small_data(), PROFILE, tmp_path, own, recorded)
    assert found["effects"].own.tolist() == [0.9] and len(asked) == 1
    assert found["effects"].run.tolist() == [experiments.name_of(PROFILE)]
    save(own / "one", 0.1)
    save(own / "two", 0.2)
    save(recorded / "probing" / "two", 0.7)
    found = measure.collect(small_data(), PROFILE, tmp_path, own, recorded)
    assert dict(zip(found["effects"].run, found["effects"].own)) == {"one": 0.1, "two": 0.7}
    assert len(asked) == 1 and set(found) == {"effects"}
    kept = measured_tables(tmp_path, recorded)
    assert {path.parent for path in kept.values()} == {own / "one", own / "two"}
    assert "probing/one/identity.json" in kept


def test_the_command_probes_folds_and_seeds(made, tmp_path, monkeypatch, capsys):
    folder, data, runs, _ = made
    monkeypatch.setattr(command_line, "get_profile", lambda _: PROFILE)
    monkeypatch.setattr(command_line, "find", lambda *_: tmp_path)
    monkeypatch.setattr(command_line, "open_data", lambda _: data)
    options = ["probe", "--profile", "demo", "--artifacts", str(folder), "--jobs", "1"]
    assert command_line.main([*options, "--folds", "1", "--seeds", "0"]) == 0
    assert capsys.readouterr().out.split() == [
        str(folder / "probing" / experiments.name_of(PROFILE))
    ]
    assert command_line.main([*options, "--folds", "2"]) == 1
    assert "train it first" in capsys.readouterr().err
