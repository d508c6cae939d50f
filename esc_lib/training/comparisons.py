"""Which comparisons a study makes between training runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from esc_lib.config import RECIPES, Profile, Recipe, Stage
from esc_lib.data.clips import Data
from esc_lib.data.splits import COMPARED
from esc_lib.machine.provenance import checksum_of
from esc_lib.models.peers import PEERS
from esc_lib.training import runs

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
    small = runs.variant(narrow, epochs=evidence.epochs or own_epochs)

    whole = {name: runs.variant(profile, recipe=RECIPES[name]) for name in evidence.recipes}
    whole |= {
        f"{name}, no validation": runs.variant(
            each, protocol="no_validation", epochs=evidence.published_epochs or own_epochs
        )
        for name, each in whole.items()
        if each.training.recipe.schedule == "one_cycle"
    }
    protocols = {name: runs.variant(small, protocol=name) for name in COMPARED}
    levers = {
        recipe.name: runs.variant(small, recipe=recipe)
        for recipe in ablated(RECIPES["strong"])
    }
    levers["no gates"] = replace(small, network=replace(small.network, se_reduction=0))
    levers["thesis recipe"] = runs.variant(small, recipe=RECIPES["thesis"])
    peers = {name: replace(profile, architecture=name) for name in ("se_cnn", *PEERS)}
    if evidence.network:
        peers["se_cnn, narrow"] = narrow
    peers = {
        name: runs.variant(peer, epochs=evidence.peer_epochs or own_epochs)
        for name, peer in peers.items()
    }

    comparisons = {
        "folds": (whole, evidence.seeds, evidence.folds),
        "protocols": (protocols, (0,), evidence.protocol_folds),
        "ablation": (levers, (0,), evidence.ablation_folds),
        "peers": (peers, (0,), evidence.peer_folds),
    }
    return [
        Planned(group, label, runs.variant(each, test_fold=fold, seed=seed))
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
    planned: list[Planned], data: Data, folder: Path, recorded: Path | None = None
) -> pd.DataFrame:
    """Do the planned runs that are not done yet, and return one row per run and judged clip.

    With a recorded study nothing is trained: runs that neither it nor `folder` holds are left out.

    Parameters
    ----------
    planned : list of Planned
    folder : Path of the folder of all runs.
    recorded : Path of a recorded study, to read its runs of these clips instead of training.

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
    for item in planned:
        if recorded is None:
            run = runs.run(data, item.profile, folder)
        else:
            run = runs.find_recorded(item.profile, recorded, checksum)
            run = run or folder / runs.name_of(item.profile)
            if not (run / "run.json").is_file():
                continue
        found = pd.read_csv(run / "predictions.csv")
        tables.append(
            pd.DataFrame(
                {
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
            )
        )
    if not tables:
        raise ValueError(
            f"carry_out: {recorded} holds no run of this profile on these very clips (settings "
            "and a checksum of the sound are compared); leave start_from empty to train."
        )
    judged = pd.concat(tables, ignore_index=True)
    return judged.merge(data.clips[["filename", "src_file"]], on="filename")
