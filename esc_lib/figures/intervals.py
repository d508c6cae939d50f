"""A value with its interval per row: errors by layer or class, differences between recipes."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from esc_lib.figures.style import COLOURS


def per_row(table: pd.DataFrame, value: str, label: str, reference: float | None = None) -> Figure:
    """Show a value and its interval per row, the first row on top.

    Parameters
    ----------
    table : DataFrame with the column `value`, low and high; the index names the rows.
    value : str
    label : str, of the axis.
    reference : float, drawn as a dotted line.
    """
    figure, ax = plt.subplots(figsize=(7.5, 0.8 + 0.2 * len(table)))
    places = np.arange(len(table))[::-1]
    ax.hlines(places, table.low, table.high, color=COLOURS[0], linewidth=1.5)
    ax.plot(table[value], places, "o", color=COLOURS[0], markersize=4)
    if reference is not None:
        ax.axvline(reference, color="0.5", linewidth=0.8, linestyle=":")
    names = [str(name).replace("_", " ") for name in table.index]
    ax.set_yticks(places, names, fontsize=8 if len(table) < 20 else 6)
    ax.set(xlabel=label, ylim=(-0.6, len(table) - 0.4))
    ax.grid(axis="x", alpha=0.3)
    return figure
