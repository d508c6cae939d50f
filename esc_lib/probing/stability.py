"""Does training find the same channels again? H of two seeds over the same unseen clips, matched.

Every network follows loudness, so what the loudness of frame and clip explains of H is taken away
first. The bar is what chance reaches: matched pairs of networks that were never trained.
"""

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

BAR = 99  # percentile of the untrained pairs' correlations


def match(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the units of two networks in pairs, so that they correlate most in total.

    Codes are (clips, frames, units), of the same clips; units that never vary have no partner.

    Raises
    ------
    ValueError : the two differ in clips or frames.

    References
    ----------
    kuhn1955hungarian
    """
    if one.shape[:2] != other.shape[:2]:
        raise ValueError(
            f"match: codes of {one.shape[:2]} and {other.shape[:2]} clips and frames; "
            "read both networks on the same clips and layer."
        )
    alive = [np.flatnonzero(each.std(axis=(0, 1)) > 0) for each in (one, other)]
    flat = [each[..., units].reshape(-1, len(units)) for each, units in zip((one, other), alive)]
    standard = [(each - each.mean(axis=0)) / each.std(axis=0) for each in flat]
    first, second = linear_sum_assignment(standard[0].T @ standard[1], maximize=True)
    return alive[0][first], alive[1][second]


def correlations(
    one: np.ndarray, other: np.ndarray, pairs: tuple[np.ndarray, np.ndarray], draws: np.ndarray
) -> np.ndarray:
    """Return the correlation of each pair in each draw of clips, (draws, pairs).

    Draws are how often each clip counts, (draws, clips), as of ``intervals.source_draws``.
    """
    x, y = one[..., pairs[0]], other[..., pairs[1]]
    sums = [each.sum(axis=1) for each in (x, y, x * x, y * y, x * y)]  # (clips, pairs)
    n = draws.sum(axis=1, keepdims=True) * one.shape[1]
    mx, my, xx, yy, xy = (draws @ each / n for each in sums)
    spread = np.sqrt(np.clip((xx - mx**2) * (yy - my**2), 1e-30, None))
    return (xy - mx * my) / spread


Pair = tuple[np.ndarray, np.ndarray]  # level-free codes of two networks


def stable_share(
    trained: Pair, bar: list[Pair], control: list[Pair], draws: np.ndarray
) -> pd.DataFrame:
    """Return the share of matched units above the bar, a row for the clips and each draw of them.

    Parameters
    ----------
    bar, control : pairs of untrained networks: those that set the bar, and others.
    draws : array, shape (draws, clips).

    Returns
    -------
    DataFrame, row 0 the clips as they are: trained and untrained, shares above the bar; bar, a
        correlation; correlation and by_chance, the medians of trained units and of those that set
        the bar; and units, how many have a partner.
    """
    draws = np.concatenate([np.ones((1, draws.shape[1])), draws])

    def found(pairs: list[Pair]) -> np.ndarray:
        return np.concatenate([correlations(*pair, match(*pair), draws) for pair in pairs], axis=1)

    own, chance = found([trained]), found(bar)
    level = np.percentile(chance, BAR, axis=1)
    return pd.DataFrame({
        "draw": np.arange(len(draws)), "trained": (own > level[:, None]).mean(axis=1),
        "untrained": (found(control) > level[:, None]).mean(axis=1), "bar": level,
        "correlation": np.median(own, axis=1), "by_chance": np.median(chance, axis=1),
        "units": own.shape[1],
    })  # fmt: skip
