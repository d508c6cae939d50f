"""From notebook to book: metrics and glue, provenance, audio players."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from IPython.display import HTML, display

from esc_lib.config import Profile
from esc_lib.files import write_atomically

GLUE_PREFIX = "application/papermill.record/"
PACKAGES = ("torch", "torchaudio", "librosa", "numpy", "scipy", "scikit-learn", "captum")
COMPRESSION = 0.5  # of Vorbis, 0 to 1: white noise of 44.1 kHz keeps its level within 0.5 dB
COMPRESSION_OF_EARS = 0.2  # with 0.5 the time between two ears is lost


@dataclass(frozen=True)
class Metric:
    """One number of the study.

    Attributes
    ----------
    value : number or word.
    unit : str, empty for counts and shares.
    n : int, observations behind it.
    interval : 95 % interval in the same unit.
    """

    value: float | int | str
    unit: str = ""
    n: int | None = None
    interval: tuple[float, float] | None = None


def publish(folder: Path, metrics: dict[str, Metric]) -> None:
    """Write ``metrics.json`` and glue every value, so that pages of the book can quote it.

    Parameters
    ----------
    folder : the notebook's artefact folder; its name is recorded with each metric.
    metrics : name to Metric.

    Raises
    ------
    ValueError
        If a value or an end of an interval is not finite.
    """
    for name, metric in metrics.items():
        for value in (metric.value, *(metric.interval or ())):
            if isinstance(value, float | np.floating) and not math.isfinite(value):
                raise ValueError(f"publish: metric {name!r} is {value}; nothing was written.")
    rows = {name: asdict(metric) | {"notebook": folder.name} for name, metric in metrics.items()}
    text = json.dumps(rows, indent=1, default=np.generic.item)  # NumPy scalars as plain ones
    write_atomically(folder / "metrics.json", lambda path: path.write_text(text + "\n"))
    for name, metric in metrics.items():
        # what myst-nb's glue emits, without needing myst-nb where the notebook runs
        plain = metric.value.item() if isinstance(metric.value, np.generic) else metric.value
        text = plain if isinstance(plain, str) else repr(plain)
        display(
            {GLUE_PREFIX + "text/plain": text},
            raw=True,
            metadata={"scrapbook": {"name": name, "mime_prefix": GLUE_PREFIX}},
        )


def characteristics(clips: pd.DataFrame, verification: pd.DataFrame) -> pd.DataFrame:
    """Return the set's characteristics as measured, one per row (thesis table 4.1)."""
    suffixes = sorted({Path(path).suffix[1:].upper() for path in clips.path})
    per_class = clips.groupby("category").size()
    rates = ", ".join(f"{rate:,}" for rate in sorted(verification.sr.unique()))
    duration_s = verification.duration_s
    rows = {
        "audio format": ", ".join(suffixes),
        "sample rate (Hz)": rates,
        "channels": "mono",
        "clips": f"{len(clips):,}",
        "classes": str(len(per_class)),
        "clips per class": f"{per_class.min()} to {per_class.max()}",
        "folds": str(clips.fold.nunique()),
        "duration (s), median": f"{duration_s.median():.2f}",
        "duration (s), range": f"{duration_s.min():.2f} to {duration_s.max():.2f}",
        "clips of another duration": str(int((abs(duration_s - duration_s.median()) > 0.01).sum())),
    }
    return pd.DataFrame({"measured": rows})


def provenance(profile: Profile, waveforms: torch.Tensor, wall_s: float) -> dict:
    """Return what is needed to judge and repeat a run: settings, data, versions, hardware.

    Parameters
    ----------
    profile : Profile
    waveforms : int16 tensor, shape (clips, samples), to be fingerprinted.
    wall_s : float, training time in s.
    """
    return {
        "profile": profile.as_dict(),
        "waveforms_sha256": hashlib.sha256(waveforms.cpu().numpy()).hexdigest(),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _processor(),
        "threads": torch.get_num_threads(),
        "wall_s": round(wall_s, 1),
    }


def save_json(path: Path, content: dict) -> None:
    """Write `content` as readable JSON, all of it or nothing."""
    text = json.dumps(content, indent=1)
    write_atomically(path, lambda scratch: scratch.write_text(text + "\n"))


def sound_uri(waveform: np.ndarray, sr: int) -> str:
    """Return a sound at full scale 1, (samples,) or (samples, 2), as an address that holds it."""
    buffer = io.BytesIO()
    level = COMPRESSION if np.ndim(waveform) == 1 else COMPRESSION_OF_EARS
    soundfile.write(buffer, waveform, sr, format="OGG", subtype="VORBIS", compression_level=level)
    return "data:audio/ogg;base64," + base64.b64encode(buffer.getvalue()).decode()


def player(waveform: np.ndarray, sr: int, caption: str, licence: str) -> HTML:
    """Return an audio player that holds its sound (Ogg Vorbis), with a caption.

    Parameters
    ----------
    waveform : float array, shape (samples,) or (samples, 2), left first, full scale 1; played as
        it is, not normalised.
    sr : int, Hz.
    caption : str, what is heard, and which clip it is.
    licence : str, of the clip.
    """
    caption = html.escape(f"{caption} ({licence})")
    return HTML(
        '<figure style="margin:0;width:300px">'
        f'<figcaption style="text-align:left;font-size:0.85em">{caption}</figcaption>'
        f'<audio controls preload="none" style="width:100%;height:36px" aria-label="{caption}" '
        f'src="{sound_uri(waveform, sr)}"></audio></figure>'
    )


def players(items: list[HTML]) -> HTML:
    """Return several players as one block, side by side where there is room."""
    inner = "".join(item.data for item in items)
    return HTML(f'<div style="display:flex;flex-wrap:wrap;gap:0.8em 1.2em">{inner}</div>')


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
