"""The trace of a fitted dictionary as an element of the page: one slider, one image per epoch."""

import html

import matplotlib as mpl
import numpy as np
from IPython.display import HTML
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from esc_lib.config import FrontEnd
from esc_lib.figures.html.page import element, png
from esc_lib.figures.style import (
    MAGNITUDE_CMAP,
    apply,
    atom_curves,
    evenly,
    heat_map,
    high_peak,
    mel_axis,
)

WIDTH_PX, HEIGHT_PX = 1000, 330
DPI = 100
PANEL_WIDTHS = (3, 7)  # gives each of 512 atoms a column of pixels in the heat map
FONT_SIZE = 12  # larger than in still figures: a phone shows the image at a third of its width
N_CURVES = 12
N_LEVELS = 16  # of the heat map: a page carries dozens of these images


def trace_slider(
    snapshots: np.ndarray, epochs: list[int], name: str, settings: FrontEnd, caption: str
) -> HTML:
    """Return a slider over the traced epochs: some atoms as curves, all of them as a heat map.

    All atoms are divided by one high peak of the last epoch, and limits are fixed, so that all
    epochs share one scale. The same input gives the same text.

    Snapshots, (epochs, mel, atoms), >= 0, have their atoms in the order of the last one.

    Raises
    ------
    ValueError
        If `snapshots` does not hold one (mel, atoms) for every epoch.
    """
    expected = (len(epochs), settings.n_mels)
    if not epochs or snapshots.ndim != 3 or snapshots.shape[:2] != expected:
        raise ValueError(
            f"trace_slider: snapshots of {name} have shape {snapshots.shape}, expected {expected} "
            "and atoms; pass the snapshots and epochs of one Trace."
        )
    last = len(epochs) - 1
    chosen = evenly(snapshots.shape[2], N_CURVES)
    images = ""
    for index, (epoch, picture) in enumerate(zip(epochs, _pictures(snapshots, chosen, settings))):
        alt = (
            f"{name} after epoch {epoch}: on the left {len(chosen)} atoms as curves over "
            "frequency, on the right a heat map of all atoms."
        )
        images += (
            f'<img data-epoch="{epoch}" alt="{html.escape(alt)}" width="{WIDTH_PX}" '
            f'height="{HEIGHT_PX}"{" hidden" if index < last else ""} src="{png(picture)}">'
        )
    return element(
        f'<figure class="trace-slider" style="max-width:{WIDTH_PX}px">{images}'
        f'<label>{html.escape(name)}, epoch <span class="epoch">{epochs[-1]}</span> of '
        f'{epochs[-1]}<input type="range" min="0" max="{last}" value="{last}" '
        f'autocomplete="off"></label><figcaption>{html.escape(caption)}</figcaption></figure>',
        "slider.css",
        "slider.js",
    )


def _pictures(snapshots: np.ndarray, chosen: np.ndarray, settings: FrontEnd) -> list[Image.Image]:
    """Return one image per epoch, all of one size, in one palette."""
    scale = high_peak(snapshots[-1])
    _, n_mels, n_atoms = snapshots.shape
    heat = mpl.colormaps[MAGNITUDE_CMAP].resampled(N_LEVELS)
    with mpl.rc_context():
        apply()  # the same input gives the same images whatever the caller's style
        mpl.rcParams.update({"font.size": FONT_SIZE, "axes.titlesize": FONT_SIZE})
        figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI)
        canvas = FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, width_ratios=PANEL_WIDTHS)
        nothing = np.zeros((n_mels, n_atoms))
        curves = atom_curves(left, nothing, N_CURVES, linewidth=1.2)
        mel_axis(left, settings, "x")
        left.set(xlim=(0, n_mels), ylim=(0, 1.6), ylabel="weight / high final peak")
        left.set_title(f"{len(chosen)} atoms")
        image = heat_map(right, nothing, vmin=0, vmax=1, cmap=heat)
        mel_axis(right, settings, "y")
        right.set(xlabel="atom, sorted by centre", title=f"all {n_atoms} atoms")
        figure.colorbar(image, ax=right, label="weight / high final peak", extend="max")
        colours = mpl.colors.to_rgba_array([curve.get_color() for curve in curves])[:, :3]
        palette = _palette(heat(np.arange(N_LEVELS))[:, :3], colours)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out anew, the second image would shift
        pictures = []
        for w in snapshots:
            scaled = w / scale
            for curve, values in zip(curves, scaled[:, chosen].T):
                curve.set_ydata(values)
            image.set_data(scaled)
            canvas.draw()
            picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
            pictures.append(picture.quantize(palette=palette, dither=Image.Dither.NONE))
    return pictures


def _palette(heat: np.ndarray, colours: np.ndarray) -> Image.Image:
    """Return an image that carries the palette; a palette of its own would make an epoch flicker.

    Colours of the heat map and the curves are (n, 3), in [0, 1]; a lighter shade of each curve is
    added for its edges.
    """
    greys = np.linspace(0, 1, 4)[:, None].repeat(3, axis=1)
    entries = np.concatenate([heat, colours, (1 + colours) / 2, greys])
    carrier = Image.new("P", (1, 1))
    carrier.putpalette((255 * entries).round().astype(np.uint8).tobytes())
    return carrier
