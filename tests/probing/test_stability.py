"""Units of two networks in pairs: a planted deal is found, chance sets the bar."""

import numpy as np
import pytest

from esc_lib.probing import stability


def codes(seed, clips=10, frames=15, units=20):
    return np.random.default_rng(seed).normal(size=(clips, frames, units))


def test_a_dealt_network_is_matched_unit_by_unit():
    one, order = codes(0), np.random.default_rng(1).permutation(20)
    other = 3 * one[..., order] + 0.1 * codes(2)
    first, second = stability.match(one, other)
    assert (order[second] == first).all()


def test_units_that_never_vary_have_no_partner():
    one, other = codes(0), codes(1)
    one[..., [2, 5]] = 0
    first, second = stability.match(one, other)
    assert len(first) == len(second) == 18 and not {2, 5} & set(first)


def test_correlations_count_clips_as_often_as_they_were_drawn():
    one, other = codes(0), codes(0) + codes(1)
    pairs = stability.match(one, other)
    draws = np.array([[1] * 10, [0, 3, 1, 0, 0, 2, 1, 1, 1, 1]])
    found = stability.correlations(one, other, pairs, draws)
    for drawn, row in zip(draws, found):
        again = [np.repeat(each, drawn, axis=0).reshape(-1, 20) for each in (one, other)]
        by_hand = [
            np.corrcoef(again[0][:, a], again[1][:, b])[0, 1] for a, b in zip(*pairs, strict=True)
        ]
        np.testing.assert_allclose(row, by_hand)


def test_half_of_the_units_are_found_again():
    one, other = codes(0), codes(1)
    other[..., :10] = one[..., 10:] + 0.2 * codes(2)[..., :10]
    untrained = [codes(seed) for seed in range(10, 14)]
    a, b, c, d = untrained
    draws = np.random.default_rng(0).multinomial(10, np.full(10, 0.1), 30)
    table = stability.stable_share((one, other), [(a, b), (c, d)], [(a, c), (b, d)], draws)
    assert len(table) == 31 and table.units.unique().tolist() == [20]
    assert table.trained[0] == pytest.approx(0.5, abs=0.05)
    assert table.untrained[0] < 0.1
    bars = [stability.correlations(x, y, stability.match(x, y), np.ones((1, 10)))
            for x, y in ((a, b), (c, d))]  # fmt: skip
    assert table.bar[0] == pytest.approx(np.percentile(np.concatenate(bars, axis=1), 99))


def test_networks_on_other_clips_are_refused():
    with pytest.raises(ValueError, match=r"codes of \(10, 15\) and \(9, 15\) clips and frames"):
        stability.match(codes(0), codes(1)[:9])
