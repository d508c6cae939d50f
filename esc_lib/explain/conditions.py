"""What is explained: clips as they are, and clips with something mixed in that is known."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from esc_lib.data.clips import Data
from esc_lib.sound.audio import coloured_noise

CONDITIONS = ("clean", "other clip", "white noise")
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

    def only(self, places: list[int] | torch.Tensor) -> Self:
        """Return the clips at these places."""
        arrays = {name: part for name, part in vars(self).items() if hasattr(part, "shape")}
        return replace(self, **{name: part[places] for name, part in arrays.items()})


def take(
    data: Data, rows: np.ndarray, condition: str, sr: int, device: torch.device | str = "cpu"
) -> Inputs:
    """Return clips, clean or with another sound of the same energy (0 dB) over the whole length.

    "Other clip" is one of another class, drawn among `rows`; white noise needs the rate `sr` in Hz.

    Raises
    ------
    ValueError
        If the condition is unknown, or all clips are of one class and another is asked for.
    """
    waveforms, n_valid = data.batch(rows, device)
    if condition == "clean":
        return Inputs(condition, rows, waveforms, n_valid)
    if condition == "other clip":
        labels, rng = data.labels[rows].numpy(), np.random.default_rng(0)
        if len(np.unique(labels)) < 2:
            raise ValueError("take: all clips are of one class; 'other clip' needs at least two.")
        other = np.array([rng.choice(np.flatnonzero(labels != label)) for label in labels])
        unwanted, n_valid = waveforms[other], torch.maximum(n_valid, n_valid[other])
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
    return Inputs(condition, rows, mixture, n_valid, waveforms, unwanted)
