"""A profile's network, with fresh weights, and several as one."""

from collections.abc import Sequence

import torch
from torch import nn

from esc_lib.config import Profile
from esc_lib.models.peers import PEERS
from esc_lib.models.se_cnn import SECNN


def build(profile: Profile, n_classes: int) -> nn.Module:
    """Return the profile's network with fresh weights.

    Raises
    ------
    ValueError : its architecture is unknown.
    """
    networks = {"se_cnn": lambda n: SECNN(n, profile.network), **PEERS}
    if profile.architecture not in networks:
        raise ValueError(
            f"build: architecture={profile.architecture!r} is unknown; "
            f"choose one of {', '.join(networks)}."
        )
    return networks[profile.architecture](n_classes)

class Mean(nn.Module):
    """The mean of several networks' logits."""

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, 1, mel, frames) to logits, (batch, classes)."""
        return torch.stack([network(features) for network in self.networks]).mean(dim=0)
