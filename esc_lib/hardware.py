"""Where to compute."""

from __future__ import annotations

import torch


def best_device() -> torch.device:
    """Return the accelerator of this machine, or its CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
