"""The same readings of a network whose weights are random: the control for all that is trained."""

import inspect
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from esc_lib.data.clips import Data
from esc_lib.dictionaries import level_free
from esc_lib.dictionaries.gather import Gathered, gather, what_is_read
from esc_lib.dictionaries.judge import squared_error_by_clip
from esc_lib.dictionaries.solvers import solve_exact
from esc_lib.dictionaries.statistics import atom_scale
from esc_lib.machine.files import made_once
from esc_lib.machine.fingerprint import fingerprint
from esc_lib.sound.log_mel import LogMel

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Reading:
    """What was read from one layer of a network."""

    # squared, (test clips,): "optimum", the energy of V, and what `level_free` reads
    errors: dict[str, torch.Tensor]
    w: torch.Tensor  # (freq, atoms), the optimum for H as the layer gives it
    use: torch.Tensor  # (training clips, atoms), each clip's mean of H


def read(parts: Mapping[str, Gathered], layer: str) -> Reading:
    """Read a layer from what was gathered of training, validation and test clips."""
    statistics, test = parts["train"].statistics[layer], parts["test"]
    scale = atom_scale(statistics)
    w = solve_exact(statistics.scaled(scale)) * scale
    v = test.v(layer).double()
    errors = {n: torch.tensor(one.to_numpy()) for n, one in level_free.read(parts, layer).items()}
    errors["energy"] = v.square().sum(dim=(1, 2))
    errors["optimum"] = torch.from_numpy(squared_error_by_clip(w, v, test.h[layer]))
    return Reading(errors, w.float(), parts["train"].h[layer].mean(dim=2))


def read_once(
    path: Path, model: nn.Module, front_end: LogMel, data: Data, layers: Sequence[str],
    reduction: str = "mean",
) -> dict[str, Reading]:  # fmt: skip
    """Gather a network's layers and read each, or open what was read before; H is not kept.

    The file is replaced if network, clips, choices or the code have changed since.
    """
    rows = {part: getattr(data.split, part) for part in PARTS}
    known = [what_is_read(model, front_end, data, some) for some in rows.values()]
    code = [__file__, inspect.getfile(type(model))]

    def make() -> dict:  # of tensors only
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            parts = {}
            for part, some in rows.items():
                (folder := Path(scratch, part)).mkdir()
                parts[part] = gather(
                    model, front_end, data, some, layers, keep=layers, reduction=reduction,
                    scratch=folder,
                )  # fmt: skip
            return {layer: vars(read(parts, layer)) for layer in layers}

    path.parent.mkdir(parents=True, exist_ok=True)
    kept = made_once(path, fingerprint(tuple(layers), reduction, *known, code=code), make)
    return {layer: Reading(**kept[layer]) for layer in layers}
