"""What H holds of the shape of a spectrum once its level is taken away.

A frame's loudness alone rebuilds much of V, and every layer follows it. So each frame is read in
dB, less its mean over bands: its shape. A ridge regression from H to the shapes is fitted to
training clips, its weight chosen on validation clips; on test clips it explains a share of their
variance over the mean training shape,

    R^2 = 1 - sum ||S - S'||^2 / sum ||S - mean||^2     (1 is perfect, 0 is the mean shape).

Beside it stands the thesis's non-negative fit, with V and H at norm 1 in every frame. V and H are
dicts by part (train, validation, test), to (clips, freq or atoms, frames).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from esc_lib.data.clips import Data
from esc_lib.dictionaries.gather import Gathered
from esc_lib.dictionaries.solvers import solve_exact
from esc_lib.dictionaries.stand_ins import MEAN, Parts, stand_ins
from esc_lib.dictionaries.statistics import Statistics, atom_scale, squared_error

RANGE_DB = 80.0  # below a clip's peak, as deep as the front end looks
QUIET_DB = 5.0  # a frame whose loudest band lies no higher above that floor has no shape
WEIGHTS = tuple(10 ** (k / 2) for k in range(-12, 5))  # of the penalty, 1: H's mean variance
CLIPS = 256  # summed up at a time

FEW = 16  # components at which networks are compared: as many as the narrowest block has channels

MEAN_SHAPE, RIDGE = "mean shape", "ridge"
MEAN_UNIT, UNIT = "mean unit frame", "unit frames"


def components(n: int) -> str:
    """Return the column of the reading by `n` principal components of H."""
    return f"{RIDGE}, {n} components"


def read(parts: Mapping[str, Gathered], layer: str) -> pd.DataFrame:
    """Return the squared errors of both readings of a layer, a row per test clip.

    Columns are those of :func:`ridge_errors` and :func:`unit_errors`.
    """
    v, h = v_and_h(parts, layer)
    return ridge_errors(v, h).join(unit_errors(v, h))


def read_stand_ins(parts: Mapping[str, Gathered], layer: str, data: Data) -> pd.DataFrame:
    """Return the ridge regression's squared errors from what stands in for H, a column each.

    From H = 1 it would find the mean shape.
    """
    v, _ = v_and_h(parts, layer)
    others = {name: h for name, h in stand_ins(v, data).items() if name != MEAN}
    return pd.DataFrame({name: ridge_errors(v, h)[RIDGE] for name, h in others.items()})


def v_and_h(parts: Mapping[str, Gathered], layer: str) -> tuple[Parts, Parts]:
    """Return V on a layer's time grid, and the layer's H, which was kept."""
    return tuple(
        {part: of(own) for part, own in parts.items()}
        for of in (lambda own: own.v(layer), lambda own: own.h[layer])
    )


def shapes(v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each frame's shape in dB, (clips, freq, frames), and whether it has one, bool."""
    peak = v.amax(dim=(1, 2), keepdim=True).clamp_min(1e-30)
    level = 20 * (v / peak).clamp_min(10 ** (-RANGE_DB / 20)).log10()
    heard = level.amax(dim=1) > QUIET_DB - RANGE_DB  # (clips, frames)
    return level - level.mean(dim=1, keepdim=True), heard


def unit(values: torch.Tensor) -> torch.Tensor:
    """Return every frame at Euclidean norm 1; a frame of zeros stays as it is."""
    return values / values.norm(dim=1, keepdim=True).clamp_min(1e-30)


@dataclass(frozen=True)
class Ridge:
    """A linear reading, S' = W H + intercept."""

    w: torch.Tensor  # (freq, atoms), dB per unit of H
    intercept: torch.Tensor  # (freq,), dB
    weight: float  # of the penalty, relative to the mean variance of H's rows

    def __call__(self, h: torch.Tensor) -> torch.Tensor:
        """Return shapes, (clips, freq, frames), of (clips, atoms, frames)."""
        return self.w @ h + self.intercept[:, None]


def fit_ridge(
    train: Statistics, validation: Statistics, n_components: Sequence[int]
) -> dict[int, Ridge]:
    """Fit shapes to principal components of H, as many as each of `n_components` says.

    Components are those of H on training frames, less its mean, most variance first. For each
    number the weight of least validation error is taken. With all components it is the ridge
    regression from H. No channel is brought to unit variance: what hardly ever speaks would be as
    loud as the rest, and what it says in an unseen clip beyond all measure.
    """
    n = train.n_frames
    v, h = train.sum_v / n, train.sum_h / n
    centred, other = train.about(v, h), validation.about(v, h)
    spread, basis = torch.linalg.eigh(centred.gram)
    spread, basis = spread.flip(0).clamp_min(0), basis.flip(1)
    cross, level = centred.cross @ basis, spread.mean().clamp_min(1e-30)
    fitted = {}
    for k in n_components:
        seen = other.turned(basis[:, :k])
        tried = [(cross / (spread + weight * level))[:, :k] for weight in WEIGHTS]
        errors = [float(squared_error(one, seen)) for one in tried]
        best = errors.index(min(errors))
        w = tried[best] @ basis[:, :k].T
        fitted[k] = Ridge(w, v - w @ h, WEIGHTS[best])
    return fitted


def ridge_errors(v: Parts, h: Parts) -> pd.DataFrame:
    """Return the squared errors (dB^2) of the ridge regression on every test clip, a column each.

    `MEAN_SHAPE` is that of the mean training shape, `RIDGE` reads all of H, ``components(n)`` its
    first n = 2, 4, 8 ... components; ``components(FEW)`` is all of a smaller H.
    """
    train, validation = (
        _summed(v[part], h[part], lambda v, h: (shapes(v)[0], h), signed=True)
        for part in ("train", "validation")
    )
    n_atoms = len(train.sum_h)
    numbers = [2**k for k in range(1, n_atoms.bit_length()) if 2**k < n_atoms]
    fitted = fit_ridge(train, validation, [*numbers, n_atoms])
    (shape, heard), seen = shapes(v["test"].double()), h["test"].double()
    mean = (train.sum_v / train.n_frames)[:, None]
    found = {MEAN_SHAPE: _squares(shape - mean, heard)}
    for k, ridge in fitted.items():
        name = RIDGE if k == n_atoms else components(k)
        found[name] = _squares(shape - ridge(seen), heard)
    found.setdefault(components(FEW), found[RIDGE])
    return pd.DataFrame(found)


def unit_errors(v: Parts, h: Parts) -> pd.DataFrame:
    """Return the squared errors of the best W >= 0 for frames of norm 1, on every test clip.

    `MEAN_UNIT` is that of the mean training frame, `UNIT` that of W. Every frame of V and of H has
    norm 1, so that neither knows a level.
    """
    train = _summed(v["train"], h["train"], lambda v, h: (unit(v), unit(h)))
    scale = atom_scale(train)
    w = solve_exact(train.scaled(scale)) * scale
    target, heard = unit(v["test"].double()), shapes(v["test"])[1]
    mean = (train.sum_v / train.n_frames)[:, None]
    rebuilt = w @ unit(h["test"].double())
    return pd.DataFrame(
        {MEAN_UNIT: _squares(target - mean, heard), UNIT: _squares(target - rebuilt, heard)}
    )


def _summed(v: torch.Tensor, h: torch.Tensor, view: Callable, signed: bool = False) -> Statistics:
    """Return the statistics of what `view` makes of V and H, over the frames that have a shape."""
    total = None
    for some, its in zip(v.split(CLIPS), h.split(CLIPS)):
        some, its = some.double(), its.double()
        heard = shapes(some)[1]
        # (clips, rows, frames) -> (1, rows, frames that have a shape)
        kept = (each.transpose(1, 2)[heard].T[None] for each in view(some, its))
        sums = Statistics.of(*kept, signed=signed)
        total = sums if total is None else total + sums
    return total


def _squares(gap: torch.Tensor, heard: torch.Tensor) -> np.ndarray:
    """Return the sum of squares over each clip's bands and the frames that count, (clips,)."""
    return (gap.square().sum(dim=1) * heard).sum(dim=1).numpy()
