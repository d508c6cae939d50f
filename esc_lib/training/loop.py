"""One training loop: any device, its best precision, any number of processes, resumable.

Everything random in a step follows from (seed, epoch, step), so a run that is stopped anywhere and
started again goes the same way as one that was not, and processes need not talk about chance.
"""

from __future__ import annotations

import copy
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from esc_lib import models
from esc_lib.config import Profile, Recipe, Stage
from esc_lib.data.clips import Data
from esc_lib.machine.distributed import synchronise
from esc_lib.machine.files import write_atomically
from esc_lib.machine.hardware import best_precision, keep_freed_memory
from esc_lib.sound import augment
from esc_lib.sound.audio import sounding_span
from esc_lib.sound.log_mel import LogMel

# settings of a profile that decide other things
NOT_OF_A_RUN = (
    "dictionaries", "evidence", "efficiency", "transformer", "binaural", "cross_modal"
)  # fmt: skip
SAVE_INTERVAL_S = 60.0  # a run that is killed loses at most about this much work
TEACHER_WEIGHT, TEACHER_TEMPERATURE = 0.7, 4.0


@dataclass
class Fit:
    """Outcome of a training run.

    Attributes
    ----------
    model : network in evaluation mode on the CPU, with the kept weights.
    history : DataFrame, a row per epoch: epoch, train_loss, train_accuracy, validation_loss,
        validation_accuracy (shares; NaN without validation clips), learning_rate, seconds.
    kept_epoch : int, the epoch that the weights come from.
    """

    model: nn.Module
    history: pd.DataFrame
    kept_epoch: int


def make_fabric(precision: str | None = None) -> Fabric:
    """Return Fabric on one accelerator of this machine, or on its CPU.

    Under ``fabric run`` the devices, machines and strategy are those of its command line.
    """
    precision = precision or best_precision()
    if os.environ.get("LT_CLI_USED"):
        return Fabric(precision=precision)
    return Fabric(accelerator="auto", devices=1, precision=precision)


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
    data : Data, with its split.
    profile : Profile
    folder : Path; the state is kept in a folder of it named after the settings, the clips and the
        code, so that a run never goes on from another one's state.
    precision : str, Fabric's name; default: ``hardware.best_precision``.
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
    keep_freed_memory()
    identity = run_identity(data, profile, precision, start, teacher)
    run = _Run(data, profile, folder / f"run_{identity}", precision, start, teacher)
    while not run.finished():
        run.train_epoch()
    return run.outcome()


class _Run:
    """A run in progress: everything that is saved, and what is needed to go on."""

    def __init__(self, data: Data, profile: Profile, folder: Path, precision, start, teacher):
        self.profile, self.recipe, self.folder = profile, profile.training.recipe, folder
        self.fabric = make_fabric(precision)
        self.n_steps = -(-len(data.split.train) // self.recipe.batch_size)
        fresh = copy.deepcopy(start) or initial_model(profile, len(data.class_names))
        self.model = synchronise(fresh)
        self.optimizer = _optimizer(self.model, self.recipe)
        self.schedule = _schedule(
            self.optimizer, self.recipe, profile.training.epochs * self.n_steps
        )
        self.wrapped, self.optimizer = self.fabric.setup(self.model, self.optimizer)
        self.average = AveragedModel(
            self.model, multi_avg_fn=running_mean(self.recipe.ema_decay), use_buffers=True
        )
        self.teacher = None if teacher is None else teacher.to(self.fabric.device).eval()
        self.data = data.to(self.fabric.device)
        self.spans = sounding_span(self.data.waveforms)
        self.labels = nn.functional.one_hot(data.labels, len(data.class_names)).float()
        self.front_end = LogMel(profile.front_end).to(self.fabric.device)
        self.history: list[dict] = []
        self.progress = _Progress()
        self.saved_at = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "last.pt").exists():
            self.load()

    @property
    def kept(self) -> nn.Module:
        """Return the network whose weights count: the running mean if there is one."""
        return self.average.module if self.recipe.ema_decay else self.model

    def finished(self) -> bool:
        """Say whether all epochs are done, or the validation has stalled for too long."""
        if len(self.history) >= self.profile.training.epochs:
            return True
        if self.recipe.schedule != "plateau" or not self.history:
            return False
        return len(self.history) - _kept_epoch(self.history, self.recipe) >= (
            self.recipe.stop_patience
        )

    def train_epoch(self) -> None:
        """Do the steps that are left of the current epoch, validate, and save."""
        epoch, epochs = len(self.history) + 1, self.profile.training.epochs
        stage = stage_of(epoch, self.profile)
        self.wrapped.train()
        bar = tqdm(
            range(self.progress.step, self.n_steps),
            desc=f"epoch {epoch}/{epochs}",
            initial=self.progress.step,
            total=self.n_steps,
            unit="batch",
            leave=False,
            disable=not self.fabric.is_global_zero,
        )
        started = time.perf_counter()
        for step in bar:
            loss = self.train_step(epoch, step, stage)
            bar.set_postfix(loss=f"{loss:.3f}")
            now = time.perf_counter()
            self.progress.seconds += now - started
            started = now
            self.progress.step += 1
            if step + 1 < self.n_steps:
                self.save_if_due()
        self.end_epoch(stage, started)

    def train_step(self, epoch: int, step: int, stage: Stage) -> float:
        """Draw a batch, follow its gradient, and return its loss."""
        fabric, recipe = self.fabric, self.recipe
        rows = self.batch_rows(epoch, step)
        features, targets = self.training_batch(rows, stage, epoch, step)
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
        if not np.isfinite(mean_loss):
            raise FloatingPointError(
                f"fit: the loss of epoch {epoch} is {mean_loss}; lower the learning rate or "
                "train in float32. The state saved last is kept."
            )
        self.optimizer.zero_grad()
        fabric.backward(loss)
        self.optimizer.step()
        if recipe.schedule == "one_cycle":
            self.schedule.step()
        if recipe.ema_decay:
            self.average.update_parameters(self.model)
        self.progress.loss_sum += mean_loss * len(rows)
        self.progress.n_correct += int(correct)
        return mean_loss

    def loss(self, features, logits, targets) -> torch.Tensor:
        """Return the summed loss of a batch: against the labels, and a teacher if there is one."""
        smoothing = self.recipe.label_smoothing
        loss = nn.functional.cross_entropy(
            logits, targets, reduction="sum", label_smoothing=smoothing
        )
        if self.teacher is None:
            return loss
        with torch.no_grad(), self.fabric.autocast():
            taught = self.teacher(features).float()
        return (1 - TEACHER_WEIGHT) * loss + TEACHER_WEIGHT * distillation_loss(
            logits, taught, TEACHER_TEMPERATURE
        )

    def batch_rows(self, epoch: int, step: int) -> np.ndarray:
        """Return the row numbers of one batch of an epoch's random order."""
        seed = [self.profile.training.seed, epoch]
        order = np.random.default_rng(seed).permutation(self.data.split.train)
        return np.array_split(order, self.n_steps)[step]

    def training_batch(self, rows: np.ndarray, stage: Stage, epoch: int, step: int):
        """Return augmented features (batch, 1, mel, frames) and targets (batch, classes)."""
        sequence = np.random.SeedSequence([self.profile.training.seed, epoch, step])
        rng = np.random.default_rng(sequence)
        device = self.fabric.device
        generator = torch.Generator(device).manual_seed(int(sequence.generate_state(1)[0]))
        torch.manual_seed(int(sequence.generate_state(2)[1]) + self.fabric.global_rank)  # dropout
        settings = self.recipe.augmentation

        waveforms, n_valid = self.data.batch(rows, device)
        targets = self.labels[rows].to(device)
        front_end = self.front_end
        if stage.crop_frames:
            stretch = np.exp(rng.uniform(-settings.max_stretch, settings.max_stretch))
            front_end = front_end.of_frames(round(stage.crop_frames * stretch))
            n_samples = front_end.settings.n_samples
            place = torch.from_numpy(rng.random(len(rows))).to(device)
            starts = augment.crop_starts(self.spans[rows], n_samples, place)
            waveforms = augment.crop(waveforms, starts, n_samples)
            n_valid = torch.full_like(n_valid, n_samples)
        waveforms = augment.augment_waveforms(
            waveforms, n_valid, settings, self.profile.front_end.sr, generator
        )
        if settings.transform_probability:
            waveforms = augment.transform_waveforms(
                waveforms,
                settings.transform_probability,
                self.profile.front_end.sr,
                generator,
            )
        mix = augment.draw_mix(len(rows), settings.mix_alpha, rng, device)
        if settings.mixing == "between_class":
            waveforms, targets = augment.between_class(waveforms, targets, *mix)
        features = front_end.features(waveforms, n_valid)
        if settings.mixing == "mixup":
            features, targets = augment.mixup(features, targets, *mix)
        if settings.max_mask:
            features = augment.mask_stripes(features, settings.max_mask, rng)
        return augment.resize(features, stage.crop_frames or features.shape[3]), targets

    def end_epoch(self, stage: Stage, started: float) -> None:
        """Validate the weights that count, write the history's row, and save."""
        loss, accuracy = self.validate(stage)
        n_train = len(self.data.split.train)
        self.history.append(
            {
                "epoch": len(self.history) + 1,
                "train_loss": self.progress.loss_sum / n_train,
                "train_accuracy": self.progress.n_correct / n_train,
                "validation_loss": loss,
                "validation_accuracy": accuracy,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "seconds": self.progress.seconds + time.perf_counter() - started,
            }
        )
        self.progress = _Progress()
        if self.recipe.schedule == "plateau":
            self.schedule.step(loss)
        if self.recipe.schedule == "plateau" or self.finished():
            if _kept_epoch(self.history, self.recipe) == len(self.history):
                self.write("kept.pt", self.kept.state_dict())
        if self.finished():
            self.save()
        else:
            self.save_if_due()

    def validate(self, stage: Stage) -> tuple[float, float]:
        """Return loss and accuracy by one excerpt of each clip: a look, not the final figure."""
        rows = self.data.split.validation
        if not len(rows):
            return float("nan"), float("nan")
        with self.fabric.autocast():
            logits = predict(
                self.kept, self.front_end, self.data, rows, stage.crop_frames, spans=self.spans
            )
        return _loss_and_accuracy(logits, self.data.labels[rows])

    def state(self) -> dict:
        """Return all that the rest of the run depends on."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.recipe.ema_decay else {},
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.fabric.strategy.precision.state_dict(),
            "history": self.history,
            "progress": asdict(self.progress),
        }

    def save_if_due(self) -> None:
        """Save if the last time is long ago by the clock of the first process."""
        if self.fabric.broadcast(time.monotonic() - self.saved_at > SAVE_INTERVAL_S):
            self.save()

    def save(self) -> None:
        """Write the state, so that this very step can be gone on from."""
        self.write("last.pt", self.state())
        self.saved_at = time.monotonic()

    def write(self, name: str, state: dict) -> None:
        """Write a file of the run's folder from one process, all of it or nothing."""
        if self.fabric.is_global_zero:
            write_atomically(self.folder / name, lambda scratch: torch.save(state, scratch))
        self.fabric.barrier()

    def load(self) -> None:
        """Take up the state that :meth:`save` wrote last."""
        state = torch.load(self.folder / "last.pt", weights_only=True, map_location="cpu")
        self.model.load_state_dict(state["model"])
        if self.recipe.ema_decay:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.fabric.strategy.precision.load_state_dict(state["scaler"])
        self.history = state["history"]
        self.progress = _Progress(**state["progress"])

    def outcome(self) -> Fit:
        """Return the kept weights and the history."""
        model = copy.deepcopy(self.model).cpu()
        model.load_state_dict(
            torch.load(self.folder / "kept.pt", weights_only=True, map_location="cpu")
        )
        kept_epoch = _kept_epoch(self.history, self.recipe)
        return Fit(model.eval(), pd.DataFrame(self.history), kept_epoch)


@dataclass
class _Progress:
    """Steps done of the epoch in progress, and sums over them."""

    step: int = 0
    loss_sum: float = 0.0
    n_correct: int = 0
    seconds: float = 0.0


def distillation_loss(
    logits: torch.Tensor, taught: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return the divergence from a teacher's softened decisions, summed over the batch, in nat.

    Parameters
    ----------
    logits, taught : tensors, shape (batch, classes), of the student and of the teacher.
    temperature : float, above 0; its square keeps gradients of one size at all temperatures.

    References
    ----------
    hinton2015distilling, section 2.
    """
    divergence = nn.functional.kl_div(
        (logits / temperature).log_softmax(1),
        (taught / temperature).log_softmax(1),
        reduction="sum",
        log_target=True,
    )
    return temperature**2 * divergence


def running_mean(decay: float) -> Callable:
    """Return the update of a running mean of weights, as AveragedModel takes it.

    The first steps count as much as there are of them, so that a short training does not keep
    the weights it started from: the decay after n steps is (1 + n) / (10 + n), at most `decay`.
    """

    def update(averages: list, weights: list, n_averaged: torch.Tensor) -> None:
        n = int(n_averaged)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averages, weights, n_averaged)

    return update


def initial_model(profile: Profile, n_classes: int) -> nn.Module:
    """Return the network before training, the same for the same seed."""
    torch.manual_seed(profile.training.seed)
    # channels last: the layout in which convolutions are fastest, on CPUs too
    return models.build(profile, n_classes).to(memory_format=torch.channels_last)


def stage_of(epoch: int, profile: Profile) -> Stage:
    """Return the stage that an epoch, counted from 1, belongs to."""
    stages = profile.training.recipe.stages
    ends = np.cumsum([stage.share for stage in stages]) * profile.training.epochs
    return stages[min(int((ends + 1e-9 < epoch).sum()), len(stages) - 1)]


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
    settings = profile.as_dict()
    for key in NOT_OF_A_RUN:
        del settings[key]
    if profile.training.recipe.schedule == "plateau":
        del settings["training"]["epochs"]
    here = Path(__file__).parent
    sources = ["training", "distributed", "audio", "augment", "features", "mel_kernel"]
    kind = profile.architecture.partition("_")[0]
    sources.append({"se": "models/se_cnn", "ast": "models/ast"}.get(kind, "models/peers"))
    digest = hashlib.sha256(repr((settings, precision or best_precision())).encode())
    digest.update(data.clips[["filename", "label", "part"]].to_csv(index=False).encode())
    digest.update(data.waveforms.cpu().numpy())
    digest.update(data.n_valid.cpu().numpy())
    for name in sources:
        digest.update((here / f"{name}.py").read_bytes())
    for network in (start, teacher):
        for value in () if network is None else network.state_dict().values():
            digest.update(value.cpu().contiguous().numpy())
        digest.update(b"|")
    return digest.hexdigest()[:12]


@torch.no_grad()
def predict(
    model: nn.Module,
    front_end: LogMel,
    data: Data,
    rows: np.ndarray,
    crop_frames: int = 0,
    n_crops: int = 1,
    *,
    spans: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the logits of some clips, float32 on the CPU, shape (clips, classes).

    Parameters
    ----------
    model, front_end : on one device.
    data : Data
    rows : int array, shape (clips,).
    crop_frames : int, frames of an excerpt; 0 shows the network the whole clip.
    n_crops : int, evenly spaced excerpts; from more than one, the logarithm of the mean
        probability is returned instead of logits.
    spans : int tensor, shape (all clips, 2), if ``audio.sounding_span`` is at hand.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    logits = []
    for batch in np.array_split(rows, max(1, -(-len(rows) // 32))):
        waveforms, n_valid = data.batch(batch, device)
        if crop_frames:
            span = sounding_span(data.waveforms[batch]) if spans is None else spans[batch]
            views = _crops(front_end, waveforms, span.to(device), crop_frames, n_crops)
        else:
            views = [front_end.features(waveforms, n_valid)]
        seen = [model(view).float().cpu() for view in views]
        if len(seen) > 1:
            seen = [torch.stack(seen).log_softmax(-1).logsumexp(0) - np.log(len(seen))]
        logits.append(seen[0])
    model.train(was_training)
    return torch.cat(logits)


def _crops(front_end: LogMel, waveforms, span, crop_frames: int, n_crops: int):
    """Yield the features of evenly spaced excerpts, each (batch, 1, mel, frames)."""
    front_end = front_end.of_frames(crop_frames)
    n_samples = front_end.settings.n_samples
    for place in torch.linspace(0, 1, n_crops) if n_crops > 1 else torch.tensor([0.5]):
        starts = augment.crop_starts(span, n_samples, place.to(span.device))
        excerpt = augment.crop(waveforms, starts, n_samples)
        yield front_end.features(excerpt, torch.full_like(starts, n_samples))


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser; weight decay spares biases and normalisation."""
    weights = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": weights, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(groups, lr=recipe.learning_rate, fused=True)


def _schedule(optimizer, recipe: Recipe, n_steps: int):
    if recipe.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=recipe.plateau_factor, patience=recipe.plateau_patience
        )
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        recipe.learning_rate,
        total_steps=n_steps,
        pct_start=0.15,
        final_div_factor=100,
    )


def _kept_epoch(history: list[dict], recipe: Recipe) -> int:
    """Return the last epoch, or with the plateau schedule the one of best validation accuracy.

    Of equally accurate epochs the one of lowest loss is kept.
    """
    if recipe.schedule == "one_cycle":
        return history[-1]["epoch"]
    best = max(history, key=lambda row: (row["validation_accuracy"], -row["validation_loss"]))
    return best["epoch"]


def _loss_and_accuracy(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    loss = nn.functional.cross_entropy(logits, labels).item()
    return loss, (logits.argmax(1) == labels).float().mean().item()
