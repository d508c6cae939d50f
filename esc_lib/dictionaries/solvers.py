"""How well V ~ W H: the sums that a fit needs, errors and divergences, and the best W >= 0.

V is (freq, frames), H is (atoms, frames), both non-negative; H is given. With squared error the
data enter the loss through three statistics alone,

    ||V - W H||^2 = ||V||^2 - 2 <W, V H^T> + <W H H^T, W>,

so these are summed once over all clips, and fitting costs the same for ten clips or two thousand.

References
----------
Thesis, section 3.8; lee1999learning; fevotte2011algorithms for the divergences.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.decomposition import MiniBatchNMF
from sklearn.exceptions import ConvergenceWarning

FLOOR = 1e-4  # divergences look no deeper than 80 dB below a clip's peak, as the front end does
FRAMES = 8192  # at most, for a factorisation that has to find H too


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

    @classmethod
    def of(cls, **sums) -> Statistics:
        """Return statistics made of sums that were kept, by their names."""
        other = cls(*sums["cross"].shape)
        vars(other).update(sums)
        return other

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

    def to(self, device: torch.device | str) -> Statistics:
        """Return the same sums in the memory of `device`, which has to know float64."""
        moved = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in vars(self).items()
        }
        return Statistics.of(**moved)

    def scaled(self, scale: torch.Tensor) -> Statistics:
        """Return the statistics of H with every atom multiplied by `scale`, shape (atoms,)."""
        other = Statistics(*self.cross.shape)
        other.gram = self.gram * scale[:, None] * scale
        other.cross = self.cross * scale
        other.sum_h = self.sum_h * scale
        other.energy, other.sum_v, other.n_frames = self.energy, self.sum_v, self.n_frames
        return other


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


def solve_exact(
    statistics: Statistics,
    *,
    tolerance: float = 1e-7,
    max_iterations: int = 20_000,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Return the W >= 0 of least squared error, shape (freq, atoms): the yardstick.

    Projected gradient with Nesterov's momentum, restarted when the momentum points uphill. The
    problem is convex. Iteration ends when the relative squared error has fallen by less than
    `tolerance` over a hundred iterations.

    References
    ----------
    beck2009fast; odonoghue2015adaptive for the restart.
    """
    statistics = statistics.to(device)
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
    return w.cpu()


def mean_spectrum_error(train: Statistics, held_out: Statistics) -> float:
    """Return the relative error on `held_out` of the training clips' mean spectrum, unscaled.

    The simplest thing that knows nothing of the network: one atom, always on.
    """
    mean = train.sum_v / train.n_frames
    fit = held_out.n_frames * mean.square().sum() - 2 * (mean * held_out.sum_v).sum()
    return float((1 + fit / held_out.energy).clamp_min(0).sqrt())


def divergence(v: torch.Tensor, estimate: torch.Tensor, beta: float) -> torch.Tensor:
    """Return the mean beta divergence of `estimate` from `v`, any equal shapes, values >= 0.

    Parameters
    ----------
    v, estimate : tensors; values below `FLOOR` count as `FLOOR`.
    beta : float; 2 is half the squared error, 1 Kullback-Leibler, 0 Itakura-Saito, which sees
        ratios only: a weak band counts as much as a strong one.

    Raises
    ------
    ValueError
        If beta is none of the three.

    References
    ----------
    fevotte2011algorithms, equation 1.
    """
    v, estimate = v.clamp_min(FLOOR), estimate.clamp_min(FLOOR)
    if beta == 2:
        return (v - estimate).square().mean() / 2
    if beta == 1:
        return (v * (v / estimate).log() - v + estimate).mean()
    if beta == 0:
        return (v / estimate - (v / estimate).log() - 1).mean()
    raise ValueError(f"divergence: beta={beta}, expected 2, 1 or 0.")


def solve_divergence(
    v: torch.Tensor, h: torch.Tensor, beta: float, *, n_iterations: int = 300
) -> torch.Tensor:
    """Return a W >= 0, (freq, atoms), of small beta divergence by multiplicative updates.

    No update makes the divergence larger. For beta 1 the problem is convex in W and the updates
    approach its optimum; for beta 0 it is not, and they approach a stationary point.

    Parameters
    ----------
    v, h : tensors, shapes (clips, freq, frames) and (clips, atoms, frames).
    beta : float, 2, 1 or 0.
    n_iterations : int

    References
    ----------
    fevotte2011algorithms, section 4 (majorisation-minimisation).
    """
    v, h = v.clamp_min(FLOOR).transpose(0, 1).flatten(1), h.transpose(0, 1).flatten(1)
    power = 1 / (2 - beta) if beta < 1 else 1.0
    w = torch.full((len(v), len(h)), float(v.mean() / h.sum(dim=0).mean()), dtype=v.dtype)
    for _ in range(n_iterations):
        estimate = (w @ h).clamp_min(FLOOR)
        wanted = (v * estimate.pow(beta - 2)) @ h.T
        present = estimate.pow(beta - 1) @ h.T
        w = w * (wanted / present.clamp_min(1e-30)).pow(power)
    return w


def clip_squares(
    w: torch.Tensor, v: torch.Tensor, h: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Return ||V - W H||^2 and ||V||^2 of every clip, each of shape (clips,).

    Parameters
    ----------
    w, v, h : tensors, shapes (freq, atoms), (clips, freq, frames), (clips, atoms, frames).
    """
    w = w.to(h.dtype)
    missed = [float((one - w @ active).square().sum()) for one, active in zip(v, h, strict=True)]
    return np.array(missed), v.double().square().sum(dim=(1, 2)).numpy()


def free_factorization(v: torch.Tensor, held_out: torch.Tensor, n_atoms: int, seed: int) -> float:
    """Return the relative error on held-out clips of a W that chose its own H.

    W is learned from `v` by non-negative matrix factorisation; on held-out clips W stays and H is
    solved for; of many frames, `FRAMES` are drawn. As many atoms as there are bands, or more, can
    be one atom per band: no error.

    Parameters
    ----------
    v, held_out : tensors, shape (clips, freq, frames).
    n_atoms, seed : int

    References
    ----------
    lefevre2011online, as scikit-learn's MiniBatchNMF.
    """
    if n_atoms >= v.shape[1]:
        return 0.0
    rng = np.random.default_rng(seed)
    frames, others = (
        rng.permutation(each.transpose(1, 2).flatten(0, 1).double().numpy())[:FRAMES]
        for each in (v, held_out)
    )
    nmf = MiniBatchNMF(n_atoms, batch_size=1024, max_iter=20, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its last digits are not needed
        rebuilt = nmf.fit(frames).transform(others) @ nmf.components_
    return float(np.linalg.norm(others - rebuilt) / np.linalg.norm(others))
