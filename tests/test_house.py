"""The floor plan of the package: imports go down, rooms have faces, files stay short."""

import ast

import pytest

from esc_lib.machine.fingerprint import ROOT

PACKAGE = ROOT / "esc_lib"
FLOORS = {
    1: ("config", "machine", "evaluation"),
    2: ("sound", "models"),
    3: ("data", "figures"),
    4: ("training", "layers"),
    5: ("dictionaries", "efficiency", "study"),
    6: ("explain",),
    7: ("companions", "probing"),
    8: ("__main__",),
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 300  # lines of a file, tables of data aside
TABLES = ("config.py",)


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """Yield the parts below the package of every name of it that a file imports."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names = [f"{node.module}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        else:
            continue
        yield from (name.split(".")[1:] for name in names if name.split(".")[0] == "esc_lib")


def test_every_room_has_its_floor_and_there_are_not_many():
    rooms = {room_of(path) for path in FILES} - {"__init__"}
    assert rooms == set(FLOOR_OF)
    assert len(rooms | {"__init__"}) <= 17


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down_only(path):
    own = room_of(path)
    for target in imports_of(path):
        if target and target[0] != own:
            assert FLOOR_OF[target[0]] < FLOOR_OF.get(own, 99), f"{own} imports {'.'.join(target)}"
        if own == "companions" and target[:1] == ["companions"]:
            one, other = path.relative_to(PACKAGE).parts[1], target[1]
            assert one == other, f"companion {one} imports {other}"


def test_modules_of_a_room_import_each_other_in_no_circle():
    arrows = {}
    for path in FILES:
        if path.name != "__init__.py":
            known = (PACKAGE.joinpath(*target[:n]).with_suffix(".py")
                     for target in imports_of(path) for n in (1, 2, 3))  # fmt: skip
            arrows[path] = {other for other in known if other in FILES} - {path}
    while arrows:
        free = {path for path, targets in arrows.items() if not targets & set(arrows)}
        assert free, f"a circle among {sorted(map(name_of, arrows))}"
        arrows = {path: targets for path, targets in arrows.items() if path not in free}


FACES = [path for path in FILES if path.name == "__init__.py"]


@pytest.mark.parametrize("path", FACES, ids=name_of)
def test_a_face_says_what_the_room_is_for_and_hands_names_on(path):
    sentence, *rest = ast.parse(path.read_text("utf-8")).body
    assert isinstance(sentence.value, ast.Constant) and sentence.value.value.strip().endswith(".")
    assert all(isinstance(node, ast.ImportFrom) for node in rest)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_stay_short(path):
    n_lines = len(path.read_text("utf-8").splitlines())
    assert n_lines <= LONGEST or name_of(path) in TABLES
