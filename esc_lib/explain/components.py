"""Dictionaries over hidden layers.

A clip's spectrogram is shared out among atoms, W H; each atom is asked, frame by frame, whether it
speaks for the class; those that do make a soft mask, and the mask makes a sound.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import nn

from esc_lib.config import Profile
from esc_lib.data.clips import Data
from esc_lib.dictionaries.fitting import fit_layer
from esc_lib.dictionaries.gather import gather_once
from esc_lib.dictionaries.models import MODELS
from esc_lib.explain.masks import share, stretch
from esc_lib.explain.relevance import of_atoms
from esc_lib.layers.hooks import frames_per_step, pool_frames
from esc_lib.machine.files import made_once
from esc_lib.machine.fingerprint import fingerprint
from esc_lib.models.se_cnn import BLOCKS
from esc_lib.sound.log_mel import LogMel


@dataclass(frozen=True)
class Choice:
    """How components explain; the defaults were found on validation clips (notebook 08)."""

    blocks: tuple[str, ...] = BLOCKS  # layers whose masks are averaged
    dictionary: str = "MelBasisTransform"  # a model's name, or "optimum"
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
        return self.stretched(share(self.w, self.level(h), keep), n_frames)

    def relevance(self, bands: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        """Share the relevance of bands, (batch, mel, frames), out among the atoms of H."""
        return of_atoms(self.summed(bands, h.shape[-1]), self.w, self.level(h))

    @staticmethod
    def summed(bands: torch.Tensor, n_frames: int) -> torch.Tensor:
        """Sum (batch, mel, frames) over what each of a layer's frames stands for."""
        return frames_per_step(bands.shape[-1], n_frames) * pool_frames(bands, n_frames)

    @staticmethod
    def stretched(values: torch.Tensor, n_frames: int) -> torch.Tensor:
        """Bring (batch, mel, frames of the layer) to the front end's frames."""
        return stretch(values, n_frames)


Fitted = dict[tuple[str, str], Components]  # (block, dictionary) to components


def fit(
    path: Path, model: nn.Module, front_end: LogMel, data: Data, profile: Profile
) -> Fitted:
    """Fit the dictionary of our ``Choice`` to every block, or open what was found before at `path`.

    What it is fitted to, sums over the training clips, is kept beside it.
    """
    blocks = path.with_name(f"sums_{path.name}")
    sums = gather_once(blocks, model, front_end, data, data.split.train, BLOCKS).statistics
    own, seed = profile.dictionaries, profile.training.seed
    chosen = [one for one in MODELS if one.__name__ == Choice.dictionary]

    def make() -> dict:
        fitted = {}
        for block in BLOCKS:
            found = fit_layer(sums[block], own, seed, chosen, solve=False)
            scale = found.scale.float()
            for name, w in found.dictionaries().items():
                fitted[block, name] = vars(Components(block, w.float(), scale))
        return {"fitted": fitted}

    identity = fingerprint(own, seed, [vars(one) for one in sums.values()], code=__file__)
    device = next(model.parameters()).device
    kept = made_once(path, identity, make)["fitted"]
    return {key: Components(**one).to(device) for key, one in kept.items()}


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
