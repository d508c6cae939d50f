"""The classical way: time and level differences between the ears, and nearest neighbours."""

import numpy as np
import torch
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from esc_lib.companions.binaural.heads import SR, Head, level_difference_db, time_difference_s

OVERSAMPLE = 4
REACH = 14 * OVERSAMPLE  # 14 samples or 0.9 ms: no head is wider
LAGS_S = np.arange(-REACH, REACH + 1) / (OVERSAMPLE * SR)  # positive where the left ear leads
BAND_EDGES_HZ = (100, 300, 600, 1000, 1500, 2200, 3000, 4000, 5200, 6500, 8000)


def gcc_phat(waveforms: torch.Tensor) -> torch.Tensor:
    """Return the correlation of two ears with all frequencies made equally strong.

    It maps (batch, 2, samples), left ear first, to (batch, lags), at LAGS_S (knapp1976generalized).
    """
    n_fft = 2 * waveforms.shape[-1]
    left, right = torch.fft.rfft(waveforms, n_fft).unbind(1)
    cross = left.conj() * right
    white = cross / cross.abs().clamp_min(1e-12)
    correlation = torch.fft.irfft(white, n_fft * OVERSAMPLE) * OVERSAMPLE
    return torch.cat([correlation[:, -REACH:], correlation[:, : REACH + 1]], dim=1)


def band_levels_db(waveforms: torch.Tensor) -> torch.Tensor:
    """Return energy in ten bands, dB, shape (batch, 2, bands)."""
    power = torch.fft.rfft(waveforms).abs().square()
    hz = torch.fft.rfftfreq(waveforms.shape[-1], 1 / SR, device=waveforms.device)
    bands = [
        power[..., (hz >= low) & (hz < high)].sum(-1)
        for low, high in zip(BAND_EDGES_HZ[:-1], BAND_EDGES_HZ[1:], strict=True)
    ]
    levels = torch.stack(bands, dim=-1)
    floor = 1e-8 * levels.amax(dim=(1, 2), keepdim=True)
    return 10 * torch.maximum(levels, floor).clamp_min(1e-20).log10()


def simple_cues(waveforms: torch.Tensor) -> np.ndarray:
    """Return time difference in s and level difference in dB, shape (batch, 2)."""
    time_s = LAGS_S[gcc_phat(waveforms).argmax(dim=1).cpu().numpy()]
    energy = waveforms.square().sum(-1).clamp_min(1e-20).log10().cpu().numpy()
    return np.stack([time_s, 10 * (energy[:, 0] - energy[:, 1])], axis=1)


def level_cues(waveforms: torch.Tensor) -> np.ndarray:
    """Return what magnitudes alone tell, shape (batch, cues): as much as BAST can know.

    Level differences in bands, and the shape of the spectrum, both ears summed: only it tells
    front from back right ahead. BAST's frames follow each other every 8 ms, so the ears' time
    difference, below 1 ms, is hidden from it.
    """
    levels = band_levels_db(waveforms)
    mean = levels.mean(dim=1)
    parts = [levels[:, 0] - levels[:, 1], mean - mean.mean(dim=1, keepdim=True)]
    return torch.cat(parts, dim=1).cpu().numpy()


def rich_cues(waveforms: torch.Tensor) -> np.ndarray:
    """Return :func:`level_cues`, both :func:`simple_cues`, and the correlation at every lag."""
    parts = [level_cues(waveforms), simple_cues(waveforms), gcc_phat(waveforms)[:, ::2].cpu()]
    return np.concatenate(parts, axis=1)


def look_up(cues: np.ndarray, head: Head) -> np.ndarray:
    """Return the azimuth in degrees whose own cues are nearest: a model of the head, no learning.

    Cues are :func:`simple_cues`. Distances count in standard deviations of the head's own
    differences. On a sphere a sound ahead and its mirror image behind differ by next to nothing.
    """
    own = np.stack([time_difference_s(head.responses), level_difference_db(head.responses)], 1)
    deviation = own.std(axis=0)
    distance = np.square(cues[:, None] / deviation - own / deviation).sum(axis=2)
    return head.azimuths[distance.argmin(axis=1)]


def neighbours():
    """Return what averages the points (x, y) of the 15 nearest scenes, near ones weighing more."""
    return make_pipeline(StandardScaler(), KNeighborsRegressor(15, weights="distance"))


def trees():
    """Return a forest that maps cues to points (x, y) and picks the cues that help by itself."""
    return ExtraTreesRegressor(200, min_samples_leaf=2, max_features=0.3, random_state=0)
