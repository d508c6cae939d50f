"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import torch


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`.

    Whatever goes wrong in `write`, a file that stood at `path` before still does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(scratch)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def save_json(path: Path, content: dict) -> None:
    """Write `content` as readable JSON, all of it or nothing."""
    text = json.dumps(content, indent=1)
    write_atomically(path, lambda scratch: scratch.write_text(text + "\n"))


def made_once(path: Path, identity: str, make: Callable[[], dict]) -> dict:
    """Return the dict of plain types that `make` returns, or the one kept from an earlier call.

    Parameters
    ----------
    path : Path, the file to keep it in; it is replaced if `identity` is another.
    identity : str, says what decides the content.
    make : function without arguments.
    """
    kept = torch.load(path, weights_only=True) if path.is_file() else {}
    if kept.get("identity") != identity:
        kept = {"identity": identity} | make()
        write_atomically(path, lambda scratch: torch.save(kept, scratch))
    return kept
