"""One training loop: any device, its best precision, resumable after every epoch.

Everything random in an epoch follows from (seed, epoch), so a run that is stopped and started
again goes the same way as one that was not.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import nn
from tqdm import tqdm

from esc_lib.artifacts import Data
from esc_lib.augment import augment_waveforms, mixup
from esc_lib.config import Profile
from esc_lib.features import LogMel
from esc_lib.files import write_atomically
from esc_lib.models.se_cnn import SECNN


@dataclass
class Fit:
    """Outcome of a training run.

    Attributes
    ----------
    model : SECNN in evaluation mode on the CPU, weights of the best validation epoch.
    history : DataFrame, a row per epoch: epoch, train_loss, train_accuracy, validation_loss,
        validation_accuracy (shares), learning_rate, seconds.
    best_epoch : int
    """

    model: SECNN
    history: pd.DataFrame
    best_epoch: int


def best_precision() -> str:
    """Return Fabric's name for the fastest safe precision of this machine."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.get_device_capability() >= (8, 0) else "16-mixed"
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return "bf16-mixed"
    return "32-true"


def make_fabric(precision: str | None = None) -> Fabric:
    """Return Fabric on this machine's accelerator, or on its CPU."""
    return Fabric(accelerator="auto", devices=1, precision=precision or best_precision())


def fit(data: Data, profile: Profile, folder: Path, precision: str | None = None) -> Fit:
    """Train the profile's network, or go on where an earlier call was stopped.

    Parameters
    ----------
    data : Data, with its split.
    profile : Profile
    folder : Path; the state after each epoch is kept in a folder of it named after the settings,
        the clips and the code, so that a run never goes on from another one's state. The number
        of epochs is left out: a finished run can be made longer.
    precision : str, Fabric's name; default: :func:`best_precision`.

    Raises
    ------
    FloatingPointError
        If the loss is not finite.

    References
    ----------
    Thesis, section 4.6: cross-entropy, Adam, learning rate reduced on validation plateaus, early
    stopping, mixup.
    """
    settings = profile.training
    fabric = make_fabric(precision)
    model = initial_model(profile, len(data.class_names))
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=settings.plateau_factor, patience=settings.plateau_patience
    )
    wrapped, optimizer = fabric.setup(model, optimizer)
    front_end = LogMel(profile.front_end).to(fabric.device)

    state_folder = folder / f"run_{run_identity(data, profile, precision)}"
    state_folder.mkdir(parents=True, exist_ok=True)
    history = _resume(state_folder / "last.pt", model, optimizer, schedule)

    while len(history) < settings.epochs and not _exhausted(history, settings.stop_patience):
        epoch = len(history) + 1
        started = time.perf_counter()
        trained = _train_epoch(fabric, wrapped, optimizer, front_end, data, profile, epoch)
        logits = predict(wrapped, front_end, data, data.split.validation)
        validated = _loss_and_accuracy(logits, data.labels[data.split.validation])
        history.append(
            {
                "epoch": epoch,
                "train_loss": trained[0],
                "train_accuracy": trained[1],
                "validation_loss": validated[0],
                "validation_accuracy": validated[1],
                "learning_rate": optimizer.param_groups[0]["lr"],
                "seconds": time.perf_counter() - started,
            }
        )
        schedule.step(validated[0])
        if _best_epoch(history) == epoch:
            _save(state_folder / "best.pt", model.state_dict())
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "history": history,
        }
        _save(state_folder / "last.pt", state)
    model.load_state_dict(torch.load(state_folder / "best.pt", weights_only=True))
    return Fit(model.cpu().eval(), pd.DataFrame(history), _best_epoch(history))


def initial_model(profile: Profile, n_classes: int) -> SECNN:
    """Return the network before training, the same for the same seed."""
    torch.manual_seed(profile.training.seed)
    # channels last: the layout in which convolutions are fastest, on CPUs too
    return SECNN(n_classes, profile.network).to(memory_format=torch.channels_last)


def run_identity(data: Data, profile: Profile, precision: str | None = None) -> str:
    """Return a short hash of everything that decides a run, but for its number of epochs."""
    settings = profile.as_dict()
    del settings["dictionaries"], settings["training"]["epochs"]
    here = Path(__file__).parent
    sources = ("training", "audio", "augment", "features", "models/se_cnn")
    digest = hashlib.sha256(repr((settings, precision or best_precision())).encode())
    digest.update(data.clips[["filename", "label", "part"]].to_csv(index=False).encode())
    digest.update(data.waveforms.numpy())
    digest.update(data.n_valid.numpy())
    for name in sources:
        digest.update((here / f"{name}.py").read_bytes())
    return digest.hexdigest()[:12]


def _save(path: Path, state: dict) -> None:
    write_atomically(path, lambda scratch: torch.save(state, scratch))


def _resume(path: Path, model, optimizer, schedule) -> list[dict]:
    """Load the state after the last whole epoch, if there is one, and return its history."""
    if not path.exists():
        return []
    state = torch.load(path, weights_only=True, map_location="cpu")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return state["history"]


def _best_epoch(history: list[dict]) -> int:
    """Return the epoch of highest validation accuracy; of equals, the one of lower loss."""
    best = max(history, key=lambda row: (row["validation_accuracy"], -row["validation_loss"]))
    return best["epoch"]


def _exhausted(history: list[dict], patience: int) -> bool:
    return bool(history) and len(history) - _best_epoch(history) >= patience


@torch.no_grad()
def predict(
    model: nn.Module, front_end: LogMel, data: Data, rows: np.ndarray
) -> torch.Tensor:
    """Return the logits of some clips, float32 on the CPU, shape (clips, classes)."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    logits = []
    for batch in np.array_split(rows, max(1, -(-len(rows) // 32))):
        features = front_end.features(*data.batch(batch, device))
        logits.append(model(features).float().cpu())
    model.train(was_training)
    return torch.cat(logits)


def _train_epoch(fabric, model, optimizer, front_end, data, profile, epoch):
    """Run one epoch and return the mean loss and the accuracy on the mixed targets."""
    settings = profile.training
    seed = np.random.SeedSequence([settings.seed, epoch]).generate_state(1)[0].item()
    torch.manual_seed(seed)  # dropout
    rng = np.random.default_rng(seed)
    generator = torch.Generator(fabric.device).manual_seed(seed)
    order = rng.permutation(data.split.train)
    batches = np.array_split(order, -(-len(order) // settings.batch_size))
    labels = nn.functional.one_hot(data.labels, len(data.class_names)).float()

    model.train()
    total_loss, correct = 0.0, 0
    bar = tqdm(batches, desc=f"epoch {epoch}/{settings.epochs}", unit="batch", leave=False)
    for rows in bar:
        waveforms, n_valid = data.batch(rows, fabric.device)
        waveforms = augment_waveforms(
            waveforms, n_valid, profile.augmentation, profile.front_end.sr, generator
        )
        features = front_end.features(waveforms, n_valid)
        targets = labels[rows].to(fabric.device)
        features, targets = mixup(features, targets, profile.augmentation.mixup_alpha, rng)
        logits = model(features.contiguous(memory_format=torch.channels_last))
        loss = nn.functional.cross_entropy(logits.float(), targets)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"fit: the loss of epoch {epoch} is {loss.item()}; lower the learning rate or "
                "train in float32. The state after the epoch before is kept."
            )
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        total_loss += loss.item() * len(rows)
        correct += (logits.argmax(1) == targets.argmax(1)).sum().item()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    return total_loss / len(order), correct / len(order)


def _loss_and_accuracy(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    loss = nn.functional.cross_entropy(logits, labels).item()
    return loss, (logits.argmax(1) == labels).float().mean().item()
