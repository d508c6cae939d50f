"""Rows with intervals: errors by layer or class, differences between recipes, scores by method."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esc_lib.figures.style import COLOURS, plain


def interval_rows(
    table: pd.DataFrame, value: str, label: str, reference: float | None = None
) -> Figure:
    """Show the column `value` from low to high per row, first on top, and a dotted reference."""
    figure, ax = plt.subplots(figsize=(7.5, 0.8 + 0.2 * len(table)))
    places = name(ax, table.index, fontsize=8 if len(table) < 20 else 6)
    draw(ax, places, table[value], table.low, table.high)
    if reference is not None:
        ax.axvline(reference, color="0.5", linewidth=0.8, linestyle=":")
    ax.set_xlabel(label)
    ax.grid(axis="x", alpha=0.3)
    return figure


def name(ax: Axes, names: Sequence[str], **text) -> np.ndarray:
    """Name the rows of an axis, the first on top, and return where they stand."""
    places = np.arange(len(names))[::-1]
    ax.set_yticks(places, [plain(name) for name in names], **text)
    ax.set_ylim(-0.6, len(names) - 0.4)
    return places


def draw(
    ax: Axes, places, values, low, high, *, color: str = COLOURS[0], mark: str = "o", size=4.0,
    linewidth: float = 1.5, label: str | None = None,
) -> None:  # fmt: skip
    """Draw a value with its interval in each row."""
    ax.hlines(places, low, high, color=color, linewidth=linewidth)
    ax.plot(values, places, mark, color=color, markersize=size, label=label)
