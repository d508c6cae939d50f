"""A network of which all is known: does a measure see what is there, and nothing where nothing is?

Its channels follow the level of neighbouring bands, in order of frequency; its classes are groups
of them: a clip belongs to the group that stands highest above what is usual. It has the named parts
of an ``SECNN``, so whatever measures that measures this.
"""

import numpy as np
import torch
from torch import nn

from esc_lib.config import FrontEnd
from esc_lib.data import demo
from esc_lib.data.clips import Data
from esc_lib.sound.log_mel import LogMel

CHANNELS, CLASSES = 32, 4
GAIN = 2.0  # logits in standard deviations: decisions are sure, and not certain
PER_CLASS_AND_FOLD = 2  # procedural clips


class LevelFrontEnd(LogMel):
    """Level below the clip's peak, in tens of dB from 0 at the floor, not standardised.

    Standardisation hides a clip's range of levels, which no detector behind it could give back.
    """

    def features(self, waveforms: torch.Tensor, n_valid: torch.Tensor) -> torch.Tensor:
        """Return (batch, 1, mel, frames) of (batch, samples)."""
        log_mel = self(waveforms, n_valid)
        floor = log_mel.amax(dim=(1, 2), keepdim=True) - self.settings.top_db
        return ((log_mel - floor) / 10).clamp_min(0).unsqueeze(1)


class Detectors(nn.Module):
    """Channels that follow the level in a range of bands each, then mean pooling 2x2."""

    def __init__(self, weights: torch.Tensor):
        super().__init__()
        self.register_buffer("weights", weights)  # (channels, mel)

    def forward(self, level: torch.Tensor) -> torch.Tensor:
        """Map (batch, 1, mel, frames) to (batch, channels, mel // 2, frames // 2)."""
        return nn.functional.avg_pool2d(level * self.weights[:, :, None], 2)


class GlassBox(nn.Module):
    """The network; `order` deals the detectors among channels, by default as they come."""

    def __init__(self, n_mels: int, order: torch.Tensor | None = None):
        super().__init__()
        order = torch.arange(CHANNELS) if order is None else order
        width = n_mels / CHANNELS
        centre = (torch.arange(CHANNELS) + 0.5) * width - 0.5
        distance = (torch.arange(n_mels) - centre[:, None]).abs()
        self.conv_block1 = Detectors((1 - distance / width).clamp_min(0)[order])
        for block in range(2, 6):
            setattr(self, f"conv_block{block}", nn.AvgPool2d(2))
            setattr(self, f"se{block - 1}", nn.Identity())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.relu, self.dropout = nn.ReLU(), nn.Dropout()
        self.fc2 = nn.Linear(CHANNELS, CLASSES)
        group = order * CLASSES // CHANNELS
        with torch.no_grad():
            self.fc1.weight.copy_(torch.eye(CHANNELS))
            self.fc2.weight.copy_(nn.functional.one_hot(group).T.float())
            self.fc2.bias.zero_()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, 1, mel, frames) to logits, (batch, classes)."""
        for name, module in self.named_children():
            features = module(features)
            if name == "pool":
                features = features.flatten(1)
        return features


def clips(settings: FrontEnd) -> Data:
    """Return procedural clips, made on the spot: folds 1 to 3 train, 4 validates, 5 tests."""
    table = demo.clip_table(clips_per_class_per_fold=PER_CLASS_AND_FOLD)
    waveforms = np.zeros((len(table), settings.n_samples), np.int16)
    for row, name in zip(waveforms, table.filename, strict=True):
        sound = sum(demo.stems(name, sr=settings.sr).values())[: len(row)]
        row[: len(sound)] = np.round(32767 * sound)
    part = table.fold.map({4: "validation", 5: "test"}).fillna("train")
    n_valid = torch.full((len(table),), settings.n_samples)
    table = table.assign(label=table.target, part=part)
    return Data(table, torch.from_numpy(waveforms), n_valid)


@torch.no_grad()
def glass_box(
    data: Data, front_end: LevelFrontEnd, order: torch.Tensor | None = None
) -> tuple[GlassBox, Data]:
    """Return the network, what is usual learned on training clips, and the clips by its classes."""
    box = GlassBox(front_end.settings.n_mels, order).eval()
    logits = box(front_end.features(*data.batch(np.arange(len(data.clips)))))
    usual = logits[torch.from_numpy(data.split.train)]
    box.fc2.weight *= GAIN / usual.std(dim=0)[:, None]
    box.fc2.bias -= GAIN * usual.mean(dim=0) / usual.std(dim=0)
    own = (logits / usual.std(dim=0) * GAIN + box.fc2.bias).argmax(dim=1).numpy()
    names = [f"group {each + 1}" for each in range(CLASSES)]
    table = data.clips.assign(label=own, category=np.array(names)[own])
    return box, Data(table, data.waveforms, data.n_valid)
