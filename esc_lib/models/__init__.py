"""Networks: layers only, no training."""

from __future__ import annotations

from torch import nn

from esc_lib.config import Profile
from esc_lib.models.se_cnn import SECNN


def build(profile: Profile, n_classes: int) -> nn.Module:
    """Return the profile's network with fresh weights.

    Raises
    ------
    ValueError
        If its architecture is unknown.
    """
    if profile.architecture == "se_cnn":
        return SECNN(n_classes, profile.network)
    if profile.architecture.startswith(("ast_8x8", "ast_full")):
        from esc_lib.models.freezing import build_ast  # transformers takes seconds to import

        return build_ast(profile, n_classes)
    from esc_lib.models.peers import PEERS  # its transformer takes seconds to import

    if profile.architecture not in PEERS:
        known = ", ".join(("se_cnn", *PEERS, "ast_8x8", "ast_full"))
        raise ValueError(
            f"build: architecture={profile.architecture!r} is unknown; choose one of {known}."
        )
    return PEERS[profile.architecture](n_classes)
