"""What notebook 11 runs: plans, runs found again, choices on held-back sources, effects."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from edits import CODE, each_edit, pretend

from esc_lib.companions.crossmodal import evaluation, procedural, study, training
from esc_lib.companions.crossmodal.distort import FLOOR, GRAIN, MASK, SHIFT, STRETCH, distort
from esc_lib.companions.crossmodal.settings import Settings, of_profile

TINY = Settings(
    width=0.125, pool=8, steps=2, classifier_steps=2, batch=8, seeds=(3, 4), stages=(256,),
    augmentations=(0.0, 1.0), codes=120, validation_steps=2, clips=5, players=5,
)  # fmt: skip
CHOSEN = {"S2I": 0.5, "I2S": 0.0}


@pytest.fixture(scope="module")
def pairs():
    return study.open_pairs(TINY)


def verdicts(right, sources=None):
    n = len(right)
    sources = np.arange(n) if sources is None else sources
    return pd.DataFrame({"label": np.arange(n) % 10, "source": sources, "right": right})


# ---------------------------------------------------------------------------- distortion


def test_no_strength_leaves_pictures_as_they_are():
    pictures = torch.rand(3, 1, 64, 64) * 2 - 1
    torch.testing.assert_close(
        distort(pictures, 0.0, np.random.default_rng(0)), pictures, atol=1e-5, rtol=0
    )


def test_distorted_pictures_stay_in_range_differ_and_leave_the_input_alone():
    pictures = torch.rand(40, 3, 64, 64) * 2 - 1
    before = pictures.clone()
    found = distort(pictures, 1.0, np.random.default_rng(0))
    assert torch.equal(pictures, before) and found.shape == pictures.shape
    assert -1 <= found.min() and found.max() <= 1
    black = (found == -1).all(dim=1)  # masks are the same in all channels
    outside = 64 * (SHIFT["frequency"] / 2 + (2 ** STRETCH["frequency"] - 1) / 2)
    assert 1 < black.all(dim=2).sum(dim=1).max() <= MASK * 64 + outside + 1
    assert torch.equal(found, distort(pictures, 1.0, np.random.default_rng(0)))
    assert not torch.equal(found, distort(pictures, 1.0, np.random.default_rng(1)))


def test_black_is_not_brightened_but_half_of_it_gets_noise():
    """Lift and tilt brighten what is there; noise has a level of its own."""
    black = torch.full((200, 1, 64, 64), -1.0)
    found = distort(black, 1.0, np.random.default_rng(0))
    noisy = (found > -1).any(dim=(1, 2, 3))
    assert 0.35 < noisy.float().mean() < 0.65
    levels = found[noisy].flatten(1).median(dim=1).values + 1
    assert 0.3 < levels.mean() < 0.5 and levels.max() < FLOOR + GRAIN  # even up to FLOOR


# ---------------------------------------------------------------------------------- plan


def test_both_directions_with_and_without_attention_for_equal_steps_and_seeds(pairs):
    runs = study.plan(TINY, CHOSEN, pairs)
    found = {(r.direction, r.attention, r.seed) for r in runs}
    both = {(way, stage, seed) for way in CHOSEN for stage in (None, 64) for seed in (3, 4)}
    assert found == both | {("S2I", 256, 3)} and len(runs) == len(found) + 1
    *own, last = runs
    assert last == replace(runs[0], code_views=1) != runs[0]
    assert {r.code_views for r in own if r.direction == "S2I"} == {4}  # of 30 inputs
    assert {r.code_views for r in own if r.direction == "I2S"} == {1}  # not distorted
    assert {r.steps for r in runs} == {2}
    assert all(r.augmentation == CHOSEN[r.direction] for r in runs)
    assert {r.pool for r in runs if r.attention == 64} == {8}
    assert {r.pool for r in runs if r.attention != 64} == {1}
    assert study.first(runs, "S2I", None).name == "without attention, 4 codes, seed 3"
    assert study.first(runs, "I2S", 64).name == "attention at 64, seed 3"


def test_the_default_size_is_the_published_one():
    assert of_profile("esc50") == of_profile("esc50-16k") == Settings() != of_profile("esc10")
    with pytest.raises(ValueError, match="profile='esc60' is unknown"):
        of_profile("esc60")


def test_the_full_size_does_one_step(pairs):
    found = training.fit(
        pairs,
        Settings("I2S", augmentation=0.5, steps=1, classifier_steps=2, batch=2, log_every=1),
    )
    assert found.generator.deconv4[0].out_channels == 64
    assert np.isfinite(found.history.generator_loss).all() and len(found.history) == 1


def test_folders_decide_which_pairs_are_read(pairs, tmp_path):
    assert pairs.name == "procedural"
    with pytest.raises(ValueError, match="open_pairs: spoken='a', written=''; give both"):
        study.open_pairs(TINY, spoken="a")
    with pytest.raises(ValueError, match="read_spoken"):
        study.open_pairs(TINY, spoken=str(tmp_path), written=str(tmp_path))
    with pytest.raises(ValueError, match="Sub-URMP"):
        study.open_pairs(TINY, sub_urmp_folder=str(tmp_path))


# --------------------------------------------------------------------------- found again


@pytest.fixture
def fitted(monkeypatch):
    """Return a list that grows by the settings of each training."""
    seen, fit = [], training.fit
    monkeypatch.setattr(training, "fit", lambda *a: seen.append(a[1]) or fit(*a))
    return seen


def test_trainings_are_found_again_and_only_the_same_ones(pairs, tmp_path, fitted):
    runs = study.plan(replace(TINY, seeds=(3,), stages=()), CHOSEN, pairs)[:2]
    trained = study.carry_out(pairs, runs, tmp_path)
    assert [t.settings for t in trained.values()] == runs == fitted
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2 and all(path.is_file() for path in files)  # no state stays behind
    again = study.carry_out(pairs, runs, tmp_path)
    assert len(fitted) == 2
    for name in training.NETWORKS:
        for a, b in zip(trained.values(), again.values(), strict=True):
            first, second = getattr(a, name).state_dict(), getattr(b, name).state_dict()
            assert all(torch.equal(first[key], second[key]) for key in first)
    study.carry_out(pairs, [replace(runs[0], seeds=(3, 4), judge_steps=5)], tmp_path)
    assert len(fitted) == 2  # another plan, the same training
    study.carry_out(pairs, [replace(runs[0], steps=3)], tmp_path)
    study.carry_out(procedural.make(5, 5, seed=1), runs[:1], tmp_path)
    assert [s.steps for s in fitted[2:]] == [3, 2]  # other settings, other pictures


@each_edit
@pytest.mark.parametrize("module", ["networks", "steps"])
def test_changed_code_trains_anew(pairs, tmp_path, fitted, monkeypatch, module, edit):
    runs = study.plan(replace(TINY, seeds=(3,), stages=()), CHOSEN, pairs)[:1]
    study.carry_out(pairs, runs, tmp_path)
    pretend(monkeypatch, f"companions/crossmodal/{module}", edit)
    study.carry_out(pairs, runs, tmp_path)
    assert len(fitted) == 1 + (edit == CODE)


@each_edit
def test_code_that_only_judges_trains_nothing_anew(pairs, tmp_path, fitted, monkeypatch, edit):
    runs = study.plan(replace(TINY, seeds=(3,), stages=()), CHOSEN, pairs)[:1]
    study.carry_out(pairs, runs, tmp_path)
    pretend(monkeypatch, "companions/crossmodal/evaluation", edit)
    study.carry_out(pairs, runs, tmp_path)
    assert len(fitted) == 1


@each_edit
def test_changed_code_chooses_the_strength_anew(pairs, tmp_path, monkeypatch, edit):
    study.validate(pairs, "S2I", TINY, tmp_path)
    (table,) = tmp_path.iterdir()
    table.write_text("augmentation,accuracy\n0.0,1\n")
    pretend(monkeypatch, "companions/crossmodal/distort", edit)
    assert (len(study.validate(pairs, "S2I", TINY, tmp_path)) == 2) == (edit == CODE)


def test_strength_is_chosen_on_sources_that_were_not_trained_on(pairs, tmp_path, monkeypatch):
    kept = []
    fit = training.fit_encoder
    monkeypatch.setattr(
        training, "fit_encoder", lambda e, p, s: kept.append((p, s)) or fit(e, p, s)
    )
    table = study.validate(pairs, "S2I", TINY, tmp_path)
    assert table.index.tolist() == [0.0, 1.0] and len(kept) == 4
    assert [s.augmentation for _, s in kept] == [0.0, 1.0, 0.0, 1.0]
    everyone = set(pairs.sounds["train"].sources)
    gone = [everyone - set(p.sources) for p, _ in kept]
    assert all(gone) and gone[0] == gone[1] and not gone[0] & gone[2]
    assert all(set(p.sources) <= everyone for p, _ in kept)  # nobody of the test part
    assert np.allclose(table.accuracy, table.iloc[:, 1:].mean(axis=1))
    again = study.validate(pairs, "S2I", TINY, tmp_path)
    assert len(kept) == 4
    pd.testing.assert_frame_equal(again, table)


# ------------------------------------------------------------------------------- effects


def test_attention_is_paired_by_seed_and_by_input(pairs):
    runs = study.plan(replace(TINY, stages=()), CHOSEN, pairs)
    rng = np.random.default_rng(0)
    tables = {run: verdicts(rng.random(200) < 0.5) for run in runs}
    s2i = {(r.attention, r.seed): tables[r] for r in runs[:-1] if r.direction == "S2I"}
    for seed, lost in ((3, 30), (4, 10)):  # attention gets all that was right, less the first ones
        right = s2i[None, seed].right.to_numpy().copy()
        right[:lost] = False
        s2i[64, seed]["right"] = right
    found = study.effect_of_attention(tables, "S2I")
    expected = [-100 * s2i[None, seed].right[:lost].mean() * lost / 200
                for seed, lost in ((3, 30), (4, 10))]  # fmt: skip
    assert found.difference.tolist() == pytest.approx([*expected, np.mean(expected)])
    assert found.index.tolist() == ["seed 3", "seed 4", "all"]
    assert (found.high < 0).all() and (found.low < found.difference).all()


def test_seeds_are_compared_where_nothing_else_differs(pairs):
    runs = study.plan(replace(TINY, seeds=(3, 4)), CHOSEN, pairs)
    shares = {run: 50 + 20 * (run.seed == 4 and run.direction == "I2S") for run in runs}
    shares[runs[0]] = 90  # sound to image without attention, seed 3
    tables = {run: verdicts(np.arange(100) < share) for run, share in shares.items()}
    assert study.between_seeds(tables) == pytest.approx(40)
    alone = {run: table for run, table in tables.items() if run.seed == 3}
    assert np.isnan(study.between_seeds(alone))


def test_stages_are_held_against_no_attention_of_the_first_seed(pairs):
    runs = study.plan(TINY, CHOSEN, pairs)
    trained = {run: training.build(pairs, run) for run in runs}
    tables = {run: verdicts(np.arange(100) < (70 if run.attention == 256 else 50)) for run in runs}
    found = study.effect_of_stage(tables, trained)
    assert found.difference.to_dict() == {"attention at 64": 0, "attention at 256": 20}
    assert (found[["encoder", "generator", "discriminator"]] == 0).all(axis=None)


def test_places_are_the_loudest_of_their_regions_and_the_quietest():
    picture = np.zeros((64, 64))
    for row, column in ((10, 4), (20, 30), (6, 60), (50, 40)):
        picture[row : row + 2, column : column + 2] = 1 - column / 100
    picture[40:42, 2:4] = -1
    found = evaluation.places_to_ask(picture, 32)
    assert found == [(5, 2), (10, 15), (3, 30), (25, 20), (20, 1)]
    silent_after = np.where(np.arange(64) < 24, 0.1 * np.arange(64) % 0.7, -1) * np.ones((64, 1))
    columns = [column for _, column in evaluation.places_to_ask(silent_after, 64)]
    assert columns[0] < 8 <= columns[1] < 16 <= columns[2] < 24 <= columns[4]
    constant = evaluation.places_to_ask(np.zeros((64, 64)), 32)
    assert len(constant) == 5


def test_attention_of_a_tower_sums_to_one(pairs):
    networks = training.build(pairs, TINY)
    found = evaluation.attention_to(networks.encoder.tower, pairs.sounds["test"].take(np.arange(2)))
    assert found.shape == (2, 1024, 16)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 1024))


def test_minutes_are_of_both_stages(pairs):
    networks = training.build(pairs, replace(TINY, attention=None))
    networks.encoder_history = pd.DataFrame({"seconds": [1.0, 60.0]})
    networks.history = pd.DataFrame({"seconds": [120.0]})
    assert study.minutes([networks, networks]) == pytest.approx(6)
