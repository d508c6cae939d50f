"""Maps of clips as an element of the page: choose a layer, point at a clip, hear it."""

import html
import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
from IPython.display import HTML

from esc_lib.figures.html.page import element, ogg
from esc_lib.figures.style import plain

Maps = Mapping[str, Mapping[str, np.ndarray]]  # method to layer to places, shape (clips, 2)

# What tells groups apart: a colour and a shape, for matplotlib and as a path of SVG.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00",
    "#56B4E9", "#6A3D9A", "#8C4A1D", "#888888", "#222222",
)  # fmt: skip
MARKERS = "os^Dv"
PATHS = (
    "M-5.5 0A5.5 5.5 0 1 0 5.5 0A5.5 5.5 0 1 0 -5.5 0Z", "M-5-5H5V5H-5Z", "M0-6.5L6.5 5H-6.5Z",
    "M0-7L7 0L0 7L-7 0Z", "M0 6.5L6.5-5H-6.5Z",
)  # fmt: skip
WIDTH, HEIGHT, MARGIN = 760, 540, 24
LARGEST_MB = 2.0
COMPRESSION = 0.8  # of Vorbis, 0 to 1: sounds are many and short, for a first impression
SHOWN = ["filename", "category", "group", "fold", "part", "predicted"]


def explorer(
    clips: pd.DataFrame, maps: Maps, sounds: Mapping[int, np.ndarray], sr: int, caption: str
) -> HTML:
    """Return the maps as one element of the page: choose a layer, point at a clip, hear it.

    Parameters
    ----------
    clips : DataFrame with filename, category, group (what is coloured), fold, part and predicted
        (a category); a row per clip. What is predicted wrongly gets a ring.
    maps : dict of method to layer to places, shape (clips, 2); seen first are the first method and
        the last layer.
    sounds : position of a clip to its waveform, shape (samples,), full scale 1; clips without one
        are silent, and paler.
    sr : int, Hz, of the sounds.

    Raises
    ------
    ValueError
        If there are more groups than marks, a map does not hold a place for every clip, or the
        element gets larger than 2 MB.
    """
    for method, of_layer in maps.items():
        for layer, places in of_layer.items():
            if places.shape != (len(clips), 2) or not np.isfinite(places).all():
                raise ValueError(
                    f"explorer: the map of {layer} by {method} has shape {places.shape}, expected "
                    f"{(len(clips), 2)} finite numbers; give a place for each clip."
                )
    groups = groups_of(clips)
    placed = {m: {n: _placed(p) for n, p in of_layer.items()} for m, of_layer in maps.items()}
    methods, layers = list(placed), list(next(iter(placed.values())))
    points = _points(clips, groups, placed[methods[0]][layers[-1]], sounds)
    encoded = {str(i): ogg(waveform, sr, COMPRESSION) for i, waveform in sounds.items()}
    data = _json({"maps": placed, "sounds": encoded})
    found = element(
        f'<figure class="clip-maps" style="max-width:{WIDTH}px"><div class="bar"><label>layer '
        f'<select autocomplete="off">{_options(layers)}</select></label>'
        f'{_buttons(methods, methods[0])}</div><div class="legend">{_buttons(groups)}</div>'
        f'<svg class="map" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" '
        f'aria-label="Map of clips">{points}</svg>'
        '<p class="said" aria-live="polite">Point at a clip, or reach it with the arrow keys.</p>'
        '<audio controls preload="none" aria-label="sound of the chosen clip"></audio>'
        f"<figcaption>{html.escape(caption)}</figcaption>"
        f'<script type="application/json" class="data">{data}</script></figure>',
        "explorer.css",
        "explorer.js",
    )
    if (size_mb := len(found.data.encode()) / 1e6) > LARGEST_MB:
        raise ValueError(
            f"explorer: the element has {size_mb:.1f} MB, at most {LARGEST_MB:g} are light enough "
            f"for a page; give fewer than {len(sounds)} sounds, or shorter ones."
        )
    return found


def groups_of(clips: pd.DataFrame) -> list[str]:
    """Return the names of what is coloured, in the order of its marks."""
    groups = sorted(set(clips.group))
    if len(groups) > len(COLOURS):
        raise ValueError(
            f"groups_of: {len(groups)} groups, but {len(COLOURS)} marks that can be told "
            "apart; group the classes, as by major category."
        )
    return groups


def heard_wrong(clips: pd.DataFrame) -> np.ndarray:
    """Say of each clip whether its prediction is wrong."""
    return (clips.predicted != clips.category).to_numpy()


def _placed(places: np.ndarray) -> list[list[int]]:
    """Return places in the picture, with equal scales in both directions."""
    low, high = places.min(axis=0), places.max(axis=0)
    room = np.array([WIDTH, HEIGHT]) - 2 * MARGIN
    scale = (room / np.maximum(high - low, 1e-9)).min()
    centred = (places - (low + high) / 2) * [scale, -scale]  # in the picture y points downwards
    return (centred + [WIDTH / 2, HEIGHT / 2]).round().astype(int).tolist()


def _points(clips: pd.DataFrame, groups: list[str], places: list, sounds: Mapping) -> str:
    marks = []
    table = clips[SHOWN].itertuples(index=False)
    for i, (clip, (x, y), wrong) in enumerate(zip(table, places, heard_wrong(clips), strict=True)):
        group = groups.index(clip.group)
        said = f"{clip.filename}: {clip.category}, fold {clip.fold} ({clip.part}), "
        said += f"heard as {clip.predicted}." if wrong else "recognised."
        ring = '<circle class="ring" r="9"/>' if wrong else ""
        marks.append(
            f'<g class="point{"" if i in sounds else " silent"}" data-group="{group}" '
            f'role="button" tabindex="-1" aria-label="{html.escape(plain(said))}" '
            f'transform="translate({x},{y})">{_shape(group)}{ring}</g>'
        )
    return "".join(marks)


def _shape(group: int) -> str:
    return f'<path d="{PATHS[group % len(PATHS)]}" fill="{COLOURS[group]}"/>'


def _options(layers: list[str]) -> str:
    texts = [html.escape(name) for name in layers]
    last = f'<option value="{texts[-1]}" selected>{texts[-1]}</option>'
    return "".join(f'<option value="{text}">{text}</option>' for text in texts[:-1]) + last


def _buttons(names: list[str], pressed: str = "") -> str:
    """Return one button per name; where none is pressed they are groups, and carry their mark."""
    mark = '<svg viewBox="-8 -8 16 16" aria-hidden="true">{}</svg> '
    return "".join(
        f'<button type="button" aria-pressed="{str(name == pressed).lower()}">'
        f"{'' if pressed else mark.format(_shape(i))}{html.escape(plain(name))}</button>"
        for i, name in enumerate(names)
    )


def _json(data: dict) -> str:
    """Return JSON that cannot end the script element it stands in."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
