"""Figures of notebook 12: accuracies with their intervals, and what they cost."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from esc_lib.figures.style import COLOURS


def folds(judged: pd.DataFrame, table: pd.DataFrame, chance: float) -> Figure:
    """Show test accuracy by recipe: a dot per run, and the pooled accuracy with its interval.

    From one group of ``comparisons.carry_out`` and its ``accuracy_table``; `chance` in percent.
    """
    figure, ax = plt.subplots(figsize=(8, 0.7 + 0.7 * len(table)))
    test = judged[judged.part == "test"]
    for place, (label, row) in enumerate(table.iterrows()):
        runs = 100 * test[test.label == label].groupby(["fold", "seed"]).right.mean()
        for (fold, _), value in runs.items():
            ax.plot(value, place, "o", color=COLOURS[(int(fold) - 1) % len(COLOURS)], alpha=0.6)
            ax.annotate(str(fold), (value, place - 0.22), ha="center", fontsize=7)
        reach = [[row.pooled - row.low], [row.high - row.pooled]]
        ax.errorbar(row.pooled, place + 0.28, xerr=reach, fmt="s", color="black", capsize=3)
    ax.axvline(chance, color="grey", linestyle=":")
    ax.set_yticks(range(len(table)), table.index)
    ax.set(xlabel="test accuracy (%)", ylim=(len(table) - 0.4, -0.6), xlim=(0, 101))
    return figure


def price(table: pd.DataFrame) -> Figure:
    """Show networks' pooled accuracy over multiply-adds; the area of a dot is the parameters."""
    figure, ax = plt.subplots(figsize=(6.5, 3.6))
    for index, (name, row) in enumerate(table.iterrows()):
        colour = COLOURS[index % len(COLOURS)]
        x = row.multiply_adds / 1e9
        ax.vlines(x, row.low, row.high, color=colour)
        ax.scatter(x, row.pooled, s=row.parameters / 1e5, color=colour, alpha=0.6)
        ax.annotate(name, (x, row.pooled), xytext=(8, 4), textcoords="offset points", fontsize=8)
    ax.set_xscale("log")
    ax.set(xlabel="multiply-adds per clip (G)", ylabel="test accuracy (%)", ylim=(0, 101))
    return figure
