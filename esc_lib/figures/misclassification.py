"""Figures of notebook 07: clips the network got wrong, and where it looked."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from esc_lib.config import FrontEnd
from esc_lib.figures.style import MAP_CMAP, spectrogram


def errors(
    log_mel: np.ndarray, cams: dict[str, np.ndarray], titles: list[str], settings: FrontEnd
) -> Figure:
    """Show clips beside their Grad-CAM maps.

    Parameters
    ----------
    log_mel : array, shape (clips, mel, frames), standardised.
    cams : column title to array, shape (clips, mel, frames), in [0, 1].
    titles : one per clip: true class, predicted class, confidences.
    settings : FrontEnd
    """
    n_columns = 1 + len(cams)
    figure, axes = plt.subplots(
        len(log_mel), n_columns, figsize=(11, 2.1 * len(log_mel) + 0.3), sharex=True, sharey=True,
        squeeze=False,
    )  # fmt: skip
    for row, (values, title) in enumerate(zip(log_mel, titles, strict=True)):
        first = spectrogram(axes[row, 0], values, settings, vmin=-2, vmax=3)
        axes[row, 0].set_title(title, fontsize=8, loc="left")
        for ax, (name, maps) in zip(axes[row, 1:], cams.items(), strict=True):
            spectrogram(ax, values, settings, vmin=-2, vmax=3, cmap="gray")
            overlay = spectrogram(ax, maps[row], settings, vmin=0, vmax=1, cmap=MAP_CMAP)
            overlay.set_alpha(0.25 + 0.5 * np.clip(maps[row], 0, 1))
            ax.set_title(name, fontsize=8)
    for ax in axes.flat:
        ax.label_outer()
    figure.colorbar(first, ax=axes[:, 0], label="deviations", shrink=0.6, location="left")
    figure.colorbar(overlay, ax=axes[:, 1:], label="Grad-CAM / its maximum", shrink=0.6)
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
