"""Files and folders that are there whole or not at all."""

import errno
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from esc_lib.machine.fingerprint import ROOT
from esc_lib.machine.reading import read_tensors

FULL = {errno.ENOSPC, errno.EDQUOT}
# what torch and NumPy say then, and at other times
SHORT = re.compile(r"PytorchStreamWriter|inline_container|requested and \d+ written")
NO_ROOM = 1_000_000  # bytes left: too few for the next block

JUNK = {"thumbs.db", "desktop.ini", "__macosx"}


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`.

    Whatever goes wrong in `write`, a file that stood at `path` before still does.

    Raises
    ------
    OSError
        With one sentence, if the disk is full; `write` may say that in its library's way.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(scratch)
        os.replace(scratch, path)
    except Exception as error:
        if not _is_full(error, path.parent):
            raise
        scratch.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free // 10**6
        raise OSError(
            f"disk full: {free} MB free in {path.parent}, {path.name} needs more; make room and "
            "start again, what stood there before is kept",
        ) from error
    finally:
        scratch.unlink(missing_ok=True)


def is_junk(name: str) -> bool:
    """Say whether a file or folder is what file managers leave behind: hidden, or a known one."""
    return name.startswith(".") or name.lower() in JUNK


def spelling(name: str) -> str:
    """Return a file's name as all systems spell it: accents composed, letters small."""
    return unicodedata.normalize("NFC", name).casefold()


def _is_full(error: Exception, folder: Path) -> bool:
    said = str(error)
    if getattr(error, "errno", None) in FULL or "os error 28" in said:  # the latter: safetensors
        return True
    return bool(SHORT.search(said)) and shutil.disk_usage(folder).free < NO_ROOM


def from_root(path: Path) -> str:
    """Return a path as it is called in the project's folder, wherever that is moved or copied to.

    What lies elsewhere keeps its whole name.
    """
    path = path.absolute()
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def hold(path: Path) -> TextIO:
    """Lock a file as long as what is returned is open, and at most until this process ends.

    Where the system has no such locks, nothing is locked.

    Raises
    ------
    BlockingIOError
        With one sentence, if another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = f"process {file.read()} is at work in {path.parent}"
        file.close()
        raise BlockingIOError(f"{holder}; wait for its end, or stop it") from None
    except (ImportError, OSError):
        return file
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def save_json(path: Path, content: dict) -> None:
    """Write `content` as readable JSON, all of it or nothing."""
    text = json.dumps(content, indent=1)
    write_atomically(path, lambda scratch: scratch.write_text(text + "\n"))


def made_once(path: Path, identity: str, make: Callable[[], dict]) -> dict:
    """Return the dict of plain types that `make` returns, or the one kept from an earlier call.

    Its tensors are mapped: they come into memory as they are read.

    Parameters
    ----------
    path : the file to keep it in; it is replaced if `identity` is another.
    identity : says what decides the content.
    """
    import torch  # only here: the task graph, which writes files too, starts without it

    def opened() -> dict:
        return read_tensors(path, mmap=True) if path.is_file() else {}

    if opened().get("identity") != identity:
        made = {"identity": identity} | make()
        write_atomically(path, lambda scratch: torch.save(made, scratch))
        del made
    return opened()


def begin_folder(final: Path) -> Path:
    """Return an empty folder beside `final`, to be filled and then handed to :func:`put_in_place`.

    What an earlier run left there goes; a `final` that stands there stays as it is.
    """
    partial, old = _beside(final)
    if old.is_dir() and not final.exists():  # killed between the two renames
        old.rename(final)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def put_in_place(partial: Path, final: Path) -> Path:
    """Rename a filled folder to `final`, whose earlier content goes; return `final`."""
    old = _beside(final)[1]
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    partial.rename(final)
    shutil.rmtree(old, ignore_errors=True)
    return final


def _beside(final: Path) -> tuple[Path, Path]:
    return final.with_name(f".{final.name}.partial"), final.with_name(f".{final.name}.old")
