"""Deployment: every form of a network against the one it was made from."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from esc_lib.config import FrontEnd, Network
from esc_lib.efficiency import onnx as deployment
from esc_lib.efficiency import stream
from esc_lib.models.se_cnn import SECNN
from esc_lib.sound.log_mel import LogMel

NARROW = Network(channels=(8, 16, 16, 16, 16), hidden=16)
N_CLASSES, N_MELS, N_FRAMES = 4, 32, 48
FRONT_END = FrontEnd(
    sr=8000, n_fft=512, win_length=512, hop_length=256, n_mels=32, f_max_hz=4000.0, n_frames=40
)


def clips(n, seed=0):
    """Return features in which each class is loud in its own eight bands, and the classes."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % N_CLASSES
    bands = torch.arange(N_MELS) // (N_MELS // N_CLASSES)
    loud = (bands == targets[:, None]).float()[:, None, :, None]
    noise = torch.randn(n, 1, N_MELS, N_FRAMES, generator=generator)
    return 0.5 * noise + 1.7 * loud - 0.4, targets


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = SECNN(N_CLASSES, Network(channels=(16, 32, 32, 64, 64), hidden=64)).train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.5  # few steps: the running statistics have to follow at once
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(25):
        features, targets = clips(16, seed=step)
        loss = nn.functional.cross_entropy(model(features), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("float") / "new" / "model.onnx"
    deployment.export_onnx(trained, path, N_MELS, N_FRAMES)
    return path


# --------------------------------------------------------------------------------------- ONNX


@pytest.mark.parametrize(("batch", "frames"), [(1, 48), (5, 48), (2, 32), (1, 131)])
def test_onnx_equals_torch_for_any_batch_and_length(trained, exported, batch, frames):
    torch.manual_seed(1)
    features = torch.randn(batch, 1, N_MELS, frames)
    session = deployment.onnx_session(exported)
    logits = deployment.onnx_logits(session, features.numpy())
    with torch.no_grad():
        expected = trained(features).numpy()
    assert logits.dtype == np.float32 and logits.shape == (batch, N_CLASSES)
    assert expected.std() > 0.1  # else the comparison would say little
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)  # another order of float32 sums


def test_export_is_one_file_without_a_path_of_this_machine(exported):
    assert [p.name for p in exported.parent.iterdir()] == ["model.onnx"]
    content = exported.read_bytes()
    assert b"se_cnn.py" not in content and b"site-packages" not in content
    assert b"BatchNormalization" not in content


def test_export_leaves_the_model_as_it_was(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(24)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    deployment.export_onnx(model, tmp_path / "model.onnx", 4, 6, free_frames=False)
    assert model.training and not model[1]._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_network_of_fixed_length_exports_with_a_free_batch(tmp_path):
    path = tmp_path / "fixed.onnx"
    model = nn.Sequential(nn.Flatten(), nn.Linear(4 * 6, 3))
    with pytest.raises(ValueError, match="export_onnx: .* pass free_frames=False"):
        deployment.export_onnx(model, path, 4, 6)
    assert not list(tmp_path.iterdir())
    deployment.export_onnx(model, path, 4, 6, free_frames=False)
    session = deployment.onnx_session(path)
    features = torch.randn(3, 1, 4, 6)
    logits = deployment.onnx_logits(session, features.numpy())
    np.testing.assert_allclose(logits, model(features).detach().numpy(), atol=1e-5)
    with pytest.raises(
        ValueError, match=r"shape \(3, 1, 4, 7\), the file takes \(batch, 1, 4, 6\)"
    ):
        deployment.onnx_logits(session, np.zeros((3, 1, 4, 7)))


def test_onnx_refuses_features_of_another_shape(exported):
    session = deployment.onnx_session(exported)
    for shape in [(1, 1, N_MELS + 1, 48), (1, 2, N_MELS, 48), (1, N_MELS, 48)]:
        with pytest.raises(ValueError, match="onnx_logits: features have the shape"):
            deployment.onnx_logits(session, np.zeros(shape))


def test_onnx_session_says_what_is_wrong(exported, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.onnx does not exist; write it with"):
        deployment.onnx_session(tmp_path / "missing.onnx")
    (tmp_path / "broken.onnx").write_bytes(exported.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"broken\.onnx is damaged .* export it again"):
        deployment.onnx_session(tmp_path / "broken.onnx")
    with pytest.raises(ValueError, match="threads=0, expected at least 1"):
        deployment.onnx_session(exported, threads=0)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, exported, tmp_path, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"'{package}' is missing; .*esc-lib\[deploy\]"):
        if package == "onnxruntime":
            deployment.onnx_session(exported)
        else:
            model = SECNN(N_CLASSES, NARROW)
            deployment.export_onnx(model, tmp_path / "model.onnx", N_MELS, N_FRAMES)


# --------------------------------------------------------------------------------------- int8


def test_int8_is_small_and_agrees_on_clear_clips(trained, exported, tmp_path):
    target = tmp_path / "int8.onnx"
    calibration = (clips(n, seed=100 + n)[0].numpy() for n in (8, 4))  # read once, any batch size
    deployment.quantise_int8(exported, target, calibration)
    assert [p.name for p in tmp_path.iterdir()] == ["int8.onnx"]
    assert target.stat().st_size < 0.4 * exported.stat().st_size

    features, targets = clips(32, seed=200)
    with torch.no_grad():
        expected = trained(features).numpy()
    assert (expected.argmax(axis=1) == targets.numpy()).all()
    session = deployment.onnx_session(target)
    logits = deployment.onnx_logits(session, features.numpy())
    assert (logits.argmax(axis=1) == targets.numpy()).all()
    # 7-bit weights, 8-bit maps: a few per cent of what the logits span
    assert np.abs(logits - expected).max() < 0.1 * np.ptp(expected)
    alone = deployment.onnx_logits(session, features[:1].numpy())
    np.testing.assert_allclose(alone, logits[:1], atol=1e-4)


def test_int8_file_computes_its_convolutions_in_integers(exported, tmp_path):
    import onnx

    target = tmp_path / "int8.onnx"
    deployment.quantise_int8(exported, target, [clips(4)[0].numpy()])
    graph = onnx.load(target).graph
    made_by = {name: node for node in graph.node for name in node.output}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    weighted = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(weighted) == 10 + 8 + 2
    (last,) = (node for node in weighted if "logits" in node.output)  # stays float
    assert last.input[1] in stored and stored[last.input[1]].data_type == onnx.TensorProto.FLOAT
    weighted.remove(last)
    for node in weighted:
        assert all(made_by[name].op_type == "DequantizeLinear" for name in node.input[:2])
        weight = stored[made_by[node.input[1]].input[0]]
        scales = stored[made_by[node.input[1]].input[1]]
        assert weight.data_type == onnx.TensorProto.INT8
        assert np.abs(onnx.numpy_helper.to_array(weight)).max() == 64  # 7 bits
        assert weight.dims[0] == scales.dims[0] or weight.dims[1] == scales.dims[0]


def test_int8_refuses_bad_calibration_and_keeps_the_file_that_was_there(exported, tmp_path):
    target = tmp_path / "int8.onnx"
    target.write_text("good")
    with pytest.raises(ValueError, match="calibration_features is empty"):
        deployment.quantise_int8(exported, target, [])
    good, bad = clips(2)[0].numpy(), np.zeros((2, 1, N_MELS - 1, 48))
    with pytest.raises(
        ValueError, match=r"quantise_int8: features have the shape \(2, 1, 31, 48\)"
    ):
        deployment.quantise_int8(exported, target, [good, bad])
    with pytest.raises(FileNotFoundError, match="quantise_int8: .* does not exist"):
        deployment.quantise_int8(tmp_path / "missing.onnx", target, [good])
    assert [p.name for p in tmp_path.iterdir()] == ["int8.onnx"]
    assert target.read_text() == "good"


# --------------------------------------------------------------------------------- streaming


def level(features):
    """Stand in for a network: two logits that tell windows apart."""
    first = features[0, 0, :, 0].mean()
    return torch.stack([first, -first])[None]


def test_stream_reads_every_window_at_its_place():
    front_end = LogMel(FRONT_END)
    torch.manual_seed(4)
    waveform = 0.1 * torch.randn(8000 * 4)
    windows = list(stream.stream(level, front_end, waveform, 1.0, 0.7))
    assert [start for start, _ in windows] == pytest.approx([0, 0.7, 1.4, 2.1, 2.8])
    for start_s, probabilities in windows:
        start = round(start_s * 8000)
        piece = waveform[None, start : start + 8000]
        expected = level(front_end.features(piece, torch.tensor([8000]))).softmax(dim=1)[0]
        torch.testing.assert_close(probabilities, expected)
    assert len({round(p[0].item(), 4) for _, p in windows}) == 5


def test_stream_of_a_network_gives_probabilities_and_keeps_gradients_on():
    for start_s, probabilities in stream.stream(
        SECNN(N_CLASSES, NARROW).eval(), LogMel(FRONT_END), torch.randn(12_000), 0.5, 0.5
    ):
        assert torch.is_grad_enabled()
        assert start_s in (0.0, 0.5, 1.0)
        assert probabilities.shape == (N_CLASSES,) and not probabilities.requires_grad
        assert probabilities.sum().item() == pytest.approx(1, abs=1e-6)


def test_stream_through_onnx(exported):
    session = deployment.onnx_session(exported)
    windows = stream.stream(
        lambda features: torch.from_numpy(deployment.onnx_logits(session, features.numpy())),
        LogMel(FRONT_END),
        torch.randn(9000),
        1.0,
        0.125,
    )
    assert [start for start, _ in windows] == [0.0, 0.125]


def test_a_recording_shorter_than_a_window_gives_one():
    windows = list(stream.stream(level, LogMel(FRONT_END), torch.randn(3000), 1.0, 0.5))
    assert [start for start, _ in windows] == [0.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window_s": 2.0}, r"window_s=2.0, expected above 0 and at most 1\.280"),
        ({"window_s": 0.0}, "window_s=0.0"),
        ({"hop_s": 0.0}, "hop_s=0.0, expected at least one sample"),
        ({"waveform": torch.zeros(2, 8000)}, r"of the shape \(2, 8000\)"),
        ({"waveform": torch.zeros(0)}, r"of the shape \(0,\)"),
        ({"waveform": torch.zeros(8000, dtype=torch.int16)}, "waveform is torch.int16"),
        ({"waveform": torch.full((8000,), torch.nan)}, "not finite"),
        ({"model": SECNN(2, NARROW)}, "in training mode"),
    ],
)
def test_stream_refuses_bad_input_at_the_call(change, message):
    arguments = {"model": level, "front_end": LogMel(FRONT_END), "waveform": torch.zeros(8000)}
    arguments |= {"window_s": 1.0, "hop_s": 0.5} | change
    with pytest.raises(ValueError, match=f"stream: .*{message}"):
        stream.stream(**arguments)
