"""A study small enough for tests: four classes of tones in noise, a network of a few channels."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from esc_lib.config import PROFILES, RECIPES, FrontEnd, Network, Recipe, Stage, Training
from esc_lib.data.clips import Data

FRONT_END = FrontEnd(
    sr=8000, n_fft=256, win_length=256, hop_length=128, n_mels=32, f_max_hz=4000.0, n_frames=33
)
DEMO = PROFILES["demo"]
PROFILE = replace(
    DEMO,
    front_end=FRONT_END,
    network=Network(channels=(4, 8, 8, 8, 8), hidden=16),
    training=Training(
        Recipe(batch_size=8, learning_rate=0.1, plateau_patience=0, stop_patience=1000), epochs=4
    ),
)
STRONG = Recipe(
    **{
        **vars(RECIPES["strong"]),
        "name": "strong on tones",
        "batch_size": 8,
        "learning_rate": 0.01,
        "ema_decay": 0.8,
        "stages": (Stage(0.5, 32), Stage(0.5)),
        "augmentation": replace(RECIPES["strong"].augmentation, probability=0.5),
    }
)
TONES_HZ = (300, 700, 1500, 3000)
NAMES = ["low", "middle", "high", "highest"]


def with_training(profile=PROFILE, **settings):
    """Change settings of the training, or of its recipe."""
    own = {name: settings.pop(name) for name in list(settings) if hasattr(Training, name)}
    recipe = replace(own.pop("recipe", profile.training.recipe), **settings)
    return replace(profile, training=replace(profile.training, recipe=recipe, **own))


def make_data(seed=0):
    """Return 40 clips in four classes: a tone of the class's frequency in noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(40) % 4
    time_s = np.arange(FRONT_END.n_samples) / FRONT_END.sr
    hz = np.array(TONES_HZ)[labels, None] * rng.uniform(0.95, 1.05, (40, 1))
    waveforms = 4000 * np.sin(2 * np.pi * (hz * time_s + rng.random((40, 1))))
    waveforms += rng.normal(scale=1000, size=waveforms.shape)
    clips = pd.DataFrame(
        {
            "filename": [f"{i}.wav" for i in range(40)],
            "label": labels,
            "category": np.array(NAMES)[labels],
            "part": np.repeat(["train", "validation", "test"], [24, 8, 8]),
        }
    )
    n_valid = torch.full((40,), FRONT_END.n_samples)
    return Data(clips, torch.from_numpy(waveforms.astype(np.int16)), n_valid)
