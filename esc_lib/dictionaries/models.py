"""Three constrained dictionaries W for V ~ W H with H read from the network.

W is (freq, atoms) and non-negative whatever its parameters are. The yardstick, the best W that a
given H allows, is ``solvers.solve_exact``.

References
----------
Thesis, section 3.8 and appendix A.2.
"""

import torch
from torch import nn
from torch.nn.functional import softplus

from esc_lib.dictionaries.statistics import Statistics


class Dictionary(nn.Module):
    """A constrained W; variants define :meth:`dictionary`, float64 throughout."""

    def dictionary(self) -> torch.Tensor:
        """Return W >= 0, shape (freq, atoms)."""
        raise TypeError(f"{type(self).__name__} does not define a dictionary; use a variant.")


class LinearNoBiasSoftplus(Dictionary):
    """W = softplus(Theta), Theta from a Xavier-uniform start: free apart from its sign (A.2.1)."""

    def __init__(self, statistics: Statistics, generator: torch.Generator):
        super().__init__()
        theta = torch.empty(statistics.cross.shape, dtype=torch.float64)  # (freq, atoms)
        self.theta = nn.Parameter(nn.init.xavier_uniform_(theta, generator=generator))

    def dictionary(self) -> torch.Tensor:
        """Return W, shape (freq, atoms)."""
        return softplus(self.theta)


class MelConstrainedLinear(Dictionary):
    """Every atom is a triangle on the mel axis: learned centre, half-width and gain (A.2.2).

    The axis is counted in mel bands, -1 and `freq` being the edges of the filter bank. Sigmoids
    keep each triangle between the edges; half-widths of at least one band keep it from falling
    between two bands. Centres start at the band where the atom's channel is most active compared
    with the average over all frames. The thesis names centre and bandwidth; the gain is ours, since
    without it the level of V could not be met.
    """

    def __init__(self, statistics: Statistics, generator: torch.Generator):
        super().__init__()
        self.n_freq, n_atoms = statistics.cross.shape
        self.widest = (self.n_freq + 1) / 2
        start = min(4.0, 1 + (self.widest - 1) / 4)  # strictly between the limits on any axis
        width = torch.full((n_atoms,), start, dtype=torch.float64)
        self.width_logit = nn.Parameter(torch.logit((width - 1) / (self.widest - 1)))
        expected = statistics.sum_v[:, None] * statistics.sum_h / statistics.n_frames
        peak = (statistics.cross / expected.clamp_min(1e-30)).argmax(dim=0).double()  # (atoms,)
        place = (peak - (width - 1)) / (self.n_freq + 1 - 2 * width)  # 0 to 1 between the edges
        self.centre_logit = nn.Parameter(torch.logit(place.clamp(0.02, 0.98)))
        self.gain_logit = _near_zero(n_atoms, generator)

    def half_width(self) -> torch.Tensor:
        """Return half-widths in mel bands, shape (atoms,), in [1, (freq + 1) / 2]."""
        return 1 + (self.widest - 1) * torch.sigmoid(self.width_logit)

    def centre(self) -> torch.Tensor:
        """Return centres in mel bands, shape (atoms,); the triangle's feet lie in [-1, freq]."""
        width = self.half_width()
        return width - 1 + (self.n_freq + 1 - 2 * width) * torch.sigmoid(self.centre_logit)

    def dictionary(self) -> torch.Tensor:
        """Return W, shape (freq, atoms)."""
        band = torch.arange(self.n_freq, dtype=torch.float64)[:, None]  # (freq, 1)
        triangle = (1 - (band - self.centre()).abs() / self.half_width()).clamp_min(0)
        return softplus(self.gain_logit) * triangle  # (atoms,) * (freq, atoms)


class MelBasisTransform(Dictionary):
    """Fixed Gaussians spread evenly over the mel axis; one scale per atom is learned (A.2.3).

    Atom k sits at the k-th position of the axis whatever its channel responds to, as in the
    thesis: the network did not order its channels by frequency, so this is the price of a basis
    that is fixed beforehand.
    """

    def __init__(self, statistics: Statistics, generator: torch.Generator):
        super().__init__()
        n_freq, n_atoms = statistics.cross.shape
        centre = torch.linspace(0, n_freq - 1, n_atoms, dtype=torch.float64)
        width = max(1.0, (n_freq - 1) / max(n_atoms - 1, 1))  # the spacing of the centres
        band = torch.arange(n_freq, dtype=torch.float64)[:, None]  # (freq, 1)
        self.register_buffer("basis", torch.exp(-0.5 * ((band - centre) / width) ** 2))
        self.scale_logit = _near_zero(n_atoms, generator)

    def dictionary(self) -> torch.Tensor:
        """Return W, shape (freq, atoms)."""
        return softplus(self.scale_logit) * self.basis  # (atoms,) * (freq, atoms)


def _near_zero(n_atoms: int, generator: torch.Generator) -> nn.Parameter:
    return nn.Parameter(0.1 * torch.rand(n_atoms, generator=generator, dtype=torch.float64))


MODELS = (LinearNoBiasSoftplus, MelConstrainedLinear, MelBasisTransform)
