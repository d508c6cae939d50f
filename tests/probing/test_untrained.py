"""The control: all stays as before training, but for a head that learns."""

import pytest
import torch
from small_study import PROFILE, make_data

from esc_lib.config import variant
from esc_lib.probing.untrained import pooled, random_network, train_head
from esc_lib.sound.log_mel import LogMel
from esc_lib.training.classifier import initial_model
from esc_lib.training.prediction import predict

SEED = 7
HEAD = ("fc1", "fc2")


@pytest.fixture(scope="module")
def made():
    data = make_data()
    return data, random_network(data, PROFILE, SEED), random_network(data, PROFILE, SEED, False)


def test_only_the_head_differs_from_the_first_weights(made):
    data, model, headless = made
    fresh = initial_model(variant(PROFILE, seed=SEED), 4).state_dict()
    for name, value in model.state_dict().items():
        same = torch.equal(value, fresh[name])
        assert same != name.startswith(HEAD), name
    for name, value in headless.state_dict().items():
        assert torch.equal(value, fresh[name])
    assert not model.training


def test_its_head_recognises_training_clips_better_than_chance(made):
    data, model, _ = made
    decided = predict(model, LogMel(PROFILE.front_end), data, data.split.train).argmax(dim=1)
    assert float((decided == data.labels[data.split.train]).float().mean()) > 0.5


def test_the_head_reads_what_it_was_trained_on(made, monkeypatch):
    data, _, headless = made
    front_end, rows = LogMel(PROFILE.front_end), data.split.train
    seen = pooled(headless, front_end, data, rows)
    assert seen.shape == (24, 8)
    labels = data.labels[rows]
    train_head(headless, (seen, labels), (seen, labels), seed=0)
    with torch.no_grad():
        logits = headless.fc2(headless.relu(headless.fc1(seen)))
    assert float((logits.argmax(dim=1) == labels).float().mean()) > 0.5
    whole = predict(headless, front_end, data, rows)
    torch.testing.assert_close(logits, whole, atol=0.05, rtol=0.05)  # the one in fast precision
