"""The task graph: what a notebook depends on, conversion, execution."""

import errno
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from esc_lib.machine.fingerprint import ROOT
from esc_lib.study import batch, notebook
from esc_lib.study.steps import contents_without, without_links

PARAMETERS = """\
# %% tags=["parameters"]
profile = "demo"  # which settings
epochs: int = 0

"""


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("x = 1  # as in 01_data", []),
        ("own = '05_x'; later = '06_last'", []),
        ("read('01_data'); text = 'see 03_training'", ["01_data"]),
        ("f(a=['03_training', '01_data'])", ["01_data", "03_training"]),
        ("chapter.data; chapter.settings; other.model", ["01_data"]),
        ("model = chapter.model", ["03_training"]),
    ],
)
def test_notebooks_read_are_the_earlier_ones_named(tmp_path, source, reads):
    write(tmp_path, {"05_x.py": source})
    stems = ["01_data", "03_training", "05_x", "06_last"]
    assert notebook.notebooks_read(tmp_path / "05_x.py", stems) == reads


def test_conversion_gives_the_same_bytes_each_time(tmp_path):
    source, target, kept = (tmp_path / name for name in ("a.py", "a.ipynb", "kept/a.ipynb"))
    text = "# %% [markdown]\n# Text\n\n# %%\n# %pip --version\n1 + 1\n"
    write(tmp_path, {"a.py": PARAMETERS + text})
    notebook.convert(source, target, kept)
    first = target.read_bytes()
    target.unlink()
    notebook.convert(source, target, kept)
    assert target.read_bytes() == first
    made = nbformat.read(target, as_version=4)
    nbformat.validate(made)
    assert [cell.id for cell in made.cells] == ["head", "cell-000", "cell-001", "cell-002"]
    assert made.cells[3].source == "%pip --version\n1 + 1"
    assert notebook.parameter_names(source) == {"profile", "epochs"}
    assert not kept.exists()


def test_conversion_keeps_a_notebook_that_somebody_changed(tmp_path, capsys):
    source, target, kept = (tmp_path / name for name in ("a.py", "a.ipynb", "kept/a.ipynb"))
    write(tmp_path, {"a.py": PARAMETERS})
    notebook.convert(source, target, kept)
    good = target.read_text()
    target.write_text("mine")
    os.utime(source, (0, 0))
    notebook.convert(source, target, kept)
    assert (target.read_text(), kept.read_text()) == (good, "mine")
    assert str(kept) in capsys.readouterr().out


def run(folder: Path, code: str) -> tuple[str | None, Path]:
    write(folder, {"02_two.py": PARAMETERS + "# %%\n" + code})
    notebook.convert(folder / "02_two.py", folder / "02_two.ipynb", folder / "kept.ipynb")
    target = folder / "out" / "02_two.ipynb"
    return batch.run_notebook(folder / "02_two.ipynb", target, {"epochs": 7}, folder), target


def test_failure_is_one_sentence_and_leaves_what_was_good(tmp_path, monkeypatch):
    other = {"argv": ["false"], "display_name": "Python 3", "language": "python"}
    write(tmp_path, {"jupyter/kernels/python3/kernel.json": json.dumps(other)})
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))  # it is not taken
    code = "import os, sys\nprint(epochs, os.environ['PYTHONHASHSEED'], sys.executable)"
    sentence, target = run(tmp_path, code)
    assert sentence is None
    assert f"7 0 {sys.executable}" in target.read_text()
    good = target.read_bytes()

    sentence, target = run(tmp_path, "raise ValueError('clip a.wav is silent;\\n  remove it')")
    assert sentence == "02_two failed in cell 4: ValueError: clip a.wav is silent; remove it"
    assert target.read_bytes() == good
    failed = target.with_name("02_two.failed.ipynb")
    assert "clip a.wav" in failed.read_text()
    assert sorted(path.name for path in target.parent.iterdir()) == [failed.name, target.name]


def test_a_notebook_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(batch.papermill, "execute_notebook", full)
    assert run(tmp_path, "1")[0] == "02_two failed: [Errno 28] No space left on device"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"PROFILE": "esc51"}, "PROFILE=esc51 is unknown; choose one of demo, "),
        ({"EPOCHS": "-3"}, "EPOCHS=-3 is not a whole number above 0"),
        ({"JOBS": "0"}, "JOBS=0 is not a whole number above 0"),
        ({"START": "results/no"}, "START=results/no holds no recorded run; give a study as "),
        ({"START": "results/esc10"}, "START=results/esc10 is of profile esc10, not demo"),
        ({"DATA": "clips.zip"}, "DATA=clips.zip is not a folder; see data/README.md"),
        ({"REFERENCE": "no"}, "results/no has no notebooks; record the study"),
        ({"HRIR": "no.npz"}, "no.npz does not exist; see data/README.md"),
    ],
)
def test_bad_settings_end_with_one_sentence(monkeypatch, capsys, setting, expected):
    for name, value in ({"PROFILE": "", "EPOCHS": "", "START": ""} | setting).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "dodo.py"))
    # Python prints such a code and ends with 1
    assert isinstance(stopped.value.code, str)
    assert expected in stopped.value.code and len(stopped.value.code.splitlines()) == 1
    assert not capsys.readouterr().err


def test_the_graph_is_there_at_once():
    code = "import dodo, sys; list(dodo.task_execute()); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    heavy = {"torch", "pandas", "matplotlib", "nbformat", "jupytext", "papermill", "sphinx", "doit"}
    assert heavy & set(run.stdout.split()) == {"doit"}, run.stderr


def test_contents_leave_out_what_is_not_recorded():
    toc = (ROOT / "book" / "_toc.yml").read_text("utf-8")
    lines = contents_without(toc, ["02_features", "13_efficiency"]).splitlines()
    gone = [line.strip() for line in toc.splitlines() if line not in lines]
    assert gone == ["- file: notebooks/02_features", "- file: notebooks/13_efficiency"]
    assert contents_without(toc, []) == toc


def test_a_page_keeps_the_text_of_links_to_notebooks_that_the_record_lacks():
    page = "See [one](notebooks/01_data.ipynb) and [*two*](notebooks/02_features.ipynb), [a](b)."
    found = without_links(page, ["02_features"])
    assert found == "See [one](notebooks/01_data.ipynb) and *two*, [a](b)."
    assert without_links(page, []) == page


def test_make_lists_its_targets():
    if shutil.which("make") is None:
        pytest.skip("make is not on this machine")
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("setup", "book", "study", "test", "lint", "clean"):
        assert f"make {target}" in done.stdout
