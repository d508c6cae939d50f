"""Figures of notebook 10: two ears, attention rollout, and errors around the head."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from esc_lib.companions.binaural.spectrograms import edges
from esc_lib.figures.style import COLOURS, MAGNITUDE_CMAP, MAP_CMAP

TOP_KHZ = 6.0
AROUND = (0, 90, 180, 270)
SIDES = ("ahead", "left", "behind", "right")
PANELS = [
    ["left", "TE-L", "."], ["left", "TE-L", "TE-C"],
    ["right", "TE-R", "TE-C"], ["right", "TE-R", "."],
]  # fmt: skip
TITLES = {
    "left": "(a) spectrogram: left",
    "TE-L": "(b) rollout, each ear: TE-L",
    "TE-C": "(c) rollout, both ears: TE-C",
}


def rollout(levels_db: np.ndarray, maps: dict[str, np.ndarray], title: str = "") -> Figure:
    """Show what two ears hear, and what each encoder of BAST takes from it.

    Levels are (2, bins, frames), left ear first; maps, "TE-L", "TE-R" and "TE-C", are
    (bins, frames) and 1 for an even share.
    """
    figure, axes = plt.subplot_mosaic(PANELS, figsize=(10, 4.6))
    high = float(levels_db.max())
    for name, values in zip(("left", "right"), levels_db, strict=True):
        heard = _cells(axes[name], values, high - 60, high, MAGNITUDE_CMAP)
    lowest = min(0.9, *(float(values.min()) for values in maps.values()))
    top = max(1.1, *(float(values.max()) for values in maps.values()))
    for name, values in maps.items():
        share = _cells(axes[name], values, lowest, top, MAP_CMAP)
    for name, ax in axes.items():
        ax.set_title(TITLES.get(name, name))
        if name in ("right", "TE-R", "TE-C"):
            ax.set_xlabel("time (s)")
        else:
            ax.tick_params(labelbottom=False)
        if name in ("left", "right", "TE-C"):
            ax.set_ylabel("frequency (kHz)")
        else:
            ax.tick_params(labelleft=False)
    figure.colorbar(heard, ax=[axes["left"], axes["right"]], label="level (dB)")
    figure.colorbar(share, ax=[axes[name] for name in maps], label="share (1: as the average)")
    if title:
        figure.suptitle(title)
    return figure


def _cells(ax: Axes, values: np.ndarray, vmin: float, vmax: float, cmap: str) -> AxesImage:
    """Draw (bins, frames) over time in s and frequency in kHz, up to 6 kHz."""
    start, end, low, high = edges()
    image = ax.imshow(
        values, origin="lower", aspect="auto", extent=(start, end, low / 1000, high / 1000),
        vmin=vmin, vmax=vmax, cmap=cmap,
    )  # fmt: skip
    ax.set(xlim=(start, end), ylim=(0, TOP_KHZ), yticks=(0, 2, 4, 6), xticks=(0.1, 0.2, 0.3, 0.4))
    return image


def around_the_head(tables: dict[str, pd.DataFrame]) -> Figure:
    """Show a mean per azimuth on circles around a head that looks up, one circle per room.

    Tables, by name, are those of ``judging.summary`` by room and azimuth_deg.
    """
    rooms = list(dict.fromkeys(room for t in tables.values() for room in t.index.unique(0)))
    figure, axes = plt.subplots(
        1, len(rooms), figsize=(4.6 * len(rooms), 4.6), squeeze=False,
        subplot_kw={"projection": "polar"},
    )  # fmt: skip
    top = max(5.0, *(float(table["mean"].max()) for table in tables.values()))
    handles = {}
    for ax, room in zip(axes.flat, rooms, strict=True):
        for index, (name, table) in enumerate(tables.items()):
            if room not in table.index:
                continue
            means = table.loc[room, "mean"].sort_index()
            angles = np.deg2rad(np.append(means.index, means.index[0]))
            (handles[name],) = ax.plot(
                angles, np.append(means, means.iloc[0]), color=COLOURS[index % len(COLOURS)],
                linestyle=("-", "--", "-.", ":")[index % 4], marker="os^D"[index % 4],
                markersize=2.5, linewidth=1.2,
            )  # fmt: skip
        ax.set_theta_zero_location("N")
        ax.set_xticks(np.deg2rad(AROUND), SIDES)
        ax.set(ylim=(0, 1.05 * top), title=room, xlabel="azimuth of the sound, seen from above")
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.set_rlabel_position(45)
        ax.yaxis.set_major_formatter("{x:g}°")
        ax.grid(alpha=0.4)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    figure.supylabel("mean angular error, from the centre outwards (degrees)", fontsize=8)
    return figure


def confusion(matrices: dict[str, np.ndarray]) -> Figure:
    """Show where sounds were heard, a panel per system or room, on one scale.

    Matrices have a row per true azimuth that sums to one. The falling dotted lines are mirror
    images: front heard as back and back as front.
    """
    figure, axes = plt.subplots(
        1, len(matrices), figsize=(1 + 3.2 * len(matrices), 3.5), sharey=True, squeeze=False
    )
    for ax, (name, shares) in zip(axes.flat, matrices.items(), strict=True):
        step = 360 / len(shares)
        extent = (-step / 2, 360 - step / 2) * 2
        image = ax.imshow(shares, origin="lower", extent=extent, vmin=0, vmax=1, cmap=MAP_CMAP)
        for total in (180, 540):
            ax.plot([0, 360], [total, total - 360], ":", color="white", linewidth=0.8)
        ax.set(xlim=extent[:2], ylim=extent[:2], title=name, xticks=AROUND, yticks=AROUND)
        ax.set_xlabel("heard at (degrees)")
    axes[0, 0].set_ylabel("true azimuth (degrees)")
    figure.colorbar(image, ax=axes, label="share of the true azimuth")
    return figure


def differences(
    azimuths: np.ndarray, time_s: dict[str, np.ndarray], level_db: dict[str, np.ndarray]
) -> Figure:
    """Show time (s) and level differences (dB) between the ears, by azimuth in degrees.

    Both map names to arrays, shape (azimuths,), positive where the left ear leads or is louder.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.2), sharex=True)
    styles = dict(zip(dict.fromkeys([*time_s, *level_db]), zip(COLOURS, ("-", "--", ":", "-."))))
    panels = ((time_s, 1e6, "left ear leads by (µs)"), (level_db, 1, "left ear louder by (dB)"))
    for ax, (curves, unit, label) in zip(axes, panels, strict=True):
        for name, values in curves.items():
            colour, line = styles[name]
            ax.plot(azimuths, unit * values, line, color=colour, label=name)
        ax.axhline(0, color="0.7", linewidth=0.6)
        ax.set(xlabel="azimuth (degrees)", ylabel=label, xticks=np.arange(0, 361, 90))
        ax.legend(fontsize=8)
    return figure


def responses(impulses: np.ndarray, sr: int, names: list[str]) -> Figure:
    """Show impulse responses (panels, 2, samples) of both ears, left first, on one scale."""
    figure, axes = plt.subplots(1, len(names), figsize=(9.5, 2.6), sharey=True, squeeze=False)
    time_ms = 1000 * np.arange(impulses.shape[-1]) / sr
    for ax, ears, name in zip(axes.flat, impulses, names, strict=True):
        for values, label, colour, line in zip(ears, ("left", "right"), COLOURS, ("-", "--")):
            ax.plot(time_ms, values, line, color=colour, linewidth=0.9, label=label)
        ax.set(xlabel="time (ms)", title=name)
    axes[0, 0].set_ylabel("pressure (relative)")
    axes[0, -1].legend()
    return figure


def masking(table: pd.DataFrame) -> Figure:
    """Show errors of ``masking.masking_table``: marked, moved or least marked places hidden."""
    figure, (ax, gains) = plt.subplots(1, 2, figsize=(9.5, 1.4 + 0.4 * len(table)), sharey=True)
    maps = table.iloc[1:]
    places = np.arange(len(maps))[::-1]
    ax.hlines(places, maps.low, maps.high, color=COLOURS[0])
    for column, label, marker, colour in (
        ("error_deg", "marked", "o", COLOURS[0]), ("moved_deg", "moved", "s", COLOURS[1]),
        ("lowest_deg", "least marked", "^", COLOURS[2]),
    ):  # fmt: skip
        ax.plot(maps[column], places, marker, color=colour, label=f"{label} hidden", markersize=5)
    ax.axvline(table.error_deg.iloc[0], color="0.4", linestyle=":", label="nothing hidden")
    ax.set(xlabel="angular error (degrees)", ylim=(-0.6, len(maps) - 0.4))
    ax.set_yticks(places, maps.index)
    gains.hlines(places, maps.gain_low, maps.gain_high, color=COLOURS[0])
    gains.plot(maps.gain_deg, places, "o", color=COLOURS[0], markersize=5)
    gains.axvline(0, color="0.4", linestyle=":")
    gains.set_xlabel("marked minus moved (degrees)")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8)
    return figure


def learning(history: pd.DataFrame, reference_deg: float) -> Figure:
    """Show the validation error of a ``training.Fit`` by epoch, and another system's, dotted."""
    figure, ax = plt.subplots(figsize=(6, 3.2))
    ax.plot(history.epoch, history.validation_error_deg, "o-", markersize=3, label="BAST")
    ax.axhline(reference_deg, color="0.4", linestyle=":", label="classical")
    ax.set(xlabel="epoch", ylabel="angular error, validation (degrees)")
    ax.set_ylim(bottom=0)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(fontsize=8)
    return figure
