"""Hidden layers: recording, the time grid, V and H, their statistics, SE gates."""

from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch

from esc_lib.config import FrontEnd, Network
from esc_lib.data.clips import Data
from esc_lib.dictionaries import gather
from esc_lib.layers import gates, hooks
from esc_lib.models.se_cnn import BLOCKS, GATES, SECNN
from esc_lib.sound.log_mel import LogMel

# 45 frames: every second halving drops a remainder (45, 22, 11, 5, 2, 1)
FRONT_END = FrontEnd(
    sr=8000, n_fft=256, win_length=256, hop_length=128, n_mels=32, f_max_hz=4000.0, n_frames=45
)
N_CLIPS = 20  # more than one batch of `stream`


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """Compute in full precision, so that layers can be compared with a forward by hand."""
    for module in (hooks, gates):
        monkeypatch.setattr(module, "autocast", lambda device: nullcontext())


@pytest.fixture(scope="module")
def front_end():
    return LogMel(FRONT_END)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = SECNN(3, Network(channels=(4, 8, 8, 8, 8), se_reduction=1, hidden=16))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():  # sets the normalisation: else the deep maps all but vanish
        model(torch.randn(16, 1, 32, 45))
    return model.eval()


@pytest.fixture(scope="module")
def data():
    """Return clips of random noise, each at its own level; the last one is shorter."""
    rng = np.random.default_rng(0)
    waveforms = rng.normal(size=(N_CLIPS, FRONT_END.n_samples)) * rng.uniform(
        500, 5000, (N_CLIPS, 1)
    )
    n_valid = np.full(N_CLIPS, FRONT_END.n_samples)
    n_valid[-1] //= 2
    waveforms[-1, n_valid[-1] :] = 0
    waveforms = waveforms.clip(-32768, 32767).astype(np.int16)
    clips = pd.DataFrame({"label": np.arange(N_CLIPS) % 3, "part": "train"})
    return Data(clips, torch.from_numpy(waveforms), torch.from_numpy(n_valid))


def n_hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


# ------------------------------------------------------------------------------------- record


def test_record_gives_what_a_forward_by_hand_gives(model):
    features = torch.randn(2, 1, 32, 45)
    expected = {}
    maps = features
    for block, gate in zip(BLOCKS, (None, *GATES), strict=True):
        maps = expected[block] = getattr(model, block)(maps)
        if gate:
            maps = expected[gate] = getattr(model, gate)(maps)
    with hooks.record(model, [*BLOCKS, *GATES]) as recorded:
        logits = model(features)
    assert set(recorded) == set(expected)
    for layer, values in expected.items():
        assert torch.equal(recorded[layer], values), layer
        assert not recorded[layer].requires_grad
    assert torch.equal(logits, model(features))  # recording changes nothing
    assert logits.requires_grad


def test_record_keeps_the_latest_pass_and_nested_layers(model):
    first, second = torch.randn(2, 1, 1, 32, 45)
    with hooks.record(model, ["conv_block2.conv1"]) as recorded:
        model(first)
        model(second)
    kept = recorded["conv_block2.conv1"]
    assert torch.equal(kept, model.conv_block2.conv1(model.conv_block1(second)))


def test_record_removes_its_hooks(model):
    with hooks.record(model, BLOCKS):
        assert n_hooks(model) == len(BLOCKS)
    assert n_hooks(model) == 0


def test_record_removes_its_hooks_after_an_exception(model):
    with pytest.raises(RuntimeError), hooks.record(model, BLOCKS):
        model(torch.zeros(1, 7, 32, 45))  # seven channels: the first convolution refuses
    assert n_hooks(model) == 0
    with pytest.raises(ZeroDivisionError), hooks.record(model, BLOCKS):
        raise ZeroDivisionError
    assert n_hooks(model) == 0


def test_record_names_an_unknown_layer_and_sets_no_hook(model):
    message = r"record: layer='conv_block6' is unknown; choose one of conv_block1, conv_block2,"
    with (
        pytest.raises(ValueError, match=message),
        hooks.record(model, ["conv_block1", "conv_block6"]),
    ):
        pass
    assert n_hooks(model) == 0


# ------------------------------------------------------------------------------ the time grid


@pytest.mark.parametrize("halvings", range(6))
@pytest.mark.parametrize("n_frames", [431, 188, 45])
def test_pool_frames_cuts_as_repeated_pooling_does(n_frames, halvings):
    mel = torch.rand(2, 3, n_frames, generator=torch.Generator().manual_seed(0))
    expected = mel
    for _ in range(halvings):
        expected = torch.nn.functional.avg_pool1d(expected, 2)  # drops an odd last frame
    pooled = hooks.pool_frames(mel, expected.shape[-1])
    torch.testing.assert_close(pooled, expected)


def test_pool_frames_averages_and_drops_the_remainder():
    mel = torch.tensor([[[1.0, 3.0, 5.0, 7.0, 100.0]]])
    assert hooks.pool_frames(mel, 2).tolist() == [[[2.0, 6.0]]]
    assert hooks.pool_frames(mel, 1).tolist() == [[[4.0]]]
    assert torch.equal(hooks.pool_frames(mel, 5), mel)


@pytest.mark.parametrize("n_frames", [100, 214, 432])
def test_pool_frames_refuses_a_grid_that_no_layer_has(n_frames):
    message = rf"pool_frames: n_frames={n_frames} does not follow from 431 frames by halving"
    with pytest.raises(ValueError, match=message):
        hooks.pool_frames(torch.zeros(1, 2, 431), n_frames)


# --------------------------------------------------------------------------------------- V, H


def test_reduce_frequency():
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 8.0]]]])  # (clip, channel, mel, frames)
    assert hooks.reduce_frequency(maps).tolist() == [[[2.0, 5.0]]]
    assert hooks.reduce_frequency(maps, "max").tolist() == [[[3.0, 8.0]]]
    with pytest.raises(ValueError, match="reduce_frequency: how='median', expected 'mean' or"):
        hooks.reduce_frequency(maps, "median")


def test_mel_magnitude_has_its_peak_at_one_and_its_square_is_the_power(front_end, data):
    waveforms, _ = data.batch(range(5))
    kept = waveforms.clone()
    magnitude = hooks.mel_magnitude(front_end, waveforms)
    assert magnitude.shape == (5, 32, 45)
    assert (magnitude >= 0).all()
    torch.testing.assert_close(magnitude.amax(dim=(1, 2)), torch.ones(5))
    power = front_end.mel_power(waveforms)
    torch.testing.assert_close(
        magnitude.square(), power / power.amax(dim=(1, 2), keepdim=True), rtol=1e-4, atol=1e-7
    )
    assert torch.equal(waveforms, kept)


def test_mel_magnitude_does_not_depend_on_the_level(front_end, data):
    waveforms, _ = data.batch(range(3))
    torch.testing.assert_close(
        hooks.mel_magnitude(front_end, waveforms),
        hooks.mel_magnitude(front_end, waveforms / 128),
    )


def test_mel_magnitude_of_silence_is_zero_and_finite(front_end):
    magnitude = hooks.mel_magnitude(front_end, torch.zeros(1, FRONT_END.n_samples))
    assert torch.equal(magnitude, torch.zeros(1, 32, 45))


# --------------------------------------------------------------------------------- statistics


def test_gathered_sums_equal_those_of_all_clips_at_once(model, front_end, data):
    rows = np.random.default_rng(1).permutation(N_CLIPS)
    gathered = gather.gather(model, front_end, data, rows, BLOCKS, keep=["conv_block3"])
    statistics, kept = gathered.statistics, gathered.h["conv_block3"]
    assert list(statistics) == list(BLOCKS)

    waveforms, n_valid = data.batch(rows)
    v_all = hooks.mel_magnitude(front_end, waveforms)
    with torch.no_grad():
        maps = front_end.features(waveforms, n_valid)
        for index, block in enumerate(BLOCKS):
            if index > 1:
                maps = getattr(model, f"se{index - 1}")(maps)
            maps = getattr(model, block)(maps)
            h = maps.mean(dim=2).double()  # (clips, atoms, frames)
            step = 2 ** (index + 1)
            v = v_all[:, :, : h.shape[-1] * step].unflatten(2, (-1, step)).mean(dim=3).double()
            wide_h = h.permute(1, 0, 2).flatten(1).numpy()  # (atoms, clips x frames)
            wide_v = v.permute(1, 0, 2).flatten(1).numpy()

            # float32 sums in another order, hence not exact
            found = statistics[block]
            for name, expected in (
                ("gram", wide_h @ wide_h.T),
                ("cross", wide_v @ wide_h.T),
                ("energy", (wide_v**2).sum()),
                ("sum_v", wide_v.sum(axis=1)),
                ("sum_h", wide_h.sum(axis=1)),
            ):
                np.testing.assert_allclose(
                    getattr(found, name), expected, rtol=1e-4, atol=1e-5 * expected.max()
                )
            assert found.n_frames == wide_v.shape[1]
            if block == "conv_block3":
                assert kept.dtype == torch.float32
                torch.testing.assert_close(kept.double(), h, rtol=1e-4, atol=1e-4)
    assert n_hooks(model) == 0


def test_stream_goes_through_the_rows_in_order(model, front_end, data):
    rows = np.random.default_rng(2).permutation(N_CLIPS)
    seen = list(hooks.stream(model, front_end, data, rows, ["se1"]))
    assert len(seen) == 2
    assert np.array_equal(np.concatenate([batch for batch, _, _ in seen]), rows)
    for batch, mel, maps in seen:  # after the last batch: none may overwrite another
        waveforms, n_valid = data.batch(batch)
        torch.testing.assert_close(mel, hooks.mel_magnitude(front_end, waveforms))
        with hooks.record(model, ["se1"]) as expected, torch.no_grad():
            model(front_end.features(waveforms, n_valid))
        torch.testing.assert_close(maps["se1"], expected["se1"])


def test_stream_removes_its_hooks_when_it_is_left_early(model, front_end, data):
    batches = hooks.stream(model, front_end, data, np.arange(N_CLIPS), BLOCKS)
    next(batches)
    assert n_hooks(model) == len(BLOCKS)
    batches.close()
    assert n_hooks(model) == 0


# -------------------------------------------------------------------------------------- gates


def test_gate_values_equal_those_of_a_forward_by_hand(model, front_end, data):
    rows = np.arange(N_CLIPS)[::-1].copy()
    found = gates.se_gates(model, front_end, data, rows)
    assert list(found) == list(GATES)
    with torch.no_grad():
        maps = model.conv_block1(front_end.features(*data.batch(rows)))
        for gate, block in zip(GATES, BLOCKS[1:], strict=True):
            maps = getattr(model, block)(maps)
            module = getattr(model, gate)
            squeezed = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
            hidden = (squeezed @ module.fc1.weight.T).relu()
            expected = (hidden @ module.fc2.weight.T).sigmoid()
            np.testing.assert_allclose(found[gate], expected.numpy(), rtol=1e-4, atol=1e-6)
            assert found[gate].min() > 0 and found[gate].max() < 1
            assert found[gate].std() > 0.01  # else the comparison would say little
            maps = maps * expected[:, :, None, None]


# -------------------------------------------------------------------------------- forced gates


def own_values(model, features):
    """Return each gate's values for the features, shape (clips, channels)."""
    with hooks.record(model, [f"{gate}.sigmoid" for gate in GATES]) as recorded:
        model(features)
    return {gate: recorded[f"{gate}.sigmoid"] for gate in GATES}


def test_gates_forced_to_their_own_values_change_nothing(model):
    features = torch.randn(3, 1, 32, 45)
    logits = model(features)
    values = own_values(model, features)
    for forced in ({gate: values[gate]} for gate in GATES):
        with gates.forced_gates(model, forced):
            assert torch.equal(model(features), logits)
    with gates.forced_gates(model, values):
        assert torch.equal(model(features), logits)
    with gates.forced_gates(model, {gate: v.flip(0) for gate, v in values.items()}):
        assert not torch.allclose(model(features), logits, atol=1e-3)


@pytest.mark.parametrize(
    ("gate", "following"), [*zip(GATES, (*BLOCKS[2:], "pool"))]
)
def test_a_gate_forced_to_zero_leaves_nothing_for_the_next_layer(model, gate, following):
    seen = []
    handle = getattr(model, following).register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    with gates.forced_gates(model, {gate: 0}):
        model(torch.randn(2, 1, 32, 45))
    handle.remove()
    assert not seen[0].any()


def test_forced_values_scale_channel_by_channel(model):
    features = torch.randn(2, 1, 32, 45)
    factors = np.linspace(0, 2, 8)
    with (
        hooks.record(model, ["conv_block3"]) as recorded,
        gates.forced_gates(model, {"se2": factors}),
    ):
        seen = []
        handle = model.conv_block4.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
        model(features)
        handle.remove()
    scaled = recorded["conv_block3"] * torch.tensor(factors)[None, :, None, None]
    torch.testing.assert_close(seen[0], scaled.float())


def test_forced_gates_are_themselves_again_afterwards(model):
    features = torch.randn(2, 1, 32, 45)
    logits = model(features)
    with gates.forced_gates(model, {"se1": 0, "se4": 0}):
        assert n_hooks(model) == 2
    assert torch.equal(model(features), logits)
    with pytest.raises(ZeroDivisionError), gates.forced_gates(model, {"se1": 0}):
        raise ZeroDivisionError
    assert n_hooks(model) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [({"se1": 1, "se5": 1}, "gate='se5' is unknown; choose one of se1, se2, se3, se4"),
     ({"se1": 1, "se2": np.ones(7)}, r"values of se2 have shape \(7,\); give one number, or")],
)  # fmt: skip
def test_forced_gates_refuses_what_does_not_fit_and_sets_no_hook(model, values, message):
    with (
        pytest.raises(ValueError, match=message),
        gates.forced_gates(model, values),
    ):
        pass
    assert n_hooks(model) == 0


def test_resuming_at_any_layer_gives_the_logits_of_the_whole_network(model):
    features = torch.randn(2, 1, 32, 45)
    inputs = {}
    handles = [
        getattr(model, layer).register_forward_pre_hook(
            lambda _, x, layer=layer: inputs.update({layer: x[0]})
        )
        for layer in (*BLOCKS, *GATES)
    ]
    logits = model(features)
    for handle in handles:
        handle.remove()
    assert len(inputs) == 9
    for layer, maps in inputs.items():
        assert torch.equal(gates.resume(model, layer, maps), logits), layer


def test_forced_logits_equal_whole_passes_with_forced_gates(model, front_end, data):
    rows = np.random.default_rng(3).permutation(N_CLIPS)
    means = np.random.default_rng(4).random(8)
    variants = {
        "as trained": {}, "se3 half": {"se3": 0.5}, "se1 and se4": {"se4": means, "se1": means},
        "all": dict.fromkeys(GATES, 1.0),
    }  # fmt: skip
    found = gates.forced_logits(model, front_end, data, rows, variants)
    assert list(found) == list(variants)
    features = front_end.features(*data.batch(rows))
    for name, values in variants.items():
        with torch.no_grad(), gates.forced_gates(model, values):
            expected = model(features)
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found["all"], found["as trained"], atol=1e-2)
    assert n_hooks(model) == 0
