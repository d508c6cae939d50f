"""Teach a spectrogram transformer without labels: hide patches, let it fill them in."""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from esc_lib.companions.transformer.masked_patches import MaskedPatches, random_masks
from esc_lib.companions.transformer.network import SpectrogramAST
from esc_lib.companions.transformer.settings import Settings
from esc_lib.machine.fingerprint import fingerprint
from esc_lib.machine.hardware import autocast
from esc_lib.training import loop


@dataclass(frozen=True)
class Pretrained:
    """Outcome of :func:`pretrain`."""

    model: MaskedPatches  # in evaluation mode, on the CPU; its network is what is fine-tuned
    history: pd.DataFrame  # a row per epoch: epoch, train_loss, validation_loss, seconds


def pretrain(
    network: SpectrogramAST,
    features: torch.Tensor,
    validation: torch.Tensor,
    settings: Settings,
    seed: int = 0,
    folder: Path | None = None,
) -> Pretrained:
    """Teach a copy of the network to fill in hidden patches of (clips, 1, mel, frames).

    Features are standardised; validation clips are only measured, always under the same masks.
    Order, masks and dropout of an epoch follow from the seed and the epoch. The state is kept in
    the folder, under a name that tells settings, clips, weights and code apart, and a run that was
    stopped goes on from it; None saves nothing. FloatingPointError if the loss is not finite.
    """
    with torch.random.fork_rng():
        task = _FillingIn(network, features, validation, settings, seed)
        path = folder and Path(folder) / f"pretraining_{task.identity}.pt"
        history = loop.train(task, settings.pretraining_epochs, path)
    return Pretrained(task.model.cpu().eval(), pd.DataFrame(history))


@torch.no_grad()
def held_out(
    model: MaskedPatches, features: torch.Tensor, settings: Settings, seed: int = 0
) -> float:
    """Return the loss on clips that nothing is learned from, under masks of a seed of their own."""
    device = next(model.parameters()).device
    generator = _generator(seed, epoch=0)
    was_training = model.training
    model.eval()
    total = 0.0
    for batch in features.split(settings.pretraining_batch):
        total += float(_loss(model, batch.to(device), settings, generator)) * len(batch)
    model.train(was_training)
    return total / len(features)


class _FillingIn(loop.Task):
    """A network that learns to fill in hidden patches."""

    name = "pre-training"
    result = ("model",)

    def __init__(self, network, features, validation, settings: Settings, seed: int):
        self.features, self.validation = features, validation
        self.settings, self.seed = settings, seed
        self.fabric = loop.make_fabric()
        self.n_steps = -(-len(features) // settings.pretraining_batch)
        torch.manual_seed(seed)
        self.model = MaskedPatches(copy.deepcopy(network).requires_grad_(True))
        self.identity = fingerprint(
            (settings.pretraining_epochs, settings.pretraining_batch, settings.learning_rate),
            (settings.weight_decay, settings.hidden_share, settings.hidden_cluster, seed),
            (self.model.network.config.to_dict(), features, validation, self.model),
            code=__file__,
        )
        learning = [p for name, p in self.model.named_parameters() if ".classifier." not in name]
        self.optimizer = torch.optim.AdamW(
            learning, settings.learning_rate, weight_decay=settings.weight_decay
        )
        n_steps = settings.pretraining_epochs * self.n_steps
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, settings.learning_rate, total_steps=n_steps, pct_start=0.15
        )
        _, self.optimizer = self.fabric.setup(self.model, self.optimizer)
        self.chance = _Chance(self.fabric.device)

    def parts(self) -> dict:
        """Return network, optimiser, schedule, the scaler of gradients, and the chance."""
        scaler = self.fabric.strategy.precision
        return {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule,
                "scaler": scaler, "chance": self.chance}  # fmt: skip

    def begin(self, epoch: int) -> None:
        """Draw the epoch's order."""
        self.chance.begin(self.seed, epoch)
        self.order = torch.randperm(len(self.features), generator=self.chance.generator)
        self.model.train()

    def step(self, epoch: int, step: int) -> tuple[float, dict[str, float]]:
        """Hide patches of a batch, and follow the gradient of what is filled in."""
        batch = self.features[self.order.chunk(self.n_steps)[step]].to(self.fabric.device)
        loss = _loss(self.model, batch, self.settings, self.chance.generator)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.optimizer.step()
        self.schedule.step()
        return 1.0, {"train_loss": loss.item()}

    def end(self, history: list[dict], row: dict) -> dict:
        """Measure on the validation clips."""
        return {"validation_loss": held_out(self.model, self.validation, self.settings, self.seed)}


class _Chance:
    """What an epoch draws next: order and masks from its generator, dropout from torch's own."""

    def __init__(self, device: torch.device):
        self.generator = torch.Generator()
        self.dropout = torch if device.type == "cpu" else torch.get_device_module(device)

    def begin(self, seed: int, epoch: int) -> None:
        self.generator = _generator(seed, epoch)
        torch.manual_seed(int(torch.randint(2**31, (), generator=self.generator)))

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"drawn": self.generator.get_state(), "dropout": self.dropout.get_rng_state()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.generator.set_state(state["drawn"])
        self.dropout.set_rng_state(state["dropout"])


def _generator(seed: int, epoch: int) -> torch.Generator:
    """Return the chance of an epoch; the one of epoch 0 is for clips that are only measured."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1)[0]
    return torch.Generator().manual_seed(int(state))


def _loss(model: MaskedPatches, batch, settings: Settings, generator) -> torch.Tensor:
    masked = random_masks(
        len(batch), model.grid(batch), settings.hidden_share, settings.hidden_cluster, generator
    )
    with autocast(batch.device):
        return model.loss(batch, masked.to(batch.device))
