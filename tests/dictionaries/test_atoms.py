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


def test_group_scores_by_hand():
    use = np.array([[1.0, 0, 5], [1, 0, 5], [0, 2, 5], [0, 2, 5], [100, 100, 100]])
    group = np.array(["low", "low", "high", "high", np.nan], dtype=object)
    scores = atoms.group_scores(use, group)
    # means 1 against 0 at deviation 1/2; 0 against 2 at deviation 1; no deviation at all
    assert list(scores.index) == ["high", "low"]
    np.testing.assert_allclose(scores.loc["low"], [2, -2, 0])
    np.testing.assert_allclose(scores.loc["high"], [-2, 2, 0])


def test_group_scores_are_differences_of_means_in_deviations():
    rng = np.random.default_rng(0)
    use, group = rng.exponential(size=(40, 5)), np.repeat(["a", "b", "c"], [5, 12, 23])
    scores = atoms.group_scores(use, group)
    for name in "abc":
        difference = use[group == name].mean(axis=0) - use[group != name].mean(axis=0)
        np.testing.assert_allclose(scores.loc[name], difference / use.std(axis=0), rtol=1e-10)


def test_group_scores_do_not_depend_on_the_atoms_level():
    use = np.random.default_rng(0).random((30, 4))
    group = np.array(["a", "b", "c"] * 10)
    scores = atoms.group_scores(use, group)
    louder = atoms.group_scores(use * [1, 10, 0.1, 3], group)
    np.testing.assert_allclose(scores, louder)


# ------------------------------------------------------------------------------- significance


def p_by_enumeration(use, group, unit):
    """Compute the p-values from all the ways of dealing the groups out to the units."""
    first = [list(unit).index(u) for u in range(max(unit) + 1)]
    dealt = set(itertools.permutations(group[first]))
    largest = [
        atoms.group_scores(use, np.array(names)[unit]).abs().to_numpy().max() for names in dealt
    ]
    observed = atoms.group_scores(use, group).abs().to_numpy()
    return np.mean(np.array(largest)[:, None, None] >= observed - 1e-9, axis=0)


@pytest.mark.parametrize(
    ("group", "unit"),
    [
        pytest.param("aaabbb", [0, 1, 2, 3, 4, 5], id="two groups"),
        pytest.param("aabbcc", [0, 1, 2, 3, 4, 5], id="three groups"),
        pytest.param("aaabbccc", [0, 0, 1, 2, 3, 4, 5, 5], id="recordings of one or two clips"),
    ],
)
def test_p_values_are_those_of_all_permutations(group, unit):
    group, unit = np.array(list(group)), np.array(unit)
    seen = set()
    for seed in range(5):
        # few values, so that different draws reach the same score but for rounding
        use = np.random.default_rng(seed).choice([0.1, 0.3, 0.7], size=(len(group), 3))
        use[group == group[-1], 1] += 0.2 * seed
        expected = p_by_enumeration(use, group, unit)
        p = atoms.significance(use, group, sources=unit, n_draws=4000)
        # a share of 4000 random draws has a deviation of at most 0.5 / sqrt(4000) = 0.008
        np.testing.assert_allclose(p, expected, atol=4 * 0.008)
        seen.update(expected.ravel())
    assert len(seen) > 4  # a comparison of ones would say little


def test_p_values_by_hand():
    use = np.array([[1.0, 5], [1, 5], [0, 5], [0, 5], [9, 9]])
    group = np.array(["low", "low", "high", "high", np.nan], dtype=object)
    p = atoms.significance(use, group, np.arange(5), n_draws=2000)
    scores = atoms.group_scores(use, group)
    assert p.index.equals(scores.index) and p.columns.equals(scores.columns)
    # of the 6 ways to choose two of four clips, this one and its complement separate 1 from 0
    np.testing.assert_allclose(p[0], 1 / 3, atol=4 * (2 / 9 / 2000) ** 0.5)
    np.testing.assert_array_equal(p[1], 1)  # never varies


def test_an_atom_that_never_varies_says_nothing_although_its_mean_is_rounded():
    use = np.full((30, 2), 0.1)
    use[:10, 0] = np.linspace(1, 2, 10)
    assert use[:, 1].std() > 0  # the rounding
    p = atoms.significance(use, np.repeat(["a", "b"], [10, 20]), np.arange(30), n_draws=200)
    np.testing.assert_array_equal(p[0], 1 / 201)
    np.testing.assert_array_equal(p[1], 1)


@pytest.mark.parametrize("clips_per_source", [1, 3])
def test_under_the_null_the_least_p_value_is_uniform(clips_per_source):
    n_sources, n_sets = 24, 200
    least = []
    for seed in range(n_sets):
        rng = np.random.default_rng(seed)
        of_source = rng.exponential(size=(n_sources, 8)) ** 2
        of_source[:, 4:] = of_source[:, :4] + 0.3 * of_source[:, 4:]  # atoms that go together
        use = np.repeat(of_source, clips_per_source, axis=0)
        use += 0.1 * rng.random(use.shape)
        sources = np.repeat(np.arange(n_sources), clips_per_source)
        group = np.repeat(rng.permutation(list("aabc") * 6), clips_per_source)
        p = atoms.significance(use, group, sources, n_draws=99, seed=seed)
        least.append(p.to_numpy().min())
    # p lies on 0.01 ... 1; a binomial count leaves these limits once in a thousand cases
    for level in (0.05, 0.25, 0.5):
        low, high = scipy.stats.binom.interval(0.999, n_sets, level)
        assert low <= np.sum(np.array(least) <= level + 1e-9) <= high


def test_a_planted_effect_is_found_and_nothing_else():
    rng = np.random.default_rng(0)
    group = np.repeat(["a", "b", "c", "d"], 20)
    use = rng.exponential(size=(80, 30))
    use[group == "b", 7] += 3
    use[group == "c", 11] *= 0.3
    p = atoms.significance(use, group, np.arange(80), n_draws=500)
    assert p.loc["b", 7] == 1 / 501  # the least there is
    # b's surplus is a deficit of the others; the weak effect would pass if looked at alone
    assert list(p.columns[(p < 0.05).any()]) == [7]
    assert scipy.stats.ttest_ind(use[group == "c", 11], use[group != "c", 11]).pvalue < 0.01


def recordings(seed=2):
    """Return use, group and sources: eight recordings of ten clips, none tied to its group."""
    rng = np.random.default_rng(seed)
    use = np.repeat(rng.random((8, 2)), 10, axis=0) + 0.02 * rng.random((80, 2))
    return use, np.repeat(["a", "b"], 40), np.repeat(np.arange(8), 10)


def test_clips_of_one_recording_do_not_count_as_independent():
    use, group, sources = recordings()
    assert atoms.significance(use, group, np.arange(80)).to_numpy().min() < 0.01
    # four recordings against four can be dealt out in 70 ways
    assert atoms.significance(use, group, sources).to_numpy().min() > 0.2


def test_a_recording_of_two_groups_counts_as_two():
    use, group, sources = recordings()
    sources[40:50] = sources[0]  # both groups now hold clips of recording 0
    parts = np.array([f"{source} {name}" for source, name in zip(sources, group, strict=True)])
    p = atoms.significance(use, group, sources)
    pd.testing.assert_frame_equal(p, atoms.significance(use, group, parts))
    pd.testing.assert_frame_equal(p, atoms.significance(*recordings()))


def test_the_seed_decides_and_inputs_stay_as_they_are():
    use, group, sources = recordings()
    before = use.copy(), group.copy(), sources.copy()
    p = atoms.significance(use, group, sources)
    pd.testing.assert_frame_equal(p, atoms.significance(use, group, sources))
    other = atoms.significance(use, group, sources, seed=1)
    assert (p != other).to_numpy().any()
    for array, old in zip((use, group, sources), before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_p_values_do_not_depend_on_level_precision_or_names_of_recordings():
    use, group, sources = recordings()
    use = use.astype(np.float32)
    p = atoms.significance(use, group, sources)
    # doubling is exact
    pd.testing.assert_frame_equal(p, atoms.significance(use * [2, 0.25], group, sources))
    pd.testing.assert_frame_equal(p, atoms.significance(use, group, (-sources).astype(str)))


def test_one_group_alone_is_refused():
    group = np.array(["a", "a", np.nan], dtype=object)
    for function, *more in ((atoms.group_scores,), (atoms.significance, np.arange(3))):
        with pytest.raises(ValueError, match=r"holds 1 group\(s\), expected at least 2"):
            function(np.ones((3, 2)), group, *more)


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
