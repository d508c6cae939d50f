"""Which comparisons a study makes between training runs, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from esc_lib.config import RECIPES, Profile, Recipe, Stage
from esc_lib.data.clips import Data
from esc_lib.data.splits import COMPARED
from esc_lib.evaluation.intervals import accuracy_interval, source_draws
from esc_lib.models.peers import PEERS
from esc_lib.training import runs as experiments

GROUPS = ("folds", "protocols", "ablation", "peers")


@dataclass(frozen=True)
class Planned:
    """One run of a comparison: its group, what it is called there, and its settings."""

    group: str
    label: str
    profile: Profile


def plan(profile: Profile) -> list[Planned]:
    """Return all runs that the profile's evidence asks for."""
    evidence = profile.evidence
    own_epochs = profile.training.epochs
    narrow = replace(profile, network=evidence.network or profile.network)
    small = experiments.variant(narrow, epochs=evidence.epochs or own_epochs)

    whole = {name: experiments.variant(profile, recipe=RECIPES[name]) for name in evidence.recipes}
    whole |= {
        f"{name}, no validation": experiments.variant(
            each, protocol="no_validation", epochs=evidence.published_epochs or own_epochs
        )
        for name, each in whole.items()
        if each.training.recipe.schedule == "one_cycle"
    }
    protocols = {name: experiments.variant(small, protocol=name) for name in COMPARED}
    levers = {
        recipe.name: experiments.variant(small, recipe=recipe)
        for recipe in ablated(RECIPES["strong"])
    }
    levers["no gates"] = replace(small, network=replace(small.network, se_reduction=0))
    levers["thesis recipe"] = experiments.variant(small, recipe=RECIPES["thesis"])
    peers = {name: replace(profile, architecture=name) for name in ("se_cnn", *PEERS)}
    if evidence.network:
        peers["se_cnn, narrow"] = narrow
    peers = {
        name: experiments.variant(peer, epochs=evidence.peer_epochs or own_epochs)
        for name, peer in peers.items()
    }

    comparisons = {
        "folds": (whole, evidence.seeds, evidence.folds),
        "protocols": (protocols, (0,), evidence.protocol_folds),
        "ablation": (levers, (0,), evidence.ablation_folds),
        "peers": (peers, (0,), evidence.peer_folds),
    }
    return [
        Planned(group, label, experiments.variant(each, test_fold=fold, seed=seed))
        for group, (variants, seeds, folds) in comparisons.items()
        for label, each in variants.items()
        for seed in seeds
        for fold in folds
    ]


def ablated(recipe: Recipe) -> Iterator[Recipe]:
    """Yield the recipe, and the recipe with one lever changed at a time."""

    def augmented(name: str, **changes) -> Recipe:
        return replace(recipe, name=name, augmentation=replace(recipe.augmentation, **changes))

    yield recipe
    yield augmented("no mixing", mixing="none")
    yield augmented("between-class mixing", mixing="between_class")
    yield augmented("no stretch", max_stretch=0.0)
    yield augmented("no masks", max_mask=0.0)
    yield augmented("noise and shift", probability=0.3)
    yield replace(recipe, name="whole clips", stages=(Stage(),), test_crops=1)
    yield replace(recipe, name="hard labels", label_smoothing=0.0)
    yield replace(recipe, name="last weights", ema_decay=0.0)
    yield replace(recipe, name="plateau schedule", schedule="plateau", optimizer="adam")


def carry_out(
    planned: list[Planned], data: Data, runs: Path, recorded: Path | None = None
) -> pd.DataFrame:
    """Do the planned runs that are not done yet, and return one row per run and judged clip.

    With a recorded study nothing is trained: runs that neither it nor `runs` holds are left out.

    Parameters
    ----------
    planned : list of Planned
    data : Data
    runs : Path of the folder of all runs.
    recorded : Path of a recorded study, to read its runs instead of training.

    Returns
    -------
    DataFrame with group, label, fold (the test fold), seed, part, filename, right (by excerpts),
    right_whole (from the whole clip).
    """
    tables = []
    for item in planned:
        if recorded is None:
            folder = experiments.run(data, item.profile, runs)
        else:
            folder = experiments.folder_of(item.profile, runs, recorded)
            if not (folder / "run.json").is_file():
                continue
        found = pd.read_csv(folder / "predictions.csv")
        tables.append(
            pd.DataFrame(
                {
                    "group": item.group,
                    "label": item.label,
                    "fold": item.profile.test_fold,
                    "seed": item.profile.training.seed,
                    "run": folder.name,
                    "part": found.part,
                    "filename": found.filename,
                    "right": found.predicted == found.label,
                    "right_whole": found.whole_clip == found.label,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def accuracy_table(judged: pd.DataFrame, part: str) -> pd.DataFrame:
    """Return accuracy in percent per label: mean and sd over runs, pooled with its interval.

    Clips that several seeds judged count once per seed in the mean; the pooled interval
    (Wilson, 95 %) counts each clip once, with the share of the seeds that got it right.
    """
    rows = {}
    for label, table in judged[judged.part == part].groupby("label", sort=False):
        by_run = 100 * table.groupby(["fold", "seed"]).right.mean()
        clips = table.groupby(["fold", "filename"])[["right", "right_whole"]].mean()
        low, high = accuracy_interval(round(clips.right.sum()), len(clips))
        rows[label] = {
            "runs": len(by_run),
            "mean": by_run.mean(),
            "sd": by_run.std(ddof=1) if len(by_run) > 1 else np.nan,
            "clips": len(clips),
            "pooled": 100 * clips.right.mean(),
            "low": 100 * low,
            "high": 100 * high,
            "whole clip": 100 * clips.right_whole.mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def optimism(
    judged: pd.DataFrame, clips: pd.DataFrame, n_draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Return by how many points validation flatters the test, for each protocol.

    Intervals (95 %) are percentiles of a bootstrap over source recordings: clips cut from one
    recording are drawn together. The row "difference" is random clips minus source-grouped, from
    the same draws.

    Parameters
    ----------
    judged : as :func:`carry_out` returns it, labels are protocols.
    clips : DataFrame with filename and src_file.
    """
    table = judged.merge(clips[["filename", "src_file"]], on="filename")
    right = table.right.to_numpy(float)
    cell = {
        (label, part): ((table.label == label) & (table.part == part)).to_numpy()
        for label in COMPARED
        for part in ("validation", "test")
    }

    def gaps(weight: np.ndarray) -> dict[str, float]:
        share = {
            key: 100 * np.average(right[rows], weights=weight[rows]) for key, rows in cell.items()
        }
        gap = {label: share[label, "validation"] - share[label, "test"] for label in COMPARED}
        return gap | {"difference": gap["random_clips"] - gap["source_grouped"]}

    weights = source_draws(table.src_file.to_numpy(), n_draws, seed)
    draws = pd.DataFrame(gaps(weight) for weight in weights)
    found = pd.DataFrame({"optimism": gaps(np.ones(len(table)))})
    found[["low", "high"]] = draws.quantile([0.025, 0.975]).T
    return found


def against(judged: pd.DataFrame, base: str, part: str = "validation") -> pd.DataFrame:
    """Return each label's accuracy and its difference from `base`, in points, clip by clip.

    The interval (95 %) of the difference is that of a mean over clips both have judged.
    """
    table = judged[judged.part == part]
    clip = ["fold", "filename"]
    wide = table.pivot_table(index=clip, columns="label", values="right", sort=False)
    difference = 100 * wide.astype(float).sub(wide[base].astype(float), axis=0)
    clips = difference.count()
    margin = 1.96 * difference.std(ddof=1) / np.sqrt(clips)
    return pd.DataFrame(
        {
            "accuracy": 100 * wide.mean(),
            "difference": difference.mean(),
            "low": difference.mean() - margin,
            "high": difference.mean() + margin,
            "clips": clips,
        }
    )
