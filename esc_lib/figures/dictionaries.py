"""Figures of notebook 05: dictionaries, their traces, and what they reconstruct."""

import librosa
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
    atom_curves,
    heat_map,
    high_peak,
    mel_axis,
    panels,
    plain,
    spectrogram,
)


def mel_bank(basis: np.ndarray, settings: FrontEnd) -> Figure:
    """Show the filter bank, (mel, bins): some filters as curves, all as an image."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3))
    hz = librosa.fft_frequencies(sr=settings.sr, n_fft=settings.n_fft)
    left.plot(hz, basis[:: max(1, len(basis) // 16)].T, linewidth=0.9)
    left.set(xscale="log", xlim=(settings.f_min_hz, settings.f_max_hz))
    left.set(xlabel="frequency (Hz)", ylabel="weight (1 / Hz)", title="every few filters")
    shown = basis / np.maximum(basis.max(axis=1, keepdims=True), 1e-12)
    image = heat_map(right, shown, extent=(0, settings.sr / 2, 0, len(basis)))
    right.set(xlabel="frequency (Hz)", ylabel="mel band", title="all, each scaled to its peak")
    figure.colorbar(image, ax=right, label="weight / peak")
    return figure


def reconstructions(
    targets: np.ndarray, predictions: dict[str, np.ndarray], titles: list[str],
    settings: FrontEnd,
) -> Figure:  # fmt: skip
    """Show magnitudes (clips, mel, frames) beside each model's W H, on one scale."""
    columns = {"target V": targets, **predictions}
    figure, axes = plt.subplots(
        len(targets), len(columns), figsize=(11, 1.9 * len(targets) + 0.3), sharex=True,
        sharey=True, squeeze=False,
    )  # fmt: skip
    top = float(np.sqrt(targets.max()))
    for row, title in enumerate(titles):
        for ax, (name, values) in zip(axes[row], columns.items(), strict=True):
            # a compressive scale keeps weak bands visible; the same for every panel
            image = spectrogram(ax, np.sqrt(values[row].clip(0)), settings, vmin=0, vmax=top)
            first = ax is axes[row, 0]
            ax.set_title(f"{plain(title)}\n{name}" if first else name, fontsize=8)
            ax.label_outer()
    figure.colorbar(image, ax=axes, label="square root of magnitude", shrink=0.6)
    return figure


def functions(w: np.ndarray, name: str, settings: FrontEnd, heights: bool = False) -> Figure:
    """Show atoms of W, (mel, atoms) sorted by centre: some as curves, all as an image.

    Each atom is divided by its own peak, or with `heights` all by the highest of them.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3))
    peak = np.maximum(w.max(axis=0), 1e-12)
    shown = w / (peak.max() if heights else peak)
    scale = "weight / highest weight" if heights else "weight / peak"
    curves = atom_curves(left, shown, 12)
    mel_axis(left, settings, "x")
    left.set(ylabel=scale, title=f"{name}: {len(curves)} atoms")
    image = heat_map(right, shown, vmin=0, vmax=1)
    mel_axis(right, settings, "y")
    right.set(xlabel="atom, sorted by centre", title=f"all {w.shape[1]}")
    figure.colorbar(image, ax=right, label=scale)
    return figure


def trace(snapshots: np.ndarray, epochs: list[int], settings: FrontEnd) -> Figure:
    """Show filters (above) and heat map (below) at each traced epoch, all on one scale.

    Snapshots, (epochs, mel, atoms), have their atoms in the order of the last one.
    """
    figure, axes = plt.subplots(
        2, len(epochs), figsize=(max(5, 1.25 * len(epochs)), 3.6), sharex="row", sharey="row",
        squeeze=False,
    )  # fmt: skip
    scale = high_peak(snapshots[-1])
    for (above, below), epoch, w in zip(axes.T, epochs, snapshots, strict=True):
        atom_curves(above, w / scale, 8, linewidth=0.7)
        above.set(title=f"epoch {epoch}", ylim=(0, 1.6))
        image = heat_map(below, w / scale, vmin=0, vmax=1)
    mel_axis(axes[1, 0], settings, "y")
    axes[0, 0].set_ylabel("weight /\nhigh final peak")
    for ax in axes[0]:
        ax.set_xticks([])
    figure.supxlabel("above: mel band, low to high; below: atom, sorted by centre", fontsize=8)
    figure.colorbar(image, ax=axes[1], label="weight / high final peak", extend="max")
    return figure


def learning(errors: dict[str, np.ndarray], optimum: float) -> Figure:
    """Show each model's relative error on the training clips per epoch, above the optimum."""
    figure, ax = plt.subplots(figsize=(7, 3))
    for (name, values), line in zip(errors.items(), LINES, strict=False):
        ax.plot(np.arange(1, len(values) + 1), values, linestyle=line, label=name)
    ax.axhline(optimum, color="black", linewidth=0.8, label="least possible, W >= 0")
    ax.set(xlabel="epoch", ylabel="relative error", ylim=(0, 1.05))
    ax.legend()
    return figure


def beside_stand_ins(compared: pd.DataFrame, stand_ins: dict[str, pd.Series], label: str) -> Figure:
    """Show a layer's error, trained and untrained, on what can be had without the layer.

    `compared` has a row per block, as ``judge.compare_layers`` makes it; `stand_ins` has one, too,
    and a column each.
    """
    figure, ax = plt.subplots(figsize=(7, 3.2))
    places = np.arange(len(compared))
    for (name, values), line in zip(stand_ins.items(), LINES, strict=False):
        ax.plot(places, values, color="0.35", linestyle=line, linewidth=1, label=name)
    for shift, (name, middle, low, high, mark) in zip(
        (-0.08, 0.08),
        (("trained", "value", "low", "high", "o"), ("untrained", "others", "least", "most", "s")),
        strict=True,
    ):  # fmt: skip
        ends = abs(compared[[low, high]].sub(compared[middle], axis=0)).T
        ax.errorbar(places + shift, compared[middle], ends, fmt=mark, capsize=2, label=name)
    ax.set_xticks(places, [plain(name).removeprefix("conv ") for name in compared.index])
    ax.set(xlabel="layer that gives H", ylabel=label, ylim=(0, None))
    ax.legend(fontsize=8, **BESIDE)
    ax.grid(axis="y", alpha=0.3)
    return figure


def trained_and_untrained(compared: dict[str, pd.DataFrame]) -> Figure:
    """Show a trained network's blocks beside untrained ones', a panel per measure.

    Tables are those of ``judge.compare_layers``: bars are intervals for the trained network, and
    reach from the least to the most of the others.
    """
    figure, axes = plt.subplots(1, len(compared), figsize=(7, 2.6), sharey=True)
    for ax, (label, table) in zip(axes, compared.items(), strict=True):
        places = rows.name(ax, [name.removeprefix("conv_") for name in table.index])
        rows.draw(ax, places + 0.15, table.value, table.low, table.high, label="trained")
        rows.draw(
            ax, places - 0.15, table.others, table.least, table.most, color=COLOURS[1], mark="s",
            label="untrained",
        )  # fmt: skip
        ax.set_xlabel(label, fontsize=8)
        ax.grid(axis="x", alpha=0.3)
    axes[0].legend(fontsize=7)
    return figure


def components(curves: dict[str, pd.DataFrame]) -> Figure:
    """Show R^2 against the number of principal components, a panel per block.

    Tables are those of ``judge.compare_components``.
    """
    figure, axes = panels(len(curves), len(curves), width=7, row=2.5, sharey=True)
    for ax, (block, table) in zip(axes, curves.items(), strict=True):
        ax.plot(table.index, table.value, "o-", markersize=3, label="trained")
        ax.fill_between(table.index, table.low, table.high, alpha=0.2, linewidth=0)
        ax.plot(table.index, table.others, "s--", markersize=3, label="untrained")
        ax.fill_between(table.index, table.least, table.most, alpha=0.3, linewidth=0)
        ax.set_xscale("log", base=2)
        ax.set_title(plain(block.removeprefix("conv_")))
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("$R^2$ of the shape")
    axes[0].legend(fontsize=7)
    figure.supxlabel("principal components of H (last: all of it)", fontsize=8)
    return figure


def group_atoms(scores: pd.DataFrame, p: pd.DataFrame, centres_hz: np.ndarray, name: str) -> Figure:
    """Show the six atoms that tell each group most from the rest; grey may be chance.

    `scores` and `p` are those of ``atoms.group_scores`` and ``atoms.significance``.
    """
    figure, axes = panels(len(scores), 5, width=11, row=2.9, sharey=True)
    for ax, (group, row) in zip(axes, scores.iterrows(), strict=True):
        top = np.argsort(-np.abs(row.to_numpy()))[:6]
        values = row.to_numpy()[top]
        signs = np.where(values > 0, COLOURS[0], COLOURS[1])
        colours = np.where(p.loc[group].to_numpy()[top] >= 0.05, "0.75", signs)
        ax.bar(range(len(top)), values, color=colours, hatch=list(np.where(values > 0, "", "//")))
        names = [f"{atom}: {centres_hz[atom]:.0f} Hz" for atom in top]
        ax.set_xticks(range(len(top)), names, rotation=90, fontsize=7)
        ax.axhline(0, color="black", linewidth=0.6)
        ax.set_title(plain(group), fontsize=8)
    figure.supylabel("difference of mean use (standard deviations over classes)", fontsize=8)
    figure.supxlabel(f"{name}: atom number and centre", fontsize=8)
    return figure


def patterns(w: dict[str, np.ndarray], settings: FrontEnd) -> Figure:
    """Show the sum of all atoms weighted by use, model to (mel,), on one axis."""
    figure, ax = plt.subplots(figsize=(8, 3))
    for (name, values), line in zip(w.items(), LINES, strict=False):
        ax.plot(np.arange(len(values)) + 0.5, values, linestyle=line, label=name)
    mel_axis(ax, settings, "x")
    ax.set(ylabel="mean magnitude (clip's peak = 1)")
    ax.legend()
    return figure


def smoothness(table: pd.DataFrame, chosen: float) -> Figure:
    """Show what the penalty's weight does: train and validation errors, steps between bands."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8))
    places = np.arange(len(table))
    for part, line in (("train", "o--"), ("validation", "s-")):
        left.plot(places, table[part], line, label=f"{part} clips")
    left.legend()
    left.set(ylabel="relative error")
    right.plot(places, table.step, "o-", color=COLOURS[2])
    right.set(ylabel="step between bands\n(relative to W)", ylim=(0, None))
    for ax in (left, right):
        ax.axvline(list(table.index).index(chosen), color="0.6", linewidth=0.8, linestyle=":")
        ax.set_xticks(places, [f"{weight:g}" for weight in table.index])
        ax.set(xlabel="weight of the penalty (dotted: taken)")
    return figure


def matches(
    templates: pd.DataFrame, w: np.ndarray, found: pd.DataFrame, settings: FrontEnd
) -> Figure:
    """Show each known source's spectrum, (mel, sources), and the atom of W that it was given."""
    figure, axes = plt.subplots(3, 4, figsize=(10, 5), sharex=True, sharey=True)
    bands = np.arange(len(w)) + 0.5
    for ax, (source, row) in zip(axes.flat, found.iterrows(), strict=True):
        for values, line, name in (
            (templates[source].to_numpy(), "-", "source"),
            (w[:, int(row.atom)], "--", "atom"),
        ):
            ax.plot(bands, values / max(values.max(), 1e-12), line, label=name)
        ax.set_title(f"{source}: cosine {row.cosine:.2f}", fontsize=8)
        mel_axis(ax, settings, "x")
        ax.tick_params(axis="x", labelsize=6)
        ax.label_outer()
    axes[0, 0].legend(fontsize=7)
    figure.supylabel("magnitude / peak", fontsize=8)
    return figure
