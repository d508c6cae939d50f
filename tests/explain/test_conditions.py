"""What is explained: clips as they are, and with a known sound of the same energy mixed in."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from two_bands import FRONT_END, small_data

from esc_lib.explain.conditions import CONDITIONS, take

ROWS = np.array([0, 3, 8, 2, 13])


@pytest.fixture(scope="module")
def data():
    return small_data()


def test_a_clean_clip_is_the_clip(data):
    inputs = take(data, ROWS, "clean", FRONT_END.sr)
    torch.testing.assert_close(inputs.waveforms, data.waveforms[ROWS].float() / 32768)
    assert inputs.wanted is None and inputs.unwanted is None
    assert torch.equal(inputs.n_valid, data.n_valid[ROWS])


@pytest.mark.parametrize("condition", CONDITIONS[1:])
def test_what_is_mixed_in_is_as_loud_and_adds_up(data, condition):
    inputs = take(data, ROWS, condition, FRONT_END.sr)
    wanted, unwanted = inputs.wanted.double(), inputs.unwanted.double()
    ratio_db = 10 * (wanted.square().sum(dim=1) / unwanted.square().sum(dim=1)).log10()
    np.testing.assert_allclose(ratio_db, 0, atol=1e-3)
    torch.testing.assert_close(inputs.wanted + inputs.unwanted, inputs.waveforms)
    assert inputs.waveforms.abs().max() <= 1 + 1e-6
    again = take(data, ROWS, condition, FRONT_END.sr)
    assert torch.equal(again.unwanted, inputs.unwanted)
    clean, _ = data.batch(ROWS)  # the labelled sound keeps its shape, if not its level
    level = inputs.wanted.norm(dim=1) / clean.norm(dim=1)
    torch.testing.assert_close(inputs.wanted, clean * level[:, None])


def test_the_other_clip_is_of_another_class_and_the_longer_one_counts(data):
    inputs = take(data, ROWS, "other clip", FRONT_END.sr)
    clean, _ = data.batch(ROWS)
    similar = nn.functional.cosine_similarity(inputs.unwanted[:, None], clean[None], dim=2)
    partner = similar.argmax(dim=1).numpy()
    np.testing.assert_allclose(similar.amax(dim=1), 1, atol=1e-4)
    labels = data.labels[ROWS].numpy()
    assert (labels[partner] != labels).all()
    lengths = data.n_valid[ROWS].numpy()
    assert inputs.n_valid.tolist() == np.maximum(lengths, lengths[partner]).tolist()


def test_noise_ends_with_the_clip(data):
    inputs = take(data, ROWS, "white noise", FRONT_END.sr)
    assert torch.equal(inputs.n_valid, data.n_valid[ROWS])
    assert (inputs.unwanted[1, 5000:] == 0).all() and inputs.unwanted[1, :5000].std() > 0.01


def test_two_loud_sounds_are_turned_down_together(data):
    loud = replace(data, waveforms=data.waveforms * 3)
    inputs = take(loud, ROWS, "other clip", FRONT_END.sr)
    assert float(inputs.waveforms.abs().max()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_silent_clip_stays_finite(data, condition):
    waveforms = data.waveforms.clone()
    waveforms[ROWS[0]] = 0
    inputs = take(replace(data, waveforms=waveforms), ROWS, condition, FRONT_END.sr)
    assert torch.isfinite(inputs.waveforms).all() and (inputs.waveforms[0] == 0).all()


def test_conditions_that_cannot_be_made_are_named(data):
    with pytest.raises(ValueError, match="condition='rain' is unknown; choose one of clean, other"):
        take(data, ROWS, "rain", FRONT_END.sr)
    with pytest.raises(ValueError, match="all clips are of one class; 'other clip' needs at least"):
        take(data, np.flatnonzero(data.clips.label == 0), "other clip", FRONT_END.sr)


@pytest.mark.parametrize("condition", CONDITIONS[:2])
def test_only_some_clips_keep_all_that_is_known_of_them(data, condition):
    inputs = take(data, ROWS, condition, FRONT_END.sr)
    some = inputs.only([3, 0])
    assert some.condition == condition and some.rows.tolist() == [2, 0]
    for name in ("waveforms", "n_valid", "wanted", "unwanted"):
        whole, part = getattr(inputs, name), getattr(some, name)
        assert part is None if whole is None else torch.equal(part, whole[[3, 0]])
