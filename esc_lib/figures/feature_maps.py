"""Figures of notebook 04: what each block passes on, and what the SE gates do to it."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from esc_lib.config import FrontEnd
from esc_lib.figures import rows
from esc_lib.figures.html import explorer
from esc_lib.figures.style import COLOURS, MAP_CMAP, MARKERS, duration_s, panels, plain, spectrogram

N_COLUMNS = 8


def maps(values: np.ndarray, channels: np.ndarray, settings: FrontEnd) -> Figure:
    """Show feature maps, (maps, mel, frames), each titled with its channel, on one scale."""
    figure, axes = panels(len(values), N_COLUMNS, width=10, row=1.25, rest=0.4)
    titles = [f"channel {channel}" for channel in channels]
    _small_maps(figure, axes, values, titles, settings)
    return figure


def gated(
    before: np.ndarray,
    after: np.ndarray,
    gate: np.ndarray,
    channels: np.ndarray,
    settings: FrontEnd,
) -> Figure:
    """Show feature maps, (maps, mel, frames), before a gate and below it after it, on one scale.

    `gate` is what each map was multiplied by, `channels` the number of each.
    """
    n, n_blocks = len(before), -(-len(before) // N_COLUMNS)
    figure, axes = plt.subplots(
        2 * n_blocks, N_COLUMNS, figsize=(10, 2.2 * n_blocks + 0.4), squeeze=False
    )
    above, below = axes[::2].flat, axes[1::2].flat
    for ax in [*above[n:], *below[n:]]:
        ax.set_axis_off()
    titles = [f"channel {channel}" for channel in channels] + [f"× {value:.2f}" for value in gate]
    values = np.concatenate([before, after])
    _small_maps(figure, [*above[:n], *below[:n]], values, titles, settings)
    for row, label in zip(axes, ("before", "after") * n_blocks, strict=True):
        row[0].set_ylabel(label, fontsize=8)
    return figure


def _small_maps(figure: Figure, axes, values: np.ndarray, titles, settings: FrontEnd) -> None:
    top = float(values.max())
    for ax, value, title in zip(axes, values, titles, strict=True):
        image = spectrogram(ax, value, settings, vmin=0, vmax=top, cmap=MAP_CMAP, labels=False)
        ax.set_title(title, fontsize=7)
    figure.supxlabel(f"time, 0 to {duration_s(settings):.1f} s", fontsize=8)
    figure.supylabel("frequency, low to high", fontsize=8)
    figure.colorbar(image, ax=figure.axes, label="activation", shrink=0.8)


def recalibration(gates: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Figure:
    """Show how gates scale one clip's channels: name to mean activation before, after, gate."""
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
    """Show mean gate values, gate to (classes, channels), sorted by spread, on one scale."""
    figure, axes = plt.subplots(1, len(means), figsize=(10, 1.2 + 0.17 * len(names)), sharey=True)
    for ax, (gate, values) in zip(axes, means.items(), strict=True):
        order = np.argsort(-values.std(axis=0))
        image = ax.imshow(values[:, order], aspect="auto", vmin=0, vmax=1, cmap=MAP_CMAP)
        ax.set(title=gate, xlabel="channel, by spread")
    axes[0].set_yticks(range(len(names)), [plain(name) for name in names], fontsize=7)
    figure.colorbar(image, ax=axes, label="mean gate value")
    return figure


def forced(tables: dict[str, pd.DataFrame]) -> Figure:
    """Show what forced gates change, ``gates.compare`` by part, with 95 % intervals."""
    names = list(next(iter(tables.values())).index)
    figure, axes = plt.subplots(1, 2, figsize=(10, 0.8 + 0.26 * len(names)), sharey=True)
    panels = (
        ("difference", "low", "high", "accuracy against as trained (points)"),
        ("nll_difference", "nll_low", "nll_high", "loss against as trained (nats per clip)"),
    )
    for ax, (middle, low, high, label) in zip(axes, panels, strict=True):
        for index, (part, table) in enumerate(tables.items()):
            places = np.arange(len(names)) + 0.3 * (index - (len(tables) - 1) / 2)
            rows.draw(ax, places, table[middle], table[low], table[high], color=COLOURS[index],
                      mark=MARKERS[index], label=part)  # fmt: skip
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set_xlabel(label)
    axes[1].set_xscale("symlog", linthresh=1)
    ends = axes[1].get_xlim()
    axes[1].set_xticks([x for x in (-5, -1, -0.5, 0, 0.5, 1, 5, 20) if ends[0] <= x <= ends[1]])
    axes[1].xaxis.set_major_formatter("{x:g}")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    axes[1].legend()
    return figure


def clip_maps(clips: pd.DataFrame, maps: explorer.Maps) -> Figure:
    """Show maps of clips, those of ``explorer.explorer``: a row per method, a column per layer."""
    groups, wrong = explorer.groups_of(clips), explorer.heard_wrong(clips)
    n_columns = len(next(iter(maps.values())))
    figure, axes = plt.subplots(
        len(maps), n_columns, figsize=(10, 1.7 * len(maps) + 0.9), squeeze=False
    )
    for row, (method, of_layer) in zip(axes, maps.items(), strict=True):
        for ax, (layer, places) in zip(row, of_layer.items(), strict=True):
            for index, name in enumerate(groups):
                ax.scatter(
                    *places[clips.group == name].T, s=9, linewidth=0, c=explorer.COLOURS[index],
                    marker=explorer.MARKERS[index % len(explorer.MARKERS)], label=plain(name),
                )  # fmt: skip
            ax.scatter(
                *places[wrong].T, s=30, facecolors="none", edgecolors="black", linewidth=0.7,
                label="heard wrong",
            )  # fmt: skip
            ax.set(xticks=[], yticks=[], title=layer)
            ax.set_aspect("equal", adjustable="datalim")
        row[0].set_ylabel(method)
    figure.supxlabel("place in the map (no unit: only nearness counts)", fontsize=8)
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=6, fontsize=8)
    return figure
