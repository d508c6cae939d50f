"""What is explained: clips as they are, and clips with something mixed in that is known."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from esc_lib.data.clips import Data
from esc_lib.sound.audio import coloured_noise

CONDITIONS = ("clean", "other clip", "one after the other", "white noise")
BATCH = 16  # clips at a time, in the whole room: a backward pass holds every layer's maps


@dataclass(frozen=True)
class Inputs:
    """Sounds to be explained."""

    condition: str  # one of `CONDITIONS`
    rows: np.ndarray  # int, (clips,), the labelled clips
    waveforms: torch.Tensor  # (clips, samples), full scale 1
    n_valid: torch.Tensor  # int, (clips,)
    wanted: torch.Tensor | None = None  # sums to `waveforms` with the next; None if clean
    unwanted: torch.Tensor | None = None
    classes: torch.Tensor | None = None  # int, (clips, 2), of both sounds; -1: of no class

    def sound_of(self, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sound of the class explained, int (clips,), and the one mixed with it.

        A class that is of neither is taken for that of the labelled one, see :meth:`has`.
        """
        swapped = (targets == self.classes[:, 1])[:, None]
        return (
            torch.where(swapped, self.unwanted, self.wanted),
            torch.where(swapped, self.wanted, self.unwanted),
        )

    def has(self, targets: torch.Tensor) -> torch.Tensor:
        """Return whether the class explained is that of one of the sounds, bool (clips,)."""
        return (targets[:, None] == self.classes).any(dim=1)

    def only(self, places: list[int] | torch.Tensor) -> Self:
        """Return the clips at these places."""
        arrays = {name: part for name, part in vars(self).items() if hasattr(part, "shape")}
        return replace(self, **{name: part[places] for name, part in arrays.items()})


def take(
    data: Data, rows: np.ndarray, condition: str, sr: int, device: torch.device | str = "cpu"
) -> Inputs:
    """Return clips, clean or with another sound of the same energy (0 dB).

    "Other clip" is one of another class, drawn among `rows`, over the whole length; "one after the
    other" has the first half of both, in an order that is drawn. White noise needs the rate `sr` in
    Hz.

    Raises
    ------
    ValueError
        If the condition is unknown, or all clips are of one class and another is asked for.
    """
    waveforms, n_valid = data.batch(rows, device)
    if condition == "clean":
        return Inputs(condition, rows, waveforms, n_valid)
    labels = data.labels[rows]
    classes = torch.stack([labels, torch.full_like(labels, -1)], dim=1).to(device)
    if condition in CONDITIONS[1:3]:
        labels, rng = labels.numpy(), np.random.default_rng(0)
        if len(np.unique(labels)) < 2:
            raise ValueError(f"take: all clips are of one class; {condition!r} needs at least two.")
        other = np.array([rng.choice(np.flatnonzero(labels != label)) for label in labels])
        unwanted, n_valid = waveforms[other], n_valid.maximum(n_valid[other])
        classes[:, 1] = classes[other, 0]
        if condition == CONDITIONS[2]:
            first = torch.from_numpy(rng.random(len(rows)) < 0.5).to(device)
            n_valid = torch.full_like(n_valid, waveforms.shape[1])
            waveforms, unwanted = _halves(waveforms, first), _halves(unwanted, ~first)
    elif condition == "white noise":
        generator = torch.Generator().manual_seed(0)
        batches = (torch.zeros(len(some)) for some in n_valid.split(BATCH))
        noise = [coloured_noise(some, waveforms.shape[1], sr, generator) for some in batches]
        inside = torch.arange(waveforms.shape[1], device=device) < n_valid[:, None]
        unwanted = torch.cat(noise).to(device) * inside
    else:
        raise ValueError(
            f"take: condition={condition!r} is unknown; choose one of {', '.join(CONDITIONS)}."
        )
    # in place, some clips at a time: the sounds are a fold's, and all of this memory
    energy = [
        torch.cat([some.square().sum(dim=1, keepdim=True) for some in each.split(BATCH)])
        for each in (waveforms, unwanted)
    ]
    unwanted *= (energy[0] / energy[1].clamp_min(1e-12)).sqrt()
    mixture = waveforms + unwanted
    peak = torch.maximum(mixture.amax(dim=1, keepdim=True), -mixture.amin(dim=1, keepdim=True))
    level = 1 / peak.clamp_min(1.0)  # nothing clips; the network does not see a change of level
    waveforms *= level
    unwanted *= level
    torch.add(waveforms, unwanted, out=mixture)
    return Inputs(condition, rows, mixture, n_valid, waveforms, unwanted, classes)


def _halves(waveforms: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """Return the first half of each sound, (clips, samples), in the first half or in the second."""
    half, moved = waveforms.shape[1] // 2, torch.zeros_like(waveforms)
    moved[first, :half] = waveforms[first, :half]
    moved[~first, half : 2 * half] = waveforms[~first, :half]
    return moved
