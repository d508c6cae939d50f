"""Clips as two ears hear them: excerpts with sound in them, put at an azimuth in a room."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from esc_lib.companions.binaural.heads import SR
from esc_lib.companions.binaural.rooms import N_SAMPLES, Places
from esc_lib.data.clips import Data
from esc_lib.sound.audio import resample

SILENT_DB = -60.0  # an excerpt below this level (dB of full scale, root mean square) is left out
LEVEL = 0.05  # root mean square of every excerpt before it is put in a room


@dataclass(frozen=True)
class Excerpts:
    """Half-second pieces of clips."""

    table: pd.DataFrame  # of each: the clip's filename, src_file, category, part; start_s in it
    waveforms: torch.Tensor  # float32 (excerpts, 8000), 16 kHz, all equally strong


def cut_excerpts(data: Data, sr: int, per_clip: int = 1) -> Excerpts:
    """Cut excerpts where the clips, of `sr` Hz, sound; they stay in the part their clip is in.

    The first excerpt of a clip is its loudest half second. Others are drawn among those with at
    least a tenth of its energy. Clips without sound give none; ValueError if none holds any.
    """
    rows, pieces = [], []
    for index, clip in enumerate(data.clips.itertuples()):
        n_valid = int(data.n_valid[index])
        waveform = data.waveforms[index, :n_valid].numpy().astype(np.float32) / 32768
        waveform = resample(waveform, sr, SR)
        waveform = np.pad(waveform, (0, max(0, N_SAMPLES - len(waveform))))
        for start in _starts(waveform, per_clip, np.random.default_rng([0, index])):
            piece = waveform[start : start + N_SAMPLES]
            strength = np.sqrt(np.mean(piece**2))
            if strength < 10 ** (SILENT_DB / 20):
                continue
            pieces.append(piece * (LEVEL / strength))
            rows.append((clip.filename, clip.src_file, clip.category, clip.part, start / SR))
    if not rows:
        raise ValueError("cut_excerpts: no clip holds any sound; give other clips.")
    columns = ["filename", "src_file", "category", "part", "start_s"]
    waveforms = torch.from_numpy(np.stack(pieces).astype(np.float32))
    return Excerpts(pd.DataFrame(rows, columns=columns), waveforms)


def _starts(waveform: np.ndarray, n: int, rng: np.random.Generator) -> list[int]:
    """Return where excerpts start: the loudest, then random ones that are not much quieter."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    of_window = energy[N_SAMPLES:] - energy[:-N_SAMPLES]
    best = int(of_window.argmax())
    loud = np.flatnonzero(of_window >= of_window[best] / 10)
    return [best, *rng.choice(loud, n - 1).tolist()]


def draw_scenes(
    excerpts: Excerpts,
    places: Places,
    part: str,
    per_excerpt: int,
    seats: Iterable[int],
    seed: int = 0,
) -> pd.DataFrame:
    """Draw where each excerpt of a part of the clips is heard.

    In each of `per_excerpt` rounds each excerpt gets a place and an azimuth. Rooms and azimuths
    come up equally often, up to one. In a room of several seats it is one of `seats`. ValueError if
    the part, "train", "validation" or "test", has no excerpts, or a room none of the seats.

    Returns
    -------
    DataFrame, a row per scene: excerpt, place, azimuth (row numbers), azimuth_deg, room, seat,
    filename, src_file, category, part.
    """
    rng = np.random.default_rng([seed, sum(part.encode())])
    chosen = np.flatnonzero(excerpts.table.part == part)
    table = places.table
    alone = table.groupby("room").seat.transform("size") == 1
    allowed = table[alone | table.seat.isin(seats)]
    if not len(chosen) or allowed.room.nunique() < table.room.nunique():
        raise ValueError(
            f"draw_scenes: part {part!r} has {len(chosen)} excerpts and seats={seats} leaves "
            f"{allowed.room.nunique()} of {table.room.nunique()} rooms; change one of them."
        )
    excerpt = np.tile(chosen, per_excerpt)
    rooms = _evenly(allowed.room.unique(), len(excerpt), rng)
    azimuth = _evenly(np.arange(len(places.azimuths)), len(excerpt), rng)
    place = np.array([rng.choice(allowed.index[allowed.room == room]) for room in rooms])
    scenes = pd.DataFrame({"excerpt": excerpt, "place": place, "azimuth": azimuth})
    scenes = scenes.assign(azimuth_deg=places.azimuths[azimuth]).join(table, on="place")
    return scenes.join(excerpts.table.drop(columns="start_s"), on="excerpt")


def _evenly(values: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `n` of `values`, each equally often up to one, in random order."""
    rounds = [rng.permutation(values) for _ in range(-(-n // len(values)))]
    return rng.permutation(np.concatenate(rounds)[:n])


class Renderer:
    """Put excerpts at places, in batches, on any device."""

    def __init__(self, excerpts: Excerpts, places: Places, device: torch.device | str = "cpu"):
        self.excerpts = excerpts.waveforms.to(device)
        responses = torch.from_numpy(places.responses).to(device)
        self.responses = torch.fft.rfft(responses, 2 * N_SAMPLES)

    def __call__(self, scenes: pd.DataFrame) -> torch.Tensor:
        """Return what the ears hear, shape (scenes, 2, 8000), left first.

        The sound starts with the excerpt: there is no reverberation of what came before it.
        """
        device = self.excerpts.device
        index = {
            name: torch.tensor(scenes[name].to_numpy(np.int64), device=device)
            for name in ("excerpt", "place", "azimuth")
        }
        sound = torch.fft.rfft(self.excerpts[index["excerpt"]], 2 * N_SAMPLES)
        ears = sound[:, None] * self.responses[index["place"], index["azimuth"]]
        return torch.fft.irfft(ears, 2 * N_SAMPLES)[..., :N_SAMPLES]

    def batches(self, scenes: pd.DataFrame, size: int = 64) -> Iterable[torch.Tensor]:
        """Yield what the ears hear, a batch at a time."""
        for start in range(0, len(scenes), size):
            yield self(scenes.iloc[start : start + size])


def targets(scenes: pd.DataFrame) -> torch.Tensor:
    """Return where the sounds are on the unit circle, float32, shape (scenes, 2)."""
    angle = np.deg2rad(scenes.azimuth_deg.to_numpy(float))
    return torch.from_numpy(np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32))
