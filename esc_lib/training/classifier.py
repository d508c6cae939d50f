"""Train a classifier: any device, its best precision, any number of processes, resumable.

Everything random in a step follows from (seed, epoch, step).
"""

import copy
import inspect
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from esc_lib import models
from esc_lib.config import Profile
from esc_lib.data.clips import Data
from esc_lib.machine.distributed import synchronise
from esc_lib.machine.fingerprint import fingerprint
from esc_lib.machine.hardware import best_precision
from esc_lib.sound import augment
from esc_lib.sound.audio import sounding_span
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import loop, recipes
from esc_lib.training.prediction import predict

TEACHER_WEIGHT, TEACHER_TEMPERATURE = 0.7, 4.0


@dataclass
class Fit:
    """Outcome of a training run."""

    model: nn.Module  # in evaluation mode on the CPU, with the kept weights
    # a row per epoch: epoch, train_loss, train_accuracy, validation_loss, validation_accuracy
    # (shares; NaN without validation clips), learning_rate, seconds
    history: pd.DataFrame
    kept_epoch: int  # which the weights come from


def fit(
    data: Data,
    profile: Profile,
    folder: Path,
    precision: str | None = None,
    *,
    start: nn.Module | None = None,
    teacher: nn.Module | None = None,
) -> Fit:
    """Train the profile's network, or go on where an earlier call was stopped.

    Parameters
    ----------
    folder : the state is kept in a folder of it named after the settings, the clips and the code,
        so that a run never goes on from another one's state.
    precision : Fabric's name; default: ``hardware.best_precision``.
    start : network, a copy of which is trained further; default: the profile's with fresh weights.
    teacher : network in evaluation mode whose softened decisions are learned beside the labels.

    Raises
    ------
    ValueError
        If the recipe chooses the epoch on validation clips and there are none.
    FloatingPointError
        If the loss is not finite.

    References
    ----------
    Thesis, section 4.6, for the recipe called so; smith2019super for the one-cycle schedule.
    """
    if profile.training.recipe.schedule == "plateau" and not len(data.split.validation):
        raise ValueError(
            f"fit: the recipe {profile.training.recipe.name!r} keeps the epoch that is best on "
            "validation clips, and the split has none; take another protocol or recipe."
        )
    identity = run_identity(data, profile, precision, start, teacher)
    task = _Classifier(data, profile, precision, start, teacher)
    path = folder / f"run_{identity}" / "last.pt"
    history = loop.train(task, profile.training.epochs, path)
    model = copy.deepcopy(task.kept).cpu().eval()
    return Fit(model, pd.DataFrame(history), recipes.kept_epoch(history, task.recipe))


class _Classifier(loop.Task):
    """A classifier in training."""

    name = "epoch"

    def __init__(self, data: Data, profile: Profile, precision, start, teacher):
        self.profile, self.recipe = profile, profile.training.recipe
        self.fabric = loop.make_fabric(precision)
        self.n_steps = -(-len(data.split.train) // self.recipe.batch_size)
        n_classes = len(data.class_names)
        fresh = initial_model(profile, n_classes) if start is None else copy.deepcopy(start)
        self.model = synchronise(fresh)
        self.optimizer = recipes.optimizer(self.model, self.recipe)
        self.schedule = recipes.schedule(
            self.optimizer, self.recipe, profile.training.epochs * self.n_steps
        )
        self.wrapped, self.optimizer = self.fabric.setup(self.model, self.optimizer)
        self.average = self.best = None
        if self.recipe.ema_decay:
            mean = recipes.running_mean(self.recipe.ema_decay)
            self.average = AveragedModel(self.model, multi_avg_fn=mean, use_buffers=True)
        if self.recipe.schedule == "plateau":
            self.best = copy.deepcopy(self.model)
        else:
            self.result = ("model", "average")
        self.teacher = None if teacher is None else teacher.to(self.fabric.device).eval()
        self.data = data.to(self.fabric.device)
        self.spans = sounding_span(self.data.waveforms)
        self.labels = nn.functional.one_hot(data.labels, n_classes).float()
        self.front_end = LogMel(profile.front_end).to(self.fabric.device)

    def parts(self) -> dict:
        """Return networks, optimiser, schedule and the scaler of gradients."""
        parts = {"model": self.model, "average": self.average, "best": self.best}
        parts |= {"optimizer": self.optimizer, "schedule": self.schedule}
        parts["scaler"] = self.fabric.strategy.precision
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def current(self) -> nn.Module:
        """Return the network whose weights count: the running mean if there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def kept(self) -> nn.Module:
        """Return the network of the epoch that is kept."""
        return self.current if self.best is None else self.best

    def begin(self, epoch: int) -> None:
        """Choose the epoch's stage."""
        self.stage = recipes.stage_of(epoch, self.profile)
        self.wrapped.train()

    def step(self, epoch: int, step: int) -> tuple[int, dict[str, float]]:
        """Draw a batch, follow its gradient, and return its loss and accuracy."""
        fabric, recipe = self.fabric, self.recipe
        rows = self.batch_rows(epoch, step)
        features, targets = self.training_batch(rows, epoch, step)
        mine = slice(fabric.global_rank, None, fabric.world_size)
        features = features[mine].contiguous(memory_format=torch.channels_last)
        targets = targets[mine]
        logits = self.wrapped(features).float()
        # Fabric averages gradients over processes: scaled so, that is the mean over the batch
        loss = self.loss(features, logits, targets) * (fabric.world_size / len(rows))
        correct = (logits.argmax(1) == targets.argmax(1)).sum().float()
        mean_loss, correct = fabric.all_reduce(
            torch.stack([loss.detach() / fabric.world_size, correct]), reduce_op="sum"
        ).tolist()
        self.optimizer.zero_grad()
        fabric.backward(loss)
        self.optimizer.step()
        if recipe.schedule == "one_cycle":
            self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return len(rows), {"train_loss": mean_loss, "train_accuracy": correct / len(rows)}

    def loss(self, features, logits, targets) -> torch.Tensor:
        """Return the summed loss of a batch: against the labels, and a teacher if there is one."""
        loss = nn.functional.cross_entropy(
            logits, targets, reduction="sum", label_smoothing=self.recipe.label_smoothing
        )
        if self.teacher is None:
            return loss
        with torch.no_grad(), self.fabric.autocast():
            taught = self.teacher(features).float()
        return (1 - TEACHER_WEIGHT) * loss + TEACHER_WEIGHT * recipes.distillation_loss(
            logits, taught, TEACHER_TEMPERATURE
        )

    def batch_rows(self, epoch: int, step: int) -> np.ndarray:
        """Return the row numbers of one batch of an epoch's random order."""
        seed = [self.profile.training.seed, epoch]
        order = np.random.default_rng(seed).permutation(self.data.split.train)
        return np.array_split(order, self.n_steps)[step]

    def training_batch(self, rows: np.ndarray, epoch: int, step: int):
        """Return augmented features (batch, 1, mel, frames) and targets (batch, classes)."""
        sequence = np.random.SeedSequence([self.profile.training.seed, epoch, step])
        rng = np.random.default_rng(sequence)
        device = self.fabric.device
        generator = torch.Generator(device).manual_seed(int(sequence.generate_state(1)[0]))
        torch.manual_seed(int(sequence.generate_state(2)[1]) + self.fabric.global_rank)  # dropout
        settings, sr = self.recipe.augmentation, self.profile.front_end.sr

        waveforms, n_valid = self.data.batch(rows, device)
        targets = self.labels[rows].to(device)
        front_end = self.front_end
        if self.stage.crop_frames:
            stretch = np.exp(rng.uniform(-settings.max_stretch, settings.max_stretch))
            front_end = front_end.of_frames(round(self.stage.crop_frames * stretch))
            n_samples = front_end.settings.n_samples
            place = torch.from_numpy(rng.random(len(rows))).to(device)
            starts = augment.crop_starts(self.spans[rows], n_samples, place)
            waveforms = augment.crop(waveforms, starts, n_samples)
            n_valid = torch.full_like(n_valid, n_samples)
        waveforms = augment.augment_waveforms(waveforms, n_valid, settings, sr, generator)
        if settings.transform_probability:
            waveforms = augment.transform_waveforms(
                waveforms, settings.transform_probability, sr, generator
            )
        mix = augment.draw_mix(len(rows), settings.mix_alpha, rng, device)
        if settings.mixing == "between_class":
            waveforms, targets = augment.between_class(waveforms, targets, *mix)
        features = front_end.features(waveforms, n_valid)
        if settings.mixing == "mixup":
            features, targets = augment.mixup(features, targets, *mix)
        if settings.max_mask:
            features = augment.mask_stripes(features, settings.max_mask, rng)
        return augment.resize(features, self.stage.crop_frames or features.shape[3]), targets

    def end(self, history: list[dict], row: dict) -> dict:
        """Validate the weights that count, by one excerpt of each clip: not the final figure."""
        loss, accuracy = float("nan"), float("nan")
        rows = self.data.split.validation
        if len(rows):
            with self.fabric.autocast():
                shown = self.front_end, self.data, rows, self.stage.crop_frames
                logits = predict(self.current, *shown, spans=self.spans)
            loss, accuracy = _loss_and_accuracy(logits, self.data.labels[rows])
        rate = self.optimizer.param_groups[0]["lr"]
        found = {"validation_loss": loss, "validation_accuracy": accuracy, "learning_rate": rate}
        if self.best is not None:
            self.schedule.step(loss)
            if recipes.kept_epoch([*history, row | found], self.recipe) == row["epoch"]:
                self.best.load_state_dict(self.current.state_dict())
        return found

    def stalled(self, history: list[dict]) -> bool:
        """Say whether the plateau schedule's patience is at its end."""
        if self.best is None or not history:
            return False
        return len(history) - recipes.kept_epoch(history, self.recipe) >= self.recipe.stop_patience


def initial_model(profile: Profile, n_classes: int) -> nn.Module:
    """Return the network before training, the same for the same seed."""
    torch.manual_seed(profile.training.seed)
    # channels last: the layout in which convolutions are fastest, on CPUs too
    return models.build(profile, n_classes).to(memory_format=torch.channels_last)


def run_identity(
    data: Data,
    profile: Profile,
    precision: str | None = None,
    start: nn.Module | None = None,
    teacher: nn.Module | None = None,
) -> str:
    """Return a short hash of everything that decides a run.

    The number of epochs counts where the schedule depends on it; a finished run with the plateau
    schedule can be made longer.
    """
    own = profile.training
    if own.recipe.schedule == "plateau":
        own = replace(own, epochs=0)
    code = [__file__] if start is None else [__file__, inspect.getfile(type(start))]
    return fingerprint(
        (own, profile.front_end, profile.architecture, profile.network),
        precision or best_precision(),
        data.clips[["filename", "label", "part"]],
        (data.waveforms, data.n_valid),
        (start, teacher),
        code=code,
    )


def _loss_and_accuracy(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    loss = nn.functional.cross_entropy(logits, labels).item()
    return loss, (logits.argmax(1) == labels).float().mean().item()
