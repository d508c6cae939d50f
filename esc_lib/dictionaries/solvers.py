"""Without a constraint but the sign: the W >= 0 of least squared error for a given H."""

import numpy as np
import torch

from esc_lib.dictionaries.statistics import Statistics


def solve_exact(statistics: Statistics) -> torch.Tensor:
    """Return the W >= 0 of least squared error, shape (freq, atoms): the yardstick.

    For each band a problem with as many equations as atoms: with H H^T = R^T R, the error of a row
    w of W is that of R w against R^-T (V H^T), up to a constant. Solved by active sets.

    References
    ----------
    lawson1974solving, as SciPy's nnls.
    """
    from scipy.optimize import nnls  # takes a while to import

    power, basis = torch.linalg.eigh(statistics.gram)
    root = power.clamp_min(0).sqrt()
    there = power > 1e-12 * power[-1]  # the rest is rounding, where rows of H depend on each other
    wanted = (statistics.cross @ basis) * torch.where(there, 1 / root.clamp_min(1e-300), 0)
    equations = (basis * root).T.numpy()
    return torch.from_numpy(np.stack([nnls(equations, row)[0] for row in wanted.numpy()]))
