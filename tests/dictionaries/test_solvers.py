"""Divergences against scikit-learn, and their solver."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import non_negative_factorization
from sklearn.decomposition._nmf import _beta_divergence

from esc_lib.dictionaries import solvers as f
from esc_lib.dictionaries.statistics import Statistics, relative_error


def problem(seed=0, clips=5, n_freq=12, n_atoms=4, n_frames=30):
    g = torch.Generator().manual_seed(seed)
    h = torch.rand(clips, n_atoms, n_frames, generator=g).double() ** 2
    v = torch.rand(n_freq, n_atoms, generator=g).double() ** 3 @ h
    return v * (0.7 + 0.6 * torch.rand(v.shape, generator=g).double()) + 0.01, h


def wide(values):
    return values.transpose(0, 1).flatten(1).numpy()


@pytest.mark.parametrize("beta", [2, 1, 0])
def test_divergence_is_scikit_learns_mean(beta):
    v, h = problem()
    w = torch.rand(12, 4, generator=torch.Generator().manual_seed(1)).double() + 0.1
    expected = _beta_divergence(wide(v), w.numpy(), wide(h), beta) / v.numel()
    assert float(f.divergence(v, w @ h, beta)) == pytest.approx(expected, rel=1e-9)
    assert float(f.divergence(v, v, beta)) == 0


def test_divergence_of_silence_is_finite_and_other_betas_are_refused():
    nothing = torch.zeros(2, 3)
    for beta in (2, 1, 0):
        assert torch.isfinite(f.divergence(torch.ones(2, 3), nothing, beta))
        assert f.divergence(nothing, nothing, beta) == 0
    with pytest.raises(ValueError, match="divergence: beta=3, expected 2, 1 or 0"):
        f.divergence(nothing, nothing, 3)


@pytest.mark.parametrize("beta", [2, 1, 0])
def test_multiplicative_updates_never_make_it_worse_and_reach_scikit_learns(beta):
    v, h = problem()
    steps = [
        float(f.divergence(v, f.solve_divergence(v, h, beta, n_iterations=n) @ h, beta))
        for n in (1, 3, 10, 30, 100, 400)
    ]
    assert (np.diff(steps) <= 1e-12).all()
    if beta == 0:  # not convex, and scikit-learn's updates differ; the fall is what is promised
        assert steps[-1] < 0.2 * steps[0]
        return
    found, _, _ = non_negative_factorization(
        wide(v), H=wide(h), update_H=False, solver="mu", beta_loss=beta, max_iter=4000, tol=0
    )
    best = float(f.divergence(v, torch.from_numpy(found) @ h, beta))
    assert steps[-1] == pytest.approx(best, rel=5e-3)  # 400 updates against 4000


@pytest.mark.parametrize("beta", [2, 1, 0])
def test_updates_may_read_some_clips_at_a_time_scaled_and_pooled(beta, monkeypatch):
    v, h = problem(3)
    fine, scale = v.repeat_interleave(2, dim=2), torch.linspace(0.5, 2, h.shape[1]).to(h)
    expected = f.solve_divergence(v, h * scale[:, None], beta, n_iterations=20)
    assert torch.equal(f.solve_divergence(v, h, beta, scale=scale, n_iterations=20), expected)
    monkeypatch.setattr(f, "CLIPS", 2)
    found = f.solve_divergence(fine, h, beta, scale=scale, n_iterations=20)
    torch.testing.assert_close(found, expected)


def test_updates_with_squared_error_approach_the_exact_solution():
    v, h = problem(3)
    statistics = Statistics.of(v, h)
    best = relative_error(f.solve_exact(statistics), statistics)
    found = relative_error(f.solve_divergence(v, h, 2, n_iterations=2000), statistics)
    assert best <= found <= 1.001 * best
