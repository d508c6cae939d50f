"""Three constrained dictionaries W for V ~ W H with H read from the network, and their fit.

W is (freq, atoms) and non-negative whatever its parameters are. The yardstick, the best W that a
given H allows, is ``solvers.solve_exact``.

References
----------
Thesis, section 3.8 and appendix A.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from esc_lib import config
from esc_lib.dictionaries.solvers import (
    Statistics,
    atom_scale,
    divergence,
    relative_error,
    solve_exact,
    squared_error,
)

FRAMES_PER_STEP = 1024  # of a divergence, which has no sums to stand for all frames


def smoothness_penalty(w: torch.Tensor, statistics: Statistics) -> torch.Tensor:
    """Return the energy of differences between neighbouring bands, relative to ||V||^2.

    Each atom counts with the energy of its row of H, so that scaling an atom of W up and its row
    of H down changes nothing.
    """
    steps = (w[1:] - w[:-1]).square().sum(dim=0)
    return (steps * statistics.gram.diagonal()).sum() / statistics.energy


def step_between_bands(w: torch.Tensor) -> float:
    """Return the root mean square step between neighbouring bands of W, relative to W's own."""
    return float(w.diff(dim=0).square().mean().sqrt() / w.square().mean().sqrt())


class Dictionary(nn.Module):
    """A constrained W; variants define :meth:`dictionary`, float64 throughout.

    Examples
    --------
    >>> import torch
    >>> from esc_lib.config import Dictionaries
    >>> v, h = torch.rand(3, 16, 20), torch.rand(3, 4, 20)
    >>> trace = LinearNoBiasSoftplus.fit(v, h, Dictionaries(epochs=20))
    >>> trace.model.reconstruct(h).shape
    torch.Size([3, 16, 20])
    """

    @classmethod
    def fit(cls, v, h, settings: config.Dictionaries, seed: int = 0) -> Trace:
        """Fit a new W to V (clips, freq, frames) and H (clips, atoms, frames), both >= 0.

        H is taken at the level it has; :func:`fit_layer` brings its rows to one first.
        """
        statistics = Statistics(v.shape[1], h.shape[1])
        statistics.add(v, h)
        return fit(cls(statistics, torch.Generator().manual_seed(seed)), statistics, settings)

    def dictionary(self) -> torch.Tensor:
        """Return W >= 0, shape (freq, atoms)."""
        raise TypeError(f"{type(self).__name__} does not define a dictionary; use a variant.")

    def reconstruct(self, h: torch.Tensor) -> torch.Tensor:
        """Return W H, shape (..., freq, frames), of (..., atoms, frames)."""
        return self.dictionary() @ h.double()

    def components(self, h: torch.Tensor) -> torch.Tensor:
        """Return each atom's share of W H, shape (atoms, freq, frames), of (atoms, frames)."""
        return self.dictionary().T[:, :, None] * h.double()[:, None, :]


class LinearNoBiasSoftplus(Dictionary):
    """W = softplus(Theta), Theta from a Xavier-uniform start: free apart from its sign.

    References
    ----------
    Thesis, appendix A.2.1.
    """

    def __init__(self, statistics: Statistics, generator: torch.Generator):
        super().__init__()
        theta = torch.empty(statistics.cross.shape, dtype=torch.float64)
        self.theta = nn.Parameter(nn.init.xavier_uniform_(theta, generator=generator))

    def dictionary(self) -> torch.Tensor:
        """Return W, shape (freq, atoms)."""
        return nn.functional.softplus(self.theta)


class MelConstrainedLinear(Dictionary):
    """Every atom is a triangle on the mel axis: learned centre, half-width and gain.

    The axis is counted in mel bands, -1 and `freq` being the edges of the filter bank. Sigmoids
    keep each triangle between the edges; half-widths of at least one band keep it from falling
    between two bands. Centres start at the band where the atom's channel is most active compared
    with the average over all frames.

    References
    ----------
    Thesis, appendix A.2.2, which names centre and bandwidth; the gain is ours, since without it
    the level of V could not be met.
    """

    def __init__(self, statistics: Statistics, generator: torch.Generator):
        super().__init__()
        n_freq, n_atoms = statistics.cross.shape
        self.n_freq = n_freq
        expected = statistics.sum_v[:, None] * statistics.sum_h / statistics.n_frames
        peak = (statistics.cross / expected.clamp_min(1e-30)).argmax(dim=0).double()
        start = min(4.0, 1 + (self._widest - 1) / 4)  # strictly between the limits on any axis
        width = torch.full((n_atoms,), start, dtype=torch.float64)
        lowest, span = width - 1, n_freq + 1 - 2 * width
        place = ((peak - lowest) / span).clamp(0.02, 0.98)
        self.centre_logit = nn.Parameter(torch.logit(place))
        self.width_logit = nn.Parameter(torch.logit((width - 1) / (self._widest - 1)))
        jitter = torch.rand(n_atoms, generator=generator, dtype=torch.float64)
        self.gain_logit = nn.Parameter(0.1 * jitter)

    @property
    def _widest(self) -> float:
        return (self.n_freq + 1) / 2

    def half_width(self) -> torch.Tensor:
        """Return half-widths in mel bands, shape (atoms,), in [1, (freq + 1) / 2]."""
        return 1 + (self._widest - 1) * torch.sigmoid(self.width_logit)

    def centre(self) -> torch.Tensor:
        """Return centres in mel bands, shape (atoms,); the triangle's feet lie in [-1, freq]."""
        width = self.half_width()
        return width - 1 + (self.n_freq + 1 - 2 * width) * torch.sigmoid(self.centre_logit)

    def dictionary(self) -> torch.Tensor:
        """Return W, shape (freq, atoms)."""
        band = torch.arange(self.n_freq, dtype=torch.float64)[:, None]
        triangle = (1 - (band - self.centre()).abs() / self.half_width()).clamp_min(0)
        return triangle * nn.functional.softplus(self.gain_logit)


class MelBasisTransform(Dictionary):
    """Fixed Gaussians spread evenly over the mel axis; only one scale per atom is learned.

    Atom k sits at the k-th position of the axis whatever its channel responds to, as in the
    thesis: the network did not order its channels by frequency, so this is the price of a basis
    that is fixed beforehand.

    References
    ----------
    Thesis, appendix A.2.3.
    """

    def __init__(self, statistics: Statistics, generator: torch.Generator):
        super().__init__()
        n_freq, n_atoms = statistics.cross.shape
        centre = torch.linspace(0, n_freq - 1, n_atoms, dtype=torch.float64)
        spacing = max(1.0, (n_freq - 1) / max(n_atoms - 1, 1))
        band = torch.arange(n_freq, dtype=torch.float64)[:, None]
        self.register_buffer("basis", torch.exp(-0.5 * ((band - centre) / spacing) ** 2))
        jitter = torch.rand(n_atoms, generator=generator, dtype=torch.float64)
        self.scale_logit = nn.Parameter(0.1 * jitter)

    def dictionary(self) -> torch.Tensor:
        """Return W, shape (freq, atoms)."""
        return self.basis * nn.functional.softplus(self.scale_logit)


MODELS = (LinearNoBiasSoftplus, MelConstrainedLinear, MelBasisTransform)


@dataclass(frozen=True)
class Trace:
    """A fitted dictionary and how it came about.

    Attributes
    ----------
    model : Dictionary
    epochs : list of int, where snapshots were taken; the last epoch is always among them.
    snapshots : array, shape (snapshots, freq, atoms), W at those epochs.
    errors : array, shape (epochs,), relative error on the training clips after each epoch.
    """

    model: Dictionary
    epochs: list[int]
    snapshots: np.ndarray
    errors: np.ndarray


def fit(
    model: Dictionary,
    statistics: Statistics,
    settings: config.Dictionaries,
    *,
    smoothness: float = 0.0,
    loss: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Trace:
    """Fit a constrained dictionary with Adam; the learning rate falls to zero along half a cosine.

    Parameters
    ----------
    model : Dictionary, fitted in place.
    statistics : Statistics of the training clips.
    settings : config.Dictionaries
    smoothness : float, weight of :func:`smoothness_penalty`.
    loss : function of W; default: the squared error on all training clips.
    """
    loss = loss or (lambda w: squared_error(w, statistics))
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    n_steps = settings.epochs * settings.steps_per_epoch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    epochs, snapshots, errors = [], [], []
    for epoch in range(1, settings.epochs + 1):
        for _ in range(settings.steps_per_epoch):
            optimizer.zero_grad()
            w = model.dictionary()
            (loss(w) + smoothness * smoothness_penalty(w, statistics)).backward()
            optimizer.step()
            schedule.step()
        w = model.dictionary().detach()
        errors.append(relative_error(w, statistics))
        if epoch % settings.trace_every == 0 or epoch == settings.epochs:
            epochs.append(epoch)
            snapshots.append(w.float().numpy())
    return Trace(model, epochs, np.stack(snapshots), np.array(errors))


def divergence_loss(
    v: torch.Tensor, h: torch.Tensor, beta: float, generator: torch.Generator
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a loss for :func:`fit`: the beta divergence on frames drawn anew at every call.

    Parameters
    ----------
    v, h : tensors, shapes (clips, freq, frames) and (clips, atoms, frames).
    beta : float, see ``solvers.divergence``.
    generator : torch.Generator
    """
    v = v.transpose(0, 1).flatten(1).contiguous()
    h = h.transpose(0, 1).flatten(1).contiguous()

    def loss(w: torch.Tensor) -> torch.Tensor:
        frames = torch.randint(v.shape[1], (FRAMES_PER_STEP,), generator=generator)
        return divergence(v[:, frames], w.to(h.dtype) @ h[:, frames], beta)

    return loss


@dataclass(frozen=True)
class LayerFits:
    """All dictionaries of one layer, fitted on training clips.

    Attributes
    ----------
    scale : tensor, shape (atoms,), factor on every row of H.
    traces : model name to Trace.
    optimum : tensor, shape (freq, atoms), the exact solution, or None.
    """

    scale: torch.Tensor
    traces: dict[str, Trace]
    optimum: torch.Tensor | None

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
    """Scale a layer's H, fit the constrained models and, if asked to, solve for the optimum."""
    scale = atom_scale(statistics)
    scaled = statistics.scaled(scale)
    traces = {}
    for model in models:
        generator = torch.Generator().manual_seed(seed)
        traces[model.__name__] = fit(
            model(scaled, generator), scaled, settings, smoothness=smoothness
        )
    return LayerFits(scale, traces, solve_exact(scaled) if solve else None)


def try_smoothness(
    train: Statistics, validation: Statistics, settings: config.Dictionaries, seed: int
) -> pd.DataFrame:
    """Fit the free dictionary with every weight of the smoothness penalty.

    Returns
    -------
    DataFrame, index weight; columns train and validation, relative errors, and step, the root
        mean square difference between neighbouring bands relative to W's root mean square.
    """
    rows = {}
    for weight in settings.smoothness:
        fits = fit_layer(train, settings, seed, (LinearNoBiasSoftplus,), weight, solve=False)
        w = fits.dictionaries()["LinearNoBiasSoftplus"]
        rows[weight] = {
            "train": fits.errors(train)["LinearNoBiasSoftplus"],
            "validation": fits.errors(validation)["LinearNoBiasSoftplus"],
            "step": step_between_bands(w),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("weight")
