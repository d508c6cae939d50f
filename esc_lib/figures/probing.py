"""Figures of notebook 14: what a measure finds in a glass box, and in networks."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from esc_lib.figures import rows
from esc_lib.figures.style import BESIDE, COLOURS, MARKERS


def glass_box(table: pd.DataFrame, reached: float) -> Figure:
    """Show what each measure finds in the glass box, and its null, and what it has to reach.

    The table has a row per measure and thing: value, null, used (None: no truth is known).
    """
    figure, ax = plt.subplots(figsize=(7, 0.9 + 0.2 * len(table)))
    places = rows.name(ax, [": ".join(each) for each in table.index], fontsize=7)
    lowest = table.null.clip(-0.4)  # a null below all scales says no more by being lower
    ax.hlines(places, lowest, table.value, color="0.85", linewidth=1)
    ax.plot(lowest, places, MARKERS[1], color="0.5", markersize=3.5, label="channels dealt")
    for mark, colour, what, chosen in (
        (MARKERS[0], COLOURS[0], "used", table.used == True),  # noqa: E712, it may be None
        ("X", COLOURS[1], "not used", table.used == False),  # noqa: E712
        (MARKERS[2], "0.3", "no truth is known", table.used.isna()),
    ):
        own = table.value[chosen.to_numpy()]
        ax.plot(own, places[chosen.to_numpy()], mark, color=colour, markersize=5, label=what)
    ax.axvline(reached, color="0.5", linewidth=0.8, linestyle=":")
    ax.set(xlabel="1: all there is to find", xlim=(-0.45, 1.05))
    ax.legend(fontsize=8, **BESIDE)
    return figure


def measured(
    values: pd.DataFrame, things: Sequence[str], series: Mapping[str, tuple[str, str]],
    label: str, nothing: float | None = None,
) -> Figure:  # fmt: skip
    """Show a measure's values with intervals: a row per thing, a mark per series.

    Parameters
    ----------
    values : index (what, network, version), columns value, low, high.
    series : name to (network, version); those that are missing are left out.
    nothing : value where nothing is to be found, drawn as a line.
    """
    figure, ax = plt.subplots(figsize=(7, 1.1 + 0.3 * len(things)))
    places = rows.name(ax, things, fontsize=8)
    offsets = np.linspace(0.24, -0.24, len(series)) if len(series) > 1 else [0.0]
    for (name, key), offset, mark, colour in zip(
        series.items(), offsets, MARKERS, COLOURS, strict=False
    ):
        known = [(what, *key) in values.index for what in things]
        found = values.loc[[(what, *key) for what, there in zip(things, known) if there]]
        rows.draw(ax, places[known] + offset, found.value, found.low, found.high, color=colour,
                  mark=mark, size=4, linewidth=1.2, label=name)  # fmt: skip
    if nothing is not None:
        ax.axvline(nothing, color="0.5", linewidth=0.8, linestyle=":")
    ax.set_xlabel(label)
    ax.grid(axis="x", alpha=0.3)
    ax.legend(fontsize=8, **BESIDE)
    return figure
