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
    if profile.architecture == "se_cnn":
        return SECNN(n_classes, profile.network)
    if profile.architecture not in PEERS:
        known = ", ".join(("se_cnn", *PEERS))
        raise ValueError(
            f"build: architecture={profile.architecture!r} is unknown; choose one of {known}."
        )
    return PEERS[profile.architecture](n_classes)
