"""House style, and the one way to draw what several figures draw."""

import copy
import html
from collections import defaultdict
from collections.abc import Callable
from functools import partial

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from esc_lib.config import FrontEnd
from esc_lib.sound.grid import Grid
from esc_lib.sound.log_mel import mel_frequencies_hz

MAGNITUDE_CMAP = "magma"
SIGNED_CMAP = "RdBu_r"
MAP_CMAP = "viridis"
PARTS = ("train", "validation", "test")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # okabe2008color
MARKERS = "osD^vP"
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
BESIDE = {"loc": "upper left", "bbox_to_anchor": (1, 1)}  # a legend to the right of its axes
TICKS_HZ = (200, 1000, 2000, 5000, 10000, 20000)


def apply() -> None:
    """Set fonts, sizes and a white background of the figures that follow, and escape tables."""
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
    if shell := get_ipython():
        formatter = shell.display_formatter.formatters["text/html"]
        formatter.for_type_by_name("pandas.io.formats.style", "Styler", styled)


def styled(table) -> str:
    """Return the markup of a pandas Styler, in which names are text.

    Names of classes and clips come from other people; pandas escapes plain tables only.
    """

    def escaped(show: Callable) -> Callable:
        return lambda value: html.escape(show(value)) if isinstance(value, str) else show(value)

    table = copy.deepcopy(table)
    for name, shows in vars(table).items():
        if name.startswith("_display_funcs"):  # of cells and labels, by place; pandas has no option
            usual = partial(escaped, shows.default_factory())
            vars(table)[name] = defaultdict(usual, {at: escaped(f) for at, f in shows.items()})
    return table.to_html()


def plain(name: object) -> str:
    """Return a name as it is written in a text."""
    return str(name).replace("_", " ")


def panels(
    n: int, n_columns: int, width: float, row: float, rest: float = 0.0, **options
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its `n` panels, row by row; what is over in the last row stays empty.

    Its height is `row` inches per row and `rest`. All places, empty ones too: ``figure.axes``.
    """
    n_rows = -(-n // n_columns)
    size = (width, row * n_rows + rest)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False, **options)
    for ax in axes.flat[n:]:
        ax.set_axis_off()
    return figure, list(axes.flat[:n])


def heat_map(
    ax: Axes, values: np.ndarray, *, extent=None, vmin=None, vmax=None, cmap=MAGNITUDE_CMAP
) -> AxesImage:
    """Draw a matrix, its first row at the bottom; without `extent` axes count rows and columns."""
    rows, columns = values.shape
    return ax.imshow(
        values, origin="lower", aspect="auto", extent=extent or (0, columns, 0, rows),
        vmin=vmin, vmax=vmax, cmap=cmap,
    )  # fmt: skip


def spectrogram(
    ax: Axes, values: np.ndarray, settings: FrontEnd, *, vmin: float, vmax: float,
    cmap: str = MAGNITUDE_CMAP, labels: bool = True,
) -> AxesImage:  # fmt: skip
    """Draw (mel, frames) with time in s and frequency in Hz; a layer's coarser grid is fine too.

    Limits of colour are given, so that panels can share them. Small multiples have no labels.
    """
    extent = (0, duration_s(settings), 0, settings.n_mels)
    image = heat_map(ax, values, extent=extent, vmin=vmin, vmax=vmax, cmap=cmap)
    if labels:
        ax.set_xlabel("time (s)")
        mel_axis(ax, settings, "y")
    else:
        ax.set(xticks=[], yticks=[])
    return image


def duration_s(settings: FrontEnd) -> float:
    """Return the time that a spectrogram covers."""
    return settings.n_frames * settings.frame_s


def centres_hz(settings: FrontEnd | Grid) -> np.ndarray:
    """Return the centre frequency of each band in Hz."""
    of_grid = isinstance(settings, Grid)
    return settings.centres_hz if of_grid else mel_frequencies_hz(settings).numpy()


def mel_ticks(settings: FrontEnd | Grid) -> tuple[np.ndarray, list[str]]:
    """Return where round frequencies lie on an axis that counts bands, and their names in Hz.

    Band k spans k to k + 1: its centre frequency stands in the middle.
    """
    centres = centres_hz(settings)
    ticks = [hz for hz in TICKS_HZ if centres[0] <= hz <= centres[-1]]
    places = np.interp(ticks, centres, np.arange(len(centres)) + 0.5)
    return places, [f"{hz / 1000:g}k" if hz >= 1000 else str(hz) for hz in ticks]


def mel_axis(ax: Axes, settings: FrontEnd | Grid, which: str) -> None:
    """Label an axis, "x" or "y", that counts mel bands from 0 with frequencies in Hz."""
    places, names = mel_ticks(settings)
    ax.set(**{f"{which}label": "frequency (Hz)"})
    getattr(ax, f"set_{which}ticks")(places, names)


def atom_curves(ax: Axes, w: np.ndarray, most: int, **line) -> list:
    """Draw up to `most` atoms of W, (mel, atoms), evenly chosen, as curves over mel bands."""
    chosen = evenly(w.shape[1], most)
    ax.set_prop_cycle(color=mpl.colormaps["viridis"](np.linspace(0, 0.9, len(chosen))))
    return ax.plot(np.arange(len(w)) + 0.5, w[:, chosen], **line)


def evenly(n: int, most: int) -> np.ndarray:
    """Return at most `most` of the numbers 0 to n - 1, evenly spread, none twice."""
    return np.linspace(0, n - 1, min(most, n)).astype(int)


def high_peak(w: np.ndarray) -> float:
    """Return the weight that one atom in twenty exceeds: a scale that faint atoms stay faint on."""
    return max(float(np.quantile(w.max(axis=0), 0.95)), 1e-12)
