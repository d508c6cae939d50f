"""The task graph: data -> convert -> execute -> assemble -> html, one `build/<profile>` each.

`make study PROFILE=esc50` calls this. By hand: `PROFILE=demo doit`, or one task of it, as in
`doit execute:05_dictionaries`; `doit list --all` shows them. The environment decides: PROFILE
(default demo), DATA (a folder in the layout of data/README.md), EPOCHS, START (a recorded study
whose weights are used instead of training), REFERENCE (a recorded study to build the book of), and
what the companions read: HRIR, SPOKEN, WRITTEN and SUB_URMP (see data/README.md).
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from doit.exceptions import TaskFailed
from doit.globals import Globals
from doit.reporter import ConsoleReporter
from doit.tools import config_changed
from sphinx_external_toc.parsing import parse_toc_yaml

from esc_lib.config import PROFILES
from esc_lib.machine.files import write_atomically
from esc_lib.machine.fingerprint import fingerprint, imported_files
from esc_lib.study.batch import (
    convert,
    notebooks_read,
    parameter_names,
    run_notebook,
    to_notebook,
)
from esc_lib.study.record import record, without_machine

ROOT = Path(__file__).resolve().parent
PROFILE = os.environ.get("PROFILE") or "demo"
DATA = os.environ.get("DATA") or None
EPOCHS = os.environ.get("EPOCHS") or None
START = os.environ.get("START") or None
REFERENCE = os.environ.get("REFERENCE") or None
COMPANIONS = {
    name: str(Path(os.environ[name.upper()]).expanduser().resolve())
    for name in ("hrir", "spoken", "written", "sub_urmp")
    if os.environ.get(name.upper())
}

if PROFILE not in PROFILES:
    sys.exit(f"dodo.py: PROFILE={PROFILE} is unknown; choose one of {', '.join(PROFILES)}.")
if EPOCHS and not (EPOCHS.isdecimal() and int(EPOCHS) > 0):
    sys.exit(f"dodo.py: EPOCHS={EPOCHS} is not a whole number above 0; for example EPOCHS=30.")

BUILD = ROOT / "build" / ("reference" if REFERENCE else PROFILE)
RECORDED = ROOT / "results" / REFERENCE if REFERENCE else None
STAGE, HTML, JB = BUILD / "book", BUILD / "html", BUILD / "jb"
DATA_JSON = BUILD / "data.json"
SOURCES = {path.stem: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))}
if START and not Path(START).expanduser().is_dir():
    sys.exit(f"dodo.py: START={START} is not a folder; give a recorded study, as results/esc10.")
for name, place in COMPANIONS.items():
    if not Path(place).exists():
        sys.exit(f"dodo.py: {name.upper()}={place} does not exist; see data/README.md.")
LACKING = []
if RECORDED:  # notebooks younger than the record are left out of its book
    LACKING = [s for s in SOURCES if not (RECORDED / "notebooks" / f"{s}.ipynb").is_file()]
    SOURCES = {stem: source for stem, source in SOURCES.items() if stem not in LACKING}
    if not SOURCES:
        sys.exit(f"dodo.py: {RECORDED} has no notebooks; record the study: make record PROFILE=...")
BUILD.mkdir(parents=True, exist_ok=True)  # doit opens its record here before it asks for tasks


# --- Actions ------------------------------------------------------------------------------------


def executed(stem: str) -> Path:
    """Return where the executed notebook goes; it is also the sign that it ran."""
    return (RECORDED or BUILD) / "notebooks" / f"{stem}.ipynb"


def make_data() -> TaskFailed | None:
    """Have the data made or fetched, and note what it is; unchanged data leaves the note as is."""
    from esc_lib.data import prepare

    try:
        folder = Path(prepare(PROFILE, Path(DATA).expanduser() if DATA else None)).resolve()
        table = (folder / "meta" / "esc50.csv").read_bytes()
        sizes = sorted((p.name, p.stat().st_size) for p in (folder / "audio").iterdir())
    except (ValueError, OSError) as error:
        return TaskFailed(" ".join(str(error).split()))
    note = {
        "folder": str(folder),
        "csv_sha256": hashlib.sha256(table).hexdigest(),
        "n_clips": len(table.splitlines()) - 1,
        "audio_sha256": hashlib.sha256(json.dumps(sizes).encode()).hexdigest(),
    }
    text = json.dumps(note, indent=1) + "\n"
    if not DATA_JSON.is_file() or DATA_JSON.read_text(encoding="utf-8") != text:
        write_atomically(DATA_JSON, lambda path: path.write_text(text, encoding="utf-8"))
    return None


def execute(stem: str, parameters: dict) -> TaskFailed | None:
    """Run one notebook of the profile, with only those parameters that it has."""
    folder = json.loads(DATA_JSON.read_text(encoding="utf-8"))["folder"]
    (BUILD / "artifacts" / stem).mkdir(parents=True, exist_ok=True)
    known = parameter_names(to_notebook(SOURCES[stem]))
    chosen = {k: v for k, v in {**parameters, "data_folder": folder}.items() if k in known}
    print(f"{stem} ...", end=" ", flush=True)
    start = time.monotonic()
    notebook = SOURCES[stem].with_suffix(".ipynb")
    try:
        failure = run_notebook(notebook, executed(stem), chosen, ROOT)
    except KeyboardInterrupt:
        sys.exit(f"\n{stem} was interrupted; the same command goes on with it.")
    print("failed" if failure else f"{time.monotonic() - start:.0f} s", flush=True)
    return TaskFailed(failure) if failure else None


def staged() -> dict[Path, Path]:
    """Return source -> copy of all that the book is built from."""
    book = [p.relative_to(ROOT / "book") for p in sorted((ROOT / "book").rglob("*")) if p.is_file()]
    return {
        **{ROOT / "book" / p: STAGE / p for p in book if not str(p).startswith(".")},
        ROOT / "_config.yml": STAGE / "_config.yml",
        **{executed(stem): STAGE / "notebooks" / f"{stem}.ipynb" for stem in SOURCES},
    }


def contents_without(toc: str, stems: list[str]) -> str:
    """Return the table of contents without the pages of some notebooks."""
    pages = {f"notebooks/{stem}" for stem in stems}
    lines = toc.splitlines(keepends=True)
    return "".join(line for line in lines if line.partition("file:")[2].strip() not in pages)


def assemble() -> None:
    """Lay out the book's source afresh, so that nothing stale stays in it."""
    shutil.rmtree(STAGE, ignore_errors=True)
    for source, target in staged().items():
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix != ".ipynb":
            shutil.copy2(source, target)
            continue
        nbformat.write(without_machine(source), target)
    contents = STAGE / "_toc.yml"
    kept = contents_without(contents.read_text(encoding="utf-8"), LACKING)
    contents.write_text(kept, encoding="utf-8")
    if LACKING:
        print(f"not recorded yet, left out: {', '.join(LACKING)}")


def build_html() -> TaskFailed | None:
    """Build all pages, warnings being errors, and publish them by one rename."""
    shutil.rmtree(JB, ignore_errors=True)  # afresh: numbers glued from another page go stale
    log = BUILD / "html.log"
    command = [Path(sys.executable).with_name("jupyter-book"), "build", STAGE]
    command += ["--path-output", JB, "-W", "-n", "--keep-going"]
    with log.open("w", encoding="utf-8") as stream:
        status = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, cwd=ROOT)
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8", errors="replace"))
    warnings = [line for line in text.splitlines() if re.search(r"\b(WARNING|ERROR):", line)]
    built = JB / "_build" / "html"
    where = log.relative_to(ROOT)
    if status.returncode or warnings:
        raised = re.findall(r"^[\w.]+\.\w+: .*$", text, re.MULTILINE)
        print(*(warnings or raised or text.splitlines()[-10:]), sep="\n")
        return TaskFailed(f"html failed, warnings: {len(warnings)} (see {where}).")
    pages = ["index", *parse_toc_yaml(STAGE / "_toc.yml"), *(f"notebooks/{s}" for s in SOURCES)]
    missing = [page for page in dict.fromkeys(pages) if not (built / f"{page}.html").is_file()]
    if missing:
        what = ", ".join(missing)
        return TaskFailed(f"html failed: no page for {what}; is it in book/_toc.yml? (see {where})")
    old = HTML.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    if HTML.exists():
        HTML.rename(old)
    built.rename(HTML)
    shutil.rmtree(old, ignore_errors=True)
    print(f"The book: {HTML / 'index.html'}")
    return None


def make_record() -> TaskFailed | None:
    """Put the study into results/."""
    notebooks = [executed(stem) for stem in SOURCES]
    target = ROOT / "results" / PROFILE
    try:
        record(PROFILE, BUILD / "artifacts", notebooks, target)
    except (ValueError, OSError) as error:
        return TaskFailed(" ".join(str(error).split()))
    print(f"Recorded in {target.relative_to(ROOT)}")
    return None


class OneSentence(ConsoleReporter):
    """Say nothing about what is up to date, and one sentence, last, about what failed."""

    def execute_task(self, task):
        """Leave the word to the action."""

    def skip_uptodate(self, task):
        """Leave it out."""

    def _write_failure(self, result, write_exception=True):
        """Wait for the end of the run."""

    def add_success(self, task):
        """Record at once: a run of hours that is killed goes on from here."""
        Globals.dep_manager.backend.dump()

    def complete_run(self):
        """Print each failure; only an unforeseen one has a traceback."""
        messages = [result["exception"].get_msg().strip() for result in self.failures]
        sys.stdout.flush()
        print(*messages, *self.runtime_errors, sep="\n", end="\n" * bool(messages), file=sys.stderr)


# --- Tasks --------------------------------------------------------------------------------------

DOIT_CONFIG = {
    "dep_file": str(BUILD / ".doit"),
    "backend": "json",
    "default_tasks": ["html"],
    "verbosity": 2,
    "reporter": OneSentence,
}


def task_data():
    """Make or fetch the clips of the profile."""
    return {"actions": [make_data], "targets": [DATA_JSON], "uptodate": [False]}


def task_convert():
    """notebooks/NN_name.py -> notebooks/NN_name.ipynb"""
    for stem, source in SOURCES.items():
        target = source.with_suffix(".ipynb")
        kept = ROOT / "build" / "replaced" / target.name
        yield {
            "name": stem,
            "actions": [(convert, [source, target, kept])],
            "file_dep": [source],
            "targets": [target],
        }


def task_execute():
    """Run each notebook whose source, library files, data, parameters or inputs have changed."""
    if RECORDED:
        return
    parameters = {"profile": PROFILE, "artifacts": str(BUILD / "artifacts"), **COMPANIONS}
    if START:
        parameters["start_from"] = str(Path(START).expanduser().resolve())
    for stem, source in SOURCES.items():
        library = fingerprint(code=imported_files(source, ROOT))
        reads = notebooks_read(source, list(SOURCES))
        own = {k: v for k, v in parameters.items() if k in parameter_names(to_notebook(source))}
        if EPOCHS and "epochs" in parameter_names(to_notebook(source)):
            own["epochs"] = int(EPOCHS)
        yield {
            "name": stem,
            "actions": [(execute, [stem, own])],
            "file_dep": [source, DATA_JSON, *map(executed, reads)],
            "task_dep": [f"convert:{stem}"],
            "targets": [executed(stem)],
            "uptodate": [
                config_changed({**own, "library": library}),
                (BUILD / "artifacts" / stem).is_dir(),
            ],
        }


def task_assemble():
    """Copy chapters, configuration and executed notebooks to build/<profile>/book."""
    files = staged()
    return {"actions": [assemble], "file_dep": [*files], "targets": [*files.values()]}


def task_html():
    """Build the book."""
    return {
        "actions": [build_html],
        "file_dep": [*staged().values()],
        "targets": [HTML / "index.html"],
    }


def task_record():
    """Put the finished study into results/, to be committed (not done by default)."""
    return {
        "actions": [make_record],
        "file_dep": [HTML / "index.html"],
        "uptodate": [False],
    }
