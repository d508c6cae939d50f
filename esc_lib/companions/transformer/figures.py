"""Figures of notebook 09: patches, training without labels, freezing, and where heads look."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.patheffects import withStroke

from esc_lib.companions.transformer.attention import PatchGrid
from esc_lib.companions.transformer.network import N_SPECIAL
from esc_lib.config import FrontEnd
from esc_lib.figures.style import COLOURS, MAGNITUDE_CMAP, MAP_CMAP, mel_axis, spectrogram

COSTS = {
    "trainable": ("parameters that learn (million)", 1e-6),
    "step_ms": ("time of a step (ms)", 1.0),
    "memory_mb": ("memory beyond the weights (MB)", 1.0),
    "accuracy": ("accuracy (%)", 1.0),
}
MEASURED = {
    "time_s": "mean distance in time (s)",
    "octaves": "mean distance in frequency (octaves)",
    "entropy_nat": "entropy (nat)",
}
QUERY_COLOURS = ("#FFD700", "#E3171B", "#8E24AA")  # yellow, red, purple
QUERY_MARKS = "os^"
GAP = 0.14  # between two copies of the input, as a share of the mel bands


def patches(log_mel: np.ndarray, grid: PatchGrid, chosen: tuple[int, ...]) -> Figure:
    """Show how (mel, frames) in dB are cut: all places in faint, some patches boxed and enlarged.

    Up to six patches are `chosen`, a colour each; neighbours show how they overlap.
    """
    figure = plt.figure(figsize=(10, 4.6))
    halves = figure.add_gridspec(2, 1, height_ratios=(2, 1))
    ax = figure.add_subplot(halves[0])
    limits = {"vmin": float(log_mel.min()), "vmax": float(log_mel.max())}
    settings = replace(grid.settings, n_frames=log_mel.shape[1])
    image = spectrogram(ax, log_mel, settings, **limits)
    middles = grid.centres()
    ax.plot(middles.time_s, middles.band, ".", color="white", ms=2, alpha=0.7)
    small = halves[1].subgridspec(1, len(chosen))
    for place, patch in enumerate(chosen):
        colour = COLOURS[place % len(COLOURS)]
        band, frame = grid.corner(patch)
        corner, size = (frame * settings.frame_s, band), (grid.size * settings.frame_s, grid.size)
        ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=2))
        cut = figure.add_subplot(small[place])
        points = log_mel[band : band + grid.size, frame : frame + grid.size]
        cut.imshow(points, origin="lower", cmap=MAGNITUDE_CMAP, **limits)
        cut.set(xticks=[], yticks=[])
        cut.spines[:].set(visible=True, edgecolor=colour, linewidth=2)
        cut.set_xlabel(f"token {N_SPECIAL + patch}", color=colour)
    ax.set_title(f"{grid.rows} x {grid.columns} patches; a dot in the middle of each")
    figure.colorbar(image, ax=ax, label="dB")
    return figure


def reconstruction(
    features: np.ndarray, hidden: np.ndarray, rebuilt: np.ndarray, settings: FrontEnd
) -> Figure:
    """Show a clip, what is left of it, and what is filled in, all (mel, frames).

    `hidden` is bool, the others are deviations; the number of frames of `settings` does not matter.
    """
    figure, axes = plt.subplots(1, 3, figsize=(11, 2.9), sharey=True)
    settings = replace(settings, n_frames=features.shape[1])
    limits = {"vmin": float(features.min()), "vmax": float(features.max())}
    left = np.ma.masked_where(hidden, features)
    titles = ("input", f"what is left: {1 - hidden.mean():.0%} of the points", "filled in")
    for ax, values, title in zip(axes, (features, left, rebuilt), titles, strict=True):
        image = spectrogram(ax, values, settings, **limits)
        image.cmap = image.cmap.with_extremes(bad="#BBBBBB")
        ax.set_title(title)
        ax.label_outer()
    figure.colorbar(image, ax=axes, label="deviations")
    return figure


def pretraining(history: pd.DataFrame) -> Figure:
    """Show the squared error on hidden patches per epoch, beside that of the clip's mean."""
    figure, ax = plt.subplots(figsize=(6, 3))
    for part, line, colour in (("train", "--", COLOURS[0]), ("validation", "-", COLOURS[1])):
        ax.plot(history.epoch, history[f"{part}_loss"], line, color=colour, label=part)
    ax.axhline(1, color="grey", linestyle=":", label="the clip's mean")
    ax.set(xlabel="epoch", ylabel="mean squared error\n(deviations squared)", ylim=(0, None))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()
    return figure


def freezing(table: pd.DataFrame) -> Figure:
    """Show what each level of freezing costs and how well it does, a row of `table` per level.

    Its columns are those of ``freezing.costs``, and accuracy, low, high in %.
    """
    memory = table[["gradient_mb", "optimizer_mb", "activation_mb"]].sum(axis=1)
    shown = table.assign(memory_mb=memory)
    figure, axes = plt.subplots(1, len(COSTS), figsize=(11, 0.8 + 0.45 * len(table)), sharey=True)
    places = np.arange(len(table))
    for ax, (name, (label, factor)) in zip(axes, COSTS.items(), strict=True):
        values = factor * shown[name]
        if name == "accuracy":
            spread = [values - shown.low, shown.high - values]
            ax.errorbar(values, places, xerr=spread, fmt="o", color=COLOURS[1], capsize=3)
            ax.set_xlim(0, 100)
        else:
            bars = ax.barh(places, values, height=0.6, color=COLOURS[0])
            numbers = [f"{value:.3g}" if value < 1000 else f"{value:,.0f}" for value in values]
            ax.bar_label(bars, numbers, padding=2, fontsize=7)
            ax.set_xlim(0, 1.25 * max(values.max(), 1e-9))
        ax.set_xlabel(label)
    axes[0].set_yticks(places, table.index)
    axes[0].invert_yaxis()
    return figure


# ------------------------------------------------------------------------------------ attention


def reach(measured: dict[str, pd.DataFrame], alike: dict[str, float]) -> Figure:
    """Show how far and how widely every head looks, per layer, for several networks.

    Each has a table as from ``attention.per_head``; `alike` is as from ``attention.uniform``.
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

    The input is (mel, frames) in dB, `among` of one clip, (layers, heads, patches, patches), with
    rows that sum to 1; layers are counted from 1. ValueError if there are fewer, or more than
    three queries.
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
    scale = max(float(chosen[:, :, [query, *queries]].max()), 1e-12)
    cells = [row.subgridspec(1, len(layers)) for row in (rows[1], rows[2])]
    for column, (layer, weights) in enumerate(zip(layers, chosen, strict=True)):
        axes = [figure.add_subplot(row[column]) for row in cells]
        within, across = (_Copies(ax, log_mel, grid, len(weights), scale) for ax in axes)
        for ax, title in zip(axes, ("within each head", "across the heads"), strict=True):
            ax.set_title(f"layer $l = {layer}$, {title}")
            ax.set_ylabel("" if column else "time (s)")
            ax.tick_params(labelleft=not column)
        within.look_within(weights[:, query], query, n)
        for patch, colour, mark in zip(queries, QUERY_COLOURS, QUERY_MARKS, strict=False):
            across.look_across(weights[:, patch], patch, colour, mark)
    return figure


def _input(figure: Figure, place, log_mel: np.ndarray, grid: PatchGrid) -> None:
    """Draw the input in the middle of its row, frequency to the right and time upwards."""
    ax = figure.add_subplot(place.subgridspec(1, 3, width_ratios=(1, 0.8, 1))[1])
    image = _upright(ax, log_mel, grid, 0.0)
    image.set(cmap=MAP_CMAP, clim=(log_mel.min(), log_mel.max()))
    ax.set(title="input mel spectrogram", ylabel="time (s)", xlim=(0, len(log_mel)))
    mel_axis(ax, grid.settings, "x")
    figure.colorbar(image, ax=ax, label="dB")


def _upright(ax: Axes, log_mel: np.ndarray, grid: PatchGrid, left: float):
    n_mels, n_frames = log_mel.shape
    extent = (left, left + n_mels, 0, n_frames * grid.settings.frame_s)
    image = ax.imshow(log_mel.T, origin="lower", aspect="auto", extent=extent)
    ax.set_ylim(0, extent[3])
    return image


class _Copies:
    """A panel with a faint grey copy of the input for every head, side by side, to draw on."""

    def __init__(self, ax: Axes, log_mel: np.ndarray, grid: PatchGrid, n_heads: int, scale: float):
        self.ax, self.grid, self.scale = ax, grid, scale
        n_mels = len(log_mel)
        self.pitch = n_mels * (1 + GAP)
        low, high = float(log_mel.min()), float(log_mel.max())
        for head in range(n_heads):
            image = _upright(ax, log_mel, grid, head * self.pitch)
            # from a light grey to white: lines and boxes of all colours stand out
            image.set(cmap="gray", clim=(low - (high - low + 1e-9), high))
        middles = np.arange(n_heads) * self.pitch + n_mels / 2
        ax.set_xticks(middles, range(1, n_heads + 1))
        ax.tick_params(axis="x", length=0)
        ax.set_xlabel("head, each: frequency to the right")
        ax.set_xlim(-GAP * n_mels, n_heads * self.pitch)
        ax.spines["bottom"].set_visible(False)

    def look_within(self, weights: np.ndarray, query: int, n: int) -> None:
        """Draw boxes and arcs from a patch to those it looks at most, in every head for itself."""
        for head, row in enumerate(weights):
            start = self._middle(head, query)
            for patch in np.argsort(row)[::-1][:n]:
                width = self._width(row[patch])
                self._box(head, patch, "black", width)
                self._arc(start, self._middle(head, patch), "black", width, 0.15)
            self._box(head, query, "black", 1.4)
            self._dot(start, QUERY_COLOURS[0], QUERY_MARKS[0])

    def look_across(self, weights: np.ndarray, query: int, colour: str, mark: str) -> None:
        """Draw arcs from a patch in its clearest head to the one that each head looks at most."""
        home = int(weights.max(axis=1).argmax())
        start = self._middle(home, query)
        for head, patch in enumerate(weights.argmax(axis=1)):
            width = self._width(weights[head, patch])
            self._box(head, patch, colour, width)
            self._arc(start, self._middle(head, patch), colour, width, 0.3)
        self._box(home, query, colour, 1.6)
        self._dot(start, colour, mark)

    def _width(self, weight: float) -> float:
        return 0.8 + 1.7 * float(weight) / self.scale

    def _corner(self, head: int, patch: int) -> tuple[float, float]:
        band, frame = self.grid.corner(patch)
        return head * self.pitch + band, frame * self.grid.settings.frame_s

    def _middle(self, head: int, patch: int) -> tuple[float, float]:
        left, bottom = self._corner(head, patch)
        return left + self.grid.size / 2, bottom + self.grid.size * self.grid.settings.frame_s / 2

    def _box(self, head: int, patch: int, colour: str, width: float) -> None:
        size = self.grid.size, self.grid.size * self.grid.settings.frame_s
        look = {"fill": False, "edgecolor": colour, "zorder": 3} | _line(colour, width)
        self.ax.add_patch(Rectangle(self._corner(head, patch), *size, **look))

    def _arc(self, start, end, colour: str, width: float, bend: float) -> None:
        if np.allclose(start, end):
            return
        # bent towards the middle of the picture, where there is room
        if abs(end[0] - start[0]) < self.grid.settings.n_mels:
            left = start[0] + end[0] < sum(self.ax.get_xlim())
            bend *= 1 if (end[1] > start[1]) == left else -1
        else:
            upper = start[1] + end[1] > sum(self.ax.get_ylim())
            bend *= 1 if (end[0] > start[0]) == upper else -1
        look = {"arrowstyle": "-", "color": colour, "shrinkA": 0, "shrinkB": 0, "zorder": 4}
        look |= {"connectionstyle": f"arc3,rad={bend}"} | _line(colour, width)
        self.ax.add_patch(FancyArrowPatch(start, end, **look))

    def _dot(self, at: tuple[float, float], colour: str, mark: str) -> None:
        rim = "black" if mark == QUERY_MARKS[0] else "white"  # yellow is light, red and purple dark
        self.ax.plot(*at, mark, color=colour, mec=rim, mew=0.8, ms=7, zorder=6)


def _line(colour: str, width: float) -> dict:
    """Return how a line is drawn: light colours have a dark rim, as they lie on light grey."""
    rim = [] if colour == "black" else [withStroke(linewidth=width + 0.8, foreground="black")]
    return {"linewidth": width, "path_effects": rim}
