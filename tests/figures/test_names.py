"""Whatever a class, a clip or a layer is called: nothing of an element comes of its name."""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from browser import Page
from IPython.core.formatters import DisplayFormatter
from IPython.display import HTML

from esc_lib.config import PROFILES
from esc_lib.explain.sound_explainer import SoundExplainer
from esc_lib.figures import style
from esc_lib.figures.html.explorer import explorer
from esc_lib.figures.html.player import Sound, captioned, on_grid, pictured
from esc_lib.figures.html.slider import trace_slider
from esc_lib.figures.style import styled
from esc_lib.sound.grid import Grid

FRONT_END = replace(PROFILES["demo"].front_end, n_mels=16, n_frames=30)
WAVE = np.sin(np.arange(8000.0))
PLAIN = "a dog"
NAMES = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "\" onmouseover=\"alert(1)\" x=\"",
    "' autofocus onfocus='alert(1)",
    "--></style></figure></div><svg onload=alert(1)>",
    "&lt;b&gt;&quot;",
    "=cmd|' /C calc'!A0",
    "{0} {title} %s \\u003cscript>",
    "\u202egod\x00\u2028",
]  # fmt: skip


def clips_called(name):
    """Return maps of three clips, of which all that has a name has this one."""
    table = {"filename": name, "category": name, "group": name, "part": name, "predicted": name}
    clips = pd.DataFrame([table | {"fold": fold} for fold in (1, 2, name)])
    places = {"block 1": np.eye(3)[:, :2], name: np.eye(3)[:, 1:]}
    return explorer(clips, {name: places, "UMAP": places}, {0: WAVE}, 16_000, name)


def pictured_as(name):
    sound = Sound(WAVE, name, np.zeros((16, 30)))
    return pictured([[sound]], FRONT_END, name, limits=(-80, 0), headings=[name], unit=name)


def heard_as(name):
    grid, parts = Grid.of(FRONT_END), [torch.from_numpy(WAVE).float()[None]]
    return on_grid(grid, parts, [name], [name], name)


def explained_as(name):
    def model(waves):
        return torch.stack([waves.square().mean(dim=1), waves.abs().mean(dim=1)], dim=1)

    explainer = SoundExplainer(model, sr=8000, names=[name, name])
    return explainer.attribute(torch.from_numpy(WAVE).float()[None], 0).show()


def table_of(name):
    columns = pd.MultiIndex.from_tuples([(name, "x"), ("y", name)], names=[name, "z"])
    return pd.DataFrame([[name, 1.0]], index=pd.Index([name], name=name), columns=columns)


ELEMENTS = {
    "captioned": lambda name: captioned([Sound(WAVE, name)], 16_000, name),
    "pictured": pictured_as,
    "on a grid": heard_as,
    "explanation": explained_as,
    "explorer": clips_called,
    "slider": lambda name: trace_slider(np.ones((2, 16, 4)), [1, 2], name, FRONT_END, name),
    "styled table": lambda name: HTML(styled(table_of(name).style.format(precision=1))),
    "table": table_of,
}


def shape(element):
    """Return the tags and attributes of an element, and what its scripts do."""
    page = Page(getattr(element, "data", None) or element._repr_html_())
    shown = [(tag, sorted(attributes)) for tag, attributes in page.elements]
    return shown, page.styles, [script for script in page.scripts if not script.startswith("{")]


@cache
def usual(kind):
    return shape(ELEMENTS[kind](PLAIN))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ELEMENTS)
def test_a_name_adds_no_tag_no_attribute_and_no_script(kind, name):
    assert usual(kind)[0] and shape(ELEMENTS[kind](name)) == usual(kind)


def test_notebooks_show_styled_tables_so(monkeypatch):
    shell = SimpleNamespace(display_formatter=DisplayFormatter())
    monkeypatch.setattr(style, "get_ipython", lambda: shell)
    table = table_of("<b>").style.format("{:.2f}", subset=[("y", "<b>")])
    style.apply()
    shown = shell.display_formatter.format(table)[0]["text/html"]
    assert "<b>" not in shown and "&lt;b&gt;" in shown and "1.00" in shown
