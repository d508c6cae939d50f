"""The study of notebook 10: its scenes, all systems on the same ones, tables, a full-size step."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from edits import CODE, each_edit, pretend

from esc_lib.companions import binaural
from esc_lib.companions.binaural import heads, judging, rooms, training
from esc_lib.companions.binaural import study as module
from esc_lib.companions.binaural.settings import Settings, of_profile
from esc_lib.config import PROFILES
from esc_lib.data.clips import Data
from esc_lib.training import loop

TINY = Settings(
    width=16, layers=1, heads=2, head_width=8, hidden=16, stride=16, dropout=0.0, epochs=1,
    batch_size=16, per_excerpt=1, learning_rate=1e-3, step_deg=10, azimuths=12, seats=2,
    new_seats=1, excerpts=2, cue_rounds=8, test_rounds=3,
    variants=(("subtract", False, "hybrid"), ("add", True, "squared")), variant_epochs=2,
)  # fmt: skip
ANECHOIC, KNOWN, NEW = binaural.ROOMS


def clips(n=12, length=16_000):
    rng = np.random.default_rng(0)
    waveforms = (3000 * rng.normal(size=(n, length)).clip(-5, 5)).astype(np.int16)
    table = pd.DataFrame(
        {"filename": [f"{i}.wav" for i in range(n)], "src_file": np.arange(n), "label": 0,
         "category": "noise", "part": np.array(["train", "validation", "test"])[np.arange(n) % 3]}
    )  # fmt: skip
    return Data(table, torch.from_numpy(waveforms), torch.full((n,), length))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Noise around a sphere, with a small hall in place of the large one."""
    with pytest.MonkeyPatch.context() as patch:
        small = rooms.Room(rooms.LECTURE_HALL.name, (8.0, 7.0, 5.0), 0.25, distance_m=1.5)
        patch.setattr(module, "LECTURE_HALL", small)
        head = heads.open_head("", TINY.step_deg)
        return binaural.make_study(clips(), 16_000, TINY, head, tmp_path_factory.mktemp("study"))


def test_head_is_the_measured_one_where_a_file_or_its_folder_is_given(tmp_path):
    assert heads.open_head("", TINY.step_deg).name == "spherical head"
    delays = np.round(heads.woodworth_s(np.arange(0, 360, 5)) * 48_000 / 2).astype(int)
    responses = np.zeros((72, 2, 128))
    responses[np.arange(72), 0, 40 - delays] = 1
    responses[np.arange(72), 1, 40 + delays] = 1
    np.savez(tmp_path / "ku100_circular.npz", hrir=responses, azimuths=np.arange(0, 360, 5))
    for path in (tmp_path, tmp_path / "ku100_circular.npz"):
        assert heads.open_head(str(path)).name == "KU 100"
    with pytest.raises(ValueError, match="is missing; give ku100"):
        heads.open_head(str(tmp_path / "other.npz"))


FEW = replace(TINY, azimuths=4, new_seats=0, seats=1)


@pytest.fixture
def computed(monkeypatch):
    """Return a list that grows by one whenever the responses of places are computed."""
    calls, prepare = [], rooms.prepare_places
    monkeypatch.setattr(rooms, "prepare_places", lambda *a: calls.append(1) or prepare(*a))
    return calls


def test_places_are_computed_once_and_others_for_other_heads(study, tmp_path, computed):
    first, again = (
        binaural.make_study(clips(), 16_000, FEW, study.head, tmp_path).places for _ in range(2)
    )
    pd.testing.assert_frame_equal(first.table, again.table)
    np.testing.assert_array_equal(first.responses, again.responses)
    np.testing.assert_array_equal(first.azimuths, again.azimuths)
    assert len(computed) == 1
    other = replace(study.head, responses=2 * study.head.responses)
    twice = binaural.make_study(clips(), 16_000, FEW, other, tmp_path).places
    np.testing.assert_allclose(twice.responses, 2 * first.responses, rtol=1e-3, atol=1e-6)
    assert len(computed) == 2


@each_edit
def test_an_edit_of_code_makes_places_stale(study, tmp_path, computed, monkeypatch, edit):
    given = clips(), 16_000, FEW, study.head, tmp_path
    binaural.make_study(*given)
    pretend(monkeypatch, "companions/binaural/heads", edit)
    binaural.make_study(*given)
    assert len(computed) == (2 if edit == CODE else 1)


def test_scenes_are_as_many_in_each_room_and_differ_in_the_seat_only(study):
    scenes = binaural.draw(study, "test", 3)
    assert scenes.room.value_counts().to_dict() == {ANECHOIC: 12, KNOWN: 12, NEW: 12}
    assert set(scenes.filename) <= {f"{i}.wav" for i in range(2, 12, 3)}
    known, new = (scenes[scenes.room == room].reset_index(drop=True) for room in (KNOWN, NEW))
    assert set(known.seat) <= {0, 1} and set(new.seat) == {2}
    assert (known[["excerpt", "azimuth"]] == new[["excerpt", "azimuth"]]).all(axis=None)
    assert (study.places.table.room[known.place] == "lecture hall").all()
    assert (scenes.place[scenes.room == ANECHOIC] == 0).all()


def test_sizes_at_full_width_are_the_published_ones():
    table = binaural.sizes(TINY)
    printed = table.dropna()
    assert len(table) == 6 and len(printed) == 3
    np.testing.assert_allclose(printed["full size"].round(2), printed.published)
    assert (table["this build"] < 0.1).all()
    assert (table.loc[("add", "shared")] < table.loc[("add", "separate")])["full size"]


def test_all_systems_judge_the_same_scenes_and_learn_from_others(study):
    asked = {part: binaural.draw(study, part, 3) for part in ("validation", "test")}
    verdicts = binaural.judge_rivals(study, asked)
    for part, scenes in asked.items():
        assert list(verdicts[part]) == list(module.RIVALS)
        for judged in verdicts[part].values():
            pd.testing.assert_frame_equal(judged[scenes.columns], scenes)
    table = judging.errors(verdicts["test"])
    assert table.loc[(ANECHOIC, binaural.STRONGEST), "folded"] < 15  # by chance 45
    assert table.loc[(ANECHOIC, "look-up (time, level)"), "folded"] < 15
    assert (table.scenes == 12).all()


def two_systems():
    scenes = pd.DataFrame(
        {"excerpt": [0, 0, 1, 1], "place": [0, 1, 0, 1], "azimuth": 3, "azimuth_deg": 30.0,
         "src_file": [1, 1, 2, 2], "room": [ANECHOIC, KNOWN, ANECHOIC, KNOWN]}
    )  # fmt: skip
    good, bad = np.array([30.0, 40, 32, 50]), np.array([150.0, 150, 40, 70])
    return {"good": judging.judge(scenes, good), "bad": judging.judge(scenes, bad)}


def test_errors_by_hand():
    table = judging.errors(two_systems())
    assert list(table.index) == [
        (ANECHOIC, "good"), (ANECHOIC, "bad"), (KNOWN, "good"), (KNOWN, "bad")]  # fmt: skip
    assert table.error.tolist() == [1, 65, 15, 80]
    assert table["median"].tolist() == [1, 65, 15, 80]
    assert table.folded.tolist() == [1, 5, 15, 20]
    assert table.confused.tolist() == [0, 50, 0, 50]
    assert (table.low <= table.error).all() and (table.high >= table.error).all()


def test_differences_are_taken_scene_by_scene():
    table = judging.against(two_systems(), "good")
    assert table.difference.to_dict() == {(ANECHOIC, "bad"): 64, (KNOWN, "bad"): 65}
    assert table.low[ANECHOIC, "bad"] == 8 and table.high[ANECHOIC, "bad"] == 120


def test_a_sound_walks_around_the_head_and_is_loud_on_its_side(study):
    walks = binaural.around(study, 0, n=4)
    assert set(walks) == {"anechoic", "lecture hall"}
    assert max(np.abs(heard).max() for heard in walks.values()) == pytest.approx(0.9)
    for heard in walks.values():
        assert heard.shape == (4 * 9600, 2)
        assert (heard.reshape(4, 9600, 2)[:, 8000:] == 0).all()
        loud = np.square(heard.reshape(4, 9600, 2)).mean(axis=1)
        assert loud[1, 0] > 2 * loud[1, 1] and loud[3, 1] > 2 * loud[3, 0]  # left, then right
    ahead = walks["anechoic"][:8000]
    np.testing.assert_allclose(ahead[:, 0], ahead[:, 1], atol=1e-3)


def test_the_same_sound_in_both_rooms(study):
    scenes = binaural.same_sound(study, 4, 55.0)
    assert scenes.azimuth_deg.tolist() == [60, 60] and scenes.excerpt.tolist() == [4, 4]
    assert scenes.room.tolist() == ["anechoic", "lecture hall"]
    assert study.renderer(scenes).shape == (2, 2, 8000)


def test_variants_are_trained_apart_at_known_seats_and_found_again(study, tmp_path, monkeypatch):
    seats, draw_scenes = [], training.draw_scenes
    monkeypatch.setattr(
        training, "draw_scenes", lambda *a: seats.append(tuple(a[4])) or draw_scenes(*a)
    )
    forms = {"main": TINY, **binaural.variants(TINY)}
    assert list(forms) == ["main", "subtract, separate, hybrid", "add, shared, squared"]
    assert [form.loss for form in forms.values()] == ["hybrid", "hybrid", "squared"]
    fits = [binaural.fit(study.excerpts, study.places, form, tmp_path) for form in forms.values()]
    assert [len(each.history) for each in fits] == [1, 2, 2]
    assert set(seats) == {(0, 1)}
    added = fits[2].model
    assert added.settings.fusion == "add" and added.left is added.right
    monkeypatch.setattr(training._Localiser, "step", None)  # nothing is left to be trained
    again = binaural.fit(study.excerpts, study.places, TINY, tmp_path)
    scenes = binaural.draw(study, "test", 1)
    judged = [binaural.judge_network(study, each.model, scenes) for each in (fits[0], again)]
    pd.testing.assert_frame_equal(*judged)


def test_the_published_size_takes_a_step(study, tmp_path, monkeypatch):
    """One step and one validation of 57 million parameters, on this machine's processor."""
    monkeypatch.setattr(loop, "write_atomically", lambda path, write: None)  # 0.7 GB
    full = replace(Settings(), batch_size=2, per_excerpt=1, epochs=1)
    few = study.excerpts.table.groupby("part").head(2).index
    table = study.excerpts.table.loc[few].reset_index(drop=True)
    excerpts = module.Excerpts(table, study.excerpts.waveforms[few.tolist()])
    fit = binaural.fit(excerpts, study.places, full, tmp_path)
    assert sum(p.numel() for p in fit.model.parameters()) == pytest.approx(57.14e6, rel=1e-3)
    assert np.isfinite(fit.history.to_numpy()).all() and len(fit.history) == 1


def test_profiles_have_settings_and_those_without_their_own_the_published_ones():
    assert of_profile("esc50") == of_profile("esc50-16k") == Settings()
    assert of_profile("demo").width < of_profile("esc10").width < Settings().width
    assert Settings().learning_rate == 1e-4  # the authors'
    assert all(form.epochs == of_profile(name).variant_epochs for name in PROFILES
               for form in binaural.variants(of_profile(name)).values())  # fmt: skip
