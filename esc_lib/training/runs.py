"""Training runs as independent, named, resumable pieces: folds, seeds, recipes, networks.

A run's folder ``artifacts/runs/<name>/`` holds ``history.csv``, ``predictions.csv``,
``model.safetensors`` and, written last, ``run.json``.
"""

import shutil
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from esc_lib.config import NARROW, Profile, get_profile, restore, variant
from esc_lib.data import splits
from esc_lib.data.clips import Data
from esc_lib.machine import pieces
from esc_lib.machine.distributed import is_first_process
from esc_lib.machine.files import save_json, write_atomically
from esc_lib.machine.hardware import autocast, best_device
from esc_lib.machine.provenance import provenance
from esc_lib.machine.reading import read_json, read_table, refuse
from esc_lib.models.architectures import Mean
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import classifier, prediction
from esc_lib.training.checkpoint import load, save

DECIDING = ("front_end", "architecture", "network", "training", "test_fold")


def name_of(profile: Profile) -> str:
    """Return the run's name, made of what distinguishes runs of one study."""
    own, usual = profile.training, get_profile(profile.name)
    parts = [profile.architecture, own.recipe.name.replace(" ", "_"), own.protocol]
    parts += [f"fold{profile.test_fold}", f"seed{own.seed}"]
    if profile.network != usual.network:
        parts.append(f"width{profile.network.channels[0]}")
        if not profile.network.se_reduction:
            parts.append("no_gates")
    if own.epochs != usual.training.epochs:
        parts.append(f"epochs{own.epochs}")
    if own.teachers:
        parts.append(f"taught_by{own.teachers}")
    return "-".join(parts)


def how_to_train(profile: Profile) -> str:
    """Return the command that trains the profile's network on its fold."""
    own, usual = profile.training.epochs, get_profile(profile.name).training.epochs
    command = f"python -m esc_lib train --profile {profile.name} --folds {profile.test_fold}"
    return command if own == usual else f"{command} --epochs {own}"


def settings_of(profile: Profile) -> tuple:
    """Return the settings that decide a run; the recipe's name does not."""
    unnamed = variant(profile, recipe=variant(profile.training.recipe, name=""))
    return tuple(getattr(unnamed, name) for name in DECIDING)


def find_recorded(profile: Profile, recorded: Path, checksum: str = "") -> Path | None:
    """Return the folder of the recorded run with these settings, or None.

    Parameters
    ----------
    recorded : folder of a recorded study.
    checksum : of the sound, as ``provenance.checksum_of``, if the run has to be of it.
    """
    for path in sorted(recorded.glob("runs/*/run.json")):
        same_clips = checksum in ("", record_of(path.parent)["waveforms_sha256"])
        if same_clips and settings_of(profile_of(path.parent)) == settings_of(profile):
            return path.parent
    return None


def run(data: Data, profile: Profile, runs: Path) -> Path:
    """Train and test the profile's network on its fold, unless that was done before.

    The test clips are read once, after the last epoch. Returns the run's folder, in `runs`. A run
    that was stopped goes on from its state, which is removed when the run's record stands.

    Parameters
    ----------
    data : its own split is replaced by the one the profile asks for.
    """
    teacher = teacher_of(data, profile, runs)
    data = split_for(data, profile)
    folder = runs / name_of(profile)
    identity = classifier.run_identity(data, profile, teacher=teacher)
    if (folder / "run.json").is_file() and record_of(folder)["identity"] == identity:
        return folder
    started = time.perf_counter()
    fit = classifier.fit(data, profile, folder, teacher=teacher)
    if not is_first_process():
        return folder
    _finish(folder, fit.model, fit.history, data, profile)
    record = provenance(profile.as_dict(), data.waveforms, float(fit.history.seconds.sum()))
    record |= {"identity": identity, "kept_epoch": fit.kept_epoch}
    record["last_session_s"] = round(time.perf_counter() - started, 1)
    save_json(folder / "run.json", record)
    for states in folder.glob("run_*"):  # many times the weights, and of no more use
        shutil.rmtree(states, ignore_errors=True)
    return folder


def teacher_of(data: Data, profile: Profile, runs: Path) -> nn.Module | None:
    """Return the mean of the networks that teach the profile's, trained here if need be."""
    own = profile.training
    plain = {"epochs": own.teacher_epochs, "teachers": 0, "teacher_epochs": 0}
    networks = []
    for seed in range(own.teachers):
        each = variant(profile, architecture="se_cnn", network=NARROW, seed=seed, **plain)
        weights = run(data, each, runs) / "model.safetensors"
        networks.append(load(weights, each, data.class_names))
    return Mean(networks) if networks else None


def carry_out(
    data: Data, profiles: Iterable[Profile], runs: Path, scheduler: str = "", jobs: int = 0
) -> list[Path]:
    """Do the runs that are not done yet, several at once, and return the folders of all.

    Parameters
    ----------
    scheduler, jobs : as for ``pieces.carry_out``.
    """
    planned = {name_of(profile): profile for profile in profiles}
    work = partial(run, data, runs=runs.resolve())
    return pieces.carry_out(work, planned.values(), "runs", scheduler, jobs)


def adopt(recorded: str | Path, data: Data, profile: Profile, runs: Path) -> Path:
    """Take the weights of a recorded run instead of training, and test them on the clips at hand.

    Parameters
    ----------
    recorded : folder with the run's ``runs/<name>/``, and ``model.safetensors`` there or, of the
        profile's own network, in the folder itself.
    data, profile, runs : as for :func:`run`.

    Raises
    ------
    FileNotFoundError
        If the folder holds no such run.
    ValueError
        If the weights belong to other settings or classes, or a file of the run is damaged.
    """
    recorded = Path(recorded)
    source = find_recorded(profile, recorded) or recorded / "runs" / name_of(profile)
    places = source / "model.safetensors", recorded / "model.safetensors"
    weights = places[0] if places[0].is_file() else places[1]
    history = source / "history.csv"
    for path in (weights, history):
        if not path.is_file():
            raise FileNotFoundError(
                f"adopt: {path} is missing; give the folder of a recorded run of this profile, "
                "or leave start_from empty to train."
            )
    record = record_of(source) | {"adopted_from": recorded.name}
    epochs = read_table(history, numbers=["epoch", "seconds"])
    data = split_for(data, profile)
    model = load(weights, profile, data.class_names)
    folder = runs / name_of(profile)
    folder.mkdir(parents=True, exist_ok=True)
    _finish(folder, model, epochs, data, profile)
    save_json(folder / "run.json", record)
    return folder


def judged_by(profile: Profile, runs: Path, recorded: Path | None = None) -> pd.DataFrame:
    """Return what the profile's networks made of test clips, of all folds that were run.

    Columns are those of :func:`predict`; a recorded study fills in for runs that are missing.
    """
    tables = map(predictions_of, folds_of(profile, runs, recorded))
    found = [table[table.part == "test"] for table in tables]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame({"row": [], "label": []})


def folds_of(profile: Profile, runs: Path, recorded: Path | None = None) -> list[Path]:
    """Return the finished runs of the profile's network, of all folds, own ones first."""
    found = []
    for fold in profile.evidence.folds:
        own = variant(profile, test_fold=fold)
        folder = runs / name_of(own)
        if not (folder / "run.json").is_file():
            folder = find_recorded(own, recorded) if recorded else None
        found += [folder] if folder else []
    return found


def hours_of(profile: Profile, runs: Path, recorded: Path | None = None) -> float:
    """Return how long the networks of :func:`judged_by` were trained, in hours."""
    return sum(record_of(run)["wall_s"] for run in folds_of(profile, runs, recorded)) / 3600


def record_of(run: Path) -> dict:
    """Return what is known about a finished run: settings, versions, hardware, time."""
    return read_json(run / "run.json", profile=dict, identity=str, waveforms_sha256=str)


def predictions_of(run: Path) -> pd.DataFrame:
    """Return the rows of :func:`predict` that a finished run left."""
    numbers = ("fold", "label", "row", "predicted", "confidence", "whole_clip")
    return read_table(run / "predictions.csv", numbers, ("filename", "part", "category"))


def profile_of(run: Path) -> Profile:
    """Return the profile of a finished run, as far as it decides the run."""
    saved = record_of(run)["profile"]
    known = {name: saved[name] for name in ("name", *DECIDING) if name in saved}
    try:
        return restore(Profile, dict.fromkeys(("name", "dataset_label", "licence"), "") | known)
    except ValueError as error:
        refuse(run / "run.json", f"holds no profile ({error})")


def split_for(data: Data, profile: Profile) -> Data:
    """Return the clips with the split that the profile's fold, protocol and seed ask for."""
    own = profile.training
    parts = splits.split(
        data.clips,
        profile.test_fold,
        protocol=own.protocol,
        validation_share=own.validation_share,
        seed=own.seed,
    )
    return data.with_split(parts)


def _finish(folder: Path, model, history: pd.DataFrame, data: Data, profile: Profile) -> None:
    """Write what a run leaves behind, all but its record."""
    tables = {"history.csv": history, "predictions.csv": predict(model, data, profile)}
    for name, table in tables.items():
        write_atomically(folder / name, lambda path, table=table: table.to_csv(path, index=False))
    if profile.architecture == "se_cnn":
        save(folder / "model.safetensors", model, profile, data.class_names)


def predict(model: nn.Module, data: Data, profile: Profile) -> pd.DataFrame:
    """Return one row per validation and test clip: what the network makes of it.

    Columns are filename, fold, part, category, label, row, then ``predicted``, ``confidence`` and
    ``p_<class>`` from the mean over the recipe's excerpts, and ``whole_clip``, the class predicted
    from the whole clip at once.
    """
    device = best_device()
    model = model.to(device)
    front_end = LogMel(profile.front_end).to(device)
    rows = np.concatenate([data.split.validation, data.split.test])
    recipe = profile.training.recipe
    views = (recipe.stages[-1].crop_frames, recipe.test_crops), (0, 1)
    with autocast(device):
        crops, whole = (
            prediction.predict(model, front_end, data, rows, *view).softmax(1).numpy()
            for view in views
        )
    table = data.clips.loc[rows, ["filename", "fold", "part", "category", "label"]].assign(
        row=rows,
        predicted=crops.argmax(1),
        confidence=crops.max(1),
        whole_clip=whole.argmax(1),
    )
    columns = [f"p_{name}" for name in data.class_names]
    return table.join(pd.DataFrame(crops.round(6), index=table.index, columns=columns))
