"""Cues of a clip's making: read off and taken out; a forest on them; a network without them."""

from dataclasses import replace
from itertools import groupby

import numpy as np
import pandas as pd
import pytest
import torch
from two_bands import FRONT_END, HIGH_HZ, LOW_HZ, LouderTone, settled, small_data, two_tones

from esc_lib.__main__ import main
from esc_lib.config import PROFILES, RECIPES, Network, Stage, variant
from esc_lib.evaluation import accuracy, paired_difference
from esc_lib.models.se_cnn import SECNN
from esc_lib.probing import cues, shortcuts
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import checkpoint
from esc_lib.training import runs as experiments

SR = FRONT_END.sr
WHOLE = replace(RECIPES["strong"], stages=(Stage(1.0, 0),), test_crops=1)
PROFILE = replace(
    PROFILES["demo"],
    front_end=FRONT_END,
    network=Network(channels=(4, 4, 6, 8, 8), se_reduction=2, hidden=8),
    training=replace(PROFILES["demo"].training, recipe=WHOLE),
)


def data_of(*pieces, n_valid=None):
    """Return one clip that is made of lengths in s and whether they are silent."""
    sound = np.concatenate([np.full(round(s * SR), 0 if silent else 7) for s, silent in pieces])
    data = small_data(1)
    waveforms = torch.from_numpy(sound.astype(np.int16))[None]
    return replace(data, waveforms=waveforms, n_valid=torch.tensor([n_valid or len(sound)]))


# ------------------------------------------------------------------------------------ the cues


def test_silence_of_a_clip_made_of_pieces():
    data = data_of((0.5, True), (0.2, False), (0.25, True), (0.1, False), (0.125, True),
                   (0.05, False), (0.005, True), (0.02, False), (0.375, True))  # fmt: skip
    (found,) = cues.silence(data, SR).to_dict("records")
    silent = 0.5 + 0.25 + 0.125 + 0.375  # 5 ms are none
    whole = silent + 0.2 + 0.1 + 0.05 + 0.005 + 0.02
    expected = {"leading_s": 0.5, "trailing_s": 0.375, "longest_s": 0.25, "pieces": 4}
    assert found == pytest.approx(expected | {"share": silent / whole})


def test_silence_against_a_loop_and_beyond_a_clips_end():
    rng = np.random.default_rng(0)
    data = small_data(6)
    noise = np.repeat(rng.integers(0, 2, (6, 88)), 100, axis=1) * rng.integers(1, 9, (6, 8800))
    data = replace(data, waveforms=torch.from_numpy(noise.astype(np.int16)))
    found = cues.silence(data, SR)
    for row, (sound, n_valid) in enumerate(zip(noise, data.n_valid.tolist(), strict=True)):
        runs = [(zero, len(list(run))) for zero, run in groupby(sound[:n_valid] == 0)]
        lengths = [n for zero, n in runs if zero and n >= 80]
        assert found.pieces[row] == len(lengths)
        assert found["share"][row] == pytest.approx(sum(lengths) / n_valid)
        assert found.trailing_s[row] == pytest.approx(runs[-1][1] / SR if runs[-1][0] else 0)
    silent = data_of((1.0, True))
    (whole,) = cues.silence(silent, SR).to_dict("records")
    expected = {"leading_s": 1, "trailing_s": 0, "longest_s": 0, "share": 1, "pieces": 1}
    assert whole == pytest.approx(expected)


@pytest.mark.parametrize("cutoff_hz", [2500.0, 3200.0])
def test_the_edge_is_where_a_low_pass_put_it(cutoff_hz):
    data, rng = small_data(4), np.random.default_rng(0)
    noise = rng.normal(scale=3000, size=(4, 8800)).astype(np.int16)
    data = replace(data, waveforms=torch.from_numpy(noise), n_valid=torch.full((4,), 8800))
    before = cues.edge(data, SR)
    after = cues.edge(cues.low_passed(data, np.arange(4), SR, cutoff_hz), SR)
    assert (after.edge_hz - cutoff_hz).abs().max() < cues.EDGE_HZ
    assert after.fall_db.min() > 30
    assert (before.edge_hz == SR / 2).all() and not before.fall_db.any()


def test_a_low_pass_takes_what_is_above_from_the_rows_it_is_told():
    data, rows = two_tones(4), np.array([1, 2])
    found = cues.low_passed(data, rows, SR, 1500.0)
    time_s = np.arange(2000, 6000) / SR
    for clip in range(4):
        level = {}
        for hz in (LOW_HZ, HIGH_HZ):
            tone = np.exp(-2j * np.pi * hz * time_s)
            both = (abs(each.waveforms[clip, 2000:6000].numpy() @ tone) for each in (found, data))
            level[hz] = 20 * np.log10(np.divide(*both))
        assert level[LOW_HZ] == pytest.approx(0, abs=0.1)
        if clip in rows:
            assert level[HIGH_HZ] < -60
        else:
            assert torch.equal(found.waveforms[clip], data.waveforms[clip])
    assert found.waveforms.dtype == torch.int16


def test_noise_is_in_the_silence_or_in_all_the_rest():
    data = cues.silenced(small_data(6), np.arange(6), 0.4)
    rows = np.array([0, 3, 4])
    quiet = np.zeros((6, 8800), bool)
    for clip, n_valid in enumerate(data.n_valid.tolist()):
        quiet[clip, round(0.6 * n_valid) : n_valid] = True
    own = np.arange(8800) < data.n_valid.numpy()[:, None]
    for silent, place in ((True, quiet), (False, own & ~quiet)):
        found = cues.noisy(data, rows, SR, silent)
        added = (found.waveforms.int() - data.waveforms.int()).numpy()
        place = place & np.isin(np.arange(6), rows)[:, None]
        assert not added[~place].any()
        assert abs(added).max() <= 128
        assert added[place].std() == pytest.approx(256 / np.sqrt(12), rel=0.05)
    assert cues.silence(cues.noisy(data, np.arange(6), SR), SR).trailing_s.max() == 0


def test_removals_are_those_that_the_rate_leaves_room_for():
    data = small_data(4)
    names = [name for name, _ in cues.removals(data, np.arange(4), SR)]
    assert names == ["as it is", "noise in the silence", "noise in all the rest"]
    # at the real rate all of them; the clips do not matter for their names
    names = [name for name, _ in cues.removals(data, np.arange(4), 44_100)]
    cutoffs = [f"low-pass {khz} kHz" for khz in (16, 12, 8, 4)]
    assert names == ["as it is", *cutoffs, "noise in the silence", "noise in all the rest"]


# ------------------------------------------------------------------------------- the cue alone


def test_a_planted_cue_is_found_and_without_one_there_is_nothing(monkeypatch):
    monkeypatch.setattr(shortcuts, "TREES", 30)
    data = small_data(120)
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=900, size=data.waveforms.shape).round().astype(np.int16) | 1
    plain = replace(data, waveforms=torch.from_numpy(noise))
    planted = cues.silenced(plain, np.flatnonzero(data.labels.numpy() == 1))
    table = shortcuts.accuracies(shortcuts.alone(planted, SR))
    assert table.value["silence"] > 95
    assert 30 < table.value["silence, classes dealt"] < 70
    # nothing was planted at the edge, though a third of zeros changes no shape of a spectrum
    assert shortcuts.accuracies(shortcuts.alone(plain, SR)).value["silence"] < 75


def test_no_recording_trains_where_it_is_tested(monkeypatch):
    seen = []

    class Forest:
        def __init__(self, *args, **kwargs):
            pass

        def fit(self, numbers, labels):
            seen.append(set(numbers.source))
            self.label = labels.mode()[0]
            return self

        def predict(self, numbers):
            seen.append(set(numbers.source))
            return np.full(len(numbers), self.label)

    monkeypatch.setattr(shortcuts, "RandomForestClassifier", Forest)
    clips = small_data().clips
    clips.loc[3, "fold"] = clips.fold[3] % 4 + 1  # one recording in two folds
    shortcuts.classified(pd.DataFrame({"source": clips.src_file}), clips)
    assert len(seen) == 8
    for train, test in zip(seen[::2], seen[1::2], strict=True):
        assert train and test and not train & test


def test_dealt_labels_are_as_many_and_the_same_within_a_recording():
    clips = small_data().clips
    found = shortcuts.dealt(clips)
    assert (found.groupby("src_file").label.nunique() == 1).all()
    assert sorted(found.label) == sorted(clips.label) and (found.label != clips.label).any()
    names = dict(zip(clips.label, clips.category, strict=True))
    assert (found.label.map(names) == found.category).all()


# ----------------------------------------------------------------------------- the cue removed


def test_a_network_without_what_it_goes_by(monkeypatch):
    monkeypatch.setattr(cues, "CUTOFFS_HZ", (1500,))
    data = two_tones(48)
    judged = shortcuts.without(LouderTone().eval(), data, PROFILE)
    assert len(judged) == 4 * len(data.split.test)
    right = judged.groupby("condition").right.mean()
    assert right["as it is"] == right["noise in the silence"] == 1
    assert right["low-pass 1.5 kHz"] == 0.5  # all are low
    table = shortcuts.differences(judged)
    plain, low = (judged[judged.condition == c] for c in ("as it is", "low-pass 1.5 kHz"))
    expected = paired_difference(low.right.to_numpy(), plain.right.to_numpy(), low.src_file)
    row = table.loc["low-pass 1.5 kHz"]
    assert (row.value, row.low, row.high) == pytest.approx(expected)
    assert row.changed == 50 and row.clips == len(low) and "as it is" not in table.index
    of_class = shortcuts.differences_by_class(judged).set_index(["class", "condition"])
    assert of_class.value["high", "low-pass 1.5 kHz"] == -100
    assert of_class.value["low", "low-pass 1.5 kHz"] == 0


def test_accuracy_and_false_alarms_by_class():
    judged = pd.DataFrame(
        {
            "label": [0, 0, 0, 1, 1], "category": ["a", "a", "a", "b", "b"],
            "predicted": [0, 0, 1, 0, 1], "src_file": range(5), "condition": "x",
        }
    )  # fmt: skip
    judged["right"] = judged.label == judged.predicted
    found = shortcuts.by_class(judged).set_index("class")
    assert tuple(found.loc["a", ["value", "low", "high"]]) == accuracy([1, 1, 0], [0, 1, 2])
    assert found.false_alarms.to_dict() == pytest.approx({"a": 50, "b": 100 / 3})


@pytest.fixture
def study(tmp_path):
    """Return a folder of artefacts with a trained run of fold 1, and its clips."""
    data = small_data()
    torch.manual_seed(0)
    features = LogMel(FRONT_END).features(*data.batch(np.arange(16)))
    model = settled(SECNN(2, PROFILE.network), features)
    run = tmp_path / "runs" / experiments.name_of(PROFILE)
    run.mkdir(parents=True)
    checkpoint.save(run / "model.safetensors", model, PROFILE, data.class_names)
    return data, tmp_path


def test_a_run_is_measured_kept_and_measured_again_with_other_weights(study, monkeypatch):
    data, root = study
    runs, folder = root / "runs", root / "shortcuts"
    found = shortcuts.collect(data, PROFILE, runs, folder)
    assert set(found.fold) == {1} and set(found.condition) == {
        "as it is", "noise in the silence", "noise in all the rest"
    }  # fmt: skip
    assert set(found.network) == {experiments.name_of(PROFILE).replace("-fold1", "")}
    monkeypatch.setattr(shortcuts, "predict", None)
    pd.testing.assert_frame_equal(shortcuts.collect(data, PROFILE, runs, folder), found)
    other = root / "recorded"
    (other / "shortcuts").mkdir(parents=True)
    own = folder / f"{experiments.name_of(PROFILE)}.csv"
    pd.read_csv(own).assign(predicted=1).to_csv(other / "shortcuts" / own.name, index=False)
    recorded = shortcuts.collect(data, PROFILE, runs, folder, other)
    assert (recorded.predicted == 1).all()
    weights = runs / own.stem / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises((TypeError, ValueError)):
        shortcuts.collect(data, PROFILE, runs, folder)


def test_a_run_that_was_not_trained_is_named(study):
    data, root = study
    with pytest.raises(FileNotFoundError, match=r"measure: .*fold2.* is missing; train the run"):
        shortcuts.measure(data, variant(PROFILE, test_fold=2), root / "runs", root)


def test_the_command_needs_the_first_notebook(tmp_path, capsys):
    command = ["shortcuts", "--profile", "demo", "--artifacts", str(tmp_path), "--folds", "1"]
    assert main(command) == 1
    assert "esc_lib run 01_data" in capsys.readouterr().err
