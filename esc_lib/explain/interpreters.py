"""Rivals that are trained: a module beside a frozen network, on what its hidden layers show.

Every second batch is mixed as the clips are that it will be judged on. The last step's weights are
kept: nothing is chosen on the way.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from esc_lib.data.clips import Data
from esc_lib.explain.conditions import BATCH, CONDITIONS, Inputs, take
from esc_lib.layers.hooks import record
from esc_lib.machine.files import made_once
from esc_lib.machine.hardware import autocast
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import loop


@dataclass(frozen=True)
class Network:
    """A network that is explained, with the layers that a rival reads."""

    model: nn.Module  # in evaluation mode, on the device of the front end
    front_end: LogMel
    layers: tuple[str, ...]

    @torch.no_grad()
    def hear(self, features: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return logits, float32, and the layers' activation maps, of (batch, 1, mel, frames)."""
        with record(self.model, self.layers) as maps, autocast(features.device):
            logits = self.model(features)
        return logits.float(), [maps[layer].float() for layer in self.layers]

    def shapes(self) -> list[torch.Size]:
        """Return the shape of each layer's maps of one clip, (channels, mel, frames)."""
        settings = self.front_end.settings
        device = self.front_end.mel_basis.device
        nothing = torch.zeros(1, 1, settings.n_mels, settings.n_frames, device=device)
        return [maps.shape[1:] for maps in self.hear(nothing)[1]]


Loss = Callable[[nn.Module, Network, Inputs], torch.Tensor]  # of a batch of sounds, (batch,)


@dataclass(frozen=True)
class Trained:
    """A trained module, and how it got there."""

    module: nn.Module  # in evaluation mode
    history: pd.DataFrame  # epoch, train_loss, validation_loss, seconds


def train_once(
    path: Path,
    identity: str,
    make: Callable[[], nn.Module],
    loss: Loss,
    network: Network,
    data: Data,
    steps: int,
    learning_rate: float,
) -> Trained:
    """Train the module that `make` returns on the training clips, or open what was kept at `path`.

    Parameters
    ----------
    identity : says what decides the result, see ``files.made_once``.
    steps : of 16 clips each, however many training clips there are; whole epochs are done.
    learning_rate : the highest of the schedule's.
    """

    def train() -> dict:
        task = _Interpreter(make, loss, network, data, steps, learning_rate)
        with _frozen(network.model):
            history = loop.train(task, task.epochs)
        return {"weights": task.module.state_dict(), "history": history}

    kept = made_once(path, identity, train)
    module = make()
    module.load_state_dict(kept["weights"])
    device = network.front_end.mel_basis.device
    return Trained(module.eval().to(device), pd.DataFrame(kept["history"]))


class _Interpreter(loop.Task):
    """A module in training; the network beside it stays as it is."""

    name = "epoch"

    def __init__(self, make, loss: Loss, network: Network, data: Data, steps, learning_rate):
        self.loss, self.network, self.data = loss, network, data
        self.fabric = loop.make_fabric()
        self.n_steps = max(1, len(data.split.train) // BATCH)
        self.epochs = -(-steps // self.n_steps)
        self.module = make()
        optimizer = torch.optim.AdamW(self.module.parameters(), learning_rate)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, learning_rate, total_steps=self.epochs * self.n_steps
        )
        self.wrapped, self.optimizer = self.fabric.setup(self.module, optimizer)

    def parts(self) -> dict:
        """Return what the rest of the training depends on."""
        return {"module": self.module, "optimizer": self.optimizer, "schedule": self.schedule}

    def begin(self, epoch: int) -> None:
        """Shuffle the training clips."""
        self.rows = np.random.default_rng(epoch).permutation(self.data.split.train)
        self.wrapped.train()

    def step(self, epoch: int, step: int) -> tuple[float, dict[str, float]]:
        """Follow the gradient of some clips, clean and mixed by turns, and return the mean loss."""
        rows = self.rows[step * BATCH : (step + 1) * BATCH]
        loss = self._loss(rows, CONDITIONS[step % 2]).mean()
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.optimizer.step()
        self.schedule.step()
        return len(rows), {"train_loss": float(loss.detach())}

    @torch.no_grad()
    def end(self, history: list[dict], row: dict) -> dict:
        """Return the mean loss on validation clips, clean and mixed."""
        self.wrapped.eval()
        rows = self.data.split.validation
        parts = np.array_split(rows, -(-len(rows) // BATCH))
        found = [self._loss(part, condition) for condition in CONDITIONS[:2] for part in parts]
        return {"validation_loss": float(torch.cat(found).mean())}

    def _loss(self, rows: np.ndarray, condition: str) -> torch.Tensor:
        sr = self.network.front_end.settings.sr
        inputs = take(self.data, rows, condition, sr, self.fabric.device)
        return self.loss(self.wrapped, self.network, inputs)


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Let gradients go through a network, and none of its weights have one."""
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, want in zip(model.parameters(), wanted, strict=True):
            parameter.requires_grad_(want)
