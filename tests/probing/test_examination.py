"""The glass box: its channels are what they are said to be; measures see it or are not used."""

import numpy as np
import pytest
import torch

from esc_lib.config import PROFILES
from esc_lib.layers.gates import resume
from esc_lib.layers.hooks import record
from esc_lib.probing import examination, glass_box
from esc_lib.probing.scores import MEASURES

PROFILE = PROFILES["demo"]


@pytest.fixture(scope="module")
def box():
    front_end = glass_box.LevelFrontEnd(PROFILE.front_end)
    return glass_box.glass_box(glass_box.clips(PROFILE.front_end), front_end), front_end


@pytest.fixture(scope="module")
def examined():
    return examination.examine(PROFILE)


def test_a_channel_follows_the_level_of_its_bands_and_of_no_others(box):
    (model, data), front_end = box
    level = front_end.features(*data.batch(data.split.test))
    with record(model, ["conv_block4"]) as maps, torch.no_grad():
        model(level)
        before = maps["conv_block4"].mean(dim=(2, 3))
        for channel in (0, 9, 31):
            bands = slice(2 * channel, 2 * channel + 2)
            model(torch.cat([level[:, :, : bands.start], 0 * level[:, :, bands],
                             level[:, :, bands.stop :]], dim=2))  # fmt: skip
            fall = (before - maps["conv_block4"].mean(dim=(2, 3))) / before
            assert fall.argmax(dim=1).unique().tolist() == [channel]
            far = np.abs(np.arange(32) - channel) > 1
            assert fall[:, far].abs().max() < 1e-5


def test_its_classes_are_its_decisions_and_what_lies_behind_a_layer_runs_alone(box):
    (model, data), front_end = box
    rows = data.split.test
    with record(model, ["se3"]) as maps, torch.no_grad():
        logits = model(front_end.features(*data.batch(rows)))
        torch.testing.assert_close(resume(model, "conv_block5", maps["se3"]), logits)
    assert torch.equal(logits.argmax(dim=1), data.labels[rows])
    assert set(data.labels.tolist()) == set(range(glass_box.CLASSES))


def test_measures_that_are_used_see_the_box_and_nothing_when_channels_are_dealt(examined):
    judged = examined[examined.used.notna()]
    used = judged[judged.used.astype(bool)]
    assert (used.value >= 0.9).all()
    for (measure, _), row in used.iterrows():
        nothing = MEASURES[measure].nothing
        assert nothing is None or row.null <= nothing + 0.1
    assert {measure for measure, _ in used.index} == {
        "meaning", "effect", "erasing", "spectrum", "stability"
    }  # fmt: skip


def test_what_cannot_see_the_box_is_named(examined):
    failed = examined[examined.used == False]  # noqa: E712, it may be None
    assert ("layer", "principal components") in failed.index  # chance tells half of it
    assert ("meaning", "MelConstrainedLinear") in failed.index  # its fit misses the places
    assert ("meaning", "optimum, no limit of area") in failed.index


def test_no_truth_is_claimed_of_codes(examined):
    codes = examined[[what.endswith("x") for _, what in examined.index]]
    assert len(codes) and codes.used.isna().all()
