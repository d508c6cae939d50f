"""Figures of notebook 13: time per clip, a stream, short trainings, accuracy over time."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator

from esc_lib.figures.style import BESIDE, COLOURS, MAP_CMAP, MARKERS, plain


def latency(table: pd.DataFrame) -> Figure:
    """Show the time per clip of each form, ``forms.costs``, split into front end and network."""
    figure, ax = plt.subplots(figsize=(8, 0.9 + 0.4 * len(table)))
    places = np.arange(len(table))
    network = table.clip_ms - table.front_end_ms
    ax.barh(places, table.front_end_ms, color=COLOURS[5], hatch="//", label="front end")
    ax.barh(places, network, left=table.front_end_ms, color=COLOURS[0], label="network")
    errors = [table.clip_ms - table.first_quartile_ms, table.third_quartile_ms - table.clip_ms]
    ax.errorbar(table.clip_ms, places, xerr=errors, fmt="none", color="black", capsize=3)
    ax.set_yticks(places, [", ".join(form) for form in table.index])
    ax.invert_yaxis()
    ax.set_xlabel("time per clip (ms)")
    ax.legend(**BESIDE)
    return figure


def stream(waveform: np.ndarray, sr: int, windows: pd.DataFrame, parts: pd.DataFrame) -> Figure:
    """Show a recording and the probability of its classes, each window drawn where it ends.

    Windows come from ``forms.listen``, parts from ``forms.join_clips``.
    """
    names = list(dict.fromkeys(parts.category))
    shares = windows.drop(columns=["start_s", "end_s", "ms"])
    shares = shares[names].assign(**{"all others": shares.drop(columns=names).sum(axis=1)})
    hop_s = windows.end_s.diff().median() if len(windows) > 1 else parts.end_s.iloc[-1]
    figure, (top, ax) = plt.subplots(
        2, 1, figsize=(8, 1.9 + 0.3 * shares.shape[1]), sharex=True, height_ratios=[1, 2.2]
    )
    # a drawn line has thousands of points at most: the extremes of each piece
    pieces = np.array_split(waveform, min(2000, len(waveform)))
    times_s = np.linspace(0, len(waveform) / sr, len(pieces))
    top.fill_between(
        times_s, [p.min() for p in pieces], [p.max() for p in pieces], color="grey", linewidth=0
    )
    top.set_ylabel("amplitude")
    image = ax.pcolormesh(
        np.append(windows.end_s, windows.end_s.iloc[-1] + hop_s),
        np.arange(shares.shape[1] + 1) - 0.5,
        shares.to_numpy().T, vmin=0, vmax=1, cmap=MAP_CMAP,
    )  # fmt: skip
    for _, part in parts.iterrows():
        corner = (part.start_s, names.index(part.category) - 0.5)
        size = (part.end_s - part.start_s, 1)
        ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=COLOURS[1], linewidth=2))
    for edge_s in parts.end_s[:-1]:
        top.axvline(edge_s, color=COLOURS[1], linestyle="--")
    ax.set_yticks(range(shares.shape[1]), [plain(name) for name in shares])
    ax.set(xlabel="time (s)", xlim=(0, parts.end_s.iloc[-1] + hop_s))
    ax.invert_yaxis()
    figure.colorbar(image, ax=ax, label="probability")
    return figure


def learning(histories: dict[str, pd.DataFrame], reference: float) -> Figure:
    """Show validation accuracy by epoch of short trainings, and the full network's in percent."""
    figure, ax = plt.subplots(figsize=(6.5, 3.2))
    for index, (name, history) in enumerate(histories.items()):
        ax.plot(
            history.epoch, 100 * history.validation_accuracy, label=name,
            marker=MARKERS[index % len(MARKERS)], color=COLOURS[index % len(COLOURS)],
        )  # fmt: skip
    ax.axhline(reference, color="black", linestyle=":", label="full")
    ax.set(xlabel="epoch", ylabel="validation accuracy (%)", ylim=(0, 101))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(**BESIDE)
    return figure


def trade(table: pd.DataFrame) -> Figure:
    """Show accuracy with its interval over time per clip; colour is the network, shape the engine.

    They are the table's index; its columns clip_ms, accuracy, low and high.
    """
    figure, ax = plt.subplots(figsize=(8, 3.6))
    networks, engines = (list(dict.fromkeys(level)) for level in zip(*table.index))
    for (network, engine), row in table.iterrows():
        colour = COLOURS[networks.index(network) % len(COLOURS)]
        marker = MARKERS[engines.index(engine) % len(MARKERS)]
        ax.vlines(row.clip_ms, row.low, row.high, color=colour, linewidth=1)
        ax.plot(row.clip_ms, row.accuracy, marker, color=colour, alpha=0.8)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 6)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")
    ax.set(xlabel="time per clip (ms)", ylabel="validation accuracy (%)", ylim=(0, 101))
    for index, name in enumerate(networks):
        ax.plot([], [], color=COLOURS[index % len(COLOURS)], label=name)
    for index, name in enumerate(engines):
        ax.plot([], [], MARKERS[index % len(MARKERS)], color="black", label=name)
    ax.legend(**BESIDE)
    return figure
