"""Hinge losses of SA-CMGAN."""

from __future__ import annotations

import torch
from torch.nn.functional import relu


def discriminator_loss(
    real: torch.Tensor, fake: torch.Tensor, mismatched: torch.Tensor
) -> torch.Tensor:
    """Return the hinge loss of scores, each of shape (batch,).

    Parameters
    ----------
    real : scores of real pictures that go with the code.
    fake : scores of generated ones.
    mismatched : scores of real pictures of another class than the code's.

    Notes
    -----
    ``E[max(0, 1 - real)] + (E[max(0, 1 + fake)] + E[max(0, 1 + mismatched)]) / 2``

    References
    ----------
    tan2020spectrogram; lim2017geometric
    """
    return relu(1 - real).mean() + (relu(1 + fake).mean() + relu(1 + mismatched).mean()) / 2


def generator_loss(fake: torch.Tensor) -> torch.Tensor:
    """Return minus the mean score of generated pictures, shape (batch,)."""
    return -fake.mean()
