"""Train a BAST: every epoch puts every excerpt somewhere else."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from esc_lib.companions.binaural.judging import angular_error_deg, azimuth_of
from esc_lib.companions.binaural.losses import LOSSES
from esc_lib.companions.binaural.network import BAST, BASTSettings
from esc_lib.companions.binaural.rendering import Excerpts, Renderer, draw_scenes, targets
from esc_lib.companions.binaural.rooms import Places
from esc_lib.companions.binaural.spectrograms import spectrograms
from esc_lib.machine.files import write_atomically
from esc_lib.machine.fingerprint import fingerprint
from esc_lib.machine.hardware import best_precision, keep_freed_memory
from esc_lib.training.loop import make_fabric


@dataclass(frozen=True)
class Recipe:
    """How a BAST is trained; the published recipe is 1e-4, constant, 20 epochs.

    Attributes
    ----------
    loss : "squared", "angular" or "hybrid".
    epochs, batch_size : int
    per_excerpt : int, scenes that an epoch makes of each excerpt.
    learning_rate : float, the highest of a one-cycle schedule.
    seats : numbers of the seats heard in training; others are for the test.
    seed : int
    """

    loss: str = "hybrid"
    epochs: int = 20
    batch_size: int = 48
    per_excerpt: int = 4
    learning_rate: float = 1e-3
    seats: tuple[int, ...] | None = None
    seed: int = 0

    def __post_init__(self):
        if self.loss not in LOSSES:
            raise ValueError(f"Recipe: loss={self.loss!r}, expected one of {', '.join(LOSSES)}.")


@dataclass
class Fit:
    """Outcome of a training run: the network on the CPU, and a row per epoch."""

    model: BAST
    history: pd.DataFrame


def fit(
    excerpts: Excerpts,
    places: Places,
    settings: BASTSettings,
    recipe: Recipe,
    folder: Path,
    precision: str | None = None,
) -> Fit:
    """Train on the excerpts of the part "train", or go on where an earlier call was stopped.

    The last epoch's weights are kept: nothing is chosen. Validation scenes, one per excerpt at the
    seats of the training, are the same in all epochs.

    Parameters
    ----------
    excerpts, places : as the notebook made them.
    settings : BASTSettings
    recipe : Recipe
    folder : Path; the state is kept there in a folder named after the settings, data and code.
    precision : Fabric's name; default: the fastest safe one of this machine.

    Returns
    -------
    Fit; the history has epoch, train_loss, validation_loss, validation_error_deg and seconds.

    Raises
    ------
    FloatingPointError
        If the loss is not finite.
    """
    keep_freed_memory()
    identity = run_identity(excerpts, places, settings, recipe, precision)
    state_file = folder / f"bast_{identity}" / "last.pt"
    fabric = make_fabric(precision)
    torch.manual_seed(recipe.seed)
    model = BAST(settings)
    renderer = Renderer(excerpts, places, fabric.device)
    n_train = int((excerpts.table.part == "train").sum()) * recipe.per_excerpt
    n_steps = -(-n_train // recipe.batch_size)
    optimizer = torch.optim.Adam(model.parameters(), recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.epochs * n_steps
    )
    history: list[dict] = []
    network, optimizer = fabric.setup(model, optimizer)
    if state_file.is_file():
        state = torch.load(state_file, weights_only=True, map_location="cpu")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        history = state["history"]
    validation = draw_scenes(excerpts, places, "validation", 1, recipe.seats, recipe.seed)
    for epoch in range(len(history), recipe.epochs):
        seed = int(np.random.SeedSequence([recipe.seed, epoch]).generate_state(1)[0])
        scenes = draw_scenes(excerpts, places, "train", recipe.per_excerpt, recipe.seats, seed)
        scenes = scenes.sample(frac=1, random_state=seed)
        torch.manual_seed(seed)  # dropout
        began = time.perf_counter()
        loss = _train_epoch(fabric, network, optimizer, schedule, renderer, scenes, recipe, epoch)
        points = estimate(model, renderer, validation)
        error = angular_error_deg(azimuth_of(points.numpy()), validation.azimuth_deg)
        history.append(
            {
                "epoch": epoch + 1,
                "train_loss": loss,
                "validation_loss": float(LOSSES[recipe.loss](points, targets(validation))),
                "validation_error_deg": float(error.mean()),
                "seconds": time.perf_counter() - began,
            }
        )
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "history": history,
        }
        write_atomically(state_file, lambda scratch, state=state: torch.save(state, scratch))
    return Fit(model.cpu().eval(), pd.DataFrame(history))


def _train_epoch(fabric, network, optimizer, schedule, renderer, scenes, recipe, epoch) -> float:
    """Follow the gradient of every batch; return the mean loss."""
    network.train()
    total, size = 0.0, recipe.batch_size
    bar = tqdm(
        range(0, len(scenes), size), f"epoch {epoch + 1}/{recipe.epochs}", unit="batch", leave=False
    )
    for start in bar:
        batch = scenes.iloc[start : start + size]
        points = network(spectrograms(renderer(batch))).float()
        loss = LOSSES[recipe.loss](points, targets(batch).to(points.device))
        value = float(loss.detach())
        if not np.isfinite(value):
            raise FloatingPointError(
                f"fit: the loss of epoch {epoch + 1} is {value}; lower the learning rate. "
                "The state of the epoch before is kept."
            )
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        schedule.step()
        total += value * len(batch)
        bar.set_postfix(loss=f"{value:.3f}", refresh=False)
    return total / len(scenes)


def run_identity(
    excerpts: Excerpts,
    places: Places,
    settings: BASTSettings,
    recipe: Recipe,
    precision: str | None = None,
) -> str:
    """Return a short hash of everything that decides a run."""
    return fingerprint(
        (settings, recipe, precision or best_precision()),
        (excerpts.table, excerpts.waveforms),
        (places.table, places.responses),
        code=__file__,
    )


@torch.no_grad()
def estimate(
    model: BAST, renderer: Renderer, scenes: pd.DataFrame, batch_size: int = 64
) -> torch.Tensor:
    """Return where the network hears the scenes, (scenes, 2), float32, on the CPU."""
    model.eval()
    device = next(model.parameters()).device
    points = [
        model(spectrograms(heard.to(device))).float().cpu()
        for heard in renderer.batches(scenes, batch_size)
    ]
    return torch.cat(points)
