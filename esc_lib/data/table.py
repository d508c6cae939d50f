"""The table of clips, ``meta/esc50.csv``, as people's programs write it, and the files it lists."""

import io
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from esc_lib.machine.files import is_junk, spelling

COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
EXTENSIONS = (".wav", ".flac", ".ogg")
SEPARATORS = (",", ";", "\t")
TRUTH = {"true": True, "1": True, "false": False, "0": False}


def read_clips(folder: str | Path, *, esc10_only: bool = False) -> pd.DataFrame:
    """Read the table of clips in a folder, ``meta/esc50.csv``, and find each clip in ``audio/``.

    Separators may be commas, semicolons or tabs; files may also end in .flac or .ogg, in capitals,
    and lie in folders below ``audio/``. To the official columns come ``path`` and ``label``
    (0 ... classes - 1, in the order of ``target``).

    Raises
    ------
    FileNotFoundError, PermissionError
        If the folder, the table or a clip is missing or may not be read.
    ValueError
        If the table cannot be read, lacks columns or values, contradicts itself, or lists a clip
        twice.
    """
    audio, table = Path(folder, "audio"), Path(folder, "meta", "esc50.csv")
    try:
        for part, there in (("meta/esc50.csv", table.is_file()), ("audio/ folder", audio.is_dir())):
            if not there:
                raise FileNotFoundError(
                    f"read_clips: folder {audio.parent} has no {part}; "
                    "point DATA at a folder with audio/ and meta/esc50.csv."
                )
        text = _text(table)
        present = _present(audio)
    except PermissionError as error:
        raise PermissionError(
            f"read_clips: no permission to read {error.filename}; ask for it, or copy the clips to "
            "a folder of your own."
        ) from None
    clips = typed(_rows(text, table), table)
    _refuse_contradictions(clips, table)
    if esc10_only:
        clips = clips[clips.esc10].reset_index(drop=True)
    if clips.empty:
        raise ValueError(f"read_clips: {table} lists no clips for this profile.")
    clips["path"] = [str(audio / _find(name, present, audio)) for name in clips.filename]
    same = clips.path.duplicated(keep=False)
    if same.any():
        first, second = clips.filename[clips.path == clips.path[same].iloc[0]].iloc[:2]
        raise ValueError(
            f"read_clips: {table} lists {first} and {second}, which are one file; remove one row."
        )
    clips["label"] = np.unique(clips.target, return_inverse=True)[1]
    return clips


def typed(rows: pd.DataFrame, table: Path) -> pd.DataFrame:
    """Return rows of text with numbers in the official columns that hold them.

    What is a name stays text; ``src_file`` is a number if all its values are written as one.

    Raises
    ------
    ValueError
        If a fold or target is no whole number, or ``esc10`` neither True nor False.
    """
    clips = rows.copy()
    for column in clips.columns.intersection(["fold", "target"]):
        numbers = pd.to_numeric(clips[column], errors="coerce")
        wrong = ~(numbers.abs() < 2**31) | (numbers % 1 != 0)
        if wrong.any():
            raise ValueError(
                f"read_clips: {table} has {column}={clips[column][wrong].iloc[0]!r}; expected a "
                "whole number."
            )
        clips[column] = numbers.astype(np.int64)
    if "esc10" in clips:
        known = clips.esc10.str.lower().map(TRUTH)
        if known.isna().any():
            value = clips.esc10[known.isna()].iloc[0]
            raise ValueError(f"read_clips: {table} has esc10={value!r}; expected True or False.")
        clips["esc10"] = known.astype(bool)
    if "src_file" in clips and clips.src_file.str.fullmatch("0|[1-9][0-9]{0,17}").all():
        clips["src_file"] = clips.src_file.astype(np.int64)
    return clips


def _text(table: Path) -> str:
    """Return a table's text, whichever of the usual encodings it has."""
    content = table.read_bytes()
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"read_clips: {table} is not a csv table ({error.reason}); save it as CSV in UTF-8."
        ) from None
    if "\0" in text:
        raise ValueError(f"read_clips: {table} is not a csv table (it holds zero bytes).")
    return text


def _rows(text: str, table: Path) -> pd.DataFrame:
    """Return the table's rows as text."""
    first, _, rest = text.partition("\n")
    offset = int(first.strip().lower().startswith("sep="))  # a line that a spreadsheet puts there
    text = rest if offset else text
    header = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(SEPARATORS, key=header.count)
    try:
        rows = pd.read_csv(
            io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, na_values=[""],
            skipinitialspace=True,
        )  # fmt: skip
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"read_clips: {table} is not a csv table ({reason}).") from None
    rows = rows.rename(columns=str.strip).apply(lambda column: column.str.strip())
    missing = [column for column in COLUMNS if column not in rows]
    if missing:
        raise ValueError(
            f"read_clips: {table} lacks the column(s) {', '.join(missing)}; "
            f"expected {', '.join(COLUMNS)}."
        )
    incomplete = rows[list(COLUMNS)].isin([""]) | rows[list(COLUMNS)].isna()
    if incomplete.any(axis=None):
        row = int(np.flatnonzero(incomplete.any(axis=1))[0]) + 1  # the header is row 0
        lines = enumerate(text.splitlines(), start=1 + offset)
        line = [i for i, content in lines if content.strip()][row]  # blank lines are no rows
        raise ValueError(f"read_clips: {table} has an empty field in line {line}; fill it in.")
    repeated = rows.filename[rows.filename.duplicated()]
    if len(repeated):
        raise ValueError(f"read_clips: {table} lists {repeated.iloc[0]} twice; remove one row.")
    return rows


def _refuse_contradictions(clips: pd.DataFrame, table: Path) -> None:
    for one, other in (("target", "category"), ("category", "target")):
        pairs = clips[[one, other]].drop_duplicates()
        twice = pairs[pairs[one].duplicated(keep=False)].sort_values(one, kind="stable")
        if len(twice):
            value, names = twice[one].tolist()[0], twice[other].tolist()
            raise ValueError(
                f"read_clips: {table} gives {one} {value!r} more than one {other}, {names[0]!r} "
                f"and {names[1]!r}; make them one."
            )


def _present(audio: Path) -> dict[str, list[PurePosixPath]]:
    """Return all sound files below a folder, by name, in the order in which they serve."""
    found = defaultdict(list)
    for path in sorted(audio.rglob("*")):
        inside = PurePosixPath(path.relative_to(audio).as_posix())
        junk = any(is_junk(part) for part in inside.parts)
        if not junk and path.suffix.lower() in EXTENSIONS and path.is_file():
            found[spelling(inside.stem)].append(inside)
    for paths in found.values():
        paths.sort(key=lambda path: EXTENSIONS.index(path.suffix.lower()))
    return found


def _find(filename: str, present: dict[str, list[PurePosixPath]], audio: Path) -> PurePosixPath:
    """Return the file of a clip: of that very name, else of that name with another ending."""
    wanted = PurePosixPath(filename)
    paths = present.get(spelling(wanted.stem), [])
    exact = [path for path in paths if path == wanted]
    if exact:
        return exact[0]
    folders = {path.parent for path in paths}
    if len(folders) > 1:
        paths = [path for path in paths if path.parent == wanted.parent]
        if not paths:
            places = " and ".join(str(folder) for folder in sorted(folders)[:2])
            raise ValueError(
                f"read_clips: clip {filename} is in more than one folder below {audio}, {places}; "
                "write the folder into the table."
            )
    if not paths:
        raise FileNotFoundError(
            f"read_clips: clip {filename} is listed in meta/esc50.csv but missing in "
            f"{audio} (also as .flac or .ogg); restore it or remove its row."
        )
    return paths[0]
