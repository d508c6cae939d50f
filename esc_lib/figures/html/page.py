"""What the elements of a page have in common: they need neither files nor network."""

import base64
import io
from importlib import resources

import numpy as np
import soundfile
from IPython.display import HTML
from PIL import Image


def element(body: str, *files: str) -> HTML:
    """Return markup with the styles (.css) and scripts (.js) that stand beside this module.

    Every output of a notebook holds its own: some places show each in a frame of its own. A script
    wires the elements of its kind that are not wired yet, so that further copies do no harm.
    """
    text = {name: (resources.files(__package__) / name).read_text("utf-8") for name in files}
    styles = "".join(f"<style>\n{text[n]}</style>" for n in files if n.endswith(".css"))
    scripts = "".join(f"<script>\n{text[n]}</script>" for n in files if n.endswith(".js"))
    return HTML(styles + body + scripts)


def png(picture: Image.Image) -> str:
    """Return a picture as an address that holds it."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return _address("image/png", buffer)


def ogg(waveform: np.ndarray, sr: int, compression: float) -> str:
    """Return a sound as an address that holds it, in Ogg Vorbis, compressed from 0 (least) to 1.

    The waveform is (samples,) or (samples, 2), left first, full scale 1.
    """
    buffer = io.BytesIO()
    kind = {"format": "OGG", "subtype": "VORBIS", "compression_level": compression}
    soundfile.write(buffer, waveform, sr, **kind)
    return _address("audio/ogg", buffer)


def _address(kind: str, buffer: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
