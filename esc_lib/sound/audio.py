"""Sound itself: reading, resampling, length, coloured noise and time shift.

In a batch, waveforms are (batch, samples), zero beyond a clip's end, and `n_valid`, int (batch,),
are the clips' lengths in samples.
"""

import os
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch

OGG_END_OF_STREAM = 0x04
WAV_UNKNOWN_SIZE = 0xFFFFFFFF  # what a program that writes to a pipe puts there
LOWEST_NOISE_HZ = 20.0
SILENT_DB = -60.0  # what lies further below a clip's peak counts as silence


def _is_truncated(path: Path) -> bool:
    """Say whether a WAV or Ogg file ends before its own header says its sound does."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF":
            while len(chunk := file.read(8)) == 8:
                n_bytes = int.from_bytes(chunk[4:], "little")
                if chunk[:4] == b"data":
                    return n_bytes != WAV_UNKNOWN_SIZE and file.tell() + n_bytes > size
                file.seek(n_bytes + n_bytes % 2, os.SEEK_CUR)
            return True
        if head[:4] == b"OggS":
            file.seek(max(0, size - 70_000))  # an Ogg page has at most 65,307 bytes
            tail = file.read()
            page = tail[tail.rfind(b"OggS") :]  # one byte if there is none
            if len(page) < 27 or not page[5] & OGG_END_OF_STREAM:
                return True
            n_segments = page[26]
            return len(page) < 27 + n_segments + sum(page[27 : 27 + n_segments])
    return False


def read(path: str | Path) -> tuple[np.ndarray, int]:
    """Read a WAV, FLAC or Ogg file as mono; return its waveform, (samples,), and sample rate.

    Raises
    ------
    FileNotFoundError : the file does not exist.
    ValueError : it cannot be decoded, is empty or truncated, or holds values that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"read: clip {path} is missing; restore the file or its row in meta/esc50.csv."
        )
    try:
        with soundfile.SoundFile(path) as file:
            waveform = file.read(dtype="float32", always_2d=True)
            complete = len(waveform) == file.frames
            sr = file.samplerate
    except soundfile.LibsndfileError as error:
        raise ValueError(
            f"read: clip {path} cannot be decoded ({error.error_string}); "
            "replace it with an intact copy."
        ) from None
    if not complete or _is_truncated(path):
        raise ValueError(f"read: clip {path} is truncated; replace it with an intact copy.")
    if len(waveform) == 0:
        raise ValueError(f"read: clip {path} holds no samples; replace it with an intact copy.")
    if not np.isfinite(waveform).all():
        raise ValueError(f"read: clip {path} holds NaN or infinity; replace it with a clean copy.")
    return waveform.mean(axis=1), sr


def resample(waveform: np.ndarray, sr: int, target_sr: int) -> np.ndarray:
    """Resample (samples,) from `sr` to `target_sr` Hz; soxr at its highest quality."""
    if sr == target_sr:
        return waveform
    return soxr.resample(waveform, sr, target_sr, quality="VHQ")


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Round a waveform in [-1, 1] to 16 bits; what lies outside is clipped."""
    return np.clip(np.round(waveform * 32768.0), -32768, 32767).astype(np.int16)


def fit_length(waveform: np.ndarray, n_samples: int) -> np.ndarray:
    """Cut `waveform` (samples,) or pad it with zeros at its end to `n_samples`."""
    kept = waveform[:n_samples]
    return np.pad(kept, (0, n_samples - len(kept)))


def loudest(waveform: np.ndarray, n_samples: int) -> np.ndarray:
    """Return the `n_samples` of `waveform` (samples,) with most energy; all of it if shorter."""
    if len(waveform) <= n_samples:
        return waveform
    energy = np.cumsum(np.square(np.append(0, waveform), dtype=np.float64))
    start = int((energy[n_samples:] - energy[:-n_samples]).argmax())
    return waveform[start : start + n_samples]


def coloured_noise(
    exponents: torch.Tensor, n_samples: int, sr: int, generator: torch.Generator
) -> torch.Tensor:
    """Draw Gaussian noise, unit mean square, of power density ``1 / f**exponent`` above 20 Hz.

    The exponents, (batch,), on the generator's device, are 0 for white, 1 for pink, 2 for brown
    noise. Below 20 Hz there is nothing: brown noise would otherwise spend nearly all its power
    where it is neither heard nor seen by the front end, and a signal-to-noise ratio mean little.
    """
    device = exponents.device
    white = torch.randn(len(exponents), n_samples, generator=generator, device=device)
    hz = torch.fft.rfftfreq(n_samples, 1 / sr, device=device)
    shaped = hz.clamp_min(LOWEST_NOISE_HZ) ** (-exponents[:, None] / 2)
    spectrum = torch.fft.rfft(white) * shaped * (hz >= LOWEST_NOISE_HZ)
    noise = torch.fft.irfft(spectrum, n=n_samples)
    return noise / noise.square().mean(dim=-1, keepdim=True).sqrt()


def add_noise(
    waveforms: torch.Tensor, n_valid: torch.Tensor, noise: torch.Tensor, snr_db: float
) -> torch.Tensor:
    """Add `noise` at `snr_db` below each clip's own power, within the clip's own length.

    A silent clip stays silent.
    """
    noise = noise * (torch.arange(noise.shape[-1], device=noise.device) < n_valid[:, None])
    gain = (_energy(waveforms) / _energy(noise).clamp_min(1e-12) / 10 ** (snr_db / 10)).sqrt()
    return waveforms + gain * noise


def shift(waveforms: torch.Tensor, n_valid: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Move each clip by `offsets`, int (batch,), samples (positive: later); zeros fill the gap.

    The length stays: what is pushed over the clip's start or end is lost, nothing wraps around.
    """
    source = torch.arange(waveforms.shape[-1], device=waveforms.device) - offsets[:, None]
    n_valid = n_valid[:, None]
    kept = (source >= 0) & (source < n_valid) & (source + offsets[:, None] < n_valid)
    return waveforms.gather(1, source.clamp(0, waveforms.shape[-1] - 1)) * kept


def level_matched(sounds: torch.Tensor, waveforms: torch.Tensor) -> torch.Tensor:
    """Scale each sound to the root mean square of its clip, peaks at most at full scale.

    A silent sound stays silent.
    """
    rms = [each.square().mean(dim=1, keepdim=True).sqrt() for each in (waveforms, sounds)]
    louder = sounds * (rms[0] / rms[1].clamp_min(1e-9))
    louder = torch.where(rms[1] > 1e-9, louder, sounds)
    return louder / louder.abs().amax(dim=1, keepdim=True).clamp_min(1.0)


def sounding_span(waveforms: torch.Tensor) -> torch.Tensor:
    """Return the first sounding sample of each int16 clip and the one after the last, (clips, 2).

    Many clips are a short sound followed by digital silence; where nothing sounds it is the whole
    clip.
    """
    spans = []
    for waveform in waveforms:  # one by one: as floats at once they would not fit
        level = waveform.float().abs()
        loud = torch.nonzero(level > level.max() * 10 ** (SILENT_DB / 20)).flatten()
        spans.append((int(loud[0]), int(loud[-1]) + 1) if len(loud) else (0, len(waveform)))
    return torch.tensor(spans, device=waveforms.device)


def _energy(waveforms: torch.Tensor) -> torch.Tensor:
    return waveforms.square().sum(dim=-1, keepdim=True)
