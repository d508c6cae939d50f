"""Steps of training whose history has a row every so many; classifiers trained by them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from esc_lib.companions.crossmodal.pairs import Pictures
from esc_lib.machine.hardware import best_device
from esc_lib.training import loop


class Chance:
    """All that is random in a training; its state can be kept, as that of a network.

    Batches are drawn from `n` rows; a last one that is not full is left out. numpy's Generator
    `rng` is a new one whenever all rows have had their turn; `noise` is torch's.

    Examples
    --------
    >>> chance = Chance(4, 2, [0])
    >>> [chance.rows(step).tolist() for step in (0, 1)]
    [[2, 0], [1, 3]]
    """

    def __init__(self, n: int, batch: int, seed: list[int]):
        self.n, self.batch, self.seed = n, min(batch, n), seed
        self.noise = torch.Generator(best_device()).manual_seed(seed[0])
        self._shuffle(0)

    def _shuffle(self, turn: int) -> None:
        self.turn, self.rng = turn, np.random.default_rng([*self.seed, turn])
        self.order = self.rng.permutation(self.n)

    def rows(self, step: int) -> np.ndarray:
        """Return the batch of a step, counted from 0; steps come one after another."""
        turn, place = divmod(step, self.n // self.batch)
        if turn != self.turn:
            self._shuffle(turn)
        return self.order[place * self.batch :][: self.batch]

    def state_dict(self) -> dict:
        rng = self.rng.bit_generator.state
        return {"turn": self.turn, "rng": rng, "noise": self.noise.get_state()}

    def load_state_dict(self, state: dict) -> None:
        self._shuffle(state["turn"])
        self.rng.bit_generator.state = state["rng"]
        self.noise.set_state(state["noise"])


class Steps(loop.Task):
    """`total` steps; the `every` of one row of the history are what the loop calls an epoch.

    `follow` takes a step, counted from 0, follows gradients and returns scalars by name. `own` are
    the networks and all else that the steps depend on, see ``loop.Task.parts``.
    """

    def __init__(self, name: str, follow: Callable[[int], dict], total: int, every: int, **own):
        self.name, self.follow, self.total, self.every = name, follow, total, every
        self.own, self.fabric = own, loop.make_fabric("32-true")

    def parts(self) -> dict:
        return self.own

    def begin(self, epoch: int) -> None:
        self.n_steps = min(self.every, self.total - (epoch - 1) * self.every)

    def step(self, epoch: int, step: int) -> tuple[int, dict[str, float]]:
        values = self.follow((epoch - 1) * self.every + step)
        return 1, {name: value.item() for name, value in values.items()}

    def run(self, path: Path | None = None) -> pd.DataFrame:
        """Do the steps that are not done yet, with the state in `path`, and return the history.

        Its columns are step, seconds (since the start), and means of what the steps returned. The
        last row may be of fewer steps. Networks are in evaluation mode afterwards.
        """
        own = self.own.items()
        networks = nn.ModuleDict({name: part for name, part in own if isinstance(part, nn.Module)})
        networks.train()
        history = pd.DataFrame(loop.train(self, -(-self.total // self.every), path))
        networks.eval()
        step = (history.pop("epoch") * self.every).clip(upper=self.total)
        return history.assign(step=step, seconds=history.seconds.cumsum())


def teach(
    network: nn.Module, logits: Callable, pictures: Pictures, change: Callable, chance: Chance,
    total: int, every: int, peak: float, weight_decay: float = 0.0, path: Path | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Teach a network to tell classes apart, at a rate that rises to `peak` and falls.

    Its `logits` map (batch, channels, 64, 64) in [-1, 1] to (batch, classes); `change` changes such
    a batch with the help of numpy's Generator. The history, see :class:`Steps`, has loss, accuracy.
    """
    device = best_device()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=total)

    def follow(step: int) -> dict[str, torch.Tensor]:
        rows = chance.rows(step)
        labels = pictures.labels[rows].to(device)
        found = logits(change(pictures.unit(rows).to(device), chance.rng))
        loss = nn.functional.cross_entropy(found, labels)
        descend(optimizer, loss)
        schedule.step()
        return {"loss": loss, "accuracy": (found.argmax(1) == labels).float().mean()}

    own = {"network": network, "optimizer": optimizer, "schedule": schedule, "chance": chance}
    return Steps(type(network).__name__.lower(), follow, total, every, **own).run(path)


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """Follow the loss's gradient once."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
