"""The front end: waveforms to standardised log-mel spectrograms, batched on any device."""

import copy
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from typing import Self

import librosa
import numpy as np
import torch
from torch import nn

from esc_lib.config import FrontEnd

POWER_FLOOR = 1e-10  # librosa.power_to_db's `amin`: -100 dB


@lru_cache
def _threads(n: int) -> ThreadPoolExecutor:
    """Return `n` threads that wait for work: to start them takes as long as a clip."""
    return ThreadPoolExecutor(n)


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads
    os.register_at_fork(after_in_child=_threads.cache_clear)


class LogMel(nn.Module):
    """Log-mel spectrogram of a batch of waveforms, as ``librosa.power_to_db(melspectrogram)``.

    Hann window, zero padding at both ends (librosa's default), power spectrum, Slaney mel bank,
    10 log10 with the reference 1, floor at `top_db` below each clip's own maximum.

    Examples
    --------
    >>> front_end = FrontEnd()
    >>> LogMel(front_end)(torch.randn(2, front_end.n_samples)).shape
    torch.Size([2, 128, 431])

    References
    ----------
    Thesis, sections 3.3.1 and 4.2; librosa 0.11.
    """

    def __init__(self, settings: FrontEnd):
        super().__init__()
        self.settings = settings
        basis = librosa.filters.mel(
            sr=settings.sr,
            n_fft=settings.n_fft,
            n_mels=settings.n_mels,
            fmin=settings.f_min_hz,
            fmax=settings.f_max_hz,
        )
        self.register_buffer("mel_basis", torch.from_numpy(basis), persistent=False)
        window = torch.hann_window(settings.win_length).numpy()
        window = librosa.util.pad_center(window, size=settings.n_fft)
        self.register_buffer("window", torch.from_numpy(window), persistent=False)
        from esc_lib.sound import log_mel_cpu  # numba takes a while to import

        self.plan = log_mel_cpu.plan(window, basis)

    def of_frames(self, n_frames: int) -> Self:
        """Return the same front end for excerpts of another length; window and bank are shared."""
        other = copy.copy(self)
        other.settings = replace(self.settings, n_frames=n_frames)
        return other

    def stft(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Return the complex spectrum, shape (batch, bins, frames), of (batch, samples)."""
        return self._spectra(waveforms).transpose(1, 2)

    def _spectra(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Return the spectrum of every frame, (batch, frames, bins): as it lies in memory."""
        settings, missing = self.settings, self.settings.n_samples - waveforms.shape[-1]
        # (batch, samples) -> (batch, half + n_samples), so that frame i is centred on i * hop
        padded = nn.functional.pad(waveforms, (settings.n_fft // 2, missing))
        frames = padded.unfold(-1, settings.n_fft, settings.hop_length)
        return torch.fft.rfft(frames * self.window)

    def mel_power(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Return the mel power, shape (batch, mel, frames), of (batch, samples)."""
        with torch.autocast(waveforms.device.type, enabled=False):
            power = torch.view_as_real(self._spectra(waveforms)).square().sum(-1)
            return (power @ self.mel_basis.T).transpose(1, 2)

    def n_valid_frames(self, n_valid: torch.Tensor) -> torch.Tensor:
        """Return how many frames a clip of `n_valid` samples has, at most ``n_frames``."""
        return (1 + n_valid // self.settings.hop_length).clamp_max(self.settings.n_frames)

    def forward(self, waveforms: torch.Tensor, n_valid: torch.Tensor | None = None) -> torch.Tensor:
        """Return the log-mel spectrogram, (batch, mel, frames) in dB re 1, of (batch, samples).

        Waveforms have full scale 1 and are zero beyond a clip's end, `n_valid` (batch,), by
        default the full width; frames after it hold the minimum of the clip's own frames.
        """
        if n_valid is None:
            n_valid = torch.full((len(waveforms),), waveforms.shape[-1], device=waveforms.device)
        if waveforms.device.type == "cpu" and not waveforms.requires_grad:
            return self._log_mel_on_cores(waveforms, n_valid)
        return self._decibels(self.mel_power(waveforms), n_valid)

    def _log_mel_on_cores(self, waveforms: torch.Tensor, n_valid: torch.Tensor) -> torch.Tensor:
        """Do what :meth:`_decibels` does, each core of the processor at clips of its own."""
        log_mel = torch.empty(len(waveforms), self.settings.n_mels, self.settings.n_frames)
        clips = list(zip(waveforms.numpy(), self.n_valid_frames(n_valid).tolist(), log_mel.numpy()))
        n_cores = torch.get_num_threads()
        shares = [clips[first::n_cores] for first in range(n_cores)]
        list(_threads(n_cores).map(self._log_mel_of_clips, shares))
        return log_mel

    def _log_mel_of_clips(self, clips: list[tuple[np.ndarray, int, np.ndarray]]) -> None:
        """Fill in (mel, frames) for each (waveform, valid frames, log-mel)."""
        from esc_lib.sound import log_mel_cpu

        settings = self.settings
        for waveform, n_inside, log_mel in clips:
            power = np.empty_like(log_mel)  # where the last clip's was, in the cache
            log_mel_cpu.mel_power(waveform, self.plan, settings.hop_length, power)
            inside = log_mel[:, :n_inside]
            np.log10(np.maximum(power[:, :n_inside], POWER_FLOOR), out=inside)
            inside *= 10
            floor = max(inside.max() - settings.top_db, 10 * np.log10(POWER_FLOOR))
            np.maximum(inside, floor, out=inside)
            log_mel[:, n_inside:] = inside.min()

    def _decibels(self, mel_power: torch.Tensor, n_valid: torch.Tensor) -> torch.Tensor:
        """Return the log-mel spectrogram of a mel power, both (batch, mel, frames)."""
        log_mel = 10 * mel_power.clamp_min(POWER_FLOOR).log10()
        inside = self._inside(n_valid, log_mel)
        peak = log_mel.masked_fill(~inside, -torch.inf).amax(dim=(1, 2), keepdim=True)
        log_mel = torch.maximum(log_mel, peak - self.settings.top_db)
        return _pad_with_minimum(log_mel, inside)

    def features(self, waveforms: torch.Tensor, n_valid: torch.Tensor) -> torch.Tensor:
        """Return what the network sees: (batch, 1, mel, frames), per clip zero mean, unit sd."""
        log_mel = self(waveforms, n_valid)
        return standardise(log_mel, self._inside(n_valid, log_mel)).unsqueeze(1)

    def features_of_power(self, mel_power: torch.Tensor, n_valid: torch.Tensor) -> torch.Tensor:
        """Return the same of a mel power, (batch, mel, frames): gradients go through it."""
        log_mel = self._decibels(mel_power, n_valid)
        return standardise(log_mel, self._inside(n_valid, log_mel)).unsqueeze(1)

    def _inside(self, n_valid: torch.Tensor, log_mel: torch.Tensor) -> torch.Tensor:
        """Return a mask, shape (batch, 1, frames), of the frames that belong to the clip."""
        index = torch.arange(log_mel.shape[2], device=log_mel.device)
        return (index < self.n_valid_frames(n_valid)[:, None])[:, None]


def standardise(log_mel: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Shift and scale each clip to zero mean and unit deviation: ``(x - mean) / (std + 1e-6)``.

    Only frames `inside` the clip, bool (batch, 1, frames), set mean and deviation; the rest is
    filled with the minimum of the result. Thesis section 4.2.2 cuts long clips after this step, we
    cut before it: a network that sees five seconds is not told about the sixth.
    """
    count = inside.sum(dim=(1, 2), keepdim=True) * log_mel.shape[1]
    mean = (log_mel * inside).sum(dim=(1, 2), keepdim=True) / count
    centred = (log_mel - mean) * inside
    deviation = (centred.square().sum(dim=(1, 2), keepdim=True) / count).sqrt()
    return _pad_with_minimum((log_mel - mean) / (deviation + 1e-6), inside)


def _pad_with_minimum(log_mel: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    minimum = log_mel.masked_fill(~inside, torch.inf).amin(dim=(1, 2), keepdim=True)
    return torch.where(inside, log_mel, minimum)


def librosa_log_mel(settings: FrontEnd, waveform: np.ndarray) -> np.ndarray:
    """Return librosa's log-mel spectrogram, (mel, own frames) in dB, of (samples,).

    The independent reference for :class:`LogMel`, and the thesis's own front end.
    """
    power = librosa.feature.melspectrogram(
        y=waveform,
        sr=settings.sr,
        n_fft=settings.n_fft,
        win_length=settings.win_length,
        hop_length=settings.hop_length,
        window="hann",
        center=True,
        pad_mode="constant",
        power=2.0,
        n_mels=settings.n_mels,
        fmin=settings.f_min_hz,
        fmax=settings.f_max_hz,
        htk=False,
        norm="slaney",
    )
    return librosa.power_to_db(power, ref=1.0, amin=POWER_FLOOR, top_db=settings.top_db)


def librosa_difference_db(
    front_end: LogMel, waveform: torch.Tensor, n_valid: torch.Tensor
) -> float:
    """Return the largest difference between ours and librosa's log-mel of one clip, in dB.

    Only points less than 60 dB below the clip's maximum are compared.
    """
    kept, n_frames = waveform[0, : int(n_valid)], int(front_end.n_valid_frames(n_valid))
    reference = librosa_log_mel(front_end.settings, kept.cpu().numpy())[:, :n_frames]
    ours = front_end(waveform, n_valid)[0, :, :n_frames].cpu().numpy()
    audible = reference > reference.max() - 60
    return float(np.abs(ours - reference)[audible].max())


def mel_frequencies_hz(settings: FrontEnd) -> torch.Tensor:
    """Return the centre frequency of each mel band in Hz, shape (mel,)."""
    edges = librosa.mel_frequencies(
        settings.n_mels + 2, fmin=settings.f_min_hz, fmax=settings.f_max_hz
    )
    return torch.from_numpy(edges[1:-1].copy()).float()
