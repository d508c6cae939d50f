"""V ~ W H with H read from the network: three constrained dictionaries and the exact optimum.

V is (freq, frames), H is (atoms, frames), both non-negative; only W, (freq, atoms), is learned.
With squared error the data enter the loss through three statistics alone,

    ||V - W H||^2 = ||V||^2 - 2 <W, V H^T> + <W H H^T, W>,

so these are summed once over all clips, and fitting costs the same for ten clips or two thousand.

References
----------
Thesis, section 3.8 and appendix A.2; lee1999learning; beck2009fast for the solver.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from esc_lib import config
from esc_lib.activations import pool_frames, reduce_frequency, stream
from esc_lib.artifacts import Data
from esc_lib.features import LogMel


class Statistics:
    """Running sums of H H^T, V H^T and ||V||^2 over clips, in float64.

    Attributes
    ----------
    gram : tensor, shape (atoms, atoms).
    cross : tensor, shape (freq, atoms).
    energy : tensor, scalar.
    sum_v, sum_h : tensors, shape (freq,) and (atoms,), sums over frames.
    """

    def __init__(self, n_freq: int, n_atoms: int):
        self.gram = torch.zeros(n_atoms, n_atoms, dtype=torch.float64)
        self.cross = torch.zeros(n_freq, n_atoms, dtype=torch.float64)
        self.energy = torch.zeros((), dtype=torch.float64)
        self.sum_v = torch.zeros(n_freq, dtype=torch.float64)
        self.sum_h = torch.zeros(n_atoms, dtype=torch.float64)
        self.n_frames = 0

    def add(self, v: torch.Tensor, h: torch.Tensor) -> None:
        """Add a batch: `v` (batch, freq, frames) and `h` (batch, atoms, frames).

        Raises
        ------
        ValueError
            If the two differ in batch or frames, or a value is negative or not finite.
        """
        if v.shape[0] != h.shape[0] or v.shape[2] != h.shape[2]:
            raise ValueError(
                f"Statistics.add: v {tuple(v.shape)} and h {tuple(h.shape)} differ in clips or "
                "frames; pool V to the layer's frames first."
            )
        for name, values in (("v", v), ("h", h)):
            if not (torch.isfinite(values).all() and (values >= 0).all()):
                raise ValueError(
                    f"Statistics.add: {name} holds negative or non-finite values; "
                    "take the magnitude, or the layer's output after its ReLU."
                )
        v, h = v.cpu().double(), h.cpu().double()
        self.gram += torch.einsum("bkt,bjt->kj", h, h)
        self.cross += torch.einsum("bft,bkt->fk", v, h)
        self.energy += v.square().sum()
        self.sum_v += v.sum(dim=(0, 2))
        self.sum_h += h.sum(dim=(0, 2))
        self.n_frames += v.shape[0] * v.shape[2]

    def scaled(self, scale: torch.Tensor) -> Statistics:
        """Return the statistics of H with every atom multiplied by `scale`, shape (atoms,)."""
        other = Statistics(*self.cross.shape)
        other.gram = self.gram * scale[:, None] * scale
        other.cross = self.cross * scale
        other.sum_h = self.sum_h * scale
        other.energy, other.sum_v, other.n_frames = self.energy, self.sum_v, self.n_frames
        return other


def collect(
    model: nn.Module,
    front_end: LogMel,
    data: Data,
    rows: np.ndarray,
    layers: Sequence[str],
    keep: str,
) -> tuple[dict[str, Statistics], torch.Tensor]:
    """Sum up V and H of some clips, layer by layer, without holding them all.

    Parameters
    ----------
    layers : names of layers.
    keep : the layer whose H is kept clip by clip.

    Returns
    -------
    statistics : layer name to Statistics of all clips.
    h : float32 tensor, shape (clips, atoms, frames), H of the layer `keep`.
    """
    statistics: dict[str, Statistics] = {}
    kept = []
    for _, mel, maps in stream(model, front_end, data, rows, layers):
        for layer in layers:
            h = reduce_frequency(maps[layer])
            v = pool_frames(mel, h.shape[-1])
            if layer not in statistics:
                statistics[layer] = Statistics(v.shape[1], h.shape[1])
            statistics[layer].add(v, h)
            if layer == keep:
                kept.append(h.cpu())
    return statistics, torch.cat(kept)


def atom_scale(statistics: Statistics) -> torch.Tensor:
    """Return the factor that gives every atom of H the same root mean square.

    The level is chosen so that W = 1 / 2 everywhere has about the energy of V: the networks'
    channels differ by orders of magnitude, and Adam takes steps of one size. An atom that is
    never active keeps the factor 0.
    """
    n_freq, n_atoms = statistics.cross.shape
    power = statistics.gram.diagonal()
    level = 2 * (statistics.energy / n_freq).sqrt() / n_atoms
    return torch.where(power > 0, level / power.clamp_min(1e-30).sqrt(), 0.0)


def squared_error(w: torch.Tensor, statistics: Statistics) -> torch.Tensor:
    """Return ||V - W H||^2 / ||V||^2 from the statistics; 0 is perfect, 1 is W = 0."""
    fit = ((w @ statistics.gram) * w).sum() - 2 * (w * statistics.cross).sum()
    return 1 + fit / statistics.energy


def relative_error(w: torch.Tensor, statistics: Statistics) -> float:
    """Return ||V - W H|| / ||V||; lower is better."""
    return float(squared_error(w, statistics).clamp_min(0).sqrt())


def smoothness_penalty(w: torch.Tensor, statistics: Statistics) -> torch.Tensor:
    """Return the energy of differences between neighbouring bands, relative to ||V||^2.

    Each atom counts with the energy of its row of H, so that scaling an atom of W up and its row
    of H down changes nothing.
    """
    steps = (w[1:] - w[:-1]).square().sum(dim=0)
    return (steps * statistics.gram.diagonal()).sum() / statistics.energy


class Dictionary(nn.Module):
    """A constrained W; variants define :meth:`dictionary`, float64 throughout."""

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


def fit(model: Dictionary, statistics: Statistics, settings: config.Dictionaries) -> Trace:
    """Fit a constrained dictionary with Adam on squared error plus smoothness penalty.

    Every step sees all training clips, through their statistics; the learning rate falls to zero
    along a half cosine.

    Parameters
    ----------
    model : Dictionary, fitted in place.
    statistics : Statistics of the training clips.
    settings : config.Dictionaries
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    n_steps = settings.epochs * settings.steps_per_epoch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    epochs, snapshots, errors = [], [], []
    for epoch in range(1, settings.epochs + 1):
        for _ in range(settings.steps_per_epoch):
            optimizer.zero_grad()
            w = model.dictionary()
            loss = squared_error(w, statistics)
            loss = loss + settings.smoothness * smoothness_penalty(w, statistics)
            loss.backward()
            optimizer.step()
            schedule.step()
        w = model.dictionary().detach()
        errors.append(relative_error(w, statistics))
        if epoch % settings.trace_every == 0 or epoch == settings.epochs:
            epochs.append(epoch)
            snapshots.append(w.float().numpy())
    return Trace(model, epochs, np.stack(snapshots), np.array(errors))


def solve_exact(
    statistics: Statistics, *, tolerance: float = 1e-7, max_iterations: int = 20_000
) -> torch.Tensor:
    """Return the W >= 0 of least squared error, shape (freq, atoms): the yardstick.

    Projected gradient with Nesterov's momentum, restarted when the momentum points uphill. The
    problem is convex. Iteration ends when the relative squared error has fallen by less than
    `tolerance` over a hundred iterations.

    References
    ----------
    beck2009fast; odonoghue2015adaptive for the restart.
    """
    gram, cross = statistics.gram, statistics.cross
    step = 1 / torch.linalg.matrix_norm(gram, 2).clamp_min(1e-30)
    w = torch.zeros_like(cross)
    ahead, momentum = w, 1.0
    checked = squared_error(w, statistics)
    for iteration in range(1, max_iterations + 1):
        gradient = ahead @ gram - cross
        new = (ahead - step * gradient).clamp_min(0)
        if (gradient * (new - w)).sum() > 0:
            momentum = 1.0
        faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / faster * (new - w)
        w, momentum = new, faster
        if iteration % 100 == 0:
            error = squared_error(w, statistics)
            if checked - error < tolerance:
                break
            checked = error
    return w


@dataclass(frozen=True)
class LayerFits:
    """All dictionaries of one layer, fitted on training clips.

    Attributes
    ----------
    scale : tensor, shape (atoms,), factor on every row of H.
    traces : model name to Trace.
    optimum : tensor, shape (freq, atoms), the exact solution.
    """

    scale: torch.Tensor
    traces: dict[str, Trace]
    optimum: torch.Tensor

    def dictionaries(self) -> dict[str, torch.Tensor]:
        """Return W of each model and the optimum, name to (freq, atoms)."""
        found = {name: trace.model.dictionary().detach() for name, trace in self.traces.items()}
        return found | {"optimum": self.optimum}

    def errors(self, statistics: Statistics) -> dict[str, float]:
        """Return each dictionary's relative error on clips of which these are the statistics."""
        scaled = statistics.scaled(self.scale)
        return {name: relative_error(w, scaled) for name, w in self.dictionaries().items()}


def fit_layer(
    statistics: Statistics,
    settings: config.Dictionaries,
    seed: int,
    models: Sequence[type[Dictionary]] = MODELS,
) -> LayerFits:
    """Scale a layer's H, fit the constrained models and solve for the optimum."""
    scale = atom_scale(statistics)
    scaled = statistics.scaled(scale)
    traces = {}
    for model in models:
        generator = torch.Generator().manual_seed(seed)
        traces[model.__name__] = fit(model(scaled, generator), scaled, settings)
    return LayerFits(scale, traces, solve_exact(scaled))


def mean_spectrum_error(train: Statistics, held_out: Statistics) -> float:
    """Return the relative error on `held_out` of the training clips' mean spectrum, unscaled.

    The simplest thing that knows nothing of the network: one atom, always on.
    """
    mean = train.sum_v / train.n_frames
    fit = held_out.n_frames * mean.square().sum() - 2 * (mean * held_out.sum_v).sum()
    return float((1 + fit / held_out.energy).clamp_min(0).sqrt())


def sort_by_centre(w: np.ndarray) -> np.ndarray:
    """Return the order of the atoms by spectral centroid, (atoms,) indices, silent atoms last."""
    band = np.arange(len(w))[:, None]
    total = w.sum(axis=0)
    centroid = (band * w).sum(axis=0) / np.maximum(total, 1e-30)
    return np.argsort(np.where(total > 0, centroid, np.inf), kind="stable")


def centre_hz(w: np.ndarray, frequencies_hz: np.ndarray) -> np.ndarray:
    """Return each atom's spectral centroid in Hz, (atoms,), of (freq, atoms); NaN if silent."""
    total = w.sum(axis=0)
    centroid = frequencies_hz @ w / np.maximum(total, 1e-30)
    return np.where(total > 0, centroid, np.nan)


def group_scores(use: np.ndarray, group: np.ndarray) -> pd.DataFrame:
    """Score how much more each atom is used in a group of clips than in all others.

    Parameters
    ----------
    use : array, shape (clips, atoms), >= 0: an atom's use in a clip.
    group : array of names, shape (clips,); clips without a group (NaN) are left out.

    Returns
    -------
    DataFrame, a row per group, a column per atom: difference of means in units of the atom's
        standard deviation over all clips; 0 for an atom that never varies.
    """
    named = ~pd.isna(group)
    use, group = use[named], group[named]
    deviation = use.std(axis=0)
    rows = {}
    for name in np.unique(group.astype(str)):
        inside = group == name
        difference = use[inside].mean(axis=0) - use[~inside].mean(axis=0)
        rows[name] = np.where(deviation > 0, difference / np.maximum(deviation, 1e-30), 0.0)
    return pd.DataFrame.from_dict(rows, orient="index")
