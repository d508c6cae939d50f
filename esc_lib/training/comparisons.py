"""Which comparisons a study makes between training runs."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from esc_lib.config import NARROW, RECIPES, Profile, Recipe, Stage, variant
from esc_lib.data.clips import Data
from esc_lib.data.splits import COMPARED
from esc_lib.machine.provenance import checksum_of
from esc_lib.models.peers import PEERS
from esc_lib.training import runs

EVERY = (1, 2, 3, 4, 5)  # the folds of ESC-50

# What each lever of the ablation changes of a recipe.
LEVERS = {
    "no mixing": {"mixing": "none"},
    "between-class mixing": {"mixing": "between_class"},
    "no stretch": {"max_stretch": 0.0},
    "no masks": {"max_mask": 0.0},
    "noise and shift": {"probability": 0.3},  # as in the thesis's recipe
    "whole clips": {"stages": (Stage(),), "test_crops": 1},
    "hard labels": {"label_smoothing": 0.0},
    "last weights": {"ema_decay": 0.0},
    "plateau schedule": {"schedule": "plateau", "optimizer": "adam"},
}


@dataclass(frozen=True)
class Planned:
    """One run of a comparison: its group, what it is called there, and its settings."""

    group: str
    label: str
    profile: Profile


def plan(profile: Profile, present: Collection[int] = EVERY) -> list[Planned]:
    """Return all runs that the profile's evidence asks for, of clips in these folds.

    Where it asks for all five folds, it gets all that there are, and else those that there are.
    """
    evidence, usual = profile.evidence, profile.training.epochs
    published = variant(profile, epochs=evidence.published_epochs or usual)
    peer = variant(profile, epochs=evidence.peer_epochs or usual)
    small = variant(profile, epochs=evidence.epochs or usual)
    small = replace(small, network=evidence.network or profile.network)

    recipes = {name: RECIPES[name] for name in evidence.recipes}
    whole = {name: variant(profile, recipe=recipe) for name, recipe in recipes.items()}
    whole |= {
        f"{name}, no validation": variant(published, recipe=recipe, protocol="no_validation")
        for name, recipe in recipes.items()
        if recipe.schedule == "one_cycle"
    }
    protocols = {name: variant(small, protocol=name) for name in COMPARED}
    levers = {each.name: variant(small, recipe=each) for each in ablated(profile.training.recipe)}
    levers["no gates"] = variant(small, network=replace(small.network, se_reduction=0))
    levers["thesis recipe"] = variant(small, recipe=RECIPES["thesis"])
    peers = {name: variant(peer, architecture=name) for name in ("se_cnn", *PEERS)}
    if evidence.network:
        peers["se_cnn, narrow"] = variant(peer, network=evidence.network)

    comparisons = {
        "folds": (whole, evidence.seeds, evidence.folds),
        "protocols": (protocols, (0,), evidence.protocol_folds),
        "ablation": (levers, (0,), evidence.ablation_folds),
        "peers": (peers, (0,), evidence.peer_folds),
    }
    return [
        Planned(group, label, variant(each, test_fold=fold, seed=seed))
        for group, (variants, seeds, folds) in comparisons.items()
        for label, each in variants.items()
        for seed in seeds
        for fold in (sorted(present) if folds == EVERY else folds)
        if fold in present
    ]


def networks(profile: Profile) -> dict[str, Profile]:
    """Return the study's network and the narrow one, as the profile trains, and on all clips."""
    epochs = profile.evidence.published_epochs or profile.training.epochs
    narrow = replace(profile, network=NARROW)
    sizes = {"the study's network": profile, "the narrow network": narrow}
    whole = {
        f"{name} (nothing held back)": variant(each, protocol="no_validation", epochs=epochs)
        for name, each in sizes.items()
    }
    return sizes | whole


def ablated(recipe: Recipe) -> list[Recipe]:
    """Return the recipe, and the recipe with one lever changed at a time."""
    return [recipe, *(variant(recipe, name=name, **changes) for name, changes in LEVERS.items())]


def carry_out(
    planned: list[Planned], data: Data, folder: Path, recorded: Path | None = None
) -> pd.DataFrame:
    """Do the planned runs that are not done yet, and return one row per run and judged clip.

    Parameters
    ----------
    folder : of all runs.
    recorded : a recorded study, to read its runs of these clips: nothing is trained then, and runs
        that neither it nor `folder` holds are left out.

    Raises
    ------
    ValueError
        If a recorded study is given that holds no such run.

    Returns
    -------
    DataFrame with group, label, fold (the test fold), seed, part, filename, src_file, right (by
    excerpts), right_whole (from the whole clip).
    """
    tables, checksum = [], recorded and checksum_of(data.waveforms)
    if recorded is None:
        runs.carry_out(data, (item.profile for item in planned), folder)
    for item in planned:
        run = recorded and runs.find_recorded(item.profile, recorded, checksum)
        run = run or folder / runs.name_of(item.profile)
        if not (run / "run.json").is_file():
            continue
        found = runs.predictions_of(run)
        columns = {
            "group": item.group,
            "label": item.label,
            "fold": item.profile.test_fold,
            "seed": item.profile.training.seed,
            "run": run.name,
            "part": found.part,
            "filename": found.filename,
            "right": found.predicted == found.label,
            "right_whole": found.whole_clip == found.label,
        }
        tables.append(pd.DataFrame(columns))
    if not tables:
        raise ValueError(
            f"carry_out: {recorded} holds no run of this profile on these very clips (settings "
            "and a checksum of the sound are compared); leave start_from empty to train."
        )
    judged = pd.concat(tables, ignore_index=True)
    return judged.merge(data.clips[["filename", "src_file"]], on="filename")
