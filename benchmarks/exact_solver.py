"""The best W >= 0 for V ~ W H with H given: scikit-learn, SciPy and ours, to one objective.

Everyone starts from the same V, (freq, frames), and H, (atoms, frames), in float32 in memory;
summing the statistics is part of our time. The problem is convex: all have to reach the same
objective. H is synthetic: channels that share factors, smooth in time, half of them zero after a
ReLU, as a layer of the network gives them.
"""

import sys
from importlib.metadata import version

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import nnls
from sklearn.decomposition import non_negative_factorization

from benchmarks import _timing
from esc_lib.dictionaries.solvers import solve_exact
from esc_lib.dictionaries.statistics import Statistics

SLACK = 1e-3  # an objective may lie this share above the best one
# scikit-learn's default is 1e-4; this is the loosest power of ten that stays within SLACK
TOL = 1e-3
MAX_SWEEPS = 20_000  # its default, 200, is too few for 256 atoms or more


def problem(
    n_freq: int, n_atoms: int, n_frames: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return V and H such that V is near W H for a W with few large entries.

    Returns
    -------
    v : float32 array, shape (freq, frames), >= 0, magnitudes scattered as those of noise are.
    h : float32 array, shape (atoms, frames), >= 0.
    """
    rng = np.random.default_rng(seed)
    n_factors = max(2, n_atoms // 8)
    shared = gaussian_filter1d(rng.standard_normal((n_factors, n_frames)), 3)
    own = gaussian_filter1d(rng.standard_normal((n_atoms, n_frames)), 3)
    mixing = rng.standard_normal((n_atoms, n_factors)) / np.sqrt(n_factors)
    h = np.maximum(mixing @ shared + 0.3 * own, 0)
    w = rng.gamma(0.1, size=(n_freq, n_atoms))
    v = (w @ h) * rng.rayleigh(size=(n_freq, n_frames))
    return v.astype(np.float32), h.astype(np.float32)


def by_scikit_learn(v: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Return W, shape (freq, atoms), by coordinate descent, in float32."""
    w, _, _ = non_negative_factorization(
        v,
        H=h,
        n_components=len(h),
        init="custom",
        update_H=False,
        solver="cd",
        tol=TOL,
        max_iter=MAX_SWEEPS,
    )
    return w


def by_scipy(v: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Return W, shape (freq, atoms), by active sets, one band of V after the other."""
    columns = np.ascontiguousarray(h.T, dtype=np.float64)
    return np.stack([nnls(columns, band)[0] for band in v])


def by_us(v: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Return W, shape (freq, atoms), by active sets on sums over frames."""
    return solve_exact(Statistics.of(torch.from_numpy(v)[None], torch.from_numpy(h)[None])).numpy()


def objective(v: np.ndarray, w: np.ndarray, h: np.ndarray) -> float:
    """Return ||V - W H||^2 / ||V||^2 in float64, frame by frame; lower is better."""
    v, w, h = (np.asarray(values, np.float64) for values in (v, w, h))
    return float(np.square(v - w @ h).sum() / np.square(v).sum())


def main() -> None:
    """Run from the command line."""
    options = _timing.parser(__doc__.partition("\n")[0], repeats=3)
    options.add_argument("--freq", type=_timing.positive, default=128, help="bands of V")
    options.add_argument("--atoms", type=_timing.positive, default=512, help="rows of H")
    options.add_argument(
        "--frames", type=_timing.positive, default=8320, help="columns of V and H; 26 per clip"
    )
    options.add_argument("--nnls", action="store_true", help="SciPy's too: slow, for small sizes")
    arguments = options.parse_args()

    found = _timing.environment() | {"scikit-learn": version("scikit-learn")}
    size = f"{arguments.freq} bands, {arguments.atoms} atoms, {arguments.frames} frames"
    _timing.header(f"W >= 0 of least ||V - W H||^2: {size}", found)
    v, h = problem(arguments.freq, arguments.atoms, arguments.frames)
    solvers = {"scikit-learn": by_scikit_learn}
    if arguments.nnls:
        solvers["SciPy nnls"] = by_scipy
    solvers["ours"] = by_us

    objectives = {}
    for name, solve in solvers.items():  # the warm-up too
        objectives[name] = objective(v, solve(v, h), h)
        print(f"{name}: relative squared error {objectives[name]:.7f}", flush=True)
    print()
    best = min(objectives.values())
    for name, reached in objectives.items():
        if not reached <= (1 + SLACK) * best:
            sys.exit(
                f"exact_solver: {name} ends {reached / best - 1:.2%} above the best objective, "
                f"allowed are {SLACK:.1%}; no times, since it has not solved the problem."
            )

    runs = {name: lambda solve=solve: solve(v, h) for name, solve in solvers.items()}
    seconds = _timing.interleave(runs, arguments.repeats)
    times = {name: _timing.spread(values) for name, values in seconds.items()}
    rows = [
        {
            "contender": name,
            "ratio": times["scikit-learn"]["seconds"] / values["seconds"],
            **values,
            "relative_squared_error": objectives[name],
        }
        for name, values in times.items()
    ]
    _timing.report(arguments, found, rows)


if __name__ == "__main__":
    main()
