"""One loop for everything that trains: resumable, measured, with a progress bar.

A task brings a network and a step. Its steps must follow from (seed, epoch, step) and from what it
names in ``parts``: then a run that is stopped anywhere and started again goes the same way as one
that was not, and processes need not talk about chance.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm import tqdm

from esc_lib.machine.files import write_atomically
from esc_lib.machine.hardware import best_precision, keep_freed_memory
from esc_lib.machine.reading import must_hold, read_tensors, refuse

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SAVE_INTERVAL_S = 60.0  # a run that is killed loses at most about this much work


class Task(ABC):
    """What is trained."""

    name = "training"  # of the progress bar
    fabric: Fabric
    n_steps: int  # of an epoch
    # parts that are kept after the last epoch; none named: all, so that a run can be made longer
    result: tuple[str, ...] = ()

    @abstractmethod
    def parts(self) -> dict:
        """Return all that the rest of the run depends on: name to what has a ``state_dict``."""

    def begin(self, epoch: int) -> None:  # noqa: B027
        """Prepare an epoch, counted from 1, before its first step or before going on within it."""

    @abstractmethod
    def step(self, epoch: int, step: int) -> tuple[float, dict[str, float]]:
        """Follow a gradient; return a weight, and values whose weighted means stand in the history.

        A value called ``train_loss``, or with that ending, has to be finite.
        """

    def end(self, history: list[dict], row: dict) -> dict:
        """Measure after an epoch; return what is added to its row."""
        return {}

    def stalled(self, history: list[dict]) -> bool:
        """Say whether to stop before the last epoch."""
        return False


def make_fabric(precision: str | None = None) -> Fabric:
    """Return Fabric on one accelerator of this machine, or on its CPU.

    Under ``fabric run`` the devices, machines and strategy are those of its command line.
    """
    from lightning_fabric import Fabric  # takes a while to import

    precision = precision or best_precision()
    if os.environ.get("LT_CLI_USED"):
        return Fabric(precision=precision)
    return Fabric(accelerator="auto", devices=1, precision=precision)


def train(task: Task, epochs: int, path: Path | None = None) -> list[dict]:
    """Do the epochs that are not done yet, and return the history, a row per epoch.

    Parameters
    ----------
    path : file that holds the state, so that a run that was stopped goes on from it; None saves
        nothing.

    Raises
    ------
    FloatingPointError
        If a loss is not finite; the state saved last is kept.
    """
    keep_freed_memory()
    state = _State(task, path)
    while len(state.history) < epochs and not task.stalled(state.history):
        _train_epoch(task, state, epochs)
    return state.history


def _train_epoch(task: Task, state: _State, epochs: int) -> None:
    epoch = len(state.history) + 1
    state.enter(epoch)
    bar = tqdm(
        range(state.step, task.n_steps), f"{task.name} {epoch}/{epochs}", initial=state.step,
        total=task.n_steps, unit="batch", leave=False, disable=not task.fabric.is_global_zero,
    )  # fmt: skip
    started = time.perf_counter()
    for step in bar:
        weight, values = task.step(epoch, step)
        _must_be_finite(values, f"{task.name} {epoch}, step {step + 1}")
        state.add(weight, values)
        bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()}, refresh=False)
        now = time.perf_counter()
        state.seconds += now - started
        started = now
        if step + 1 < task.n_steps:
            state.save_if_due()
    row = {"epoch": epoch} | state.means()
    row |= task.end(state.history, row)
    row["seconds"] = state.seconds + time.perf_counter() - started
    state.history.append(row)
    state.clear()
    if epoch == epochs or task.stalled(state.history):
        state.save(last=True)
    else:
        state.save_if_due()


def _must_be_finite(values: dict[str, float], where: str) -> None:
    for name, value in values.items():
        if name.endswith("loss") and not np.isfinite(value):
            raise FloatingPointError(
                f"train: {name} is {value} at {where}; lower the learning rate or train in "
                "float32. The state saved last is kept."
            )


class _State:
    """What of a run is on disk: its parts, its history, and how far the epoch in progress is."""

    def __init__(self, task: Task, path: Path | None):
        self.task, self.path, self.saved_at = task, path, time.monotonic()
        self.history: list[dict] = []
        self.clear()
        self.found = None
        if path is not None and path.is_file():
            self.found = read_tensors(path, map_location="cpu")
            must_hold(path, self.found, history=list, progress=dict, parts=dict)
            self.history, progress = self.found["history"], self.found["progress"]
            must_hold(path, progress, step=int, seconds=float, sums=dict, weights=dict)
            self.step, self.seconds = progress["step"], progress["seconds"]
            self.sums, self.weights = progress["sums"], progress["weights"]
            self.restore()

    def kept(self, last: bool) -> dict:
        """Return the parts that a state holds, the last one or another."""
        every = self.task.parts()
        return {name: every[name] for name in (last and self.task.result) or every if name in every}

    def clear(self) -> None:
        """Forget the epoch that was in progress."""
        self.step, self.seconds = 0, 0.0
        self.sums: dict[str, float] = {}
        self.weights: dict[str, float] = {}

    def restore(self) -> None:
        """Give the parts the states that were found on disk."""
        for name, part in self.kept(self.found.get("last", False)).items():
            try:
                part.load_state_dict(self.found["parts"][name])
            except (LookupError, TypeError, ValueError, RuntimeError) as error:
                refuse(self.path, f"is no state of this training: {name} ({error})")

    def enter(self, epoch: int) -> None:
        """Begin an epoch, or go on within it: then what its beginning drew anew is put back."""
        self.task.begin(epoch)
        if self.found is not None and self.step:
            self.restore()
        self.found = None

    def add(self, weight: float, values: dict[str, float]) -> None:
        """Count a step."""
        self.step += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + weight * value
            self.weights[name] = self.weights.get(name, 0.0) + weight

    def means(self) -> dict[str, float]:
        """Return the weighted means of the epoch's steps."""
        return {name: total / self.weights[name] for name, total in self.sums.items()}

    def save_if_due(self) -> None:
        """Save if the last time is long ago by the clock of the first process."""
        if self.path is not None and self.task.fabric.broadcast(
            time.monotonic() - self.saved_at > SAVE_INTERVAL_S
        ):
            self.save()

    def save(self, last: bool = False) -> None:
        """Write the state, or what is kept of it at last, from one process: all or nothing."""
        if self.path is None:
            return
        if self.task.fabric.is_global_zero:
            parts = self.kept(last)
            progress = {"step": self.step, "seconds": self.seconds}
            state = {
                "parts": {name: part.state_dict() for name, part in parts.items()},
                "last": last,
                "history": self.history,
                "progress": progress | {"sums": self.sums, "weights": self.weights},
            }
            write_atomically(self.path, lambda scratch: torch.save(state, scratch))
        self.task.fabric.barrier()
        self.saved_at = time.monotonic()
