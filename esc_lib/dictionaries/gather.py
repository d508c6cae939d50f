"""V and H of many clips: summed up for fitting, kept for judging, and saved for the next time."""

import inspect
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from esc_lib.data.clips import Data
from esc_lib.dictionaries.statistics import Statistics
from esc_lib.layers.hooks import pool_frames, reduce_frequency, stream
from esc_lib.machine.files import made_once
from esc_lib.machine.fingerprint import fingerprint
from esc_lib.sound.log_mel import LogMel


@dataclass(frozen=True)
class Gathered:
    """What some clips show of a network's layers, by their names."""

    statistics: dict[str, Statistics]  # of V and the layer's H
    h: dict[str, torch.Tensor]  # float32, (clips, atoms, frames), for the layers that were kept
    mel: torch.Tensor  # float32, (clips, mel, frames of the finest layer): V, pooled that far

    def v(self, layer: str) -> torch.Tensor:
        """Return V on a layer's time grid, shape (clips, mel, frames)."""
        return pool_frames(self.mel, self.statistics[layer].n_frames // len(self.mel))


def gather(
    model: nn.Module,
    front_end: LogMel,
    data: Data,
    rows: np.ndarray,
    layers: Sequence[str],
    *,
    keep: Sequence[str] = (),
    reduction: str = "mean",
    scratch: Path | None = None,
) -> Gathered:
    """Read the layers' H of some clips, batch by batch; only what is asked for is kept.

    Layers come with the one of most frames first. H is kept clip by clip for those in `keep`, and
    reduced over frequency by "mean" or "max". What is kept clip by clip is mapped to files in the
    folder `scratch`, if there is one.
    """
    statistics, kept, done = {}, {}, 0
    for batch, mel, maps in stream(model, front_end, data, rows, layers):
        place = slice(done, done := done + len(batch))
        mel = pool_frames(mel, maps[layers[0]].shape[-1]).cpu()
        found = {"mel": mel}
        for layer in layers:
            h = reduce_frequency(maps[layer].float(), reduction).cpu()
            v = pool_frames(mel, h.shape[-1])
            sums = Statistics.of(v, h)
            statistics[layer] = statistics[layer] + sums if layer in statistics else sums
            if layer in keep:
                found[layer] = h
        for name, values in found.items():
            if name not in kept:
                kept[name] = _empty((len(rows), *values.shape[1:]), scratch and scratch / name)
            kept[name][place] = values
    return Gathered(statistics, mel=kept.pop("mel"), h=kept)


def what_is_read(model: nn.Module, front_end: LogMel, data: Data, rows: np.ndarray) -> tuple:
    """Return what decides H and V of some clips, for a fingerprint."""
    sounds = (data.waveforms[some] for some in np.array_split(rows, -(-len(rows) // 64)))
    return front_end.settings, model, sounds, data.n_valid[rows]


def _empty(shape: tuple[int, ...], file: Path | None) -> torch.Tensor:
    """Return room for float32 values, in memory or in a file."""
    if file is None:
        return torch.empty(shape)
    return torch.from_file(str(file), shared=True, size=math.prod(shape)).reshape(shape)


def gather_once(
    path: Path, model: nn.Module, front_end: LogMel, data: Data, rows: np.ndarray, *args, **kwargs
) -> Gathered:
    """Do as :func:`gather`, or open what it found before for the same network, clips and choices.

    The file, named after what was chosen, is replaced if network, clips, choices or the code that
    computes it have changed since.
    """
    known = (args, kwargs, *what_is_read(model, front_end, data, rows))
    identity = fingerprint(*known, code=[__file__, inspect.getfile(type(model))])

    def make() -> dict:  # of tensors and numbers only
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            own = kwargs | {"scratch": Path(scratch)}
            found = vars(gather(model, front_end, data, rows, *args, **own))
        return found | {"statistics": {k: vars(of) for k, of in found["statistics"].items()}}

    path.parent.mkdir(parents=True, exist_ok=True)
    kept = made_once(path, identity, make)
    sums = {layer: Statistics(**one) for layer, one in kept["statistics"].items()}
    return Gathered(sums, kept["h"], kept["mel"])
