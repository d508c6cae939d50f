"""Clips decoded once, and what was found: durations, levels, silence."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from esc_lib.sound import audio

SILENCE_DB = -80.0


@dataclass(frozen=True)
class Decoded:
    """Clips in a file, of which what is used comes into memory."""

    waveforms: np.ndarray  # int16, (clips, samples), zero beyond a clip's end; mapped
    n_valid: np.ndarray  # int64, (clips,), samples of each clip that were kept
    report: pd.DataFrame  # a row per clip: filename, sr (Hz), duration_s, peak_db, rms_db, silent


def decode(clips: pd.DataFrame, sr: int, n_samples: int, file: Path) -> Decoded:
    """Decode every clip once: mono, resampled to `sr` Hz, cut to `n_samples`, 16 bits.

    Waveforms go to the `file`, ``.npy``, clip by clip: memory does not grow with their number.

    Raises
    ------
    FileNotFoundError, ValueError : from ``audio.read``, naming the clip.
    """
    header = {"descr": "<i2", "fortran_order": False, "shape": (len(clips), n_samples)}
    n_valid, rows = np.zeros(len(clips), np.int64), []

    def decode_one(path: str) -> tuple[np.ndarray, dict]:
        waveform, own_sr = audio.read(path)
        samples = audio.to_int16(audio.resample(waveform, own_sr, sr))
        return samples, {
            "sr": own_sr,
            "duration_s": len(waveform) / own_sr,
            "peak_db": _decibel(np.abs(waveform).max()),
            "rms_db": _decibel(np.sqrt(np.mean(waveform**2))),
        }

    with ThreadPoolExecutor() as pool, file.open("wb") as written:
        np.lib.format.write_array_header_1_0(written, header)
        jobs = pool.map(decode_one, clips.path)
        for samples, row in tqdm(jobs, total=len(clips), desc="decoding", unit="clip"):
            n_valid[len(rows)] = min(len(samples), n_samples)
            rows.append(row)
            written.write(audio.fit_length(samples, n_samples).astype("<i2"))
    report = pd.DataFrame(rows)
    report.insert(0, "filename", clips.filename.to_numpy())
    report["silent"] = report.peak_db < SILENCE_DB
    return Decoded(np.load(file, mmap_mode="c"), n_valid, report)


def _decibel(amplitude: float) -> float:
    return float(20 * np.log10(max(amplitude, 1e-10)))


def describe(clips: pd.DataFrame, report: pd.DataFrame) -> list[str]:
    """Say in sentences what the verification found, the clips that stand out by name."""
    found = characteristics(clips, report).measured
    rates = ", ".join(str(rate) for rate in sorted(report.sr.unique()))
    silent = report.filename[report.silent]
    return [
        f"{len(clips)} clips, {found['classes']} classes of {found['clips per class']} clips, "
        f"{found['folds']} folds, sample rate {rates} Hz, every clip decoded.",
        f"Durations from {found['duration (s), range']} s.",
        *(f"{name} is silent (peak below {SILENCE_DB:g} dB of full scale)." for name in silent),
    ]


def characteristics(clips: pd.DataFrame, report: pd.DataFrame) -> pd.DataFrame:
    """Return the set's characteristics as measured, one per row (thesis table 4.1)."""
    per_class, duration_s = clips.groupby("category").size(), report.duration_s
    rows = {
        "audio format": ", ".join(sorted({Path(path).suffix[1:].upper() for path in clips.path})),
        "sample rate (Hz)": ", ".join(f"{rate:,}" for rate in sorted(report.sr.unique())),
        "channels": "mono",
        "clips": f"{len(clips):,}",
        "classes": str(len(per_class)),
        "clips per class": f"{per_class.min()} to {per_class.max()}",
        "folds": str(clips.fold.nunique()),
        "duration (s), median": f"{duration_s.median():.2f}",
        "duration (s), range": f"{duration_s.min():.2f} to {duration_s.max():.2f}",
        "clips of another duration": str(int((abs(duration_s - duration_s.median()) > 0.01).sum())),
    }
    return pd.DataFrame({"measured": rows})
