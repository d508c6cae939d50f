"""Figures of notebook 04: what each block passes on, and what the SE gates do to it."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from esc_lib.config import FrontEnd
from esc_lib.figures.style import COLOURS, MAP_CMAP, spectrogram


def maps(values: np.ndarray, channels: np.ndarray, settings: FrontEnd, n_columns=8) -> Figure:
    """Show feature maps, (maps, mel, frames), each titled with its channel, on one scale."""
    n_rows = -(-len(values) // n_columns)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(10, 1.25 * n_rows + 0.4), squeeze=False
    )
    top = float(values.max())
    for ax in axes.flat[len(values) :]:
        ax.set_axis_off()
    for ax, channel, value in zip(axes.flat, channels, values, strict=False):
        image = spectrogram(
            ax, value, settings, vmin=0, vmax=top, cmap=MAP_CMAP, labels=False
        )
        ax.set_title(f"channel {channel}", fontsize=7)
    duration_s = settings.n_frames * settings.frame_s
    figure.supxlabel(f"time, 0 to {duration_s:.1f} s", fontsize=8)
    figure.supylabel("frequency, low to high", fontsize=8)
    figure.colorbar(image, ax=axes, label="activation", shrink=0.8)
    return figure


def recalibration(gates: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Figure:
    """Show how each gate scales the channels of one clip.

    Parameters
    ----------
    gates : name to (mean activation before, after, gate values), each of shape (channels,).
    """
    figure, axes = plt.subplots(len(gates), 2, figsize=(9, 2.2 * len(gates)))
    for (left, right), (name, (before, after, values)) in zip(axes, gates.items(), strict=True):
        left.plot(np.sort(values), color=COLOURS[0])
        left.axhline(0.5, color="grey", linestyle=":")
        left.set(xlabel="channel, sorted", ylabel="gate value", ylim=(0, 1), title=name)
        points = right.scatter(before, after, c=values, s=10, cmap=MAP_CMAP, vmin=0, vmax=1)
        top = max(float(before.max()), 1e-9)
        right.plot([0, top], [0, top], color="grey", linestyle=":")
        right.set(xlabel="mean activation before", ylabel="after")
    figure.colorbar(points, ax=axes[:, 1], label="gate value", shrink=0.6)
    return figure


def gates_per_class(means: dict[str, np.ndarray], names: list[str]) -> Figure:
    """Show mean gate values, gate to (classes, channels), channels sorted by their spread.

    All panels share one scale.
    """
    figure, axes = plt.subplots(
        1, len(means), figsize=(10, 1.2 + 0.17 * len(names)), sharey=True
    )
    for ax, (gate, values) in zip(axes, means.items(), strict=True):
        order = np.argsort(-values.std(axis=0))
        image = ax.imshow(
            values[:, order], aspect="auto", vmin=0, vmax=1, cmap=MAP_CMAP, interpolation="nearest"
        )
        ax.set(title=gate, xlabel="channel, by spread")
    axes[0].set_yticks(range(len(names)), [n.replace("_", " ") for n in names], fontsize=7)
    figure.colorbar(image, ax=axes, label="mean gate value")
    return figure
