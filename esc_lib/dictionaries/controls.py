"""A layer against its controls: untrained networks, and what stands in for it.

Squared errors of a layer stand in a table, or a dict of columns, with a row per test clip; draws
are those of ``evaluation.source_draws`` for the same clips.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from esc_lib.dictionaries import level_free
from esc_lib.evaluation.intervals import mean_interval, source_draws


def explained(ratio: np.ndarray) -> np.ndarray:
    """Return R^2, the share of variance explained, of the ratio of what is left and what was."""
    return 1 - ratio


def share(ratio: np.ndarray) -> np.ndarray:
    """Return a ratio as it is."""
    return ratio


@dataclass(frozen=True)
class Measure:
    """A number made of two columns of squared errors, summed over clips."""

    column: str
    below: str  # what the column is relative to
    score: Callable[[np.ndarray], np.ndarray]  # of the ratio of the two sums


ERROR = Measure("optimum", "energy", np.sqrt)  # ||V - WH|| / ||V||, lower is better
SHAPE = Measure(level_free.RIDGE, level_free.MEAN_SHAPE, explained)  # higher is better
FEW = Measure(level_free.components(level_free.FEW), level_free.MEAN_SHAPE, explained)
UNIT = Measure(level_free.UNIT, level_free.MEAN_UNIT, explained)
UPPER = Measure("upper", "energy", share)  # of an output's energy, see ``judge.outputs``
SURPLUS = Measure("surplus", "target", share)

NOTHING = "no measurable difference"

Errors = Mapping[str, np.ndarray]  # column to squared errors, (clips,)


def compare(
    table: Errors, others: Sequence[Errors], measure: Measure, draws: np.ndarray, against: str = ""
) -> dict[str, float]:
    """Compare a network's layer with its controls, on the same clips.

    The controls are read in the column `against`, by default the measure's own.

    Returns
    -------
    dict: value, with low and high over source recordings; others, their mean, with least and most;
        difference, the value less that mean, with difference_low and difference_high. These are
        drawn over source recordings and, where there are several others (seeds), over them too.
    """

    def of(errors: Errors, column: str, weights: np.ndarray) -> np.ndarray:
        above, below = (np.asarray(errors[name]) for name in (column, measure.below))
        return measure.score((weights @ above) / (weights @ below))

    def each_of(weights: np.ndarray) -> np.ndarray:
        return np.stack([of(one, against or measure.column, weights) for one in others], axis=-1)

    every, rng = np.ones(draws.shape[1]), np.random.default_rng(0)
    value, controls = of(table, measure.column, every), each_of(every)
    drawn = of(table, measure.column, draws)
    picked = rng.integers(0, len(others), (len(draws), len(others)))
    gaps = drawn - np.take_along_axis(each_of(draws), picked, axis=1).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    gap_low, gap_high = np.percentile(gaps, [2.5, 97.5])
    found = {"value": value, "low": low, "high": high, "others": controls.mean()}
    found |= {"least": controls.min(), "most": controls.max()}
    found |= {"difference": value - controls.mean()}
    found |= {"difference_low": gap_low, "difference_high": gap_high}
    return {name: float(number) for name, number in found.items()}


def compare_layers(
    tables: Mapping[str, Errors], others: Sequence[Mapping[str, Errors]], measure: Measure,
    draws: np.ndarray, against: str = "",
) -> pd.DataFrame:  # fmt: skip
    """Compare every layer with its controls, a row each, as :func:`compare` does."""
    rows = {
        layer: compare(table, [one[layer] for one in others], measure, draws, against)
        for layer, table in tables.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def compare_components(
    table: Errors, others: Sequence[Errors], n_atoms: int, draws: np.ndarray
) -> pd.DataFrame:
    """Compare by R^2 at 2, 4, 8 ... principal components of H and at all, a row each."""
    columns = {2**k: level_free.components(2**k) for k in range(1, n_atoms.bit_length())}
    columns = {n: column for n, column in columns.items() if n < n_atoms}
    columns[n_atoms] = level_free.RIDGE
    rows = {
        n: compare(table, others, Measure(column, level_free.MEAN_SHAPE, explained), draws)
        for n, column in columns.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def verdict(low: float, high: float, above: str, below: str) -> str:
    """Say which of two cases an interval of a difference shows, if it shows one."""
    if low > 0:
        return above
    return below if high < 0 else NOTHING


def in_words(compared: pd.DataFrame, above: str, below: str) -> str:
    """Say the :func:`verdict` on every block's difference, in one sentence.

    Examples
    --------
    >>> ends = {"difference_low": [0.1, -0.2, -0.4], "difference_high": [0.3, 0.1, -0.2]}
    >>> compared = pd.DataFrame(ends, ["conv_block1", "conv_block2", "conv_block3"])
    >>> in_words(compared, "more", "less")
    'more in block 1, less in block 3, no measurable difference in block 2'
    """
    found: dict[str, list] = {above: [], below: [], NOTHING: []}
    for layer, row in compared.iterrows():
        found[verdict(row.difference_low, row.difference_high, above, below)].append(layer)
    cases = {words: layers for words, layers in found.items() if layers}
    return ", ".join(f"{words} in {_blocks(own, len(compared))}" for words, own in cases.items())


def _blocks(layers: list[str], n_all: int) -> str:
    """Name blocks as in a sentence."""
    numbers = [layer.removeprefix("conv_block") for layer in layers]
    if len(numbers) == n_all:
        return "every block"
    *first, last = numbers
    return f"blocks {', '.join(first)} and {last}" if first else f"block {last}"


def compare_matches(cosines: pd.Series, others: Sequence[pd.Series]) -> tuple[pd.Series, str]:
    """Compare how well a network's atoms match known sources with how well those of others do.

    Each has a cosine per source, as ``atoms.match`` returns it.

    Returns
    -------
    Series: the mean over sources, trained and (mean of the others) untrained, their difference and
        its 95 % interval, low and high, over sources; and the same in words.
    """
    mean = pd.concat(list(others), axis=1).mean(axis=1)
    draws = source_draws(np.arange(len(cosines)))
    difference, low, high = mean_interval((cosines - mean).to_numpy(), draws)
    found = {"trained": cosines.mean(), "untrained": mean.mean(), "difference": difference}
    words = verdict(low, high, "a better match", "a worse match")
    return pd.Series(found | {"low": low, "high": high}), words
