"""Frozen against full: ways to use an encoder that was taught without labels, over test folds."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from esc_lib.companions.transformer.freezing import (
    FROZEN,
    FULL,
    build_ast,
    embeddings,
    freeze,
    linear_probe,
)
from esc_lib.companions.transformer.network import SpectrogramAST
from esc_lib.companions.transformer.pretraining import Pretrained, Pretraining, pretrain
from esc_lib.config import RECIPES, FrontEnd, Profile, Stage, Transformer
from esc_lib.data.clips import Data
from esc_lib.evaluation.intervals import mean_interval, source_draws
from esc_lib.machine.files import write_atomically
from esc_lib.machine.hardware import autocast, best_device
from esc_lib.sound import augment
from esc_lib.sound.audio import sounding_span
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import classifier, prediction, runs

STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # of the probe; the best on validation clips is taken
BATCH = 64


@dataclass(frozen=True)
class Way:
    """A way to make a classifier of an encoder.

    Attributes
    ----------
    name : str, in tables.
    level : str, what learns, as for ``freezing.freeze``; "" fits a linear probe.
    taught : bool, the encoder was taught without labels before; else it is fresh.
    """

    name: str
    level: str
    taught: bool = True


SCRATCH = Way("from scratch", FULL, False)
LEVELS = (Way("full", FULL), Way("last two layers", "last2"), Way("frozen", FROZEN))
PROBE, PROBE_FRESH = Way("linear probe", ""), Way("linear probe, fresh encoder", "", False)
WAYS = (SCRATCH, *LEVELS, PROBE, PROBE_FRESH)

# ------------------------------------------------------------------------------------ excerpts


def excerpts(
    data: Data, front_end: FrontEnd, rows: np.ndarray, n_frames: int, n: int = 1, *, db=False
) -> torch.Tensor:
    """Cut evenly spaced excerpts out of the sounding part of clips.

    Parameters
    ----------
    data : Data
    front_end : FrontEnd
    rows : int array, shape (clips,).
    n_frames : int, of an excerpt.
    n : int, excerpts of a clip; one is cut from the middle.
    db : bool, dB instead of features with mean 0 and deviation 1.

    Returns
    -------
    tensor, shape (clips, n, 1, mel, frames).
    """
    made = LogMel(front_end).of_frames(n_frames)
    n_samples = made.settings.n_samples
    places = torch.linspace(0, 1, n) if n > 1 else torch.tensor([0.5])
    found = []
    for part in np.array_split(rows, -(-len(rows) // BATCH)):
        waveforms, _ = data.batch(part)
        spans = sounding_span(data.waveforms[part])
        views = []
        for place in places:
            starts = augment.crop_starts(spans, n_samples, place)
            cut = augment.crop(waveforms, starts, n_samples)
            whole = torch.full_like(starts, n_samples)
            views.append(made(cut)[:, None] if db else made.features(cut, whole))
        found.append(torch.stack(views, dim=1))
    return torch.cat(found)


# ------------------------------------------------------------------------------------ teaching


def settings_of(profile: Profile, fold: int, level: str = FULL, name: str = "ast_8x8") -> Profile:
    """Return the settings of a training with labels: the strong recipe on excerpts of one length.

    Parameters
    ----------
    profile : Profile, whose `transformer` says how long.
    fold : int, test fold.
    level : str, what learns.
    name : str, "ast_8x8" or "ast_full".
    """
    own = profile.transformer
    recipe = replace(
        RECIPES["strong"],
        name="transformer",
        learning_rate=own.classifier_rate if level == FROZEN else own.learning_rate,
        ema_decay=0.0,  # there are too few steps for a running mean
        stages=(Stage(1.0, own.n_frames),),
        test_crops=own.views,
    )
    changed = runs.variant(profile, test_fold=fold, epochs=own.epochs, recipe=recipe)
    # what a training depends on is in recipe and epochs: the rest must not make it another one
    return replace(changed, architecture=f"{name}-{level}", transformer=Transformer())


def fresh(data: Data, profile: Profile, fold: int) -> SpectrogramAST:
    """Return the small network of a fold before it learned anything."""
    torch.manual_seed(profile.training.seed)
    return build_ast(settings_of(profile, fold), len(data.class_names))


def teach(data: Data, profile: Profile, fold: int, folder: Path) -> Pretrained:
    """Teach the small network without labels, on the training clips of a fold only.

    Validation clips are measured; test clips are not touched. What is in `folder` is gone on with.
    """
    own, at = profile.transformer, settings_of(profile, fold)
    data = runs.split_for(data, at)
    views = {
        part: excerpts(data, profile.front_end, rows, own.n_frames, n).flatten(0, 1)
        for part, rows, n in (
            ("train", data.split.train, own.views),
            ("validation", data.split.validation, 1),
        )
    }
    settings = Pretraining(epochs=own.pretraining_epochs, seed=profile.training.seed)
    network = fresh(data, profile, fold)
    return pretrain(network, views["train"], settings, views["validation"], folder)


def use(
    way: Way,
    data: Data,
    profile: Profile,
    fold: int,
    start: SpectrogramAST,
    folder: Path,
    name: str = "ast_8x8",
) -> tuple[SpectrogramAST, pd.DataFrame]:
    """Make a classifier of an encoder in one way, and judge it on validation and test clips.

    Parameters
    ----------
    way : Way
    data : Data
    profile : Profile
    fold : int, test fold.
    start : SpectrogramAST, its weights before; a fresh one or one that was taught.
    folder : Path; what was trained and judged there before is not done again.
    name : str, "ast_8x8" or "ast_full": the shape of `start`.

    Returns
    -------
    network : what came out; for a probe, `start` itself.
    judged : DataFrame, a row per validation and test clip: way, fold, part, filename, src_file,
        right, seconds (of the training, the same in all rows).
    """
    own = settings_of(profile, fold, way.level or FROZEN, name)
    data = runs.split_for(data, own)
    folder = folder / f"{way.name.replace(', ', '-').replace(' ', '_')}-fold{fold}"
    identity = classifier.run_identity(data, own, None, start)
    network, seconds = start, 0.0
    if way.level:
        fit = classifier.fit(data, own, folder, start=freeze(copy.deepcopy(start), way.level))
        network, seconds = fit.model, float(fit.history.seconds.sum())
    path = folder / f"run_{identity}" / "judged.csv"
    if not path.is_file():
        rows = np.concatenate([data.split.validation, data.split.test])
        decide = _decided if way.level else _probed
        right = decide(network, data, profile, rows) == data.labels.numpy()[rows]
        judged = data.clips.loc[rows, ["part", "filename", "src_file"]].assign(right=right)
        write_atomically(path, lambda scratch: judged.to_csv(scratch, index=False))
    return network, pd.read_csv(path).assign(way=way.name, fold=fold, seconds=seconds)


def _decided(network: SpectrogramAST, data: Data, profile: Profile, rows) -> np.ndarray:
    """Return the class that the network finds most probable, on average over excerpts."""
    own, device = profile.transformer, best_device()
    front_end = LogMel(profile.front_end).to(device)
    with autocast(device):
        logits = prediction.predict(
            network.to(device), front_end, data, rows, own.n_frames, own.views
        )
    return logits.argmax(1).numpy()


def _probed(network: SpectrogramAST, data: Data, profile: Profile, rows) -> np.ndarray:
    """Return what a linear probe on the mean over excerpts decides, its strength by validation."""
    own, network = profile.transformer, network.to(best_device())

    def embedded(chosen: np.ndarray) -> np.ndarray:
        views = excerpts(data, profile.front_end, chosen, own.n_frames, own.views)
        flat = embeddings(network, views.flatten(0, 1))
        return flat.reshape(len(chosen), own.views, -1).mean(axis=1)

    labels, split = data.labels.numpy(), data.split
    learned, validated = embedded(split.train), embedded(split.validation)
    probes = [linear_probe(learned, labels[split.train], strength) for strength in STRENGTHS]
    best = max(probes, key=lambda probe: probe.score(validated, labels[split.validation]))
    return best.predict(embedded(rows))


# ----------------------------------------------------------------------------------- judgement


def accuracy_table(judged: pd.DataFrame, part: str) -> pd.DataFrame:
    """Return the accuracy of every way in percent, over all folds, a row per way.

    Columns are accuracy, low, high (95 % over source recordings), clips and minutes, the latter of
    training with labels, all folds together.
    """
    rows = {}
    for name, table in judged[judged.part == part].groupby("way", sort=False):
        right = 100 * table.right.to_numpy(float)
        found = mean_interval(right, source_draws(table.src_file.to_numpy()))
        minutes = table.groupby("fold").seconds.first().sum() / 60
        rows[name] = dict(zip(("accuracy", "low", "high"), found, strict=True)) | {
            "clips": len(table),
            "minutes": minutes,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def differences(
    judged: pd.DataFrame, pairs: tuple[tuple[str, str], ...], part: str = "test"
) -> pd.DataFrame:
    """Return by how many points the first way of each pair beats the second, on the same clips.

    Columns are difference, low, high (95 % over source recordings); the index is
    "<first> - <second>". Chance in the training is not in the interval: each way was trained once
    per fold.
    """
    table = judged[judged.part == part].set_index(["fold", "filename"])
    rows = {}
    for first, second in pairs:
        one, other = (table[table.way == name] for name in (first, second))
        points = 100 * (one.right.astype(float) - other.right.astype(float).reindex(one.index))
        found = mean_interval(points.to_numpy(), source_draws(one.src_file.to_numpy()))
        rows[f"{first} - {second}"] = dict(zip(("difference", "low", "high"), found, strict=True))
    return pd.DataFrame.from_dict(rows, orient="index")
