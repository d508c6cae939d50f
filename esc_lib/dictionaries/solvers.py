"""Solvers without a constraint but the sign: the best W >= 0, by squared error or a divergence.

V is (clips, freq, frames), H is (clips, atoms, frames), both non-negative; H is given, except in
:func:`free_factorization`.

References
----------
lee1999learning
"""

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from sklearn.decomposition import MiniBatchNMF
from sklearn.exceptions import ConvergenceWarning

from esc_lib.dictionaries.statistics import Statistics, squared_error
from esc_lib.layers.hooks import pool_frames

FLOOR = 1e-4  # divergences look no deeper than 80 dB below a clip's peak, as the front end does
CLIPS = 256  # read at a time where there are more
FRAMES = 8192  # at most, for a factorisation that has to find H too


def solve_exact(statistics: Statistics) -> torch.Tensor:
    """Return the W >= 0 of least squared error, shape (freq, atoms): the yardstick.

    Projected gradient with Nesterov's momentum, restarted when the momentum points uphill. The
    problem is convex. Iteration ends when the relative squared error has fallen by less than 1e-7
    over a hundred iterations.

    References
    ----------
    beck2009fast; odonoghue2015adaptive for the restart.
    """
    gram, cross = statistics.gram, statistics.cross
    step = 1 / torch.linalg.matrix_norm(gram, 2).clamp_min(1e-30)
    w = torch.zeros_like(cross)
    ahead, momentum = w, 1.0
    checked = squared_error(w, statistics)
    for iteration in range(1, 20_001):
        gradient = ahead @ gram - cross  # of half the squared error
        new = (ahead - step * gradient).clamp_min(0)
        if (gradient * (new - w)).sum() > 0:
            momentum = 1.0
        faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / faster * (new - w)
        w, momentum = new, faster
        if iteration % 100 == 0:
            error = squared_error(w, statistics)
            if checked - error < 1e-7:
                break
            checked = error
    return w


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


def free_factorization(v: torch.Tensor, held_out: torch.Tensor, n_atoms: int, seed: int) -> float:
    """Return the relative error on held-out clips of a W that chose its own H.

    W is learned from `v` by non-negative matrix factorisation; on held-out clips W stays and H is
    solved for; of many frames, `FRAMES` are drawn. As many atoms as there are bands, or more, can
    be one atom per band: no error.

    References
    ----------
    lefevre2011online, as scikit-learn's MiniBatchNMF.
    """
    if n_atoms >= v.shape[1]:
        return 0.0
    rng = np.random.default_rng(seed)
    frames, others = (
        rng.permutation(each.transpose(1, 2).flatten(0, 1).double().numpy())[:FRAMES]
        for each in (v, held_out)
    )
    nmf = MiniBatchNMF(n_atoms, batch_size=1024, max_iter=20, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its last digits are not needed
        rebuilt = nmf.fit(frames).transform(others) @ nmf.components_
    return float(np.linalg.norm(others - rebuilt) / np.linalg.norm(others))
