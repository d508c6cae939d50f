"""What a notebook is given is looked at before it writes anything."""

import json

import pytest

from esc_lib.study import Chapter, find, parameters

OWN = """\
profile = "demo"  # which settings
artifacts = ""
epochs = 0  # this many
hop_s = 0.25
data_folder = ""
start_from = ""
"""
WRONG = {
    "profil = 'esc10'": "03_x: profil is no parameter; it has profile, artifacts, epochs, hop_s, ",
    "epochs = -1": "03_x: epochs=-1 is below 0",
    "epochs = 'abc'": "03_x: epochs='abc' has to be a whole number, as 0",
    "epochs = 1.5": "03_x: epochs=1.5 has to be a whole number",
    "epochs = True": "03_x: epochs=True has to be a whole number",
    "hop_s = 'x'": "03_x: hop_s='x' has to be a number, as 0.25",
    "data_folder = '/no/such'": "03_x: data_folder=/no/such does not exist",
    "start_from = '/no/such'": "03_x: start_from=/no/such does not exist",
    "start_from = 'empty'": "03_x: start_from=empty holds no recorded run",
    "start_from = 'of esc10'": "03_x: start_from=of esc10 is of profile esc10, not demo",
    "start_from = 'damaged'": "read: damaged/run.json is not JSON",
    "profile = 'esc'": "profile='esc' is unknown; choose one of demo",
    "profile = 3": "03_x: profile=3 has to be text",
}


def begin(monkeypatch, *cells):
    """Begin a chapter in a kernel that ran these cells."""
    values = {}
    for cell in cells:
        exec(cell, values)
    monkeypatch.setattr(parameters, "session", lambda: (["", *cells], values))
    return Chapter("03_x", values.get("profile", "demo"), "artifacts")


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A finished notebook, and folders to start from."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")
    run = tmp_path / "of esc10" / "runs" / "one"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"profile": {"name": "esc10"}}))
    begin(monkeypatch, OWN).publish({"clips": 1})
    return tmp_path / "artifacts"


@pytest.mark.parametrize("given", WRONG)
def test_what_cannot_be_is_refused_before_anything_is_written(finished, monkeypatch, given):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    with pytest.raises(ValueError) as refused:
        begin(monkeypatch, OWN, f"# Parameters\n{given}\n")
    assert WRONG[given] in str(refused.value) and len(str(refused.value).splitlines()) == 1
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before
    assert find(finished.absolute(), "03_x")


@pytest.mark.parametrize(
    "cells",
    [
        [OWN, "# Parameters\nepochs = 7\nhop_s = 1\n"],
        [OWN, "# Parameters\nprofil = 'esc10'\n", OWN],  # by hand: the cell above ran again
        [OWN],
        ["# Parameters\nmine = 1"],  # in somebody's own notebook
        [],
    ],
)
def test_what_can_be_is_taken(finished, monkeypatch, cells):
    assert begin(monkeypatch, *cells).settings.name == "demo"


def test_a_value_typed_into_the_notebook_is_looked_at_too(finished, monkeypatch):
    with pytest.raises(ValueError, match="03_x: data_folder=/no/such does not exist"):
        begin(monkeypatch, OWN.replace('data_folder = ""', 'data_folder = "/no/such"'))


def test_cells_that_are_no_python_are_passed_over():
    parameters.check("03_x", ["", "%(", OWN], {"profile": "demo", "start_from": ""})


def test_outside_a_kernel_there_is_nothing_to_look_at():
    assert parameters.session() == ((), {})
