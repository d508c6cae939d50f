"""What generated pictures are worth: judged on the whole part, with intervals, and their spread."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from esc_lib.companions.crossmodal.attention import SelfAttention
from esc_lib.companions.crossmodal.judge import Judge, predict
from esc_lib.companions.crossmodal.networks import N_NOISE
from esc_lib.companions.crossmodal.pairs import PairSet, Pictures
from esc_lib.companions.crossmodal.training import Trained, encode
from esc_lib.evaluation.intervals import accuracy_interval, mean_interval, source_draws

ENOUGH_SOURCES = 5  # fewer say nothing about how sources differ

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
    """Return the poster's accuracies, with Wilson's interval (95 %) where the count is known.

    Its own two rows are whole numbers of pictures out of one batch of 64.

    Returns
    -------
    DataFrame, a row per model: accuracy, low, high (%); low and high are NaN for others' models.
    """
    rows = {}
    for name, both in PUBLISHED[direction].items():
        value = both[("train", "test").index(part)]
        ends = (np.nan, np.nan)
        if name.startswith("SA-CMGAN"):
            ends = accuracy_interval(round(value / 100 * PUBLISHED_BATCH), PUBLISHED_BATCH)
        rows[name] = {"accuracy": value, "low": 100 * ends[0], "high": 100 * ends[1]}
    return pd.DataFrame.from_dict(rows, orient="index").dropna(subset="accuracy")


@torch.no_grad()
def generate(trained: Trained, inputs: Pictures, seed: int = 0, batch: int = 256) -> torch.Tensor:
    """Return one generated picture per input, float in [-1, 1], (inputs, channels, 64, 64)."""
    codes = encode(trained.encoder, inputs, batch)
    chance = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(codes), N_NOISE, generator=chance).to(codes.device)
    halves = zip(codes.split(batch), noise.split(batch), strict=True)
    return torch.cat([trained.generator(*half).cpu() for half in halves])


def verdicts(
    trained: Trained, judge: Judge, pairs: PairSet, part: str = "test", seed: int = 0
) -> pd.DataFrame:
    """Return what becomes of every input of a part.

    Parameters
    ----------
    trained : Trained
    judge : Judge, trained on real pictures of the output's modality.
    pairs : PairSet
    part : "train" or "test".
    seed : int, of the noise.

    Returns
    -------
    DataFrame, a row per input: label, source, understood (what the encoder takes the input for),
    judged (what the judge takes the generated picture for), right (judged is the label).
    """
    inputs = pairs.sides(trained.direction)[0][part]
    judged = predict(judge, generate(trained, inputs, seed))
    labels = inputs.labels.numpy()
    return pd.DataFrame(
        {
            "label": labels,
            "source": inputs.sources,
            "understood": predict(trained.encoder.logits, inputs.unit()),
            "judged": judged,
            "right": judged == labels,
        }
    )


def accuracy(right: np.ndarray, sources: np.ndarray) -> dict:
    """Return accuracy and its 95 % interval in percent, and what the interval is over.

    Parameters
    ----------
    right : bool array, shape (pictures,).
    sources : array, shape (pictures,): speakers, recordings, writers.

    Returns
    -------
    dict: accuracy, low, high (%), pictures, sources, and over: "sources", a bootstrap of them, or
    "pictures", Wilson's interval, where there are fewer than five sources. The latter says nothing
    about other sources and is too short for them.
    """
    n_sources = len(np.unique(sources))
    if n_sources >= ENOUGH_SOURCES:
        draws = source_draws(sources, n_draws=1000)
        middle, low, high = mean_interval(right.astype(float), draws)
    else:
        middle, (low, high) = right.mean(), accuracy_interval(int(right.sum()), len(right))
    return {
        "accuracy": 100 * float(middle),
        "low": 100 * low,
        "high": 100 * high,
        "pictures": len(right),
        "sources": n_sources,
        "over": "sources" if n_sources >= ENOUGH_SOURCES else "pictures",
    }


def judge_accuracy(judge: Judge, pictures: Pictures) -> dict:
    """Return a judge's own accuracy on real pictures, as :func:`accuracy` does."""
    right = predict(judge, pictures.unit()) == pictures.labels.numpy()
    return accuracy(right, pictures.sources)


def compare(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return a row per run of what :func:`accuracy` says, and the encoder's own accuracy (%).

    Parameters
    ----------
    tables : name of a run to its :func:`verdicts`.
    """
    rows = {}
    for name, table in tables.items():
        rows[name] = accuracy(table.right.to_numpy(), table.source.to_numpy())
        rows[name]["understood"] = 100 * float((table.understood == table.label).mean())
    return pd.DataFrame.from_dict(rows, orient="index")


def difference(first: pd.DataFrame, second: pd.DataFrame) -> dict:
    """Return how many points more of the same inputs the first run gets right, with interval.

    Parameters
    ----------
    first, second : verdicts on the same inputs in the same order.

    Returns
    -------
    dict: difference, low, high (points of percent), over: "sources" or, if they are fewer than
    five, "pictures": what the bootstrap draws.
    """
    if not first[["label", "source"]].equals(second[["label", "source"]]):
        raise ValueError("difference: the two runs judged different inputs; use the same part.")
    gained = first.right.to_numpy().astype(float) - second.right.to_numpy()
    enough = first.source.nunique() >= ENOUGH_SOURCES
    drawn = first.source.to_numpy() if enough else np.arange(len(first))
    found = mean_interval(100 * gained, source_draws(drawn, n_draws=1000))
    named = dict(zip(("difference", "low", "high"), found, strict=True))
    return named | {"over": "sources" if enough else "pictures"}


def gammas(trained: Trained) -> dict[str, float]:
    """Return the weight of each network's attention; 0 is none. Empty without attention."""
    found = {}
    for name in ("encoder", "generator", "discriminator"):
        for layer in getattr(trained, name).modules():
            if isinstance(layer, SelfAttention):
                found[name] = float(layer.gamma.detach())
    return found


def reach(weights: torch.Tensor) -> dict[str, float]:
    """Return how far places attend on average, as a share of what an even spread would give.

    Parameters
    ----------
    weights : tensor, shape (pictures, places, places / pool ** 2), of square grids.

    Returns
    -------
    dict: frequency and time (rows and columns of the grid), 1 for an even spread, 0 for a place
    that attends to its own row or column only.
    """
    sides = [round(n**0.5) for n in weights.shape[1:]]
    # (row, column) of every place, on one scale for queries and keys
    queries, keys = (
        torch.stack([torch.arange(n**2) // n, torch.arange(n**2) % n]).add(0.5) / n for n in sides
    )
    shares = {}
    for index, name in enumerate(("frequency", "time")):
        apart = (queries[index][:, None] - keys[index]).abs()
        shares[name] = float((weights.cpu() * apart).sum(-1).mean() / apart.mean())
    return shares


def spread(pictures: torch.Tensor, labels: np.ndarray) -> float:
    """Return how much pictures of one class differ: root mean variance per pixel, grey in [-1, 1].

    A generator that gives one picture per class can have every one judged right; its spread is 0.

    Parameters
    ----------
    pictures : float tensor, shape (pictures, channels, 64, 64).
    labels : int array, shape (pictures,).
    """
    of_class = [
        pictures[labels == label].var(dim=0, correction=0).mean() for label in np.unique(labels)
    ]
    return float(torch.stack(of_class).mean().sqrt())
