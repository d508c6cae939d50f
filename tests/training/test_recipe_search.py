"""The design of the runs that choose a recipe, and what is read from them."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from small_study import make_data

from esc_lib import __main__ as command_line
from esc_lib.config import get_profile
from esc_lib.machine.fingerprint import ROOT
from esc_lib.machine.provenance import checksum_of
from esc_lib.training import recipe_search, runs
from esc_lib.training.recipe_search import DESIGN, LEVERS


def answers(effects, n_clips=400, seed=0):
    """Return answers of all runs to clips of 3 splits, right more often by each lever's effect."""
    rng = np.random.default_rng(seed)
    rows = []
    for split, block in enumerate(DESIGN):
        for clip in range(n_clips):
            ease, luck = rng.uniform(0.2, 0.6), rng.random()
            for run, pulled in enumerate(block):
                right = luck < ease + pulled @ effects
                rows.append((split, run, f"{clip // 2}", right))
    return pd.DataFrame(rows, columns=["split", "run", "src_file", "right"])


def test_effects_put_in_are_found_and_nothing_else():
    effects = np.array([0.08, 0, 0.12, 0, -0.1, 0, 0])
    found = recipe_search.gains(answers(effects), n_draws=400)
    error = (found.high - found.low) / (2 * 1.96)
    assert ((found.gain - 100 * effects).abs() < 3 * error).all()
    clear = found.gain.abs() > 3 * error
    assert list(found.index[clear]) == [LEVERS[0], LEVERS[2], LEVERS[4]]


def test_least_squares_with_a_level_of_its_own_for_every_clip_gives_the_same():
    judged = answers(np.full(7, 0.03), n_clips=30)
    clip = judged.split.astype(str) + "/" + (np.arange(len(judged)) // 4).astype(str)
    columns = [pd.get_dummies(clip).to_numpy(float), DESIGN[judged.split, judged.run]]
    effects = np.linalg.lstsq(np.hstack(columns), judged.right.to_numpy(float), rcond=None)[0][-7:]
    assert recipe_search.gains(judged, 10).gain.to_numpy() == pytest.approx(100 * effects)


def test_every_lever_is_told_apart_nearly_as_well_as_by_an_orthogonal_design():
    centred = DESIGN - DESIGN.mean(axis=1, keepdims=True)
    variance = np.diag(np.linalg.inv(np.einsum("srl,srk->lk", centred, centred)))
    assert (variance * 12 / 4 < 1.15).all()


def test_runs_differ_in_name_and_read_no_test_clip():
    planned = recipe_search.plan(get_profile("esc50-16k"))
    assert len({runs.name_of(profile) for profile in planned}) == 12
    assert {profile.training.protocol for profile in planned} == {"no_test"}
    for lever in LEVERS[1:]:
        named = [lever in profile.training.recipe.name for profile in planned]
        assert sum(named) == DESIGN[..., LEVERS.index(lever)].sum()


def test_recorded_runs_are_not_done_again(tmp_path, monkeypatch):
    data, done = make_data(), []
    recorded = tmp_path / "results" / "demo" / "runs" / "some run"
    recorded.mkdir(parents=True)
    first, *others = recipe_search.plan(get_profile("demo"))
    record = {"profile": first.as_dict(), "waveforms_sha256": checksum_of(data.waveforms)}
    (recorded / "run.json").write_text(json.dumps(record))
    monkeypatch.setattr(command_line, "ROOT", tmp_path)
    monkeypatch.setattr(command_line, "find", lambda *_: tmp_path)
    monkeypatch.setattr(command_line, "open_data", lambda _: data)
    monkeypatch.setattr(runs, "run", lambda data, profile, runs: done.append(profile))
    assert command_line.main(["recipe", "--profile", "demo"]) == 0
    assert done == others


def test_the_recipe_is_what_the_recorded_runs_say():
    profile, recorded = get_profile("esc50-16k"), ROOT / "results" / "esc50-16k"
    files = [runs.find_recorded(planned, recorded) for planned in recipe_search.plan(profile)]
    clips = pd.concat([runs.predictions_of(file) for file in files]).drop_duplicates("row")
    sources = clips.set_index("row").filename.str.split("-").str[1]
    data = SimpleNamespace(clips=pd.DataFrame({"src_file": sources.reindex(range(2000))}))
    judged = recipe_search.judged_in(profile, data, recorded)
    found = recipe_search.gains(judged)
    helped = set(found.index[found.low > 0])
    assert helped == {"twice the epochs", "whole clips at the end", "no masks"}
    own = profile.training
    assert own.epochs == 2 * recipe_search.EPOCHS and own.recipe.augmentation.max_mask == 0
    assert own.recipe.stages == recipe_search.CHANGES["whole clips at the end"]["stages"]
    assert judged.groupby(["split", "run"]).ngroups == 12
    assert recipe_search.judged_in(profile, data, None).empty
