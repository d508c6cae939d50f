"""Frozen against full: what is cut out, what is learned from, what is judged, what is said."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from edits import CODE, each_edit, pretend
from small_study import NAMES, PROFILE, make_data
from transformers import ASTConfig, ASTForAudioClassification

from esc_lib.companions.transformer import attention, freezing, study
from esc_lib.companions.transformer import network as ast
from esc_lib.companions.transformer.settings import Settings, of_profile
from esc_lib.companions.transformer.study import Study
from esc_lib.config import PROFILES
from esc_lib.data.clips import Data
from esc_lib.sound.log_mel import librosa_log_mel
from esc_lib.training import loop

FOLD = 2
OWN = Settings(
    folds=(FOLD,), n_frames=24, views=2, pretraining_epochs=1, epochs=1, learning_rate=1e-3
)
ROWS = np.array([3, 0, 7])


@pytest.fixture(scope="module")
def data():
    made = make_data()
    number = np.arange(len(made.clips))
    clips = made.clips.assign(fold=1 + number // 8, src_file=[f"r{i}" for i in number])
    return Data(clips, made.waveforms, made.n_valid)


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    """Let the profile's network be smaller still: these tests are about what is done with it."""
    monkeypatch.setattr(
        study,
        "small_ast",
        lambda *size: ast.small_ast(*size, width=16, layers=2, heads=2, dropout=0.0),
    )


def changed(data, rows):
    """Return the data with other sounds in some rows."""
    waveforms = data.waveforms.clone()
    waveforms[rows] = waveforms[rows].flip(1) // 2
    return Data(data.clips, waveforms, data.n_valid)


def study_of(data, **changes):
    return Study(data, PROFILE, replace(OWN, **changes))


def test_every_profile_has_settings_and_its_own_effort():
    for name in PROFILES:
        assert set(of_profile(name).folds) <= {1, 2, 3, 4, 5}
    assert of_profile("demo").epochs < of_profile("esc10").epochs
    assert of_profile("esc50") == of_profile("esc50-16k") == Settings()


# ------------------------------------------------------------------------------------ excerpts


def test_excerpts_span_the_sound_and_are_what_librosa_makes_of_them(data):
    found = study_of(data, n_frames=20).excerpts(ROWS, 3, db=True)
    assert found.shape == (3, 3, 1, 32, 20)
    settings = replace(PROFILE.front_end, n_frames=20)
    n, spare = settings.n_samples, data.waveforms.shape[1] - settings.n_samples
    for clip, row in enumerate(ROWS):
        waveform = data.waveforms[row].numpy().astype(np.float32) / 32768
        for view, start in enumerate((0, round(spare / 2), spare)):
            expected = librosa_log_mel(settings, waveform[start : start + n])[:, :20]
            np.testing.assert_allclose(found[clip, view, 0], expected, atol=0.05)  # in dB


def test_one_excerpt_is_the_middle_one_and_features_are_standardised(data):
    three = study_of(data, n_frames=20).excerpts(ROWS, 3)
    one = study_of(data, n_frames=20).excerpts(ROWS)
    torch.testing.assert_close(one[:, 0], three[:, 1])
    torch.testing.assert_close(one.mean(dim=(2, 3, 4)), torch.zeros(3, 1), rtol=0, atol=1e-4)
    torch.testing.assert_close(
        one.std(dim=(2, 3, 4), correction=0), torch.ones(3, 1), rtol=0, atol=1e-4
    )


# ------------------------------------------------------------------------------------ teaching


def test_the_encoder_is_taught_on_training_clips_only(data, tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(study, "pretrain", lambda *given: heard.append(given))
    parts = study_of(data).of_fold(FOLD).split
    for other in (data, changed(data, parts.test), changed(data, parts.train)):
        study_of(other).teach(FOLD, tmp_path)
    features = [given[1] for given in heard]
    assert features[0].shape == (2 * len(parts.train), 1, 32, 24)
    assert torch.equal(features[0], features[1])
    assert not torch.equal(features[0], features[2])
    assert torch.equal(heard[0][2], heard[1][2])  # validation clips
    assert heard[0][3] == OWN and heard[0][4:] == (PROFILE.training.seed, tmp_path)


def test_the_fresh_network_has_the_table_of_an_excerpt(data):
    network = study_of(data).fresh()
    assert (network.config.num_mel_bins, network.config.max_length) == (32, 24)
    assert freezing.n_trainable(network) == sum(p.numel() for p in network.parameters())


def test_effort_of_the_profile_decides_and_the_rest_of_it_does_not(data):
    frozen, full = (study_of(data).training_of(FOLD, level) for level in ("frozen", "full"))
    assert frozen.training.recipe.learning_rate == OWN.classifier_rate
    assert full.training.recipe.learning_rate == OWN.learning_rate
    assert full.training.epochs == OWN.epochs and full.test_fold == FOLD
    assert [stage.crop_frames for stage in full.training.recipe.stages] == [24]
    assert study_of(data, full_batch=5, pretraining_epochs=9).training_of(FOLD) == full


def test_a_frozen_encoder_stays_and_what_was_done_is_found_again(data, tmp_path, monkeypatch):
    own = study_of(data)
    start = own.fresh()
    frozen = next(way for way in study.WAYS if way.level == "frozen")
    network, judged = own.use(frozen, FOLD, start, tmp_path)
    theirs = start.state_dict()
    moved = {n for n, v in network.state_dict().items() if not torch.equal(v.cpu(), theirs[n])}
    assert moved and all(".classifier." in name for name in moved)
    parts = own.of_fold(FOLD).split
    assert judged.part.value_counts().to_dict() == {
        "validation": len(parts.validation), "test": len(parts.test)
    }  # fmt: skip
    assert set(judged.filename[judged.part == "test"]) == set(data.clips.filename.iloc[parts.test])
    assert judged.way.unique().tolist() == ["frozen"] and (judged.seconds > 0).all()

    monkeypatch.setattr(loop, "_train_epoch", None)
    monkeypatch.setattr(Study, "_decided", None)
    again, found = own.use(frozen, FOLD, start, tmp_path)
    pd.testing.assert_frame_equal(found, judged)
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value.cpu(), network.state_dict()[name].cpu(), rtol=0, atol=0)
    seeded = replace(PROFILE, training=replace(PROFILE.training, seed=1))
    other = Study(data, seeded, OWN).fresh()
    with pytest.raises(TypeError):  # another start is another run
        own.use(frozen, FOLD, other, tmp_path)


@each_edit
@pytest.mark.parametrize("edited", ["freezing", "network"])
def test_changed_code_judges_anew(data, tmp_path, monkeypatch, edit, edited):
    own = study_of(data)
    start = own.fresh()
    own.use(study.PROBE, FOLD, start, tmp_path)
    monkeypatch.setattr(Study, "_probed", None)
    pretend(monkeypatch, f"companions/transformer/{edited}", edit)
    if edit == CODE:
        with pytest.raises(TypeError):
            own.use(study.PROBE, FOLD, start, tmp_path)
    else:
        own.use(study.PROBE, FOLD, start, tmp_path)


@each_edit
def test_changed_freezing_trains_anew(data, tmp_path, monkeypatch, edit):
    own, way = study_of(data), study.LEVELS[-1]
    start = own.fresh()
    own.use(way, FOLD, start, tmp_path)
    pretend(monkeypatch, "companions/transformer/network", edit)  # where freeze stands
    own.use(way, FOLD, start, tmp_path)
    assert len([*tmp_path.glob("*/run_*")]) == 1 + (edit == CODE)


def test_right_is_what_the_network_decides(data, tmp_path):
    own = study_of(data)
    network, judged = own.use(study.SCRATCH, FOLD, own.fresh(), tmp_path)
    rows = data.clips.set_index("filename").index.get_indexer(judged.filename)
    views = own.excerpts(rows, 2).flatten(0, 1)
    with torch.no_grad():
        probabilities = network.cpu().float().eval()(views).softmax(1)
    decided = probabilities.view(len(rows), 2, -1).mean(1).argmax(1)
    agree = (decided == data.labels[rows]).numpy() == judged.right
    assert agree.mean() > 0.9  # the loop's precision decides close calls


def test_a_probe_finds_tones_and_does_not_ask_for_test_labels(data, tmp_path):
    own = study_of(data)
    start = own.fresh()
    _, judged = own.use(study.PROBE, FOLD, start, tmp_path)
    assert judged[judged.part == "test"].right.mean() > 0.5  # guessing gives 0.25
    assert (judged.seconds == 0).all()
    parts = own.of_fold(FOLD).split
    clips = data.clips.copy()
    decided = own._probed(start, parts, parts.test)
    clips.loc[parts.test, "label"] = (clips.label.iloc[parts.test] + 1) % len(NAMES)
    other = study_of(Data(clips, data.waveforms, data.n_valid))
    np.testing.assert_array_equal(decided, other._probed(start, parts, parts.test))


# ----------------------------------------------------------------------------------- judgement


def judged_by_hand():
    """Two ways on the same four test clips of two folds, one recording each, and one validation."""
    rows = [
        ("one", 1, "test", "a", "ra", True, 60.0), ("one", 1, "test", "b", "rb", True, 60.0),
        ("one", 2, "test", "c", "rc", True, 30.0), ("one", 2, "test", "d", "rd", False, 30.0),
        ("one", 1, "validation", "c", "rc", False, 60.0),
        ("two", 2, "test", "d", "rd", False, 0.0), ("two", 2, "test", "c", "rc", False, 0.0),
        ("two", 1, "test", "b", "rb", True, 0.0), ("two", 1, "test", "a", "ra", False, 0.0),
    ]  # fmt: skip
    columns = ["way", "fold", "part", "filename", "src_file", "right", "seconds"]
    return pd.DataFrame(rows, columns=columns)


def test_accuracies_over_folds():
    table = study.accuracy_table(judged_by_hand(), "test")
    assert table.accuracy.to_dict() == {"one": 75, "two": 25}
    assert table.minutes.to_dict() == {"one": 1.5, "two": 0}
    assert table.clips.tolist() == [4, 4]
    assert (table.low < table.accuracy).all() and (table.accuracy < table.high).all()
    assert study.accuracy_table(judged_by_hand(), "validation").accuracy.to_dict() == {"one": 0}


def test_differences_are_taken_clip_by_clip():
    table = study.differences(judged_by_hand(), (("one", "two"), ("one", "one")))
    assert table.index.tolist() == ["one - two", "one - one"]
    assert table.difference.tolist() == [50, 0]
    # two of four recordings differ: 0 to 100 % of a draw; the same way does not differ at all
    assert table.loc["one - two", ["low", "high"]].tolist() == [0, 100]
    assert table.loc["one - one", ["low", "high"]].tolist() == [0, 0]


# ------------------------------------------------------------------------------------ attention


def test_depth_is_the_change_between_layers_within_clips():
    rows = [
        {"network": "grows", "fold": fold, "clip": clip, "src_file": f"r{fold}{clip}",
         "layer": layer, "head": head, "time_s": layer + 10 * clip + head, "octaves": -layer,
         "mel_bands": (-1) ** clip * layer, "entropy_nat": 3.0}
        for fold in (1, 2) for clip in range(3) for layer in (1, 2, 3) for head in (0, 1)
    ]  # fmt: skip
    table = attention.depth(pd.DataFrame(rows), (1, 2, 3)).loc["grows"]
    assert table.loc["time_s"].tolist() == pytest.approx([11.5, 12.5, 13.5, 2, 2, 2])
    assert table.loc["octaves"].tolist() == [-1, -2, -3, -2, -2, -2]
    assert table.change["mel_bands"] == pytest.approx(2 / 3)
    assert table.low["mel_bands"] < 0 < table.high["mel_bands"]


def test_looks_are_those_of_the_named_networks_and_clips(data):
    own = study_of(data)
    networks = {"a": own.fresh(), "b": own.fresh()}
    with torch.no_grad():
        networks["b"].encoder.layers[0].attention.q_proj.weight.mul_(30)
    table = own.look(networks, ROWS)
    assert table.groupby(["network", "layer", "head"]).size().unique().tolist() == [3]
    assert table.src_file[:3].tolist()[0] == data.clips.src_file[ROWS[0]]
    entropies = table[table.layer == 1].groupby("network").entropy_nat.mean()
    assert entropies["b"] < entropies["a"]  # larger queries make clearer decisions


@pytest.mark.parametrize(
    ("change", "low", "high", "said"),
    [
        (0.5, 0.1, 0.9, "grows"),
        (-0.5, -0.9, -0.1, "shrinks"),
        (0.5, -0.1, 1.1, "hardly changes"),
        (0.01, 0.009, 0.011, "hardly changes"),  # certain, and small
    ],
)
def test_changes_in_words(change, low, high, said):
    assert attention.in_words(change, low, high, scale=1.0) == said


# ------------------------------------------------------------------------------------ full size


def test_the_full_size_takes_published_weights():
    with torch.device("meta"):
        ours = ast.freeze(ast.full_ast(7, 1024), "frozen")
        theirs = ASTForAudioClassification(ASTConfig(num_labels=7))
    shapes = {name: value.shape for name, value in ours.network.state_dict().items()}
    assert shapes == {name: value.shape for name, value in theirs.state_dict().items()}
    assert freezing.n_trainable(ours) == 2 * 768 + 7 * 768 + 7


def test_a_training_step_at_full_size():
    network = ast.full_ast(50, 16)
    before = network.encoder.layers[0].attention.q_proj.weight.detach().clone()
    cost = freezing.step_cost(network, torch.randn(1, 1, 16, 16), torch.tensor([3]), repeats=1)
    assert cost["trainable"] > 85e6 and cost["gradient_mb"] == pytest.approx(
        4e-6 * cost["trainable"], rel=1e-3
    )
    assert not torch.equal(network.encoder.layers[0].attention.q_proj.weight, before)
