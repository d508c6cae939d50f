"""All methods on the same decisions: one row per clip, condition and method."""

import itertools
import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from esc_lib.config import Profile, variant
from esc_lib.data.clips import Data
from esc_lib.explain.components import fit
from esc_lib.explain.conditions import CONDITIONS, take
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.judge import judge
from esc_lib.explain.methods import METHODS, compared
from esc_lib.machine import pieces
from esc_lib.machine.files import save_json, write_atomically
from esc_lib.machine.fingerprint import fingerprint
from esc_lib.machine.hardware import best_device
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import runs as experiments
from esc_lib.training.checkpoint import load

AT_ONCE = 200  # test clips in memory at most; a fold of ESC-50 comes in two parts


def explain_fold(
    data: Data, profile: Profile, runs: Path, folder: Path, only: Sequence[str] = ()
) -> pd.DataFrame:
    """Explain the decisions on the profile's test fold by every method, unless it was done before.

    A run that is stopped goes on with the next method. This fold's ``scores.csv`` and what it
    needs lie in `folder`. Of the methods named in `only` none has other dictionaries of least
    squared error; default: all methods.

    Raises
    ------
    ValueError
        If there is no method of such a name.
    FileNotFoundError
        If the fold's network was not trained.
    """
    weights = runs / experiments.name_of(profile) / "model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(
            f"explain_fold: {weights} is missing; train the fold first, as with "
            f"python -m esc_lib train --profile {profile.name} --folds {profile.test_fold}."
        )
    data, device = experiments.split_for(data, profile), best_device()
    model = load(weights, profile, data.class_names)
    front_end = LogMel(profile.front_end).to(device)
    path, note = folder / "scores.csv", folder / "identity.json"
    identity = fingerprint(weights.read_bytes(), profile.dictionaries, code=__file__)
    noted = json.loads(note.read_text()) if path.is_file() and note.is_file() else {}
    done = pd.DataFrame({"condition": [], "method": [], "row": []})
    if noted.get("identity") == identity:
        done = pd.read_csv(path)
        if noted["complete"]:
            return done
    save_json(note, {"identity": identity, "complete": False})
    others = () if only else (profile.dictionaries.layer,)
    fitted = fit(folder / "hidden.pt", model, front_end, data, profile, others)
    before = set(zip(done.condition, done.method, done.row))
    parts = np.array_split(data.split.test, -(-len(data.split.test) // AT_ONCE))
    for condition, rows in itertools.product(CONDITIONS, parts):
        inputs = take(data, rows, condition, profile.front_end.sr, device)
        explainer = Explainer(model, front_end, fitted, inputs)
        known = compared(explainer)
        if unknown := set(only) - {*known, *METHODS}:
            raise ValueError(
                f"explain_fold: no method is called {', '.join(sorted(unknown))}; choose of "
                f"{', '.join(known)}."
            )
        for name, method in tqdm(known.items(), desc=f"explaining, {condition}"):
            if (only and name not in only) or (condition, name, rows[0]) in before:
                continue
            table = judge(explainer, method.masks(explainer)).assign(
                condition=condition, method=name, row=rows,
                filename=data.clips.filename.iloc[rows].to_numpy(),
                source=data.clips.src_file.iloc[rows].to_numpy(),
                label=data.labels[rows].numpy(), predicted=explainer.targets.cpu().numpy(),
            )  # fmt: skip
            # an empty table would make the rows' numbers and the decisions floats and objects
            done = pd.concat([done, table], ignore_index=True) if len(done) else table
            write_atomically(path, partial(done.round(6).to_csv, index=False))
        del inputs, explainer  # before the next ones come
    save_json(note, {"identity": identity, "complete": not only})
    return done


def explain_folds(
    data: Data, profile: Profile, folds: Iterable[int], runs: Path, explanations: Path,
    only: Sequence[str] = (), scheduler: str = "", jobs: int = 0,
) -> list[Path]:  # fmt: skip
    """Do :func:`explain_fold` for several folds at once, and return their folders.

    Parameters
    ----------
    explanations : of the folders ``fold<k>/``.
    scheduler, jobs : as for ``pieces.carry_out``.
    """
    work = partial(_explain_in, data, profile, runs, explanations, only)
    return pieces.carry_out(work, folds, "folds", scheduler, jobs)


def _explain_in(data, profile, runs, explanations, only, fold: int) -> Path:
    folder = explanations / f"fold{fold}"
    explain_fold(data, variant(profile, test_fold=fold), runs, folder, only)
    return folder


def collect(
    data: Data, profile: Profile, runs: Path, explanations: Path, recorded: Path | None = None
) -> pd.DataFrame:
    """Return the judged explanations of all folds there are; the profile's own is made if need be.

    Rows are those of :func:`explain_fold`, with the column fold, from the folders ``fold<k>/`` in
    `explanations`: other folds as they are, some methods or all. The files
    ``explanations/fold<k>.csv`` of a recorded study go before.
    """
    found = {}
    for fold in sorted(int(fold) for fold in data.clips.fold.unique()):
        path = explanations / f"fold{fold}" / "scores.csv"
        known = recorded and recorded / "explanations" / f"fold{fold}.csv"
        if known and known.is_file():
            found[fold] = pd.read_csv(known)
        elif fold == profile.test_fold:
            found[fold] = explain_fold(data, profile, runs, path.parent)
        elif path.is_file():
            found[fold] = pd.read_csv(path)
    return pd.concat([judged.assign(fold=fold) for fold, judged in found.items()])
