"""Spoken digits (FSDD) paired with handwritten digits (MNIST)."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import torch

from esc_lib.companions.crossmodal.networks import SIDE
from esc_lib.companions.crossmodal.pairs import PairSet, Pictures, from_levels
from esc_lib.companions.crossmodal.spectrograms import DIGIT_FRONT_END, excerpt, pictures_of
from esc_lib.sound.audio import read, resample

CLASS_NAMES = [str(digit) for digit in range(10)]
WAV_NAME = re.compile(r"(\d)_([^_]+)_(\d+)\.wav")  # digit_speaker_index.wav
MAGIC = {"images": 2051, "labels": 2049}  # of idx files


def read_spoken(folder: str | Path) -> Pictures:
    """Read all clips of the Free Spoken Digit Dataset as log-mel pictures.

    Parameters
    ----------
    folder : path to ``digit_speaker_index.wav`` files, or to a folder with ``recordings/``.

    Returns
    -------
    Pictures; the source of a clip is its speaker.

    Raises
    ------
    ValueError
        If there are no such files.
    """
    folder = Path(folder)
    recordings = folder / "recordings" if (folder / "recordings").is_dir() else folder
    found = [(WAV_NAME.fullmatch(path.name), path) for path in sorted(recordings.glob("*.wav"))]
    found = [(match, path) for match, path in found if match]
    if not found:
        raise ValueError(
            f"read_spoken: {recordings} has no files named digit_speaker_index.wav; "
            "give the folder of the Free Spoken Digit Dataset."
        )
    clips = []
    for _, path in found:
        waveform, sr = read(path)
        clips.append(excerpt(resample(waveform, sr, DIGIT_FRONT_END.sr), DIGIT_FRONT_END))
    pixels = pictures_of(torch.from_numpy(np.stack(clips)), DIGIT_FRONT_END)
    labels = torch.tensor([int(match[1]) for match, _ in found])
    return Pictures(pixels, labels, np.array([match[2] for match, _ in found]))


def read_idx(path: Path, what: str) -> np.ndarray:
    """Read a gzipped idx file of MNIST: images, (n, 28, 28), or labels, (n,), both uint8.

    Raises
    ------
    ValueError
        If the file is missing, damaged or holds something else.
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError) as error:
        raise ValueError(
            f"read_idx: {path} cannot be read ({error}); get the file of MNIST again."
        ) from None
    n_head = 4 * (1 + (3 if what == "images" else 1))
    head = np.frombuffer(content[:n_head].ljust(n_head, b"\0"), ">i4")
    values = np.frombuffer(content[n_head:], np.uint8)
    whole = len(content) >= n_head and np.prod(head[1:]) == len(values)
    if head[0] != MAGIC[what] or not whole:
        raise ValueError(f"read_idx: {path} holds no {what} in MNIST's idx form; get it again.")
    return values.reshape(head[1:])


def read_written(folder: str | Path, prefix: str) -> Pictures:
    """Read MNIST's images as pictures of 64 x 64, one grey channel; each is its own source.

    Parameters
    ----------
    folder : path with ``{prefix}-images-idx3-ubyte.gz`` and ``{prefix}-labels-idx1-ubyte.gz``.
    prefix : "train" or "t10k".
    """
    folder = Path(folder)
    images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", "images")
    labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", "labels")
    if len(images) != len(labels):
        raise ValueError(
            f"read_written: {len(images)} images and {len(labels)} labels in {folder}; "
            "take both files from one copy of MNIST."
        )
    unit = torch.from_numpy(images.copy())[:, None].float() / 127.5 - 1
    unit = torch.nn.functional.interpolate(unit, SIDE, mode="bilinear", align_corners=False)
    sources = np.array([f"{prefix} {index}" for index in range(len(labels))])
    return Pictures(from_levels(unit), torch.from_numpy(labels.astype(np.int64)), sources)


def read_pairs(
    spoken: str | Path,
    written: str | Path,
    test_speakers: tuple[str, ...] = ("theo", "yweweler"),
    test_share: float = 0.2,
    seed: int = 0,
) -> PairSet:
    """Return spoken and handwritten digits, held-out speakers and held-out images as the test part.

    Parameters
    ----------
    spoken, written : folders, see :func:`read_spoken` and :func:`read_written`.
    test_speakers : speakers none of whose clips is trained on.
    test_share : float, share of the images held out where only MNIST's test images are there; with
        the training images beside them, those are trained on and all of the test images held out.
    seed : int, of the draw of held-out images.

    Raises
    ------
    ValueError
        If a speaker is unknown, or nobody is left to train on.
    """
    sounds = read_spoken(spoken)
    speakers = set(sounds.sources.tolist())
    unknown = set(test_speakers) - speakers
    if unknown or not speakers - set(test_speakers) or not test_speakers:
        raise ValueError(
            f"read_pairs: test_speakers={test_speakers}; name some, not all, of {sorted(speakers)}."
        )
    held_out = np.isin(sounds.sources, list(test_speakers))
    images = read_written(written, "t10k")
    if (Path(written) / "train-images-idx3-ubyte.gz").exists():
        of_part = {"train": read_written(written, "train"), "test": images}
    else:
        order = np.random.default_rng(seed).permutation(len(images))
        n_test = round(test_share * len(images))
        of_part = {"train": images.take(order[n_test:]), "test": images.take(order[:n_test])}
    return PairSet(
        "spoken and handwritten digits",
        CLASS_NAMES,
        {"train": sounds.take(~held_out), "test": sounds.take(held_out)},
        of_part,
        DIGIT_FRONT_END,
    )
