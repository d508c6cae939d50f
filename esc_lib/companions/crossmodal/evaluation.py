"""What generated pictures are worth, with intervals, and where attention goes."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from esc_lib.companions.crossmodal.judge import Judge, predict
from esc_lib.companions.crossmodal.networks import N_NOISE, SelfAttention, Tower
from esc_lib.companions.crossmodal.pairs import PairSet, Pictures
from esc_lib.companions.crossmodal.training import AT_ONCE, Trained, encode
from esc_lib.evaluation.intervals import accuracy_interval, mean_interval, source_draws
from esc_lib.machine.hardware import best_device

ENOUGH_SOURCES = 5  # fewer say nothing about how sources differ
DRAWS = 1000  # of a bootstrap

# accuracy in percent, (train, test), Sub-URMP: what the poster prints
PUBLISHED = {
    "S2I": {
        "S2IC": (87.37, 75.56),
        "CMCGAN": (91.05, 76.61),
        "SA-CMGAN": (93.75, 84.38),
        "SA-CMGAN without attention": (90.63, 79.69),
    },
    "I2S": {
        "I2S": (np.nan, 11.17),
        "CMCGAN": (81.09, 51.89),
        "SA-CMGAN": (87.50, 59.37),
        "SA-CMGAN without attention": (28.13, 23.43),
    },
}
PUBLISHED_BATCH = 64  # pictures its public code counts: one random batch


def published(direction: str, part: str = "test") -> pd.DataFrame:
    """Return the poster's accuracies, a row per model: accuracy, low, high (%).

    Its own two rows are whole numbers of pictures out of one batch of 64 and have Wilson's interval
    (95 %); the ends are NaN for others' models.
    """
    rows = {}
    for name, both in PUBLISHED[direction].items():
        value, (low, high) = both[("train", "test").index(part)], (np.nan, np.nan)
        if name.startswith("SA-CMGAN"):
            low, high = accuracy_interval(round(value / 100 * PUBLISHED_BATCH), PUBLISHED_BATCH)
        rows[name] = {"accuracy": value, "low": 100 * low, "high": 100 * high}
    return pd.DataFrame.from_dict(rows, orient="index").dropna(subset="accuracy")


@torch.no_grad()
def generate(trained: Trained, inputs: Pictures, seed: int = 0) -> torch.Tensor:
    """Return one generated picture per input, float in [-1, 1], (inputs, channels, 64, 64)."""
    codes = encode(trained.encoder, inputs)
    noise = torch.randn(len(codes), N_NOISE, generator=torch.Generator().manual_seed(seed))
    parts = zip(codes.split(AT_ONCE), noise.to(codes.device).split(AT_ONCE), strict=True)
    return torch.cat([trained.generator(*part).cpu() for part in parts])


def verdicts(trained: Trained, judge: Judge, pairs: PairSet, part: str = "test") -> pd.DataFrame:
    """Return what becomes of every input of a part, "train" or "test", a row each.

    Columns are label, source, understood (what the encoder takes the input for), judged (what the
    judge takes the generated picture for) and right (judged is the label).
    """
    inputs = pairs.sides(trained.settings.direction)[0][part]
    found = {
        "label": inputs.labels.numpy(),
        "source": inputs.sources,
        "understood": predict(trained.encoder.logits, inputs.unit()),
        "judged": predict(judge, generate(trained, inputs)),
    }
    return pd.DataFrame(found | {"right": found["judged"] == found["label"]})


def accuracy(right: np.ndarray, sources: np.ndarray) -> dict:
    """Return accuracy, low and high of its 95 % interval (%), pictures, sources and over.

    The interval is over "sources" (speakers, recordings, writers), a bootstrap of them, or where
    there are fewer than five over "pictures", Wilson's: that one says nothing about other sources
    and is too short for them.
    """
    n_sources = len(np.unique(sources))
    if n_sources >= ENOUGH_SOURCES:
        over, found = "sources", mean_interval(right.astype(float), source_draws(sources, DRAWS))
    else:
        interval = accuracy_interval(int(right.sum()), len(right))
        over, found = "pictures", (float(right.mean()), *interval)
    percent = {name: 100 * x for name, x in zip(("accuracy", "low", "high"), found, strict=True)}
    return percent | {"pictures": len(right), "sources": n_sources, "over": over}


def judge_accuracy(judge: Judge, pictures: Pictures) -> dict:
    """Return a judge's own accuracy on real pictures, as :func:`accuracy` does."""
    return accuracy(predict(judge, pictures.unit()) == pictures.labels.numpy(), pictures.sources)


def compare(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return what :func:`accuracy` says of each run's verdicts, and the encoder's accuracy (%)."""
    rows = {}
    for name, table in tables.items():
        rows[name] = accuracy(table.right.to_numpy(), table.source.to_numpy())
        rows[name]["understood"] = 100 * float((table.understood == table.label).mean())
    return pd.DataFrame.from_dict(rows, orient="index")


def difference(first: pd.DataFrame, second: pd.DataFrame) -> dict:
    """Return how many points more of the same inputs the first run gets right, with interval.

    These are difference, low and high, and over: "sources" or, if they are fewer than five,
    "pictures", what the bootstrap draws. Inputs that are not the same in order raise ValueError.
    """
    if not first[["label", "source"]].equals(second[["label", "source"]]):
        raise ValueError("difference: the two runs judged different inputs; use the same part.")
    gained = first.right.to_numpy().astype(float) - second.right.to_numpy()
    enough = first.source.nunique() >= ENOUGH_SOURCES
    drawn = first.source.to_numpy() if enough else np.arange(len(first))
    found = mean_interval(100 * gained, source_draws(drawn, DRAWS))
    named = dict(zip(("difference", "low", "high"), found, strict=True))
    return named | {"over": "sources" if enough else "pictures"}


def gammas(trained: Trained) -> dict[str, float]:
    """Return the weight of each network's attention; 0 is none. Empty without attention."""
    return {
        name: float(layer.gamma.detach())
        for name, network in trained.networks.items()
        for layer in network.modules()
        if isinstance(layer, SelfAttention)
    }


@torch.no_grad()
def attention_to(tower: Tower, sounds: Pictures) -> torch.Tensor:
    """Return where a tower's attention goes, (sounds, places, places / pool ** 2)."""
    return tower.attention_weights(sounds.unit().to(best_device())).cpu()


def reach(weights: torch.Tensor) -> dict[str, float]:
    """Return how far places attend on average, as a share of what an even spread would give.

    Weights are (pictures, places, places / pool ** 2). Frequency and time are rows and columns of
    the square grid: 1 is an even spread, 0 a place that attends to its own row or column only.
    """
    sides = [round(n**0.5) for n in weights.shape[1:]]
    # (row, column) of every place, on one scale for queries and keys
    queries, keys = (
        torch.stack([torch.arange(n**2) // n, torch.arange(n**2) % n]).add(0.5) / n for n in sides
    )
    apart = (queries[:, :, None] - keys[:, None]).abs()  # (axes, places, places / pool ** 2)
    shares = [float((weights * on_axis).sum(-1).mean() / on_axis.mean()) for on_axis in apart]
    return dict(zip(("frequency", "time"), shares, strict=True))


def places_to_ask(picture: np.ndarray, side: int) -> list[tuple[int, int]]:
    """Return five places of a spectrogram, (row, column) on a grid of `side` x `side`.

    The loudest place of each third of the time that sounds, the loudest of the upper half, the
    quietest. What sounds is in the louder half of the picture's range; row 0 is the lowest band.
    """
    step = len(picture) // side
    grid = picture.reshape(side, step, side, step).mean(axis=(1, 3))
    sounding = np.flatnonzero(grid.max(axis=0) >= (grid.min() + grid.max()) / 2)
    span = (sounding[0], sounding[-1] + 1) if np.ptp(sounding) >= 2 else (0, side)
    edges = np.linspace(*span, 4).round().astype(int)
    regions = [(0, a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    found = []
    for lowest, start, end in [*regions, (side // 2, 0, side)]:
        part = np.full_like(grid, -np.inf)
        part[lowest:, start:end] = grid[lowest:, start:end]
        found.append(part.argmax())
    return [divmod(int(place), side) for place in [*found, grid.argmin()]]
