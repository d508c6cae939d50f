"""Sounds in two bands, and a classifier whose reasons are known: which of the two is louder."""

import numpy as np
import pandas as pd
import torch
from torch import nn

from esc_lib.config import FrontEnd, Network
from esc_lib.data.clips import Data
from esc_lib.explain.conditions import Inputs
from esc_lib.models.se_cnn import SECNN

FRONT_END = FrontEnd(
    sr=8000, n_fft=256, win_length=256, hop_length=128, n_mels=32, f_max_hz=4000.0, n_frames=70
)
N_SAMPLES = 8800  # about as far as the frames reach
NAMES = ["high", "low"]  # classes of `small_data`
LOW_HZ, HIGH_HZ = 500.0, 2500.0
LOW, HIGH = slice(4, 9), slice(23, 28)  # five bands around each tone


class LouderBand(nn.Module):
    """Class 0 where the lower band is louder, class 1 where the upper one is.

    The probability of the louder one is 0.8 where both sound, 0.99 where the other is missing;
    two bands that are equal have 0.5 each.
    """

    def forward(self, features):
        loud = [features[:, 0, bands].amax(dim=1).mean(dim=1) for bands in (LOW, HIGH)]
        gap = loud[0] - loud[1]
        size = gap.abs()
        p = torch.where(size < 0.05, 0.5, torch.where(size < 1.0, 0.8, 0.99))
        low = torch.where(gap > 0, p, 1 - p)
        return torch.stack([low, 1 - low], dim=1).log()


def settled(model, features=None):
    """Set a network's normalisation, so that classes and maps differ by clip; evaluation mode."""
    if features is None:
        features = torch.randn(8, 1, FRONT_END.n_mels, FRONT_END.n_frames)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(features)
    return model.eval()


def small_network(seed=0):
    """Return an untrained network of three classes."""
    torch.manual_seed(seed)
    return settled(SECNN(3, Network(channels=(4, 4, 6, 8, 8), se_reduction=2, hidden=32)))


def tones(low, high):
    """Return one clip with a low and a high tone of these amplitudes, Inputs."""
    time_s = torch.arange(N_SAMPLES) / FRONT_END.sr
    sound = low * torch.sin(2 * np.pi * LOW_HZ * time_s)
    sound = sound + high * torch.sin(2 * np.pi * HIGH_HZ * time_s)
    n_valid = torch.tensor([sound.numel()])
    return Inputs("clean", np.array([0]), sound[None], n_valid)


def mask_of(bands):
    """Return the mask that keeps these bands, shape (1, mel, frames)."""
    mask = torch.zeros(1, FRONT_END.n_mels, FRONT_END.n_frames)
    mask[:, bands] = 1
    return mask


def small_data(n=40, seed=0):
    """Return clips of two classes in four folds, two from each recording, some of them short."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) // 2 % 2
    n_valid = np.where(np.arange(n) % 5 == 3, 5000, N_SAMPLES)
    time_s = np.arange(N_SAMPLES) / FRONT_END.sr
    sounds = 9000 * np.sin(2 * np.pi * np.where(labels, 400, 2500)[:, None] * time_s)
    sounds += rng.normal(scale=300, size=sounds.shape)
    sounds *= np.arange(N_SAMPLES) < n_valid[:, None]
    clips = pd.DataFrame(
        {
            "filename": [f"{i}.wav" for i in range(n)],
            "fold": np.arange(n) // 2 // 2 % 4 + 1,
            "label": labels,
            "category": np.array(NAMES)[labels],
            "src_file": np.arange(n) // 2,
            "part": "train",
        }
    )
    return Data(clips, torch.from_numpy(sounds.astype(np.int16)), torch.from_numpy(n_valid))


class Halves(nn.Module):
    """Pool 2 x 2; channel 0 keeps the lower half of the bands, channel 1 the upper half."""

    def forward(self, features):
        maps = nn.functional.avg_pool2d(features, 2)
        low = torch.zeros_like(maps)
        low[:, :, : maps.shape[2] // 2] = 1
        return torch.cat([maps * low, maps * (1 - low)], dim=1)


class Votes(nn.Module):
    """By how much each band is louder than the other, as maps of one point, 0 for the quieter."""

    def forward(self, features):
        loud = [features[:, 0, bands].amax(dim=1).mean(dim=1) for bands in (LOW, HIGH)]
        gap = loud[0] - loud[1]
        return torch.stack([gap, -gap], dim=1).relu()[:, :, None, None]


class LouderTone(nn.Module):
    """Decides as `LouderBand` does, smoothly, and has layers to read: where, and which."""

    def __init__(self):
        super().__init__()
        self.halves, self.votes = Halves(), Votes()
        self.gain = nn.Parameter(torch.tensor(2.0))

    def forward(self, features):
        self.halves(features)
        votes = self.votes(features)[:, :, 0, 0]
        return self.gain * votes


def two_tones(n=96, seed=0, gap_db=(2, 6)):
    """Return clips with both tones and some noise; the class is the louder one, by such a gap."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2  # 0: the low one, as `LouderBand` has it
    quieter = 10 ** (-rng.uniform(*gap_db, n) / 20)
    # the wider band of the high tone hears it 5.7 dB lower
    amplitude = np.where(np.stack([labels == 0, labels == 1]), 1, quieter) * [[0.2], [0.387]]
    time_s = np.arange(N_SAMPLES) / FRONT_END.sr
    sounds = rng.normal(scale=0.003, size=(n, N_SAMPLES))
    for level, hz in zip(amplitude, (LOW_HZ, HIGH_HZ), strict=True):
        sounds += level[:, None] * np.sin(2 * np.pi * hz * time_s)
    parts = np.array(["train", "train", "validation", "test"])[np.arange(n) // 2 % 4]
    clips = pd.DataFrame(
        {
            "filename": [f"{i}.wav" for i in range(n)],
            "fold": 1,
            "label": labels,
            "category": np.array(["low", "high"])[labels],
            "src_file": np.arange(n),
            "part": parts,
        }
    )
    waveforms = torch.from_numpy((32767 * sounds).round().astype(np.int16))
    return Data(clips, waveforms, torch.full((n,), N_SAMPLES))
