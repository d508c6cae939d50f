"""The runs of notebook 11: which pairs, which networks, trained once and then found again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import GroupKFold

from esc_lib.companions.crossmodal import checkpoint, digits, procedural, sub_urmp, training
from esc_lib.companions.crossmodal.experiment import difference, gammas
from esc_lib.companions.crossmodal.judge import predict
from esc_lib.companions.crossmodal.networks import Tower
from esc_lib.companions.crossmodal.pairs import DIRECTIONS, PairSet, Pictures
from esc_lib.companions.crossmodal.training import Settings, Trained
from esc_lib.config import CrossModal
from esc_lib.machine.files import write_atomically
from esc_lib.machine.fingerprint import fingerprint

T = TypeVar("T")
LICENCES = {  # of what is played
    "procedural": "MIT",
    "spoken and handwritten digits": "learned from recordings under CC BY-SA 4.0",
    "Sub-URMP": "learned from recordings of Sub-URMP",
}
FIRST = 64  # channels of the stage where the published network has its attention
FOLDS = 4  # groups of sources, of which the first VALIDATION_FOLDS are held back in turn
VALIDATION_FOLDS = 2


@dataclass(frozen=True)
class Run:
    """One training: a direction, and the stage of its attention (None: without)."""

    direction: str
    settings: Settings

    @property
    def name(self) -> str:
        """Return what a table calls it."""
        stage = self.settings.attention
        kind = "without attention" if stage is None else f"attention at {stage}"
        views = "" if self.settings.code_views == 1 else f", {self.settings.code_views} codes"
        return f"{kind}{views}, seed {self.settings.seed}"


def open_pairs(
    effort: CrossModal, spoken: str = "", written: str = "", sub_urmp_folder: str = ""
) -> PairSet:
    """Return the pairs that a reader has: Sub-URMP, digits, or without folders procedural ones.

    Raises
    ------
    ValueError
        If only one of the two folders of digits is given.
    """
    if sub_urmp_folder:
        return sub_urmp.read_pairs(sub_urmp_folder)
    if bool(spoken) != bool(written):
        raise ValueError(
            f"open_pairs: spoken={spoken!r}, written={written!r}; give both folders or neither."
        )
    if spoken:
        return digits.read_pairs(spoken, written)
    return procedural.make(effort.clips, effort.players)


def settings_of(
    effort: CrossModal, attention: int | None, augmentation: float, seed: int = 0
) -> Settings:
    """Return the settings of one training.

    Parameters
    ----------
    effort : CrossModal
    attention : int or None; from the second stage on it looks at all places, whatever `pool` is.
    augmentation : float, of the encoder.
    seed : int
    """
    return Settings(
        width=effort.width,
        attention=attention,
        pool=effort.pool if attention == FIRST else 1,
        steps=effort.steps,
        classifier_steps=effort.classifier_steps,
        batch=effort.batch,
        learning_rate=effort.learning_rate,
        generator_rate=effort.generator_rate,
        critic_every=effort.critic_every,
        augmentation=augmentation,
        one_cycle=effort.encoder_rate,
        seed=seed,
    )


def plan(effort: CrossModal, augmentation: Mapping[str, float], pairs: PairSet) -> list[Run]:
    """Return all trainings: both directions with and without attention, its other stages, codes.

    The last one is the first with codes as published, if that is another.

    Parameters
    ----------
    effort : CrossModal
    augmentation : direction to the strength chosen for its encoder.
    pairs : PairSet, says how many inputs there are.
    """
    runs, views = [], dict.fromkeys(DIRECTIONS, 1)
    for direction in DIRECTIONS:
        if augmentation[direction]:
            n_inputs = len(pairs.sides(direction)[0]["train"])
            views[direction] = max(1, -(-effort.codes // n_inputs))
    for seed in effort.seeds:
        wanted = [(way, stage) for way in DIRECTIONS for stage in (None, FIRST)]
        if seed == effort.seeds[0]:
            wanted += [("S2I", stage) for stage in effort.stages]
        for direction, stage in wanted:
            settings = settings_of(effort, stage, augmentation[direction], seed)
            runs.append(Run(direction, replace(settings, code_views=views[direction])))
    published_codes = replace(runs[0].settings, code_views=1)
    if published_codes != runs[0].settings:
        runs.append(Run(runs[0].direction, published_codes))
    return runs


def carry_out(pairs: PairSet, runs: list[Run], folder: Path) -> list[Trained]:
    """Return the trained networks of each run, read where they are in `folder`, trained where not.

    What is there counts only if it was trained with the same settings on the same pictures.
    """
    found = []
    for run in runs:
        path = folder / f"{run.direction}-{_key(pairs, run.direction, run.settings)}.safetensors"
        if not path.exists():
            checkpoint.save(path, training.fit(pairs, run.direction, run.settings))
        found.append(checkpoint.load(path, pairs))
    return found


def validate(pairs: PairSet, direction: str, effort: CrossModal, folder: Path) -> pd.DataFrame:
    """Judge encoders trained with each strength of augmentation on sources held back from training.

    Parameters
    ----------
    pairs : PairSet, of which only the training part is looked at.
    direction : "S2I" or "I2S".
    effort : CrossModal
    folder : where the table is kept for the next time.

    Returns
    -------
    DataFrame, a row per strength: accuracy (%), mean over the held-back groups, and one column
    per group.
    """
    pictures = pairs.sides(direction)[0]["train"]
    base = replace(settings_of(effort, None, 0.0), classifier_steps=effort.validation_steps)
    key = _key(pairs, direction, base, list(effort.augmentations))
    path = folder / f"validation-{direction}-{key}.csv"
    if path.exists():
        return pd.read_csv(path, index_col=0)
    n_folds = min(FOLDS, len(np.unique(pictures.sources)))
    splits = GroupKFold(n_folds).split(pictures.labels, groups=pictures.sources)
    splits = list(splits)[:VALIDATION_FOLDS]
    rows = {strength: {} for strength in effort.augmentations}
    for number, (kept, held_back) in enumerate(splits, 1):
        for strength in rows:
            settings = replace(base, augmentation=strength)
            encoder = training.build(pairs, direction, settings).encoder
            training.fit_encoder(encoder, pictures.take(kept), settings)
            validation = pictures.take(held_back)
            right = predict(encoder.logits, validation.unit()) == validation.labels.numpy()
            rows[strength][f"group {number}"] = 100 * right.mean()
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("augmentation")
    table.insert(0, "accuracy", table.mean(axis=1))
    write_atomically(path, lambda scratch: table.to_csv(scratch))
    return table


def first(runs: list[Run], things: list[T], direction: str, attention: int | None) -> T:
    """Return what belongs to the first run of a direction with attention at this stage."""
    return next(
        thing
        for run, thing in zip(runs, things, strict=True)
        if run.direction == direction and run.settings.attention == attention
    )


def minutes(trained: list[Trained]) -> float:
    """Return how long all trainings took, encoders included."""
    histories = [h for networks in trained for h in (networks.encoder_history, networks.history)]
    return sum(history.seconds.iloc[-1] for history in histories) / 60


def effect_of_attention(
    runs: list[Run], verdicts: list[pd.DataFrame], direction: str
) -> pd.DataFrame:
    """Return how many points attention at the first stage adds, for each seed and over all.

    Parameters
    ----------
    runs, verdicts : as planned, and ``experiment.verdicts`` of each.
    direction : "S2I" or "I2S".

    Returns
    -------
    DataFrame, a row per seed and one named "all": difference, low, high (points), over. The
    interval of "all" is of inputs, each with its mean over the seeds.
    """
    of_stage: dict[int | None, dict[int, pd.DataFrame]] = {None: {}, FIRST: {}}
    for run, table in zip(runs, verdicts, strict=True):
        if run.direction == direction and run.settings.attention in of_stage:
            of_stage[run.settings.attention].setdefault(run.settings.seed, table)
    without, attended = of_stage.values()
    rows = {f"seed {seed}": difference(attended[seed], without[seed]) for seed in without}
    rows["all"] = difference(mean_of(attended.values()), mean_of(without.values()))
    return pd.DataFrame.from_dict(rows, orient="index")


def mean_of(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return the verdicts of several seeds on the same inputs as one: `right` is their mean."""
    tables = list(tables)
    return tables[0].assign(right=np.mean([table.right for table in tables], axis=0))


def between_seeds(runs: list[Run], verdicts: list[pd.DataFrame]) -> float:
    """Return by how many points networks that differ in nothing but their seed differ at most.

    NaN where there is one seed.
    """
    found: dict[Run, list[float]] = {}
    for run, table in zip(runs, verdicts, strict=True):
        alike = replace(run, settings=replace(run.settings, seed=0))
        found.setdefault(alike, []).append(100 * table.right.mean())
    return max((max(of) - min(of) for of in found.values() if len(of) > 1), default=np.nan)


def effect_of_stage(
    runs: list[Run], verdicts: list[pd.DataFrame], trained: list[Trained]
) -> pd.DataFrame:
    """Return what attention at each stage adds, sound to image, first seed, with its weights.

    Returns
    -------
    DataFrame, a row per stage: difference to no attention, low, high (points), over, and the
    weight of the attention in encoder, generator and discriminator.
    """
    without, rows = first(runs, verdicts, "S2I", None), {}
    stages = dict.fromkeys(run.settings.attention for run in runs if run.direction == "S2I")
    for stage in filter(None, stages):
        gained = difference(first(runs, verdicts, "S2I", stage), without)
        rows[f"attention at {stage}"] = gained | gammas(first(runs, trained, "S2I", stage))
    return pd.DataFrame.from_dict(rows, orient="index")


def places_to_ask(picture: np.ndarray, side: int) -> list[tuple[int, int]]:
    """Return five places of a spectrogram, (row, column) on a grid of `side` x `side`.

    The loudest place of each third of the time that sounds, the loudest of the upper half, the
    quietest. What sounds is in the louder half of the picture's range.

    Parameters
    ----------
    picture : array, shape (64, 64), row 0 is the lowest band.
    side : int
    """
    step = len(picture) // side
    grid = picture.reshape(side, step, side, step).mean(axis=(1, 3))
    sounding = np.flatnonzero(grid.max(axis=0) >= (grid.min() + grid.max()) / 2)
    span = (sounding[0], sounding[-1] + 1) if np.ptp(sounding) >= 2 else (0, side)
    edges = np.linspace(*span, 4).round().astype(int)
    regions = [(slice(None), slice(a, b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    regions.append((slice(side // 2, None), slice(None)))
    found = []
    for rows, columns in regions:
        part = grid[rows, columns]
        row, column = np.unravel_index(part.argmax(), part.shape)
        found.append((int(row) + (rows.start or 0), int(column) + (columns.start or 0)))
    quietest = np.unravel_index(grid.argmin(), grid.shape)
    return [*found, (int(quietest[0]), int(quietest[1]))]


@torch.no_grad()
def attention_to(tower: Tower, sounds: Pictures) -> torch.Tensor:
    """Return where a tower's attention goes, (sounds, places, places / pool ** 2)."""
    device = next(tower.parameters()).device
    return tower.attention_weights(sounds.unit().to(device)).cpu()


def _key(pairs: PairSet, direction: str, settings: Settings, more: object = None) -> str:
    """Return a name for this training: other pictures or settings have another."""
    sides = [side["train"] for side in pairs.sides(direction)]
    pictures = [(side.pixels, side.labels) for side in sides]
    return fingerprint(direction, settings, more, pictures, code=__file__)
