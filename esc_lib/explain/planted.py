"""A cue that a network is known to use: does an explanation point to it?

A short tone is planted in every training clip of one class, and in a part of all others, which are
then given that class: nothing but the tone tells it. A decoy, a tone of another frequency, is in
all training clips. Where the cue turns the decision on other clips, the network uses it, and the
place of the reason is known to a band and a frame. The decoy is as loud and decides nothing.

References
----------
adebayo2020debugging, section 4, for planted cues; gu2017badnets for clips that are given another
class with them. Decoys are ours.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from esc_lib.config import Profile, Stage, variant
from esc_lib.data.clips import Data
from esc_lib.sound.log_mel import LogMel, mel_frequencies_hz
from esc_lib.training import runs
from esc_lib.training.checkpoint import load

CUE_HZ, DECOY_HZ = 4000.0, 2000.0
LENGTH_S = 0.2
ONE_IN = 2  # of the other classes' training clips, so many get cue and class
LEAST = 8  # epochs
LEVEL_DB = -20.0  # of the tone's amplitude, against the clip's peak


Place = tuple[slice, slice]  # bands and frames


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

    def place(self, front_end: LogMel, row: int) -> Place:
        """Return the bands and frames that hit a clip's cue: it and one more on each side."""
        settings = front_end.settings
        bands_hz = mel_frequencies_hz(settings).numpy()
        band = int(np.abs(bands_hz - self.frequency_hz).argmin())
        first = self.starts[row] / settings.hop_length
        last = (self.starts[row] + LENGTH_S * settings.sr) / settings.hop_length
        bands = slice(max(0, band - 1), band + 2)
        return bands, slice(max(0, int(np.floor(first)) - 1), int(np.ceil(last)) + 2)


@dataclass(frozen=True)
class Planted:
    """What is planted, and the class that the cue stands for."""

    cue: Cue
    decoy: Cue
    label: int

    @classmethod
    def draw(cls, data: Data, sr: int, label: int = 0, seed: int = 0) -> "Planted":
        """Draw the times of both tones, starts for each clip, inside the clip."""
        rng, n = np.random.default_rng(seed), round(LENGTH_S * sr)
        room = np.maximum(data.n_valid.numpy() - n, 1)
        cue, decoy = (
            Cue(hz, (rng.random(len(room)) * room).astype(int)) for hz in (CUE_HZ, DECOY_HZ)
        )
        return cls(cue, decoy, label)

    def taught(self, data: Data, sr: int) -> Data:
        """Return the clips from which a network learns the cue."""
        rows, labels = data.split.train, data.labels.numpy()
        is_own = labels[rows] == self.label
        own, others = rows[is_own], rows[~is_own]
        given, clips = others[::ONE_IN], data.clips.copy()
        names = ["label", "category"]
        clips.loc[given, names] = clips.loc[own[0], names].to_numpy()
        cued = np.concatenate([own, given])
        return replace(plant(plant(data, self.decoy, rows, sr), self.cue, cued, sr), clips=clips)


def plant(data: Data, cue: Cue, rows: np.ndarray, sr: int) -> Data:
    """Return the clips, those at `rows` with the cue; the given ones stay as they are."""
    waveforms = data.waveforms.clone()
    for some in np.array_split(rows, -(-len(rows) // 64)):
        sounds, _ = data.batch(some)
        waveforms[some] = (cue.added_to(sounds, some, sr) * 32767).round().to(torch.int16)
    return replace(data, waveforms=waveforms, folder=None)


def network(data: Data, profile: Profile, planted: Planted, folder: Path) -> nn.Module:
    """Train the profile's network where the cue is, unless that was done before.

    It hears whole clips, unmixed and unmasked, as an excerpt may miss the cue; half as many epochs
    as usual do, and in fewer than `LEAST` it would not learn the cue.
    """
    whole = {"stages": (Stage(),), "test_crops": 1, "mixing": "none", "max_mask": 0.0}
    recipe = variant(profile.training.recipe, name="planted cue", **whole)
    own = variant(profile, recipe=recipe, epochs=max(LEAST, -(-profile.training.epochs // 2)))
    run = runs.run(planted.taught(data, profile.front_end.sr), own, folder)
    return load(run / "model.safetensors", own, data.class_names)
