"""Dictionaries over hidden layers.

A clip's spectrogram is shared out among atoms, W H; each atom is asked, frame by frame, whether it
speaks for the class; those that do make a soft mask, and the mask makes a sound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import nn

from esc_lib.config import Dictionaries, Profile
from esc_lib.data.clips import Data
from esc_lib.dictionaries.fitting import fit_layer
from esc_lib.dictionaries.gather import Gathered, gather_once
from esc_lib.dictionaries.models import MODELS
from esc_lib.dictionaries.solvers import solve_divergence
from esc_lib.dictionaries.statistics import Statistics, atom_scale
from esc_lib.explain.masks import share, stretch
from esc_lib.machine.files import made_once
from esc_lib.machine.fingerprint import fingerprint
from esc_lib.models.se_cnn import BLOCKS
from esc_lib.sound.log_mel import LogMel

KL = "Kullback-Leibler"


@dataclass(frozen=True)
class Choice:
    """How components explain; the defaults were found on validation clips (notebook 08)."""

    blocks: tuple[str, ...] = BLOCKS  # layers whose masks are averaged
    dictionary: str = "MelBasisTransform"  # a model's name, "optimum" (squared error) or `KL`
    # "bands" (the sound's gradient, shared out among atoms), "channels" (gradient times
    # activation) or "both", each on one level, added
    relevance: str = "both"
    exponent: float = 0.7  # below 1 softens the mask
    # The least share of the magnitude kept anywhere, 8 dB down: the front end standardises each
    # clip, so a hole that is silent moves all the rest.
    floor: float = 0.4


@dataclass(frozen=True)
class Components:
    """A dictionary over one layer."""

    layer: str
    w: torch.Tensor  # float32, (mel, atoms), >= 0
    scale: torch.Tensor  # float32, (atoms,), factor on every row of the layer's H

    def to(self, device: torch.device | str) -> Self:
        """Return the same on `device`."""
        return Components(self.layer, self.w.to(device), self.scale.to(device))

    def level(self, h: torch.Tensor) -> torch.Tensor:
        """Bring the rows of a layer's H, (batch, atoms, frames), to the level of W."""
        return h * self.scale[:, None]

    def mask(self, h: torch.Tensor, keep: torch.Tensor, n_frames: int) -> torch.Tensor:
        """Return the kept atoms' share of each band and frame, (batch, mel, n_frames)."""
        return stretch(share(self.w, self.level(h), keep), n_frames)


Fitted = dict[tuple[str, str], Components]  # (block, dictionary) to components


def fit_divergence(train: Gathered, layer: str) -> Components:
    """Fit W to the training clips by Kullback-Leibler divergence.

    The squared error hardly sees bands 20 dB below a clip's peak, and the network, which sees
    decibels, does: a share has to be right where the sound is faint too.

    References
    ----------
    fevotte2011algorithms, section 4.
    """
    scale = atom_scale(train.statistics[layer]).float()
    w = solve_divergence(train.mel, train.h[layer], beta=1, scale=scale)
    return Components(layer, w, scale)


def fit_squared(
    statistics: Statistics, layer: str, settings: Dictionaries, seed: int, **options
) -> Fitted:
    """Fit dictionaries by squared error; options of ``fit_layer`` leave some of them out."""
    fitted = fit_layer(statistics, settings, seed, **options)
    return {
        (layer, name): Components(layer, w.float(), fitted.scale.float())
        for name, w in fitted.dictionaries().items()
    }


def fit(
    path: Path,
    model: nn.Module,
    front_end: LogMel,
    data: Data,
    profile: Profile,
    compared: Sequence[str] = (),
) -> Fitted:
    """Read the blocks' H on training clips and fit dictionaries, or open what was found before.

    Every block gets the dictionary of our ``Choice``, and that of least divergence; H is kept at
    `path`, they beside it. Blocks in `compared` get the others of least squared error, too: these
    are quick to fit, and are not kept.
    """
    train = gather_once(path, model, front_end, data, data.split.train, BLOCKS, keep=BLOCKS)
    own, seed = profile.dictionaries, profile.training.seed
    chosen = [one for one in MODELS if one.__name__ == Choice.dictionary]

    def make() -> dict:
        found: Fitted = {}
        for block in BLOCKS:
            found[block, KL] = fit_divergence(train, block)
            sums = train.statistics[block]
            found |= fit_squared(sums, block, own, seed, models=chosen, solve=False)
        return {"fitted": {key: vars(one) for key, one in found.items()}}

    sums = [vars(of_block) for of_block in train.statistics.values()]
    identity = fingerprint(own, seed, sums, code=__file__)
    kept = made_once(path.with_name("dictionaries.pt"), identity, make)
    fitted = {key: Components(**one) for key, one in kept["fitted"].items()}
    for block in compared:
        fitted |= fit_squared(train.statistics[block], block, own, seed)
    device = next(model.parameters()).device
    return {key: one.to(device) for key, one in fitted.items()}


def open_dictionaries(path: Path) -> Fitted:
    """Open the dictionaries of least squared error that notebook 05 fitted to every block."""
    with np.load(path) as saved:
        return {
            (layer, name): Components(
                layer,
                torch.from_numpy(saved[f"{layer}/{name}"]).float(),
                torch.from_numpy(saved[f"{layer}/scale"]).float(),
            )
            for layer, name in (key.split("/") for key in saved.files)
            if name != "scale"
        }
