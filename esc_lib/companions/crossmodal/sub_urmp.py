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

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from esc_lib.companions.crossmodal.networks import SIDE
from esc_lib.companions.crossmodal.pairs import PairSet, Pictures
from esc_lib.companions.crossmodal.spectrograms import excerpt, pictures_of
from esc_lib.config import FrontEnd
from esc_lib.sound.audio import read, resample

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


def list_files(
    folder: str | Path, kind: str, part: str, max_per_class: int | None = None
) -> list[tuple[int, Path]]:
    """Return (label, path) of all files of a part, by instrument and name.

    Parameters
    ----------
    folder : path with ``img/`` and ``chunk/``, or their parent ``Sub-URMP/``.
    kind : "img" or "chunk".
    part : "train" or "test".
    max_per_class : int, keep so many files of each instrument, evenly spread over its names.

    Raises
    ------
    ValueError
        If the folder of an instrument is missing or empty.
    """
    folder = Path(folder)
    root = folder / "Sub-URMP" if (folder / "Sub-URMP").is_dir() else folder
    ending = {"img": "*.jpg", "chunk": "*.wav"}[kind]
    found = []
    for label, instrument in enumerate(INSTRUMENTS):
        place = root / kind / FOLDERS[part] / instrument
        paths = sorted(place.glob(ending))
        if not paths:
            raise ValueError(
                f"list_files: no {ending} in {place}; Sub-URMP has "
                f"img/{{train,validation}}/<instrument>/*.jpg and chunk/.../*.wav."
            )
        if max_per_class is not None and len(paths) > max_per_class:
            kept = np.linspace(0, len(paths) - 1, max_per_class).round().astype(int)
            paths = [paths[index] for index in kept]
        found += [(label, path) for path in paths]
    return found


def _image(path: Path) -> np.ndarray:
    """Return one image as (3, 64, 64)."""
    try:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    except OSError as error:
        raise ValueError(
            f"sub_urmp: image {path} cannot be read ({error}); replace it with an intact copy."
        ) from None
    return np.asarray(small).transpose(2, 0, 1)


def _chunk(path: Path) -> np.ndarray:
    """Return the picture of one chunk, (1, 64, 64)."""
    waveform, sr = read(path)
    waveform = excerpt(resample(waveform, sr, FRONT_END.sr), FRONT_END)
    if not waveform.any():  # a rest
        return np.zeros((1, SIDE, SIDE), np.uint8)
    return pictures_of(torch.from_numpy(waveform)[None], FRONT_END)[0].numpy()


def read_pairs(folder: str | Path, max_per_class: int | None = None) -> PairSet:
    """Return Sub-URMP as pairs of images, three channels, and log-mel pictures, one channel.

    Parameters
    ----------
    folder, max_per_class : see :func:`list_files`.
    """
    both = []
    for kind, load in (("chunk", _chunk), ("img", _image)):
        of_part = {}
        for part in FOLDERS:
            files = list_files(folder, kind, part, max_per_class)
            bar = tqdm(files, desc=f"reading {kind}, {part}", unit="file", leave=False)
            pixels = torch.from_numpy(np.stack([load(path) for _, path in bar]))
            labels = torch.tensor([label for label, _ in files])
            # recordings are numbered anew in each part
            sources = [f"{part} {path.stem.rsplit('_', 1)[0]}" for _, path in files]
            of_part[part] = Pictures(pixels, labels, np.array(sources))
        both.append(of_part)
    return PairSet("Sub-URMP", list(INSTRUMENTS), *both, FRONT_END)
