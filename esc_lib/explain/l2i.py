"""L2I, "listen to interpret": atoms learnt beforehand, whose activations hidden layers foretell.

The thesis's mirror image: there H comes from the network and W is learnt. Here W is learnt from
training clips by NMF, a module reads H off hidden layers, and a linear layer over H, pooled in
time, says what the network will decide. An atom counts for a class with its share in that sum.

Departures from the paper, which has another network: spectra are on the mel bands, all that the
network hears; and the mask on the logarithm is put as factors of the magnitude, as
``masks.cut_out`` takes them.

References
----------
parekh2022listen, sections 3.1 to 3.3.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from esc_lib.data.clips import Data
from esc_lib.explain.conditions import BATCH, Inputs
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.interpreters import Network, train_once
from esc_lib.explain.masks import share, stretch
from esc_lib.layers.hooks import mel_magnitude
from esc_lib.machine.files import made_once
from esc_lib.machine.fingerprint import fingerprint
from esc_lib.models.se_cnn import BLOCKS
from esc_lib.sound.log_mel import LogMel


@dataclass(frozen=True)
class Settings:
    """Found on validation clips of ESC-10; layers, atoms and weights are the paper's."""

    layers: tuple[str, ...] = BLOCKS[2:]  # the last three, as in the paper
    atoms: int = 100
    sparsity: float = 0.01  # of the NMF's activations
    gain: float = 1000.0  # of a magnitude with peak 1, before log(1 + gain * magnitude)
    width: int = 64  # channels of the module
    reconstruction: float = 10.0  # weights of the loss beside the fidelity's
    activity: float = 0.8
    threshold: float = 0.2  # least relevance of a kept atom, as a share of the clip's highest
    steps: int = 480
    learning_rate: float = 2e-3
    seed: int = 0


def spectra(front_end: LogMel, waveforms: torch.Tensor, gain: float) -> torch.Tensor:
    """Return log(1 + gain * V), (batch, mel, frames): V is the mel magnitude with its peak at 1."""
    return torch.log1p(gain * mel_magnitude(front_end, waveforms))


def learn_dictionary(front_end: LogMel, data: Data, settings: Settings) -> torch.Tensor:
    """Return W, (mel, atoms), >= 0, columns of length 1: sparse NMF of the training clips."""
    from sklearn.decomposition import MiniBatchNMF  # takes a while to import

    device = front_end.mel_basis.device
    samples = [
        spectra(front_end, data.batch(rows, device)[0], settings.gain).transpose(1, 2).flatten(0, 1)
        for rows in np.array_split(data.split.train, -(-len(data.split.train) // BATCH))
    ]
    nmf = MiniBatchNMF(
        settings.atoms, batch_size=2048, max_iter=30, tol=0, max_no_improvement=None,
        alpha_W=settings.sparsity, alpha_H=0.0, l1_ratio=1.0, random_state=settings.seed,
    )  # fmt: skip
    w = torch.from_numpy(nmf.fit(torch.cat(samples).cpu().numpy()).components_.T).float()
    return (w / w.norm(dim=0).clamp_min(1e-12)).to(device)


class Reader(nn.Module):
    """From hidden layers to H, and from H, pooled in time by attention, to logits.

    Examples
    --------
    >>> maps = [torch.rand(2, 4, 16, 20), torch.rand(2, 8, 8, 10)]
    >>> h, pooled, logits = Reader([(4, 16), (8, 8)], n_atoms=6, n_classes=3, width=5)(maps, 40)
    >>> h.shape, pooled.shape, logits.shape
    (torch.Size([2, 6, 40]), torch.Size([2, 6]), torch.Size([2, 3]))
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], n_atoms: int, n_classes: int, width: int):
        super().__init__()
        self.enter = nn.ModuleList(_convolved(math.prod(shape), width, 1) for shape in shapes)
        self.mix = _convolved(width * len(shapes), width, 5)
        self.leave = nn.Conv1d(width, n_atoms, 5, padding=2)
        self.attention = nn.Conv1d(n_atoms, 1, 1)
        self.classes = nn.Linear(n_atoms, n_classes, bias=False)

    def forward(self, maps: Sequence[torch.Tensor], n_frames: int):
        """Return H, (batch, atoms, n_frames), >= 0, H pooled, and logits.

        Each layer's maps have the shape (batch, channels, mel, frames) on their own grid.
        """
        read = [
            stretch(enter(own.flatten(1, 2)).float(), n_frames)
            for own, enter in zip(maps, self.enter, strict=True)
        ]
        h = nn.functional.softplus(self.leave(self.mix(torch.cat(read, dim=1))))
        weight = self.attention(h).float().softmax(dim=2)
        pooled = (weight * h).sum(dim=2)
        return h.float(), pooled, self.classes(pooled).float()


def _convolved(n_in: int, n_out: int, frames: int) -> nn.Module:
    convolution = nn.Conv1d(n_in, n_out, frames, padding=frames // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm1d(n_out), nn.ReLU())


def objective(
    v: torch.Tensor,
    w: torch.Tensor,
    h: torch.Tensor,
    foretold: torch.Tensor,
    logits: torch.Tensor,
    settings: Settings,
) -> torch.Tensor:
    """Return what the reader minimises, (batch,).

    Parameters
    ----------
    v, w, h : spectra (batch, mel, frames), dictionary (mel, atoms), H (batch, atoms, frames).
    foretold, logits : the reader's and the network's, (batch, classes).

    Notes
    -----
    CE(network, foretold) + reconstruction * mean (V - W H)^2 + activity * mean H; the first is the
    cross-entropy of two distributions, not of a class.
    """
    fidelity = -(logits.softmax(dim=1) * foretold.log_softmax(dim=1)).sum(dim=1)
    error = (v - w @ h).square().mean(dim=(1, 2))
    return fidelity + settings.reconstruction * error + settings.activity * h.abs().mean(dim=(1, 2))


def loss(
    reader: nn.Module, network: Network, inputs: Inputs, w: torch.Tensor, settings: Settings
) -> torch.Tensor:
    """Return the objective of some sounds, (batch,)."""
    features = network.front_end.features(inputs.waveforms, inputs.n_valid)
    logits, maps = network.hear(features)
    h, _, foretold = reader(maps, features.shape[3])
    v = spectra(network.front_end, inputs.waveforms, settings.gain)
    return objective(v, w, h, foretold, logits, settings)


def relevance(pooled: torch.Tensor, weights: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return what each atom adds to its clip's class, (batch, atoms), its highest size at 1."""
    adds = pooled * weights[targets]
    return adds / adds.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)


@dataclass(frozen=True)
class L2I:
    """A trained reader and its dictionary."""

    reader: nn.Module
    w: torch.Tensor
    settings: Settings
    history: pd.DataFrame

    @torch.no_grad()
    def read(self, explainer: Explainer) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return H, (clips, atoms, frames), H pooled, (clips, atoms), and logits."""
        network = Network(explainer.model, explainer.front_end, self.settings.layers)
        features = explainer.features.split(BATCH)
        found = [self.reader(network.hear(some)[1], some.shape[3]) for some in features]
        return tuple(map(torch.cat, zip(*found)))

    def fidelity(self, explainer: Explainer) -> torch.Tensor:
        """Say of each clip whether the network's decision is foretold, bool (clips,)."""
        return self.read(explainer)[2].argmax(dim=1) == explainer.given.argmax(dim=1)

    @torch.no_grad()
    def masks(self, explainer: Explainer) -> torch.Tensor:
        """Return the masks of the classes explained, (clips, mel, frames), in [0, 1]."""
        h, pooled, _ = self.read(explainer)
        adds = relevance(pooled, self.reader.classes.weight, explainer.targets)
        keep = (adds > self.settings.threshold).float()[:, :, None]
        parts = torch.cat([share(self.w, *some) for some in zip(h.split(BATCH), keep.split(BATCH))])
        return self._of_magnitude(parts, explainer)

    def _of_magnitude(self, parts: torch.Tensor, explainer: Explainer) -> torch.Tensor:
        """Return the factors of the magnitude that a share of its logarithm comes to."""
        waveforms = explainer.inputs.waveforms.split(BATCH)
        v = torch.cat(
            [spectra(explainer.front_end, some, self.settings.gain) for some in waveforms]
        )
        return torch.where(v > 1e-6, torch.expm1(parts * v) / torch.expm1(v), parts)


def fit(
    path: Path, model: nn.Module, front_end: LogMel, data: Data, settings: Settings = Settings()
) -> L2I:
    """Learn a dictionary and a reader on the training clips, or open what was kept at `path`.

    The dictionary lies beside it.
    """
    network = Network(model, front_end, settings.layers)
    known = settings, front_end.settings, data.clips
    beside = path.with_stem(f"{path.stem}_dictionary")
    kept = made_once(
        beside, fingerprint(known, code=__file__),
        lambda: {"w": learn_dictionary(front_end, data, settings)},
    )  # fmt: skip
    w = kept["w"].to(front_end.mel_basis.device)

    def make() -> Reader:
        torch.manual_seed(settings.seed)
        shapes = [tuple(shape[:2]) for shape in network.shapes()]
        return Reader(shapes, settings.atoms, len(data.class_names), settings.width)

    identity = fingerprint(known, model, code=__file__)
    trained = train_once(
        path, identity, make, partial(loss, w=w, settings=settings), network, data,
        settings.steps, settings.learning_rate,
    )  # fmt: skip
    return L2I(trained.module, w, settings, trained.history)
