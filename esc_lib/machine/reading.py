"""Files that somebody may have edited, damaged or made up: read, or refused in one sentence."""

from __future__ import annotations

import json
import pickle
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import pandas as pd

RESTORE = "restore it, or delete it and make it anew"
# what pandas, gzip and torch raise of content that is not theirs
FAULTS = (ValueError, LookupError, AttributeError, EOFError, OSError, RuntimeError, zlib.error)


def refuse(path: Path, what: object) -> NoReturn:
    """Raise the one ValueError of this module."""
    reason = " ".join(str(what).split())[:200].rstrip(".")
    raise ValueError(f"read: {path} {reason}; {RESTORE}.") from None


def read_json(path: Path, **kinds: type) -> dict:
    """Return the object that a JSON file holds.

    Parameters
    ----------
    kinds : what has to be in it, and of which type.

    Raises
    ------
    ValueError
        If it is not JSON, no object, or lacks one of these.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        refuse(path, f"is not JSON ({error})")
    must_hold(path, found, **kinds)
    return found


def must_hold(path: Path, found: object, **kinds: type) -> None:
    """Refuse what was found in a file if it is no object, or lacks what it has to hold."""
    if not isinstance(found, dict):
        refuse(path, f"holds a {type(found).__name__} in the place of names and values")
    for name, kind in kinds.items():
        if not isinstance(found.get(name), kind):
            refuse(path, f"has {name}={found.get(name)!r}, expected a {kind.__name__}")


def read_table(path: Path, numbers: Iterable[str] = (), words: Iterable[str] = ()) -> pd.DataFrame:
    """Return a csv table, also a packed one.

    Parameters
    ----------
    numbers, words : columns that it must have; those of `numbers` hold nothing else.

    Raises
    ------
    ValueError
        If it is no such table.
    """
    import pandas as pd  # only here: the task graph, which reads files too, starts without it

    try:
        table = pd.read_csv(path)
    except FAULTS as error:
        if getattr(error, "filename", None):  # the system's: the file is missing, or closed to us
            raise
        refuse(path, f"is not a csv table ({error})")
    numbers = list(numbers)
    if missing := [name for name in (*numbers, *words) if name not in table]:
        refuse(path, f"lacks the column(s) {', '.join(missing)}")
    for name in numbers:
        if len(table) and not pd.api.types.is_numeric_dtype(table[name]):
            refuse(path, f"holds other things than numbers in its column {name}")
    return table


def read_tensors(path: Path, **options) -> dict:
    """Return a dict of tensors and plain types that ``torch.save`` wrote; no other is unpickled.

    Parameters
    ----------
    options : of ``torch.load``.

    Raises
    ------
    ValueError
        If the file is damaged, or holds objects that would run code as they are read.
    """
    import torch

    try:
        found = torch.load(path, weights_only=True, **options)
    except pickle.UnpicklingError:
        refuse(path, "holds more than tensors and plain types, or is damaged")
    except FAULTS as error:
        if getattr(error, "filename", None):
            raise
        refuse(path, f"is damaged ({error})")
    must_hold(path, found)
    return found
