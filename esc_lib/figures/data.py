"""Figures of notebook 01: what the clips are, and how they are split."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from esc_lib.config import FrontEnd
from esc_lib.figures.style import COLOURS, PARTS, spectrogram


def gallery(
    log_mel: np.ndarray, names: list[str], settings: FrontEnd, n_columns: int = 5
) -> Figure:
    """Show one clip per class, (classes, mel, frames) in dB, on one colour scale."""
    n_rows = -(-len(names) // n_columns)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(10, 0.35 + 1.55 * n_rows), sharex=True, sharey=True,
        squeeze=False,
    )  # fmt: skip
    top = float(log_mel.max())
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    for ax, values, name in zip(axes.flat, log_mel, names, strict=False):
        image = spectrogram(ax, values, settings, vmin=top - settings.top_db, vmax=top)
        ax.set_title(name.replace("_", " "))
        ax.label_outer()
    figure.colorbar(image, ax=axes, label="mel power (dB re full scale)", shrink=0.6)
    return figure


def fold_table(clips: pd.DataFrame) -> Figure:
    """Show clips per class and fold as a heat map, one number per cell."""
    counts = clips.pivot_table(index="category", columns="fold", values="label", aggfunc="size")
    figure, ax = plt.subplots(figsize=(6, 0.8 + 0.19 * len(counts)))
    sns.heatmap(
        counts.fillna(0).astype(int), annot=True, fmt="d", cmap="viridis", vmin=0,
        cbar_kws={"label": "clips"}, ax=ax, annot_kws={"size": 7},
    )  # fmt: skip
    ax.set(xlabel="fold", ylabel="")
    ax.tick_params(axis="y", labelsize=7)
    return figure


def levels(report: pd.DataFrame) -> Figure:
    """Show durations and levels of all clips."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8))
    sns.histplot(report.duration_s, bins=40, ax=left, color=COLOURS[0])
    left.set(xlabel="duration (s)", ylabel="clips", yscale="log")
    lowest = max(-100.0, report.rms_db.min())
    bins = np.linspace(lowest, max(0.0, report.peak_db.max()) + 0.5, 50)  # the same for both
    for column, colour, hatch in (("peak_db", COLOURS[1], ""), ("rms_db", COLOURS[0], "//")):
        values = report[column].clip(lower=lowest)
        label = {"peak_db": "peak", "rms_db": "root mean square"}[column]
        right.hist(values, bins=bins, alpha=0.6, color=colour, hatch=hatch, label=label)
    right.set(xlabel="level (dB re full scale)", ylabel="clips")
    right.legend()
    return figure


def parts(clips: pd.DataFrame, leak_grouped: float, leak_random: float) -> Figure:
    """Show the split's size, and the leak that each validation protocol lets through."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.6))
    sizes = clips.part.value_counts().reindex(PARTS)
    bars = left.barh(PARTS, sizes, color=COLOURS[:3])
    left.bar_label(bars, padding=3)
    left.set(xlabel="clips", xlim=(0, 1.15 * sizes.max()))
    left.invert_yaxis()
    shares = [100 * leak_grouped, 100 * leak_random]
    bars = right.barh(
        ["source-grouped (ours)", "random clips (thesis)"], shares, color=COLOURS[:2]
    )
    right.bar_label(bars, fmt="%.1f %%", padding=3)
    right.set(
        xlabel="validation clips with a training clip\nfrom the same recording (%)",
        xlim=(0, max(10.0, 1.3 * max(shares))),
    )
    right.invert_yaxis()
    return figure
