"""A classifier trained on real pictures of one modality, to judge generated ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from esc_lib.companions.crossmodal.pairs import Pictures
from esc_lib.companions.crossmodal.training import batches
from esc_lib.machine import hardware

MAX_SHIFT = 4  # pixels, of the pictures it is trained on
RATE = 1e-3


class Judge(nn.Module):
    """Four 3x3 convolutions of stride 2 and one linear layer: nothing a generator has seen.

    Examples
    --------
    >>> import torch
    >>> Judge(10, in_channels=1)(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 10])
    """

    def __init__(self, n_classes: int, in_channels: int):
        super().__init__()
        widths = (in_channels, 16, 32, 64, 64)
        blocks = []
        for before, after in zip(widths, widths[1:]):
            blocks += [
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*blocks, nn.Flatten(), nn.Dropout(0.5))
        self.classifier = nn.Linear(widths[-1] * 16, n_classes)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, 64, 64) in [-1, 1] to logits, (batch, classes)."""
        return self.classifier(self.features(pictures))


def train_judge(
    pictures: Pictures, n_classes: int, steps: int = 400, batch: int = 64, seed: int = 0
) -> Judge:
    """Train a judge on real pictures, each batch moved by up to 4 pixels, and return it.

    Parameters
    ----------
    pictures : Pictures, the training part of what the generator makes.
    n_classes, steps, batch, seed : int
    """
    device = hardware.best_device()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = Judge(n_classes, pictures.pixels.shape[1])
        judge.to(device, memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(judge.parameters(), RATE, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3 * RATE, total_steps=steps)
        drawn = batches(len(pictures), batch, steps, [seed, 3])
        for rng, rows in tqdm(drawn, total=steps, desc="training the judge", leave=False):
            moved = _move(pictures.unit(rows), rng).to(device)
            loss = nn.functional.cross_entropy(judge(moved), pictures.labels[rows].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return judge.eval()


@torch.no_grad()
def predict(network, pictures: torch.Tensor, batch: int = 256) -> np.ndarray:
    """Return the likeliest class of each picture, shape (pictures,).

    Parameters
    ----------
    network : maps (batch, channels, 64, 64) to logits: a judge, or an encoder's ``logits``.
    pictures : float tensor in [-1, 1], shape (pictures, channels, 64, 64).
    """
    device = hardware.best_device()
    parts = [network(part.to(device)).argmax(1).cpu() for part in pictures.split(batch)]
    return torch.cat(parts).numpy()


def _move(pictures: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Move a batch by up to MAX_SHIFT pixels, its edges repeated."""
    down, right = rng.integers(0, 2 * MAX_SHIFT + 1, 2)
    height, width = pictures.shape[2:]
    padded = nn.functional.pad(pictures, (MAX_SHIFT,) * 4, mode="replicate")
    return padded[..., down : down + height, right : right + width]
