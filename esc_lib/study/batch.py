"""Notebooks in batch: what one depends on, its conversion from py:percent, its execution."""

from __future__ import annotations

import ast
import logging
import os
import re
import shutil
from pathlib import Path

import jupytext
import nbformat
import papermill
from nbclient.exceptions import DeadKernelError

from esc_lib.machine.files import write_atomically
from esc_lib.machine.fingerprint import parse

KERNEL_SPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
KERNEL_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    # idle threads sleep instead of spinning: on a shared machine spinning costs a factor of ten
    "OMP_WAIT_POLICY": "PASSIVE",
}


def notebooks_read(source: Path, stems: list[str]) -> list[str]:
    """Return the earlier notebooks that `source` names as strings: ``find(x, "01_data")``."""
    nodes = (node for node in ast.walk(parse(source)) if isinstance(node, ast.Constant))
    strings = {node.value for node in nodes if isinstance(node.value, str)}
    return [stem for stem in stems if stem in strings and stem < source.stem]


def parameter_names(notebook: nbformat.NotebookNode) -> set[str]:
    """Return what the cell tagged `parameters` assigns."""
    names = set()
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            for node in ast.parse(cell.source).body:
                targets = getattr(node, "targets", [getattr(node, "target", None)])
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def to_notebook(source: Path) -> nbformat.NotebookNode:
    """Read a py:percent file as a notebook: same text, same bytes, on every machine and day."""
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata.get("jupytext", {}).pop("text_representation", None)  # holds a version
    notebook.metadata.setdefault("kernelspec", dict(KERNEL_SPEC))
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index:03d}"
    return notebook


def convert(source: Path, target: Path, kept: Path) -> None:
    """Write the notebook of a py:percent file; a newer notebook that differs is moved to `kept`."""
    text = nbformat.writes(to_notebook(source), version=4) + "\n"
    if target.is_file() and target.read_text(encoding="utf-8") == text:
        return
    if target.is_file() and target.stat().st_mtime > source.stat().st_mtime:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(target, kept)
        print(f"{target.name} is written anew from {source.name}; your copy is now {kept}")
    write_atomically(target, lambda path: path.write_text(text, encoding="utf-8"))


def run_notebook(notebook: Path, target: Path, parameters: dict, cwd: Path) -> str | None:
    """Execute into `target`; return None, or one sentence about the failure.

    `target` appears only when every cell ran; after a failure the partial notebook is
    ``<name>.failed.ipynb`` beside it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial.ipynb")
    failed = target.with_suffix(".failed.ipynb")
    before = dict(os.environ)
    os.environ.update(KERNEL_ENVIRONMENT)  # the kernel inherits it
    os.environ.pop("MPLBACKEND", None)
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # the sentence below says it
    try:
        papermill.execute_notebook(
            notebook,
            partial,
            parameters,
            kernel_name="python3",
            cwd=cwd,
            progress_bar=False,
            extra_arguments=["--log-level=CRITICAL"],  # or a kernel warns of its local port
        )
        partial.replace(target)
        failed.unlink(missing_ok=True)
        return None
    except papermill.PapermillExecutionError as error:
        what = re.sub(r"\x1b\[[0-9;]*m", "", f"{error.ename}: {error.evalue}")
        sentence = f"{target.stem} failed in cell {error.exec_count}: {' '.join(what.split())}"
    except DeadKernelError:
        sentence = f"{target.stem} failed: its kernel died, most often for want of memory."
    finally:
        os.environ.clear()
        os.environ.update(before)
        if partial.exists():
            partial.replace(failed)
    return sentence
