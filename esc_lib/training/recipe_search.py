"""How to train, chosen on validation clips: which levers help, from twelve runs.

Each of seven levers is pulled in about half of the runs, so that every run tells about all of
them. Four runs share a split of the clips outside the test fold, three splits are used; within a
split the levers are told apart by least squares. The test fold is not read.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from esc_lib.config import NARROW, RECIPES, Profile, Stage, variant
from esc_lib.data.clips import Data
from esc_lib.evaluation.intervals import source_draws
from esc_lib.training.runs import find_recorded, predictions_of

EPOCHS = 60
# What each lever changes; one that changes the recipe is part of its name.
CHANGES = {
    "twice the epochs": {"epochs": 2 * EPOCHS},
    "whole clips at the end": {"stages": (Stage(0.8, 128), Stage(0.2, 0)), "test_crops": 1},
    "waveform transforms": {"transform_probability": 0.5},
    "between-class mixing": {"mixing": "between_class"},
    "hard labels": {"label_smoothing": 0.0},
    "batches of 32": {"batch_size": 32},
    "no masks": {"max_mask": 0.0},
}
LEVERS = tuple(CHANGES)
# Four runs a split, rows; levers, columns. Found by exchange of single signs for the least mean
# variance of the seven effects: 1.1 times that of an orthogonal design, which has no such blocks.
DESIGN = np.array(
    [
        [
            [0, 0, 1, 0, 0, 0, 0],
            [1, 0, 0, 1, 1, 1, 1],
            [0, 1, 0, 0, 1, 1, 0],
            [1, 1, 1, 0, 0, 1, 1],
        ],
        [
            [1, 1, 1, 1, 1, 0, 0],
            [0, 0, 0, 1, 0, 1, 0],
            [0, 0, 1, 0, 1, 1, 1],
            [0, 1, 0, 0, 1, 0, 1],
        ],
        [
            [0, 1, 1, 1, 0, 1, 1],
            [0, 0, 1, 1, 1, 0, 1],
            [1, 0, 1, 0, 1, 1, 0],
            [1, 0, 0, 0, 0, 0, 1],
        ],
    ]
)


def plan(profile: Profile) -> list[Profile]:
    """Return the twelve runs of the narrow network, split by split."""
    narrow = variant(profile, network=NARROW, epochs=EPOCHS, protocol="no_test")
    runs = []
    for seed, block in enumerate(DESIGN):
        for row in block:
            pulled = [lever for lever, on in zip(LEVERS, row, strict=True) if on]
            name = ", ".join(["strong", *(lever for lever in pulled if lever != LEVERS[0])])
            changes = {key: value for lever in pulled for key, value in CHANGES[lever].items()}
            recipe = replace(RECIPES["strong"], name=name)
            runs.append(variant(narrow, seed=seed, recipe=recipe, **changes))
    return runs


def judged_in(profile: Profile, data: Data, recorded: Path | None) -> pd.DataFrame:
    """Return what :func:`gains` needs of twelve recorded runs, empty if one is missing."""
    tables = []
    for index, planned in enumerate(plan(profile)):
        if not recorded or (folder := find_recorded(planned, recorded)) is None:
            return pd.DataFrame()
        found = predictions_of(folder)
        found = found[found.part == "validation"]
        split, run = divmod(index, DESIGN.shape[1])
        src_file = data.clips.src_file.to_numpy()[found.row]
        right = found.predicted == found.label
        tables.append(found[[]].assign(split=split, run=run, src_file=src_file, right=right))
    return pd.concat(tables, ignore_index=True)


def gains(judged: pd.DataFrame, n_draws: int = 2000) -> pd.DataFrame:
    """Return what each lever adds to the accuracy, in points, with its interval.

    Parameters
    ----------
    judged : DataFrame, a row per run and validation clip: split (0 ...), run (0 ... within the
        split, in the order of :data:`DESIGN`), src_file, right.

    Returns
    -------
    DataFrame, a row per lever: gain, low, high (95 %, recordings drawn with all their clips).

    Notes
    -----
    right = clip + sum over levers of effect x pulled, by least squares: a clip's own difficulty
    cancels, as all runs of a split judge the same clips.
    """
    centred = DESIGN - DESIGN.mean(axis=1, keepdims=True)
    draws = source_draws(judged.src_file.to_numpy(), n_draws)
    draws = np.vstack([np.ones(len(judged)), draws])
    # (draws, splits, runs): weighted number of clips, and of right answers
    index = np.ravel_multi_index((judged.split, judged.run), DESIGN.shape[:2])
    cells = np.eye(DESIGN[..., 0].size)[index]
    shape = (len(draws), *DESIGN.shape[:2])
    count = (draws @ cells).reshape(shape)
    right = (draws @ (cells * judged.right.to_numpy(float)[:, None])).reshape(shape)
    information = np.einsum("dsr,srl,srk->dlk", count, centred, centred)
    effect = np.linalg.solve(information, np.einsum("dsr,srl->dl", right, centred)[..., None])
    points = 100 * effect[..., 0]
    low, high = np.quantile(points[1:], [0.025, 0.975], axis=0)
    return pd.DataFrame({"gain": points[0], "low": low, "high": high}, index=list(LEVERS))
