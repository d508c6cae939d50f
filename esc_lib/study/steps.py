"""The steps of a study: data, execution, the book's source, its HTML, the record.

What only one step needs is imported there: the task graph, which knows them all, starts at once.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from esc_lib.config import get_profile
from esc_lib.machine.files import from_root, put_in_place, save_json
from esc_lib.machine.fingerprint import ROOT
from esc_lib.study.contents import note_of
from esc_lib.study.notebook import head, parameter_names, repository
from esc_lib.study.options import Options

if TYPE_CHECKING:
    import nbformat

ADDRESS = "{{repository}}"  # in pages and in _config.yml


class Failed(Exception):
    """What went wrong, in one sentence."""


def data_note(options: Options) -> Path:
    """Return the file that says which clips the study is about."""
    return options.build / "data.json"


def make_data(options: Options) -> None:
    """Have the data made or fetched, and note what it is; unchanged data leaves the note as is."""
    from esc_lib.data import prepare

    try:
        note = _note_of(options, prepare(options.profile, options.data).resolve())
    except (ValueError, OSError) as error:
        raise Failed(" ".join(str(error).split())) from error
    if note != _noted(options):
        save_json(data_note(options), note)


def data_unchanged(options: Options) -> bool:
    """Say whether the clips are those of the note."""
    noted = _noted(options)
    try:
        return bool(noted) and _note_of(options, ROOT / noted["folder"]) == noted
    except OSError:
        return False


def _noted(options: Options) -> dict:
    file = data_note(options)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _note_of(options: Options, folder: Path) -> dict:
    return note_of(folder, data_note(options).with_name(".clips.json"))


def parameters_of(options: Options, stem: str) -> dict:
    """Return what a notebook is given, of the parameters that it has.

    It runs in the project's folder, from which paths are seen. Where nothing is said it finds
    artefacts and data itself, as it does when somebody opens it.
    """
    given = {"profile": options.profile}
    paths = {"data_folder": options.data, "start_from": options.start} | options.companions
    given |= {name: from_root(path) for name, path in paths.items() if path}
    if options.epochs:
        given["epochs"] = options.epochs
    known = parameter_names(options.sources[stem])
    return {name: value for name, value in given.items() if name in known}


def execute(options: Options, stem: str) -> None:
    """Run one notebook of the profile."""
    from esc_lib.study.batch import run_notebook

    source = options.sources[stem]
    parameters = parameters_of(options, stem)
    print(f"{stem} ...", flush=True)
    start = time.monotonic()
    failure = run_notebook(
        source.with_suffix(".ipynb"), options.executed(stem), parameters, ROOT, options.threads
    )
    if failure:
        raise Failed(failure)
    print(f"{stem}: {time.monotonic() - start:.0f} s", flush=True)


def staged(options: Options) -> dict[Path, Path]:
    """Return source -> copy of all that the book is built from."""
    stage, book = options.build / "book", ROOT / "book"
    pages = [p.relative_to(book) for p in sorted(book.rglob("*")) if p.is_file()]
    return {
        **{book / page: stage / page for page in pages if not str(page).startswith(".")},
        ROOT / "_config.yml": stage / "_config.yml",
        **{options.executed(s): stage / "notebooks" / f"{s}.ipynb" for s in options.sources},
    }


def assemble(options: Options) -> None:
    """Lay out the book's source afresh, so that nothing stale stays in it."""
    import nbformat

    from esc_lib.study import record

    shutil.rmtree(options.build / "book", ignore_errors=True)
    for source, target in staged(options).items():
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".ipynb":
            try:
                notebook = with_own_head(record.without_machine(source), source.stem)
            except ValueError as error:
                raise Failed(str(error)) from error
            if options.recorded:
                say_what_was_recorded(notebook, source.parent.parent.name)
            nbformat.write(notebook, target)
        elif target.suffix in (".md", ".yml"):
            text = source.read_text(encoding="utf-8").replace(ADDRESS, repository())
            if target.name == "_toc.yml":
                text = contents_without(text, options.lacking)
            text = without_links(text, options.lacking)
            target.write_text(text, encoding="utf-8")
        else:
            shutil.copy2(source, target)
    if options.lacking:
        print(f"not recorded yet, left out: {', '.join(options.lacking)}")


def with_own_head(notebook: nbformat.NotebookNode, stem: str) -> nbformat.NotebookNode:
    """Return a notebook with today's first cell: a recorded one may name another address."""
    if "remove-cell" in notebook.cells[0].metadata.get("tags", []):
        notebook.cells[0] = head(stem)
    return notebook


def say_what_was_recorded(notebook: nbformat.NotebookNode, profile: str) -> None:
    """Name the clips below the title of a recorded page: a book may hold pages about several."""
    title = next(cell for cell in notebook.cells if cell.source.startswith("# "))
    first, _, rest = title.source.partition("\n")
    title.source = f"{first}\n\n*Recorded on {get_profile(profile).dataset_label}.*\n{rest}"


def contents_without(toc: str, stems: list[str]) -> str:
    """Return the table of contents without the pages of some notebooks."""
    pages = {f"notebooks/{stem}" for stem in stems}
    lines = toc.splitlines(keepends=True)
    return "".join(line for line in lines if line.partition("file:")[2].strip() not in pages)


def without_links(page: str, stems: list[str]) -> str:
    """Return a page with only the text of its links to some notebooks."""
    for stem in stems:
        page = re.sub(rf"\[([^\]]+)\]\(notebooks/{stem}\.ipynb\)", r"\1", page)
    return page


def build_html(options: Options) -> None:
    """Build all pages, warnings being errors, and publish them by one rename."""
    from sphinx_external_toc.parsing import parse_toc_yaml

    stage, work, log = (options.build / name for name in ("book", "jb", "html.log"))
    shutil.rmtree(work, ignore_errors=True)  # afresh: numbers glued from another page go stale
    book = "from jupyter_book.cli.main import main; main()"  # its script does not survive a move
    command = [sys.executable, "-c", book, "build", stage]
    command += ["--path-output", work, "-W", "-n", "--keep-going"]
    with log.open("w", encoding="utf-8") as stream:
        status = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, cwd=ROOT)
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8", errors="replace"))
    warnings = [line for line in text.splitlines() if re.search(r"\b(WARNING|ERROR):", line)]
    built, where = work / "_build" / "html", log.relative_to(ROOT)
    if status.returncode or warnings:
        raised = re.findall(r"^[\w.]+\.\w+: .*$", text, re.MULTILINE)
        print(*(warnings or raised or text.splitlines()[-10:]), sep="\n")
        raise Failed(f"html failed, warnings: {len(warnings)} (see {where}).")
    notebooks = (f"notebooks/{stem}" for stem in options.sources)
    pages = dict.fromkeys(["index", *parse_toc_yaml(stage / "_toc.yml"), *notebooks])
    missing = [page for page in pages if not (built / f"{page}.html").is_file()]
    if missing:
        what = ", ".join(missing)
        raise Failed(f"html failed: no page for {what}; is it in book/_toc.yml? (see {where})")
    print(f"The book: {put_in_place(built, options.build / 'html') / 'index.html'}")


def make_record(options: Options) -> None:
    """Put the study into results/."""
    from esc_lib.study import record

    notebooks = [options.executed(stem) for stem in options.sources]
    target = ROOT / "results" / options.profile
    try:
        record.record(options.profile, options.artifacts, notebooks, target)
    except (ValueError, OSError) as error:
        raise Failed(" ".join(str(error).split())) from error
    print(f"Recorded in {target.relative_to(ROOT)}")
