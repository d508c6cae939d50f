"""A classifier trained on real pictures of one modality, to judge generated ones."""

import numpy as np
import torch
from torch import nn

from esc_lib.companions.crossmodal.pairs import Pictures
from esc_lib.companions.crossmodal.steps import Chance, teach
from esc_lib.companions.crossmodal.training import AT_ONCE
from esc_lib.machine.hardware import best_device

MAX_SHIFT = 4  # pixels, of the pictures it is trained on
BATCH, PEAK, WEIGHT_DECAY = 64, 3e-3, 1e-2


class Judge(nn.Module):
    """Four 3x3 convolutions of stride 2 and one linear layer: nothing a generator has seen.

    Examples
    --------
    >>> Judge(10, in_channels=1)(torch.zeros(2, 1, 64, 64)).shape
    torch.Size([2, 10])
    """

    def __init__(self, n_classes: int, in_channels: int):
        super().__init__()
        widths = (in_channels, 16, 32, 64, 64)
        self.features = nn.Sequential()
        for before, after in zip(widths, widths[1:]):
            conv = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            self.features.extend([conv, nn.BatchNorm2d(after), nn.ReLU()])
        self.features.extend([nn.Flatten(), nn.Dropout(0.5)])
        self.classifier = nn.Linear(widths[-1] * 16, n_classes)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, 64, 64) in [-1, 1] to logits, (batch, classes)."""
        return self.classifier(self.features(pictures))


def train_judge(pictures: Pictures, n_classes: int, steps: int) -> Judge:
    """Train a judge on real pictures of the training part, each batch moved by up to 4 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the weights and of the dropout
        judge = Judge(n_classes, pictures.pixels.shape[1])
        judge.to(best_device(), memory_format=torch.channels_last)
        chance = Chance(len(pictures), BATCH, [0, 3])
        teach(judge, judge, pictures, _move, chance, steps, steps, PEAK, WEIGHT_DECAY)
    return judge


@torch.no_grad()
def predict(network, pictures: torch.Tensor) -> np.ndarray:
    """Return the likeliest class of each picture in [-1, 1], by a judge or an encoder's logits."""
    device = best_device()
    parts = [network(part.to(device)).argmax(1).cpu() for part in pictures.split(AT_ONCE)]
    return torch.cat(parts).numpy()


def _move(pictures: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Move a batch by up to MAX_SHIFT pixels, its edges repeated."""
    down, right = rng.integers(0, 2 * MAX_SHIFT + 1, 2)
    height, width = pictures.shape[2:]
    padded = nn.functional.pad(pictures, (MAX_SHIFT,) * 4, mode="replicate")
    return padded[..., down : down + height, right : right + width]
