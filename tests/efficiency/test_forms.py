"""Efficiency: forms of a network on the same clips, their costs, a stream and its truth."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from esc_lib.config import PROFILES, FrontEnd, Network
from esc_lib.data.clips import Data
from esc_lib.efficiency import forms as efficiency
from esc_lib.efficiency import stream
from esc_lib.evaluation.intervals import accuracy
from esc_lib.models.se_cnn import SECNN
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import checkpoint, prediction

FRONT_END = FrontEnd(
    sr=8000, n_fft=256, win_length=256, hop_length=128, n_mels=32, f_max_hz=4000.0, n_frames=33
)
NETWORK = Network(channels=(8, 8, 8, 8, 8), hidden=16)
PROFILE = replace(PROFILES["demo"], front_end=FRONT_END, network=NETWORK)
NAMES = ["low", "high"]


@pytest.fixture(scope="module")
def data():
    """Return twelve tones of half a second, two of them shorter."""
    rng = np.random.default_rng(0)
    labels = np.arange(12) % 2
    times_s = np.arange(4096) / 8000
    tones = np.sin(2 * np.pi * np.where(labels, 1500, 400)[:, None] * times_s)
    waveforms = (8000 * tones + rng.normal(0, 300, tones.shape)).astype(np.int16)
    n_valid = np.array([4096] * 10 + [3000, 2000])
    for waveform, length in zip(waveforms, n_valid, strict=True):
        waveform[length:] = 0
    clips = pd.DataFrame(
        {
            "filename": [f"{i}.wav" for i in range(12)],
            "category": np.array(NAMES)[labels],
            "label": labels,
            "part": ["train"] * 4 + ["validation"] * 8,
        }
    )
    return Data(clips, torch.from_numpy(waveforms), torch.from_numpy(n_valid))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SECNN(2, NETWORK).eval()


@pytest.fixture(scope="module")
def forms(model, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return efficiency.make_forms("full", model, data, PROFILE, folder)


def test_forms_are_files_of_one_network(forms, model):
    assert list(forms) == list(efficiency.ENGINES)
    names = [form.path.name for form in forms.values()]
    assert names == ["full.safetensors", "full.onnx", "full.int8.onnx"]
    assert all(form.path.is_file() for form in forms.values())
    read = checkpoint.load(forms[efficiency.TORCH].path, PROFILE, NAMES)
    torch.testing.assert_close(read.fc2.weight.cpu(), model.fc2.weight)


def test_every_form_sees_what_training_predict_sees(forms, model, data):
    rows = data.split.validation
    front_end = LogMel(FRONT_END)
    features = efficiency.features_of(data, front_end, rows)
    assert features.shape == (8, 1, 32, 33)
    expected = prediction.predict(model, front_end, data, rows)
    logits = {engine: form.classifier()(features) for engine, form in forms.items()}
    # channels last, and another runtime: another order of float32 sums
    torch.testing.assert_close(logits[efficiency.TORCH], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(logits[efficiency.ONNX], expected, rtol=0, atol=1e-5)
    decided = efficiency.decide(list(forms.values()), features)
    assert decided.columns.tolist() == [("full", engine) for engine in efficiency.ENGINES]
    np.testing.assert_array_equal(decided["full", efficiency.TORCH], expected.argmax(dim=1))


def test_costs_are_counted_and_timed_on_one_thread(forms, model, data, monkeypatch):
    threads = []
    features = LogMel.features

    def noted(self, *arguments):
        threads.append(torch.get_num_threads())
        return features(self, *arguments)

    monkeypatch.setattr(LogMel, "features", noted)
    before = torch.get_num_threads()
    table = efficiency.costs(list(forms.values()), data, LogMel(FRONT_END), repeats=3)
    assert set(threads) == {1} and torch.get_num_threads() == before
    assert table.index.names == ["network", "engine"]
    assert (table.parameters == sum(p.numel() for p in model.parameters())).all()
    sizes_mb = [form.path.stat().st_size / 1e6 for form in forms.values()]
    assert table.file_mb.tolist() == pytest.approx(sizes_mb)
    assert (table.first_quartile_ms <= table.clip_ms).all()
    assert (table.clip_ms <= table.third_quartile_ms).all()
    assert table.real_time_factor.to_numpy() == pytest.approx(table.clip_ms / 512)  # 512 ms clips


def test_accuracy_and_agreement_of_columns():
    columns = pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])
    decided = pd.DataFrame([[0, 0], [1, 1], [1, 0], [0, 0]], columns=columns)
    labels = np.array([0, 1, 0, 1])
    table = efficiency.accuracy_table(decided, labels, np.arange(4))
    assert table.accuracy.tolist() == [50, 75]
    assert table.agreement.tolist() == [100, 75]
    expected = accuracy(np.array([1, 1, 1, 0]), np.arange(4))
    assert table.loc[("a", "y"), ["accuracy", "low", "high"]].tolist() == pytest.approx(expected)


def test_presented_table_has_units_and_intervals():
    row = {"parameters": 339_154, "multiply_adds": 48_538_080, "file_mb": 1.37, "clip_ms": 4.25,
           "first_quartile_ms": 4.16, "third_quartile_ms": 5.0, "real_time_factor": 0.00142,
           "accuracy": 90.625, "low": 81.0, "high": 95.6, "agreement": 100.0}  # fmt: skip
    index = pd.MultiIndex.from_tuples([("full", "ONNX")], names=["network", "engine"])
    shown = efficiency.presented(pd.DataFrame([row], index=index))
    assert shown.loc["full", "ONNX"].tolist() == [
        "339", "48.5", "1.37", "4.2 (4.2 to 5.0)", "0.0014", "90.6 (81.0 to 95.6)", "100.0"
    ]  # fmt: skip


def test_joined_clips_stand_one_after_another(data):
    waveform, parts = stream.join_clips(data, np.array([10, 1, 11]), 8000)
    assert parts.category.tolist() == ["low", "high", "high"]
    assert parts.start_s.tolist() == pytest.approx([0, 0.375, 0.887])
    assert parts.end_s.tolist() == pytest.approx([0.375, 0.887, 1.137])
    assert len(waveform) == 3000 + 4096 + 2000
    torch.testing.assert_close(waveform[3000:7096], data.waveforms[1].float() / 32768)


def test_stream_and_its_truth(forms, data):
    waveform, parts = stream.join_clips(data, np.array([4, 5]), 8000)  # 0.512 s each
    front_end = LogMel(FRONT_END).of_frames(32)  # 0.512 s as well
    windows = stream.listen(forms[efficiency.ONNX], front_end, waveform, 0.128, NAMES)
    assert windows.start_s.tolist() == pytest.approx([0, 0.128, 0.256, 0.384, 0.512])
    assert (windows.end_s - windows.start_s).to_numpy() == pytest.approx(0.512)
    assert windows[NAMES].sum(axis=1).to_numpy() == pytest.approx(1)
    assert (windows.ms > 0).all()
    truth = stream.truth_of_windows(windows, parts)
    assert truth.dropna().to_dict() == {0: "low", 4: "high"}


def test_short_training_is_the_strong_recipe_less_what_takes_long():
    narrow = efficiency.narrow_network(PROFILE)
    assert narrow == replace(NETWORK, channels=(4, 4, 4, 4, 4))
    of_comparisons = PROFILES["esc10"]
    assert efficiency.narrow_network(of_comparisons) == of_comparisons.evidence.network
    short = efficiency.short_training(PROFILE, narrow, 3)
    assert (short.network, short.training.epochs) == (narrow, 3)
    recipe = short.training.recipe
    assert recipe.ema_decay == 0 and [stage.share for stage in recipe.stages] == [1.0]
    assert recipe.augmentation == PROFILES["demo"].training.recipe.augmentation
