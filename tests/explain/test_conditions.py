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
    if condition == "one after the other":
        return
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


def test_one_after_the_other_has_the_first_half_of_both_and_never_both_at_once(data):
    rows = np.arange(40)
    inputs = take(data, rows, "one after the other", FRONT_END.sr)
    half, (clean, _) = inputs.waveforms.shape[1] // 2, data.batch(rows)
    first = inputs.wanted[:, :half].abs().sum(dim=1) > 0
    assert 10 < first.sum() < 30
    for clip in range(40):
        own, other = slice(0, half), slice(half, 2 * half)
        if not first[clip]:
            own, other = other, own
        assert not inputs.wanted[clip, other].any() and not inputs.unwanted[clip, own].any()
        begin = clean[clip, :half]
        found = nn.functional.cosine_similarity(inputs.wanted[clip, own], begin, dim=0)
        assert float(found) == pytest.approx(1, abs=1e-5)
    assert (inputs.n_valid == inputs.waveforms.shape[1]).all()


@pytest.mark.parametrize("condition", CONDITIONS[1:])
def test_the_classes_of_both_sounds_are_known(data, condition):
    classes = take(data, ROWS, condition, FRONT_END.sr).classes
    assert classes[:, 0].tolist() == data.labels[ROWS].tolist()
    other = [-1] * len(ROWS) if condition == "white noise" else 1 - data.labels[ROWS]
    assert classes[:, 1].tolist() == list(other)


def test_the_sound_of_a_class_is_the_one_it_is_the_class_of(data):
    inputs = take(data, ROWS, "other clip", FRONT_END.sr)
    labels = data.labels[ROWS]
    asked = torch.stack([labels[0], 1 - labels[1], *labels[2:4], torch.tensor(7)])
    sound, other = inputs.sound_of(asked)
    swapped = [False, True, False, False, False]
    for clip, turned in enumerate(swapped):
        pair = inputs.wanted[clip], inputs.unwanted[clip]
        expected = pair[::-1] if turned else pair
        assert torch.equal(sound[clip], expected[0]) and torch.equal(other[clip], expected[1])
    assert inputs.has(asked).tolist() == [True] * 4 + [False]


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
    for condition in ("other clip", "one after the other"):
        with pytest.raises(ValueError, match=f"all clips are of one class; '{condition}' needs"):
            take(data, np.flatnonzero(data.clips.label == 0), condition, FRONT_END.sr)


@pytest.mark.parametrize("condition", CONDITIONS[:2])
def test_only_some_clips_keep_all_that_is_known_of_them(data, condition):
    inputs = take(data, ROWS, condition, FRONT_END.sr)
    some = inputs.only([3, 0])
    assert some.condition == condition and some.rows.tolist() == [2, 0]
    for name in ("waveforms", "n_valid", "wanted", "unwanted", "classes"):
        whole, part = getattr(inputs, name), getattr(some, name)
        assert part is None if whole is None else torch.equal(part, whole[[3, 0]])
