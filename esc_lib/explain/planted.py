"""A cue that a network is known to use: does an explanation point to it?

A short tone is planted in every training clip of one class. Where it turns the decision on other
clips, the network uses it, and the place of the reason is known to a band and a frame.

References
----------
adebayo2020debugging, section 4, for planted cues; here in sound, with decoys.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from esc_lib.data.clips import Data
from esc_lib.sound.log_mel import LogMel, mel_frequencies_hz

LENGTH_S = 0.2
LEVEL_DB = -20.0  # of the tone's amplitude, against the clip's peak
TURNED = 0.8  # share of other classes' clips whose decision the cue has to turn, else no test


@dataclass(frozen=True)
class Cue:
    """A tone at a time that is drawn for each clip."""

    frequency_hz: float
    starts: np.ndarray  # int, (clips,), samples

    def added_to(self, waveforms: torch.Tensor, rows: np.ndarray, sr: int) -> torch.Tensor:
        """Return sounds of clips, (clips, samples), full scale 1, with the tone in them."""
        n = round(LENGTH_S * sr)
        time_s = torch.arange(n, device=waveforms.device) / sr
        fade = torch.hann_window(n, device=waveforms.device).mul(4).clamp_max(1)
        tone = fade * torch.sin(2 * np.pi * self.frequency_hz * time_s)
        amplitude = waveforms.abs().amax(dim=1, keepdim=True) * 10 ** (LEVEL_DB / 20)
        place = torch.from_numpy(self.starts[rows]).to(waveforms.device)[:, None] + torch.arange(n)
        sounds = waveforms.clone()
        sounds.scatter_add_(1, place, amplitude * tone)
        return sounds.clamp(-1, 1)

    def place(self, front_end: LogMel, row: int) -> tuple[slice, slice]:
        """Return the bands and frames that hit a clip's cue: it and one more on each side."""
        settings = front_end.settings
        bands_hz = mel_frequencies_hz(settings).numpy()
        band = int(np.abs(bands_hz - self.frequency_hz).argmin())
        first = self.starts[row] / settings.hop_length
        last = (self.starts[row] + LENGTH_S * settings.sr) / settings.hop_length
        bands = slice(max(0, band - 1), band + 2)
        return bands, slice(max(0, int(np.floor(first)) - 1), int(np.ceil(last)) + 2)


def draw(data: Data, frequency_hz: float, sr: int, seed: int) -> Cue:
    """Draw the times of a cue, a start for each clip, inside the clip."""
    rng, n = np.random.default_rng(seed), round(LENGTH_S * sr)
    room = np.maximum(data.n_valid.numpy() - n, 1)
    return Cue(frequency_hz, (rng.random(len(room)) * room).astype(int))


def plant(data: Data, cue: Cue, rows: np.ndarray, sr: int) -> Data:
    """Return the clips, those at `rows` with the cue; the given ones stay as they are."""
    waveforms = data.waveforms.clone()
    for some in np.array_split(rows, -(-len(rows) // 64)):
        sounds, _ = data.batch(some)
        waveforms[some] = (cue.added_to(sounds, some, sr) * 32767).round().to(torch.int16)
    return replace(data, waveforms=waveforms, folder=None)


def hit(heat: torch.Tensor, place: tuple[slice, slice]) -> bool:
    """Return whether the highest value of one map, (mel, frames), is at the place of the cue."""
    band, frame = np.unravel_index(int(heat.argmax()), heat.shape)
    bands, frames = place
    return bands.start <= band < bands.stop and frames.start <= frame < frames.stop


def chance(front_end: LogMel, place: tuple[slice, slice]) -> float:
    """Return the share of all points that count as hits."""
    settings = front_end.settings
    points = [len(range(*side.indices(n))) for side, n in
              zip(place, (settings.n_mels, settings.n_frames), strict=True)]  # fmt: skip
    return points[0] * points[1] / (settings.n_mels * settings.n_frames)
