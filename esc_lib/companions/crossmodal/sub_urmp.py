"""Sub-URMP: half-second chunks of 13 instruments, each with a frame of its video.

The layout as published, which those who have the data keep::

    img/train/<instrument>/<instrument><recording>_<ms>.jpg
    chunk/train/<instrument>/<instrument><recording>_<ms>.wav
    img/validation/...
    chunk/validation/...

Only folders and endings count; where a name has no ``_``, the file is its own source. The
published parts are kept: "validation" is called "test" here.

References
----------
chen2017crossmodal
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from esc_lib.companions.crossmodal.networks import SIDE
from esc_lib.companions.crossmodal.pairs import PairSet, Pictures
from esc_lib.companions.crossmodal.spectrograms import pictures_of, read_excerpt
from esc_lib.config import FrontEnd
from esc_lib.machine.files import is_junk

INSTRUMENTS = (
    "bassoon", "cello", "clarinet", "double_bass", "flute", "horn", "oboe", "sax", "trombone",
    "trumpet", "tuba", "viola", "violin",
)  # fmt: skip
FOLDERS = {"train": "train", "test": "validation"}
# 64 frames of 8 ms: half a second
FRONT_END = FrontEnd(
    sr=16_000, n_fft=1024, win_length=512, hop_length=128, n_mels=64, f_min_hz=40.0,
    f_max_hz=8000.0, n_frames=64, top_db=60.0,
)  # fmt: skip


def list_files(folder: str | Path, kind: str, part: str) -> list[tuple[int, Path]]:
    """Return (label, path) of all files of a kind, "img" or "chunk", by instrument and name.

    The folder has ``img/`` and ``chunk/``, or ``Sub-URMP/`` with them.
    """
    folder = Path(folder)
    root = folder / "Sub-URMP" if (folder / "Sub-URMP").is_dir() else folder
    ending, found = {"img": "*.jpg", "chunk": "*.wav"}[kind], []
    for label, instrument in enumerate(INSTRUMENTS):
        place = root / kind / FOLDERS[part] / instrument
        if not (paths := [path for path in sorted(place.glob(ending)) if not is_junk(path.name)]):
            layout = "img/{train,validation}/<instrument>/*.jpg and chunk/.../*.wav"
            raise ValueError(f"list_files: no {ending} in {place}; Sub-URMP has {layout}.")
        found += [(label, path) for path in paths]
    return found


def _image(path: Path) -> np.ndarray:
    """Return one image as (3, 64, 64)."""
    try:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    except OSError as error:
        problem = f"image {path} cannot be read ({error})"
        raise ValueError(f"sub_urmp: {problem}; replace it with an intact copy.") from None
    return np.asarray(small).transpose(2, 0, 1)


def _chunk(path: Path) -> np.ndarray:
    """Return the picture of one chunk, (1, 64, 64)."""
    waveform = read_excerpt(path, FRONT_END)
    if not waveform.any():  # a rest
        return np.zeros((1, SIDE, SIDE), np.uint8)
    return pictures_of(torch.from_numpy(waveform)[None], FRONT_END)[0].numpy()


def read_pairs(folder: str | Path) -> PairSet:
    """Return Sub-URMP as pairs of images, three channels, and log-mel pictures, one channel."""
    both = []
    for kind, load in (("chunk", _chunk), ("img", _image)):
        of_part = {}
        for part in FOLDERS:
            files = list_files(folder, kind, part)
            bar = tqdm(files, desc=f"reading {kind}, {part}", unit="file", leave=False)
            pixels = torch.from_numpy(np.stack([load(path) for _, path in bar]))
            labels = torch.tensor([label for label, _ in files])
            # recordings are numbered anew in each part
            sources = [f"{part} {path.stem.rsplit('_', 1)[0]}" for _, path in files]
            of_part[part] = Pictures(pixels, labels, np.array(sources))
        both.append(of_part)
    return PairSet("Sub-URMP", list(INSTRUMENTS), *both, FRONT_END)
