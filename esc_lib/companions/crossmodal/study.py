"""The runs of notebook 11: which pairs, which trainings, made once and then found again."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from esc_lib.companions.crossmodal import digits, procedural, sub_urmp, training
from esc_lib.companions.crossmodal.evaluation import difference, gammas
from esc_lib.companions.crossmodal.judge import predict
from esc_lib.companions.crossmodal.pairs import PairSet
from esc_lib.companions.crossmodal.settings import DIRECTIONS, FIRST, Settings
from esc_lib.companions.crossmodal.training import Trained
from esc_lib.machine.files import write_atomically
from esc_lib.machine.fingerprint import fingerprint

LICENCES = {  # of what is played
    "procedural": "MIT",
    "spoken and handwritten digits": "learned from recordings under CC BY-SA 4.0",
    "Sub-URMP": "learned from recordings of Sub-URMP",
}
FOLDS = 4  # groups of sources, of which the first VALIDATION_FOLDS are held back in turn
VALIDATION_FOLDS = 2


def open_pairs(
    settings: Settings, spoken: str = "", written: str = "", sub_urmp_folder: str = ""
) -> PairSet:
    """Return the pairs that a reader has: Sub-URMP, digits, or without folders procedural ones."""
    if sub_urmp_folder:
        return sub_urmp.read_pairs(sub_urmp_folder)
    if bool(spoken) != bool(written):
        given = f"spoken={spoken!r}, written={written!r}"
        raise ValueError(f"open_pairs: {given}; give both folders or neither.")
    if spoken:
        return digits.read_pairs(spoken, written)
    return procedural.make(settings.clips, settings.players)


def plan(settings: Settings, augmentation: Mapping[str, float], pairs: PairSet) -> list[Settings]:
    """Return all trainings: both directions with and without attention, its other stages, codes.

    `augmentation` is the strength chosen for the encoder of each direction. The last training is
    the first with codes as published, if that is another.
    """
    of_direction = {}
    for way in DIRECTIONS:
        needed = -(-settings.codes // len(pairs.sides(way)[0]["train"]))
        views = max(1, needed) if augmentation[way] else 1
        changes = {"direction": way, "augmentation": augmentation[way], "code_views": views}
        of_direction[way] = replace(settings, **changes)
    runs = []
    for seed in settings.seeds:
        wanted = [(way, stage) for way in DIRECTIONS for stage in (None, FIRST)]
        if seed == settings.seeds[0]:
            wanted += [("S2I", stage) for stage in settings.stages]
        for way, stage in wanted:
            pool = settings.pool if stage == FIRST else 1
            runs.append(replace(of_direction[way], attention=stage, pool=pool, seed=seed))
    return list(dict.fromkeys([*runs, replace(runs[0], code_views=1)]))


def carry_out(pairs: PairSet, runs: Iterable[Settings], folder: Path) -> dict[Settings, Trained]:
    """Return the trained networks of each run, read where they are in `folder`, trained where not.

    What is there counts only if it was trained with the same settings on the same pictures by the
    same code. A training that was stopped goes on.
    """
    found = {}
    for run in runs:
        key = _key(pairs, run, code=training.__file__)
        path = folder / f"{run.direction}-{key}.safetensors"
        if not path.exists():
            states = path.with_suffix("")
            training.save(path, training.fit(pairs, run, states))
            shutil.rmtree(states, ignore_errors=True)
        found[run] = training.load(path, pairs)
    return found


def validate(pairs: PairSet, direction: str, settings: Settings, folder: Path) -> pd.DataFrame:
    """Judge encoders trained with each strength of augmentation on sources held back from training.

    Only the training part is looked at. The table, kept in `folder` for the next time, has a row
    per strength: accuracy (%), mean over the held-back groups, and one column per group.
    """
    pictures, steps = pairs.sides(direction)[0]["train"], settings.validation_steps
    base = replace(settings, direction=direction, attention=None, classifier_steps=steps)
    path = folder / f"validation-{direction}-{_key(pairs, base, settings.augmentations)}.csv"
    if path.exists():
        return pd.read_csv(path, index_col=0)
    n_folds = min(FOLDS, len(np.unique(pictures.sources)))
    splits = list(GroupKFold(n_folds).split(pictures.labels, groups=pictures.sources))
    rows = {strength: {} for strength in settings.augmentations}
    for number, (kept, held_back) in enumerate(splits[:VALIDATION_FOLDS], 1):
        for strength, row in rows.items():
            variant = replace(base, augmentation=strength)
            encoder = training.build(pairs, variant).encoder
            training.fit_encoder(encoder, pictures.take(kept), variant)
            validation = pictures.take(held_back)
            right = predict(encoder.logits, validation.unit()) == validation.labels.numpy()
            row[f"group {number}"] = 100 * right.mean()
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("augmentation")
    table.insert(0, "accuracy", table.mean(axis=1))
    write_atomically(path, lambda scratch: table.to_csv(scratch))
    return table


def _key(pairs: PairSet, settings: Settings, *more: object, code: str = __file__) -> str:
    """Return a name for a training: other pictures, settings or code have another."""
    sides = [side["train"] for side in pairs.sides(settings.direction)]
    pictures = [(side.pixels, side.labels, side.sources) for side in sides]
    return fingerprint(settings.of_training(), more, pictures, code=code)


def first(runs: Iterable[Settings], direction: str, attention: int | None) -> Settings:
    """Return the first run of a direction with attention at this stage."""
    return next(run for run in runs if (run.direction, run.attention) == (direction, attention))


def minutes(trained: Iterable[Trained]) -> float:
    """Return how long all trainings took, encoders included."""
    histories = [h for networks in trained for h in (networks.encoder_history, networks.history)]
    return sum(history.seconds.iloc[-1] for history in histories) / 60


def effect_of_attention(verdicts: Mapping[Settings, pd.DataFrame], direction: str) -> pd.DataFrame:
    """Return how many points attention at the first stage adds, a row per seed and one for "all".

    Columns are those of :func:`difference`. The interval of "all" is of inputs, each with its mean
    over the seeds.
    """
    of_stage: dict[int | None, dict[int, pd.DataFrame]] = {None: {}, FIRST: {}}
    for run, table in verdicts.items():
        if run.direction == direction and run.attention in of_stage:
            of_stage[run.attention].setdefault(run.seed, table)
    without, attended = of_stage.values()
    rows = {f"seed {seed}": difference(attended[seed], without[seed]) for seed in without}
    rows["all"] = difference(_mean(attended.values()), _mean(without.values()))
    return pd.DataFrame.from_dict(rows, orient="index")


def _mean(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return the verdicts of several seeds on the same inputs as one: `right` is their mean."""
    tables = list(tables)
    return tables[0].assign(right=np.mean([table.right for table in tables], axis=0))


def between_seeds(verdicts: Mapping[Settings, pd.DataFrame]) -> float:
    """Return how many points lie at most between runs that differ in seed only; NaN for one."""
    found: dict[Settings, list[float]] = {}
    for run, table in verdicts.items():
        found.setdefault(replace(run, seed=0), []).append(100 * table.right.mean())
    return max((max(of) - min(of) for of in found.values() if len(of) > 1), default=np.nan)


def effect_of_stage(
    verdicts: Mapping[Settings, pd.DataFrame], trained: Mapping[Settings, Trained]
) -> pd.DataFrame:
    """Return what attention at each stage adds, sound to image, first seed, a row per stage.

    Columns are those of :func:`difference`, to no attention, and of :func:`gammas`.
    """
    without, rows = verdicts[first(verdicts, "S2I", None)], {}
    stages = (run.attention for run in verdicts if run.direction == "S2I")
    for stage in filter(None, dict.fromkeys(stages)):
        run = first(verdicts, "S2I", stage)
        gained = difference(verdicts[run], without)
        rows[f"attention at {stage}"] = gained | gammas(trained[run])
    return pd.DataFrame.from_dict(rows, orient="index")
