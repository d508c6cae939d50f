"""One fingerprint of code, settings and data: the key of every cache and every run."""

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def fingerprint(*parts: object, code: str | Path | Iterable[str | Path] = ()) -> str:
    """Return a short hash of settings, data and weights, and of the code that works on them.

    Parameters
    ----------
    parts : dataclasses and plain values (by their repr), arrays, tensors, tables, networks (by
        their weights), and tuples, lists, iterators and mappings of these.
    code : file, or files, of the functions whose result is kept: what they import of this package
        counts as well, and the styles and scripts in its folders, which a page gets from there.
        Docstrings, comments and layout of Python do not.
    """
    digest = hashlib.sha256()
    for part in parts:
        _add(digest, part)
    files = [code] if isinstance(code, str | Path) else code
    sources = {path for file in files for path in (Path(file), *imported_files(Path(file)))}
    for path in sorted(sources):
        digest.update(_meaning(path.read_text(encoding="utf-8")).encode())
    for folder in sorted({path.parent for path in sources}):
        for path in sorted([*folder.glob("*.css"), *folder.glob("*.js")]):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _add(digest, part: object) -> None:
    if _is(part, "torch.nn", "Module"):
        part = part.state_dict()
    if _is(part, "torch", "Tensor"):
        part = part.detach().cpu().contiguous()
        torch = sys.modules["torch"]
        part = (part.view(torch.int16) if part.dtype == torch.bfloat16 else part).numpy()
    if _is(part, "pandas", "DataFrame"):
        part = part.to_csv()
    if _is(part, "numpy", "ndarray"):
        digest.update(f"{part.dtype}{part.shape}".encode())
        digest.update(part if part.flags.c_contiguous else part.tobytes())
    elif isinstance(part, Mapping):
        for key, value in part.items():
            digest.update(repr(key).encode())
            _add(digest, value)
    elif isinstance(part, list | tuple | Iterator):
        digest.update(b"" if isinstance(part, Iterator) else f"{len(part)}".encode())
        for value in part:
            _add(digest, value)
    else:
        digest.update(repr(part).encode())
    digest.update(b"|")


def _is(part: object, library: str, kind: str) -> bool:
    """Say what a part is without importing the library: what has not been imported made no part."""
    return library in sys.modules and isinstance(part, getattr(sys.modules[library], kind))


@cache
def _meaning(text: str) -> str:
    """Return what Python makes of a source, without its docstrings."""
    tree = ast.parse(text)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree)


# ------------------------------------------------------------------------------------- imports


def parse(source: Path) -> ast.Module:
    """Parse a Python file; stop with one sentence if it is not Python."""
    try:
        return ast.parse(source.read_text(encoding="utf-8"))
    except SyntaxError as error:
        sys.exit(f"parse: {source} line {error.lineno} is not valid Python: {error.msg}.")


def imported_files(source: Path, root: Path = ROOT) -> list[Path]:
    """Return the files of the package that `source` imports, directly or through one another.

    A name that a room hands on leads to the module that defines it, and of a room that is imported
    as a whole only what is used of it counts.
    """
    found, waiting = set(), {source}
    while waiting:
        file = waiting.pop()
        new = _imports(file, file.read_text(encoding="utf-8"), root) - found
        found |= new
        waiting |= new
    return sorted(found)


@cache
def _imports(source: Path, text: str, root: Path) -> set[Path]:
    """Return the files that one file imports names from; its text is a key of the cache."""
    tree, files = parse(source), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named = [(name.name, name.asname or name.name) for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            named = [(f"{node.module}.{n.name}", n.asname or n.name) for n in node.names]
        else:
            continue
        for name, alias in named:
            if name.split(".")[0] == "esc_lib":
                files |= _of_name(name, root, lambda alias=alias: _used_of(tree, alias))
    return files


def _of_name(name: str, root: Path, used=lambda: None) -> set[Path]:
    """Return where a dotted name is defined: its module, or those that a room's face leads to.

    Parameters
    ----------
    used : function that returns the attributes used of the name if it is a room; None: all.
    """
    place = root.joinpath(*name.split("."))
    if place.with_suffix(".py").is_file():
        return {place.with_suffix(".py")}
    face = place / "__init__.py"
    if face.is_file():
        names = used()
        chosen = _handed_on(face) if names is None else names
        return set().union(*(_of_name(f"{name}.{each}", root) for each in chosen)) or {face}
    above, _, attribute = name.rpartition(".")
    if not above:
        return set()
    face = root.joinpath(*above.split("."), "__init__.py")
    if face.is_file():
        target = _handed_on(face).get(attribute)
        return _of_name(target, root) if target else {face}
    return _of_name(above, root)


def _handed_on(face: Path) -> dict[str, str]:
    """Return what a room's face imports: the name there, and the dotted name it stands for."""
    return {
        name.asname or name.name: f"{node.module}.{name.name}"
        for node in parse(face).body
        if isinstance(node, ast.ImportFrom) and node.module
        for name in node.names
    }


def _used_of(tree: ast.Module, alias: str) -> set[str] | None:
    """Return the attributes that a file uses of a name, or None if it uses the name itself."""
    attributes = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == alias
    ]  # fmt: skip
    bare = sum(isinstance(node, ast.Name) and node.id == alias for node in ast.walk(tree))
    if not attributes or bare > len(attributes):
        return None
    return {node.attr for node in attributes}
