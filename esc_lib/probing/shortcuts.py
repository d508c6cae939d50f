"""Does a classifier hear how clips were made: what each cue says alone, what is left without it.

A table of judged clips has a row per clip and condition, with the columns filename, fold, src_file,
category, label, condition, predicted, right.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import RandomForestClassifier

from esc_lib.config import Profile
from esc_lib.data.clips import Data
from esc_lib.evaluation.intervals import accuracy, paired_difference
from esc_lib.machine import pieces
from esc_lib.machine.files import write_atomically
from esc_lib.machine.fingerprint import fingerprint
from esc_lib.machine.hardware import autocast, best_device
from esc_lib.machine.reading import read_table
from esc_lib.probing.cues import CUES, removals
from esc_lib.sound.log_mel import LogMel
from esc_lib.training.checkpoint import load
from esc_lib.training.prediction import predict
from esc_lib.training.runs import how_to_train, name_of, split_for

TREES = 100
DEALS = 3  # of classes among recordings, whose mean is chance
COLUMNS = ["filename", "fold", "src_file", "category", "label"]
UNTOUCHED = "as it is"  # of the conditions


def decided(clips: pd.DataFrame, predicted: np.ndarray, condition: str) -> pd.DataFrame:
    """Return a row per clip with the class it was given, int (clips,), see the module."""
    right = clips.label.to_numpy() == predicted
    return clips[COLUMNS].assign(condition=condition, predicted=predicted, right=right)


# ------------------------------------------------------------------------------- the cue alone


def classified(numbers: pd.DataFrame, clips: pd.DataFrame) -> np.ndarray:
    """Return the class that a forest gives each clip by some numbers, over the official folds.

    A clip whose recording stands in the test fold does not train.
    """
    found = np.empty(len(clips), int)
    for fold in clips.fold.unique():
        test = (clips.fold == fold).to_numpy()
        train = ~test & ~clips.src_file.isin(clips.src_file[test]).to_numpy()
        forest = RandomForestClassifier(TREES, random_state=0)
        found[test] = forest.fit(numbers[train], clips.label[train]).predict(numbers[test])
    return found


def dealt(clips: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return the clips with their classes dealt anew among recordings: what is left is chance.

    Among recordings of equally many clips, so that classes keep their size.
    """
    classes, rng = ["label", "category"], np.random.default_rng(seed)
    recordings = clips.groupby("src_file")[classes].first()
    size = clips.src_file.value_counts()[recordings.index].to_numpy()
    anew = recordings.copy()
    for n_clips in np.unique(size):
        alike = np.flatnonzero(size == n_clips)
        anew.iloc[alike] = recordings.iloc[rng.permutation(alike)]
    return clips.assign(**anew.loc[clips.src_file].set_axis(clips.index))


def alone(data: Data, sr: int) -> pd.DataFrame:
    """Return judged clips: what a forest makes of each cue alone, and with classes dealt.

    Of the latter "right" is the share of the deals, and no class stands there as predicted.
    """
    tables = []
    for name, numbers_of in CUES.items():
        numbers = numbers_of(data, sr)
        tables.append(decided(data.clips, classified(numbers, data.clips), name))
        deals = [dealt(data.clips, seed) for seed in range(DEALS)]
        right = np.mean([classified(numbers, clips) == clips.label for clips in deals], axis=0)
        tables.append(
            data.clips[COLUMNS].assign(
                condition=f"{name}, classes dealt", predicted=-1, right=right
            )
        )
    return pd.concat(tables, ignore_index=True)


# ----------------------------------------------------------------------------- the cue removed


def without(model: torch.nn.Module, data: Data, profile: Profile) -> pd.DataFrame:
    """Return judged test clips: what a network makes of them with each cue taken out.

    It reads them as its recipe reads test clips, in excerpts or whole.
    """
    device, rows = best_device(), data.split.test
    front_end, recipe = LogMel(profile.front_end).to(device), profile.training.recipe
    view, tables = (recipe.stages[-1].crop_frames, recipe.test_crops), []
    for condition, altered in removals(data, rows, profile.front_end.sr):
        with autocast(device):
            logits = predict(model.to(device), front_end, altered, rows, *view)
        tables.append(decided(data.clips.loc[rows], logits.argmax(1).numpy(), condition))
    return pd.concat(tables, ignore_index=True)


def measure(data: Data, profile: Profile, runs: Path, folder: Path) -> Path:
    """Write what :func:`without` finds for the profile's trained run to ``<run name>.csv``.

    Raises
    ------
    FileNotFoundError
        If the run was not trained.
    """
    name = name_of(profile)
    weights = runs / name / "model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(
            f"measure: {weights} is missing; train the run first, as with "
            f"{how_to_train(profile)}."
        )
    found = without(
        load(weights, profile, data.class_names), split_for(data, profile), profile
    ).assign(run=name, weights=fingerprint(weights.read_bytes()))
    path = folder / f"{name}.csv"
    write_atomically(path, partial(found.to_csv, index=False))
    return path


def measure_networks(
    data: Data, profiles: Iterable[Profile], runs: Path, folder: Path, scheduler: str = "",
    jobs: int = 0,
) -> list[Path]:  # fmt: skip
    """Do :func:`measure` for several at once; the last two as for ``pieces.carry_out``."""
    work = partial(_measure, data, runs, folder)
    return pieces.carry_out(work, profiles, "networks", scheduler, jobs)


def _measure(data: Data, runs: Path, folder: Path, profile: Profile) -> Path:
    return measure(data, profile, runs, folder)


def collect(data: Data, profile: Profile, runs: Path, folder: Path, recorded: Path | None = None):
    """Return what was measured of all runs; the profile's own is measured if it was not.

    Columns are those of judged clips, run, weights and network, the run's name without its fold. A
    file ``shortcuts/<run>.csv`` of a recorded study goes before one in `folder`, and one of other
    weights than the run has now is measured again.
    """
    own = name_of(profile)
    found = {path.stem: path for path in sorted(folder.glob("*.csv"))}
    if recorded:
        found |= {path.stem: path for path in sorted(recorded.glob("shortcuts/*.csv"))}
    weights = runs / own / "model.safetensors"
    if own not in found or (weights.is_file() and _outdated(found[own], weights, folder)):
        found[own] = measure(data, profile, runs, folder)
    table = pd.concat([_read(path) for path in found.values()], ignore_index=True)
    return table.assign(network=table.run.str.replace(r"-fold\d+", "", regex=True))


def _outdated(path: Path, weights: Path, folder: Path) -> bool:
    if path.parent != folder:
        return False
    return set(_read(path).weights) != {fingerprint(weights.read_bytes())}


def _read(path: Path) -> pd.DataFrame:
    return read_table(path, words=["filename", "run", "weights"])


# ------------------------------------------------------------------------------------ compared


def accuracies(judged: pd.DataFrame) -> pd.DataFrame:
    """Return accuracy in percent with its interval over recordings, by condition."""
    return _by_condition(judged, lambda table: accuracy(table.right, table.src_file))


def differences(judged: pd.DataFrame) -> pd.DataFrame:
    """Return by how many points accuracy changes against the untouched clips, by condition.

    Paired on the same clips, which are of one network each, with intervals over recordings;
    "changed" counts decisions, in percent of the clips.
    """
    plain = judged[judged.condition == UNTOUCHED].set_index("filename")

    def changes(table):
        before = plain.loc[table.filename]
        changed = 100 * (before.predicted.to_numpy() != table.predicted.to_numpy()).mean()
        both = table.right.to_numpy(), before.right.to_numpy()
        return *paired_difference(*both, table.src_file.to_numpy()), changed

    others = judged[judged.condition != UNTOUCHED]
    return _by_condition(others, changes, "changed")


def _by_condition(judged: pd.DataFrame, measured, *more: str) -> pd.DataFrame:
    """Return a row per condition: value, low, high, and what else is measured, n."""
    columns = ["value", "low", "high", *more]
    rows = {
        condition: dict(zip(columns, measured(table), strict=True)) | {"clips": len(table)}
        for condition, table in judged.groupby("condition", sort=False)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("condition")


def by_class(judged: pd.DataFrame) -> pd.DataFrame:
    """Return a row per class and condition: value, low, high, clips, of its clips' accuracy; and
    false_alarms, how many percent of the other classes' clips are given this class.

    Clips that a cue cannot tell apart all get one class, whose accuracy says nothing alone.
    """
    found = {}
    for (label, name), table in judged.groupby(["label", "category"]):
        others = judged[judged.label != label]
        alarms = 100 * (others.predicted == label).groupby(others.condition).mean()
        found[name] = accuracies(table).assign(false_alarms=alarms)
    return pd.concat(found, names=["class"]).reset_index()


def differences_by_class(judged: pd.DataFrame) -> pd.DataFrame:
    """Return :func:`differences` in the clips of each class, with the columns class, condition."""
    found = {name: differences(table) for name, table in judged.groupby("category")}
    return pd.concat(found, names=["class"]).reset_index()
