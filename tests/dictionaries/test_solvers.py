"""The exact solver against scikit-learn's multiplicative updates."""

import pytest
import torch
from sklearn.decomposition import non_negative_factorization

from esc_lib.dictionaries import solvers
from esc_lib.dictionaries.statistics import Statistics, relative_error


@pytest.mark.parametrize("seed", range(3))
def test_multiplicative_updates_approach_the_exact_solution_and_do_not_pass_it(seed):
    g = torch.Generator().manual_seed(seed)
    h = torch.rand(5, 4, 30, generator=g).double() ** 2
    v = torch.rand(12, 4, generator=g).double() ** 3 @ h
    v = v * (0.7 + 0.6 * torch.rand(v.shape, generator=g).double()) + 0.01
    statistics = Statistics.of(v, h)
    wide_v, wide_h = (values.transpose(0, 1).flatten(1).numpy() for values in (v, h))
    found, _, _ = non_negative_factorization(
        wide_v, H=wide_h, update_H=False, solver="mu", max_iter=4000, tol=0
    )
    best = relative_error(solvers.solve_exact(statistics), statistics)
    assert best <= relative_error(torch.from_numpy(found), statistics) <= 1.001 * best
