"""Augmentation in batches on the device, on waveforms and on spectrograms; inputs stay as they are.

What is random comes from the caller's generators, on the same device: the same ones give the same
batch. Waveforms are (batch, samples), features (batch, 1, mel, frames), targets (batch, classes).
"""

import numpy as np
import torch
from torch import nn

from esc_lib.config import Augmentation
from esc_lib.sound import audio


def augment_waveforms(
    waveforms: torch.Tensor,
    n_valid: torch.Tensor,
    settings: Augmentation,
    sr: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """Add noise to some clips and shift some clips, each independently (thesis, section 4.2.2).

    Beyond each clip's length, `n_valid` (batch,), its waveform is zero.
    """
    batch, device = len(waveforms), waveforms.device
    chance = torch.rand(2, batch, generator=generator, device=device)
    noisy, shifted = chance < settings.probability

    colours = torch.tensor(settings.noise_exponents, device=device)
    drawn = torch.randint(len(colours), (batch,), generator=generator, device=device)
    span = torch.rand(batch, generator=generator, device=device) * 2 - 1
    offsets = (span * settings.max_shift * n_valid).long() * shifted

    augmented = waveforms.clone()
    if noisy.any():  # generating the noise is what costs
        exponents = colours[drawn[noisy]]
        noise = audio.coloured_noise(exponents, waveforms.shape[-1], sr, generator)
        augmented[noisy] = audio.add_noise(waveforms[noisy], n_valid[noisy], noise, settings.snr_db)
    return audio.shift(augmented, n_valid, offsets)


# The strongest transforms of networks trained on ESC-50 alone (gazneli2022eat, section 3.2); the
# ranges are ours: the published filters have 15 taps and hardly reach below an octave of Nyquist's.
LOW_PASS_HZ, HIGH_PASS_HZ = (1000.0, 8000.0), (50.0, 1000.0)
SEGMENT_SHARE, SEGMENT_GAIN_DB = (0.1, 0.5), 12.0


def transform_waveforms(
    waveforms: torch.Tensor, probability: float, sr: int, generator: torch.Generator
) -> torch.Tensor:
    """Filter, raise or lower a segment, and shift cyclically (gazneli2022eat, section 3.2).

    Each item meets each transform with the given probability, independently.
    """

    def uniform(low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        drawn = torch.rand(len(waveforms), 1, generator=generator, device=waveforms.device)
        return low + (high - low) * drawn

    n_samples = waveforms.shape[1]
    low_pass = uniform(*np.log(LOW_PASS_HZ).tolist()).exp()
    high_pass = uniform(*np.log(HIGH_PASS_HZ).tolist()).exp()
    low = uniform() < 0.5
    filtered = second_order(waveforms, torch.where(low, low_pass, high_pass), low, sr)
    waveforms = torch.where(uniform() < probability, filtered, waveforms)

    length = uniform(*SEGMENT_SHARE)
    start = uniform() * (1 - length)
    index = torch.arange(n_samples, device=waveforms.device)
    place = index / n_samples
    inside = (place >= start) & (place < start + length) & (uniform() < probability)
    gain = 10 ** (uniform(-SEGMENT_GAIN_DB, SEGMENT_GAIN_DB) / 20)
    waveforms = torch.where(inside, gain * waveforms, waveforms)

    offset = (uniform() * n_samples).long() * (uniform() < probability)
    return waveforms.gather(1, (index - offset) % n_samples)


def second_order(
    waveforms: torch.Tensor, corner_hz: torch.Tensor, low: torch.Tensor, sr: int
) -> torch.Tensor:
    """Filter with the magnitude of a Butterworth filter of order 2, zero phase.

    The -3 dB frequencies are (batch, 1), and so is `low`: low-pass where true, else high-pass.
    """
    n_samples = waveforms.shape[1]
    hz = torch.fft.rfftfreq(2 * n_samples, 1 / sr, device=waveforms.device)
    ratio = torch.where(low, hz / corner_hz, corner_hz / hz.clamp_min(1e-6))
    spectrum = torch.fft.rfft(waveforms, 2 * n_samples) / (1 + ratio**4).sqrt()
    return torch.fft.irfft(spectrum)[:, :n_samples]


def crop(waveforms: torch.Tensor, starts: torch.Tensor, n_samples: int) -> torch.Tensor:
    """Cut `n_samples` samples out of each clip, zeros where the excerpt leaves the clip.

    The first sample of each excerpt, `starts` (batch,), may be negative.
    """
    index = starts[:, None] + torch.arange(n_samples, device=waveforms.device)
    inside = (index >= 0) & (index < waveforms.shape[-1])
    return waveforms.gather(1, index.clamp(0, waveforms.shape[-1] - 1)) * inside


def crop_starts(span: torch.Tensor, n_samples: int, place: torch.Tensor) -> torch.Tensor:
    """Return the first sample, shape (batch,), of an excerpt over the sounding part of each clip.

    An excerpt shorter than that part, ``audio.sounding_span``, lies within it, a longer one around
    it; `place`, (batch,), is 0 for the earliest place and 1 for the latest.
    """
    first, last = span[:, 0], span[:, 1] - n_samples
    return (torch.minimum(first, last) + place * (last - first).abs()).round().long()


def draw_mix(
    n_items: int, alpha: float, rng: np.random.Generator, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw for every item its own share, from Beta(alpha, alpha), and the item it is mixed with.

    The partners are a permutation; both are (batch,).
    """
    weight = torch.from_numpy(rng.beta(alpha, alpha, n_items)).float()
    return weight.to(device), torch.from_numpy(rng.permutation(n_items)).to(device)


def mixup(
    features: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor, partner: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend every item of a batch with another one, features and targets alike.

    Weights and partners are :func:`draw_mix`'s; features may have any axes, the targets' rows sum
    to 1 (zhang2018mixup, equation 1).
    """

    def blend(values: torch.Tensor) -> torch.Tensor:
        share = weight.view(-1, *[1] * (values.dim() - 1))
        return share * values + (1 - share) * values[partner]

    return blend(features), blend(targets)


def between_class(
    waveforms: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor, partner: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add another sound of the batch to every sound, levels matched, as one hears two sources.

    Weights and partners are :func:`draw_mix`'s.

    References
    ----------
    tokozume2018between, equation 1, with levels matched by energy instead of A-weighted peaks.
    """
    level = waveforms.square().mean(dim=1, keepdim=True).sqrt()
    mixed, targets = mixup(waveforms / (level + 1e-6), targets, weight, partner)
    share = weight[:, None]
    return mixed / (share.square() + (1 - share).square()).sqrt(), targets


def mask_stripes(
    features: torch.Tensor, max_share: float, rng: np.random.Generator
) -> torch.Tensor:
    """Set one stripe of mel bands and one of frames to 0, the clip's mean, in every item.

    The widest stripe is `max_share` of its axis (park2019specaugment, section 2).
    """
    for axis in (2, 3):
        size = features.shape[axis]
        width = rng.integers(0, int(max_share * size) + 1, len(features))
        start = rng.integers(0, size - width + 1)
        place = np.arange(size)
        outside = (place < start[:, None]) | (place >= (start + width)[:, None])
        features = features * torch.from_numpy(outside).to(features)[:, None].unsqueeze(5 - axis)
    return features


def resize(features: torch.Tensor, n_frames: int) -> torch.Tensor:
    """Bring features to another number of frames: other speed, same pitch."""
    if features.shape[3] == n_frames:
        return features
    return nn.functional.interpolate(features, (features.shape[2], n_frames), mode="bilinear")
