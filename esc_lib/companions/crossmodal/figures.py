"""Figures of notebook 11: generated pictures, where attention goes, training, accuracies."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from esc_lib.config import FrontEnd
from esc_lib.figures.style import COLOURS, MAP_CMAP, spectrogram

QUERY = {"marker": "s", "s": 45, "facecolors": "none", "linewidths": 1.8}
LEVEL = "level below the peak (dB)"
OUTLINE_DB = -25  # below the peak: what the outline on attention maps encloses


def samples(rows: Mapping[str, np.ndarray], titles: list[str], settings: FrontEnd) -> Figure:
    """Show pictures in columns, a row per kind: what went in, what came out, a real one.

    Pictures of a row are (columns, channels, 64, 64) in [-1, 1]; rows whose name ends in "sound"
    are spectrograms, on one scale, the others images.
    """
    size = (10, 0.5 + 0.95 * len(rows))
    figure, axes = plt.subplots(len(rows), len(titles), figsize=size, squeeze=False)
    shown = None
    for row, (name, pictures) in zip(axes, rows.items(), strict=True):
        for ax, picture in zip(row, pictures, strict=True):
            if name.endswith("sound"):
                shown = _sound(ax, picture[0], settings, labels=False)
                ax.set_box_aspect(1)
            else:
                _image(ax, picture)
        row[0].set_ylabel(name.replace(" ", "\n"), fontsize=8)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=8)
    duration_s = settings.n_frames * settings.frame_s
    band = f"{settings.f_min_hz:g} to {settings.f_max_hz:g} Hz"
    label = f"of a sound: time, 0 to {duration_s:.2f} s, and frequency upwards, {band}"
    figure.supxlabel(label, fontsize=8)
    if shown is not None:
        figure.colorbar(shown, ax=axes, shrink=0.8).set_label(LEVEL, fontsize=8)
    return figure


def attention(
    picture: np.ndarray, weights: np.ndarray, queries: list[tuple[int, int]], settings: FrontEnd
) -> Figure:
    """Show where chosen places of a spectrogram attend to.

    Weights, (places, places / pool ** 2), are shown as multiples of an even spread, on one scale
    that one weight in 500 exceeds; the line encloses what is louder than 25 dB below the peak. The
    picture is (64, 64) in [-1, 1]; queries are (row, column) on the attention's grid, row 0 the
    lowest band.
    """
    side, seen = (round(n**0.5) for n in weights.shape)
    asked = weights[[row * side + column for row, column in queries]]
    maps = (seen**2 * asked).reshape(-1, seen, seen)
    top, n_columns = float(np.quantile(maps, 0.998)), 3
    n_rows = -(-(1 + len(queries)) // n_columns)
    shared = {"figsize": (10, 2.7 * n_rows), "sharex": True, "sharey": True}
    figure, axes = plt.subplots(n_rows, n_columns, **shared)
    for ax in axes.flat[1 + len(queries) :]:
        ax.set_axis_off()
    size = np.array([settings.n_frames * settings.frame_s, settings.n_mels])  # s, bands
    places = (np.array(queries)[:, ::-1] + 0.5) / side * size
    pixels = [(np.arange(n) + 0.5) / n * length for n, length in zip(picture.shape[::-1], size)]
    level = _sound(axes.flat[0], picture, settings)
    axes.flat[0].set_title("the sound and the places asked")
    style = {"color": "white", "ha": "center", "va": "center", "fontsize": 8, "fontweight": "bold"}
    box = {"boxstyle": "square,pad=0.15", "facecolor": "black", "edgecolor": "white"}
    line = {"colors": "white", "linewidths": 0.5, "linestyles": "solid"}
    for number, (ax, values, place) in enumerate(zip(axes.flat[1:], maps, places), 1):
        axes.flat[0].text(*place, str(number), bbox=box, **style)
        image = spectrogram(ax, values, settings, vmin=0, vmax=top, cmap=MAP_CMAP)
        ax.contour(*pixels, _db(picture, settings), levels=[OUTLINE_DB], **line)
        ax.scatter(*place, edgecolors="black", **QUERY | {"linewidths": 3.2})
        ax.scatter(*place, edgecolors="white", **QUERY)
        ax.set_title(f"where place {number} attends to")
    figure.colorbar(image, ax=axes, label="weight / even spread", shrink=0.8, extend="max")
    figure.colorbar(level, ax=axes, label=LEVEL, shrink=0.8)
    for ax in axes.flat:
        ax.label_outer()
    for ax in axes.flat[1 + len(queries) - n_columns : n_columns * (n_rows - 1)]:
        ax.tick_params(labelbottom=True)  # nothing stands below it
        ax.set_xlabel("time (s)")
    return figure


def history(encoder: pd.DataFrame, game: pd.DataFrame) -> Figure:
    """Show the encoder's accuracy, both losses, and the mean scores of the three kinds of pairs."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 2.8))
    axes[0].plot(encoder.step, 100 * encoder.accuracy, color=COLOURS[0])
    axes[0].set(ylabel="accuracy of the encoder (%)", ylim=(0, 102))
    lines = (
        (axes[1], "discriminator_loss", "discriminator", "-"),
        (axes[1], "generator_loss", "generator", "--"),
        (axes[2], "real", "real, matching", "-"),
        (axes[2], "fake", "generated", "--"),
        (axes[2], "mismatched", "real, mismatched", ":"),
    )
    for index, (ax, column, label, line) in enumerate(lines):
        known = game[column].notna()  # the discriminator rests on some steps
        steps, values = game.step[known], game[column][known]
        ax.plot(steps, values, line, color=COLOURS[index], label=label, linewidth=1.2)
        ax.legend(fontsize=7)
    axes[1].set_ylabel("hinge loss")
    for margin in (-1, 1):
        axes[2].axhline(margin, color="0.6", linewidth=0.8)
    axes[2].set_ylabel("mean score (lines: the margins)")
    for ax in axes:
        ax.set_xlabel("step")
    return figure


def accuracies(
    ours: Mapping[str, pd.DataFrame], published: Mapping[str, pd.DataFrame], chance: float
) -> Figure:
    """Show accuracies of generated pictures with intervals, published ones below them.

    Both have a table per direction, of ``evaluation.compare`` and ``evaluation.published``;
    `chance` is the accuracy by guessing (%), of ours.
    """
    titles = {"S2I": "sound to image", "I2S": "image to sound"}
    size = (10, 1.3 + 0.27 * max(len(ours[key]) + len(published[key]) for key in ours))
    figure, axes = plt.subplots(1, len(ours), figsize=size, sharex=True, squeeze=False)
    for ax, (direction, table) in zip(axes[0], ours.items(), strict=True):
        n = len(table)
        for found, start, mark, colour, label in (
            (table, 0, "o", COLOURS[0], "here"),
            (published[direction], n, "s", COLOURS[1], "published, Sub-URMP"),
        ):
            places = start + np.arange(len(found))
            known = found.low.notna().to_numpy()
            ax.hlines(places[known], found.low[known], found.high[known], color=colour)
            ax.plot(found.accuracy, places, mark, color=colour, markersize=4.5, label=label)
        ax.axhline(n - 0.5, color="0.7", linewidth=0.8)
        ax.axvline(chance, color="0.4", linewidth=0.8, linestyle=":", label="guessing, here")
        names = [str(name) for name in [*table.index, *published[direction].index]]
        ax.set_yticks(range(len(names)), names, fontsize=8)
        ax.set(xlabel="judged to be of the right class (%)", title=titles[direction])
        ax.set(ylim=(len(names) - 0.4, -0.6), xlim=(0, 101))
        ax.grid(axis="x", alpha=0.3)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def resynthesis(
    picture: np.ndarray, again: np.ndarray, waveform: np.ndarray, settings: FrontEnd
) -> Figure:
    """Show a spectrogram, (64, 64) in [-1, 1], a sound made from it, and that of the sound."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 2.8))
    _sound(axes[0], picture, settings)
    time_s = np.arange(len(waveform)) / settings.sr
    axes[1].plot(time_s, waveform, color=COLOURS[0], linewidth=0.5)
    axes[1].set(xlabel="time (s)", ylabel="amplitude (full scale 1)", ylim=(-1, 1))
    image = _sound(axes[2], again, settings)
    for ax, title in zip(axes, ("as generated", "as a sound", "that sound's spectrogram")):
        ax.set_title(title)
    figure.colorbar(image, ax=axes, label=LEVEL)
    return figure


def _db(picture: np.ndarray, settings: FrontEnd) -> np.ndarray:
    return (picture - 1) / 2 * settings.top_db


def _sound(ax: Axes, picture: np.ndarray, settings: FrontEnd, labels: bool = True) -> AxesImage:
    values = _db(picture, settings)
    return spectrogram(ax, values, settings, vmin=-settings.top_db, vmax=0, labels=labels)


def _image(ax: Axes, picture: np.ndarray) -> AxesImage:
    """Draw (channels, 64, 64) in [-1, 1], one or three channels."""
    ax.set(xticks=[], yticks=[])
    shown = (picture.transpose(1, 2, 0) + 1) / 2
    return ax.imshow(shown if len(picture) == 3 else shown[..., 0], cmap="gray", vmin=0, vmax=1)
