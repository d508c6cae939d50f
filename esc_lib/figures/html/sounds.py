"""Sounds in a page: each player holds what it plays."""

from __future__ import annotations

import base64
import html
import io

import numpy as np
import soundfile
from IPython.display import HTML

COMPRESSION = 0.5  # of Vorbis, 0 to 1: white noise of 44.1 kHz keeps its level within 0.5 dB
COMPRESSION_OF_EARS = 0.2  # with 0.5 the time between two ears is lost


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
