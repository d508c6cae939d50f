"""ESC-50 in its official layout: fetched, its table read, its classes grouped.

References
----------
piczak2015esc; https://github.com/karolpiczak/ESC-50 (CC BY-NC 3.0, the ESC-10 subset CC BY 3.0).
"""

import lzma
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

ARCHIVE_URL = "https://github.com/karoldvl/ESC-50/archive/master.zip"
ARCHIVE_HASH = "md5:7771e4b9d86d0945acce719c7a59305a"
ARCHIVE_ROOT = "ESC-50-master"
# The official archive holds 2,000 clips of 441 kB in about 600 MB. Silence packs well, hence 100.
MOST_MEMBERS, LARGEST_GB, LARGEST_RATIO = 20_000, 5, 100
ENCRYPTED = 1  # of a member's flags
# what zipfile, and what unpacks for it, raise of an archive that is not as it was packed
DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError,
    UnicodeDecodeError,
)  # fmt: skip

COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
EXTENSIONS = (".wav", ".flac", ".ogg")
MAJOR_CATEGORIES = (
    "Animals",
    "Natural soundscapes and water",
    "Human, non-speech",
    "Interior, domestic",
    "Exterior, urban",
)

# The thesis speaks of five groups that ESC-50 does not have (section 4.3.3); this is our reading.
THESIS_GROUPS = {
    "speech: human voice": (20, 21, 23, 24, 26, 28),
    "music: tonal signals": (37, 42, 43, 46),
    "noise: weather and water": (10, 11, 12, 15, 16, 17, 18, 19),
    "animals": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14),
    "machinery": (35, 36, 40, 41, 44, 45, 47, 49),
}


def fetch(cache: str | Path) -> Path:
    """Download and unpack the official archive (about 600 MB) in `cache`, once; return its folder.

    The archive is checked against its checksum; an interrupted download or unpacking starts
    clean the next time and never leaves a half-filled folder.

    Raises
    ------
    OSError : the download fails.
    ValueError : the archive is not the expected one, or holds paths outside its root.
    """
    import pooch

    cache = Path(cache)
    folder = cache / ARCHIVE_ROOT
    if folder.is_dir():
        return folder
    try:
        archive = pooch.retrieve(
            ARCHIVE_URL, ARCHIVE_HASH, fname="ESC-50.zip", path=cache, progressbar=True
        )
    except Exception as error:
        # a wrong checksum is pooch's ValueError; a wrong proxy or address is requests' ValueError,
        # which is an OSError as well
        if isinstance(error, ValueError) and not isinstance(error, OSError):
            raise ValueError(
                f"fetch: {ARCHIVE_URL} is not the expected archive: {error}"
            ) from None
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise OSError(
            f"fetch: {ARCHIVE_URL} could not be downloaded ({reason}); check the connection and "
            f"the space in {cache} and run again, or give your own copy as DATA=folder."
        ) from error
    return unpack(Path(archive), cache, ARCHIVE_ROOT)


def unpack(archive: Path, parent: Path, root: str) -> Path:
    """Unpack the folder `root` of a zip archive into `parent`, all of it or nothing.

    Raises
    ------
    ValueError : it is no zip archive, is damaged, or holds what :func:`_check` refuses.
    OSError : the folder cannot be written, for example on a full disk.
    """
    if not zipfile.is_zipfile(archive):
        raise ValueError(f"unpack: {archive} is not a zip archive; delete it and run again.")
    try:
        with zipfile.ZipFile(archive) as members:
            _check(members, root)
            with tempfile.TemporaryDirectory(dir=parent) as scratch:
                members.extractall(scratch)
                os.replace(Path(scratch) / root, parent / root)
    except DAMAGE as error:
        raise ValueError(
            f"unpack: {archive} is damaged ({error}); delete it and run again."
        ) from None
    except OSError as error:
        raise OSError(
            f"unpack: {archive} could not be unpacked into {parent} "
            f"({error.strerror or error}); make room or choose another place, and run again."
        ) from error
    return parent / root


def _check(members: zipfile.ZipFile, root: str) -> None:
    """Refuse an archive, before anything is written, that is not only the folder `root`.

    Raises
    ------
    ValueError : a path leaves the folder, a member is a link or encrypted, or there is more in it
        than a set of clips, as where an archive was made to fill disks.
    """

    def refuse(what: str):
        raise ValueError(f"unpack: {members.filename} {what}; delete it and run again.")

    found = members.infolist()
    for member in found:
        name = member.filename
        parts = PurePosixPath(name).parts
        if ".." in parts or parts[:1] != (root,) or "\\" in name:
            refuse(f"holds {name!r}, a path outside {root}/")
        if stat.S_ISLNK(member.external_attr >> 16) or member.flag_bits & ENCRYPTED:
            refuse(f"holds {name!r}, a link or encrypted")
    if not any(member.filename.startswith(f"{root}/") for member in found):
        refuse(f"holds no {root}/")
    size, packed = sum(m.file_size for m in found), os.path.getsize(members.filename)
    if len(found) > MOST_MEMBERS or size > LARGEST_GB * 1e9 or size > LARGEST_RATIO * packed:
        refuse(
            f"would unpack to {len(found)} files of {size / 1e9:.3g} GB, {size / packed:.0f} times "
            f"its size; at most {MOST_MEMBERS}, {LARGEST_GB} GB and {LARGEST_RATIO} times are taken"
        )


def read_clips(folder: str | Path, *, esc10_only: bool = False) -> pd.DataFrame:
    """Read the table of clips in a folder, ``meta/esc50.csv``, and find each clip in ``audio/``.

    Files may also end in .flac or .ogg. To the official columns come ``path`` and ``label``
    (0 ... classes - 1, in the order of ``target``).

    Raises
    ------
    FileNotFoundError : the folder, the table or a clip is missing.
    ValueError : the table cannot be read, lacks columns or values, or lists a clip twice.
    """
    audio, table = Path(folder, "audio"), Path(folder, "meta", "esc50.csv")
    for part, is_there in (("meta/esc50.csv", table.is_file()), ("audio/ folder", audio.is_dir())):
        if not is_there:
            raise FileNotFoundError(
                f"read_clips: folder {audio.parent} has no {part}; "
                "point DATA at a folder with audio/ and meta/esc50.csv."
            )
    try:
        clips = pd.read_csv(table)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"read_clips: {table} is not a csv table ({error}).") from None
    missing = [column for column in COLUMNS if column not in clips]
    if missing:
        raise ValueError(
            f"read_clips: {table} lacks the column(s) {', '.join(missing)}; "
            f"expected {', '.join(COLUMNS)}."
        )
    incomplete = clips[list(COLUMNS)].isna().any(axis=1)
    if incomplete.any():
        row = int(np.flatnonzero(incomplete)[0]) + 1  # the header is row 0; blank lines are none
        text = table.read_text(encoding="utf-8").splitlines()
        line = [i for i, content in enumerate(text, start=1) if content.strip()][row]
        raise ValueError(f"read_clips: {table} has an empty field in line {line}; fill it in.")
    repeated = clips.filename[clips.filename.duplicated()]
    if len(repeated):
        raise ValueError(f"read_clips: {table} lists {repeated.iloc[0]} twice; remove one row.")
    esc10 = clips.esc10.astype(str)
    unclear = ~esc10.isin(("True", "False"))
    if unclear.any():
        value = clips.esc10[unclear].iloc[0]
        raise ValueError(f"read_clips: {table} has esc10={value!r}; expected True or False.")
    if esc10_only:
        clips = clips[esc10 == "True"].reset_index(drop=True)
    if clips.empty:
        raise ValueError(f"read_clips: {table} lists no clips for this profile.")
    clips["path"] = _find_files(audio, clips.filename)
    clips["label"] = np.unique(clips.target, return_inverse=True)[1]
    return clips


def _find_files(folder: Path, filenames: Iterable[str]) -> list[str]:
    present = {path.name for path in folder.iterdir()}
    found = []
    for filename in filenames:
        stem = Path(filename).stem
        names = [name for name in (filename, *(stem + e for e in EXTENSIONS)) if name in present]
        if not names:
            raise FileNotFoundError(
                f"read_clips: clip {filename} is listed in meta/esc50.csv but missing in "
                f"{folder} (also as .flac or .ogg); restore it or remove its row."
            )
        found.append(str(folder / names[0]))
    return found


def major_category(clips: pd.DataFrame) -> pd.Series:
    """Return the major category of each clip; procedural clips keep their own class."""
    return _group(clips, {target: MAJOR_CATEGORIES[target // 10] for target in range(50)})


def thesis_group(clips: pd.DataFrame) -> pd.Series:
    """Return the thesis's group of each clip (procedural: its class), missing where none fits."""
    return _group(clips, {t: name for name, targets in THESIS_GROUPS.items() for t in targets})


def _group(clips: pd.DataFrame, of_target: dict[int, str]) -> pd.Series:
    from esc_lib.data.demo_sources import CLASSES  # SciPy takes a while to import

    procedural = set(clips.category) <= {each.name for each in CLASSES}
    return clips.category if procedural else clips.target.map(of_target)
