"""Bands and frames in which any sound is taken apart and put together, whatever hears it."""

from dataclasses import dataclass
from functools import lru_cache

import librosa
import numpy as np
import torch
from torch import nn

from esc_lib.config import FrontEnd

SCALES = ("mel", "htk", "linear")


@dataclass(frozen=True)
class Grid:
    """An STFT whose bins are gathered in bands.

    Examples
    --------
    >>> grid, waves = Grid(16_000), torch.randn(2, 16_000)
    >>> mask = torch.ones(2, *grid.shape(16_000))
    >>> bool((grid.apply(waves, mask) - waves).abs().max() < 1e-5)
    True
    """

    sr: int
    n_fft: int = 1024
    hop_length: int = 256
    n_bands: int = 64
    scale: str = "mel"  # of `SCALES`: Slaney's, HTK's, or bands of equal width
    win_length: int = 0  # of the Hann window in the middle; 0: n_fft
    f_min_hz: float = 0.0
    f_max_hz: float = 0.0  # 0: half of `sr`

    def __post_init__(self):
        if self.scale not in SCALES:
            raise ValueError(f"Grid: scale={self.scale!r}; choose one of {', '.join(SCALES)}.")
        if not 0 < self.hop_length <= (self.win_length or self.n_fft) // 2:
            raise ValueError(
                f"Grid: hop_length={self.hop_length} has to be at most half the window, "
                f"{self.win_length or self.n_fft} samples, or sounds cannot be put together again."
            )

    @classmethod
    def of(cls, front_end: FrontEnd) -> "Grid":
        """Return the grid of the study's front end."""
        names = ("sr", "n_fft", "hop_length", "win_length", "f_min_hz", "f_max_hz")
        return cls(n_bands=front_end.n_mels, **{name: getattr(front_end, name) for name in names})

    @property
    def edges_hz(self) -> np.ndarray:
        """Lower edge, centre and upper edge of the bands overlap: (bands + 2,) in Hz."""
        ends = self.f_min_hz, self.f_max_hz or self.sr / 2
        if self.scale == "linear":
            return np.linspace(*ends, self.n_bands + 2)
        htk = self.scale == "htk"
        return librosa.mel_frequencies(self.n_bands + 2, fmin=ends[0], fmax=ends[1], htk=htk)

    @property
    def centres_hz(self) -> np.ndarray:
        """Centre frequency of each band in Hz."""
        return self.edges_hz[1:-1]

    @property
    def frame_s(self) -> float:
        """Time from one frame to the next, in seconds."""
        return self.hop_length / self.sr

    def shape(self, n_samples: int) -> tuple[int, int]:
        """Return bands and frames of a sound."""
        return self.n_bands, 1 + n_samples // self.hop_length

    def stft(self, waves: torch.Tensor) -> torch.Tensor:
        """Return the complex spectrum, (batch, bins, frames), of (batch, samples)."""
        return torch.stft(waves, return_complex=True, pad_mode="constant", **self._options(waves))

    def magnitude(self, waves: torch.Tensor) -> torch.Tensor:
        """Return the root of each band's mean power, (batch, bands, frames)."""
        power = torch.view_as_real(self.stft(waves)).square().sum(-1)
        weights = _triangles(self).to(power)
        return (weights @ power / weights.sum(dim=1, keepdim=True)).sqrt()

    def apply(self, waves: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the sound, (batch, samples), that factors on the amplitude keep.

        Gradients go through both. A mask of ones returns the sound, and sounds of masks that sum to
        one sum to it.
        """
        spectrum = self.stft(waves) * (_spread(self).to(mask) @ mask)
        return torch.istft(spectrum, length=waves.shape[1], **self._options(waves))

    def _options(self, waves: torch.Tensor) -> dict:
        window = torch.hann_window(self.win_length or self.n_fft, device=waves.device)
        missing = self.n_fft - len(window)
        window = nn.functional.pad(window, (missing // 2, missing - missing // 2))
        return {"n_fft": self.n_fft, "hop_length": self.hop_length, "window": window}


@lru_cache
def _triangles(grid: Grid) -> torch.Tensor:
    """Return the bands' weights on bins, (bands, bins): triangles of equal area over frequency."""
    bins_hz = np.fft.rfftfreq(grid.n_fft, 1 / grid.sr)
    lower, centre, upper = (grid.edges_hz[i : i + grid.n_bands, None] for i in range(3))
    rising, falling = (bins_hz - lower) / (centre - lower), (upper - bins_hz) / (upper - centre)
    weights = np.minimum(rising, falling).clip(0) * 2 / (upper - lower)
    empty = np.flatnonzero(weights.sum(axis=1) == 0)  # bands narrower than a bin
    weights[empty, np.abs(bins_hz - centre).argmin(axis=1)[empty]] = 1
    return torch.from_numpy(weights).float()


@lru_cache
def _spread(grid: Grid) -> torch.Tensor:
    """Return :func:`lift` of the grid's bands."""
    return lift(_triangles(grid))


def lift(mel_basis: torch.Tensor) -> torch.Tensor:
    """Return the matrix that spreads a mask over STFT bins, (bins, bands) of (bands, bins).

    Each bin takes the mean of the bands that hear it, weighted as the filter bank does; a bin that
    no band hears does as the nearest one that is heard. Rows sum to 1.
    """
    heard = mel_basis.sum(dim=0) > 0
    index = torch.arange(mel_basis.shape[1], device=mel_basis.device)
    distance = (index[:, None] - index[heard]).abs()
    nearest = index[heard][distance.argmin(dim=1)]
    weights = mel_basis[:, nearest].T
    return weights / weights.sum(dim=1, keepdim=True)
