"""Spoken digits (FSDD) paired with handwritten digits (MNIST)."""

import gzip
import re
from pathlib import Path

import numpy as np
import torch

from esc_lib.companions.crossmodal.networks import SIDE
from esc_lib.companions.crossmodal.pairs import PairSet, Pictures, from_levels
from esc_lib.companions.crossmodal.spectrograms import DIGIT_FRONT_END, pictures_of, read_excerpt

CLASS_NAMES = [str(digit) for digit in range(10)]
WAV_NAME = re.compile(r"(\d)_([^_]+)_(\d+)\.wav")  # digit_speaker_index.wav
IDX = {"images": (2051, 3), "labels": (2049, 1)}  # magic number and axes of MNIST's files
TEST_SHARE = 0.2  # of MNIST's test images, where there are no others


def read_spoken(folder: str | Path) -> Pictures:
    """Read the Free Spoken Digit Dataset as log-mel pictures, speakers as their sources.

    Its ``digit_speaker_index.wav`` files lie in the folder or in ``recordings/``.
    """
    folder = Path(folder)
    recordings = folder / "recordings" if (folder / "recordings").is_dir() else folder
    paths = sorted(recordings.glob("*.wav"))
    found = {path: match for path in paths if (match := WAV_NAME.fullmatch(path.name))}
    if not found:
        problem = f"{recordings} has no files named digit_speaker_index.wav"
        wanted = "give the folder of the Free Spoken Digit Dataset"
        raise ValueError(f"read_spoken: {problem}; {wanted}.")
    clips = np.stack([read_excerpt(path, DIGIT_FRONT_END) for path in found])
    labels = torch.tensor([int(match[1]) for match in found.values()])
    sources = np.array([match[2] for match in found.values()])
    return Pictures(pictures_of(torch.from_numpy(clips), DIGIT_FRONT_END), labels, sources)


def read_idx(path: Path, what: str) -> np.ndarray:
    """Read a gzipped idx file of MNIST: "images", (n, 28, 28), or "labels", (n,), both uint8."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        problem = f"{path} cannot be read ({error})"
        raise ValueError(f"read_idx: {problem}; get the file of MNIST again.") from None
    expected, n_axes = IDX[what]
    try:
        magic, *shape = np.frombuffer(content, ">i4", 1 + n_axes)
        values = np.frombuffer(content, np.uint8, offset=4 * (1 + n_axes)).reshape(shape)
    except ValueError:  # too short, or of another number of pixels than it says
        magic = None
    if magic != expected:
        raise ValueError(f"read_idx: {path} holds no {what} in MNIST's idx form; get it again.")
    return values


def read_written(folder: str | Path, prefix: str) -> Pictures:
    """Read MNIST's "train" or "t10k" as pictures, one grey channel; each is its own source."""
    images = read_idx(Path(folder) / f"{prefix}-images-idx3-ubyte.gz", "images")
    labels = read_idx(Path(folder) / f"{prefix}-labels-idx1-ubyte.gz", "labels")
    if len(images) != len(labels):
        found = f"{len(images)} images and {len(labels)} labels in {folder}"
        raise ValueError(f"read_written: {found}; take both files from one copy of MNIST.")
    unit = torch.from_numpy(images.copy())[:, None].float() / 127.5 - 1
    unit = torch.nn.functional.interpolate(unit, SIDE, mode="bilinear", align_corners=False)
    sources = np.array([f"{prefix} {index}" for index in range(len(labels))])
    return Pictures(from_levels(unit), torch.from_numpy(labels.astype(np.int64)), sources)


def read_pairs(
    spoken: str | Path, written: str | Path, test_speakers: tuple[str, ...] = ("theo", "yweweler")
) -> PairSet:
    """Return spoken and handwritten digits, held-out speakers and held-out images as the test part.

    With MNIST's training images beside its test images, all of the latter are held out; without
    them a share.
    """
    sounds = read_spoken(spoken)
    speakers = set(sounds.sources.tolist())
    if not test_speakers or not set(test_speakers) < speakers:
        problem = f"test_speakers={test_speakers}; name some, not all, of {sorted(speakers)}"
        raise ValueError(f"read_pairs: {problem}.")
    held_out = np.isin(sounds.sources, list(test_speakers))
    images = read_written(written, "t10k")
    if (Path(written) / "train-images-idx3-ubyte.gz").exists():
        of_part = {"train": read_written(written, "train"), "test": images}
    else:
        order = np.random.default_rng(0).permutation(len(images))
        n_test = round(TEST_SHARE * len(images))
        of_part = {"train": images.take(order[n_test:]), "test": images.take(order[:n_test])}
    spoken_of_part = {"train": sounds.take(~held_out), "test": sounds.take(held_out)}
    name = "spoken and handwritten digits"
    return PairSet(name, CLASS_NAMES, spoken_of_part, of_part, DIGIT_FRONT_END)
