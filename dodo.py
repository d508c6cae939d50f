"""The task graph: data -> convert -> execute -> assemble -> html, one `build/<profile>` each.

`make study PROFILE=esc50` calls this. By hand: `PROFILE=demo doit`, or one task of it, as in
`doit execute:05_dictionaries`; `doit list --all` shows them. What the environment decides is in
`esc_lib/study/options.py`, what a task does in `esc_lib/study/steps.py`.
"""

import signal
import sys
from pathlib import Path

from doit.exceptions import TaskFailed
from doit.globals import Globals
from doit.reporter import ConsoleReporter
from doit.tools import config_changed

from esc_lib.machine.files import from_root, hold, write_atomically
from esc_lib.machine.fingerprint import ROOT, fingerprint, imported_files
from esc_lib.study import steps
from esc_lib.study.notebook import convert, notebooks_read, repository
from esc_lib.study.options import Options

try:
    OPTIONS = Options.of_environment()
except ValueError as error:
    sys.exit(f"dodo.py: {error}")


def act(step, *arguments):
    """Do a step of the study; what it says of a failure goes to the reporter below."""
    try:
        step(OPTIONS, *arguments)
    except steps.Failed as error:
        return TaskFailed(str(error))


def stop(*_):
    """End at Ctrl-C with one sentence."""
    sys.exit("interrupted; the same command goes on from here")


class OneSentence(ConsoleReporter):
    """Say nothing about what is up to date, and one sentence, last, about what failed."""

    def initialize(self, tasks, selected_tasks):
        """Begin a run, unless another process is at work in the same folder."""
        signal.signal(signal.SIGINT, stop)
        records = Globals.dep_manager.backend
        try:
            self.lock = hold(OPTIONS.build / ".at_work")
        except BlockingIOError as error:
            records.dump = lambda: None  # it writes them
            sys.exit(f"dodo.py: {error}")
        file = Path(records.name)
        if file.is_file():  # what it wrote since this process began
            records._db = records._load()

        def dump():
            text = records.codec.encode(records._db)
            try:
                write_atomically(file, lambda scratch: scratch.write_text(text))
            except OSError as error:
                sys.exit(f"dodo.py: {error}")

        records.dump = dump

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


DOIT_CONFIG = {
    "dep_file": str(OPTIONS.build / ".doit"),
    "backend": "json",
    "default_tasks": ["html"],
    "verbosity": 2,
    "reporter": OneSentence,
    "num_process": OPTIONS.jobs,
    "par_type": "thread",  # what works is a kernel, a process of its own
}


def task_data():
    """Make or fetch the clips of the profile."""
    library = fingerprint(code=ROOT / "esc_lib" / "data" / "folders.py")
    return {
        "actions": [(act, [steps.make_data])],
        "targets": [from_root(steps.data_note(OPTIONS))],
        "uptodate": [
            config_changed({"data": OPTIONS.data and from_root(OPTIONS.data), "library": library}),
            lambda: steps.data_unchanged(OPTIONS),
        ],
    }


def task_convert():
    """notebooks/NN_name.py -> notebooks/NN_name.ipynb"""
    for stem, source in OPTIONS.sources.items():
        target = source.with_suffix(".ipynb")
        yield {
            "name": stem,
            "actions": [(convert, [source, target, ROOT / "build" / "replaced" / target.name])],
            "file_dep": [from_root(source)],
            "targets": [from_root(target)],
            "uptodate": [config_changed(repository())],
        }


def task_execute():
    """Run each notebook whose source, library files, data, parameters or inputs have changed."""
    if OPTIONS.recorded:
        return
    for stem, source in OPTIONS.sources.items():
        read = notebooks_read(source, list(OPTIONS.sources))
        library = fingerprint(code=imported_files(source))
        parameters = steps.parameters_of(OPTIONS, stem)
        inputs = source, steps.data_note(OPTIONS), *map(OPTIONS.executed, read)
        yield {
            "name": stem,
            "actions": [(act, [steps.execute, stem])],
            "file_dep": [*map(from_root, inputs)],
            "task_dep": [f"convert:{stem}"],
            "targets": [from_root(OPTIONS.executed(stem))],
            "uptodate": [
                config_changed(parameters | {"library": library}),
                (OPTIONS.artifacts / stem / "metrics.json").is_file(),
            ],
        }


def task_assemble():
    """Copy chapters, configuration and executed notebooks to build/<profile>/book."""
    files = steps.staged(OPTIONS)
    return {
        "actions": [(act, [steps.assemble])],
        "file_dep": [*map(from_root, files)],
        "targets": [*map(from_root, files.values())],
        "uptodate": [config_changed(repository())],
    }


def task_html():
    """Build the book."""
    return {
        "actions": [(act, [steps.build_html])],
        "file_dep": [*map(from_root, steps.staged(OPTIONS).values())],
        "targets": [from_root(OPTIONS.build / "html" / "index.html")],
    }


def task_record():
    """Put the finished study into results/, to be committed (not done by default)."""
    return {
        "actions": [(act, [steps.make_record])],
        "file_dep": [from_root(OPTIONS.build / "html" / "index.html")],
        "uptodate": [False],
    }
