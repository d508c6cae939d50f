"""A profile's network, with fresh weights."""

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
