"""The sums over frames that a fit by squared error needs, and errors computed from them.

V is (freq, frames), H is (atoms, frames); H is given. With squared error the data enter the loss
through three statistics alone,

    ||V - W H||^2 = ||V||^2 - 2 <W, V H^T> + <W H H^T, W>,

so these are summed once over all clips, and fitting costs the same for ten clips or two thousand.

References
----------
Thesis, section 3.8.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch


@dataclass(frozen=True)
class Statistics:
    """Sums over the frames of clips, in float64; ``+`` joins those of other clips."""

    gram: torch.Tensor  # (atoms, atoms), H H^T
    cross: torch.Tensor  # (freq, atoms), V H^T
    energy: torch.Tensor  # scalar, ||V||^2
    sum_v: torch.Tensor  # (freq,)
    sum_h: torch.Tensor  # (atoms,)
    n_frames: int

    @classmethod
    def of(cls, v: torch.Tensor, h: torch.Tensor, signed: bool = False) -> Self:
        """Sum up clips: `v` (clips, freq, frames) and `h` (clips, atoms, frames).

        Raises
        ------
        ValueError : the two differ in clips or frames, or a value is not finite or, unless V and H
            are `signed`, negative.
        """
        if v.shape[0] != h.shape[0] or v.shape[2] != h.shape[2]:
            raise ValueError(
                f"Statistics.of: v {tuple(v.shape)} and h {tuple(h.shape)} differ in clips or "
                "frames; pool V to the layer's frames first."
            )
        for name, values in (("v", v), ("h", h)):
            if not (torch.isfinite(values).all() and (signed or (values >= 0).all())):
                raise ValueError(
                    f"Statistics.of: {name} holds negative or non-finite values; "
                    "take the magnitude, or the layer's output after its ReLU."
                )
        v, h = v.cpu().double(), h.cpu().double()
        return cls(
            gram=torch.einsum("bkt,bjt->kj", h, h),
            cross=torch.einsum("bft,bkt->fk", v, h),
            energy=v.square().sum(),
            sum_v=v.sum(dim=(0, 2)),
            sum_h=h.sum(dim=(0, 2)),
            n_frames=v.shape[0] * v.shape[2],
        )

    def __add__(self, other: Self) -> Self:
        return Statistics(**{name: one + vars(other)[name] for name, one in vars(self).items()})

    def scaled(self, scale: torch.Tensor) -> Self:
        """Return the statistics of H with every atom multiplied by `scale`, shape (atoms,)."""
        gram = self.gram * scale[:, None] * scale
        return replace(self, gram=gram, cross=self.cross * scale, sum_h=self.sum_h * scale)

    def about(self, v: torch.Tensor, h: torch.Tensor) -> Self:
        """Return the statistics of what V and H differ by from `v`, (freq,), and `h`, (atoms,)."""
        n, outer = self.n_frames, torch.outer
        return replace(
            self,
            gram=self.gram - outer(self.sum_h, h) - outer(h, self.sum_h) + n * outer(h, h),
            cross=self.cross - outer(self.sum_v, h) - outer(v, self.sum_h) + n * outer(v, h),
            energy=self.energy - 2 * self.sum_v @ v + n * v @ v,
            sum_v=self.sum_v - n * v,
            sum_h=self.sum_h - n * h,
        )

    def turned(self, basis: torch.Tensor) -> Self:
        """Return the statistics of H in another basis, (atoms, components)."""
        turned = basis.T @ self.gram @ basis
        return replace(self, gram=turned, cross=self.cross @ basis, sum_h=self.sum_h @ basis)


def atom_scale(statistics: Statistics) -> torch.Tensor:
    """Return the factor, (atoms,), that gives every atom of H the same root mean square.

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
