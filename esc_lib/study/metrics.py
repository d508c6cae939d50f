"""From notebook to book: numbers with unit and interval, written down and glued."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from IPython.display import display

from esc_lib.machine.files import write_atomically

GLUE_PREFIX = "application/papermill.record/"


@dataclass(frozen=True)
class Metric:
    """One number of the study.

    Attributes
    ----------
    value : number or word.
    unit : str, empty for counts and shares.
    n : int, observations behind it.
    interval : 95 % interval in the same unit.
    """

    value: float | int | str
    unit: str = ""
    n: int | None = None
    interval: tuple[float, float] | None = None


def publish(folder: Path, metrics: Mapping[str, Metric | float | str], notebook: str) -> None:
    """Write ``metrics.json`` and glue every value, so that pages of the book can quote it.

    Parameters
    ----------
    metrics : name to Metric, or to a plain value without unit. The ends of an interval are
        metrics, too: ``<name>_low`` and ``<name>_high``. Units are glued as ``<name>_unit``.
    notebook : str, recorded with each metric.

    Raises
    ------
    ValueError
        If a value or an end of an interval is not finite.
    """
    metrics = _with_ends(metrics)
    rows = {name: asdict(metric) | {"notebook": notebook} for name, metric in metrics.items()}
    text = json.dumps(rows, indent=1, default=np.generic.item)  # NumPy scalars as plain ones
    write_atomically(folder / "metrics.json", lambda path: path.write_text(text + "\n"))
    for name, metric in metrics.items():
        plain = metric.value.item() if isinstance(metric.value, np.generic) else metric.value
        _glue(name, plain if isinstance(plain, str) else repr(plain))
        if metric.unit:
            _glue(f"{name}_unit", metric.unit)


def _glue(name: str, text: str) -> None:
    """Emit what myst-nb's glue does, without needing myst-nb where the notebook runs."""
    display(
        {GLUE_PREFIX + "text/plain": text},
        raw=True,
        metadata={"scrapbook": {"name": name, "mime_prefix": GLUE_PREFIX}},
    )


def _with_ends(metrics: Mapping[str, Metric | float | str]) -> dict[str, Metric]:
    found = {}
    for name, value in metrics.items():
        found[name] = metric = value if isinstance(value, Metric) else Metric(value)
        for end, value in zip(("low", "high"), metric.interval or ()):
            found[f"{name}_{end}"] = Metric(value, metric.unit)
    for name, metric in found.items():
        if isinstance(metric.value, float | np.floating) and not math.isfinite(metric.value):
            raise ValueError(f"publish: metric {name!r} is {metric.value}; nothing was written.")
    return found
