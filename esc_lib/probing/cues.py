"""What a clip's making leaves in it beside its sound: digital silence, and the edge of its codec.

Each cue is some numbers of every clip, and a way to take it out of the sound. Waveforms are int16,
(clips, samples); what lies beyond a clip's own end is left alone and not counted.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from scipy.signal import firwin, oaconvolve, welch

from esc_lib.data.clips import Data

LEAST_S = 0.01  # s of zeros that are silence: a sound passes through zero, too
STEP_8_BIT = 256  # of int16: the rounding of 8 bits
EDGE_HZ = 500  # over which the fall at the edge is measured
STEEP_DB = 20.0  # that it has at least: a codec's low-pass is steep, sound seldom is
CUTOFFS_HZ = (16_000, 12_000, 8_000, 4_000)


def silence(data: Data, sr: int) -> pd.DataFrame:
    """Return five numbers about the digital silence of each clip, and nothing about its sound.

    Silence is runs of zeros of `LEAST_S` at least. leading_s, trailing_s: its length at the
    beginning and at the end; longest_s, of the longest piece between; its share of the clip; the
    number of pieces.
    """
    rows = []
    for n_samples, (begin, end) in _silence(data, sr):
        length, first, last = (end - begin) / sr, begin == 0, end == n_samples
        rows.append(
            {
                "leading_s": length[first].sum(),
                "trailing_s": length[last & ~first].sum(),
                "longest_s": length[~first & ~last].max(initial=0),
                "share": length.sum() * sr / n_samples,
                "pieces": len(length),
            }
        )
    return pd.DataFrame(rows, index=data.clips.index)


def edge(data: Data, sr: int) -> pd.DataFrame:
    """Return where each clip's spectrum breaks off: two numbers.

    edge_hz, where the mean spectrum falls most within `EDGE_HZ`, in the upper half of the spectrum;
    fall_db, by how much. Less than `STEEP_DB` is no edge: half the rate and 0 then.
    """
    rows = []
    for waveform, n_valid in zip(data.waveforms.numpy(), data.n_valid.tolist(), strict=True):
        hz, power = welch(waveform[:n_valid].astype(float), sr, nperseg=min(2048, n_valid))
        db = 10 * np.log10(power + 1e-6)  # far below one step of 16 bits
        step, first = round(EDGE_HZ / hz[1]), len(hz) // 2
        fall = db[first:-step] - db[first + step :]
        at = fall.argmax()
        steep = fall[at] >= STEEP_DB
        rows.append(
            {"edge_hz": hz[first + at] if steep else sr / 2, "fall_db": fall[at] if steep else 0.0}
        )
    return pd.DataFrame(rows, index=data.clips.index)


CUES = {"silence": silence, "edge of the spectrum": edge}


def low_passed(data: Data, rows: np.ndarray, sr: int, cutoff_hz: float) -> Data:
    """Return the same clips with nothing above a frequency in those of some rows.

    A filter of linear phase, 90 dB down beyond 3 % of the rate `sr`.
    """
    taps = firwin(255, cutoff_hz, window=("kaiser", 9.0), fs=sr)
    sound = oaconvolve(data.waveforms[rows].numpy().astype(float), taps[None], "same", axes=1)
    return _with(data, rows, torch.from_numpy(sound.round().clip(-32768, 32767)))


def noisy(data: Data, rows: np.ndarray, sr: int, silent: bool = True) -> Data:
    """Return the same clips with the rounding noise of 8 bits in the silence of some rows.

    With `silent` false it is in all the rest instead, and the silence stays: the control.
    """
    waveforms, rng = data.waveforms[rows].numpy().astype(float), np.random.default_rng(0)
    for waveform, (n_samples, pieces) in zip(waveforms, _silence(data, sr, rows), strict=True):
        place = np.full(n_samples, not silent)
        for begin, end in pieces.T:
            place[begin:end] = silent
        noise = rng.uniform(-STEP_8_BIT / 2, STEP_8_BIT / 2, n_samples)
        waveform[:n_samples] += noise * place
    return _with(data, rows, torch.from_numpy(waveforms.round().clip(-32768, 32767)))


def silenced(data: Data, rows: np.ndarray, share: float = 0.3) -> Data:
    """Return the same clips, the last `share` of some of them at zero: a cue that is planted."""
    waveforms = data.waveforms[rows].clone()
    for waveform, n_valid in zip(waveforms, data.n_valid[rows].tolist(), strict=True):
        waveform[round((1 - share) * n_valid) : n_valid] = 0
    return _with(data, rows, waveforms)


def removals(data: Data, rows: np.ndarray, sr: int):
    """Yield a name and the clips for every cue that is taken out of some rows, and for controls.

    Low-passes at those of `CUTOFFS_HZ` that the rate leaves room for.
    """
    yield "as it is", data
    for cutoff_hz in CUTOFFS_HZ:
        if cutoff_hz < 0.45 * sr:
            yield f"low-pass {cutoff_hz / 1000:g} kHz", low_passed(data, rows, sr, cutoff_hz)
    yield "noise in the silence", noisy(data, rows, sr)
    yield "noise in all the rest", noisy(data, rows, sr, silent=False)


def _with(data: Data, rows: np.ndarray, waveforms: torch.Tensor) -> Data:
    changed = data.waveforms.clone()
    changed[torch.tensor(rows)] = waveforms.to(changed.dtype)
    return replace(data, waveforms=changed)


def _silence(data: Data, sr: int, rows: np.ndarray | None = None) -> Iterator:
    """Yield each clip's own length, and where its silence begins and has ended, (2, pieces)."""
    rows = np.arange(len(data.clips)) if rows is None else rows
    lengths = data.n_valid[rows].tolist()
    for waveform, n_samples in zip(data.waveforms[rows].numpy(), lengths, strict=True):
        zero = np.r_[False, waveform[:n_samples] == 0, False]
        begin, end = np.flatnonzero(np.diff(zero)).reshape(-1, 2).T
        long = end - begin >= LEAST_S * sr
        yield n_samples, np.stack([begin[long], end[long]])
