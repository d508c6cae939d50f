"""Figures of notebook 06: weights, confusion, ROC, per-class scores."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from esc_lib.figures.style import COLOURS


def weights(
    trained: dict[str, np.ndarray], initial: dict[str, np.ndarray], n_columns: int = 4
) -> Figure:
    """Show weight distributions per layer against those before training."""
    n_rows = -(-len(trained) // n_columns)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=(10, 1.7 * n_rows + 0.4), squeeze=False)
    for ax in axes.flat[len(trained) :]:
        ax.set_axis_off()
    for ax, (name, values) in zip(axes.flat, trained.items(), strict=False):
        limit = max(np.abs(values).max(), np.abs(initial[name]).max())
        bins = np.linspace(-limit, limit, 80)
        ax.hist(
            initial[name], bins, density=True, histtype="step", color=COLOURS[1], linestyle="--",
            label="before",
        )  # fmt: skip
        ax.hist(values, bins, density=True, alpha=0.7, color=COLOURS[0], label="after")
        ax.set_title(f"{name}, sd {values.std():.3f}", fontsize=8)
        ax.set_yticks([])
        ax.locator_params(axis="x", nbins=4)
    axes.flat[len(trained) - 1].legend()
    figure.supxlabel("weight", fontsize=9)
    figure.supylabel("density", fontsize=9)
    return figure


def confusion(counts: np.ndarray, names: list[str]) -> Figure:
    """Show the confusion matrix, (true, predicted), in percent of the true class."""
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels = [name.replace("_", " ") for name in names]
    written = np.where(counts > 0, counts.astype(str), "") if len(names) <= 12 else None
    side = 3.2 + 0.16 * len(names)
    figure, ax = plt.subplots(figsize=(side + 1, side))
    sns.heatmap(
        shares, cmap="viridis", vmin=0, vmax=100, square=True, xticklabels=labels,
        yticklabels=labels, annot=written, fmt="",
        cbar_kws={"label": "share of the true class (%)", "shrink": 0.7}, ax=ax,
    )  # fmt: skip
    ax.set(xlabel="predicted class", ylabel="true class")
    ax.tick_params(labelsize=7)
    return figure


def roc(curves: dict[str, tuple[np.ndarray, np.ndarray, float]]) -> Figure:
    """Show ROC curves, name to (false positive rate, true positive rate, area)."""
    figure, (whole, corner) = plt.subplots(1, 2, figsize=(9, 3.8))
    lines = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
    for index, (name, (false_positive, true_positive, area)) in enumerate(curves.items()):
        style = {"linestyle": lines[index % len(lines)], "linewidth": 2 if index == 0 else 1.2}
        for ax in (whole, corner):
            ax.plot(false_positive, true_positive, label=f"{name}, {area:.3f}", **style)
    whole.plot([0, 1], [0, 1], color="grey", linewidth=0.6)
    whole.set_title("whole range")
    corner.set(xlim=(-0.005, 0.2), ylim=(0.6, 1.005), title="upper left corner")
    for ax in (whole, corner):
        ax.set(xlabel="false positive rate", ylabel="true positive rate")
    corner.legend(title="area under the curve", fontsize=8)
    return figure


def per_class(scores: pd.DataFrame) -> Figure:
    """Show precision, recall and F1 of every class, sorted by F1."""
    scores = scores.sort_values("F1")
    figure, ax = plt.subplots(figsize=(7, 1.2 + 0.2 * len(scores)))
    places = np.arange(len(scores))
    ax.hlines(places, scores[["precision", "recall"]].min(axis=1),
              scores[["precision", "recall"]].max(axis=1), color="lightgrey")  # fmt: skip
    for column, mark, colour in zip(("precision", "recall", "F1"), "><o", COLOURS, strict=False):
        ax.plot(scores[column], places, mark, color=colour, label=column, markersize=5)
    ax.set_yticks(places, [name.replace("_", " ") for name in scores.index], fontsize=7)
    ax.set(xlabel="score", xlim=(-0.02, 1.02), ylim=(-0.6, len(scores) - 0.4))
    ax.grid(axis="x", alpha=0.3)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure
