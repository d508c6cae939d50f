"""How sound reaches two ears from each direction: a rigid sphere, or a measured dummy head."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import correlate, correlation_lags
from scipy.special import eval_legendre, spherical_jn, spherical_yn

from esc_lib.sound.audio import resample

SR = 16_000  # Hz, of all sounds and responses of this room
SPEED_OF_SOUND = 343.0  # m / s
HEAD_RADIUS_M = 0.0875
EAR_DEG = 100.0  # ears of people sit a little behind the middle
KU100_SR = 48_000
OVERSAMPLE = 8  # steps of a time difference within a sample
LEAD_S = 0.001  # silence before a response begins


@dataclass(frozen=True)
class Head:
    """Impulse responses of two ears on the horizontal circle."""

    name: str
    responses: np.ndarray  # (azimuths, 2, samples), 16 kHz, left ear first
    azimuths: np.ndarray  # degrees, anticlockwise, rising from 0

    def nearest(self, azimuths: np.ndarray) -> np.ndarray:
        """Return the row whose azimuth is nearest to each of `azimuths`, in degrees."""
        following = np.append(self.azimuths[1:], self.azimuths[0] + 360)
        halfway = (self.azimuths + following) / 2
        turned = (np.asarray(azimuths) - halfway[-1]) % 360 + halfway[-1] - 360
        return np.searchsorted(halfway, turned) % len(self.azimuths)

    def towards(self, azimuths: np.ndarray) -> np.ndarray:
        """Return the responses nearest to `azimuths`, shape (..., 2, samples)."""
        return self.responses[self.nearest(azimuths)]


def open_head(hrir: str, step_deg: int = 1) -> Head:
    """Return the measured head if a file or its folder is given, else the spherical one."""
    if not hrir:
        return spherical_head(step_deg)
    path = Path(hrir)
    return read_ku100(path / "ku100_circular.npz" if path.is_dir() else path)


def spherical_head(step_deg: int = 1, ear_deg: float = EAR_DEG, n_samples: int = 64) -> Head:
    """Return the responses of a rigid sphere to plane waves, from the exact series.

    Ears lie at `ear_deg` on the left and mirrored on the right; at 90 the sphere cannot tell front
    from back at all. Responses of `n_samples` are cut where they have rung out, after 3 ms.

    H(mu, theta) = 1 / mu^2 sum_m i^(m - 1) (2 m + 1) P_m(cos theta) / h_m'(mu), with
    mu = 2 pi f a / c, theta the angle between source and ear, and h_m = j_m - i y_m, which goes
    outwards in the time convention of ``numpy.fft`` (duda1998range, for a source far away). Delays
    count from the centre of the head, 1 ms after the first sample.
    """
    azimuths = np.arange(0, 360, step_deg)
    n_fft = 8 * n_samples
    hz = np.fft.rfftfreq(n_fft, 1 / SR)
    angles = np.stack([azimuths - ear_deg, azimuths + ear_deg], axis=1)  # (azimuths, 2)
    spectrum = sphere_spectrum(hz, np.deg2rad(angles))
    spectrum *= np.exp(-2j * np.pi * hz * LEAD_S)
    spectrum *= np.cos(np.pi / 2 * np.clip((hz / (SR / 2) - 0.9) / 0.1, 0, 1)) ** 2
    responses = np.fft.irfft(spectrum, n_fft)[..., :n_samples]
    fade = n_samples // 8
    responses[..., -fade:] *= np.cos(np.linspace(0, np.pi / 2, fade)) ** 2
    return Head("spherical head", responses, azimuths)


def sphere_spectrum(hz: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Return pressure on a sphere over that at its centre without it, shape (*angles, hz).

    Angles are those between source and point on the surface, in radians; `hz` may be 0.
    """
    mu = 2 * np.pi * np.maximum(hz, 1e-3) * HEAD_RADIUS_M / SPEED_OF_SOUND
    total = np.zeros((*angles.shape, len(hz)), complex)
    # far beyond mu the terms vanish; at low frequencies they overflow to 1 / inf before that
    for m in range(int(np.ceil(1.5 * mu.max())) + 12):
        needed = mu > 0.02 * m**2 / (m + 10)
        slope = spherical_jn(m, mu[needed], True) - 1j * spherical_yn(m, mu[needed], True)
        term = 1j ** (m - 1) * (2 * m + 1) / slope
        total[..., needed] += eval_legendre(m, np.cos(angles))[..., None] * term
    return total / mu**2


def woodworth_s(azimuths: np.ndarray) -> np.ndarray:
    """Return the interaural time difference in s of rays around a sphere with ears at 90 degrees.

    Positive where the left ear leads. (a / c) (sin x + x), x the angle from the median plane;
    kuhn1977model also gives 3 (a / c) sin x for low frequencies.
    """
    aside = np.arcsin(np.sin(np.deg2rad(azimuths)))
    return HEAD_RADIUS_M / SPEED_OF_SOUND * (np.sin(aside) + aside)


def time_difference_s(responses: np.ndarray, sr: int = SR) -> np.ndarray:
    """Return by how many s the left ear leads in (directions, 2, samples), by correlation."""
    n = responses.shape[-1]
    fine = np.fft.irfft(np.fft.rfft(responses, 2 * n), 2 * n * OVERSAMPLE)
    lags = correlation_lags(fine.shape[-1], fine.shape[-1])
    found = [lags[correlate(right, left).argmax()] for left, right in fine]
    return np.array(found) / (OVERSAMPLE * sr)


def level_difference_db(responses: np.ndarray) -> np.ndarray:
    """Return by how many dB the left ear gets more energy, shape (directions,)."""
    energy = np.square(responses).sum(axis=-1)
    return 10 * np.log10(energy[:, 0] / energy[:, 1])


def read_ku100(path: Path) -> Head:
    """Read the responses of a Neumann KU 100 dummy head, and resample them.

    The npz file (bernschutz2013spherical) holds ``hrir`` (azimuths, 2, samples), 48 kHz, left ear
    first, and ``azimuths`` in degrees, anticlockwise as in the SOFA format. ValueError if it is
    missing, holds something else, or counts clockwise: at 90 degrees the first ear must lead.
    """
    wrong = (
        f"read_ku100: {path} {{}}; give ku100_circular.npz with 'hrir' (azimuths, 2, samples) "
        "at 48 kHz and 'azimuths' in degrees, anticlockwise."
    )
    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            responses = np.asarray(arrays["hrir"], float)
            azimuths = np.asarray(arrays["azimuths"], float)
    except FileNotFoundError:
        raise ValueError(wrong.format("is missing")) from None
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile):
        raise ValueError(wrong.format("is no such file")) from None
    if responses.ndim != 3 or responses.shape[:2] != (*azimuths.shape, 2):
        raise ValueError(wrong.format(f"holds shapes {responses.shape} and {azimuths.shape}"))
    if not np.isfinite(responses).all() or not responses.any(axis=2).all():
        raise ValueError(wrong.format("holds silent responses, NaN or infinity"))
    order = np.argsort(azimuths % 360)
    azimuths, responses = azimuths[order] % 360, responses[order]
    if len(azimuths) < 4 or np.diff(azimuths, append=azimuths[0] + 360).max() > 15:
        raise ValueError(wrong.format("does not go all around the head"))
    left = Head("KU 100", responses, azimuths).towards(np.array([90.0]))
    if time_difference_s(left, KU100_SR)[0] < 0.0003:
        raise ValueError(wrong.format("has the ears or the direction swapped"))
    flat = responses.reshape(-1, responses.shape[-1]).T
    lower = resample(flat, KU100_SR, SR).T.reshape(*responses.shape[:2], -1)
    return Head("KU 100", lower, azimuths)
