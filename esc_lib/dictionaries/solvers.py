"""Solvers without a constraint but the sign: the best W >= 0, by squared error or a divergence.

V is (clips, freq, frames), H is (clips, atoms, frames), both non-negative; H is given.

References
----------
lee1999learning
"""

from collections.abc import Iterator

import numpy as np
import torch
from scipy.optimize import nnls

from esc_lib.dictionaries.statistics import Statistics
from esc_lib.layers.hooks import pool_frames

FLOOR = 1e-4  # divergences look no deeper than 80 dB below a clip's peak, as the front end does
CLIPS = 256  # read at a time where there are more


def solve_exact(statistics: Statistics) -> torch.Tensor:
    """Return the W >= 0 of least squared error, shape (freq, atoms): the yardstick.

    For each band a problem with as many equations as atoms: with H H^T = R^T R, the error of a row
    w of W is that of R w against R^-T (V H^T), up to a constant. Solved by active sets.

    References
    ----------
    lawson1974solving, as SciPy's nnls.
    """
    power, basis = torch.linalg.eigh(statistics.gram)
    root = power.clamp_min(0).sqrt()
    there = power > 1e-12 * power[-1]  # the rest is rounding, where rows of H depend on each other
    wanted = (statistics.cross @ basis) * torch.where(there, 1 / root.clamp_min(1e-300), 0)
    equations = (basis * root).T.numpy()
    return torch.from_numpy(np.stack([nnls(equations, row)[0] for row in wanted.numpy()]))


def divergence(v: torch.Tensor, estimate: torch.Tensor, beta: float) -> torch.Tensor:
    """Return the mean beta divergence of `estimate` from `v`, any equal shapes, values >= 0.

    Values below `FLOOR` count as `FLOOR`. Beta 2 is half the squared error, 1 Kullback-Leibler, 0
    Itakura-Saito, which sees ratios only: a weak band counts as much as a strong one.

    Raises
    ------
    ValueError : beta is none of the three.

    References
    ----------
    fevotte2011algorithms, equation 1.
    """
    v, estimate = v.clamp_min(FLOOR), estimate.clamp_min(FLOOR)
    if beta == 2:
        return (v - estimate).square().mean() / 2
    if beta == 1:
        return (v * (v / estimate).log() - v + estimate).mean()
    if beta == 0:
        return (v / estimate - (v / estimate).log() - 1).mean()
    raise ValueError(f"divergence: beta={beta}, expected 2, 1 or 0.")


def solve_divergence(
    v: torch.Tensor,
    h: torch.Tensor,
    beta: float,
    *,
    scale: torch.Tensor | None = None,
    n_iterations: int = 300,
) -> torch.Tensor:
    """Return a W >= 0, (freq, atoms), of small beta divergence by multiplicative updates.

    No update makes the divergence larger. For beta 1 the problem is convex in W and the updates
    approach its optimum; for beta 0 it is not, and they approach a stationary point. V is pooled to
    the frames of H, and H multiplied by `scale`, (atoms,), some clips at a time: both may be mapped
    files that are larger than memory.

    References
    ----------
    fevotte2011algorithms, section 4 (majorisation-minimisation).
    """

    def parts() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for some, its in zip(v.split(CLIPS), h.split(CLIPS)):
            pooled = pool_frames(some, h.shape[2]).clamp_min(FLOOR)
            scaled = its if scale is None else its * scale[:, None]
            yield pooled.transpose(0, 1).flatten(1), scaled.transpose(0, 1).flatten(1)

    ready = list(parts()) if len(v) <= CLIPS else None
    power = 1 / (2 - beta) if beta < 1 else 1.0
    means = [
        (float(some.mean()), float(its.sum(dim=0).mean()), some.shape[1])
        for some, its in ready or parts()
    ]
    level, sums, n = np.transpose(means)
    start = np.average(level, weights=n) / np.average(sums, weights=n)
    w = torch.full((v.shape[1], h.shape[1]), float(start), dtype=v.dtype)
    for _ in range(n_iterations):
        wanted, present = torch.zeros(2, *w.shape, dtype=w.dtype)
        for some, its in ready or parts():
            estimate = (w @ its).clamp_min(FLOOR)
            wanted += (some * estimate.pow(beta - 2)) @ its.T
            present += estimate.pow(beta - 1) @ its.T
        w = w * (wanted / present.clamp_min(1e-30)).pow(power)
    return w
