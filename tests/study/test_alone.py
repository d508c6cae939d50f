"""Notebooks asked for by name: what runs before them, and what a bare machine gets."""

import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from esc_lib.__main__ import main
from esc_lib.machine.fingerprint import ROOT
from esc_lib.study import alone, batch, notebook, options, steps

SOURCES = {
    "01_data": "chapter = 1",
    "02_other": "",
    "03_training": "chapter.data",
    "05_dictionaries": "chapter.model",
    "08_last": "chapter.read('05_dictionaries'); chapter.data",
}
PARAMETERS = '# %% tags=["parameters"]\nprofile = "demo"\nartifacts = ""\nepochs = 0\n\n# %%\n'


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return a checkout of five notebooks, which are not run but leave what says that they were."""
    for stem, code in SOURCES.items():
        path = tmp_path / "notebooks" / f"{stem}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(PARAMETERS + code)
    (tmp_path / "dodo.py").touch()
    for module in (alone, options, steps):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    clips = tmp_path / "clips"
    for folder in ("meta", "audio"):
        (clips / folder).mkdir(parents=True)
    (clips / "meta" / "esc50.csv").write_text("filename\n")
    monkeypatch.setattr("esc_lib.data.prepare", lambda _, folder: folder or clips)
    ran = []

    def run_notebook(source, target, parameters, cwd, threads):
        assert source.is_file() and cwd == tmp_path
        ran.append((source.stem, parameters))
        folder = tmp_path / "build" / parameters["profile"] / "artifacts" / source.stem
        folder.mkdir(parents=True, exist_ok=True)
        if parameters.get("epochs") == 13:
            return f"{source.stem} failed in cell 3: ValueError: unlucky"
        (folder / "metrics.json").write_text("{}")

    monkeypatch.setattr(batch, "run_notebook", run_notebook)
    return tmp_path, ran


def ran_by(ran, *arguments):
    ran.clear()
    assert main(["run", *arguments]) == 0
    return [stem for stem, _ in ran]


@pytest.mark.parametrize("name", ["08", "8", "08_last"])
def test_what_is_read_runs_before_and_only_once(study, name, capsys):
    _, ran = study
    assert ran_by(ran, name) == ["01_data", "03_training", "05_dictionaries", "08_last"]
    assert [line.split()[0].rstrip(":") for line in capsys.readouterr().out.splitlines()[1::2]] == [
        "01_data", "03_training", "05_dictionaries", "08_last",
    ]  # fmt: skip
    assert ran_by(ran, name) == ["08_last"]
    assert ran_by(ran, "03", "2") == ["02_other", "03_training"]


def test_what_did_not_run_to_its_end_runs_again_and_so_does_all_on_other_clips(study):
    folder, ran = study
    ran_by(ran, "05")
    (folder / "build" / "demo" / "artifacts" / "01_data" / "metrics.json").unlink()
    assert ran_by(ran, "05") == ["01_data", "05_dictionaries"]
    shutil.copytree(folder / "clips", folder / "others")
    (folder / "others" / "audio" / "a.wav").write_bytes(b"1")
    others = ("05", "--data", str(folder / "others"))
    assert ran_by(ran, *others) == ["01_data", "03_training", "05_dictionaries"]
    assert ran_by(ran, *others) == ["05_dictionaries"]
    assert ran_by(ran, "05", "--profile", "esc10") == ["01_data", "03_training", "05_dictionaries"]


def test_what_is_given_reaches_the_notebooks_that_know_it(study):
    folder, ran = study
    record = folder / "results" / "esc10"
    record.mkdir(parents=True)
    (record / "run.json").write_text(json.dumps({"profile": {"name": "esc10"}}))
    ran_by(ran, "03", "--profile", "esc10", "--epochs", "3", "--start", str(record))
    assert {given["epochs"] for _, given in ran} == {3}
    assert {given["profile"] for _, given in ran} == {"esc10"}
    assert not any("start_from" in given for _, given in ran)  # they have no such parameter


@pytest.mark.parametrize(("arguments", "message"), [
    (["4"], "no notebook '4'; choose one of 01_data, 02_other, 03_training, 05_dictionaries, 08"),
    (["../01_data"], "no notebook '../01_data'; choose one of 01_data"),
    (["1", "--data", "nowhere"], "DATA=nowhere is not a folder"),
    (["1", "--start", "nowhere"], "START=nowhere holds no recorded run"),
    (["5", "--epochs", "13"], "01_data failed in cell 3: ValueError: unlucky"),
])  # fmt: skip
def test_what_cannot_be_is_one_sentence_and_nothing_runs_after_it(
    study, capsys, arguments, message
):
    _, ran = study
    assert main(["run", *arguments]) == 1
    said = capsys.readouterr().err.strip()
    assert message in said and "\n" not in said and len(ran) <= 1


def test_without_a_checkout_it_is_said_how_to_get_one(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("REPOSITORY", raising=False)
    address = notebook.repository()
    for module in (alone, notebook):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    assert main(["run", "05"]) == 1
    said = capsys.readouterr().err.strip()
    assert f"git clone {address}, and run this in its folder." in said and "\n" not in said


# -------------------------------------------------------------------------- the first cell


@pytest.mark.parametrize("stem", [
    path.stem for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))
])  # fmt: skip
def test_what_a_notebook_needs_are_distributions_that_are_declared(stem):
    found = alone.needs(ROOT / "notebooks" / f"{stem}.py")
    assert {"soundfile", "pandas"} <= found and not {"torch", "numpy"} & found
    for name in found:
        assert metadata.version(name)
    late = {"10_binaural_attention_rollout": {"pyroomacoustics"}, "04_feature_maps": {"umap-learn"},
            "13_efficiency": {"onnxscript", "onnxruntime"}}  # fmt: skip
    assert late.get(stem, set()) <= found


class Pip:
    """Installs nothing, but remembers what it was asked for."""

    def __init__(self, monkeypatch, requires):
        self.asked, self.requires = [], requires
        monkeypatch.setattr(subprocess, "run", self.install)
        monkeypatch.setattr(alone, "_is_installed", lambda name: name not in requires)
        monkeypatch.setattr(metadata, "requires", requires.pop)

    def install(self, command, check):
        assert command[:6] == [sys.executable, "-m", "pip", "install", "-q", "--no-deps"] and check
        self.asked.append(command[6:])


def test_what_is_missing_is_installed_with_what_it_requires_and_never_torch(monkeypatch):
    pip = Pip(monkeypatch, {
        "captum": ["numpy<2.0", "torch>=1.10", "tqdm"],
        "lightning-fabric": ["torch>=2.1.0", "fsspec[http]>1", 'fairscale; extra == "strategies"',
                             'lightning-utilities>=0.10; python_version > "3"'],
        "lightning-utilities": ["packaging>=22"],
    })  # fmt: skip
    alone.install(["captum", "pandas", "torch", "lightning-fabric", "numpy"])
    assert pip.asked == [["captum", "lightning-fabric"], ["lightning-utilities"]]
    pip.asked.clear()
    alone.install(["pandas"])
    assert not pip.asked


BARE = """
import sys
# as if the package had not been installed: neither by its path nor by an editable finder
sys.path = [p for p in sys.path if p and p != {root!r}]
sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f)]
sys.path_hooks = [f for f in sys.path_hooks if "editable" not in repr(f)]
sys.path_importer_cache.clear()
{head}
import esc_lib
print("working in", os.getcwd(), "with", esc_lib.__file__)
"""


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    """Return the address of a repository on this machine that holds package and notebooks."""
    if shutil.which("git") is None:
        pytest.skip("git is not on this machine")
    folder = tmp_path_factory.mktemp("remote")
    for name in ("esc_lib", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dodo.py", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder / name)
    weights = folder / "results" / "esc10" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    named = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "."], [*named, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder.as_uri()


def first_cell(folder, stem, monkeypatch, address):
    """Run a notebook's first cell where the package is not installed; return what it printed."""
    monkeypatch.setenv("REPOSITORY", address)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    code = BARE.format(root=str(ROOT), head=notebook.head(stem).source)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_bare_machine_gets_a_checkout_and_both_ways_on(remote, tmp_path, monkeypatch):
    project = tmp_path / "hidden-spectra"
    said = first_cell(tmp_path, "05_dictionaries", monkeypatch, remote)
    where = f"working in {project} with {project / 'esc_lib' / '__init__.py'}"
    assert said.splitlines()[-1] == where
    read = r"01 03(?: \d\d)*"
    commands = re.findall(r"^ +!(python\S* -m esc_lib run .*)$", said, re.MULTILINE)
    assert len(commands) == 2 and re.fullmatch(rf"python\S* -m esc_lib run {read}", commands[0])
    assert re.search(rf"run {read} --profile esc10 --start results/esc10$", commands[1])
    (project / "mine.txt").touch()
    (made := project / "build/demo/artifacts/01_data/metrics.json").parent.mkdir(parents=True)
    made.touch()
    again = first_cell(tmp_path, "05_dictionaries", monkeypatch, "file:///nowhere")  # a restart
    assert again.splitlines() == [where] and (project / "mine.txt").is_file()
    inside = first_cell(project / "notebooks", "01_data", monkeypatch, "file:///nowhere")
    assert inside.splitlines() == [where]  # it reads nothing


def test_where_the_package_is_installed_the_first_cell_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    namespace = {}
    code = compile(notebook.head("05_dictionaries").source, "head", "exec")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was run"))
    exec(code, namespace)
    assert Path.cwd() == tmp_path and sys.path == path and not list(tmp_path.iterdir())
