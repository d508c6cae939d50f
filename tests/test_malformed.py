"""Data of other people, broken in a hundred ways: each is named in one sentence.

``verify`` ends with exit code 1, says what is wrong with which file, shows no traceback, and leaves
the folder as it was.
"""

import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from clip_folders import COLUMNS, ENCODING, official_rows, sound, write_clip, write_layout

from esc_lib.__main__ import main

ROWS = official_rows(targets=(0, 1), folds=range(1, 7))
FIRST = ROWS.filename[0]
PROFILE = ["--profile", "esc50-16k"]


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    """A small set that is fit for the study."""
    return write_layout(tmp_path_factory.mktemp("fit") / "set", ROWS)


def content_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_set_is_fit_before_it_is_broken(fit, capsys):
    assert main(["verify", str(fit), *PROFILE]) == 0
    assert "12 clips, 2 classes" in capsys.readouterr().out


# ------------------------------------------------------------ one sound file: (folder) -> its path


def clip(folder, ending=".wav"):
    """Return the first clip of a set, written with some ending."""
    (folder / "audio" / FIRST).unlink()
    return write_clip(folder, FIRST, sound(8000), ending=ending)


def changed(ending, change):
    def broken(folder):
        path = clip(folder, ending)
        content = bytearray(path.read_bytes())
        found = change(content)
        path.write_bytes(content if found is None else found)

    return broken


def put(place, value):
    def change(content):
        content[place : place + len(value)] = value

    return change


def floats(value):
    def broken(folder):
        samples = sound(800)
        samples[400] = value
        (folder / "audio" / FIRST).unlink()
        soundfile.write(folder / "audio" / FIRST, samples, 16_000, subtype="FLOAT")

    return broken


def no_samples(ending):
    def broken(folder):
        (folder / "audio" / FIRST).unlink()
        write_clip(folder, FIRST, np.zeros(0, np.float32), ending=ending)

    return broken


def is_a_folder(folder):
    (folder / "audio" / FIRST).unlink()
    (folder / "audio" / FIRST).mkdir()


def dangling(folder):
    (folder / "audio" / FIRST).unlink()
    (folder / "audio" / FIRST).symlink_to("/nowhere/at/all.wav")


def renamed(ending):
    """Write one kind of file under the ending of another that cannot hold it."""

    def broken(folder):
        clip(folder)
        path = folder / "audio" / FIRST
        path.write_bytes(b"<!doctype html><title>404</title>" * 20)
        path.rename(path.with_suffix(ending))

    return broken


NAMED = FIRST.removesuffix(".wav")
SOUND = {
    f"{ending[1:]}, {kept}": (changed(ending, lambda c, kept=kept: c[:int(kept * len(c))]), NAMED)
    for ending in ENCODING
    for kept in (0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)
} | {
    f"{ending[1:]}, first {n} bytes": (changed(ending, lambda c, n=n: c[:n]), NAMED)
    for ending in ENCODING
    for n in (0, 1, 4, 11, 12, 20, 36)
} | {
    f"{ending[1:]}, zeros throughout": (changed(ending, lambda c: bytes(len(c))), NAMED)
    for ending in ENCODING
} | {
    f"{ending[1:]}, noise throughout": (
        changed(ending, lambda c: np.random.default_rng(0).bytes(len(c))), NAMED)
    for ending in ENCODING
} | {
    f"{ending[1:]}, another magic word": (changed(ending, put(0, b"ABCD")), NAMED)
    for ending in ENCODING
} | {
    f"{ending[1:]}, a web page": (renamed(ending), NAMED) for ending in ENCODING
} | {
    f"{ending[1:]}, no samples": (no_samples(ending), NAMED) for ending in (".wav", ".flac")
} | {
    "wav, no channels": (changed(".wav", put(22, b"\0\0")), NAMED),
    "wav, 65535 channels": (changed(".wav", put(22, b"\xff\xff")), NAMED),
    "wav, an unknown coding": (changed(".wav", put(20, b"\x99\x77")), NAMED),
    "wav, no fmt chunk": (changed(".wav", put(12, b"xxxx")), NAMED),
    "wav, no data chunk": (changed(".wav", put(36, b"xxxx")), NAMED),
    "wav, data a byte too long": (changed(".wav", put(40, struct.pack("<I", 16_001))), NAMED),
    "wav, data a thousand times too long": (
        changed(".wav", put(40, struct.pack("<I", 16_000_000))), NAMED),
    "wav, a rate of 0": (changed(".wav", put(24, bytes(4))), NAMED),
    "wav, not a number": (floats(np.nan), "holds NaN or infinity"),
    "wav, infinite": (floats(np.inf), "holds NaN or infinity"),
    "flac, unknown length": (
        changed(".flac", lambda c: c[:21] + bytes([c[21] & 0xF0]) + bytes(4) + c[26:]),
        "its header does not say how long"),
    "flac, damaged in the middle": (changed(".flac", put(3_000, b"\0" * 300)), NAMED),
    "ogg, no end of stream": (
        changed(".ogg", lambda c: c[:c.rfind(b"OggS") + 5] + b"\0" + c[c.rfind(b"OggS") + 6:]),
        NAMED),
    "a folder": (is_a_folder, "missing"),
    "a dangling link": (dangling, "missing"),
    "gone": (lambda folder: (folder / "audio" / FIRST).unlink(), "missing"),
}  # fmt: skip


# ------------------------------------------------------------------ the table: (its text) -> bytes


def field(column, value, line=2):
    def change(text):
        lines = text.splitlines()
        fields = lines[line - 1].split(",")
        fields[COLUMNS.index(column)] = value
        lines[line - 1] = ",".join(fields)
        return "\n".join(lines) + "\n"

    return change


def without(column):
    place = COLUMNS.index(column)

    def change(text):
        rows = [line.split(",") for line in text.splitlines()]
        return "\n".join(",".join(row[:place] + row[place + 1 :]) for row in rows) + "\n"

    return change


def only(keep):
    def change(text):
        header, *rows = text.splitlines()
        return "\n".join([header, *(row for row in rows if keep(row))]) + "\n"

    return change


TABLE = {
    f"no column {column}": (without(column), f"lacks the column(s) {column}") for column in COLUMNS
} | {
    f"an empty {column}": (field(column, "", line), f"has an empty field in line {line}")
    for column in COLUMNS
    for line in (2, 13)
} | {
    f"{column} is {value!r}": (field(column, value), f"{column}={value.strip()!r}")
    for column in ("fold", "target")
    for value in ("fold1", "1.5", "inf", "-inf", "1e99", "one", "0x1", "1;2", "=1+1", "99999999999")
} | {
    f"esc10 is {value!r}": (field("esc10", value), f"esc10={value!r}")
    for value in ("maybe", "2", "yes", "None")
} | {
    "nothing": (lambda text: "", "is not a csv table"),
    "blank lines": (lambda text: "\n\n\n", "is not a csv table"),
    "a header alone": (lambda text: text.splitlines()[0] + "\n", "lists no clips"),
    "no header": (lambda text: "\n".join(text.splitlines()[1:]) + "\n", "lacks the column(s)"),
    "a quote that stays open": (
        lambda text: text.replace("\n1-", '\n"1-', 1), "is not a csv table"),
    "a row that is too long": (
        lambda text: text.replace("\n2-", "\n2,2,2,2,2,2-", 1), "is not a csv table"),
    "zero bytes": (lambda text: text.replace("dog", "d\0g", 1), "is not a csv table"),
    "Latin-1": (lambda text: text.replace("dog", "clé").encode("latin-1"), "save it as CSV in UTF"),
    "an archive": (lambda text: b"PK\3\4" + bytes(range(256)), "is not a csv table"),
    "half of UTF-16": (lambda text: text.encode("utf-16")[:-1], "is not a csv table"),
    "bars between columns": (lambda text: text.replace(",", "|"), "lacks the column(s)"),
    "JSON": (lambda text: '{"filename": ["a.wav"]}', "lacks the column(s)"),
    "a row twice": (lambda text: text + text.splitlines()[1] + "\n", "lists " + FIRST + " twice"),
    "two names for a target": (field("category", "wolf"), "gives target 0 more than one category"),
    "two targets for a name": (field("target", "7"), "gives category 'dog' more than one target"),
    "a clip that is not there": (field("filename", "9-9-A-9.wav"), "9-9-A-9.wav is listed in"),
    "a file above the folder": (field("filename", "../meta/esc50.csv"), "../meta/esc50.csv is lis"),
    "a file of the system": (field("filename", "/etc/passwd"), "/etc/passwd is listed in"),
    "a name with code": (field("filename", "$(touch x).wav"), "$(touch x).wav is listed in"),
    "one file for two rows": (
        lambda text: text + text.splitlines()[1].replace(".wav", ".ogg") + "\n", "are one file"),
    "one fold": (only(lambda row: row.startswith("1-")), "at least two folds"),
    "no fold 1": (only(lambda row: not row.startswith("1-")), "test_fold=1, expected one of"),
    "too few clips": (only(lambda row: row[0] in "123"), "validation cannot be held back"),
    "a class with one clip": (
        only(lambda row: ",dog," not in row or row.startswith("2-")), "class 'dog'"),
    "a class that fold 1 lacks": (
        only(lambda row: ",dog," not in row or row[0] != "1"), "class 'dog' has no test clip"),
    "one recording": (
        lambda text: "\n".join(
            [text.splitlines()[0], *(",".join([*r.split(",")[:5], "7", "A"])
                                     for r in text.splitlines()[1:])]), "of 1 recordings"),
}  # fmt: skip


def changed_table(change):
    def broken(folder):
        table = folder / "meta" / "esc50.csv"
        content = change(table.read_text(encoding="utf-8"))
        table.write_bytes(content if isinstance(content, bytes) else content.encode())

    return broken


def gone(*parts):
    return lambda folder: shutil.rmtree(folder.joinpath(*parts))


PLACES = {
    "no folder": (gone(), "has no meta/esc50.csv"),
    "no table": (gone("meta"), "has no meta/esc50.csv"),
    "no sounds": (gone("audio"), "has no audio/ folder"),
}
CASES = SOUND | {n: (changed_table(change), what) for n, (change, what) in TABLE.items()} | PLACES


def test_there_are_at_least_a_hundred():
    assert len(CASES) >= 100


@pytest.mark.parametrize("name", CASES)
def test_what_is_broken_is_named_in_one_sentence(fit, tmp_path, name, capsys):
    broken, message = CASES[name]
    folder = shutil.copytree(fit, tmp_path / "set")
    broken(folder)
    before = content_of(folder)
    assert main(["verify", str(folder), *PROFILE]) == 1
    captured = capsys.readouterr()
    said = [line for line in captured.err.splitlines() if "clip/s" not in line and line.strip()]
    assert len(said) == 1 and message in said[0], captured.err
    assert "Traceback" not in said[0] and "Errno" not in said[0] and not captured.out
    assert content_of(folder) == before


@pytest.mark.parametrize("name", [
    "wav, 0.5", "wav, not a number", "two names for a target", "zero bytes", "no folder",
])  # fmt: skip
def test_a_command_says_so_too(fit, tmp_path, name):
    broken, message = CASES[name]
    folder = shutil.copytree(fit, tmp_path / "set")
    broken(folder)
    command = [sys.executable, "-m", "esc_lib", "verify", folder, *PROFILE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "clip/s" not in line and line.strip()]
    assert done.returncode == 1 and len(said) == 1 and message in said[0]
