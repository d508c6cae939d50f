"""Pictures of two modalities that share classes, and how they are paired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from esc_lib.companions.crossmodal.settings import DIRECTIONS
from esc_lib.config import FrontEnd

PARTS = ("train", "test")


@dataclass(frozen=True)
class Pictures:
    """Pictures of one modality."""

    pixels: torch.Tensor  # uint8, (pictures, channels, 64, 64); of a spectrogram, lowest band first
    labels: torch.Tensor  # int64, (pictures,)
    sources: np.ndarray  # str: speaker, recording or writer that each comes from, or itself

    def __len__(self) -> int:
        return len(self.labels)

    def unit(self, rows: np.ndarray | slice = slice(None)) -> torch.Tensor:
        """Return float pictures in [-1, 1], (rows, channels, 64, 64)."""
        return self.pixels[rows].float() / 127.5 - 1

    def take(self, rows: np.ndarray) -> Pictures:
        """Return some of the pictures."""
        return Pictures(self.pixels[rows], self.labels[rows], self.sources[rows])


@dataclass(frozen=True)
class PairSet:
    """Two modalities of the same classes, each split in "train" and "test" by source."""

    name: str
    class_names: list[str]
    sounds: Mapping[str, Pictures]
    images: Mapping[str, Pictures]
    front_end: FrontEnd  # of the sounds' pictures

    def __post_init__(self):
        for modality in ("sounds", "images"):
            of_part = getattr(self, modality)
            common = set.intersection(*(set(of_part[part].sources.tolist()) for part in PARTS))
            if common:
                where = f"{modality} of {min(common)!r} are in train and in test"
                raise ValueError(f"PairSet: {where}; split by source.")
            for part in PARTS:
                missing = set(range(len(self.class_names))) - set(of_part[part].labels.tolist())
                if missing:
                    where = f"no {part} {modality} of class {self.class_names[min(missing)]!r}"
                    raise ValueError(f"PairSet: {where}; add some or leave the class out.")

    def sides(self, direction: str) -> tuple[Mapping[str, Pictures], Mapping[str, Pictures]]:
        """Return what goes in and what comes out, for "S2I" or "I2S"."""
        if direction not in DIRECTIONS:
            raise ValueError(f"sides: direction={direction!r}; choose one of {DIRECTIONS}.")
        both = self.sounds, self.images
        return both if direction == "S2I" else both[::-1]


def from_levels(unit: torch.Tensor) -> torch.Tensor:
    """Round float pictures in [-1, 1] to uint8, the form in which :class:`Pictures` has them."""
    return ((unit.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def draw_partners(
    labels: np.ndarray, others: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw for each item a partner of its own class, and one of another class.

    Given the labels of both, return the partners' places among `others`, each (items,).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> matched, mismatched = draw_partners(np.array([0, 1]), np.array([1, 0]), rng)
    >>> matched.tolist(), mismatched.tolist()
    ([1, 0], [0, 1])
    """
    matched, mismatched = np.empty(len(labels), int), np.empty(len(labels), int)
    for label in np.unique(labels):
        here = labels == label
        same, different = np.flatnonzero(others == label), np.flatnonzero(others != label)
        if not len(same) or not len(different):
            found = f"{len(same)} partners of its own class and {len(different)} of another"
            raise ValueError(f"draw_partners: class {label} has {found}; both are needed.")
        matched[here] = rng.choice(same, here.sum())
        mismatched[here] = rng.choice(different, here.sum())
    return matched, mismatched
