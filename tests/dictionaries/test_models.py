"""V ~ W H: the statistics, the exact solver against SciPy and scikit-learn, models and fits."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize
import torch
from sklearn.decomposition import non_negative_factorization
from torch import nn

from esc_lib import config
from esc_lib.dictionaries import fitting, models, solvers
from esc_lib.dictionaries import statistics as sums
from esc_lib.dictionaries.models import (
    MODELS,
    LinearNoBiasSoftplus,
    MelBasisTransform,
    MelConstrainedLinear,
)
from esc_lib.dictionaries.statistics import Statistics

DEFAULTS = config.Dictionaries()
SHORT = replace(DEFAULTS, epochs=20, trace_every=10)
by_model = pytest.mark.parametrize("model_class", MODELS, ids=lambda c: c.__name__)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Use one thread: the matrices are too small to share."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def problem(seed=0, n_freq=24, n_atoms=6, noise=0.2, rank=None):
    """Return V (6, freq, 20) and H (6, atoms, 20); `rank` makes the rows of H nearly dependent."""
    g = generator(seed)
    h = torch.rand(6, n_atoms, 20, generator=g).pow(3)
    if rank:
        mixed = torch.rand(n_atoms, rank, generator=g).pow(4)
        h = mixed @ torch.rand(6, rank, 20, generator=g).pow(3) + 0.02 * h
    planted = torch.rand(n_freq, n_atoms, generator=g).pow(6)
    v = planted @ h
    v = v + noise * v.mean() * torch.rand(v.shape, generator=g)
    return v / v.amax(dim=(1, 2), keepdim=True), h


def wide(values):
    """Return (clips, rows, frames) as float64 array (rows, clips x frames)."""
    return values.double().permute(1, 0, 2).flatten(1).numpy()


def squared_error(v, w, h):
    """Compute ||V - W H||^2 / ||V||^2 from the matrices themselves."""
    v, h, w = wide(v), wide(h), np.asarray(w)
    return ((v - w @ h) ** 2).sum() / (v**2).sum()


@pytest.fixture(scope="module")
def small():
    """Return V, H and their statistics with H scaled, as `fit_layer` scales it."""
    v, h = problem()
    raw = Statistics.of(v, h)
    scale = sums.atom_scale(raw)
    return v, h.double() * scale[:, None], raw.scaled(scale)


@pytest.fixture(scope="module")
def fitted(small):
    """Return a Trace of each model under the default settings."""
    _, _, statistics = small
    return {
        model_class: fitting.fit(model_class(statistics, generator()), statistics, DEFAULTS)
        for model_class in MODELS
    }


@pytest.fixture(scope="module")
def optimum(small):
    return solvers.solve_exact(small[2])


# --------------------------------------------------------------------------------- statistics


def test_statistics_are_sums_over_all_frames_whatever_the_batches():
    v, h = problem()
    first, second, third = (Statistics.of(v[a:b], h[a:b]) for a, b in ((0, 1), (1, 4), (4, 6)))
    statistics = first + second + third
    v_all, h_all = wide(v), wide(h)
    np.testing.assert_allclose(statistics.gram, h_all @ h_all.T, rtol=1e-12)
    np.testing.assert_allclose(statistics.cross, v_all @ h_all.T, rtol=1e-12)
    np.testing.assert_allclose(statistics.energy, (v_all**2).sum(), rtol=1e-12)
    np.testing.assert_allclose(statistics.sum_v, v_all.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(statistics.sum_h, h_all.sum(axis=1), rtol=1e-12)
    assert statistics.n_frames == 6 * 20
    assert statistics.gram.dtype == statistics.cross.dtype == torch.float64


def test_statistics_about_an_origin_and_in_another_basis_are_those_of_the_moved_matrices():
    v, h = problem()
    v, h = v.double(), h.double()
    raw = Statistics.of(v, h)
    origin, other = torch.rand(24).double(), torch.rand(6).double()
    basis = torch.linalg.qr(torch.rand(6, 6).double())[0][:, :4]
    moved = Statistics.of(v - origin[:, None], h - other[:, None], signed=True)
    turned = Statistics.of(v, basis.T @ h, signed=True)
    for found, expected in ((raw.about(origin, other), moved), (raw.turned(basis), turned)):
        assert found.n_frames == expected.n_frames
        for name in ("gram", "cross", "energy", "sum_v", "sum_h"):
            torch.testing.assert_close(
                getattr(found, name), getattr(expected, name), rtol=1e-10, atol=1e-10
            )


def test_signed_values_are_asked_for_and_still_have_to_be_finite():
    v, h = problem()
    with pytest.raises(ValueError, match="v holds negative or non-finite"):
        Statistics.of(-v, h)
    assert Statistics.of(-v, h, signed=True).sum_v.max() < 0
    v[0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="v holds negative or non-finite"):
        Statistics.of(v, h, signed=True)


def test_scaled_equals_the_statistics_of_scaled_h():
    v, h = problem()
    scale = torch.tensor([0.0, 0.5, 1.0, 2.0, 10.0, 1e-3], dtype=torch.float64)
    raw = Statistics.of(v, h)
    kept = raw.gram.clone()
    scaled, expected = raw.scaled(scale), Statistics.of(v, h.double() * scale[:, None])
    for name in ("gram", "cross", "energy", "sum_v", "sum_h"):
        torch.testing.assert_close(
            getattr(scaled, name), getattr(expected, name), rtol=1e-12, atol=0
        )
    assert scaled.n_frames == expected.n_frames
    assert torch.equal(raw.gram, kept)


def test_squared_error_equals_that_of_the_matrices(small):
    v, h, statistics = small
    for w in (torch.zeros(24, 6), torch.rand(24, 6, generator=generator(1))):
        w = w.double()
        expected = squared_error(v, w, h)
        assert float(sums.squared_error(w, statistics)) == pytest.approx(expected, rel=1e-9)
        assert sums.relative_error(w, statistics) == pytest.approx(expected**0.5, rel=1e-9)


def test_relative_error_of_a_perfect_fit_is_zero_and_no_nan():
    h = torch.rand(6, 6, 20, generator=generator(3)).double()
    planted = torch.rand(24, 6, generator=generator(4)).double()
    statistics = Statistics.of(planted @ h, h)
    assert sums.relative_error(planted, statistics) < 1e-6  # 1 - 1 in float64, then root


def test_atom_scale_gives_all_atoms_one_rms_and_leaves_a_dead_one_at_zero():
    v, h = problem()
    h = h * 10 ** torch.linspace(-3, 3, 6)[:, None]
    h[:, 2] = 0
    scale = sums.atom_scale(Statistics.of(v, h))
    rms = (h.double() * scale[:, None]).square().mean(dim=(0, 2)).sqrt()
    alive = torch.arange(6) != 2
    torch.testing.assert_close(rms[alive], rms[0].expand(5), rtol=1e-9, atol=0)
    assert scale[2] == 0 and torch.isfinite(scale).all() and (scale[alive] > 0).all()


def test_atom_scale_puts_w_of_one_half_at_the_energy_of_v():
    v, _ = problem()
    h = torch.rand(6, 1, 20, generator=generator(5)).expand(6, 4, 20)  # all atoms in step
    raw = Statistics.of(v, h)
    scaled = raw.scaled(sums.atom_scale(raw))
    half = torch.full((24, 4), 0.5, dtype=torch.float64)
    assert float(((half @ scaled.gram) * half).sum()) == pytest.approx(float(raw.energy), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "value"), [("v", -1e-3), ("v", math.nan), ("h", -1e-3), ("h", math.inf)]
)
def test_negative_and_non_finite_values_are_refused(name, value):
    v, h = problem()
    {"v": v, "h": h}[name][3, 2, 1] = value
    with pytest.raises(ValueError, match=f"Statistics.of: {name} holds negative or non-finite"):
        Statistics.of(v, h)


@pytest.mark.parametrize("cut", [np.s_[:5], np.s_[:, :, :19]], ids=["clips", "frames"])
def test_v_and_h_of_other_clips_or_frames_are_refused(cut):
    v, h = problem()
    with pytest.raises(ValueError, match=r"v \(6, 24, 20\) and h .* differ in clips or frames"):
        Statistics.of(v, h[cut])


# -------------------------------------------------------------------------------- exact solver


def test_exact_solution_equals_nnls_row_by_row(small, optimum):
    v, h, statistics = small
    rows = [scipy.optimize.nnls(wide(h).T, row)[0] for row in wide(v)]
    best = squared_error(v, np.stack(rows), h)
    assert (optimum >= 0).all() and (optimum == 0).any()  # the constraint is at work
    assert squared_error(v, optimum, h) == pytest.approx(best, rel=1e-6)
    np.testing.assert_allclose(optimum, np.stack(rows), atol=1e-9)


@pytest.mark.parametrize("scaled", [False, True])
def test_exact_solution_stays_near_nnls_where_atoms_nearly_depend_on_each_other(scaled):
    v, h = problem(n_atoms=40, rank=5)
    statistics = Statistics.of(v, h)
    assert torch.linalg.cond(statistics.gram) > 1e5
    if scaled:
        statistics = statistics.scaled(sums.atom_scale(statistics))
    best = sum(scipy.optimize.nnls(wide(h).T, row)[1] ** 2 for row in wide(v)) / statistics.energy
    w = solvers.solve_exact(statistics)
    assert abs(sums.squared_error(w, statistics) - best) < 1e-9


def test_exact_solution_equals_scikit_learn(small, optimum):
    v, h, _ = small
    # scikit-learn: X ~ W H, H fixed; its samples are our bands, its features our frames
    w, _, _ = non_negative_factorization(
        wide(v), H=wide(h), n_components=6, update_H=False, init="random", solver="cd",
        beta_loss="frobenius", alpha_W=0.0, tol=1e-10, max_iter=10_000, random_state=0,
    )  # fmt: skip
    assert squared_error(v, optimum, h) == pytest.approx(squared_error(v, w, h), rel=1e-3)


def test_planted_dictionary_is_recovered():
    h = torch.rand(6, 5, 20, generator=generator(6)).double()
    planted = torch.rand(24, 5, generator=generator(7)).double().pow(6)
    planted[planted < 0.05] = 0
    found = solvers.solve_exact(Statistics.of(planted @ h, h))
    cosine = torch.nn.functional.cosine_similarity(found, planted, dim=0)
    assert cosine.min() > 0.999


def test_exact_solution_of_dead_atoms_is_zero_there():
    v, h = problem()
    h[:, 4] = 0
    w = solvers.solve_exact(Statistics.of(v, h))
    assert torch.isfinite(w).all() and not w[:, 4].any() and w[:, 0].any()


# ---------------------------------------------------------------------------- the three models


@by_model
def test_w_is_not_negative_and_finite_before_and_after_the_fit(small, fitted, model_class):
    for w in (model_class(small[2], generator()).dictionary(), fitted[model_class].snapshots):
        w = torch.as_tensor(w)
        assert torch.isfinite(w).all() and (w >= 0).all() and (w > 0).any()
    assert fitted[model_class].model.dictionary().dtype == torch.float64


@by_model
def test_no_model_beats_the_optimum(small, fitted, optimum, model_class):
    least = sums.relative_error(optimum, small[2])
    assert (fitted[model_class].errors >= least - 1e-6).all()


def test_free_dictionary_ends_within_two_percent_of_the_optimum(small, fitted, optimum):
    least = sums.relative_error(optimum, small[2])
    assert fitted[LinearNoBiasSoftplus].errors[-1] < 1.02 * least


@by_model
def test_error_falls(fitted, model_class):
    errors = fitted[model_class].errors
    assert len(errors) == DEFAULTS.epochs
    assert errors[-1] < 0.995 * errors[0]  # the fixed basis has little to gain
    assert errors[-1] < errors.min() + 1e-4
    assert np.diff(errors).max() < 5e-3  # Adam may step over a kink of the triangles
    assert np.diff(errors[19::20]).max() < 1e-6


@by_model
def test_trace_holds_every_twentieth_epoch_and_ends_with_the_model(small, fitted, model_class):
    trace = fitted[model_class]
    assert trace.epochs == list(range(20, 201, 20))
    assert trace.snapshots.shape == (10, 24, 6)
    np.testing.assert_array_equal(
        trace.snapshots[-1], trace.model.dictionary().detach().float().numpy()
    )
    error = sums.relative_error(trace.model.dictionary().detach(), small[2])
    assert trace.errors[-1] == error


@pytest.mark.parametrize(("epochs", "expected"), [(5, [5]), (15, [10, 15])])
def test_trace_ends_with_the_last_epoch_also_off_the_grid(small, epochs, expected):
    settings = replace(DEFAULTS, epochs=epochs, trace_every=10)
    trace = fitting.fit(MelBasisTransform(small[2], generator()), small[2], settings)
    assert trace.epochs == expected
    np.testing.assert_array_equal(
        trace.snapshots[-1], trace.model.dictionary().detach().float().numpy()
    )


@by_model
def test_same_seed_gives_the_same_fit(small, model_class):
    first, again, other = (
        fitting.fit(model_class(small[2], generator(seed)), small[2], SHORT).snapshots
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@by_model
def test_gradient_of_the_loss_is_right(small, model_class):
    _, _, statistics = small
    model = model_class(statistics, generator())
    names = [name for name, _ in model.named_parameters()]

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self):
            w = self.model.dictionary()
            penalty = fitting.smoothness_penalty(w, statistics)
            return sums.squared_error(w, statistics) + 0.1 * penalty

    def loss(*values):
        parameters = {f"model.{n}": value for n, value in zip(names, values, strict=True)}
        return torch.func.functional_call(Loss(), parameters, ())

    values = [
        p.detach() + 0.3 * torch.randn(p.shape, generator=generator(8), dtype=torch.float64)
        for p in model.parameters()
    ]
    assert torch.autograd.gradcheck(loss, [value.requires_grad_() for value in values])


def test_a_dictionary_without_a_form_says_so():
    with pytest.raises(TypeError, match="Dictionary does not define a dictionary; use a variant"):
        models.Dictionary().dictionary()


# ------------------------------------------------------------------- triangles, fixed Gaussians

EXTREME = [-1e4, -40.0, -3.0, 0.0, 3.0, 40.0, 1e4]


@pytest.mark.parametrize("n_freq", [2, 8, 24, 128])
def test_triangles_stay_inside_the_axis_and_never_vanish(n_freq):
    grid = torch.cartesian_prod(*[torch.tensor(EXTREME, dtype=torch.float64)] * 2)
    grid = torch.cat([grid, 4 * torch.randn(200, 2, generator=generator(9)).double()])
    nothing = Statistics.of(torch.zeros(1, n_freq, 1), torch.zeros(1, len(grid), 1))
    model = MelConstrainedLinear(nothing, generator())
    with torch.no_grad():
        model.width_logit.copy_(grid[:, 0])
        model.centre_logit.copy_(grid[:, 1])
        gain = nn.functional.softplus(model.gain_logit)
        width, centre, w = model.half_width(), model.centre(), model.dictionary()
    rounding = 1e-12 * n_freq
    assert (width >= 1).all() and (width <= (n_freq + 1) / 2 + rounding).all()
    assert (centre - width >= -1 - rounding).all()
    assert (centre + width <= n_freq + rounding).all()
    assert torch.isfinite(w).all() and (w >= 0).all()
    assert (w.amax(dim=0) >= gain / 2 - rounding).all()


@pytest.mark.parametrize("n_freq", [4, 8, 9, 24, 64, 128])
def test_triangles_start_finite_and_can_move_on_any_axis(n_freq):
    v, h = problem(n_freq=n_freq)
    statistics = Statistics.of(v, h)
    model = MelConstrainedLinear(statistics, generator())
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    sums.squared_error(model.dictionary(), statistics).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    assert all(parameter.grad.any() for parameter in model.parameters())


def test_triangles_start_where_their_channel_is_most_active():
    bands = torch.tensor([6, 11, 17])
    h = torch.eye(3).repeat(2, 1, 4)  # (clips, atoms, frames): one atom at a time
    v = 0.1 * torch.ones(2, 24, 12)
    v[:, 2] += 5  # loud in every frame, so it tells no atom from the others
    for atom, band in enumerate(bands):
        v[:, band] += h[:, atom]
    model = MelConstrainedLinear(Statistics.of(v, h), generator())
    torch.testing.assert_close(model.centre().detach(), bands.double())


def test_triangles_are_triangles(fitted):
    model = fitted[MelConstrainedLinear].model
    with torch.no_grad():
        rows = zip(model.centre(), model.half_width(), model.gain_logit, strict=True)
        expected = [
            [math.log1p(math.exp(a)) * max(0, 1 - abs(f - c) / b) for f in range(24)]
            for c, b, a in ((float(c), float(b), float(a)) for c, b, a in rows)
        ]
        np.testing.assert_allclose(model.dictionary().T, expected, atol=1e-12)


def test_of_the_gaussians_only_the_heights_are_learned(small):
    _, _, statistics = small
    model = MelBasisTransform(statistics, generator())
    assert [name for name, _ in model.named_parameters()] == ["scale_logit"]
    start, basis = model.dictionary().detach(), model.basis.clone()
    fitting.fit(model, statistics, SHORT)
    assert torch.equal(model.basis, basis)
    ratio = model.dictionary().detach() / start
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))  # one factor per atom
    assert (ratio[0] - 1).abs().max() > 0.05  # which did move
    peaks = torch.linspace(0, 23, 6).round().long()
    assert torch.equal(basis.argmax(dim=0), peaks)


# ------------------------------------------------------------------------------------ smoothness


def test_smoothness_penalty_is_zero_for_flat_atoms_and_right_for_one_step(small):
    _, _, statistics = small
    flat = torch.rand(1, 6, generator=generator()).double().expand(24, 6)
    assert fitting.smoothness_penalty(flat, statistics) == 0
    step = torch.zeros(24, 6, dtype=torch.float64)
    step[10:, 2] = 3
    expected = 9 * statistics.gram[2, 2] / statistics.energy
    torch.testing.assert_close(fitting.smoothness_penalty(step, statistics), expected)


def test_smoothness_penalty_does_not_change_when_w_and_h_trade_a_factor(small):
    v, h, statistics = small
    w = torch.rand(24, 6, generator=generator(10)).double()
    factor = torch.tensor([0.01, 0.5, 1, 2, 30, 400], dtype=torch.float64)
    traded = Statistics.of(v, h * factor[:, None])
    torch.testing.assert_close(
        fitting.smoothness_penalty(w / factor, traded),
        fitting.smoothness_penalty(w, statistics),
    )
    # nor with the level of V, if W follows it
    torch.testing.assert_close(
        fitting.smoothness_penalty(7 * w, Statistics.of(7 * v, h)),
        fitting.smoothness_penalty(w, statistics),
    )


def test_more_smoothness_gives_smaller_steps_between_bands(small):
    _, _, statistics = small
    penalties, errors = [], []
    for smoothness in (0.0, 1e-2, 1e-1, 1.0):
        settings = replace(DEFAULTS, epochs=60)
        model = LinearNoBiasSoftplus(statistics, generator())
        trace = fitting.fit(model, statistics, settings, smoothness=smoothness)
        w = model.dictionary().detach()
        penalties.append(float(fitting.smoothness_penalty(w, statistics)))
        errors.append(trace.errors[-1])
    assert (np.diff(penalties) < 0).all() and penalties[-1] < penalties[0] / 5
    assert (np.diff(errors) > 0).all()  # what it costs


# -------------------------------------------------------------------------- all of one layer


def test_fit_layer_scales_fits_and_solves():
    v, h = problem()
    raw = Statistics.of(v, h)
    fits = fitting.fit_layer(raw, SHORT, seed=0)
    assert list(fits.traces) == [model_class.__name__ for model_class in MODELS]
    assert list(fits.dictionaries()) == [*fits.traces, "optimum"]
    errors = fits.errors(raw)
    for name, w in fits.dictionaries().items():
        expected = squared_error(v, w, h.double() * fits.scale[:, None]) ** 0.5
        assert errors[name] == pytest.approx(expected, rel=1e-9)
    assert min(errors, key=errors.get) == "optimum"
    held_out = Statistics.of(*problem(seed=1))
    assert set(fits.errors(held_out)) == set(errors)
    again = fitting.fit_layer(raw, SHORT, seed=0, models=[MelBasisTransform])
    np.testing.assert_array_equal(
        again.traces["MelBasisTransform"].snapshots, fits.traces["MelBasisTransform"].snapshots
    )
    only = fitting.fit_layer(raw, SHORT, seed=0, models=())
    assert only.errors(raw) == {"optimum": pytest.approx(errors["optimum"], rel=1e-12)}
