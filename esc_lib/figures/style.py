"""House style, and the one way to draw a spectrogram."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from esc_lib.config import FrontEnd
from esc_lib.sound.log_mel import mel_frequencies_hz

MAGNITUDE_CMAP = "magma"
SIGNED_CMAP = "RdBu_r"
MAP_CMAP = "viridis"
PARTS = ("train", "validation", "test")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # okabe2008color
TICKS_HZ = (200, 1000, 2000, 5000, 10000, 20000)


def apply() -> None:
    """Set fonts, sizes and an opaque white background for all figures that follow."""
    mpl.rcParams.update(
        {
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "axes.facecolor": "white",
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "font.size": 9,
            "axes.titlesize": 9,
            "axes.prop_cycle": mpl.cycler(color=COLOURS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "image.interpolation": "nearest",
        }
    )


def spectrogram(
    ax: Axes,
    values: np.ndarray,
    settings: FrontEnd,
    *,
    vmin: float,
    vmax: float,
    cmap: str = MAGNITUDE_CMAP,
    labels: bool = True,
) -> AxesImage:
    """Draw (mel, frames) with time in s and frequency in Hz; a layer's coarser grid is fine too.

    Parameters
    ----------
    ax : Axes
    values : array, shape (mel, frames) or any grid that covers the same time and bands.
    settings : FrontEnd, for the axes.
    vmin, vmax : float, limits of the colour scale: given, so that panels can share them.
    cmap : str
    labels : bool, False leaves the axes bare, for small multiples.
    """
    duration_s = settings.n_frames * settings.frame_s
    image = ax.imshow(
        values,
        origin="lower",
        aspect="auto",
        extent=(0, duration_s, 0, settings.n_mels),
        vmin=vmin,
        vmax=vmax,
        cmap=cmap,
    )
    if labels:
        ax.set_xlabel("time (s)")
        mel_axis(ax, settings, "y")
    else:
        ax.set_xticks([])
        ax.set_yticks([])
    return image


def mel_ticks(settings: FrontEnd) -> tuple[np.ndarray, list[str]]:
    """Return where round frequencies lie on an axis that counts mel bands, and their names in Hz.

    Band k spans k to k + 1: its centre frequency stands in the middle.
    """
    centres = mel_frequencies_hz(settings).numpy()
    ticks = [hz for hz in TICKS_HZ if centres[0] <= hz <= centres[-1]]
    places = np.interp(ticks, centres, np.arange(len(centres)) + 0.5)
    return places, [f"{hz / 1000:g}k" if hz >= 1000 else str(hz) for hz in ticks]


def mel_axis(ax: Axes, settings: FrontEnd, which: str) -> None:
    """Label an axis that counts mel bands from 0 with frequencies in Hz."""
    places, names = mel_ticks(settings)
    if which == "y":
        ax.set_yticks(places, names)
        ax.set_ylabel("frequency (Hz)")
    else:
        ax.set_xticks(places, names)
        ax.set_xlabel("frequency (Hz)")


def high_peak(w: np.ndarray) -> float:
    """Return the weight that one atom in twenty exceeds: one scale that faint atoms stay faint on.

    Parameters
    ----------
    w : array, shape (mel, atoms).
    """
    return max(float(np.quantile(w.max(axis=0), 0.95)), 1e-12)
