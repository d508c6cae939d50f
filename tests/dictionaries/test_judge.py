"""V and H gathered once, and what is judged on held-out clips."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from edits import CODE, each_edit, pretend

from esc_lib import config
from esc_lib.config import PROFILES, Network
from esc_lib.data.clips import Data
from esc_lib.dictionaries import fitting, judge, stand_ins
from esc_lib.dictionaries import gather as gathering
from esc_lib.dictionaries.statistics import Statistics
from esc_lib.evaluation import intervals
from esc_lib.layers import hooks
from esc_lib.models.se_cnn import BLOCKS, SECNN
from esc_lib.sound.log_mel import LogMel

SETTINGS = config.Dictionaries(epochs=40, trace_every=20)
LAYERS = (*BLOCKS[:3], "se1")
FRONT_END = replace(PROFILES["demo"].front_end, n_mels=32, n_frames=64)


def clips(n, seed):
    rng = np.random.default_rng(seed)
    waveforms = (3000 * rng.standard_normal((n, FRONT_END.n_samples))).astype(np.int16)
    table = pd.DataFrame(
        {
            "filename": [f"{i}.wav" for i in range(n)],
            "category": np.array(["hum", "hiss"])[np.arange(n) % 2],
            "src_file": np.arange(n) // 2,
            "label": np.arange(n) % 2,
            "part": ["train"] * (n // 2) + ["test"] * (n - n // 2),
        }
    )
    return Data(table, torch.from_numpy(waveforms), torch.full((n,), FRONT_END.n_samples))


@pytest.fixture(scope="module")
def data():
    return clips(20, 0)


@pytest.fixture(scope="module")
def front_end():
    return LogMel(FRONT_END)


@pytest.fixture(scope="module")
def networks():
    found = {}
    for seed, name in enumerate(("trained", "untrained")):
        torch.manual_seed(seed)
        found[name] = SECNN(2, Network(channels=(8, 8, 16, 16, 32), hidden=16)).eval()
    return found


@pytest.fixture(scope="module")
def hidden(data, front_end, networks):
    return {
        (name, part): gathering.gather(
            model, front_end, data, getattr(data.split, part), LAYERS, keep=LAYERS
        )
        for name, model in networks.items()
        for part in ("train", "test")
    }


@pytest.fixture(scope="module")
def fits(hidden):
    return {
        layer: fitting.fit_layer(hidden["trained", "train"].statistics[layer], SETTINGS, seed=0)
        for layer in BLOCKS[:3]
    }


# --------------------------------------------------------------------------------- gathering


def test_what_is_kept_is_what_was_summed_up(hidden):
    part = hidden["trained", "test"]
    for layer in LAYERS:
        v, h, sums = part.v(layer).double(), part.h[layer].double(), part.statistics[layer]
        assert v.shape[::2] == h.shape[::2]
        # float32 values added in another order
        torch.testing.assert_close(
            torch.einsum("cft,cat->fa", v, h), sums.cross, rtol=1e-5, atol=1e-5
        )
        assert sums.n_frames == h.shape[0] * h.shape[2]


def test_v_needs_no_h_that_was_kept(hidden, data, front_end, networks):
    bare = gathering.gather(networks["trained"], front_end, data, data.split.test, LAYERS)
    assert not bare.h
    for layer in LAYERS:
        assert torch.equal(bare.v(layer), hidden["trained", "test"].v(layer))


def test_a_gate_scales_the_channels_of_its_block(hidden):
    part = hidden["trained", "test"]
    gain = part.h["se1"] / part.h["conv_block2"].clamp_min(1e-9)
    loud = part.h["conv_block2"] > 0.05
    spread = [clip[use].std() / clip[use].mean() for clip, use in zip(gain[:, 0], loud[:, 0])]
    # one factor per clip and channel, up to bfloat16's eight bits where the processor has it
    assert max(s for s in spread if torch.isfinite(s)) < 0.01


@pytest.fixture
def gathered(monkeypatch):
    """Return a list that grows by one whenever clips are gathered."""
    calls, gather = [], gathering.gather
    monkeypatch.setattr(gathering, "gather", lambda *a, **k: calls.append(1) or gather(*a, **k))
    return calls


def test_layers_are_read_once(data, front_end, networks, tmp_path, gathered):
    path, rows = tmp_path / "hidden_trained_test.pt", data.split.test
    arguments = (networks["trained"], front_end, data, rows, LAYERS)
    first = gathering.gather_once(path, *arguments, keep=("se1",))
    again = gathering.gather_once(path, *arguments, keep=("se1",))
    assert len(gathered) == 1
    assert torch.equal(first.h["se1"], again.h["se1"]) and torch.equal(first.mel, again.mel)
    for layer in LAYERS:
        one, other = (vars(found.statistics[layer]) for found in (first, again))
        assert list(one) == list(other)
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_another_network_clip_or_choice_replaces_what_was_gathered(
    data, front_end, networks, tmp_path, gathered
):
    path, rows = tmp_path / "hidden_trained_test.pt", data.split.test
    arguments = (networks["trained"], front_end, data, rows, LAYERS)
    torch.save({"statistics": {}}, path)  # of a time when files had no identity
    choices = (
        (arguments, {"keep": ("se1",)}),
        ((networks["untrained"], *arguments[1:]), {"keep": ("se1",)}),
        ((*arguments[:3], rows[:-1], LAYERS), {"keep": ("se1",)}),
        (arguments, {"keep": ("se1",), "reduction": "max"}),
        ((*arguments[:2], clips(20, 1), rows, LAYERS), {"keep": ("se1",)}),
    )
    for number, (chosen, options) in enumerate(choices, 1):
        found = gathering.gather_once(path, *chosen, **options)
        assert len(gathered) == number
        again = gathering.gather_once(path, *chosen, **options)
        assert len(gathered) == number and torch.equal(found.h["se1"], again.h["se1"])
        assert list(tmp_path.iterdir()) == [path]  # nothing stale stays behind


@each_edit
@pytest.mark.parametrize("module", ["layers/hooks", "dictionaries/statistics"])
def test_changed_code_gathers_anew(
    data, front_end, networks, tmp_path, gathered, monkeypatch, edit, module
):
    arguments = (tmp_path / "one.pt", networks["trained"], front_end, data, data.split.test, LAYERS)
    gathering.gather_once(*arguments)
    pretend(monkeypatch, module, edit)
    gathering.gather_once(*arguments)
    assert len(gathered) == 1 + (edit == CODE)


def test_reduction_is_a_choice(data, front_end, networks):
    rows = data.split.test
    mean, largest = (
        gathering.gather(
            networks["trained"], front_end, data, rows, LAYERS, keep=LAYERS, reduction=how
        ).h
        for how in ("mean", "max")
    )
    assert all((largest[layer] >= mean[layer] - 1e-6).all() for layer in LAYERS)
    with pytest.raises(ValueError, match="how='median'"):
        hooks.reduce_frequency(torch.ones(1, 1, 2, 2), "median")


# ---------------------------------------------------------------------------------- judging


@pytest.fixture(scope="module")
def parts(hidden):
    return {part: hidden["trained", part] for part in ("train", "test")}


@pytest.fixture(scope="module")
def draws(data):
    return intervals.source_draws(data.clips.src_file.to_numpy()[data.split.test])


def test_errors_and_prices_by_clip_agree_with_those_of_the_sums(parts, fits, data, draws):
    layer = BLOCKS[1]
    table = judge.by_clip(fits[layer], layer, parts, data)
    assert len(table) == len(data.split.test)
    assert [*table] == ["energy", *fits[layer].dictionaries(), *stand_ins.KNOWS]
    expected = fits[layer].errors(parts["test"].statistics[layer])
    errors = judge.scores(table, list(expected), "energy", draws)
    prices = judge.scores(table, list(expected), "optimum", draws)
    for name, error in expected.items():
        # V and H were kept in float32, the sums in float64
        assert errors.value[name] == pytest.approx(error, rel=1e-5)
        assert errors.low[name] <= errors.value[name] <= errors.high[name]
        assert prices.value[name] == pytest.approx(error / expected["optimum"], rel=1e-5)
    np.testing.assert_allclose(prices.loc["optimum"], 1)


def test_outputs_and_character_by_hand():
    w = torch.tensor([[1.0], [1.0], [0.0], [0.0]], dtype=torch.float64)
    v = torch.tensor([1.0, 1.0, 1.0, 1.0])[None, :, None].expand(1, 4, 2)
    h = torch.full((1, 1, 2), 2.0)
    part = gathering.Gathered({"layer": Statistics.of(v, h)}, {"layer": h}, v.contiguous())
    fitted = fitting.LayerFits(torch.ones(1, dtype=torch.float64), {}, w)
    made = judge.outputs(fitted, part, "layer")
    assert made["V"].loc[0].to_dict() == {
        "energy": 8, "upper": 4, "surplus": 0, "missing": 0, "target": 8
    }  # fmt: skip
    assert made["optimum"].loc[0].to_dict() == {
        "energy": 16, "upper": 0, "surplus": 4, "missing": 4, "target": 8
    }  # fmt: skip
    table = judge.character(fitted, made)
    assert list(table.index) == ["V", "optimum"]
    assert table.upper.tolist() == [0.5, 0]
    assert table.loc["optimum", ["surplus", "missing"]].tolist() == [0.5, 0.5]
    # one step of 1 in three, over a root mean square of sqrt(1/2)
    steps = table["step between bands"]
    assert np.isnan(steps["V"])
    assert steps["optimum"] == pytest.approx((1 / 3) ** 0.5 / 0.5**0.5)


# ------------------------------------------------------------------------------- uncertainty


def test_clips_of_one_recording_are_drawn_together():
    draws = intervals.source_draws(np.array(["a", "b", "a", "c"]), n_draws=500)
    assert draws.shape == (500, 4)
    assert (draws[:, 0] == draws[:, 2]).all()
    assert (draws[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert np.array_equal(draws, intervals.source_draws(np.array(["a", "b", "a", "c"]), 500))


def test_scores_and_their_interval():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"below": rng.uniform(1, 2, 400)})
    table["above"] = 0.25 * table.below
    table["noisy"] = table.above * rng.lognormal(0, 0.5, 400)
    draws = intervals.source_draws(np.arange(400))
    found = judge.scores(table, ["above", "noisy"], "below", draws)
    np.testing.assert_allclose(found.loc["above"], 0.5)
    # delta method: half the relative standard error of the sum, times 1.96 on either side
    value, low, high = found.loc["noisy"]
    residual = table.noisy - table.noisy.sum() / table.below.sum() * table.below
    half = 1.96 * value * 0.5 * residual.std() / table.noisy.mean() / 20
    assert high - low == pytest.approx(2 * half, rel=0.1)
    assert low < value < high
    shares = judge.scores(table, ["above"], "below", draws, lambda ratio: 1 - ratio)
    np.testing.assert_allclose(shares.loc["above"], 0.75)
