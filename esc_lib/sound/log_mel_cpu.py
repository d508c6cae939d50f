"""The mel power of one clip on one processor core, in a single pass through its cache.

A library's transform writes the whole complex spectrum to memory, which is read again for the
power and a third time for the mel bands. Here a block of neighbouring frames goes all the way
before the next one starts. The frames of a block lie side by side in memory, so that every
operation of the transform is the same operation on all of them: what vector instructions want.

References
----------
Stockham's self-sorting transform in radix 4, after cochran1967fast; a real signal's spectrum from
a complex transform of half its length, after sorensen1987real.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

LANES = 72  # frames per block: a block's buffers fit a core's second-level cache
SKEW = 208  # numbers between buffers: at equal places of a page they wait for each other

# rounding may differ from one order of additions to another, NaN and infinity may not get lost
_compile = njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"})


class Plan(NamedTuple):
    """What is computed once: all float32 arrays but the two of indices.

    Attributes
    ----------
    window : array, shape (n_fft,).
    roots, half_roots : arrays, shape (n_fft / 2, 2), cosine and sine of the angles by which a
        complex transform of n_fft / 2 points, and the step to the real one, turn.
    first : int array, shape (mel,), the first bin of each mel band.
    start : int array, shape (mel + 1,), where its weights start among all weights.
    weights : array, the filters of all bands one after another, without zeros around them.
    """

    window: np.ndarray
    roots: np.ndarray
    half_roots: np.ndarray
    first: np.ndarray
    start: np.ndarray
    weights: np.ndarray


def plan(window: np.ndarray, mel_basis: np.ndarray) -> Plan:
    """Prepare for a window, shape (n_fft,), and a bank, shape (mel, n_fft / 2 + 1).

    Raises
    ------
    ValueError
        If n_fft is not a power of two, or a band is empty.
    """
    n_half = len(window) // 2
    if n_half < 4 or n_half & (n_half - 1) or 2 * n_half != len(window):
        raise ValueError(f"plan: n_fft={len(window)} is not a power of two of at least 8.")
    filled = [np.flatnonzero(band) for band in mel_basis]
    for band, bins in enumerate(filled):
        if not len(bins):
            raise ValueError(f"plan: mel band {band} holds no bin; lower n_mels or raise n_fft.")
    first = np.array([bins[0] for bins in filled])
    after = np.array([bins[-1] + 1 for bins in filled])
    mel_basis = mel_basis.astype(np.float32)
    return Plan(
        window.astype(np.float32),
        _roots(n_half, 2 * np.pi / n_half),
        _roots(n_half, np.pi / n_half),
        first,
        np.concatenate([[0], np.cumsum(after - first)]),
        np.concatenate([band[a:b] for band, a, b in zip(mel_basis, first, after, strict=True)]),
    )


def _roots(n: int, step: float) -> np.ndarray:
    angle = -step * np.arange(n)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def mel_power(waveform: np.ndarray, plan: Plan, hop_length: int, power: np.ndarray) -> None:
    """Write the mel power of a waveform, (samples,), to `power`, (mel, frames); both float32.

    Frame i is centred on sample i * hop; there is silence beyond both ends.
    """
    n_fft, n_frames = len(plan.window), power.shape[1]
    n_silent = -(-(n_fft // 2) // hop_length)  # rows before the clip
    lead = n_silent * hop_length - n_fft // 2
    n_rows = -(-n_frames // LANES) * LANES + (lead + n_fft - 1) // hop_length + 1
    # sample i of frame t is sample (lead + i) % hop of row t + (lead + i) // hop: side by side
    # for neighbours; rows a power of two apart would drive each other out of the cache
    apart = np.empty((n_rows, hop_length + 16), np.float32)[:, :hop_length]
    n_full = min(len(waveform) // hop_length, n_rows - n_silent)
    end, rest = n_silent + n_full, waveform[n_full * hop_length :][:hop_length]
    apart[:n_silent] = 0
    apart[n_silent:end] = waveform[: n_full * hop_length].reshape(n_full, hop_length)
    apart[end:] = 0
    if end < n_rows:
        apart[end, : len(rest)] = rest
    rows = np.ascontiguousarray(apart.T)
    _mel_power(LANES, rows.ravel(), _places(n_fft, hop_length, lead, n_rows), *plan, power)


@lru_cache
def _places(n_fft: int, hop_length: int, lead: int, n_rows: int) -> np.ndarray:
    """Return where each sample of the first frame stands among all rows."""
    column, row = np.divmod(lead + np.arange(n_fft), hop_length)
    return row * n_rows + column


@_compile
def _mel_power(lanes, rows, place, window, roots, half_roots, first, start, weights, power):
    n_half = len(window) // 2
    size = n_half * lanes
    buffers = np.empty(5 * (size + SKEW) + lanes, np.float32)
    re, im = buffers[:size], buffers[size + SKEW :][:size]
    other_re, other_im = buffers[2 * (size + SKEW) :][:size], buffers[3 * (size + SKEW) :][:size]
    spectrum = buffers[4 * (size + SKEW) :]
    band = np.empty(lanes, np.float32)
    for frame in range(0, power.shape[1], lanes):
        _first_step(lanes, rows[frame:], place, window, roots, re, im)
        n, stride = n_half // 4, 4
        while n > 1:
            if n == 2:
                _radix_2(stride * lanes, re, im, other_re, other_im)
            else:
                _radix_4(lanes, n, stride, roots, re, im, other_re, other_im)
            re, im, other_re, other_im = other_re, other_im, re, im
            n, stride = n // 4, stride * 4
        _power(lanes, half_roots, re, im, spectrum)
        _bands(lanes, frame, spectrum, first, start, weights, band, power)


@_compile
def _first_step(lanes, rows, place, window, roots, to_re, to_im):
    """Apply the window, and take the first step: even samples are real parts, odd imaginary.

    The step itself stands here and in :func:`_radix_4`: behind a call, the compiler no longer sees
    which arrays overlap, and the transform takes half as long again.
    """
    quarter = len(window) // 8
    for p in range(quarter):
        c1, s1 = roots[p]
        c2, s2 = roots[2 * p]
        c3, s3 = roots[3 * p]
        a, b, c, d = 2 * p, 2 * (p + quarter), 2 * (p + 2 * quarter), 2 * (p + 3 * quarter)
        a_w, b_w, c_w, d_w = window[a], window[b], window[c], window[d]
        a_v, b_v, c_v, d_v = window[a + 1], window[b + 1], window[c + 1], window[d + 1]
        a_re, a_im = rows[place[a] :], rows[place[a + 1] :]
        b_re, b_im = rows[place[b] :], rows[place[b + 1] :]
        c_re, c_im = rows[place[c] :], rows[place[c + 1] :]
        d_re, d_im = rows[place[d] :], rows[place[d + 1] :]
        to = 4 * p * lanes
        to_re_0, to_im_0 = to_re[to:], to_im[to:]
        to_re_1, to_im_1 = to_re[to + lanes :], to_im[to + lanes :]
        to_re_2, to_im_2 = to_re[to + 2 * lanes :], to_im[to + 2 * lanes :]
        to_re_3, to_im_3 = to_re[to + 3 * lanes :], to_im[to + 3 * lanes :]
        for i in range(lanes):
            sum_re, sum_im = a_w * a_re[i] + c_w * c_re[i], a_v * a_im[i] + c_v * c_im[i]
            gap_re, gap_im = a_w * a_re[i] - c_w * c_re[i], a_v * a_im[i] - c_v * c_im[i]
            odd_re, odd_im = b_w * b_re[i] + d_w * d_re[i], b_v * b_im[i] + d_v * d_im[i]
            turn_re, turn_im = b_v * b_im[i] - d_v * d_im[i], d_w * d_re[i] - b_w * b_re[i]
            to_re_0[i], to_im_0[i] = sum_re + odd_re, sum_im + odd_im
            u, v = gap_re + turn_re, gap_im + turn_im
            to_re_1[i], to_im_1[i] = u * c1 - v * s1, u * s1 + v * c1
            u, v = sum_re - odd_re, sum_im - odd_im
            to_re_2[i], to_im_2[i] = u * c2 - v * s2, u * s2 + v * c2
            u, v = gap_re - turn_re, gap_im - turn_im
            to_re_3[i], to_im_3[i] = u * c3 - v * s3, u * s3 + v * c3


@_compile
def _radix_4(lanes, n, stride, roots, re, im, to_re, to_im):
    """Take one step of the transform: n points are left, in `stride` interleaved sequences."""
    quarter, run = n // 4, stride * lanes
    for p in range(quarter):
        c1, s1 = roots[p * stride]
        c2, s2 = roots[2 * p * stride]
        c3, s3 = roots[3 * p * stride]
        a, b = p * run, (p + quarter) * run
        c, d = (p + 2 * quarter) * run, (p + 3 * quarter) * run
        a_re, a_im = re[a : a + run], im[a : a + run]
        b_re, b_im = re[b : b + run], im[b : b + run]
        c_re, c_im = re[c : c + run], im[c : c + run]
        d_re, d_im = re[d : d + run], im[d : d + run]
        to = 4 * p * run
        to_re_0, to_im_0 = to_re[to : to + run], to_im[to : to + run]
        to_re_1, to_im_1 = to_re[to + run : to + 2 * run], to_im[to + run : to + 2 * run]
        to_re_2, to_im_2 = to_re[to + 2 * run : to + 3 * run], to_im[to + 2 * run : to + 3 * run]
        to_re_3, to_im_3 = to_re[to + 3 * run : to + 4 * run], to_im[to + 3 * run : to + 4 * run]
        for i in range(run):
            sum_re, sum_im = a_re[i] + c_re[i], a_im[i] + c_im[i]
            gap_re, gap_im = a_re[i] - c_re[i], a_im[i] - c_im[i]
            odd_re, odd_im = b_re[i] + d_re[i], b_im[i] + d_im[i]
            turn_re, turn_im = b_im[i] - d_im[i], d_re[i] - b_re[i]  # -j (b - d)
            to_re_0[i], to_im_0[i] = sum_re + odd_re, sum_im + odd_im
            u, v = gap_re + turn_re, gap_im + turn_im
            to_re_1[i], to_im_1[i] = u * c1 - v * s1, u * s1 + v * c1
            u, v = sum_re - odd_re, sum_im - odd_im
            to_re_2[i], to_im_2[i] = u * c2 - v * s2, u * s2 + v * c2
            u, v = gap_re - turn_re, gap_im - turn_im
            to_re_3[i], to_im_3[i] = u * c3 - v * s3, u * s3 + v * c3


@_compile
def _radix_2(run, re, im, to_re, to_im):
    """Take the last step where the number of points is not a power of four."""
    for i in range(run):
        to_re[i], to_im[i] = re[i] + re[run + i], im[i] + im[run + i]
        to_re[run + i], to_im[run + i] = re[i] - re[run + i], im[i] - im[run + i]


@_compile
def _power(lanes, half_roots, re, im, spectrum):
    """Part the spectra of even and odd samples, and join them to the real signal's power."""
    n_half = len(half_roots)
    half = np.float32(0.5)
    for k in range(n_half // 2 + 1):
        c, s = half_roots[k]
        a, b = k * lanes, (n_half - k) % n_half * lanes
        a_re, a_im, b_re, b_im = re[a:], im[a:], re[b:], im[b:]
        low, high = spectrum[k * lanes :], spectrum[(n_half - k) * lanes :]
        for i in range(lanes):
            even_re, even_im = half * (a_re[i] + b_re[i]), half * (a_im[i] - b_im[i])
            odd_re, odd_im = half * (a_im[i] + b_im[i]), half * (b_re[i] - a_re[i])
            turned_re, turned_im = c * odd_re - s * odd_im, c * odd_im + s * odd_re
            low[i] = (even_re + turned_re) ** 2 + (even_im + turned_im) ** 2
            high[i] = (even_re - turned_re) ** 2 + (even_im - turned_im) ** 2


@_compile
def _bands(lanes, frame, spectrum, first, start, weights, band, power):
    """Sum up the power in every mel band, for the frames of the block that exist."""
    n_inside = min(lanes, power.shape[1] - frame)
    for m in range(len(first)):
        band[:] = 0
        for i in range(start[m + 1] - start[m]):
            weight, source = weights[start[m] + i], spectrum[(first[m] + i) * lanes :]
            for lane in range(lanes):
                band[lane] += weight * source[lane]
        for lane in range(n_inside):
            power[m, frame + lane] = band[lane]
