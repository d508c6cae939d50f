"""Notebooks asked for by name: run in batch with what they read, and on a machine without us."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from esc_lib.machine.files import hold
from esc_lib.machine.fingerprint import ROOT, imported_files, parse
from esc_lib.study import steps
from esc_lib.study.notebook import convert, notebooks_read, repository
from esc_lib.study.options import Options

# modules whose distribution has another name
CALLED = {"IPython": "ipython", "PIL": "pillow", "sklearn": "scikit-learn", "umap": "umap-learn"}
KEPT = {"torch", "numpy", "distributed"}  # another torch would not fit the machine's own; clusters
BATCH = ("papermill", "jupytext", "ipykernel")  # for `run`


def run(options: Options, names: Sequence[str]) -> None:
    """Execute notebooks, and before them those that they read and that did not run to their end.

    On other clips than before, all that they read runs again.

    Parameters
    ----------
    names : of notebooks, whole or the number.

    Raises
    ------
    ValueError, OSError
        With one sentence, if there is no checkout or no such notebook, or if one fails.
    """
    if not (ROOT / "dodo.py").is_file():
        raise OSError(
            "run: only esc_lib is installed, and notebooks come with the repository; "
            f"git clone {repository()}, and run this in its folder."
        )
    chosen = {_stem(name, options.sources) for name in names}
    with hold(options.build / ".at_work"):
        try:
            fresh = _has_other_clips(options)
            for stem in sorted(chosen | _all_read(chosen, options.sources)):
                if fresh or stem in chosen or not _finished(options.artifacts, stem):
                    source = options.sources[stem]
                    target = source.with_suffix(".ipynb")
                    convert(source, target, ROOT / "build" / "replaced" / target.name)
                    steps.execute(options, stem)
        except steps.Failed as error:
            raise ValueError(str(error)) from None


def _stem(name: str, stems: Iterable[str]) -> str:
    for stem in stems:
        if name.zfill(2) in (stem, stem[:2]):
            return stem
    raise ValueError(f"run: there is no notebook {name!r}; choose one of {', '.join(stems)}.")


def _all_read(chosen: Iterable[str], sources: dict[str, Path]) -> set[str]:
    """Return the notebooks that some notebooks read, themselves or through one another."""
    found, waiting = set(), set(chosen)
    while waiting:
        new = set(notebooks_read(sources[waiting.pop()], list(sources))) - found
        found |= new
        waiting |= new
    return found


def _finished(artifacts: Path, stem: str) -> bool:
    return (artifacts / stem / "metrics.json").is_file()


def _has_other_clips(options: Options) -> bool:
    """Prepare the clips; say whether earlier notebooks read others."""
    note = steps.data_note(options)
    before = note.read_bytes() if note.is_file() else None
    steps.make_data(options)
    return before not in (None, note.read_bytes())


# -------------------------------------------------------------------------- the first cell


def prepare(stem: str) -> None:
    """Install what a notebook needs and this machine lacks, and say how to go on.

    Called by the notebook's first cell where the package was not installed, as on Colab.
    """
    sources = Options().sources
    read = sorted(_all_read([stem], sources))
    install({*needs(sources[stem]), *(BATCH if read else ())})
    if read and not any(ROOT.glob("build/*/artifacts/*/metrics.json")):
        print(ways_on(stem, read))


def ways_on(stem: str, read: Sequence[str]) -> str:
    """Return the commands that make what a notebook reads."""
    command = f"!{Path(sys.executable).name} -m esc_lib run {' '.join(each[:2] for each in read)}"
    lines = [f"{stem} reads what {', '.join(read)} wrote. Either run them:", f"    {command}"]
    for weights in sorted(ROOT.glob("results/*/model.safetensors")):
        name = weights.parent.name
        lines += [
            "or train nothing, and take the recorded networks (600 MB of sound are downloaded):",
            f"    {command} --profile {name} --start results/{name}",
            f'and below set profile = "{name}", and start_from = "results/{name}" if it is there.',
        ]
    return "\n".join(lines)


def needs(source: Path) -> set[str]:
    """Return the distributions that a notebook and what it imports of this package import.

    With those that it names as `needs` of its chapter, which are imported late.
    """
    late = re.findall(r"\bneeds ?= ?(\[.*?\])", source.read_text(encoding="utf-8"))
    modules = {name for names in late for name in ast.literal_eval(names)}
    for file in (source, *imported_files(source)):
        for node in ast.walk(parse(file)):
            if isinstance(node, ast.Import):
                modules |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module.split(".")[0])
    modules -= {"esc_lib", *sys.stdlib_module_names}
    return {CALLED.get(name, name.replace("_", "-")) for name in modules} - KEPT


def install(names: Iterable[str]) -> None:
    """Install distributions that are missing, and what they require; never torch or numpy."""
    missing = sorted(name for name in set(names) - KEPT if not _is_installed(name))
    if not missing:
        return
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", *missing]
    subprocess.run(pip, check=True)
    importlib.invalidate_caches()
    install(required for name in missing for required in _requirements(name))


def _is_installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def _requirements(name: str) -> Iterable[str]:
    """Yield the names of the distributions that one requires here, extras left out."""
    for requirement in map(Requirement, metadata.requires(name) or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name
