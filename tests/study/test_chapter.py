"""A notebook's chapter: where it finds things, and what stands when it fails."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from esc_lib.config import PROFILES, RECIPES, variant
from esc_lib.machine.fingerprint import ROOT
from esc_lib.study import Chapter, Metric, chapter, find, root
from esc_lib.training import comparisons, runs

MISSING = r"^find: .*01_data is missing or incomplete; run it first: python -m esc_lib run 01_data"


def test_find_names_the_notebook_to_run_first(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=MISSING):
        find(tmp_path, "01_data")
    (tmp_path / "01_data").mkdir()
    (tmp_path / "01_data" / "clips.csv").write_text("written before it stopped")
    with pytest.raises(FileNotFoundError, match=MISSING):
        find(tmp_path, "01_data")
    monkeypatch.chdir(tmp_path)  # it says where it looked, wherever that was
    with pytest.raises(FileNotFoundError, match=MISSING):
        find(Path(), "01_data")
    (tmp_path / "01_data" / "metrics.json").write_text("{}")
    assert find(tmp_path, "01_data") == tmp_path / "01_data"


def test_root_is_the_build_folder_of_the_project(tmp_path, monkeypatch):
    (tmp_path / "dodo.py").touch()
    (tmp_path / "notebooks").mkdir()
    for place in (tmp_path, tmp_path / "notebooks"):
        monkeypatch.chdir(place)
        assert root("esc10") == tmp_path / "build" / "esc10" / "artifacts"
    assert root("esc10", str(tmp_path / "elsewhere")) == tmp_path / "elsewhere"
    monkeypatch.chdir("/")  # a notebook at work elsewhere: the checkout of the package
    assert root("esc10") == ROOT / "build" / "esc10" / "artifacts"
    with pytest.raises(ValueError, match=r"profile='esc' is unknown; choose one of demo"):
        root("esc", str(tmp_path))


def finished(tmp_path, value=1):
    one = Chapter("01_data", "demo", str(tmp_path))
    (one.folder / "clips.npy").write_text("whole")
    one.publish({"clips": value, "share": Metric(50.0, "%", 8, (40.0, 60.0))}, table=pd.DataFrame())
    return one


def test_what_is_published_can_be_found_and_nothing_else_is_left(tmp_path):
    one = finished(tmp_path)
    assert one.folder == tmp_path / "01_data" == find(tmp_path, "01_data")
    kept = json.loads((one.folder / "metrics.json").read_text())
    assert {name: row["value"] for name, row in kept.items()} == {
        "clips": 1, "share": 50.0, "share_low": 40.0, "share_high": 60.0,
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["01_data"]
    names = sorted(path.name for path in one.folder.iterdir())
    assert names == ["clips.npy", "metrics.json", "table.csv"]


@pytest.mark.parametrize("how", ["before", "refused", "killed between the renames"])
def test_a_run_that_fails_leaves_the_finished_one_whole(tmp_path, monkeypatch, how):
    finished(tmp_path)
    again = Chapter("01_data", "demo", str(tmp_path))
    (again.folder / "clips.npy").write_text("half")
    if how == "refused":
        with pytest.raises(ValueError, match="metric 'clips' is nan; nothing was written"):
            again.publish({"clips": math.nan})
    if how == "killed between the renames":
        (tmp_path / "01_data").rename(tmp_path / ".01_data.old")
        Chapter("01_data", "demo", str(tmp_path))  # the next run
    assert (find(tmp_path, "01_data") / "clips.npy").read_text() == "whole"
    assert json.loads((tmp_path / "01_data" / "metrics.json").read_text())["clips"]["value"] == 1
    assert not any(chapter.begin_folder(tmp_path / "01_data").iterdir())


def test_the_next_run_takes_the_place_of_the_one_before(tmp_path):
    finished(tmp_path)
    (tmp_path / "01_data" / "stale.csv").touch()
    assert not (finished(tmp_path, 2).folder / "stale.csv").exists()
    assert json.loads((tmp_path / "01_data" / "metrics.json").read_text())["clips"]["value"] == 2


def test_epochs_are_those_of_every_training(tmp_path):
    usual = Chapter("03_training", "demo", str(tmp_path)).settings
    assert usual == PROFILES["demo"]
    longer = Chapter("03_training", "demo", str(tmp_path), epochs=7).settings
    trained = [item.profile.training.epochs for item in comparisons.plan(longer)]
    assert {longer.training.epochs, longer.efficiency.epochs, *trained} == {7}
    assert longer.dictionaries == usual.dictionaries
    # what notebooks look up is what notebook 03, or the command that an error names, trains
    assert runs.name_of(longer) == runs.name_of(variant(usual, epochs=7))
    assert runs.how_to_train(longer).endswith("--profile demo --folds 1 --epochs 7")
    for wrong in (-1, "7", True):
        with pytest.raises(ValueError, match="epochs=.* is no whole number from 0 on"):
            Chapter("03_training", "demo", str(tmp_path), epochs=wrong)


def test_a_missing_package_is_said_before_anything_is_done(tmp_path):
    said = r"^01_data: no_such, nor_this not installed; pip install 'esc-lib\[notebooks\]'\.$"
    with pytest.raises(ModuleNotFoundError, match=said):
        Chapter("01_data", "demo", str(tmp_path), needs=["pandas", "no_such", "nor_this"])
    assert not any(tmp_path.iterdir())


def test_a_recipe_is_taken_by_its_name(tmp_path):
    chapter = Chapter("03_training", "demo", str(tmp_path), recipe="thesis")
    assert chapter.settings.training.recipe == RECIPES["thesis"]
    with pytest.raises(ValueError, match="recipe='weak' is unknown; choose one of thesis, strong"):
        Chapter("03_training", "demo", str(tmp_path), recipe="weak")


def test_caches_outlive_runs(tmp_path):
    one = finished(tmp_path)
    (one.cache / "hidden.pt").touch()
    assert (finished(tmp_path).cache / "hidden.pt").exists()
