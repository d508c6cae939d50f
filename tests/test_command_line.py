"""Commands refuse what they would otherwise do something else with."""

import pytest

from esc_lib.__main__ import GROUPS, main
from esc_lib.config import PROFILES
from esc_lib.training.comparisons import plan

WRONG = {
    "a group that is none": ["evidence", "--groups", "fold"],
    "no epochs": ["train", "--epochs", "0"],
    "epochs in words": ["train", "--epochs", "two"],
    "fewer than no jobs": ["train", "--jobs", "-1"],
    "half a fold": ["train", "--folds", "1.5"],
    "fold -1": ["explain", "--folds", "-1"],
    "a seed below 0": ["probe", "--seeds", "-3"],
    "an unknown protocol": ["train", "--protocol", "random"],
    "an unknown network": ["train", "--architecture", "resnet"],
    "an unknown recipe": ["portraits", "--recipe", "weak"],
    "an unknown profile": ["verify", "--profile", "esc100"],
    "no command": [],
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_words_are_refused_before_anything_is_done(case, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(WRONG[case])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and "error: " in said and "Traceback" not in said


def test_a_width_of_another_network_is_refused(capsys):
    assert main(["train", "--narrow", "--architecture", "piczak_cnn"]) == 1
    assert "--narrow is a width of se_cnn, not of piczak_cnn" in capsys.readouterr().err


@pytest.mark.parametrize("profile", PROFILES)
def test_the_groups_of_the_command_line_are_those_that_are_planned(profile):
    assert {item.group for item in plan(PROFILES[profile])} == set(GROUPS)
