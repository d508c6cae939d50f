"""Files are there whole or not at all, on a full disk too."""

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from esc_lib.machine.files import write_atomically

FULL = Path("/dev/full")  # takes nothing, as a full disk
on_linux = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def with_room(monkeypatch, n_bytes: int) -> None:
    usage = type(shutil.disk_usage("/"))(10**9, 10**9 - n_bytes, n_bytes)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)


def by_numpy(path):
    raise OSError("250000 requested and 4096 written")


def by_safetensors(path):
    raise Exception("Error while serializing: I/O error: No space left on device (os error 28)")


def by_quota(path):
    raise OSError(errno.EDQUOT, "Disk quota exceeded")


WAYS = {
    "text": lambda path: path.write_text("a" * 100_000),
    "torch": lambda path: torch.save({"weights": torch.zeros(10**5)}, path),
    "numpy": by_numpy,
    "safetensors": by_safetensors,
    "quota": by_quota,
}


@on_linux
@pytest.mark.parametrize("way", WAYS)
def test_a_full_disk_is_one_sentence_and_the_file_before_stays(tmp_path, monkeypatch, way):
    with_room(monkeypatch, 0)
    path = tmp_path / "last.pt"
    path.write_text("whole")

    def write(scratch):
        scratch.symlink_to(FULL)
        WAYS[way](scratch)

    with pytest.raises(OSError) as full:
        write_atomically(path, write)
    where = f"disk full: 0 MB free in {tmp_path}, last.pt needs more; make room and"
    assert str(full.value).startswith(where) and len(str(full.value).splitlines()) == 1
    assert path.read_text() == "whole" and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("way", ["numpy", "a fault"])
def test_other_faults_stay_as_they_are(tmp_path, monkeypatch, way):
    with_room(monkeypatch, 10**9)

    def write(scratch):
        return by_numpy(scratch) if way == "numpy" else np.zeros(3).reshape(2)

    with pytest.raises((OSError, ValueError), match="requested and|cannot reshape"):
        write_atomically(tmp_path / "last.pt", write)
