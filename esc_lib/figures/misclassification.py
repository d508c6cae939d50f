"""Figures of notebook 07: clips the network got wrong, and where it looked."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from esc_lib.config import FrontEnd
from esc_lib.figures.style import MAP_CMAP, spectrogram

CLOSEST = 1e-5  # the least distance drawn on a logarithmic axis


def errors(
    log_mel: np.ndarray, cams: dict[str, np.ndarray], titles: list[str], settings: FrontEnd
) -> Figure:
    """Show clips, standardised, beside their Grad-CAM maps in [0, 1], both (clips, mel, frames)."""
    n_columns = 1 + len(cams)
    figure, axes = plt.subplots(
        len(log_mel), n_columns, figsize=(11, 1.9 * len(log_mel) + 1), sharex=True, sharey=True,
        squeeze=False,
    )  # fmt: skip
    for row, (values, title) in enumerate(zip(log_mel, titles, strict=True)):
        first = spectrogram(axes[row, 0], values, settings, vmin=-2, vmax=3)
        axes[row, 0].set_title(title, fontsize=8, loc="left")
        for ax, (name, maps) in zip(axes[row, 1:], cams.items(), strict=True):
            spectrogram(ax, values, settings, vmin=-2, vmax=3, cmap="gray")
            overlay = spectrogram(ax, maps[row], settings, vmin=0, vmax=1, cmap=MAP_CMAP)
            overlay.set_alpha(0.25 + 0.5 * np.clip(maps[row], 0, 1))
            if row == 0:
                ax.set_title(f"{name}\n\n", fontsize=9)  # above the row's own title
    for ax in axes.flat:
        ax.label_outer()
    bar = {"location": "bottom", "fraction": 0.03, "aspect": 12, "pad": 0.02}
    figure.colorbar(first, ax=axes[:, 0], label="deviations", **bar)
    bar |= {"aspect": 40, "shrink": 0.6}
    figure.colorbar(overlay, ax=axes[:, 1:], label="Grad-CAM / its maximum", **bar)
    return figure


def confidence(correct: np.ndarray, wrong: np.ndarray) -> Figure:
    """Show the probability of the predicted class for right and wrong decisions, (clips,)."""
    figure, ax = plt.subplots(figsize=(6, 2.8))
    bins = np.linspace(0, 1, 21)
    ax.hist(correct, bins, alpha=0.6, label="right")
    ax.hist(wrong, bins, alpha=0.7, label="wrong", hatch="//")
    ax.set(xlabel="probability of the predicted class", ylabel="test clips")
    ax.legend()
    return figure


def nearest(of_predicted: np.ndarray, of_other: np.ndarray, wrong: np.ndarray) -> Figure:
    """Show how far each clip lies from the training clips of two classes.

    Cosines, (clips,), with the nearest clip of the predicted class, and of the true one; where that
    was predicted, of the runner-up.
    """
    figure, ax = plt.subplots(figsize=(5, 4.2))
    far_x, far_y = (np.maximum(1 - cosine, CLOSEST) for cosine in (of_other, of_predicted))
    span = np.array([0.7 * min(far_x.min(), far_y.min()), 1.4 * max(far_x.max(), far_y.max())])
    ax.loglog(span, span, color="0.6", linewidth=1, zorder=0)
    for chosen, marker, size in ((~wrong, "o", 20), (wrong, "X", 40)):
        label = "wrong decisions" if marker == "X" else "right decisions"
        ax.scatter(
            far_x[chosen], far_y[chosen], size, marker=marker, alpha=0.7, linewidth=0, label=label
        )
    ax.set(
        xlabel="distance to the nearest clip of the true class\n(right decisions: the runner-up's)",
        ylabel="distance to the nearest clip\nof the predicted class", xlim=span, ylim=span,
    )  # fmt: skip
    ax.set_title("distance: 1 - cosine", loc="left")
    ax.legend(loc="upper left")
    return figure
