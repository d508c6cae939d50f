"""Maps of clips as an element of the page: choose a layer, point at a clip, hear it."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
import soundfile
from IPython.display import HTML

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

STYLE = """
.clip-maps{box-sizing:border-box;max-width:WIDTHpx;margin:0;padding:8px 12px;background:#fff;
 color:#222;font-size:13px;line-height:1.35;border-radius:4px}
.clip-maps .bar,.clip-maps .legend{display:flex;flex-wrap:wrap;align-items:center;gap:4px 8px;
 margin-bottom:6px}
.clip-maps .map{display:block;width:100%;height:auto;border:1px solid #ccc;cursor:pointer}
.clip-maps .point{transition:transform .6s}
.clip-maps .point path{stroke:#fff;stroke-width:1}
.clip-maps .silent path{fill-opacity:.45}
.clip-maps .ring{fill:none;stroke:#000;stroke-width:1.4}
.clip-maps .faded{opacity:.08}
.clip-maps .point:focus{outline:none}
.clip-maps .current path{transform:scale(1.7);stroke:#000;stroke-width:1.5}
.clip-maps button,.clip-maps select{padding:2px 7px;border:1px solid #767676;border-radius:4px;
 background:#f2f2f2;color:#222;font-size:13px;cursor:pointer}
.clip-maps button[aria-pressed=true]{background:#222;color:#fff}
.clip-maps button svg{width:14px;height:14px;vertical-align:-2px}
.clip-maps .said{min-height:2.7em;margin:4px 0;font-weight:600;color:#222}
.clip-maps audio{width:100%;height:32px;margin-bottom:6px}
.clip-maps figcaption{text-align:left;font-size:12px;font-weight:400;color:#222!important}
.clip-maps:not([data-ready]) :is(.bar,.said,audio){display:none}
@media (prefers-reduced-motion:reduce){.clip-maps .point{transition:none}}
"""

# Every block wires those of its kind that are not wired yet: it needs no name, and may stand on a
# page twice. Without JavaScript the first map stands still.
SCRIPT = """
(() => {
  const wire = (root) => {
    const [map, layer, said, audio] = [".map", "select", ".said", "audio"].map((name) => (
      root.querySelector(name)));
    const points = [...root.querySelectorAll(".point")];
    const methods = [...root.querySelectorAll(".bar button")];
    const groups = [...root.querySelectorAll(".legend button")];
    const data = JSON.parse(root.querySelector(".data").textContent);
    let method = methods[0].textContent, current = 0, sounding = -1;
    const spot = (i) => data.maps[method][layer.value][i];
    const tell = (i) => {
      const sound = i === sounding && !audio.paused ? " Playing."
        : data.sounds[i] ? "" : " No sound here.";
      const text = points[i].getAttribute("aria-label") + sound;
      if (said.textContent !== text) said.textContent = text;
    };
    const place = () => {
      points.forEach((point, i) => {
        point.style.transform = "translate(" + spot(i)[0] + "px," + spot(i)[1] + "px)";
      });
      methods.forEach((b) => b.setAttribute("aria-pressed", b.textContent === method));
      map.setAttribute("aria-label", "Map of clips: " + layer.value + ", " + method);
    };
    const mark = (i) => {
      points[current].classList.remove("current");
      points[current].setAttribute("tabindex", "-1");
      current = i;
      points[i].classList.add("current");
      points[i].setAttribute("tabindex", "0");
      tell(i);
    };
    const play = (i) => {
      audio.pause();
      if (data.sounds[i]) {
        sounding = i;
        audio.src = "data:audio/ogg;base64," + data.sounds[i];
        audio.play().catch((error) => {
          if (error.name === "NotSupportedError") said.textContent = "Ogg Vorbis cannot be played.";
        });
      }
      mark(i);
      points[i].focus({ preventScroll: true });
    };
    const nearest = (event) => {
      const box = map.getBoundingClientRect(), unit = WIDTH / box.width;
      const x = (event.clientX - box.left) * unit, y = (event.clientY - box.top) * unit;
      let best = -1, least = Math.max(14, 16 * unit);
      points.forEach((point, i) => {
        const far = Math.hypot(spot(i)[0] - x, spot(i)[1] - y);
        if (far < least && !point.classList.contains("faded")) { best = i; least = far; }
      });
      return best;
    };
    const next = (dx, dy) => {
      let best = current, least = Infinity;
      points.forEach((point, i) => {
        const x = spot(i)[0] - spot(current)[0], y = spot(i)[1] - spot(current)[1];
        const along = x * dx + y * dy, across = Math.abs(x * dy) + Math.abs(y * dx);
        const far = along + 2 * across;
        if (along > 0 && far < least && !point.classList.contains("faded")) {
          [best, least] = [i, far];
        }
      });
      points[best].focus({ preventScroll: true });
    };
    map.addEventListener("pointermove", (event) => {
      const i = nearest(event);
      if (i >= 0) tell(i);
    });
    map.addEventListener("click", (event) => {
      const i = nearest(event);
      if (i >= 0) play(i);
    });
    map.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      if (step[event.key]) next(...step[event.key]);
      else if (event.key === "Enter" || event.key === " ") play(current);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    map.addEventListener("pointerleave", () => {
      if (points[current].classList.contains("current")) tell(current);
    });
    points.forEach((point, i) => point.addEventListener("focus", () => mark(i)));
    groups.forEach((button, group) => button.addEventListener("click", () => {
      const alone = button.getAttribute("aria-pressed") !== "true";
      groups.forEach((b) => b.setAttribute("aria-pressed", alone && b === button));
      points.forEach((point) => {
        point.classList.toggle("faded", alone && Number(point.dataset.group) !== group);
      });
    }));
    methods.forEach((button) => button.addEventListener("click", () => {
      method = button.textContent;
      place();
    }));
    layer.addEventListener("change", place);
    audio.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    });
    audio.addEventListener("pause", () => tell(current));
    points[0].setAttribute("tabindex", "0");
    layer.value = layer.querySelector("[selected]").value; // a reload keeps another choice
    place();
  };
  for (const root of document.querySelectorAll(".clip-maps:not([data-ready])")) {
    root.dataset.ready = "";
    wire(root);
  }
})();
"""


def explorer(
    clips: pd.DataFrame, maps: Maps, sounds: Mapping[int, np.ndarray], sr: int, caption: str
) -> HTML:
    """Return the maps as one element of the page: choose a layer, point at a clip, hear it.

    Sounds are part of the element, which needs neither files nor network.

    Parameters
    ----------
    clips : DataFrame with filename, category, group (what is coloured), fold, part and predicted
        (a category); a row per clip. What is predicted wrongly gets a ring.
    maps : dict of method to layer to places, shape (clips, 2); seen first are the first method and
        the last layer.
    sounds : position of a clip to its waveform, shape (samples,), full scale 1; clips without one
        are silent, and paler.
    sr : int, Hz, of the sounds.
    caption : str

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
    encoded = {str(i): _vorbis(waveform, sr) for i, waveform in sounds.items()}
    data = _json({"maps": placed, "sounds": encoded})
    text = (
        f'<style>{STYLE.replace("WIDTH", str(WIDTH))}</style><figure class="clip-maps">'
        f'<div class="bar"><label>layer <select autocomplete="off">{_options(layers)}</select>'
        f'</label>{_buttons(methods, methods[0])}</div><div class="legend">{_buttons(groups)}</div>'
        f'<svg class="map" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" '
        f'aria-label="Map of clips">{points}</svg>'
        '<p class="said" aria-live="polite">Point at a clip, or reach it with the arrow keys.</p>'
        '<audio controls preload="none" aria-label="sound of the chosen clip"></audio>'
        f"<figcaption>{html.escape(caption)}</figcaption>"
        f'<script type="application/json" class="data">{data}</script></figure>'
        f"<script>{SCRIPT.replace('WIDTH', str(WIDTH))}</script>"
    )
    if (size_mb := len(text.encode()) / 1e6) > LARGEST_MB:
        raise ValueError(
            f"explorer: the element has {size_mb:.1f} MB, at most {LARGEST_MB:g} are light enough "
            f"for a page; give fewer than {len(sounds)} sounds, or shorter ones."
        )
    return HTML(text)


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


def _vorbis(waveform: np.ndarray, sr: int) -> str:
    buffer = io.BytesIO()
    kind = {"format": "OGG", "subtype": "VORBIS", "compression_level": COMPRESSION}
    soundfile.write(buffer, waveform, sr, **kind)
    return base64.b64encode(buffer.getvalue()).decode()


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
            f'role="button" tabindex="-1" aria-label="{html.escape(said.replace("_", " "))}" '
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
        f"{'' if pressed else mark.format(_shape(i))}{html.escape(name.replace('_', ' '))}</button>"
        for i, name in enumerate(names)
    )


def _json(data: dict) -> str:
    """Return JSON that cannot end the script element it stands in."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
