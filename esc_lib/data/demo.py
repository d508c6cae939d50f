"""Procedural clips in the official ESC-50 layout, built from sources whose spectra are known.

Ten classes in five folds. A clip is a sum of two or three sources (`demo_sources.SOURCES`), each
with its own temporal envelope, over coloured background noise. What a classifier's layers or an
explanation claim about a clip can therefore be compared with what went into it: `stems` gives the
waveforms of a clip, `demo_sources.source_spectra` the spectra.

As in ESC-50, some clips are takes of one source recording: they share frequency factor, gains,
envelope rates and background. No recording spans two folds, with one deliberate exception
(`STRADDLING`): a recording of night insects whose take A is labelled voices_among_insects in
fold 2 and whose take B is labelled whistles_among_insects in fold 4, for a leakage report to find.
"""

import json
import os
import pathlib
import re
import tempfile
from dataclasses import dataclass

import numpy as np
import pandas as pd
import soundfile

from esc_lib.data.demo_sources import CLASSES, SOURCES, envelope, render_background, render_source
from esc_lib.machine.fingerprint import fingerprint

FOLDS = (1, 2, 3, 4, 5)
FREQUENCY_FACTOR = (0.92, 1.08)  # one draw per recording, applied to all its sources
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
MADE_BY = "esc_lib.data.demo"


@dataclass(frozen=True)
class Recording:
    """What all takes of one source recording share; dictionaries are keyed by source name."""

    factor: float
    gain_db: dict[str, float]
    rate: dict[str, float]  # position in [0, 1] within the envelope's range of rates
    snr_db: float
    tilt_db: float


def recording(src_file, *, seed=0):
    """Return the `Recording` behind a src_file: the true factor, gains, rates and background."""
    rng = np.random.default_rng([seed, 1, src_file])
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
    rng = np.random.default_rng([seed, 2, fold, src_file, ord(take), target])
    first = take == "A" and src_file % 100 == 0
    short = rng.uniform() < SHORT_SHARE  # drawn always, so that the rest does not depend on it
    if first and (fold, target) in ALWAYS_LONG:
        return round(LONG * clip_s * sr), rng
    short = short or (first and (fold, target) in ALWAYS_SHORT)
    return round((SHORT if short else 1.0) * clip_s * sr), rng


def stems(filename, *, seed=0, sr=16000, clip_s=3.0):
    """Render one clip as the waveforms that add up to it, (samples,), full scale 1.

    The settings of the set, see `write`, stand in meta/demo.json as "render". There is one
    waveform per source of the clip's class, in the order of `CLASSES`, then "background". Their
    sum is the clip before rounding to 16 bits: it differs from the file by at most half a step,
    0.5 / 32768.

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
        wave *= envelope(kind, n, sr, shared.rate[name], rng)
        level = np.sqrt(weight) * 10 ** (shared.gain_db[name] / 20)
        layers[name] = wave * (level / np.sqrt(np.mean(wave**2)))
    noise = render_background(n, sr, shared.tilt_db, rng)
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
            rng = np.random.default_rng([seed, 3, fold, target])
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

    The seed is at least 0, sr at least 16000 Hz, clip_s 1 to 60 s (a few clips are shorter or
    longer: `SHORT`, `LONG`), clips_per_class_per_fold 1 to 99; 8 gives 400 clips.

    Raises
    ------
    ValueError : a setting is out of range, or the folder holds something else.
    """
    _check(seed, sr, clip_s, clips_per_class_per_fold)
    folder = pathlib.Path(folder)
    render = {"seed": int(seed), "sr": int(sr), "clip_s": float(clip_s)}
    record = {"made_by": MADE_BY, "recipe": fingerprint(code=__file__), "render": render,
              "clips_per_class_per_fold": int(clips_per_class_per_fold)}
    if _is_complete(folder, record):
        return folder
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent,
                                     ignore_cleanup_errors=True) as work:
        new, old = pathlib.Path(work, "new"), pathlib.Path(work, "old")
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
        if not _is_complete(folder, record):  # else another process was faster
            if folder.exists():
                os.replace(folder, old)
            os.replace(new, folder)
    return folder
