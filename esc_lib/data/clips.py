"""The clips of a study: their table, their sound, and which part each belongs to."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch

from esc_lib.data.splits import Split, name_parts
from esc_lib.data.table import COLUMNS, typed
from esc_lib.machine.files import from_root, write_atomically
from esc_lib.machine.fingerprint import ROOT

WAVEFORMS = "waveforms.npy"


@dataclass(frozen=True)
class Data:
    """The clips of a study, ready for the device."""

    clips: pd.DataFrame  # a row per clip: official columns, label, path, part
    waveforms: torch.Tensor  # int16, (clips, samples)
    n_valid: torch.Tensor  # int64, (clips,), lengths in samples
    folder: Path | None = None  # where the sound lies: other processes open it there

    def __reduce__(self):
        if self.folder is None:
            return super().__reduce__()
        return _reopen, (self.folder, self.clips)

    @property
    def labels(self) -> torch.Tensor:
        """Class index of every clip."""
        return torch.from_numpy(self.clips.label.to_numpy(np.int64).copy())

    @property
    def class_names(self) -> list[str]:
        """Category of each class index."""
        named = self.clips.drop_duplicates("label").sort_values("label")
        return named.category.tolist()

    def file(self, row: int) -> Path:
        """Return the sound file of a clip."""
        return ROOT / self.clips.path[row]

    @property
    def split(self) -> Split:
        """Row numbers of each part, as written by notebook 01."""
        parts = self.clips.part.to_numpy()
        return Split(*(np.flatnonzero(parts == p) for p in ("train", "validation", "test")))

    def with_split(self, parts: Split) -> Self:
        """Return the same clips with other parts."""
        return replace(self, clips=self.clips.assign(part=name_parts(self.clips, parts)))

    def to(self, device: torch.device | str) -> Self:
        """Return the same clips with the waveforms, as int16, in the memory of `device`."""
        return replace(self, waveforms=self.waveforms.to(device), n_valid=self.n_valid.to(device))

    def batch(self, rows: np.ndarray, device: torch.device | str = "cpu"):
        """Return waveforms in [-1, 1], shape (batch, samples), and their valid lengths."""
        rows = torch.tensor(np.asarray(rows), device=self.waveforms.device)
        waveforms = self.waveforms[rows].to(device).float() / 32768
        return waveforms, self.n_valid[rows].to(device)


def save_data(folder: Path, clips: pd.DataFrame, waveforms: np.ndarray, n_valid: np.ndarray):
    """Write the clips that :func:`open_data` opens; waveforms mapped from their place are there."""
    if "path" in clips:
        clips = clips.assign(path=[from_root(Path(path)) for path in clips.path])
    file = folder / WAVEFORMS
    if Path(getattr(waveforms, "filename", None) or "") != file.absolute():
        write_atomically(file, lambda p: _save_npy(p, waveforms))
    write_atomically(folder / "n_valid.npy", lambda p: _save_npy(p, n_valid))
    write_atomically(folder / "clips.csv", lambda p: clips.to_csv(p, index=False))


def open_data(folder: Path) -> Data:
    """Open what notebook 01 wrote; waveforms stay on disk until they are used."""
    waveforms = np.load(folder / WAVEFORMS, mmap_mode="c")
    n_valid = np.load(folder / "n_valid.npy")
    sound = torch.from_numpy(waveforms), torch.from_numpy(n_valid)
    return Data(open_clips(folder), *sound, folder.resolve())


def open_clips(folder: Path) -> pd.DataFrame:
    """Open the table alone."""
    table, text = folder / "clips.csv", dict.fromkeys(COLUMNS, str)
    return typed(pd.read_csv(table, dtype=text, keep_default_na=False), table)


def _reopen(folder: Path, clips: pd.DataFrame) -> Data:
    return replace(open_data(folder), clips=clips)


def _save_npy(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array)
