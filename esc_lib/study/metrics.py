"""From notebook to book: numbers with unit and interval, written down and glued."""

from __future__ import annotations

import json
import math
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


def publish(folder: Path, metrics: dict[str, Metric]) -> None:
    """Write ``metrics.json`` and glue every value, so that pages of the book can quote it.

    Parameters
    ----------
    folder : the notebook's artefact folder; its name is recorded with each metric.
    metrics : name to Metric.

    Raises
    ------
    ValueError
        If a value or an end of an interval is not finite.
    """
    for name, metric in metrics.items():
        for value in (metric.value, *(metric.interval or ())):
            if isinstance(value, float | np.floating) and not math.isfinite(value):
                raise ValueError(f"publish: metric {name!r} is {value}; nothing was written.")
    rows = {name: asdict(metric) | {"notebook": folder.name} for name, metric in metrics.items()}
    text = json.dumps(rows, indent=1, default=np.generic.item)  # NumPy scalars as plain ones
    write_atomically(folder / "metrics.json", lambda path: path.write_text(text + "\n"))
    for name, metric in metrics.items():
        # what myst-nb's glue emits, without needing myst-nb where the notebook runs
        plain = metric.value.item() if isinstance(metric.value, np.generic) else metric.value
        text = plain if isinstance(plain, str) else repr(plain)
        display(
            {GLUE_PREFIX + "text/plain": text},
            raw=True,
            metadata={"scrapbook": {"name": name, "mime_prefix": GLUE_PREFIX}},
        )
