"""Notebooks as files: ``NN_name.py``, which is edited, and the ``.ipynb`` that is made of it.

What reads and writes notebooks is imported where it is used: the task graph starts at once.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import tomllib
from importlib import metadata
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
import os
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("esc_lib") is None:  # a fresh Colab runtime, or nothing is installed
    here = Path.cwd()
    found = [folder for folder in (here, *here.parents) if (folder / "dodo.py").is_file()]
    project = found[0] if found else here / "hidden-spectra"
    if not project.is_dir():
        clone = ["git", "clone", "-q", "--depth=1", "{repository}", str(project)]
        subprocess.run(clone, check=True)
    os.chdir(project)
    sys.path.insert(0, str(project))
    from esc_lib.study.alone import prepare

    prepare("{stem}")  # installs what is missing, never torch or numpy; says how to go on"""


def repository() -> str:
    """Return the address of the repository: $REPOSITORY, else what pyproject.toml says.

    Where only the package is installed its metadata hold the same.
    """
    if given := os.environ.get("REPOSITORY"):
        return given
    if (ROOT / "pyproject.toml").is_file():
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        return tomllib.loads(text)["project"]["urls"]["Repository"]
    return metadata.metadata("esc-lib")["Project-URL"].split(", ")[1]


def head(stem: str) -> nbformat.NotebookNode:
    """Return the first cell of a notebook, which brings the project where the package is missing.

    There it puts a checkout in the folder at hand, whose notebooks can be run and whose recorded
    networks can be taken, and makes it the working folder.
    """
    import nbformat

    text = HEAD.format(repository=repository(), stem=stem)
    cell = nbformat.v4.new_code_cell(text, id="head")
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
    notebook.cells.insert(0, head(source.stem))
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
