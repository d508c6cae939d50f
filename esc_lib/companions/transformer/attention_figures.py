"""Figures of notebook 09: where the heads of a spectrogram transformer look."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.patheffects import Stroke, withStroke

from esc_lib.companions.transformer.attention import PatchGrid
from esc_lib.figures.style import COLOURS, MAP_CMAP, mel_axis

QUERY_COLOURS = ("#FFD700", "#E3171B", "#8E24AA")  # yellow, red, purple
QUERY_MARKS = "os^"
GAP = 0.14  # between two copies, as a share of the mel bands
MEASURED = {
    "time_s": "mean distance in time (s)",
    "octaves": "mean distance in frequency (octaves)",
    "entropy_nat": "entropy (nat)",
}


def heads(
    log_mel: np.ndarray,
    among: np.ndarray,
    grid: PatchGrid,
    query: int,
    queries: tuple[int, ...],
    layers: tuple[int, ...] = (1, 4, 8),
    n: int = 4,
) -> Figure:
    """Show what one patch looks at within each head, and several patches across the heads.

    On top the input, time upwards; below it a column per layer with a copy of the input for every
    head. First row: the patch `query` (dot) and the `n` patches that it looks at most, in every
    head for itself. Second row: for each of `queries`, a colour and a mark of its own; its dot
    lies in the head that decides most clearly, and arcs lead to the patch that each head looks at
    most. Lines are the thicker, the more attention they stand for, on one scale.

    Parameters
    ----------
    log_mel : array, shape (mel, frames), dB.
    among : array, shape (layers, heads, patches, patches), of one clip, rows sum to 1.
    grid : PatchGrid of the clip.
    query : int, patch of the first row.
    queries : tuple of int, at most three patches, of the second row.
    layers : tuple of int, counted from 1.
    n : int, patches that are shown for `query`.

    Raises
    ------
    ValueError
        If there are fewer layers, or more than three queries.
    """
    if max(layers) > len(among) or len(queries) > len(QUERY_COLOURS):
        raise ValueError(
            f"heads: layers={layers} of {len(among)}, {len(queries)} queries; give layers that "
            f"exist and at most {len(QUERY_COLOURS)} queries."
        )
    figure = plt.figure(figsize=(4.6 * len(layers), 10.5))
    rows = figure.add_gridspec(3, 1, height_ratios=(0.85, 1, 1))
    _input(figure, rows[0], log_mel, grid)
    chosen = among[[layer - 1 for layer in layers]]
    asked = chosen[:, :, [query, *queries]]
    scale = max(float(asked.max()), 1e-12)
    cells = [row.subgridspec(1, len(layers)) for row in (rows[1], rows[2])]
    for column, (layer, weights) in enumerate(zip(layers, chosen, strict=True)):
        within = figure.add_subplot(cells[0][column])
        across = figure.add_subplot(cells[1][column])
        for ax, title in ((within, "within each head"), (across, "across the heads")):
            _copies(ax, log_mel, grid, len(weights))
            ax.set_title(f"layer $l = {layer}$, {title}")
            if column:
                ax.tick_params(labelleft=False)
            else:
                ax.set_ylabel("time (s)")
        _within(within, weights[:, query], grid, query, n, scale)
        for place, patch in enumerate(queries):
            _across(across, weights[:, patch], grid, patch, place, scale)
    return figure


def reach(measured: Mapping[str, pd.DataFrame], alike: Mapping[str, float]) -> Figure:
    """Show how far and how widely every head looks, per layer, for several networks.

    Parameters
    ----------
    measured : name of a network to a table with a row per layer and head: layer, head, time_s,
        octaves, entropy_nat, as from ``attention.per_head``.
    alike : the same measures of a head that looks at all patches alike.
    """
    figure, axes = plt.subplots(1, len(MEASURED), figsize=(11, 3.2))
    width = 0.5 / max(1, len(measured))
    for ax, (name, label) in zip(axes, MEASURED.items(), strict=True):
        for place, (network, table) in enumerate(measured.items()):
            shift = width * (place - (len(measured) - 1) / 2)
            look = {"color": COLOURS[place], "marker": "os^Dv"[place]}
            ax.plot(table.layer + shift, table[name], linestyle="", alpha=0.45, ms=3.5, **look)
            mean = table.groupby("layer")[name].mean()
            line = ("-", "--", ":", "-.", (0, (5, 1)))[place]
            ax.plot(mean.index + shift, mean, line, label=network, ms=6, mec="white", **look)
        ax.axhline(alike[name], color="grey", linestyle=(0, (1, 2)), label="all patches alike")
        ax.set(xlabel="layer", ylabel=label, ylim=(0, 1.08 * ax.dataLim.y1))
        ax.set_xticks(sorted(set(np.concatenate([t.layer for t in measured.values()]))))
    axes[0].legend(fontsize=8)
    return figure


def _input(figure: Figure, place, log_mel: np.ndarray, grid: PatchGrid) -> None:
    """Draw the input in the middle of its row, frequency to the right and time upwards."""
    ax = figure.add_subplot(place.subgridspec(1, 3, width_ratios=(1, 0.8, 1))[1])
    image = _spectrogram(ax, log_mel, grid, 0.0)
    image.set(cmap=MAP_CMAP, clim=(log_mel.min(), log_mel.max()))
    ax.set(title="input mel spectrogram", ylabel="time (s)", xlim=(0, len(log_mel)))
    mel_axis(ax, grid.settings, "x")
    figure.colorbar(image, ax=ax, label="dB")


def _copies(ax: Axes, log_mel: np.ndarray, grid: PatchGrid, n_heads: int) -> None:
    """Draw a faint grey copy of the input for every head, side by side."""
    n_mels = len(log_mel)
    low, high = float(log_mel.min()), float(log_mel.max())
    for head in range(n_heads):
        image = _spectrogram(ax, log_mel, grid, head * n_mels * (1 + GAP))
        # from a light grey to white: lines and boxes of all colours stand out
        image.set(cmap="gray", clim=(low - (high - low + 1e-9), high))
    middles = (np.arange(n_heads) * (1 + GAP) + 0.5) * n_mels
    ax.set_xticks(middles, range(1, n_heads + 1))
    ax.tick_params(axis="x", length=0)
    ax.set_xlabel("head, each: frequency to the right")
    ax.set_xlim(-GAP * n_mels, n_heads * n_mels * (1 + GAP))
    ax.spines["bottom"].set_visible(False)


def _spectrogram(ax: Axes, log_mel: np.ndarray, grid: PatchGrid, left: float):
    n_mels, n_frames = log_mel.shape
    extent = (left, left + n_mels, 0, n_frames * grid.settings.frame_s)
    image = ax.imshow(log_mel.T, origin="lower", aspect="auto", extent=extent)
    ax.set_ylim(0, extent[3])
    return image


def _within(ax: Axes, weights: np.ndarray, grid: PatchGrid, query: int, n: int, scale: float):
    """Draw boxes and arcs from a patch to those it looks at most, in every head for itself."""
    for head, row in enumerate(weights):
        for patch in np.argsort(row)[::-1][:n]:
            width = _width(row[patch], scale)
            _box(ax, grid, head, int(patch), "black", width)
            ends = _middle(grid, head, query), _middle(grid, head, patch)
            _arc(ax, grid, *ends, "black", width, 0.15)
        _box(ax, grid, head, query, "black", 1.4)
        _dot(ax, _middle(grid, head, query), QUERY_COLOURS[0], "o")


def _across(ax: Axes, weights: np.ndarray, grid: PatchGrid, query: int, place: int, scale: float):
    """Draw arcs from a patch in its clearest head to the one that each head looks at most."""
    colour = QUERY_COLOURS[place]
    best = weights.argmax(axis=1)
    home = int(weights.max(axis=1).argmax())
    start = _middle(grid, home, query)
    for head, patch in enumerate(best):
        width = _width(weights[head, patch], scale)
        _box(ax, grid, head, int(patch), colour, width)
        _arc(ax, grid, start, _middle(grid, head, int(patch)), colour, width, 0.3)
    _box(ax, grid, home, query, colour, 1.6)
    _dot(ax, start, colour, QUERY_MARKS[place])


def _width(weight: float, scale: float) -> float:
    return 0.8 + 1.7 * float(weight) / scale


def _corner(grid: PatchGrid, head: int, patch: int) -> tuple[float, float]:
    band, frame = grid.corner(patch)
    return head * grid.settings.n_mels * (1 + GAP) + band, frame * grid.settings.frame_s


def _middle(grid: PatchGrid, head: int, patch: int) -> tuple[float, float]:
    left, bottom = _corner(grid, head, int(patch))
    return left + grid.size / 2, bottom + grid.size * grid.settings.frame_s / 2


def _outlined(colour: str, width: float) -> list[Stroke]:
    """Give light colours a dark rim: they lie on light grey."""
    return [] if colour == "black" else [withStroke(linewidth=width + 0.8, foreground="black")]


def _box(ax: Axes, grid: PatchGrid, head: int, patch: int, colour: str, width: float) -> None:
    size = grid.size, grid.size * grid.settings.frame_s
    ax.add_patch(
        Rectangle(
            _corner(grid, head, patch), *size, fill=False, edgecolor=colour, linewidth=width,
            path_effects=_outlined(colour, width), zorder=3,
        )
    )  # fmt: skip


def _arc(
    ax: Axes, grid: PatchGrid, start, end, colour: str, width: float, bend: float
) -> None:
    if np.allclose(start, end):
        return
    # bent towards the middle of the picture, where there is room
    if abs(end[0] - start[0]) < grid.settings.n_mels:
        left = start[0] + end[0] < sum(ax.get_xlim())
        bend *= 1 if (end[1] > start[1]) == left else -1
    else:
        upper = start[1] + end[1] > sum(ax.get_ylim())
        bend *= 1 if (end[0] > start[0]) == upper else -1
    ax.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-", connectionstyle=f"arc3,rad={bend}", color=colour,
            linewidth=width, shrinkA=0, shrinkB=0, zorder=4, path_effects=_outlined(colour, width),
        )
    )  # fmt: skip


def _dot(ax: Axes, at: tuple[float, float], colour: str, mark: str) -> None:
    rim = "black" if mark == QUERY_MARKS[0] else "white"  # yellow is light, red and purple dark
    ax.plot(*at, mark, color=colour, mec=rim, mew=0.8, ms=7, zorder=6)
