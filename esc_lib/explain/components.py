"""Explanation of one decision by the atoms of dictionaries over hidden layers.

A clip's spectrogram is shared out among atoms, W H; each atom is asked, frame by frame, whether it
speaks for the class; those that do make a soft mask, and the mask makes a sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from esc_lib import config
from esc_lib.dictionaries.fitting import fit_layer
from esc_lib.dictionaries.gather import Gathered
from esc_lib.dictionaries.models import MODELS, Dictionary
from esc_lib.dictionaries.solvers import solve_divergence
from esc_lib.dictionaries.statistics import Statistics, atom_scale
from esc_lib.explain import relevance
from esc_lib.explain.masks import share, stretch

KL = "Kullback-Leibler"


@dataclass(frozen=True)
class Components:
    """A dictionary over one layer, ready to share out a clip's spectrogram.

    Attributes
    ----------
    layer : str
    w : float32 tensor, shape (mel, atoms), >= 0.
    scale : float32 tensor, shape (atoms,), factor on every row of the layer's H.
    """

    layer: str
    w: torch.Tensor
    scale: torch.Tensor

    def to(self, device: torch.device | str) -> Components:
        """Return the same on `device`."""
        return Components(self.layer, self.w.to(device), self.scale.to(device))

    def level(self, h: torch.Tensor) -> torch.Tensor:
        """Bring the rows of a layer's H, (batch, atoms, frames), to the level of W."""
        return h * self.scale[:, None]

    def mask(self, h: torch.Tensor, keep: torch.Tensor, n_frames: int) -> torch.Tensor:
        """Return the kept atoms' share of each band and frame, (batch, mel, n_frames)."""
        return stretch(share(self.w, self.level(h), keep), n_frames)


def fit_divergence(train: Gathered, layer: str) -> Components:
    """Fit W to the training clips by Kullback-Leibler divergence.

    The squared error hardly sees bands 20 dB below a clip's peak, and the network, which sees
    decibels, does: a share has to be right where the sound is faint too.

    References
    ----------
    fevotte2011algorithms, section 4.
    """
    scale = atom_scale(train.statistics[layer]).float()
    w = solve_divergence(train.v(layer), train.h[layer] * scale[:, None], beta=1)
    return Components(layer, w, scale)


def fit_squared(
    statistics: Statistics,
    layer: str,
    settings: config.Dictionaries,
    seed: int,
    models: Sequence[type[Dictionary]] = MODELS,
    solve: bool = True,
) -> dict[str, Components]:
    """Fit constrained dictionaries and, if asked to, solve for the exact one, by squared error."""
    fitted = fit_layer(statistics, settings, seed, models, solve=solve)
    return {
        name: Components(layer, w.float(), fitted.scale.float())
        for name, w in fitted.dictionaries().items()
    }


def open_dictionaries(path: Path) -> dict[tuple[str, str], Components]:
    """Open the dictionaries of least squared error that notebook 05 fitted to every block."""
    with np.load(path) as saved:
        return {
            tuple(key.split("/")): Components(
                key.split("/")[0],
                torch.from_numpy(saved[key]).float(),
                torch.from_numpy(saved[key.split("/")[0] + "/scale"]).float(),
            )
            for key in saved.files
            if not key.endswith("/scale")
        }


@dataclass(frozen=True)
class Asked:
    """What one forward and two backward passes say about a batch of decisions.

    Attributes
    ----------
    bands : tensor, shape (batch, mel, frames), from :func:`relevance.of_bands`.
    h : layer to H, shape (batch, atoms, frames), of every block.
    channels : layer to gradient times activation, shape (batch, atoms, frames): of the gate
        behind a block where there is one, since its factor belongs to the channel's effect.
    """

    bands: torch.Tensor
    h: dict[str, torch.Tensor]
    channels: dict[str, torch.Tensor]


def ask(model, front_end, waveforms, n_valid, targets, blocks: tuple[str, ...]) -> Asked:
    """Read what the components of `blocks` need to explain the class `targets` of each clip."""
    behind = {
        block: f"se{int(block[-1]) - 1}" if f"se{int(block[-1]) - 1}" in dict(
            model.named_children()
        ) else block
        for block in blocks
    }  # fmt: skip
    features = front_end.features(waveforms, n_valid)
    layers = tuple(dict.fromkeys((*blocks, *behind.values())))
    channels, h = relevance.of_channels(model, layers, features, targets)
    return Asked(
        relevance.of_bands(model, front_end, waveforms, n_valid, targets),
        {block: h[block] for block in blocks},
        {block: channels[gate] for block, gate in behind.items()},
    )
