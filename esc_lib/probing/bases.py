"""What a layer is read in: its channels, or the units of a sparse autoencoder over its frames.

A basis has ``codes``, which take H's place, and ``left``, what of H is left without some units.
"""

from dataclasses import dataclass

import torch

from esc_lib.config import Probing
from esc_lib.probing.sparse import Sparse, fit_sparse, random_basis

CHANNELS = "channels"


@dataclass(frozen=True)
class Channels:
    """The layer's own channels."""

    name: str = CHANNELS

    def codes(self, h: torch.Tensor) -> torch.Tensor:
        """Return H itself, (clips, channels, frames)."""
        return h

    def left(self, h: torch.Tensor, gone: torch.Tensor) -> torch.Tensor:
        """Return the share of H, (batch, channels, frames), that is left without some channels.

        Channels that go are bool, (batch, channels).
        """
        return (~gone[:, :, None]).float().expand(-1, -1, h.shape[2])


Basis = Channels | Sparse


def names_of(settings: Probing) -> list[str]:
    """Return the names of the bases: channels, sparse ones by width, as many random directions."""
    kinds = [f"{kind} {width}x" for width in settings.widths for kind in ("sparse", "random")]
    return [CHANNELS, *kinds]


def basis_of(name: str, h: torch.Tensor, settings: Probing, seed: int) -> Basis:
    """Return a basis by its name, fitted to H of training clips, (clips, channels, frames)."""
    if name == CHANNELS:
        return Channels()
    kind, width = name.removesuffix("x").split()
    units = int(width) * h.shape[1]
    if kind == "sparse":
        return fit_sparse(h, units, settings.active, settings.steps, seed)
    return random_basis(h, units, settings.active, torch.Generator().manual_seed(seed))
