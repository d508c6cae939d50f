"""Sounds as log-mel pictures of 64 x 64, and such pictures back as sounds."""

from pathlib import Path

import librosa
import numpy as np
import torch

from esc_lib.companions.crossmodal.pairs import from_levels
from esc_lib.config import FrontEnd
from esc_lib.sound.audio import fit_length, loudest, read, resample
from esc_lib.sound.log_mel import LogMel

# 64 frames of 12 ms: a spoken digit. 60 dB below the peak is black.
DIGIT_FRONT_END = FrontEnd(
    sr=8000, n_fft=512, win_length=384, hop_length=96, n_mels=64, f_min_hz=40.0, f_max_hz=4000.0,
    n_frames=64, top_db=60.0,
)  # fmt: skip
ROUNDS = 60  # of Griffin and Lim's algorithm


def read_excerpt(path: Path, settings: FrontEnd) -> np.ndarray:
    """Return the :func:`excerpt` of a file at the front end's sample rate."""
    return excerpt(resample(*read(path), settings.sr), settings)


def excerpt(waveform: np.ndarray, settings: FrontEnd) -> np.ndarray:
    """Return the loudest part of a clip that fits a picture, padded with silence at its end."""
    n_samples = (settings.n_frames - 1) * settings.hop_length
    return fit_length(loudest(waveform, n_samples), n_samples)


def pictures_of(waveforms: torch.Tensor, settings: FrontEnd) -> torch.Tensor:
    """Return log-mel pictures, uint8 of shape (clips, 1, mel, frames); refuse silent clips.

    The front end's ``top_db`` is the range from black (0) to white (255), the clip's peak: its
    level is lost, and one step of grey is ``top_db / 255`` (0.24 dB for 60 dB). Waveforms are
    (clips, samples).
    """
    peaks = waveforms.abs().amax(dim=1, keepdim=True)
    if not (peaks > 0).all():
        silent = int((peaks[:, 0] == 0).nonzero()[0])
        raise ValueError(f"pictures_of: clip {silent} is silent; leave it out.")
    log_mel = LogMel(settings)(waveforms / peaks)
    below_peak = log_mel - log_mel.amax(dim=(1, 2), keepdim=True)
    return from_levels(1 + 2 * below_peak / settings.top_db)[:, None]


def mel_power(pictures: torch.Tensor, settings: FrontEnd) -> torch.Tensor:
    """Return mel power relative to the clip's peak, of pictures in [-1, 1], any leading shape."""
    return 10 ** ((pictures - 1) / 2 * settings.top_db / 10)


def waveform_of(picture: torch.Tensor, settings: FrontEnd) -> np.ndarray:
    """Return a sound, (samples,), peak 0.9, whose log-mel picture, (mel, frames), is close to this.

    Mel power to linear power by non-negative least squares; phases by the fast Griffin-Lim
    algorithm. What is black (60 dB below the peak, for digits) is taken for silence.

    References
    ----------
    griffin1984signal
    """
    power = mel_power(picture.detach().cpu().double(), settings).numpy()
    power[picture.cpu().numpy() <= -1 + 1 / 127.5] = 0
    magnitude = librosa.feature.inverse.mel_to_stft(
        power, sr=settings.sr, n_fft=settings.n_fft, power=2.0, fmin=settings.f_min_hz,
        fmax=settings.f_max_hz,
    )  # fmt: skip
    waveform = librosa.griffinlim(
        magnitude, n_iter=ROUNDS, hop_length=settings.hop_length, win_length=settings.win_length,
        n_fft=settings.n_fft, pad_mode="constant", random_state=0,
        length=(settings.n_frames - 1) * settings.hop_length,
    )  # fmt: skip
    peak = np.abs(waveform).max()
    return (0.9 * waveform / peak if peak > 0 else waveform).astype(np.float32)
