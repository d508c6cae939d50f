"""Sound itself: reading, resampling, length, coloured noise and time shift.

In a batch, waveforms are (batch, samples), zero beyond a clip's end, and `n_valid`, int (batch,),
are the clips' lengths in samples.
"""

import io
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch

OGG_END_OF_STREAM = 0x04
WAV_UNKNOWN_SIZE = 0x7FFF0000  # from here on it is what a program that writes to a pipe puts there
UNKNOWN_FRAMES = 2**40  # libsndfile's number is larger
LOWEST_NOISE_HZ = 20.0
SILENT_DB = -60.0  # what lies further below a clip's peak counts as silence


def read(path: str | Path) -> tuple[np.ndarray, int]:
    """Read a WAV, FLAC or Ogg file as mono; return its waveform, (samples,), and sample rate.

    Raises
    ------
    FileNotFoundError, PermissionError, ValueError
        From :func:`read_channels`.
    """
    channels, sr = read_channels(path)
    return channels.mean(axis=1), sr


def read_channels(path: str | Path) -> tuple[np.ndarray, int]:
    """Read a WAV, FLAC or Ogg file; return its channels, (samples, channels), and sample rate.

    A WAV file whose header does not say how long it is, as programs write to a pipe, is read to its
    end.

    Raises
    ------
    FileNotFoundError, PermissionError
        If the file does not exist, or may not be read.
    ValueError
        If it cannot be decoded, is empty or truncated, or holds values that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"read: clip {path} is missing; restore the file or its row in meta/esc50.csv."
        )
    try:
        content = path.read_bytes()
    except PermissionError:
        raise PermissionError(
            f"read: no permission to read clip {path}; ask for it, or remove its row."
        ) from None
    content, complete = _with_its_length(content)
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            if file.frames >= UNKNOWN_FRAMES:
                raise ValueError("its header does not say how long it is")
            channels = file.read(dtype="float32", always_2d=True)
            complete &= len(channels) == file.frames
            sr = file.samplerate
    except (RuntimeError, ValueError, MemoryError, OverflowError) as error:
        reason = getattr(error, "error_string", "") or " ".join(str(error).split())
        raise ValueError(
            f"read: clip {path} cannot be decoded ({reason}); replace it with an intact copy."
        ) from None
    if not complete:
        raise ValueError(f"read: clip {path} is truncated; replace it with an intact copy.")
    if not len(channels):
        raise ValueError(f"read: clip {path} holds no samples; replace it with an intact copy.")
    if not np.isfinite(channels).all():
        raise ValueError(f"read: clip {path} holds NaN or infinity; replace it with a clean copy.")
    return channels, sr


def _with_its_length(content: bytes) -> tuple[bytes, bool]:
    """Return a file with the length of its sound in the header, and whether that is all there.

    A WAV file's data have an impossible size where a program wrote to a pipe, and none where a
    recorder died.
    """
    if content[:4] == b"RIFF":
        place = 12
        while place + 8 <= len(content):
            size = int.from_bytes(content[place + 4 : place + 8], "little")
            rest = len(content) - place - 8
            if content[place : place + 4] == b"data":
                if size >= WAV_UNKNOWN_SIZE or (size == 0 and rest):
                    sizes = [(n).to_bytes(4, "little") for n in (len(content) - 8, rest)]
                    head = content[:4] + sizes[0] + content[8 : place + 4] + sizes[1]
                    return head + content[place + 8 :], True
                return content, size <= rest
            place += 8 + size + size % 2
        return content, False
    if content[:4] == b"OggS":
        page = content[content.rfind(b"OggS") :]
        if len(page) < 27 or not page[5] & OGG_END_OF_STREAM:
            return content, False
        n_segments = page[26]
        return content, len(page) >= 27 + n_segments + sum(page[27 : 27 + n_segments])
    return content, True


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
