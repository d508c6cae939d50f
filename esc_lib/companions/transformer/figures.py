"""Figures of notebook 09: patches, pre-training without labels, and what freezing saves."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from esc_lib.companions.transformer.attention import PatchGrid
from esc_lib.companions.transformer.network import N_SPECIAL
from esc_lib.config import FrontEnd
from esc_lib.figures.style import COLOURS, MAGNITUDE_CMAP, spectrogram

COSTS = {
    "trainable": ("parameters that learn (million)", 1e-6),
    "step_ms": ("time of a step (ms)", 1.0),
    "memory_mb": ("memory beyond the weights (MB)", 1.0),
    "accuracy": ("accuracy (%)", 1.0),
}


def patches(log_mel: np.ndarray, grid: PatchGrid, chosen: tuple[int, ...]) -> Figure:
    """Show how a spectrogram is cut: all places in faint, some patches boxed and enlarged.

    Parameters
    ----------
    log_mel : array, shape (mel, frames), dB.
    grid : PatchGrid of the clip.
    chosen : tuple of int, up to six patches, a colour each; neighbours show how they overlap.
    """
    figure = plt.figure(figsize=(10, 4.6))
    halves = figure.add_gridspec(2, 1, height_ratios=(2, 1))
    ax = figure.add_subplot(halves[0])
    low, high = float(log_mel.min()), float(log_mel.max())
    image = spectrogram(ax, log_mel, grid.settings, vmin=low, vmax=high)
    step_s = grid.settings.frame_s
    image.set_extent((0, log_mel.shape[1] * step_s, 0, len(log_mel)))
    ax.set_xlim(0, log_mel.shape[1] * step_s)
    middles = np.array([grid.corner(patch) for patch in range(len(grid))]) + grid.size / 2
    ax.plot(middles[:, 1] * step_s, middles[:, 0], ".", color="white", ms=2, alpha=0.7)
    small = halves[1].subgridspec(1, len(chosen))
    for place, patch in enumerate(chosen):
        band, frame = grid.corner(patch)
        colour = COLOURS[place % len(COLOURS)]
        box = Rectangle(
            (frame * step_s, band), grid.size * step_s, grid.size, fill=False, edgecolor=colour,
            linewidth=2,
        )  # fmt: skip
        ax.add_patch(box)
        cut = figure.add_subplot(small[place])
        cut.imshow(
            log_mel[band : band + grid.size, frame : frame + grid.size], origin="lower",
            cmap=MAGNITUDE_CMAP, vmin=low, vmax=high,
        )  # fmt: skip
        cut.set_xticks([])
        cut.set_yticks([])
        for spine in cut.spines.values():
            spine.set(visible=True, edgecolor=colour, linewidth=2)
        cut.set_xlabel(f"token {N_SPECIAL + patch}", color=colour)
    ax.set_title(f"{grid.rows} x {grid.columns} patches; a dot in the middle of each")
    figure.colorbar(image, ax=ax, label="dB")
    return figure


def reconstruction(
    features: np.ndarray, hidden: np.ndarray, rebuilt: np.ndarray, settings: FrontEnd
) -> Figure:
    """Show a clip, what is left of it, and what is filled in, all (mel, frames).

    Parameters
    ----------
    features, rebuilt : arrays, shape (mel, frames), deviations.
    hidden : bool array, shape (mel, frames).
    settings : FrontEnd, whose number of frames may be another one.
    """
    figure, axes = plt.subplots(1, 3, figsize=(11, 2.9), sharey=True)
    low, high = float(features.min()), float(features.max())
    left = np.ma.masked_where(hidden, features)
    titles = ("input", f"what is left: {1 - hidden.mean():.0%} of the points", "filled in")
    for ax, values, title in zip(axes, (features, left, rebuilt), titles, strict=True):
        image = spectrogram(ax, values, settings, vmin=low, vmax=high)
        image.cmap = image.cmap.with_extremes(bad="#BBBBBB")
        image.set_extent((0, features.shape[1] * settings.frame_s, 0, len(features)))
        ax.set_xlim(0, features.shape[1] * settings.frame_s)
        ax.set_title(title)
        ax.label_outer()
    figure.colorbar(image, ax=axes, label="deviations")
    return figure


def pretraining(history: pd.DataFrame) -> Figure:
    """Show the squared error on hidden patches per epoch, beside that of the clip's mean."""
    figure, ax = plt.subplots(figsize=(6, 3))
    for part, line, colour in (("train", "--", COLOURS[0]), ("validation", "-", COLOURS[1])):
        losses = history[f"{part}_loss"]
        if losses.notna().any():
            ax.plot(history.epoch, losses, line, color=colour, label=part)
    ax.axhline(1, color="grey", linestyle=":", label="the clip's mean")
    ax.set(xlabel="epoch", ylabel="mean squared error\n(deviations squared)", ylim=(0, None))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()
    return figure


def freezing(table: pd.DataFrame) -> Figure:
    """Show what each level of freezing costs and how well it does.

    Parameters
    ----------
    table : DataFrame, index the level, columns of ``freezing.costs``, and
        accuracy, low, high in %.
    """
    memory = table[["gradient_mb", "optimizer_mb", "activation_mb"]].sum(axis=1)
    shown = table.assign(memory_mb=memory)
    figure, axes = plt.subplots(1, len(COSTS), figsize=(11, 0.8 + 0.45 * len(table)), sharey=True)
    places = np.arange(len(table))
    for column, (ax, (name, (label, factor))) in enumerate(zip(axes, COSTS.items(), strict=True)):
        values = factor * shown[name]
        if name == "accuracy":
            spread = [values - shown.low, shown.high - values]
            ax.errorbar(values, places, xerr=spread, fmt="o", color=COLOURS[1], capsize=3)
            ax.set_xlim(0, 100)
        else:
            bars = ax.barh(places, values, height=0.6, color=COLOURS[0])
            ax.bar_label(bars, fmt=_three_digits, padding=2, fontsize=7)
            ax.set_xlim(0, 1.25 * max(values.max(), 1e-9))
        ax.set_xlabel(label)
        if not column:
            ax.set_yticks(places, table.index)
            ax.invert_yaxis()
    return figure


def _three_digits(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
