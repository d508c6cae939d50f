"""What atoms are: order and centres by hand, p-values against all permutations, planted matches."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

from esc_lib.config import get_profile
from esc_lib.data import demo_sources
from esc_lib.dictionaries import atoms
from esc_lib.sound.log_mel import LogMel

# -------------------------------------------------------------------------- order and centres


def test_sort_by_centre_puts_low_atoms_first_and_silent_ones_last():
    w = np.zeros((5, 4))
    w[4, 0] = 0.1  # centre 4, and quiet: the level does not count
    w[[0, 4], 2] = 1, 1  # centre 2
    w[1, 3] = 9  # centre 1
    assert atoms.sort_by_centre(w).tolist() == [3, 2, 0, 1]


def test_centre_hz_is_the_centroid_and_nan_for_a_silent_atom():
    w = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 2.0, 0.0]])
    centres = atoms.centre_hz(w, np.array([100.0, 200.0, 400.0]))
    np.testing.assert_allclose(centres, [250.0, 300.0, np.nan])


# --------------------------------------------------------------------------- scores of groups

CLIPS = 3  # of a class


def of_classes(use, clips=CLIPS, spread=0.0, seed=0):
    """Return clips whose class means are the rows of `use`, and their classes."""
    own = np.random.default_rng(seed).random((len(use), clips, use.shape[1]))
    values = use[:, None] + spread * (own - own.mean(axis=1, keepdims=True))
    return values.reshape(-1, use.shape[1]), np.repeat(np.arange(len(use)), clips)


def test_group_scores_by_hand():
    use, classes = of_classes(np.array([[1.0, 0, 5], [1, 0, 5], [0, 2, 5], [0, 2, 5], [9, 9, 9]]))
    group = np.repeat(np.array(["low", "low", "high", "high", np.nan], dtype=object), CLIPS)
    scores = atoms.group_scores(use, group, classes)
    # means 1 against 0 at deviation 1/2; 0 against 2 at deviation 1; no deviation at all
    assert list(scores.index) == ["high", "low"]
    np.testing.assert_allclose(scores.loc["low"], [2, -2, 0])
    np.testing.assert_allclose(scores.loc["high"], [-2, 2, 0])


def test_group_scores_are_differences_of_class_means_in_deviations():
    rng = np.random.default_rng(0)
    means, label = rng.exponential(size=(9, 5)), np.array([*"aabbbcccc"])
    use, classes = of_classes(means, spread=1.0)
    scores = atoms.group_scores(use, np.repeat(label, CLIPS), classes)
    for name in "abc":
        difference = means[label == name].mean(axis=0) - means[label != name].mean(axis=0)
        np.testing.assert_allclose(scores.loc[name], difference / means.std(axis=0), rtol=1e-10)


def test_a_class_counts_once_whatever_its_clips_and_an_atoms_level():
    means = np.random.default_rng(0).random((6, 4))
    label = np.array([*"aabbcc"])
    scores = atoms.group_scores(*spread_out(means, label, [1] * 6))
    more = atoms.group_scores(*spread_out(means * [1, 10, 0.1, 3], label, [1, 5, 2, 9, 1, 4]))
    np.testing.assert_allclose(scores, more)


def spread_out(means, label, numbers):
    """Return use, group and classes with so many equal clips a class."""
    return tuple(np.repeat(each, numbers, axis=0) for each in (means, label, np.arange(len(means))))


# ------------------------------------------------------------------------------- significance


def z_scores(use, label):
    """Compute differences of means over their deviation under a deal, by loops."""
    rows = []
    for name in np.unique(label):
        inside = label == name
        n, m = inside.sum(), (~inside).sum()
        difference = use[inside].mean(axis=0) - use[~inside].mean(axis=0)
        rows.append(difference / np.maximum(use.std(axis=0), 1e-12) / np.sqrt(1 / n + 1 / m))
    return np.abs(np.array(rows))


def p_by_enumeration(use, label):
    """Compute the p-values from all the ways of dealing the groups out to the classes."""
    dealt = set(itertools.permutations(label))
    largest = [z_scores(use, np.array(names)).max() for names in dealt]
    return np.mean(np.array(largest)[:, None, None] >= z_scores(use, label) - 1e-9, axis=0)


@pytest.mark.parametrize("label", ["aaabbb", "aabbcc", "aabbbccc"])
def test_p_values_are_those_of_all_deals_over_classes(label):
    label, seen = np.array([*label]), set()
    for seed in range(5):
        # few values, so that different draws reach the same score but for rounding
        means = np.random.default_rng(seed).choice([0.1, 0.3, 0.7], size=(len(label), 3))
        means[label == label[-1], 1] += 0.2 * seed
        use, classes = of_classes(means, spread=0.5)
        p = atoms.significance(use, np.repeat(label, CLIPS), classes, n_draws=4000)
        # a share of 4000 random draws has a deviation of at most 0.5 / sqrt(4000) = 0.008
        expected = p_by_enumeration(means, label)
        np.testing.assert_allclose(p, expected, atol=4 * 0.008)
        seen.update(expected.ravel())
    assert len(seen) > 4  # a comparison of ones would say little


def test_under_the_null_the_least_p_value_is_uniform():
    n_classes, n_sets, least = 24, 200, []
    for seed in range(n_sets):
        rng = np.random.default_rng(seed)
        means = rng.exponential(size=(n_classes, 8)) ** 2
        means[:, 4:] = means[:, :4] + 0.3 * means[:, 4:]  # atoms that go together
        use, classes = of_classes(means, spread=0.2, seed=seed)
        group = np.repeat(rng.permutation([*"aabc" * 6]), CLIPS)
        p = atoms.significance(use, group, classes, n_draws=99, seed=seed)
        least.append(p.to_numpy().min())
    # p lies on 0.01 ... 1; a binomial count leaves these limits once in a thousand cases
    for level in (0.05, 0.25, 0.5):
        low, high = scipy.stats.binom.interval(0.999, n_sets, level)
        assert low <= np.sum(np.array(least) <= level + 1e-9) <= high


def test_classes_that_differ_make_no_group_however_many_their_clips_and_recordings():
    means = np.random.default_rng(1).random((8, 20))
    use, classes = of_classes(means, clips=40, spread=0.1)
    group = np.repeat([*"aaaabbbb"], 40)
    # clip for clip the difference is beyond doubt
    assert scipy.stats.ttest_ind(use[group == "a"], use[group == "b"]).pvalue.min() < 1e-12
    assert atoms.significance(use, group, classes).to_numpy().min() > 0.05


def test_a_planted_effect_is_found_and_nothing_else():
    rng = np.random.default_rng(0)
    label = np.repeat([*"abcd"], 6)
    means = rng.exponential(size=(24, 30))
    means[label == "b", 7] += 8
    means[label == "c", 11] *= 0.3
    use, classes = of_classes(means, spread=0.1)
    p = atoms.significance(use, np.repeat(label, CLIPS), classes, n_draws=500)
    assert p.loc["b", 7] == 1 / 501  # the least there is
    assert list(p.columns[(p < 0.05).any()]) == [7]


def test_an_atom_that_never_varies_says_nothing_although_its_mean_is_rounded():
    means = np.full((10, 2), 0.1)
    means[:5, 0] = np.linspace(1, 2, 5)
    use, classes = of_classes(means)
    assert use[:, 1].std() > 0  # the rounding
    p = atoms.significance(use, np.repeat([*"aaaaabbbbb"], CLIPS), classes, n_draws=200)
    assert p.loc["a", 0] < 0.05
    np.testing.assert_array_equal(p[1], 1)


def test_the_seed_decides_and_inputs_stay_as_they_are():
    use, classes = of_classes(np.random.default_rng(2).random((9, 4)), spread=0.1)
    group = np.repeat([*"aaabbbccc"], CLIPS)
    before = use.copy(), group.copy(), classes.copy()
    p = atoms.significance(use, group, classes)
    pd.testing.assert_frame_equal(p, atoms.significance(use, group, classes))
    assert (p != atoms.significance(use, group, classes, seed=1)).to_numpy().any()
    for array, old in zip((use, group, classes), before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_one_group_alone_and_classes_of_two_groups_are_refused():
    group = np.array(["a", "a", np.nan], dtype=object)
    for function in (atoms.group_scores, atoms.significance):
        with pytest.raises(ValueError, match=r"holds 1 group\(s\), expected at least 2"):
            function(np.ones((3, 2)), group, np.arange(3))
        with pytest.raises(ValueError, match="class 0 belongs to several groups; groups are sets"):
            function(np.ones((3, 2)), np.array([*"aab"]), np.zeros(3, int))


# --------------------------------------------------------------------------- how small p can get


@pytest.mark.parametrize("label", ["aabbb", "aabb", "aabbcc", "abbccc", "aabbbcc", "abcd"])
def test_least_p_is_what_all_deals_leave_to_the_clearest_effect(label):
    label = np.array([*label])
    least = atoms.least_p(label, np.arange(len(label)))
    rng = np.random.default_rng(0)
    for name in np.unique(label):
        means = (label == name).astype(float)[:, None] + 1e-3 * rng.random((len(label), 1))
        found = p_by_enumeration(means, label)[[*np.unique(label)].index(name), 0]
        assert found == pytest.approx(least[name])


def test_groups_of_one_class_each_can_show_nothing():
    label = np.repeat([*"abcde"], CLIPS)
    use, classes = of_classes(np.eye(5), spread=0.01)
    assert (atoms.least_p(label, classes) == 1).all()
    assert (atoms.significance(use, label, classes) == 1).to_numpy().all()


def test_verdict_says_what_passed_and_whether_anything_could():
    p = pd.DataFrame([[0.01, 0.02], [0.5, 0.04]], ["a", "b"])
    able, unable = pd.Series([0.01, 0.01], ["a", "b"]), pd.Series([0.2, 0.2], ["a", "b"])
    assert atoms.verdict(p, able) == "3 of 4 pairs of atom and group pass"
    assert atoms.verdict(p + 0.1, able).endswith("though with these classes any group could")
    some = pd.Series([0.2, 0.01], ["a", "b"])
    assert atoms.verdict(p + 0.1, some).endswith("with these classes 1 of the 2 groups could")
    assert atoms.verdict(p + 0.1, unable).endswith("and with so few classes none could")


def test_passing_counts_trained_and_untrained():
    label = np.repeat([*"abcd"], 6)
    means = np.random.default_rng(0).exponential(size=(24, 30))
    planted = means.copy()
    planted[label == "b", 7] += 8
    uses = [of_classes(each, spread=0.1)[0] for each in (planted, means, means[::-1])]
    classes, group = np.repeat(np.arange(24), CLIPS), np.repeat(label, CLIPS)
    found = atoms.passing(uses, group, classes)
    assert found["pairs"] == 120 and found["trained"] >= 1
    assert found["untrained, least"] == found["untrained, most"] == 0
    assert found["least p possible"] == pytest.approx(4 / scipy.special.comb(24, 6))


# ----------------------------------------------------------------------- sources and templates


@pytest.fixture(scope="module")
def front_end():
    return LogMel(get_profile("demo").front_end)


@pytest.fixture(scope="module")
def templates(front_end):
    return atoms.source_templates(front_end)


@pytest.fixture(scope="module")
def rendered(front_end):
    """Return the mean mel magnitude of 24 s of every source, (mel, sources)."""
    settings = front_end.settings
    columns = []
    for name in demo_sources.SOURCES:
        rng = np.random.default_rng(0)
        waves = [
            demo_sources.render_source(name, settings.n_samples, settings.sr, rng) for _ in range(8)
        ]
        power = front_end.mel_power(torch.from_numpy(np.stack(waves)).float())
        columns.append(power.sqrt().mean(dim=(0, 2)).double().numpy())
    return np.stack(columns, axis=1)


def test_templates_are_spectra_of_unit_norm(templates):
    assert list(templates) == list(demo_sources.SOURCES)
    assert templates.shape == (64, 12) and (templates >= 0).all(axis=None)
    np.testing.assert_allclose(np.linalg.norm(templates, axis=0), 1, rtol=1e-12)
    # the whistle's line, 2300 Hz, and the cluster from 4300 to 4902 Hz; bands are < 150 Hz apart
    assert templates.whistle.idxmax() == pytest.approx(2300, abs=75)
    assert 4300 - 150 < templates.insects.idxmax() < 4902 + 150


def test_templates_are_what_rendered_sources_show(templates, rendered):
    unit = rendered / np.linalg.norm(rendered, axis=0)
    cosine = templates.to_numpy().T @ unit
    # about 0.9995 remains after the chance of 24 s and the mean of a root instead of the root of
    # a mean; hum falls below 0.99 with lines as narrow as the source's, or wider than the window's
    assert cosine.diagonal().min() > 0.995
    assert (cosine.argmax(axis=0) == np.arange(12)).all()


# -------------------------------------------------------------------------------------- match


def test_match_finds_every_rendered_source_among_other_atoms(templates, rendered):
    rng = np.random.default_rng(3)
    w = np.concatenate([rendered, rng.random((64, 8)), np.zeros((64, 2))], axis=1)
    order = rng.permutation(22)
    found = atoms.match(w[:, order] * rng.uniform(0.1, 10, 22), templates)
    assert list(found.index) == list(templates)
    assert (order[found.atom] == np.arange(12)).all()
    assert (found.cosine > 0.995).all()  # as above: the level of an atom does not count


def test_match_recovers_a_planted_order_from_noise():
    rng = np.random.default_rng(4)
    templates = pd.DataFrame(rng.random((64, 12)) ** 4)
    order = rng.permutation(20)
    planted = np.concatenate([templates, rng.random((64, 8)) ** 4], axis=1)
    w = (planted + 0.1 * rng.random((64, 20)))[:, order]
    before = w.copy(), templates.copy()
    found = atoms.match(w, templates)
    assert (order[found.atom] == np.arange(12)).all()
    expected = [
        w[:, atom] @ templates[k] / np.linalg.norm(w[:, atom]) / np.linalg.norm(templates[k])
        for k, atom in enumerate(found.atom)
    ]
    np.testing.assert_allclose(found.cosine, expected, rtol=1e-12)
    np.testing.assert_array_equal(w, before[0])
    pd.testing.assert_frame_equal(templates, before[1])


def test_match_maximises_the_sum_not_one_pair():
    # "both" is nearest to atom 0 (0.99), but "low" has no other
    templates = pd.DataFrame({"both": [1.0, 1.0], "low": [1.0, 0.0]})
    w = np.array([[4.0, 0.0], [3.0, 1.0]])
    found = atoms.match(w, templates)
    assert found.atom.to_dict() == {"both": 1, "low": 0}
    np.testing.assert_allclose(found.cosine, [0.5**0.5, 0.8])


def test_match_gives_silent_atoms_only_where_nothing_else_is_left_and_no_atom_twice():
    templates = pd.DataFrame({"low": [1.0, 1, 0], "high": [0, 1.0, 1], "top": [0, 0, 1.0]})
    w = np.array([[0.0, 3, 3, 0], [0, 3, 3, 0], [0, 0, 0, 0]])  # 1 and 2 tie, 0 and 3 are silent
    found = atoms.match(w, templates)
    assert set(found.atom[["low", "high"]]) == {1, 2} and found.atom["top"] in (0, 3)
    np.testing.assert_allclose(found.cosine, [1, 0.5, 0])
    assert found.cosine["top"] == 0


def test_match_refuses_other_bands_and_too_few_atoms(templates):
    with pytest.raises(ValueError, match="w has 32 bands and templates 64; make the templates"):
        atoms.match(np.ones((32, 20)), templates)
    with pytest.raises(ValueError, match="w has 11 atoms, fewer than the 12 templates; use a"):
        atoms.match(np.ones((64, 11)), templates)


def test_used_atoms_reach_a_hundredth_of_the_highest_weight():
    w = np.array([[0.0, 5.0, 0.04, 0.05], [0.0, 1.0, 0.0, 0.01]])
    assert atoms.used(w).tolist() == [False, True, False, True]
