"""Figures of notebook 16: what a clip's making leaves in it, class by class."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from esc_lib.figures.rows import name
from esc_lib.figures.style import COLOURS


def cues(clips: pd.DataFrame) -> Figure:
    """Show by class which share of the clips ends in silence, and where their spectra break off.

    A row per clip: category, and what ``probing.cues`` says of it. A dot per clip is the darker
    the steeper the fall.
    """
    ends = 100 * (clips.trailing_s > 0).groupby(clips.category).mean()
    ends = ends.sort_values(ascending=False)
    size = (7.5, 0.8 + 0.2 * len(ends))
    figure, (left, right) = plt.subplots(1, 2, figsize=size, sharey=True, width_ratios=(2, 3))
    places = name(left, ends.index, fontsize=8 if len(ends) < 20 else 6)
    left.barh(places, ends, color=COLOURS[0], height=0.6)
    left.set(xlabel="clips that end in silence (%)", xlim=(0, 100))
    rows = clips.category.map(dict(zip(ends.index, places, strict=True)))
    dots = right.scatter(clips.edge_hz / 1000, rows, c=clips.fall_db, s=8, cmap="viridis_r")
    figure.colorbar(dots, label="fall (dB)")
    right.set_xlabel("edge of the spectrum (kHz)")
    right.tick_params(labelleft=False)
    for ax in (left, right):
        ax.grid(axis="x", alpha=0.3)
    return figure
