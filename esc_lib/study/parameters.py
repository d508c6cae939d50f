"""What a notebook was given: names that it knows, and values that can be."""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

from IPython import get_ipython

from esc_lib.config import get_profile
from esc_lib.machine.reading import read_json

INJECTED = "# Parameters"  # how papermill begins the cell that it puts below the notebook's own
KINDS = {str: "text", int: "a whole number", float: "a number", list: "a list"}
COMPANIONS = ("hrir", "spoken", "written", "sub_urmp", "listeners")  # of notebooks 10, 11, 19
PATHS = ("data_folder", "start_from", *COMPANIONS)


def session() -> tuple[Sequence[str], Mapping]:
    """Return the code cells that ran in this kernel, and its variables; elsewhere nothing."""
    shell = get_ipython()
    return ((), {}) if shell is None else (shell.user_ns.get("In", ()), shell.user_ns)


def check(notebook: str, cells: Sequence[str], values: Mapping) -> None:
    """Refuse parameters that the notebook does not have, or cannot work with.

    Parameters
    ----------
    notebook : str, as in "05_dictionaries".
    cells : sources of the code cells that ran, in their order. The parameters cell is the last
        that assigns `profile` a literal; without one there is nothing to check.
    values : of the variables now.

    Raises
    ------
    ValueError
        With one sentence, if a name is unknown, or a value is of another type than the default, a
        count below 0, a path to nothing, or a record of another profile.
    """
    usual, given = _usual_and_given(cells)
    for name in given:
        if name not in usual:
            raise ValueError(f"{notebook}: {name} is no parameter; it has {', '.join(usual)}.")
    for name, default in usual.items():
        value, kind = values.get(name, default), type(default)
        if type(value) is not kind and (kind, type(value)) != (float, int):
            what = f"{KINDS.get(kind, kind.__name__)}, as {default!r}"
            raise ValueError(f"{notebook}: {name}={value!r} has to be {what}.")
        if kind is int and value < 0:
            raise ValueError(f"{notebook}: {name}={value} is below 0.")
        if name in PATHS and value and not Path(value).exists():
            raise ValueError(f"{notebook}: {name}={value} does not exist.")
    if "start_from" in usual and values["start_from"]:
        start = values["start_from"]
        if fault := fault_of_record(Path(start), get_profile(values["profile"]).name):
            raise ValueError(f"{notebook}: start_from={start} {fault}.")


def fault_of_record(folder: Path, profile: str) -> str:
    """Return why a folder is no recorded study of a profile, or nothing."""
    records = [*folder.glob("run.json"), *sorted(folder.glob("runs/*/run.json"))]
    if not records:
        return "holds no recorded run"
    recorded = read_json(records[0], profile=dict)["profile"].get("name")
    return "" if recorded == profile else f"is of profile {recorded}, not {profile}"


def _usual_and_given(cells: Sequence[str]) -> tuple[dict, list[str]]:
    """Return the literals of the parameters cell, and the names that papermill put below it."""
    usual, given = {}, []
    for cell in cells:
        if cell.startswith(INJECTED):
            given = list(assigned(cell))
        elif isinstance(_literal(assigned(cell).get("profile")), str):
            usual, given = {n: _literal(value) for n, value in assigned(cell).items()}, []
    return usual, given if usual else []


def assigned(cell: str) -> dict[str, ast.expr]:
    """Return what a cell assigns at its top level."""
    try:
        body = ast.parse(cell).body
    except SyntaxError:  # which IPython said when it ran
        return {}
    return {
        target.id: node.value
        for node in body if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in getattr(node, "targets", [getattr(node, "target", None)])
        if isinstance(target, ast.Name)
    }  # fmt: skip


def _literal(node: ast.expr | None):
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        return None
