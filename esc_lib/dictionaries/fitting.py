"""How a constrained dictionary is fitted: penalty, Adam, and all that one layer needs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from esc_lib import config
from esc_lib.dictionaries.models import MODELS, Dictionary, LinearNoBiasSoftplus
from esc_lib.dictionaries.solvers import solve_exact
from esc_lib.dictionaries.statistics import Statistics, atom_scale, relative_error, squared_error


def smoothness_penalty(w: torch.Tensor, statistics: Statistics) -> torch.Tensor:
    """Return the energy of differences between neighbouring bands, relative to ||V||^2.

    Each atom counts with the energy of its row of H, so that scaling an atom of W up and its row
    of H down changes nothing.
    """
    steps = w.diff(dim=0).square().sum(dim=0)  # (atoms,)
    return (steps * statistics.gram.diagonal()).sum() / statistics.energy


def step_between_bands(w: torch.Tensor) -> float:
    """Return the root mean square step between neighbouring bands of W, relative to W's own."""
    return float(w.diff(dim=0).square().mean().sqrt() / w.square().mean().sqrt())


@dataclass(frozen=True)
class Trace:
    """A fitted dictionary and how it came about."""

    model: Dictionary
    epochs: list[int]  # where snapshots were taken; the last epoch is always among them
    snapshots: np.ndarray  # (snapshots, freq, atoms), W at those epochs
    errors: np.ndarray  # (epochs,), relative error on the training clips after each epoch


def fit(
    model: Dictionary,
    statistics: Statistics,
    settings: config.Dictionaries,
    *,
    smoothness: float = 0.0,
) -> Trace:
    """Fit a dictionary, in place, with Adam; the learning rate falls to zero along half a cosine.

    Statistics are of the training clips; the loss is the squared error on all of them, and
    `smoothness` the weight of :func:`smoothness_penalty`.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    n_steps = settings.epochs * settings.steps_per_epoch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    epochs, snapshots, errors = [], [], []
    for epoch in range(1, settings.epochs + 1):
        for _ in range(settings.steps_per_epoch):
            optimizer.zero_grad()
            w = model.dictionary()
            penalty = smoothness_penalty(w, statistics)
            (squared_error(w, statistics) + smoothness * penalty).backward()
            optimizer.step()
            schedule.step()
        w = model.dictionary().detach()
        errors.append(relative_error(w, statistics))
        if epoch % settings.trace_every == 0 or epoch == settings.epochs:
            epochs.append(epoch)
            snapshots.append(w.float().numpy())
    return Trace(model, epochs, np.stack(snapshots), np.array(errors))


@dataclass(frozen=True)
class LayerFits:
    """All dictionaries of one layer, fitted on training clips."""

    scale: torch.Tensor  # (atoms,), factor on every row of H
    traces: dict[str, Trace]  # by the model's name
    optimum: torch.Tensor | None  # (freq, atoms), the exact solution

    def dictionaries(self) -> dict[str, torch.Tensor]:
        """Return W of each model and the optimum, name to (freq, atoms)."""
        found = {name: trace.model.dictionary().detach() for name, trace in self.traces.items()}
        return found if self.optimum is None else found | {"optimum": self.optimum}

    def errors(self, statistics: Statistics) -> dict[str, float]:
        """Return each dictionary's relative error on clips of which these are the statistics."""
        scaled = statistics.scaled(self.scale)
        return {name: relative_error(w, scaled) for name, w in self.dictionaries().items()}


def fit_layer(
    statistics: Statistics,
    settings: config.Dictionaries,
    seed: int,
    models: Sequence[type[Dictionary]] = MODELS,
    smoothness: float = 0.0,
    solve: bool = True,
) -> LayerFits:
    """Scale a layer's H, fit the constrained models and, if asked to, solve for the optimum.

    Examples
    --------
    >>> import torch
    >>> from esc_lib.config import Dictionaries
    >>> v, h = torch.rand(3, 16, 20), torch.rand(3, 4, 20)
    >>> fits = fit_layer(Statistics.of(v, h), Dictionaries(epochs=20), seed=0)
    >>> fits.optimum.shape
    torch.Size([16, 4])
    """
    scale = atom_scale(statistics)
    scaled = statistics.scaled(scale)
    traces = {}
    for model in models:
        new = model(scaled, torch.Generator().manual_seed(seed))
        traces[model.__name__] = fit(new, scaled, settings, smoothness=smoothness)
    return LayerFits(scale, traces, solve_exact(scaled) if solve else None)


def try_smoothness(
    train: Statistics, validation: Statistics, settings: config.Dictionaries, seed: int
) -> pd.DataFrame:
    """Fit the free dictionary with every weight of the smoothness penalty, a row each.

    Columns are train and validation, relative errors, and step, :func:`step_between_bands`.
    """
    rows, name = {}, LinearNoBiasSoftplus.__name__
    for weight in settings.smoothness:
        fits = fit_layer(train, settings, seed, (LinearNoBiasSoftplus,), weight, solve=False)
        rows[weight] = {
            "train": fits.errors(train)[name],
            "validation": fits.errors(validation)[name],
            "step": step_between_bands(fits.dictionaries()[name]),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("weight")
