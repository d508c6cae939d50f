"""L-MAC: a decoder, trained on the network's own judgement, from hidden layers to a mask.

The mask is to keep what makes the network decide as it does, and to leave nothing of it behind.
The decoder explains decisions: it is not told which class is asked for.

Departures from the paper, which has another network: the decoder ends on the mel bands, and every
bin of the STFT takes the mean of the bands that hear it, as ``masks.cut_out`` does. The network
hears nothing finer than bands, so the loss is blind to it. Its fine-tuning stage, which makes masks
agreeable to listen to at a price in faithfulness, is left out.

References
----------
paissan2024lmac, equations 1 to 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

from esc_lib.data.clips import Data
from esc_lib.explain.conditions import BATCH, Inputs
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.interpreters import Network, train_once
from esc_lib.machine.fingerprint import fingerprint
from esc_lib.machine.hardware import autocast
from esc_lib.models.se_cnn import BLOCKS
from esc_lib.sound.grid import lift
from esc_lib.sound.log_mel import LogMel


@dataclass(frozen=True)
class Settings:
    """Found on validation clips of ESC-10."""

    layers: tuple[str, ...] = BLOCKS[1:]  # four, as in the paper
    width: int = 16  # channels of the decoder
    inside: float = 4.0  # weights: of the decision kept, of the decision removed, of the area
    outside: float = 0.2
    area: float = 0.4
    steps: int = 320
    learning_rate: float = 2e-3
    seed: int = 0


class Decoder(nn.Module):
    """From the deepest maps up: enlarged to the next layer's grid, and that layer's added.

    Examples
    --------
    >>> maps = [torch.rand(1, 8, 16, 20), torch.rand(1, 4, 32, 40)]
    >>> Decoder([8, 4], 6)(maps, (64, 80)).shape
    torch.Size([1, 64, 80])
    """

    def __init__(self, channels: Sequence[int], width: int):
        super().__init__()
        self.enter = nn.ModuleList(nn.Conv2d(n, width, 1) for n in channels)
        self.mix = nn.ModuleList(_convolved(width) for _ in channels)
        self.leave = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, maps: Sequence[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
        """Return masks in (0, 1), (batch, mel, frames) of this size; the deepest maps come first.

        Each layer's maps have the shape (batch, channels, mel, frames) on their own grid.
        """
        found = 0
        for own, enter, mix in zip(maps, self.enter, self.mix, strict=True):
            if torch.is_tensor(found):
                found = interpolate(found, own.shape[2:], mode="bilinear")
            found = mix(found + enter(own))
        return self.leave(interpolate(found, size, mode="bilinear"))[:, 0].float().sigmoid()


def _convolved(width: int) -> nn.Module:
    convolution = nn.Conv2d(width, width, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())


def objective(
    inside: torch.Tensor,
    outside: torch.Tensor,
    mask: torch.Tensor,
    targets: torch.Tensor,
    settings: Settings,
) -> torch.Tensor:
    """Return what the decoder minimises, (batch,).

    Parameters
    ----------
    inside, outside : logits of the sound kept and of the sound removed, (batch, classes).
    mask : (batch, mel, frames), in [0, 1].
    targets : the decisions explained, int, (batch,).

    Notes
    -----
    inside * CE(kept, decision) - outside * CE(removed, decision) + area * mean |mask|; CE is the
    cross-entropy of a softmax that is taken once.
    """
    kept = cross_entropy(inside, targets, reduction="none")
    removed = cross_entropy(outside, targets, reduction="none")
    return (
        settings.inside * kept
        - settings.outside * removed
        + settings.area * mask.abs().mean(dim=(1, 2))
    )


def masked_features(
    front_end: LogMel, power: torch.Tensor, mask: torch.Tensor, n_valid: torch.Tensor
) -> torch.Tensor:
    """Return what the network sees of a spectrum's power, (batch, bins, frames), behind a mask.

    The mask, (batch, mel, frames), multiplies the magnitude, as in ``masks.cut_out``; gradients go
    through it.
    """
    factors = lift(front_end.mel_basis) @ mask
    return front_end.features_of_power(front_end.mel_basis @ (power * factors.square()), n_valid)


def loss(decoder: nn.Module, network: Network, inputs: Inputs, settings: Settings) -> torch.Tensor:
    """Return the objective of some sounds, (batch,)."""
    front_end, n_valid = network.front_end, inputs.n_valid
    power = front_end.stft(inputs.waveforms).abs().square()
    seen = front_end.features_of_power(front_end.mel_basis @ power, n_valid)
    logits, maps = network.hear(seen)
    mask = decoder(maps, seen.shape[2:]).float()
    heard = [masked_features(front_end, power, part, n_valid) for part in (mask, 1 - mask)]
    with autocast(seen.device):
        inside, outside = network.model(torch.cat(heard)).float().chunk(2)
    return objective(inside, outside, mask, logits.argmax(dim=1), settings)


@dataclass(frozen=True)
class LMAC:
    """A trained decoder."""

    decoder: nn.Module
    layers: tuple[str, ...]
    history: pd.DataFrame

    @torch.no_grad()
    def masks(self, explainer: Explainer) -> torch.Tensor:
        """Return the masks of the explainer's decisions, (clips, mel, frames), in (0, 1).

        Whatever class is asked for, they are those of the decision.
        """
        network = Network(explainer.model, explainer.front_end, self.layers)
        features = explainer.features.split(BATCH)
        return torch.cat([self.decoder(network.hear(some)[1], some.shape[2:]) for some in features])


def fit(
    path: Path, model: nn.Module, front_end: LogMel, data: Data, settings: Settings = Settings()
) -> LMAC:
    """Train a decoder for a network on the training clips, or open what was kept at `path`."""
    layers = settings.layers[::-1]
    network = Network(model, front_end, layers)

    def make() -> Decoder:
        torch.manual_seed(settings.seed)
        return Decoder([shape[0] for shape in network.shapes()], settings.width)

    identity = fingerprint(settings, front_end.settings, model, data.clips, code=__file__)
    trained = train_once(
        path, identity, make, partial(loss, settings=settings), network, data,
        settings.steps, settings.learning_rate,
    )  # fmt: skip
    return LMAC(trained.module, layers, trained.history)
