"""Figures of notebook 06: weights, confusion, ROC, per-class scores, calibration."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from esc_lib.evaluation.decisions import GRID, Roc
from esc_lib.figures import rows
from esc_lib.figures.style import BESIDE, COLOURS, LINES, MARKERS, panels, plain


def weights(trained: dict[str, np.ndarray], initial: dict[str, np.ndarray]) -> Figure:
    """Show weight distributions per layer against those before training."""
    figure, axes = panels(len(trained), 4, width=10, row=1.7, rest=0.4)
    for ax, (name, values) in zip(axes, trained.items(), strict=True):
        limit = max(np.abs(values).max(), np.abs(initial[name]).max())
        bins = np.linspace(-limit, limit, int(np.clip(values.size**0.5, 12, 80)))
        ax.hist(
            initial[name], bins, density=True, histtype="step", color=COLOURS[1], linestyle="--",
            label="before",
        )  # fmt: skip
        ax.hist(values, bins, density=True, alpha=0.7, color=COLOURS[0], label="after")
        ax.set_title(f"{name}, sd {values.std():.3f}", fontsize=8)
        ax.set_yticks([])
        ax.locator_params(axis="x", nbins=4)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    figure.supxlabel("weight", fontsize=9)
    figure.supylabel("density", fontsize=9)
    return figure


def confusion(counts: np.ndarray, names: list[str], pairs: pd.DataFrame) -> Figure:
    """Show the confusion matrix, (true, predicted), in percent of the true class.

    Cells of ``decisions.confused_pairs`` carry the letter that names them; beside few classes there
    is room for a list of them.
    """
    few = len(names) <= 12
    figure, axes = plt.subplots(
        1, 1 + few, figsize=(8.4, 4.8) if few else (7, 6.4), squeeze=False,
        width_ratios=(5.4, 3) if few else None,
    )  # fmt: skip
    _matrix(axes[0, 0], counts, names, pairs, few)
    if few:
        lines = [
            f"{letter}  {plain(pair['first'])} / {plain(pair['second'])}\n     "
            f"{pair['first as second']} + {pair['second as first']} of {pair['clips']} clips, "
            f"recordings: {pair['recordings']}"
            for letter, pair in pairs.iterrows()
        ]
        axes[0, 1].set_axis_off()
        axes[0, 1].text(
            0, 0.98, "\n".join(lines or ["no clip is wrong"]), va="top", fontsize=8,
            linespacing=1.4, transform=axes[0, 1].transAxes,
        )  # fmt: skip
    return figure


def _matrix(ax, counts: np.ndarray, names: list[str], pairs: pd.DataFrame, few: bool) -> None:
    """Draw the matrix, with counts in its cells and letters in their corners if there is room."""
    import seaborn as sns

    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shown = np.where(counts > 0, counts.astype(str), "") if few else None
    ticks = [plain(name) for name in names]
    sns.heatmap(
        shares, cmap="viridis", vmin=0, vmax=100, square=True, xticklabels=ticks, yticklabels=ticks,
        annot=shown, fmt="", cbar_kws={"label": "share of the true class (%)", "shrink": 0.7},
        ax=ax,
    )  # fmt: skip
    ax.set(xlabel="predicted class", ylabel="true class")
    ax.tick_params(labelsize=7 if few else 6.4, length=2, pad=1)
    at, align = (0.05, ("left", "top")) if few else (0.5, ("center", "center"))
    for letter, pair in pairs.iterrows():
        first, second = names.index(pair["first"]), names.index(pair["second"])
        for true, heard in ((first, second), (second, first)):
            if counts[true, heard]:
                ax.text(
                    heard + at, true + at, letter, ha=align[0], va=align[1], fontsize=6.5,
                    color="white" if shares[true, heard] < 60 else "black", weight="bold",
                )  # fmt: skip


def roc(curves: dict[str, Roc]) -> Figure:
    """Show ROC curves by name, and the bootstrap's band around the first."""
    figure, (whole, corner) = plt.subplots(1, 2, figsize=(9, 4.6))
    for index, (name, curve) in enumerate(curves.items()):
        style = {"linestyle": LINES[index % len(LINES)], "linewidth": 2 if index == 0 else 1.2}
        low, high = curve.interval
        label = f"{name}: {curve.area:.3f} ({low:.3f} to {high:.3f})"
        for ax in (whole, corner):
            ax.plot(curve.false_positive, curve.true_positive, label=label, **style)
            if index == 0:
                ax.fill_between(GRID, *curve.band, color=COLOURS[0], alpha=0.2, linewidth=0)
    whole.plot([0, 1], [0, 1], color="grey", linewidth=0.6)
    whole.set_title("whole range")
    corner.set(xlim=(-0.005, 0.2), ylim=(0.6, 1.005), title="upper left corner")
    for ax in (whole, corner):
        ax.set(xlabel="false positive rate", ylabel="true positive rate")
    figure.legend(
        *corner.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8,
        title="area under the curve (95 % interval)",
    )  # fmt: skip
    return figure


def per_class(scores: pd.DataFrame) -> Figure:
    """Show ``decisions.per_class``: precision, recall with its interval, F1, sorted by F1."""
    scores = scores.sort_values("F1")[::-1]
    figure, ax = plt.subplots(figsize=(7, 1.2 + 0.2 * len(scores)))
    places = rows.name(ax, scores.index, fontsize=7)
    ax.hlines(places, scores["recall low"], scores["recall high"], color=COLOURS[1], alpha=0.35,
              linewidth=3, label="recall, 95 %")  # fmt: skip
    for column, mark, colour in zip(("precision", "recall", "F1"), "><o", COLOURS, strict=False):
        ax.plot(scores[column], places, mark, color=colour, label=column, markersize=5)
    ax.set(xlabel="score", xlim=(-0.02, 1.02))
    ax.grid(axis="x", alpha=0.3)
    ax.legend(**BESIDE)
    return figure


def two_in_classes(table: pd.DataFrame, first: str, second: str) -> Figure:
    """Show two accuracies per class with intervals, as ``listeners.by_class`` returns them."""
    figure, ax = plt.subplots(figsize=(7, 0.9 + 0.24 * len(table)))
    places = rows.name(ax, list(table.index), fontsize=8 if len(table) < 20 else 7)
    for key, label, offset, mark, colour in (
        ("people", first, 0.15, MARKERS[0], COLOURS[0]),
        ("network", second, -0.15, MARKERS[1], COLOURS[1]),
    ):
        rows.draw(ax, places + offset, table[key], table[f"{key}_low"], table[f"{key}_high"],
                  color=colour, mark=mark, label=label)  # fmt: skip
    ax.set(xlabel="accuracy (%)", xlim=(-2, 102))
    ax.grid(axis="x", alpha=0.3)
    ax.legend(fontsize=8, **BESIDE)
    return figure


def reliability(tables: dict[str, pd.DataFrame]) -> Figure:
    """Show accuracy over confidence and clips per bin, ``calibration.reliability`` by title."""
    figure, axes = plt.subplots(
        2, len(tables), figsize=(3.6 * len(tables) + 0.6, 4.9), height_ratios=(3, 1),
        sharex=True, sharey="row", squeeze=False,
    )  # fmt: skip
    for (above, below), (title, table) in zip(axes.T, tables.items(), strict=True):
        seen = table[table.clips > 0]
        above.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        above.vlines(seen.confidence, seen.accuracy, seen.confidence, color=COLOURS[4],
                     linewidth=6, alpha=0.7, label="gap to the diagonal")  # fmt: skip
        reach = np.abs(seen[["accuracy low", "accuracy high"]].T.to_numpy() - seen.accuracy.array)
        above.errorbar(seen.confidence, seen.accuracy, reach, fmt="o", color=COLOURS[0],
                       markersize=5, label="share of right decisions, 95 %")  # fmt: skip
        above.set(title=title, xlim=(0, 1), ylim=(-0.02, 1.02))
        bars = below.bar(table.low, table.clips, table.high - table.low, align="edge",
                         color=COLOURS[0], edgecolor="white")  # fmt: skip
        below.bar_label(bars, [n or "" for n in table.clips], fontsize=7)
        below.margins(y=0.25)
        below.set_xlabel("confidence (probability of the predicted class)")
    figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    axes[0, 0].set_ylabel("share of right decisions")
    axes[1, 0].set_ylabel("clips")
    return figure
