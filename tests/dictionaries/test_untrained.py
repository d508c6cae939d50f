"""Networks whose weights are random: read once, and as what was gathered of them says."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from edits import CODE, each_edit, pretend

from esc_lib.config import PROFILES, Network
from esc_lib.data.clips import Data
from esc_lib.dictionaries import level_free, untrained
from esc_lib.dictionaries.gather import gather
from esc_lib.dictionaries.solvers import solve_exact
from esc_lib.models.se_cnn import BLOCKS, SECNN
from esc_lib.sound.log_mel import LogMel

LAYERS = BLOCKS[1:3]
FRONT_END = replace(PROFILES["demo"].front_end, n_mels=32, n_frames=64)
PARTS = np.repeat(untrained.PARTS, [12, 6, 6])


@pytest.fixture(scope="module")
def data():
    rng, n = np.random.default_rng(0), len(PARTS)
    sounds = (3000 * rng.standard_normal((n, FRONT_END.n_samples))).astype(np.int16)
    clips = pd.DataFrame({"category": "hiss", "label": 0, "part": PARTS})
    return Data(clips, torch.from_numpy(sounds), torch.full((n,), FRONT_END.n_samples))


@pytest.fixture(scope="module")
def front_end():
    return LogMel(FRONT_END)


def network(seed):
    torch.manual_seed(seed)
    return SECNN(2, Network(channels=(8, 8, 16, 16, 32), hidden=16)).eval()


@pytest.fixture
def reads(monkeypatch):
    """Return a list that grows by one whenever a layer is read."""
    calls, read = [], untrained.read
    monkeypatch.setattr(untrained, "read", lambda *a: calls.append(1) or read(*a))
    return calls


def test_a_network_is_read_once_and_keeps_no_activations(data, front_end, tmp_path, reads):
    path = tmp_path / "cache" / "untrained_seed0.pt"
    first = untrained.read_once(path, network(0), front_end, data, LAYERS)
    again = untrained.read_once(path, network(0), front_end, data, LAYERS)
    assert len(reads) == len(LAYERS) and list(path.parent.iterdir()) == [path]
    for layer in LAYERS:
        for name, values in first[layer].errors.items():
            assert torch.equal(values, again[layer].errors[name])
            assert values.shape == (6,)
        assert torch.equal(first[layer].w, again[layer].w)


def test_another_network_split_or_reduction_is_read_anew(data, front_end, tmp_path, reads):
    path = tmp_path / "one.pt"
    other = replace(data, clips=data.clips.assign(part=PARTS[::-1]))
    for number, arguments in enumerate(
        [(network(0), front_end, data, LAYERS), (network(1), front_end, data, LAYERS),
         (network(1), front_end, other, LAYERS), (network(1), front_end, other, LAYERS, "max")], 1,
    ):  # fmt: skip
        untrained.read_once(path, *arguments)
        assert len(reads) == number * len(LAYERS)


@each_edit
@pytest.mark.parametrize("module", ["dictionaries/level_free", "dictionaries/solvers"])
def test_changed_code_reads_anew(data, front_end, tmp_path, reads, monkeypatch, edit, module):
    arguments = (tmp_path / "one.pt", network(0), front_end, data, LAYERS[:1])
    untrained.read_once(*arguments)
    pretend(monkeypatch, module, edit)
    untrained.read_once(*arguments)
    assert len(reads) == 1 + (edit == CODE)


def test_a_reading_is_that_of_what_was_gathered(data, front_end, tmp_path):
    model = network(0)
    found = untrained.read_once(tmp_path / "one.pt", model, front_end, data, LAYERS)
    parts = {
        part: gather(model, front_end, data, getattr(data.split, part), LAYERS, keep=LAYERS)
        for part in untrained.PARTS
    }
    for layer in LAYERS:
        train, test = parts["train"], parts["test"]
        errors = level_free.read(parts, layer)
        for name, values in errors.items():
            np.testing.assert_allclose(found[layer].errors[name], values, rtol=1e-6)
        v, h = test.v(layer).double(), test.h[layer].double()
        w = found[layer].w.double()
        torch.testing.assert_close(
            found[layer].errors["optimum"], (v - w @ h).square().sum(dim=(1, 2)), rtol=1e-5, atol=0
        )
        # rows of H need not be on one level for the error to be the least
        best = solve_exact(train.statistics[layer])
        torch.testing.assert_close(w @ h, best @ h, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found[layer].errors["energy"], v.square().sum(dim=(1, 2)))
        torch.testing.assert_close(found[layer].use, train.h[layer].mean(dim=2))
