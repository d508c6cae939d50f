"""Figures of notebook 03: the network's shape and cost, and how training went."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from esc_lib.figures.style import COLOURS


def shapes(maps: list[tuple[str, tuple[int, int, int]]]) -> Figure:
    """Draw feature maps, (name, (channels, mel, frames)), to scale in frequency and time.

    Height and width follow mel and frames by their square roots; channels are written below.
    """
    figure, ax = plt.subplots(figsize=(10, 3))
    left = 0.0
    for index, (name, (channels, mel, frames)) in enumerate(maps):
        width, height = frames**0.5, mel**0.5
        depth = np.log2(channels + 1) * 0.18
        look = {"facecolor": COLOURS[index % len(COLOURS)], "edgecolor": "white", "alpha": 0.85}
        for layer in np.linspace(depth, 0, 4):
            ax.add_patch(Rectangle((left + layer, layer - height / 2), width, height, **look))
        middle = left + width / 2
        ax.text(middle, height / 2 + depth + 0.4, name, ha="center", fontsize=8)
        ax.text(
            middle, -height / 2 - 0.4, f"{channels} x\n{mel} x {frames}", ha="center", va="top",
            fontsize=8,
        )  # fmt: skip
        left += width + depth + 3.0
    ax.set(xlim=(-1, left), ylim=(-10, 9))
    ax.set_axis_off()
    return figure


def head(widths: list[tuple[str, int]]) -> Figure:
    """Draw the classification head as a chain of named vectors."""
    figure, ax = plt.subplots(figsize=(10, 1.6))
    for index, (name, width) in enumerate(widths):
        box = FancyBboxPatch(
            (index * 2.2, 0), 1.7, 1, boxstyle="round,pad=0.05",
            facecolor=COLOURS[index % len(COLOURS)], alpha=0.25, edgecolor="black",
        )  # fmt: skip
        ax.add_patch(box)
        ax.text(index * 2.2 + 0.85, 0.5, f"{name}\n{width:,}", ha="center", va="center")
        if index:
            arrow = {"arrowstyle": "->"}
            ax.annotate("", (index * 2.2 - 0.06, 0.5), (index * 2.2 - 0.44, 0.5), arrowprops=arrow)
    ax.set(xlim=(-0.2, 2.2 * len(widths)), ylim=(-0.2, 1.2))
    ax.set_axis_off()
    return figure


def costs(components: pd.DataFrame) -> Figure:
    """Show parameters, multiply-adds and activation memory of each component, in percent."""
    columns = {
        "parameters": "parameters",
        "multiply_adds": "multiply-adds",
        "output_mb": "forward / backward memory",
    }
    shares = 100 * components[list(columns)] / components[list(columns)].sum()
    figure, ax = plt.subplots(figsize=(8, 3.4))
    places = np.arange(len(shares))
    for offset, (column, label) in enumerate(columns.items()):
        bars = ax.barh(places + 0.27 * (offset - 1), shares[column], height=0.25, label=label)
        ax.bar_label(bars, fmt="%.1f", padding=2, fontsize=7)
    ax.set_yticks(places, shares.index)
    ax.invert_yaxis()
    ax.set(xlabel="share of the whole network (%)", xlim=(0, 1.1 * shares.to_numpy().max()))
    ax.legend()
    return figure


def history(rows: pd.DataFrame, best_epoch: int, chance: float) -> Figure:
    """Show loss, accuracy and learning rate per epoch, the kept epoch marked."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 2.8))
    for part, line, colour in (("train", "--", COLOURS[0]), ("validation", "-", COLOURS[1])):
        axes[0].plot(rows.epoch, rows[f"{part}_loss"], line, color=colour, label=part)
        axes[1].plot(rows.epoch, 100 * rows[f"{part}_accuracy"], line, color=colour, label=part)
    axes[1].axhline(100 * chance, color="grey", linestyle=":", label="chance")
    axes[2].semilogy(rows.epoch, rows.learning_rate, color=COLOURS[2])
    labels = ("cross-entropy (nat)", "accuracy (%)", "learning rate")
    for ax, label in zip(axes, labels, strict=True):
        ax.axvline(best_epoch, color="black", linewidth=0.8, alpha=0.5)
        ax.set(xlabel="epoch", ylabel=label)
    axes[1].set_ylim(0, 100)
    axes[1].legend()
    return figure
