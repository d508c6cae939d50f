"""Notebooks as files: ``NN_name.py``, which is edited, and the ``.ipynb`` that is made of it.

What reads and writes notebooks is imported where it is used: the task graph starts at once.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from esc_lib.machine.files import write_atomically
from esc_lib.machine.fingerprint import ROOT, parse
from esc_lib.study.chapter import HANDED
from esc_lib.study.parameters import assigned

if TYPE_CHECKING:
    import nbformat

PARAMETERS = re.compile(r'^# %% tags=\["parameters"\]\n(.*?)(?=^# %%|\Z)', re.MULTILINE | re.DOTALL)
# What Jupyter, and Colab, need to know of every notebook.
METADATA = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
}
HEAD = """\
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("esc_lib") is None:  # a fresh Colab runtime: torch and numpy are there
    source = "git+{repository}"
    missing = ["torchinfo", "captum", "lightning-fabric", "lightning-utilities"]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", source, *missing]
    subprocess.run(pip, check=True)"""


def repository() -> str:
    """Return the address of the repository: $REPOSITORY, else what pyproject.toml says."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return os.environ.get("REPOSITORY") or project["urls"]["Repository"]


def head() -> nbformat.NotebookNode:
    """Return the first cell of every notebook, which brings the package where it is missing."""
    import nbformat

    cell = nbformat.v4.new_code_cell(HEAD.format(repository=repository()), id="head")
    cell.metadata.tags = ["remove-cell"]
    return cell


def notebooks_read(source: Path, stems: list[str]) -> list[str]:
    """Return the earlier notebooks that `source` names as strings, or gets things of by a chapter.

    ``chapter.read("03_training")`` is the one, ``chapter.model`` the other.
    """
    named = set()
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Constant):
            named.add(node.value)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "chapter":
            named.add(HANDED.get(node.attr))
    return [stem for stem in stems if stem in named and stem < source.stem]


def parameter_names(source: Path) -> set[str]:
    """Return what the cells tagged `parameters` assign."""
    cells = PARAMETERS.findall(source.read_text(encoding="utf-8"))
    return {name for cell in cells for name in assigned(cell)}


def to_notebook(source: Path) -> nbformat.NotebookNode:
    """Read a py:percent file as a notebook: same text, same bytes, on every machine and day."""
    import jupytext
    import nbformat

    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index:03d}"
    notebook.cells.insert(0, head())
    return notebook


def convert(source: Path, target: Path, kept: Path) -> None:
    """Write the notebook of a py:percent file; a newer notebook that differs is moved to `kept`."""
    import nbformat

    text = nbformat.writes(to_notebook(source), version=4) + "\n"
    if target.is_file() and target.read_text(encoding="utf-8") == text:
        return
    if target.is_file() and target.stat().st_mtime > source.stat().st_mtime:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(target, kept)
        print(f"{target.name} is written anew from {source.name}; your copy is now {kept}")
    write_atomically(target, lambda path: path.write_text(text, encoding="utf-8"))
