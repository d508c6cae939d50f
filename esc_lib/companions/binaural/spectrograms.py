"""What BAST reads: the spectrograms of two ears, in dB, standardised together."""

import torch

from esc_lib.companions.binaural.heads import SR

WINDOW, HOP = 256, 128
BINS, FRAMES = 129, 61
FLOOR_DB = 80.0  # below the louder ear's peak


def levels_db(waveforms: torch.Tensor) -> torch.Tensor:
    """Return spectrograms (batch, 2, 129, 61) of (batch, 2, 8000), in dB.

    Magnitudes through a Hann window of 256 samples, every 128, at most 80 dB below the peak of
    both ears. Windows lie wholly inside the sound: the 61st ends at 7936 of 8000.
    """
    window = torch.hann_window(WINDOW, device=waveforms.device)
    flat = waveforms.flatten(0, 1)
    spectrum = torch.stft(flat, WINDOW, HOP, window=window, center=False, return_complex=True)
    magnitude = spectrum.abs().unflatten(0, waveforms.shape[:2])
    peak = magnitude.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
    return 20 * torch.maximum(magnitude, peak * 10 ** (-FLOOR_DB / 20)).log10()


def standardise(levels: torch.Tensor) -> torch.Tensor:
    """Give every pair of spectrograms mean 0 and deviation 1; the ears stay apart as they are."""
    mean = levels.mean(dim=(1, 2, 3), keepdim=True)
    deviation = levels.std(dim=(1, 2, 3), keepdim=True, correction=0)
    return (levels - mean) / deviation.clamp_min(1e-6)


def spectrograms(waveforms: torch.Tensor) -> torch.Tensor:
    """Return standardised spectrograms, shape (batch, 2, 129, 61), of (batch, 2, 8000)."""
    return standardise(levels_db(waveforms))


def edges() -> tuple[float, float, float, float]:
    """Return the edges of a spectrogram: start and end in s, lowest and highest in Hz.

    A cell lies around the middle of its window, and around its bin.
    """
    start = (WINDOW - HOP) / 2
    bin_hz = SR / WINDOW
    return start / SR, (start + FRAMES * HOP) / SR, -bin_hz / 2, (BINS - 0.5) * bin_hz
