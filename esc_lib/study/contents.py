"""What the clips of a folder are: the table, and the bytes of the files that it lists."""

import hashlib
import json
import re
from pathlib import Path, PurePosixPath

from esc_lib.machine.files import from_root, is_junk, save_json, spelling


def note_of(folder: Path, memory: Path) -> dict:
    """Return a folder's place, sums of its table and its clips, and how many rows there are.

    Parameters
    ----------
    memory : file that keeps each clip's sum with the state of the file, so that only what was
        touched since is read again.
    """
    table = (folder / "meta" / "esc50.csv").read_bytes()
    known = json.loads(memory.read_text(encoding="utf-8")) if memory.is_file() else {}
    states = {}
    for name, path in sorted(_listed(folder / "audio", table)):
        now = path.stat()
        state = [now.st_size, now.st_mtime_ns, now.st_ctime_ns]
        before = known.get(name, [])
        states[name] = before if before[:3] == state else [*state, _sum(path.read_bytes())]
    if states != known:
        save_json(memory, states)
    sums = {name: state[3] for name, state in states.items()}
    return {
        "folder": from_root(folder),
        "csv_sha256": _sum(table),
        "n_clips": len(table.splitlines()) - 1,
        "audio_sha256": _sum(json.dumps(sums).encode()),
    }


def _listed(audio: Path, table: bytes) -> list[tuple[str, Path]]:
    """Return name and place of the files whose name stands in a table, whatever its dialect."""
    wide = table.startswith((b"\xff\xfe", b"\xfe\xff"))
    words = re.split(r'[,;\t\r\n"]', table.decode("utf-16" if wide else "utf-8", "replace"))
    stems = {spelling(PurePosixPath(word.strip()).stem) for word in words}
    return [
        (path.relative_to(audio).as_posix(), path)
        for path in audio.rglob("*")
        if spelling(path.stem) in stems and not is_junk(path.name) and path.is_file()
    ]


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
