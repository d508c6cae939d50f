"""Figures of notebook 02: from waveform to the network's input."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from esc_lib.config import FrontEnd
from esc_lib.figures.style import (
    COLOURS,
    SIGNED_CMAP,
    duration_s,
    heat_map,
    panels,
    plain,
    spectrogram,
)


def pipeline(stages: list[tuple[str, np.ndarray]], settings: FrontEnd) -> Figure:
    """Show one clip after each step, waveforms (samples,) and spectrograms (mel, frames)."""
    figure, axes = panels(len(stages), 3, width=10, row=2.3)
    for step, (ax, (title, values)) in enumerate(zip(axes, stages, strict=True), 1):
        if values.ndim == 1:
            _waveform(ax, values, settings.sr)
        else:
            unit = "deviations" if "standard" in title else "dB"
            image = spectrogram(ax, values, settings, vmin=values.min(), vmax=values.max())
            figure.colorbar(image, ax=ax, label=unit)
        ax.set_title(f"{step}. {title}")
    return figure


def extraction(
    waveform: np.ndarray, power_db: np.ndarray, mel_db: np.ndarray, settings: FrontEnd
) -> Figure:
    """Show waveform (samples,), power (bins, frames) and mel power (mel, frames), both in dB."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 2.8))
    _waveform(axes[0], waveform, settings.sr)
    power = heat_map(axes[1], power_db, extent=(0, duration_s(settings), 0, settings.sr / 2000))
    axes[1].set(xlabel="time (s)", ylabel="frequency (kHz)")
    mel = spectrogram(axes[2], mel_db, settings, vmin=mel_db.min(), vmax=mel_db.max())
    for image in (power, mel):
        figure.colorbar(image, ax=image.axes, label="dB")
    for ax, title in zip(axes, ("waveform", "power spectrum", "mel spectrum"), strict=True):
        ax.set_title(title)
    return figure


def time_shift(waveform: np.ndarray, shifted: np.ndarray, offset_s: float, sr: int) -> Figure:
    """Show a clip, (samples,), above its shifted self."""
    figure, axes = plt.subplots(2, 1, figsize=(9, 3.2), sharex=True, sharey=True)
    titles = ("original", f"shifted by {offset_s:+.2f} s, gap filled with zeros")
    for ax, values, title in zip(axes, (waveform, shifted), titles, strict=True):
        _waveform(ax, values, sr)
        ax.set_title(title)
        ax.label_outer()
    edge_s = 0.0 if offset_s > 0 else len(waveform) / sr
    axes[1].axvspan(*sorted((edge_s, edge_s + offset_s)), color=COLOURS[4], alpha=0.3)
    return figure


def noise_spectra(frequencies_hz: np.ndarray, spectra_db: dict[str, np.ndarray]) -> Figure:
    """Show measured power densities, name to (frequencies,) in dB, on a logarithmic axis."""
    figure, ax = plt.subplots(figsize=(6, 3))
    for (name, spectrum), line in zip(spectra_db.items(), ("-", "--", ":"), strict=False):
        ax.semilogx(frequencies_hz, spectrum, line, label=name)
    ax.set(xlabel="frequency (Hz)", ylabel="power density (dB re 1 / Hz)")
    ax.legend()
    ax.grid(alpha=0.3)
    return figure


def padding(
    before: list[np.ndarray], after: list[np.ndarray], titles: list[str], settings: FrontEnd
) -> Figure:
    """Show spectrograms of odd lengths (mel, own frames) above what they become."""
    figure, axes = plt.subplots(2, len(before), figsize=(10, 4.4), sharey=True, squeeze=False)
    top = max(values.max() for values in before)
    longest = max(values.shape[1] for values in before) * settings.frame_s
    end_s = duration_s(settings)
    for column, (raw, fitted) in enumerate(zip(before, after, strict=True)):
        for ax, values in ((axes[0, column], raw), (axes[1, column], fitted)):
            image = spectrogram(ax, values, settings, vmin=top - settings.top_db, vmax=top)
            width_s = values.shape[1] * settings.frame_s
            image.set_extent((0, width_s, 0, settings.n_mels))
            ax.set_xlim(0, longest * 1.02)
            ax.axvline(end_s, color=COLOURS[1], linestyle="--", linewidth=1)
            ax.label_outer()
        axes[0, column].set_title(titles[column])
    axes[1, 0].text(
        end_s, settings.n_mels * 1.02, f"{settings.n_frames} frames", color=COLOURS[1], ha="center"
    )
    figure.colorbar(image, ax=axes, label="dB", shrink=0.7)
    return figure


def normalisation(raw: np.ndarray, standardised: np.ndarray, names: list[str]) -> Figure:
    """Show value distributions of several clips, (clips, mel, frames), before and after."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.8))
    styles = ("-", "--", ":", "-.")
    for ax, values, unit in zip(axes, (raw, standardised), ("dB", "deviations"), strict=True):
        limits = float(values.min()), float(values.max())
        for clip, name, line in zip(values, names, styles, strict=False):
            heights, edges = np.histogram(clip, bins=80, range=limits, density=True)
            middles = (edges[1:] + edges[:-1]) / 2
            ax.plot(middles, heights, line, label=plain(name))
        ax.set(xlabel=f"log-mel value ({unit})", ylabel="density")
    axes[0].set_title("log-mel, per clip as it comes")
    axes[1].set_title("standardised: mean 0, deviation 1 per clip")
    axes[0].legend()
    return figure


def single(values: np.ndarray, settings: FrontEnd, title: str, unit: str, signed=False) -> Figure:
    """Show one spectrogram (mel, frames); signed values get a diverging map centred on zero."""
    figure, ax = plt.subplots(figsize=(8, 2.8))
    low, high, options = values.min(), values.max(), {}
    if signed:
        high = np.abs(values).max()
        low, options = -high, {"cmap": SIGNED_CMAP}
    image = spectrogram(ax, values, settings, vmin=low, vmax=high, **options)
    figure.colorbar(image, ax=ax, label=unit)
    ax.set_title(title)
    return figure


def _waveform(ax, values: np.ndarray, sr: int) -> None:
    ax.plot(np.arange(len(values)) / sr, values, linewidth=0.4, color=COLOURS[0])
    ax.set(xlabel="time (s)", ylabel="amplitude")
