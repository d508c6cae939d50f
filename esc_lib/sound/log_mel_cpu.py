"""The mel power of one clip on one processor core, in a single pass through its cache.

A library's transform writes the whole complex spectrum to memory, which is read again for the
power and a third time for the mel bands. Here a block of neighbouring frames goes all the way
before the next one starts. The frames of a block lie side by side in memory, so that every
operation of the transform is the same operation on all of them: what vector instructions want.
The fastest library variant, SciPy's pocketfft in threads, takes two to three times as long.

References
----------
Stockham's self-sorting transform in radix 4, after cochran1967fast; a real signal's spectrum from
a complex transform of half its length, after sorensen1987real.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit

LANES = 48  # frames per block: a block's buffers fit a core's second-level cache
SKEW = 208  # numbers between buffers: at equal places of a page they wait for each other; the
# spectrum, a bin longer than the rest, reaches into it

# rounding may differ from one order of additions to another, NaN and infinity may not get lost
_compile = njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"})


class Plan(NamedTuple):
    """What is computed once, in float32 unless it says otherwise."""

    window: np.ndarray  # (n_fft,)
    roots: np.ndarray  # complex64, (n_fft,), the roots of unity, clockwise
    first: np.ndarray  # int, (mel,), the first bin of each mel band
    start: np.ndarray  # int, (mel + 1,), where its weights start among all weights
    weights: np.ndarray  # the filters of all bands one after another, without zeros around them


def plan(window: np.ndarray, mel_basis: np.ndarray) -> Plan:
    """Prepare for a window, shape (n_fft,), and a bank, shape (mel, n_fft / 2 + 1).

    Raises
    ------
    ValueError : n_fft is not a power of two, or a band is empty.
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
    weights = [band[a:b] for band, a, b in zip(mel_basis, first, after, strict=True)]
    return Plan(
        window.astype(np.float32),
        np.exp(-2j * np.pi / len(window) * np.arange(len(window))).astype(np.complex64),
        first,
        np.concatenate([[0], np.cumsum(after - first)]),
        np.concatenate(weights).astype(np.float32),
    )


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
    apart[end : end + 1, : len(rest)] = rest
    rows = np.ascontiguousarray(apart.T)
    _mel_power(LANES, rows.ravel(), _places(n_fft, hop_length, lead, n_rows), *plan, power)


@lru_cache
def _places(n_fft: int, hop_length: int, lead: int, n_rows: int) -> np.ndarray:
    """Return where each sample of the first frame stands among all rows."""
    column, row = np.divmod(lead + np.arange(n_fft), hop_length)
    return row * n_rows + column


@_compile
def _mel_power(lanes, rows, place, window, roots, first, start, weights, power):
    n_half = len(window) // 2
    buffers = np.empty((5, n_half * lanes + SKEW), np.float32)
    re, im, other_re, other_im = buffers[0], buffers[1], buffers[2], buffers[3]
    spectrum = buffers[4]
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
        _power(lanes, roots, re, im, spectrum)
        _bands(lanes, frame, spectrum, first, start, weights, band, power)


@_compile
def _first_step(lanes, rows, place, window, roots, to_re, to_im):
    """Apply the window, and take the first step: even samples are real parts, odd imaginary."""
    quarter = len(window) // 8
    even, odd, w, v = place[::2], place[1::2], window[::2], window[1::2]
    for p in range(quarter):
        a, b, c, d = p, p + quarter, p + 2 * quarter, p + 3 * quarter
        re = rows[even[a] :], rows[even[b] :], rows[even[c] :], rows[even[d] :]
        im = rows[odd[a] :], rows[odd[b] :], rows[odd[c] :], rows[odd[d] :]
        re_factors, im_factors = (w[a], w[b], w[c], w[d]), (v[a], v[b], v[c], v[d])
        _step(p, lanes, re, im, re_factors, im_factors, roots, 2, to_re, to_im)


@_compile
def _radix_4(lanes, n, stride, roots, re, im, to_re, to_im):
    """Take one step of the transform: n points are left, in `stride` interleaved sequences."""
    quarter, run, one = n // 4, stride * lanes, np.float32(1)
    ones = one, one, one, one
    for p in range(quarter):
        of_re, of_im = _four(re, p * run, quarter * run), _four(im, p * run, quarter * run)
        _step(p, run, of_re, of_im, ones, ones, roots, 2 * stride, to_re, to_im)


# Both are inlined before compilation: behind a call, the compiler no longer sees which arrays
# overlap, and the transform takes half as long again.
@njit(inline="always")
def _four(values, at, apart):
    return values[at:], values[at + apart :], values[at + 2 * apart :], values[at + 3 * apart :]


@njit(inline="always")
def _step(p, n, re, im, re_factors, im_factors, roots, turn, to_re, to_im):
    """Weight four points, transform them, and turn the results by their roots: n times at once."""
    (a_re, b_re, c_re, d_re), (a_im, b_im, c_im, d_im) = re, im
    (a_w, b_w, c_w, d_w), (a_v, b_v, c_v, d_v) = re_factors, im_factors
    root_1, root_2, root_3 = roots[p * turn], roots[2 * p * turn], roots[3 * p * turn]
    to_re_0, to_re_1, to_re_2, to_re_3 = _four(to_re, 4 * p * n, n)
    to_im_0, to_im_1, to_im_2, to_im_3 = _four(to_im, 4 * p * n, n)
    for i in range(n):
        a, b = complex(a_w * a_re[i], a_v * a_im[i]), complex(b_w * b_re[i], b_v * b_im[i])
        c, d = complex(c_w * c_re[i], c_v * c_im[i]), complex(d_w * d_re[i], d_v * d_im[i])
        total, gap, odd = a + c, a - c, b + d
        turned = complex(b.imag - d.imag, d.real - b.real)  # -j (b - d)
        x0, x1 = total + odd, (gap + turned) * root_1
        x2, x3 = (total - odd) * root_2, (gap - turned) * root_3
        to_re_0[i], to_re_1[i], to_re_2[i], to_re_3[i] = x0.real, x1.real, x2.real, x3.real
        to_im_0[i], to_im_1[i], to_im_2[i], to_im_3[i] = x0.imag, x1.imag, x2.imag, x3.imag


@_compile
def _radix_2(run, re, im, to_re, to_im):
    """Take the last step where the number of points is not a power of four."""
    for i in range(run):
        to_re[i], to_im[i] = re[i] + re[run + i], im[i] + im[run + i]
        to_re[run + i], to_im[run + i] = re[i] - re[run + i], im[i] - im[run + i]


@_compile
def _power(lanes, roots, re, im, spectrum):
    """Part the spectra of even and odd samples, and join them to the real signal's power."""
    n_half, half = len(roots) // 2, np.float32(0.5)
    for k in range(n_half // 2 + 1):
        a, b = k * lanes, (n_half - k) % n_half * lanes
        a_re, a_im, b_re, b_im = re[a:], im[a:], re[b:], im[b:]
        low, high = spectrum[k * lanes :], spectrum[(n_half - k) * lanes :]
        for i in range(lanes):
            even = complex(half * (a_re[i] + b_re[i]), half * (a_im[i] - b_im[i]))
            odd = complex(half * (a_im[i] + b_im[i]), half * (b_re[i] - a_re[i]))
            turned = odd * roots[k]
            low[i] = (even.real + turned.real) ** 2 + (even.imag + turned.imag) ** 2
            high[i] = (even.real - turned.real) ** 2 + (even.imag - turned.imag) ** 2


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
