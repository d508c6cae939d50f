"""Augmentation in batches on the device: noise and shift on waveforms, mixup on spectrograms."""

from __future__ import annotations

import numpy as np
import torch

from esc_lib import audio
from esc_lib.config import Augmentation


def augment_waveforms(
    waveforms: torch.Tensor,
    n_valid: torch.Tensor,
    settings: Augmentation,
    sr: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """Add noise to some clips and shift some clips, each independently.

    Parameters
    ----------
    waveforms : tensor, shape (batch, samples), zero beyond each clip's end; not modified.
    n_valid : int tensor, shape (batch,), clip lengths in samples.
    settings : Augmentation
    sr : int, sample rate in Hz.
    generator : torch.Generator on the same device.

    Returns
    -------
    tensor, shape (batch, samples).

    References
    ----------
    Thesis, section 4.2.2.
    """
    batch, device = len(waveforms), waveforms.device
    chance = torch.rand(2, batch, generator=generator, device=device)
    noisy, shifted = chance < settings.probability

    colours = torch.tensor(settings.noise_exponents, device=device)
    drawn = torch.randint(len(colours), (batch,), generator=generator, device=device)
    span = torch.rand(batch, generator=generator, device=device) * 2 - 1
    offsets = (span * settings.max_shift * n_valid).long() * shifted

    augmented = waveforms.clone()
    if noisy.any():
        exponents = colours[drawn[noisy]]
        noise = audio.coloured_noise(exponents, waveforms.shape[-1], sr, generator)
        augmented[noisy] = audio.add_noise(
            waveforms[noisy], n_valid[noisy], noise, settings.snr_db
        )
    return audio.shift(augmented, n_valid, offsets)


def mixup(
    features: torch.Tensor, targets: torch.Tensor, alpha: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend every item of a batch with another one, features and targets alike.

    Parameters
    ----------
    features : tensor, shape (batch, ...).
    targets : tensor, shape (batch, classes), rows sum to 1.
    alpha : float, weights are drawn from Beta(alpha, alpha), one per item; 0 returns the input.
    rng : numpy.random.Generator

    References
    ----------
    zhang2018mixup, equation 1.
    """
    if alpha == 0:
        return features, targets
    weight = torch.from_numpy(rng.beta(alpha, alpha, len(features))).to(features)
    partner = torch.from_numpy(rng.permutation(len(features))).to(features.device)

    def blend(values: torch.Tensor) -> torch.Tensor:
        share = weight.view(-1, *[1] * (values.dim() - 1))
        return share * values + (1 - share) * values[partner]

    return blend(features), blend(targets)
