"""Where a number comes from: settings, data, versions, machine."""

import hashlib
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = ("torch", "torchaudio", "librosa", "numpy", "scipy", "scikit-learn", "captum")


def provenance(settings: dict, waveforms: torch.Tensor, wall_s: float) -> dict:
    """Return what is needed to judge and repeat a run: settings, data, versions, hardware.

    Parameters
    ----------
    waveforms : int16 tensor, shape (clips, samples), to be fingerprinted.
    wall_s : time that training took, in s.
    """
    return {
        "profile": settings,
        "waveforms_sha256": checksum_of(waveforms),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _processor(),
        "threads": torch.get_num_threads(),
        "wall_s": round(wall_s, 1),
    }


def checksum_of(waveforms: torch.Tensor) -> str:
    """Return the SHA-256 of waveforms, int16 of shape (clips, samples)."""
    return hashlib.sha256(waveforms.cpu().numpy()).hexdigest()


def _commit() -> str:
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return result.stdout.strip()


def _processor() -> str:
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
