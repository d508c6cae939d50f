"""Sources whose spectra are known, and the ten classes made of them, for the procedural clips.

A source has one power spectrum, the same in every class and clip, up to the frequency factor of
the recording: it is declared in `SOURCES`, computed by `source_spectra` and rendered by
`render_source`. A class is a sum of two or three sources, each under its own temporal envelope.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.fft
import scipy.special

LINE_WIDTH = 0.004  # standard deviation of a partial's wander, relative to its frequency
WANDER_HZ = 3.0  # highest rate of that wander
LOWEST_BACKGROUND_HZ = 30.0


@dataclass(frozen=True)
class Source:
    """A sound whose power spectrum is known; the powers of all its parts sum to 1."""

    # (hz, power): partials, each a Gaussian line with standard deviation `LINE_WIDTH` * hz
    tones: tuple[tuple[float, float], ...] = ()
    # (low_hz, high_hz, tilt, power): noise with hard edges, density changing by tilt dB per octave
    bands: tuple[tuple[float, float, float, float], ...] = ()
    # (centre_hz, width, power): noise, power per octave Gaussian over log frequency, sd in octaves
    resonances: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True)
class DemoClass:
    """A class: parts are (source, weight, envelope); the weights, shares of power, sum to 1."""

    name: str
    parts: tuple[tuple[str, float, str], ...]


def _partials(multiples, f0_hz, rolloff_db, formants=(), share=1.0):
    """Return ((hz, power), ...): rolloff_db per octave, raised at the (hz, octaves) formants."""
    hz = f0_hz * np.asarray(multiples, dtype=float)
    power = 10 ** (-rolloff_db * np.log2(hz / hz[0]) / 10)
    if formants:
        power *= 0.01 + sum(np.exp(-0.5 * (np.log2(hz / f) / w) ** 2) for f, w in formants)
    return tuple(zip(hz.tolist(), (share * power / power.sum()).tolist(), strict=True))


SOURCES = {
    "hum": Source(tones=_partials(range(1, 13), 100, 9)),
    "buzz": Source(tones=_partials(range(1, 33), 62, 4)),
    "voice": Source(
        tones=_partials(range(1, 21), 180, 3, ((700, 0.2), (1200, 0.15), (2600, 0.15)))),
    "whistle": Source(  # with a weak octave and some breath
        tones=_partials((1, 2), 2300, 15, share=0.9), bands=((1800, 3200, 0.0, 0.1),)),
    "insects": Source(tones=_partials((1, 1.031, 1.057, 1.083, 1.118, 1.14), 4300, 0)),
    "bell": Source(tones=_partials((0.5, 1, 1.2, 1.5, 2, 2.67, 3, 4.1, 5.4), 520, 3)),
    "rumble": Source(bands=((40, 220, -3.0, 1.0),)),
    "wash": Source(bands=((300, 2400, -3.0, 1.0),)),
    "hiss": Source(bands=((3400, 7200, 0.0, 1.0),)),
    "knock": Source(resonances=((380, 0.18, 0.7), (950, 0.12, 0.3))),  # wooden
    "click": Source(resonances=((1700, 0.1, 0.35), (3900, 0.25, 0.65))),  # hard
    "crackle": Source(resonances=((2600, 0.45, 0.8),), bands=((200, 7000, 0.0, 0.2),)),
}

CLASSES = (  # a clip's target is its class's place here
    DemoClass("bell_drone_in_wash", (("bell", 0.6, "tremolo"), ("wash", 0.4, "swell"))),
    DemoClass("bell_strokes_in_wash", (("bell", 0.6, "strokes"), ("wash", 0.4, "swell"))),
    DemoClass("buzz_with_clicks", (("buzz", 0.6, "steady"), ("click", 0.4, "train"))),
    DemoClass("crackle_over_hiss", (("crackle", 0.6, "scatter"), ("hiss", 0.4, "steady"))),
    DemoClass("crackle_over_rumble", (("crackle", 0.5, "scatter"), ("rumble", 0.4, "steady"),
                                      ("hiss", 0.1, "swell"))),
    DemoClass("hum_with_clicks", (("hum", 0.6, "steady"), ("click", 0.4, "train"))),
    DemoClass("hum_with_hiss", (("hum", 0.6, "steady"), ("hiss", 0.4, "tremolo"))),
    DemoClass("knocks_over_rumble", (("knock", 0.5, "train"), ("rumble", 0.5, "steady"))),
    DemoClass("voices_among_insects", (("voice", 0.5, "rare"), ("insects", 0.3, "tremolo"),
                                       ("wash", 0.2, "swell"))),
    DemoClass("whistles_among_insects", (("whistle", 0.5, "rare"), ("insects", 0.3, "tremolo"),
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
    freqs_hz : array, shape (freq,), centres of the bins; the edges lie halfway between them.
    resolution_hz : float, standard deviation of a Gaussian that widens the partials, to imitate an
        analysis window (about 0.6 sr / win_length for a Hann window); 0 keeps their own width.

    Returns
    -------
    DataFrame, shape (freq, sources), index Hz: the power in each bin, integrated exactly, so no
        narrow line falls between bins; a column sums to 1 if the bins cover the source. Take the
        root for magnitudes, multiply from the left with a mel filter bank for mel bands.

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


# --------------------------------------------------------------------------------- rendering

def _noise(power, n_fft, rng):
    """Return n_fft samples of Gaussian noise with the given power in each rfft bin."""
    parts = rng.standard_normal((2, len(power)), dtype=np.float32)
    scale = (np.sqrt(power) * (n_fft / 2)).astype(np.float32)
    return scipy.fft.irfft((parts[0] + 1j * parts[1]) * scale, n_fft)


def _rfft_edges(sr, n_fft):
    return np.clip((np.arange(n_fft // 2 + 2) - 0.5) * sr / n_fft, 0, sr / 2)


def render_source(name, n_samples, sr, rng, *, factor=1.0):
    """Render a source alone, without envelope, (n_samples,), its frequencies times `factor`.

    Parts above sr / 2 are left out; the expected power is 1 if there are none.

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
        waveform += _noise(power, n_fft, rng)[:n_samples]
    if source.tones:
        slow = np.arange(n_fft // 2 + 1) * sr / n_fft <= WANDER_HZ
        wander = _noise(slow / slow.sum(), n_fft, rng)[:n_samples]
        cycles = np.cumsum(1 + LINE_WIDTH * wander.astype(float)) * (factor / sr)
        starts = rng.uniform(size=len(source.tones))
        for (hz, power), start in zip(source.tones, starts, strict=True):
            if hz * factor < sr / 2:
                phase = hz * cycles + start
                phase = ((phase - np.floor(phase)) * (2 * np.pi)).astype(np.float32)
                waveform += np.sqrt(2 * power) * np.sin(phase)
    return waveform


def render_background(n_samples, sr, tilt_db, rng):
    """Render background noise from `LOWEST_BACKGROUND_HZ` to sr / 2, (n_samples,).

    Its power density changes by tilt_db per octave; the expected power is 1.
    """
    n_fft = scipy.fft.next_fast_len(n_samples, real=True)
    power = _band_power(_rfft_edges(sr, n_fft), LOWEST_BACKGROUND_HZ, sr / 2, tilt_db)
    return _noise(power, n_fft, rng)[:n_samples].astype(float)


def _hits(n, sr, onsets_s, heights, decay_s):
    """Return a sum of strokes with a 2 ms attack and an exponential decay, (n,)."""
    from scipy.signal import lfilter  # takes a while to import

    pulses = np.zeros(n)
    np.add.at(pulses, np.minimum((np.asarray(onsets_s) * sr).astype(int), n - 1), heights)
    pulses = lfilter([1.0], [1.0, -np.exp(-1 / (decay_s * sr))], pulses)
    attack = max(1, int(0.002 * sr))
    return lfilter(np.full(attack, 1 / attack), [1.0], pulses)


def envelope(kind, n, sr, rate, rng):
    """Return an amplitude envelope, (n,); kind as in `CLASSES`, rate from 0, slow, to 1, fast."""
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
        calls = np.zeros(n)
        for _ in range(rng.integers(1, 4)):
            size = int(min(0.6 - 0.35 * rate, 0.8 * duration) * sr)
            start = rng.integers(0, n - size)
            calls[start:start + size] += np.sin(np.pi * np.arange(size) / size) ** 2
        return calls
    raise ValueError(f"envelope: kind={kind!r} is unknown; correct it in CLASSES.")
