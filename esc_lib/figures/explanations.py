"""Figures of explanations: what speaks for a decision, and how explanations score."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from esc_lib.config import FrontEnd
from esc_lib.figures import rows
from esc_lib.figures.style import (
    BESIDE,
    COLOURS,
    LINES,
    MAGNITUDE_CMAP,
    MAP_CMAP,
    MARKERS,
    SIGNED_CMAP,
    duration_s,
    heat_map,
    mel_axis,
    panels,
    plain,
    spectrogram,
)
from esc_lib.sound.grid import Grid


def decision(
    log_mel: np.ndarray, relevance: np.ndarray, w: np.ndarray, mask: np.ndarray, settings: FrontEnd
) -> Figure:
    """Show how one decision is taken apart: clip, its twelve strongest atoms, their verdict, mask.

    Level in dB and mask in [0, 1] are (mel, frames), relevance is (atoms, frames of the layer).
    """
    shown = np.sort(np.argsort(-np.abs(relevance).sum(axis=1))[:12])
    centre = (np.arange(len(w))[:, None] * w[:, shown]).sum(0) / w[:, shown].sum(0).clip(1e-30)
    shown = shown[np.argsort(centre)]
    figure, ((clip, verdict), (spectra, factors)) = plt.subplots(2, 2, figsize=(11, 6.2))
    top, limit = float(log_mel.max()), float(np.abs(relevance[shown]).max())
    shapes = w[:, shown] / w[:, shown].max(axis=0).clip(1e-30)
    for image, title, label in (
        (spectrogram(clip, log_mel, settings, vmin=top - 60, vmax=top), "the clip", "level (dB)"),
        (heat_map(verdict, relevance[shown], extent=(0, duration_s(settings), 0, len(shown)),
                  vmin=-limit, vmax=limit, cmap=SIGNED_CMAP),
         "what its atoms say to the class", "relevance"),
        (heat_map(spectra, shapes.T, vmin=0, vmax=1, cmap=MAP_CMAP),
         "what these atoms sound like", "weight / its maximum"),
        (spectrogram(factors, mask, settings, vmin=0, vmax=1, cmap=MAP_CMAP),
         "the mask: share of the atoms that speak for it", "factor on the amplitude"),
    ):  # fmt: skip
        image.axes.set_title(title)
        figure.colorbar(image, ax=image.axes, label=label)
    verdict.set_xlabel("time (s)")
    mel_axis(spectra, settings, "x")
    for ax in (verdict, spectra):
        ax.set_ylabel("atom")
        ax.set_yticks(np.arange(len(shown)) + 0.5, [str(k) for k in shown], fontsize=7)
    return figure


def relevance(
    level_db: np.ndarray, maps: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray],
    grid: Grid,
) -> Figure:  # fmt: skip
    """Show a sound, and by model what each band and frame says for its class, and the mask.

    All are (bands, frames); relevance is signed, each map's colours reach to its own 99.9th
    percentile.
    """
    figure, axes = panels(2 + 2 * len(maps), 2, 7, 1.6, 0.3, sharex=True, sharey=True)
    extent = (0, level_db.shape[1] * grid.frame_s, 0, len(level_db))
    top = float(level_db.max())
    axes[1].set_axis_off()
    images = [(axes[0], level_db, top - 60, top, MAGNITUDE_CMAP, "the sound", "dB")]
    for (name, values), left, right in zip(maps.items(), axes[2::2], axes[3::2], strict=True):
        limit = float(np.quantile(np.abs(values), 0.999)) or 1.0
        images.append((left, values, -limit, limit, SIGNED_CMAP, f"{name}: relevance", "log-odds"))
        images.append((right, masks[name], 0, 1, MAP_CMAP, f"{name}: mask", "factor"))
    for ax, values, low, high, cmap, title, unit in images:
        image = heat_map(ax, values, extent=extent, vmin=low, vmax=high, cmap=cmap)
        figure.colorbar(image, ax=ax, label=unit)
        ax.set_title(title, fontsize=9)
        mel_axis(ax, grid, "y")
        ax.set_ylabel("")
    figure.supylabel("frequency (Hz)", fontsize=9)
    for ax in axes[-2:]:
        ax.set_xlabel("time (s)")
    return figure


def scores(tables: Mapping[str, pd.DataFrame], shown: Sequence) -> Figure:
    """Show scores by method, with intervals, one panel per score of `shown`.

    Tables are ``explain.scores.summary`` by condition; the first one's methods set the order.
    """
    methods = list(dict.fromkeys(method for table in tables.values() for method in table.index))
    figure, axes = plt.subplots(
        1, len(shown), figsize=(12, 1.4 + 0.27 * len(methods)), sharey=True, squeeze=False
    )
    place_of = pd.Series(rows.name(axes[0, 0], methods, fontsize=8), index=methods)
    offsets = np.linspace(0.22, -0.22, len(tables)) if len(tables) > 1 else [0.0]
    for ax, score in zip(axes[0], shown, strict=True):
        ax.axhspan(len(methods) - 1.5, len(methods) - 0.5, color="0.93")
        for (condition, table), offset, mark, colour in zip(
            tables.items(), offsets, MARKERS, COLOURS, strict=False
        ):
            found, places = table[score.name], place_of[table.index] + offset
            rows.draw(ax, places, found["mean"], found["low"], found["high"], color=colour,
                      mark=mark, size=3.5, linewidth=1, label=condition)  # fmt: skip
        ax.set(title=score.heading, xlabel=score.label)
        ax.grid(axis="x", alpha=0.3)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def randomisation(found: pd.DataFrame, passes: float) -> Figure:
    """Show ``checks.randomisation``, and the similarity that a method has to fall below."""
    means = found.drop(columns="clip").groupby("stage", sort=False).mean()
    figure, ax = plt.subplots(figsize=(8, 3.8))
    for index, name in enumerate(means):
        ax.plot(
            range(1, len(means) + 1), means[name], marker="o", markersize=3.5, label=name,
            linestyle=LINES[index % len(LINES)], color=COLOURS[index % len(COLOURS)],
        )  # fmt: skip
    ax.axhline(passes, color="grey", linestyle=":")
    stages = [stage.replace("conv_", "").replace("block", "block ") for stage in means.index]
    ax.set_xticks(range(1, len(means) + 1), stages)
    ax.set(
        xlabel="randomised from the output down to", ylabel="rank correlation", ylim=(-0.35, 1.05)
    )
    ax.legend(fontsize=8, **BESIDE)
    return figure


def portraits(spectra: Mapping[str, np.ndarray], bands_hz: np.ndarray) -> Figure:
    """Show the atoms of some classes, (mel, atoms) each, the first one on top."""
    figure, axes = plt.subplots(1, len(spectra), figsize=(7, 3.2), sharey=True, squeeze=False)
    for ax, (name, atoms) in zip(axes[0], spectra.items(), strict=True):
        for place, atom in enumerate(atoms.T):
            level = -place + 0.9 * atom / max(atom.max(), 1e-30)
            ax.fill_between(bands_hz, -place, level, color=COLOURS[0], linewidth=0)
        ax.set(title=plain(name), xscale="log", xlabel="frequency (Hz)")
    axes[0, 0].set_yticks(-np.arange(atoms.shape[1]), [str(1 + n) for n in range(atoms.shape[1])])
    axes[0, 0].set_ylabel("atom")
    return figure


def portraits_kept(table: pd.DataFrame) -> Figure:
    """Show ``portraits.compare``: decisions that stay, and that a wrong portrait turns."""
    figure, axes = plt.subplots(1, 2, figsize=(7, 3.4), sharey=True)
    methods = table.index.get_level_values("method").unique()
    sides = {"stays": "decided for the label (%)", "turned": "turned to a wrong class (%)"}
    for ax, (score, title) in zip(axes, sides.items(), strict=True):
        for colour, mark, line, method in zip(COLOURS, MARKERS, LINES, methods, strict=False):
            own = table.loc[method][score]
            if list(own.index) == [0]:
                ax.axhline(own["mean"].iloc[0], color=colour, linestyle="--", label=method)
                continue
            error = np.abs(own[["low", "high"]].to_numpy().T - own["mean"].to_numpy())
            ax.errorbar(range(len(own)), own["mean"], error, color=colour, marker=mark,
                        linestyle=line, markersize=4, linewidth=1, label=method)  # fmt: skip
            ax.set_xticks(range(len(own)), own.index)
        ax.set(title=title, xlabel="atoms of a portrait")
    axes[0].set_ylabel("test clips (%)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure
