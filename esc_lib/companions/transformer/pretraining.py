"""Teach a spectrogram transformer without labels: hide patches, let it fill them in."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from esc_lib.companions.transformer.masked_patches import MaskedPatches, random_masks
from esc_lib.companions.transformer.network import SpectrogramAST
from esc_lib.machine.files import write_atomically
from esc_lib.machine.fingerprint import fingerprint
from esc_lib.machine.hardware import autocast, best_device


@dataclass(frozen=True)
class Pretraining:
    """How an encoder is taught without labels.

    Attributes
    ----------
    epochs, batch_size : int
    learning_rate, weight_decay : float, AdamW's; the rate rises and falls once.
    share : float, share of the patches that are hidden.
    cluster : int, odd: patches are hidden in squares of so many, as single ones of overlapping
        patches are guessed from their edges.
    crop_frames : int, frames of the excerpt drawn from each clip; 0 takes the whole clip.
    seed : int; order, excerpts, masks and dropout of an epoch follow from it and the epoch.
    """

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 5e-4
    weight_decay: float = 0.02
    share: float = 0.5
    cluster: int = 3
    crop_frames: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Pretrained:
    """Outcome of :func:`pretrain`.

    Attributes
    ----------
    model : MaskedPatches in evaluation mode on the CPU; ``model.network`` is what is fine-tuned.
    history : DataFrame, a row per epoch: epoch, train_loss, validation_loss (NaN without
        validation clips), seconds.
    """

    model: MaskedPatches
    history: pd.DataFrame


def pretrain(
    network: SpectrogramAST,
    features: torch.Tensor,
    settings: Pretraining,
    validation: torch.Tensor | None = None,
    folder: Path | None = None,
) -> Pretrained:
    """Teach a copy of the network to fill in hidden patches.

    Parameters
    ----------
    network : SpectrogramAST
    features : tensor, shape (clips, 1, mel, frames), standardised, no labels.
    settings : Pretraining
    validation : tensor like `features`, of clips that are only measured, always under the same
        masks.
    folder : Path; the state is saved there after every epoch, under a name that tells settings,
        clips and weights apart, and a run that was stopped goes on from it. None saves nothing.

    Raises
    ------
    FloatingPointError
        If the loss is not finite.
    """
    with torch.random.fork_rng():
        run = _Run(network, features, settings, folder)
        while len(run.rows) < settings.epochs:
            run.train_epoch(features, validation)
        run.bar.close()
    return Pretrained(run.model.cpu().eval(), pd.DataFrame(run.rows))


@torch.no_grad()
def held_out(model: MaskedPatches, features: torch.Tensor, settings: Pretraining) -> float:
    """Return the loss on clips that nothing is learned from, under masks of a seed of their own."""
    device = next(model.parameters()).device
    generator = _generator(settings.seed, 0)
    was_training = model.training
    model.eval()
    total = 0.0
    for part in features.split(settings.batch_size):
        batch = _excerpts(part, settings.crop_frames, generator).to(device)
        total += float(_loss(model, batch, settings, generator)) * len(part)
    model.train(was_training)
    return total / len(features)


class _Run:
    """A run in progress: everything that is saved, and what is needed to go on."""

    def __init__(self, network, features, settings: Pretraining, folder: Path | None):
        self.settings = settings
        torch.manual_seed(settings.seed)
        model = MaskedPatches(copy.deepcopy(network).requires_grad_(True))
        name = f"pretraining_{_identity(model, features, settings)}.pt"
        self.path = None if folder is None else Path(folder) / name
        self.model = model.to(best_device())
        self.n_steps = -(-len(features) // settings.batch_size)
        learning = [p for name, p in self.model.named_parameters() if ".classifier." not in name]
        self.optimizer = torch.optim.AdamW(
            learning, settings.learning_rate, weight_decay=settings.weight_decay
        )
        n_steps = settings.epochs * self.n_steps
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, settings.learning_rate, total_steps=n_steps, pct_start=0.15
        )
        self.rows: list[dict] = []
        if self.path is not None and self.path.is_file():
            self.load()
        self.bar = tqdm(
            total=n_steps, initial=len(self.rows) * self.n_steps, desc="pre-training",
            unit="batch", leave=False,
        )  # fmt: skip

    def train_epoch(self, features: torch.Tensor, validation: torch.Tensor | None) -> None:
        """Go through all clips once, measure, and save."""
        settings, epoch, started = self.settings, len(self.rows) + 1, time.perf_counter()
        generator = _generator(settings.seed, epoch)
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))  # dropout
        self.model.train()
        losses = []
        device = next(self.model.parameters()).device
        for chosen in torch.randperm(len(features), generator=generator).chunk(self.n_steps):
            batch = _excerpts(features[chosen], settings.crop_frames, generator).to(device)
            loss = _loss(self.model, batch, settings, generator)
            losses.append(float(loss.detach()))
            if not np.isfinite(losses[-1]):
                raise FloatingPointError(
                    f"pretrain: the loss of epoch {epoch} is {losses[-1]}; lower the learning rate."
                )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.bar.set_postfix(epoch=epoch, loss=f"{losses[-1]:.3f}", refresh=False)
            self.bar.update()
        self.rows.append(
            {
                "epoch": epoch,
                "train_loss": float(np.mean(losses)),
                "validation_loss": float("nan")
                if validation is None
                else held_out(self.model, validation, settings),
                "seconds": time.perf_counter() - started,
            }
        )
        if self.path is not None:
            self.save()

    def save(self) -> None:
        """Write the state, so that the next epoch can be gone on with."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rows": self.rows,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, lambda scratch: torch.save(state, scratch))

    def load(self) -> None:
        """Take up the state that :meth:`save` wrote last."""
        state = torch.load(self.path, weights_only=True, map_location="cpu")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.rows = state["rows"]


def _identity(model: MaskedPatches, features: torch.Tensor, settings: Pretraining) -> str:
    """Return a short hash of everything that decides a run."""
    return fingerprint(settings, model.network.config.to_dict(), features, model, code=__file__)


def _generator(seed: int, epoch: int) -> torch.Generator:
    """Return the chance of an epoch; the one of epoch 0 is for clips that are only measured."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1)[0]
    return torch.Generator().manual_seed(int(state))


def _loss(model, batch, settings: Pretraining, generator) -> torch.Tensor:
    masked = random_masks(
        len(batch), model.grid(batch), settings.share, settings.cluster, generator
    ).to(batch.device)
    with autocast(batch.device):
        return model.loss(batch, masked)


def _excerpts(features: torch.Tensor, n_frames: int, generator: torch.Generator) -> torch.Tensor:
    """Cut each clip, (batch, 1, mel, frames), to `n_frames` from a random place; 0: all of it."""
    spare = features.shape[3] - n_frames
    if n_frames == 0 or spare <= 0:
        return features.float()
    starts = torch.randint(spare + 1, (len(features),), generator=generator).tolist()
    pairs = zip(features, starts, strict=True)
    return torch.stack([clip[..., s : s + n_frames] for clip, s in pairs]).float()
