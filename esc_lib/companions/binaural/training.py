"""Train a BAST: every epoch puts every excerpt somewhere else."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from esc_lib.companions.binaural.judging import angular_error_deg, azimuth_of
from esc_lib.companions.binaural.losses import LOSSES
from esc_lib.companions.binaural.network import BAST, estimate
from esc_lib.companions.binaural.rendering import Excerpts, Renderer, draw_scenes, targets
from esc_lib.companions.binaural.rooms import Places
from esc_lib.companions.binaural.settings import Settings
from esc_lib.companions.binaural.spectrograms import spectrograms
from esc_lib.machine.fingerprint import fingerprint
from esc_lib.machine.hardware import best_precision
from esc_lib.training import loop

DECIDE = (
    "width", "layers", "heads", "head_width", "hidden", "patch", "stride", "dropout", "fusion",
    "shared", "loss", "epochs", "batch_size", "per_excerpt", "learning_rate", "seed", "seats",
)  # fmt: skip


@dataclass
class Fit:
    """A trained network on the CPU, and how it got there."""

    model: BAST
    history: pd.DataFrame  # epoch, train_loss, validation_loss, validation_error_deg, seconds


def fit(excerpts: Excerpts, places: Places, settings: Settings, folder: Path) -> Fit:
    """Train on the excerpts of the part "train", or go on where an earlier call was stopped.

    The last epoch's weights are kept: nothing is chosen. Validation scenes, one per excerpt at the
    seats of the training, are the same in all epochs. The state is kept in a folder of `folder`
    that is named after the settings, data and code. FloatingPointError if the loss is not finite.
    """
    task = _Localiser(excerpts, places, settings)
    path = folder / f"bast_{run_identity(excerpts, places, settings)}" / "last.pt"
    history = loop.train(task, settings.epochs, path)
    return Fit(task.model.cpu().eval(), pd.DataFrame(history))


def run_identity(excerpts: Excerpts, places: Places, settings: Settings) -> str:
    """Return a short hash of everything that decides a run."""
    return fingerprint(
        {name: getattr(settings, name) for name in DECIDE},
        _precision(),
        (excerpts.table, excerpts.waveforms),
        (places.table, places.responses),
        code=__file__,
    )


def _precision() -> str:
    """Return float32 on a processor: on so small matrices bfloat16 takes twice as long."""
    return best_precision() if torch.accelerator.is_available() else "32-true"


class _Localiser(loop.Task):
    """A BAST in training."""

    name = "epoch"
    result = ("model",)

    def __init__(self, excerpts: Excerpts, places: Places, settings: Settings):
        self.excerpts, self.places, self.settings = excerpts, places, settings
        self.fabric = loop.make_fabric(_precision())
        self.renderer = Renderer(excerpts, places, self.fabric.device)
        self.validation = self.draw("validation", 1, settings.seed)
        n_scenes = int((excerpts.table.part == "train").sum()) * settings.per_excerpt
        self.n_steps = -(-n_scenes // settings.batch_size)
        torch.manual_seed(settings.seed)
        self.model = BAST(settings)
        optimizer = torch.optim.Adam(self.model.parameters(), settings.learning_rate)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.learning_rate, total_steps=settings.epochs * self.n_steps
        )
        self.wrapped, self.optimizer = self.fabric.setup(self.model, optimizer)

    def draw(self, part: str, per_excerpt: int, seed: int) -> pd.DataFrame:
        """Draw scenes at the seats of the training."""
        seats = range(self.settings.seats)
        return draw_scenes(self.excerpts, self.places, part, per_excerpt, seats, seed)

    def parts(self) -> dict:
        """Return network, optimiser, schedule, scaler of gradients, and what dropout draws from."""
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "scaler": self.fabric.strategy.precision,
            "chance": _Chance(),
        }

    def begin(self, epoch: int) -> None:
        """Put every excerpt somewhere else, and seed dropout for the whole epoch."""
        seed = int(np.random.SeedSequence([self.settings.seed, epoch - 1]).generate_state(1)[0])
        scenes = self.draw("train", self.settings.per_excerpt, seed)
        self.scenes = scenes.sample(frac=1, random_state=seed)
        torch.manual_seed(seed)
        self.wrapped.train()

    def step(self, epoch: int, step: int) -> tuple[int, dict[str, float]]:
        """Follow the gradient of a batch of scenes and return its mean loss."""
        size = self.settings.batch_size
        batch = self.scenes.iloc[step * size : (step + 1) * size]
        points = self.wrapped(spectrograms(self.renderer(batch))).float()
        loss = LOSSES[self.settings.loss](points, targets(batch).to(points.device))
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.optimizer.step()
        self.schedule.step()
        return len(batch), {"train_loss": float(loss.detach())}

    def end(self, history: list[dict], row: dict) -> dict:
        """Return loss and error on the validation scenes."""
        scenes = self.validation
        points = estimate(self.model, map(spectrograms, self.renderer.batches(scenes)))
        error = angular_error_deg(azimuth_of(points.numpy()), scenes.azimuth_deg)
        return {
            "validation_loss": float(LOSSES[self.settings.loss](points, targets(scenes))),
            "validation_error_deg": float(error.mean()),
        }


class _Chance:
    """The state of torch's generators: dropout goes on within an epoch where it was."""

    def state_dict(self) -> dict:
        return {"cpu": torch.get_rng_state(), "gpu": torch.cuda.get_rng_state_all()}

    def load_state_dict(self, state: dict) -> None:
        torch.set_rng_state(state["cpu"])
        torch.cuda.set_rng_state_all(state["gpu"])
