"""Procedural clips in the official ESC-50 layout, built from sources whose spectra are known.

Ten classes in five folds. A clip is a sum of two or three `SOURCES`, each with its own temporal
envelope, over coloured background noise. A source has one power spectrum, the same in every class
and clip, up to the frequency factor of the recording. What a classifier's layers or an explanation
claim about a clip can therefore be compared with what went into it (`stems`, `source_spectra`).

As in ESC-50, some clips are takes of one source recording: they share frequency factor, gains,
envelope rates and background. No recording spans two folds, with one deliberate exception
(`STRADDLING`): a recording of night insects whose take A is labelled voices_among_insects in
fold 2 and whose take B is labelled whistles_among_insects in fold 4, for a leakage report to find.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import tempfile
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.fft
import scipy.signal
import scipy.special
import soundfile

RECIPE = 1  # raise it with every change that alters the audio, so that older folders are rebuilt
FOLDS = (1, 2, 3, 4, 5)
FREQUENCY_FACTOR = (0.92, 1.08)  # one draw per recording, applied to all its sources
LINE_WIDTH = 0.004  # standard deviation of a partial's wander, relative to its frequency
WANDER_HZ = 3.0  # highest rate of that wander
GAIN_DB = 6.0  # gain of a source in a recording, uniform in +- GAIN_DB
NEARLY_ABSENT = (0.2, -24.0)  # probability per source and recording, extra gain in dB
SNR_DB = (-6.0, 18.0)  # power of all sources over the background's
BACKGROUND_TILT_DB = (-7.0, 0.0)  # per octave, of the background's power density
PEAK_DB = (-18.0, -0.3)  # peak level of a clip, dB of full scale
SHORT, LONG = 0.72, 1.4  # length of odd clips, relative to clip_s
SHORT_SHARE = 0.025  # probability, in addition to ALWAYS_SHORT
ALWAYS_SHORT = ((2, 4),)  # (fold, target): take A of the first recording there
ALWAYS_LONG = ((1, 7), (4, 2))
STRADDLING = {"src_file": 120800, "home": (2, 8), "stray": (4, 9)}  # (fold, target) twice
TAKES_SHARE = (0.76, 0.16, 0.08)  # probability that a recording gives 1, 2 or 3 takes
MADE_BY = "esc_lib.datasets.demo"


@dataclass(frozen=True)
class Source:
    """A sound whose power spectrum is known; the powers of all its parts sum to 1.

    Parameters
    ----------
    name, description : str
    tones : tuple of (hz, power)
        Partials; each is a Gaussian line with standard deviation `LINE_WIDTH` * hz.
    bands : tuple of (low_hz, high_hz, tilt, power)
        Noise with hard edges whose density changes by tilt dB per octave.
    resonances : tuple of (centre_hz, width, power)
        Noise whose power per octave is Gaussian over log frequency, standard deviation in octaves.
    """

    name: str
    description: str
    tones: tuple[tuple[float, float], ...] = ()
    bands: tuple[tuple[float, float, float, float], ...] = ()
    resonances: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True)
class DemoClass:
    """A class: parts are (source, weight, envelope); the weights, shares of power, sum to 1."""

    name: str
    target: int
    parts: tuple[tuple[str, float, str], ...]


@dataclass(frozen=True)
class Recording:
    """What all takes of one source recording share; dictionaries are keyed by source name."""

    factor: float
    gain_db: dict[str, float]
    rate: dict[str, float]  # position in [0, 1] within the envelope's range of rates
    snr_db: float
    tilt_db: float


def _partials(multiples, f0_hz, rolloff_db, formants=(), share=1.0):
    """Return ((hz, power), ...): rolloff_db per octave, raised at the (hz, octaves) formants."""
    hz = f0_hz * np.asarray(multiples, dtype=float)
    power = 10 ** (-rolloff_db * np.log2(hz / hz[0]) / 10)
    if formants:
        power *= 0.01 + sum(np.exp(-0.5 * (np.log2(hz / f) / w) ** 2) for f, w in formants)
    return tuple(zip(hz.tolist(), (share * power / power.sum()).tolist(), strict=True))


_ALL_SOURCES = (
    Source("hum", "harmonics of 100 Hz, -9 dB per octave", tones=_partials(range(1, 13), 100, 9)),
    Source("buzz", "harmonics of 62 Hz, -4 dB per octave", tones=_partials(range(1, 33), 62, 4)),
    Source("voice", "harmonics of 180 Hz under formants at 700, 1200 and 2600 Hz",
           tones=_partials(range(1, 21), 180, 3, ((700, 0.2), (1200, 0.15), (2600, 0.15)))),
    Source("whistle", "2300 Hz with a weak octave and some breath",
           tones=_partials((1, 2), 2300, 15, share=0.9), bands=((1800, 3200, 0.0, 0.1),)),
    Source("insects", "a dense cluster of partials between 4.3 and 4.9 kHz",
           tones=_partials((1, 1.031, 1.057, 1.083, 1.118, 1.14), 4300, 0)),
    Source("bell", "inharmonic partials of 520 Hz",
           tones=_partials((0.5, 1, 1.2, 1.5, 2, 2.67, 3, 4.1, 5.4), 520, 3)),
    Source("rumble", "noise between 40 and 220 Hz, -3 dB per octave",
           bands=((40, 220, -3.0, 1.0),)),
    Source("wash", "noise between 300 and 2400 Hz, -3 dB per octave",
           bands=((300, 2400, -3.0, 1.0),)),
    Source("hiss", "flat noise between 3.4 and 7.2 kHz", bands=((3400, 7200, 0.0, 1.0),)),
    Source("knock", "wooden resonances at 380 and 950 Hz",
           resonances=((380, 0.18, 0.7), (950, 0.12, 0.3))),
    Source("click", "hard resonances at 1.7 and 3.9 kHz",
           resonances=((1700, 0.1, 0.35), (3900, 0.25, 0.65))),
    Source("crackle", "a broad resonance at 2.6 kHz over a little wide noise",
           resonances=((2600, 0.45, 0.8),), bands=((200, 7000, 0.0, 0.2),)),
)
SOURCES: dict[str, Source] = {source.name: source for source in _ALL_SOURCES}

CLASSES: tuple[DemoClass, ...] = (
    DemoClass("bell_drone_in_wash", 0, (("bell", 0.6, "tremolo"), ("wash", 0.4, "swell"))),
    DemoClass("bell_strokes_in_wash", 1, (("bell", 0.6, "strokes"), ("wash", 0.4, "swell"))),
    DemoClass("buzz_with_clicks", 2, (("buzz", 0.6, "steady"), ("click", 0.4, "train"))),
    DemoClass("crackle_over_hiss", 3, (("crackle", 0.6, "scatter"), ("hiss", 0.4, "steady"))),
    DemoClass("crackle_over_rumble", 4, (("crackle", 0.5, "scatter"), ("rumble", 0.4, "steady"),
                                         ("hiss", 0.1, "swell"))),
    DemoClass("hum_with_clicks", 5, (("hum", 0.6, "steady"), ("click", 0.4, "train"))),
    DemoClass("hum_with_hiss", 6, (("hum", 0.6, "steady"), ("hiss", 0.4, "tremolo"))),
    DemoClass("knocks_over_rumble", 7, (("knock", 0.5, "train"), ("rumble", 0.5, "steady"))),
    DemoClass("voices_among_insects", 8, (("voice", 0.5, "rare"), ("insects", 0.3, "tremolo"),
                                          ("wash", 0.2, "swell"))),
    DemoClass("whistles_among_insects", 9, (("whistle", 0.5, "rare"), ("insects", 0.3, "tremolo"),
                                            ("wash", 0.2, "swell"))),
)


# ------------------------------------------------------------------------------ true spectra

def _band_power(edges_hz, low_hz, high_hz, tilt_db):
    """Return the share of a tilted band's power between consecutive edges, (edges - 1,)."""
    exponent = tilt_db / (10 * np.log10(2)) + 1  # of the integral of the density f**(exponent - 1)
    if abs(exponent) < 1e-6:  # exactly pink: the integral tends to log f
        exponent = 1e-6
    inside = np.clip(edges_hz, low_hz, high_hz) ** exponent
    return np.diff(inside) / (high_hz**exponent - low_hz**exponent)


def _noise_power(source, edges_hz):
    """Return the power of a source's noise parts between consecutive edges, (edges - 1,)."""
    power = np.zeros(len(edges_hz) - 1)
    for low, high, tilt, share in source.bands:
        power += share * _band_power(edges_hz, low, high, tilt)
    octaves = np.log2(np.maximum(edges_hz, 1e-3))
    for centre, width, share in source.resonances:
        power += share * np.diff(scipy.special.ndtr((octaves - np.log2(centre)) / width))
    return power


def source_spectra(freqs_hz, *, resolution_hz=0.0):
    """Return the true power spectrum of every source at frequency factor 1.

    Parameters
    ----------
    freqs_hz : array, shape (freq,), Hz, increasing
        Centres of the bins; the edges lie halfway between neighbours.
    resolution_hz : float, Hz, at least 0
        Standard deviation of a Gaussian that widens the partials, to imitate an analysis window
        (about 0.6 sr / win_length for a Hann window); 0 keeps their own width.

    Returns
    -------
    spectra : DataFrame, shape (freq, sources), index Hz
        Power in each bin, integrated exactly, so no narrow line falls between bins. A column sums
        to 1 if the bins cover the source. Columns compare with the atoms of a power dictionary;
        take the root for magnitudes, multiply from the left with a mel filter bank for mel bands.

    Raises
    ------
    ValueError : freqs_hz has fewer than two values, decreases, is negative or not finite.

    Examples
    --------
    >>> source_spectra(np.linspace(0, 8000, 513)).shape
    (513, 12)
    """
    freqs = np.asarray(freqs_hz, dtype=float)
    if (freqs.ndim != 1 or len(freqs) < 2 or not np.isfinite(freqs).all() or freqs[0] < 0
            or (np.diff(freqs) <= 0).any()):
        raise ValueError(f"source_spectra: freqs_hz of shape {freqs.shape} is not an increasing "
                         "row of at least two frequencies; pass bin centres in Hz, from 0 up.")
    steps = np.diff(freqs)
    edges = np.concatenate(([freqs[0] - steps[0] / 2], freqs[:-1] + steps / 2,
                            [freqs[-1] + steps[-1] / 2]))
    columns = {}
    for name, source in SOURCES.items():
        columns[name] = _noise_power(source, edges)
        for hz, power in source.tones:
            width_hz = np.hypot(LINE_WIDTH * hz, resolution_hz)
            columns[name] += power * np.diff(scipy.special.ndtr((edges - hz) / width_hz))
    return pd.DataFrame(columns, index=pd.Index(freqs, name="hz"))


def class_table():
    """Return one row per class and source: class, target, source, weight, envelope.

    Weight is the source's nominal share of the power of a clip's sources, before random gains.
    """
    rows = [(c.name, c.target, *part) for c in CLASSES for part in c.parts]
    return pd.DataFrame(rows, columns=["class", "target", "source", "weight", "envelope"])


# --------------------------------------------------------------------------------- rendering

def _noise(power, sr, n_fft, rng):
    """Return n_fft samples of Gaussian noise with the given power in each rfft bin."""
    parts = rng.standard_normal((2, len(power)), dtype=np.float32)
    scale = (np.sqrt(power) * (n_fft / 2)).astype(np.float32)
    return scipy.fft.irfft((parts[0] + 1j * parts[1]) * scale, n_fft)


def _rfft_edges(sr, n_fft):
    return np.clip((np.arange(n_fft // 2 + 2) - 0.5) * sr / n_fft, 0, sr / 2)


def render_source(name, n_samples, sr, rng, *, factor=1.0):
    """Render a source alone, without envelope.

    Parameters
    ----------
    name : str, a key of `SOURCES`
    n_samples : int
    sr : int, Hz; parts above sr / 2 are left out
    rng : numpy.random.Generator
    factor : float, multiplies every frequency of the source

    Returns
    -------
    waveform : array, shape (n_samples,), expected power 1 if all parts lie below sr / 2

    Raises
    ------
    ValueError : name is not a source.
    """
    if name not in SOURCES:
        raise ValueError(f"render_source: name={name!r} is no source; choose from "
                         f"{', '.join(SOURCES)}.")
    source = SOURCES[name]
    n_fft = scipy.fft.next_fast_len(n_samples, real=True)
    waveform = np.zeros(n_samples)
    if source.bands or source.resonances:
        power = _noise_power(source, _rfft_edges(sr, n_fft) / factor)
        waveform += _noise(power, sr, n_fft, rng)[:n_samples]
    if source.tones:
        slow = np.arange(n_fft // 2 + 1) * sr / n_fft <= WANDER_HZ
        wander = _noise(slow / slow.sum(), sr, n_fft, rng)[:n_samples]
        cycles = np.cumsum(1 + LINE_WIDTH * wander.astype(float)) * (factor / sr)
        starts = rng.uniform(size=len(source.tones))
        for (hz, power), start in zip(source.tones, starts, strict=True):
            if hz * factor < sr / 2:
                phase = hz * cycles + start
                phase = ((phase - np.floor(phase)) * (2 * np.pi)).astype(np.float32)
                waveform += np.sqrt(2 * power) * np.sin(phase)
    return waveform


def _hits(n, sr, onsets_s, heights, decay_s):
    """Return a sum of strokes with a 2 ms attack and an exponential decay, (n,)."""
    pulses = np.zeros(n)
    np.add.at(pulses, np.minimum((np.asarray(onsets_s) * sr).astype(int), n - 1), heights)
    pulses = scipy.signal.lfilter([1.0], [1.0, -np.exp(-1 / (decay_s * sr))], pulses)
    attack = max(1, int(0.002 * sr))
    return scipy.signal.lfilter(np.full(attack, 1 / attack), [1.0], pulses)


def _envelope(kind, n, sr, rate, rng):
    """Return an amplitude envelope, (n,); rate in [0, 1] goes from slow to fast."""
    t, duration = np.arange(n) / sr, n / sr
    if kind == "steady":
        return np.ones(n)
    if kind == "tremolo":  # 3 to 9 Hz, almost to silence
        return (0.52 + 0.48 * np.sin(2 * np.pi * ((3 + 6 * rate) * t + rng.uniform()))) ** 1.5
    if kind == "swell":  # one rise and fall in 2 to 5 s
        return 0.1 + np.sin(np.pi * (t / (5 - 3 * rate) + rng.uniform())) ** 2
    if kind == "strokes":  # every 0.7 to 1.5 s, ringing
        gap = 1.5 - 0.8 * rate
        onsets = np.arange(rng.uniform(0, 0.3 * min(gap, duration)), duration, gap)
        return _hits(n, sr, onsets, rng.uniform(0.5, 1, len(onsets)), 0.3 + 0.4 * rng.uniform())
    if kind == "train":  # 3 to 8 Hz, nearly regular, dry
        gap = 1 / (3 + 5 * rate)
        onsets = np.arange(rng.uniform(0, gap), duration, gap)
        onsets = np.clip(onsets + rng.normal(0, 0.02 * gap, len(onsets)), 0, None)
        return _hits(n, sr, onsets, rng.uniform(0.7, 1, len(onsets)), 0.02 + 0.02 * rate)
    if kind == "scatter":  # 6 to 20 sparks a second at random, of very uneven height
        onsets = rng.uniform(0, duration, 1 + rng.poisson((6 + 14 * rate) * duration))
        return _hits(n, sr, onsets, rng.lognormal(0, 0.8, len(onsets)), 0.008)
    if kind == "rare":  # one to three calls of 0.25 to 0.6 s
        envelope = np.zeros(n)
        for _ in range(rng.integers(1, 4)):
            size = int(min(0.6 - 0.35 * rate, 0.8 * duration) * sr)
            start = rng.integers(0, n - size)
            envelope[start:start + size] += np.sin(np.pi * np.arange(size) / size) ** 2
        return envelope
    raise ValueError(f"_envelope: kind={kind!r} is unknown; correct it in CLASSES.")


def recording(src_file, *, seed=0):
    """Return the `Recording` behind a src_file: the true factor, gains, rates and background."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1, src_file]))
    gain = rng.uniform(-GAIN_DB, GAIN_DB, len(SOURCES))
    gain += np.where(rng.uniform(size=len(SOURCES)) < NEARLY_ABSENT[0], NEARLY_ABSENT[1], 0)
    rate = rng.uniform(size=len(SOURCES))
    gain, rate = (dict(zip(SOURCES, drawn.tolist(), strict=True)) for drawn in (gain, rate))
    return Recording(rng.uniform(*FREQUENCY_FACTOR), gain, rate, rng.uniform(*SNR_DB),
                     rng.uniform(*BACKGROUND_TILT_DB))


def _parse(filename):
    """Return fold, src_file, take, target of a clip of this set."""
    match = re.fullmatch(r"([1-5])-(1\d{5})-([A-C])-(\d)\.wav", filename)
    if match:
        fold, src_file, take, target = int(match[1]), int(match[2]), match[3], int(match[4])
        stray = src_file == STRADDLING["src_file"] and (fold, target) == STRADDLING["stray"]
        if stray or src_file // 100 == 1000 + 100 * fold + target:
            return fold, src_file, take, target
    raise ValueError(f"stems: filename={filename!r} is no clip of the demo set; take a name from "
                     "the column 'filename' of its meta/esc50.csv.")


def _start(filename, seed, sr, clip_s):
    """Return a clip's length in samples and its generator."""
    fold, src_file, take, target = _parse(filename)
    entropy = [seed, 2, fold, src_file, ord(take), target]
    rng = np.random.default_rng(np.random.SeedSequence(entropy))
    first = take == "A" and src_file % 100 == 0
    short = rng.uniform() < SHORT_SHARE  # drawn always, so that the rest does not depend on it
    if first and (fold, target) in ALWAYS_LONG:
        return round(LONG * clip_s * sr), rng
    short = short or (first and (fold, target) in ALWAYS_SHORT)
    return round((SHORT if short else 1.0) * clip_s * sr), rng


def stems(filename, *, seed=0, sr=16000, clip_s=3.0):
    """Render one clip as the waveforms that add up to it.

    Parameters
    ----------
    filename : str, as in meta/esc50.csv, for example "1-110000-A-0.wav"
    seed, sr, clip_s : settings of the set, see `write`; `render_settings` reads them back

    Returns
    -------
    stems : dict of arrays, shape (samples,), full scale 1
        One entry per source of the clip's class, in the order of `class_table`, then "background".
        Their sum is the clip before rounding to 16 bits: it differs from the file by at most half
        a step, 0.5 / 32768.

    Raises
    ------
    ValueError : the name is not one of this set, or a setting is out of range.

    Examples
    --------
    >>> list(stems("1-110000-A-0.wav"))
    ['bell', 'wash', 'background']
    """
    _check(seed, sr, clip_s, 1)
    _, src_file, _, target = _parse(filename)
    n, rng = _start(filename, seed, sr, clip_s)
    shared = recording(src_file, seed=seed)
    layers = {}
    for name, weight, kind in CLASSES[target].parts:
        wave = render_source(name, n, sr, rng, factor=shared.factor)
        wave *= _envelope(kind, n, sr, shared.rate[name], rng)
        level = np.sqrt(weight) * 10 ** (shared.gain_db[name] / 20)
        layers[name] = wave * (level / np.sqrt(np.mean(wave**2)))
    n_fft = scipy.fft.next_fast_len(n, real=True)
    power = _band_power(_rfft_edges(sr, n_fft), 30.0, sr / 2, shared.tilt_db)
    noise = _noise(power, sr, n_fft, rng)[:n].astype(float)
    signal_rms = np.sqrt(np.mean(sum(layers.values()) ** 2))
    noise *= signal_rms * 10 ** (-shared.snr_db / 20) / np.sqrt(np.mean(noise**2))
    layers["background"] = noise
    peak = np.abs(sum(layers.values())).max()
    scale = 10 ** (rng.uniform(*PEAK_DB) / 20) / peak
    return {name: wave * scale for name, wave in layers.items()}


# ------------------------------------------------------------------------------ the data set

def _check(seed, sr, clip_s, clips_per_class_per_fold):
    for name, value, good, say in (
            ("seed", seed, isinstance(seed, (int, np.integer)) and seed >= 0, "an integer from 0"),
            ("sr", sr, isinstance(sr, (int, np.integer)) and sr >= 16000,
             "an integer from 16000, because the sources reach almost 8 kHz"),
            ("clip_s", clip_s, 1.0 <= clip_s <= 60.0, "1 to 60 s"),
            ("clips_per_class_per_fold", clips_per_class_per_fold,
             clips_per_class_per_fold in range(1, 100), "1 to 99")):
        if not good:
            raise ValueError(f"demo: {name}={value!r}, expected {say}; change it in the profile.")


def clip_table(*, seed=0, clips_per_class_per_fold=8):
    """Return the rows of meta/esc50.csv, sorted by filename, in its official columns.

    A recording is numbered 100000 + 10000 fold + 100 target + index, so a name tells its place.
    """
    rows = []
    for fold in FOLDS:
        for target in range(len(CLASSES)):
            rng = np.random.default_rng(np.random.SeedSequence([seed, 3, fold, target]))
            left, index = clips_per_class_per_fold, 0
            while left:
                takes = min(left, 1 + rng.choice(3, p=TAKES_SHARE))
                src_file, letters = 100000 + 10000 * fold + 100 * target + index, "ABC"[:takes]
                if index == 0 and (fold, target) == STRADDLING["home"]:
                    letters = "A"
                if index == 0 and (fold, target) == STRADDLING["stray"]:
                    src_file, letters = STRADDLING["src_file"], "B"
                for take in letters:
                    rows.append((f"{fold}-{src_file}-{take}-{target}.wav", fold, target,
                                 CLASSES[target].name, False, src_file, take))
                left, index = left - len(letters), index + 1
    columns = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
    return pd.DataFrame(rows, columns=columns).sort_values("filename", ignore_index=True)


def _record(folder):
    """Return the contents of meta/demo.json, or None where there is none that we wrote."""
    try:
        record = json.loads((folder / "meta" / "demo.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("made_by") == MADE_BY else None


def render_settings(folder):
    """Return the settings of a written set that `stems` needs: seed, sr, clip_s.

    Raises
    ------
    ValueError : the folder holds no demo set.
    """
    record = _record(pathlib.Path(folder))
    if record is None:
        raise ValueError(f"render_settings: {str(folder)!r} holds no demo set; make it with "
                         "esc_lib.datasets.demo.write.")
    return dict(record["render"])


def _is_complete(folder, record):
    """Tell whether the folder was made with these settings and no clip is missing or cut."""
    if _record(folder) != record or not (folder / "meta" / "esc50.csv").is_file():
        return False
    names = clip_table(seed=record["render"]["seed"],
                       clips_per_class_per_fold=record["clips_per_class_per_fold"])["filename"]
    files = ((folder / "audio" / name, _start(name, **record["render"])[0]) for name in names)
    return all(path.is_file() and path.stat().st_size == 44 + 2 * n for path, n in files)


def _refuse_foreign(folder):
    """Raise unless the folder is absent, empty, or holds only what `write` puts there."""
    files = [p for p in folder.rglob("*") if not p.is_dir()] if folder.is_dir() else [folder]
    ours = r"(meta/(esc50\.csv|demo\.json))|(audio/\d-\d{6}-[A-C]-\d\.wav)"
    if folder.is_dir() and _record(folder) is not None:
        files = [p for p in files if not re.fullmatch(ours, p.relative_to(folder).as_posix())]
    if folder.exists() and files:
        raise ValueError(f"write: {str(folder)!r} holds something other than a demo set "
                         f"({files[0].name!r}); choose another folder or empty it first.")


def write(folder, *, seed=0, sr=16000, clip_s=3.0, clips_per_class_per_fold=8):
    """Write the set: audio/*.wav, 16-bit mono, meta/esc50.csv and meta/demo.json.

    A complete folder made with the same settings is kept. One made with other settings, or with
    clips missing, is replaced. Work goes on in a hidden folder beside it, renamed at the
    end and removed on errors and Ctrl-C; one left by a hard kill can be deleted.

    Parameters
    ----------
    folder : path
    seed : int, at least 0
    sr : int, Hz, at least 16000
    clip_s : float, s, 1 to 60; a few clips are shorter or longer (`SHORT`, `LONG`)
    clips_per_class_per_fold : int, 1 to 99; 8 gives 400 clips

    Returns
    -------
    folder : pathlib.Path

    Raises
    ------
    ValueError : a setting is out of range, or the folder holds something else.
    """
    _check(seed, sr, clip_s, clips_per_class_per_fold)
    folder = pathlib.Path(folder)
    render = {"seed": int(seed), "sr": int(sr), "clip_s": float(clip_s)}
    record = {"made_by": MADE_BY, "recipe": RECIPE, "render": render,
              "clips_per_class_per_fold": int(clips_per_class_per_fold)}
    if _is_complete(folder, record):
        return folder
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        new, old = work / "new", work / "old"
        (new / "audio").mkdir(parents=True)
        (new / "meta").mkdir()
        table = clip_table(seed=seed, clips_per_class_per_fold=clips_per_class_per_fold)
        for name in table["filename"]:
            clip = sum(stems(name, **render).values())
            soundfile.write(new / "audio" / name, np.round(clip * 32768).astype(np.int16), sr,
                            subtype="PCM_16")
        table.to_csv(new / "meta" / "esc50.csv", index=False, lineterminator="\n")
        (new / "meta" / "demo.json").write_text(json.dumps(record, indent=1) + "\n",
                                                encoding="utf-8")
        if _is_complete(folder, record):  # another process was faster
            return folder
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder
