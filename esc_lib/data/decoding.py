"""Clips decoded once, and what was found: durations, levels, silence."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from esc_lib.sound import audio

SILENCE_DB = -80.0
NAMED = 10  # clips of a kind, at most
CHANNELS = {1: "mono", 2: "stereo"}
OTHER_UNIT_DB = 6.0  # no recording is so far beyond full scale: its unit is another one


@dataclass(frozen=True)
class Decoded:
    """Clips in a file, of which what is used comes into memory."""

    waveforms: np.ndarray  # int16, (clips, samples), zero beyond a clip's end; mapped
    n_valid: np.ndarray  # int64, (clips,), samples of each clip that were kept
    # a row per clip: filename, sr (Hz), channels, duration_s, peak_db, rms_db, silent, and
    # cancelled: silent because its channels cancel each other
    report: pd.DataFrame


def decode(clips: pd.DataFrame, sr: int, n_samples: int, file: Path) -> Decoded:
    """Decode every clip once: mono, resampled to `sr` Hz, cut to `n_samples`, 16 bits.

    A clip of another unit than full scale 1 is brought to full scale.

    Waveforms go to the `file`, ``.npy``, clip by clip: memory does not grow with their number.

    Raises
    ------
    FileNotFoundError, ValueError : from ``audio.read``, naming the clip.
    """
    header = {"descr": "<i2", "fortran_order": False, "shape": (len(clips), n_samples)}
    n_valid, rows = np.zeros(len(clips), np.int64), []

    def decode_one(path: str) -> tuple[np.ndarray, dict]:
        channels, own_sr = audio.read_channels(path)
        waveform = channels.mean(axis=1)
        peak = np.abs(waveform).max()
        unit = peak if _decibel(peak) > OTHER_UNIT_DB else 1
        samples = audio.to_int16(audio.resample(waveform / unit, own_sr, sr))
        return samples, {
            "sr": own_sr,
            "channels": channels.shape[1],
            "duration_s": len(waveform) / own_sr,
            "peak_db": _decibel(peak),
            "rms_db": _decibel(np.sqrt(np.mean(waveform**2))),
            "cancelled": _decibel(peak) < SILENCE_DB <= _decibel(np.abs(channels).max()),
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
    return [
        f"{len(clips)} clips, {found['classes']} classes of {found['clips per class']} clips, "
        f"{found['folds']} folds, sample rate {rates} Hz, every clip decoded.",
        f"Durations from {found['duration (s), range']} s.",
        *_loud(report[report.peak_db > 0]),
        *_silent(report[report.silent]),
    ]


def _loud(beyond: pd.DataFrame) -> list[str]:
    """Say what happens to clips beyond full scale, the loudest by name."""
    other_unit, said = beyond.peak_db > OTHER_UNIT_DB, []
    for scaled, what in ((False, "what lies beyond is cut off"), (True, "they are scaled to it")):
        some = beyond[other_unit == scaled]
        if len(some):
            top = some.loc[some.peak_db.idxmax()]
            said.append(
                f"{len(some)} clips go beyond full scale, {top.filename} by {top.peak_db:.1f} dB: "
                f"{what}."
            )
    return said


def _silent(silent: pd.DataFrame) -> list[str]:
    """Name silent clips, the first ones of many."""
    reasons = {True: "its channels cancel each other", False: f"peak below {SILENCE_DB:g} dB of"
               " full scale"}  # fmt: skip
    first = silent.head(NAMED)
    said = [f"{c.filename} is silent ({reasons[bool(c.cancelled)]})." for c in first.itertuples()]
    rest = len(silent) - len(first)
    return [*said, f"{rest} more clips are silent."] if rest else said


def characteristics(clips: pd.DataFrame, report: pd.DataFrame) -> pd.DataFrame:
    """Return the set's characteristics as measured, one per row (thesis table 4.1)."""
    per_class, duration_s = clips.groupby("category").size(), report.duration_s
    channels = [CHANNELS.get(n, f"{n} channels") for n in sorted(set(report.channels))]
    rows = {
        "audio format": ", ".join(sorted({Path(path).suffix[1:].upper() for path in clips.path})),
        "sample rate (Hz)": ", ".join(f"{rate:,}" for rate in sorted(report.sr.unique())),
        "channels": ", ".join(channels),
        "clips": f"{len(clips):,}",
        "classes": str(len(per_class)),
        "clips per class": f"{per_class.min()} to {per_class.max()}",
        "folds": str(clips.fold.nunique()),
        "duration (s), median": f"{duration_s.median():.2f}",
        "duration (s), range": f"{duration_s.min():.2f} to {duration_s.max():.2f}",
        "clips of another duration": str(int((abs(duration_s - duration_s.median()) > 0.01).sum())),
    }
    return pd.DataFrame({"measured": rows})
