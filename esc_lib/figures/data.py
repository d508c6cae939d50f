"""Figures of notebook 01: what the clips are, and how they are split."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from esc_lib.config import FrontEnd
from esc_lib.figures.style import COLOURS, PARTS, panels, plain, spectrogram


def gallery(log_mel: np.ndarray, names: list[str], settings: FrontEnd) -> Figure:
    """Show one clip per class, (classes, mel, frames) in dB, on one colour scale."""
    figure, axes = panels(len(names), 5, width=10, row=1.55, rest=0.35, sharex=True, sharey=True)
    top = float(log_mel.max())
    for ax, values, name in zip(axes, log_mel, names, strict=True):
        image = spectrogram(ax, values, settings, vmin=top - settings.top_db, vmax=top)
        ax.set_title(plain(name))
        ax.label_outer()
    figure.colorbar(image, ax=figure.axes, label="mel power (dB re full scale)", shrink=0.6)
    return figure


def fold_table(clips: pd.DataFrame) -> Figure:
    """Show clips per class and fold as a heat map, one number per cell."""
    import seaborn as sns

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
    import seaborn as sns

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8))
    sns.histplot(report.duration_s, bins=40, ax=left, color=COLOURS[0])
    left.set(xlabel="duration (s)", ylabel="clips", yscale="log")
    lowest = max(-100.0, report.rms_db.min())
    bins = np.linspace(lowest, max(0.0, report.peak_db.max()) + 0.5, 50)  # the same for both
    for values, label, colour, hatch in (
        (report.peak_db, "peak", COLOURS[1], ""),
        (report.rms_db, "root mean square", COLOURS[0], "//"),
    ):
        right.hist(values.clip(lower=lowest), bins, alpha=0.6, color=colour, hatch=hatch,
                   label=label)  # fmt: skip
    right.set(xlabel="level (dB re full scale)", ylabel="clips")
    right.legend()
    return figure


def parts(clips: pd.DataFrame, leak_grouped: float, leak_random: float) -> Figure:
    """Show the split's size, and the leak that each validation protocol lets through."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.6))
    sizes = clips.part.value_counts().reindex(PARTS)
    left.bar_label(left.barh(PARTS, sizes, color=COLOURS[:3]), padding=3)
    left.set(xlabel="clips", xlim=(0, 1.15 * sizes.max()))
    shares = [100 * leak_grouped, 100 * leak_random]
    protocols = ["source-grouped (ours)", "random clips (thesis)"]
    right.bar_label(right.barh(protocols, shares, color=COLOURS[:2]), fmt="%.1f %%", padding=3)
    right.set(
        xlabel="validation clips with a training clip\nfrom the same recording (%)",
        xlim=(0, max(10.0, 1.3 * max(shares))),
    )
    for ax in (left, right):
        ax.invert_yaxis()
    return figure
