"""All methods on the same decisions: one row per clip, condition and method."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from esc_lib.config import NARROW, Profile, variant
from esc_lib.data.clips import Data
from esc_lib.explain import l2i, lmac
from esc_lib.explain.components import Fitted, fit
from esc_lib.explain.conditions import CONDITIONS, take
from esc_lib.explain.explainer import Explainer, Interpreter
from esc_lib.explain.judge import budget, judge, specificity
from esc_lib.explain.methods import LEARNED, METHODS, Method, compared
from esc_lib.explain.second_judges import Judge, forest, network, yamnet
from esc_lib.machine import pieces
from esc_lib.machine.files import save_json, write_atomically
from esc_lib.machine.fingerprint import fingerprint
from esc_lib.machine.hardware import best_device
from esc_lib.machine.reading import read_json, read_table
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import initial_model
from esc_lib.training import runs as experiments
from esc_lib.training.checkpoint import load

PACKED = {"compression": {"method": "gzip", "mtime": 0}}  # the same bytes for the same table
PARTS = (0.25, 0.5, 0.75, 1.0)  # of a rival's training, whose losses are told
AT_ONCE = 200  # test clips in memory at most; a fold of ESC-50 comes in two parts
UNTRAINED = 1000  # first seed of the networks with random weights, one that no run has
REHEARSED = 32  # steps of training of a rival, on procedural clips
# columns of the tables that are collected
NUMBERS = {"scores.csv.gz": ("row", "label", "predicted", "kept"), "rivals.csv": ("epochs",)}
BUDGETED = 40  # clips of a fold whose masks are also judged by shares of the energy


def explain_fold(
    data: Data, profile: Profile, runs: Path, folder: Path, only: Sequence[str] = ()
) -> pd.DataFrame:
    """Explain the decisions on the profile's test fold by every method, unless it was done before.

    A run that is stopped goes on with the next method. This fold's ``scores.csv.gz`` and what it
    needs lie in `folder`.

    Parameters
    ----------
    only : names of methods; default: all.

    Raises
    ------
    ValueError
        If there is no method of such a name.
    FileNotFoundError
        If the fold's network was not trained.

    Returns
    -------
    DataFrame, a row per condition, method and test clip, with the columns of ``judge.judge``, and
        for clean clips and the main methods of ``judge.specificity`` and, on some, means of
        ``judge.budget``.
    """
    data = experiments.split_for(data, profile)
    weights, model = open_network(runs, data, profile)
    device = best_device()
    front_end = LogMel(profile.front_end).to(device)
    path, note = folder / "scores.csv.gz", folder / "identity.json"
    identity = fingerprint(weights.read_bytes(), profile.dictionaries, code=__file__)
    noted = read_json(note) if path.is_file() and note.is_file() else {}
    done = pd.DataFrame({"condition": [], "method": [], "row": []})
    if noted.get("identity") == identity:
        done = read_table(path, NUMBERS[path.name], ["condition", "method"])
        if noted.get("complete"):
            return done
    save_json(note, {"identity": identity, "complete": False})
    shared = {
        "fitted": fit(folder / "dictionaries.pt", model, front_end, data, profile),
        "untrained": untrained(folder, front_end, data, profile),
        "judges": panel(data, profile, runs, front_end),
        "learned": learned(folder, model, front_end, data, profile, only or LEARNED),
    }
    before = set(zip(done.condition, done.method, done.row))
    parts = np.array_split(data.split.test, -(-len(data.split.test) // AT_ONCE))
    for condition, rows in itertools.product(CONDITIONS, parts):
        inputs = take(data, rows, condition, profile.front_end.sr, device)
        explainer = Explainer(model, front_end, inputs=inputs, **shared)
        known = compared(explainer)
        if unknown := set(only) - {*known, *METHODS}:
            raise ValueError(
                f"explain_fold: no method is called {', '.join(sorted(unknown))}; choose of "
                f"{', '.join(known)}."
            )
        for name, method in tqdm(known.items(), desc=f"explaining, {condition}"):
            if (only and name not in only) or (condition, name, rows[0]) in before:
                continue
            table = _judged(explainer, method).assign(
                condition=condition, method=name, row=rows,
                filename=data.clips.filename.iloc[rows].to_numpy(),
                source=data.clips.src_file.iloc[rows].to_numpy(),
                label=data.labels[rows].numpy(), predicted=explainer.targets.cpu().numpy(),
            )  # fmt: skip
            # an empty table would make the rows' numbers and the decisions floats and objects
            done = pd.concat([done, table], ignore_index=True) if len(done) else table
            write_atomically(path, partial(done.round(5).to_csv, index=False, **PACKED))
        if condition == "clean" and rows[0] == data.split.test[0] and shared["learned"]:
            table = progress(explainer)
            write_atomically(folder / "rivals.csv", partial(table.to_csv, index=False))
        del inputs, explainer  # before the next ones come
    save_json(note, {"identity": identity, "complete": not only})
    return done


def _judged(explainer: Explainer, method: Method) -> pd.DataFrame:
    """Return all that is asked of a method's masks."""
    masks = method.masks(explainer)
    table = judge(explainer, masks)
    if explainer.inputs.condition != "clean" or not method.main:
        return table
    some = torch.arange(0, len(masks), -(-len(masks) // BUDGETED))
    means = budget(explainer.part(some), masks[some]).groupby("clip").mean().drop(columns="share")
    means.index = some.numpy()
    return table.join(specificity(explainer, method.masks)).join(means)


def open_network(runs: Path, data: Data, profile: Profile) -> tuple[Path, nn.Module]:
    """Open the network of the profile's run; without it, say how to train it."""
    weights = runs / experiments.name_of(profile) / "model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(
            f"explain_fold: {weights} is missing; train the fold first, as with "
            f"{experiments.how_to_train(profile)}."
        )
    return weights, load(weights, profile, data.class_names)


def untrained(
    folder: Path, front_end: LogMel, data: Data, profile: Profile
) -> tuple[tuple[nn.Module, Fitted], ...]:
    """Return networks with random weights, each with the dictionaries over its layers."""
    found, device = [], front_end.window.device
    for seed in range(UNTRAINED, UNTRAINED + 5):
        model = initial_model(variant(profile, seed=seed), len(data.class_names))
        model = model.eval().to(device)
        path = folder / f"untrained{seed}.pt"
        found.append((model, fit(path, model, front_end, data, profile)))
    return tuple(found)


def learned(
    folder: Path, model: nn.Module, front_end: LogMel, data: Data, profile: Profile,
    names: Sequence[str],
) -> dict[str, Interpreter]:  # fmt: skip
    """Return those of some rivals that are trained beside the network; none for one that is wide.

    Procedural clips are a rehearsal: a few steps.
    """
    found: dict[str, Interpreter] = {}
    if max(profile.network.channels) > max(NARROW.channels):
        return found
    for name, rival in zip(LEARNED, (lmac, l2i), strict=True):
        if name in names:
            settings = rival.Settings()
            if profile.procedural:
                settings = replace(settings, steps=REHEARSED)
            path = folder / f"{name}.pt"
            found[name] = rival.fit(path, model, front_end, data, settings)
    return found


def panel(data: Data, profile: Profile, runs: Path, front_end: LogMel) -> dict[str, Judge]:
    """Return the second judges of a fold that there are; none has heard a clip of the test fold.

    Networks are those of runs that were trained with another seed or another width. YAMNet is
    asked about recordings only.
    """
    sr, judges = profile.front_end.sr, {}
    others = {
        "another seed": variant(profile, seed=profile.training.seed + 1),
        "narrow network": variant(profile, network=NARROW),
    }
    for name, other in others.items():
        weights = runs / experiments.name_of(other) / "model.safetensors"
        if other != profile and weights.is_file():
            judges[name] = network(load(weights, other, data.class_names), front_end)
    judges["forest"] = forest(data, front_end)
    heard = None if profile.procedural else yamnet(data, sr)
    return judges if heard is None else judges | {"YAMNet": heard}


def explain_folds(
    data: Data, profiles: Iterable[Profile], runs: Path, explanations: Path,
    scheduler: str = "", jobs: int = 0, only: Sequence[str] = (),
) -> list[Path]:  # fmt: skip
    """Do :func:`explain_fold` for several networks at once, and return their folders.

    Parameters
    ----------
    explanations : of the folders, named as the runs.
    scheduler, jobs : as for ``pieces.carry_out``.
    """
    work = partial(_explain_in, data, runs, explanations, only)
    return pieces.carry_out(work, profiles, "networks", scheduler, jobs)


def _explain_in(data, runs, explanations, only, profile: Profile) -> Path:
    folder = explanations / experiments.name_of(profile)
    explain_fold(data, profile, runs, folder, only)
    return folder


def progress(explainer: Explainer) -> pd.DataFrame:
    """Return how the training of the trained rivals went, a row per method.

    Columns: method, epochs, the validation loss after a quarter, a half, three quarters and all of
    them, and foretold: in how many percent of the clips L2I's own linear layer names the decision,
    which is the fidelity that its paper prints.
    """
    rows = []
    for name, rival in explainer.learned.items():
        losses = rival.history.validation_loss.to_numpy()
        at = {part: losses[round(part * len(losses)) - 1] for part in PARTS}
        row = {"method": name, "epochs": len(losses)} | {f"{part:.0%}": at[part] for part in PARTS}
        if hasattr(rival, "fidelity"):
            row["foretold"] = 100 * float(rival.fidelity(explainer).float().mean())
        rows.append(row)
    return pd.DataFrame(rows)


def collect(
    data: Data, profile: Profile, runs: Path, explanations: Path, recorded: Path | None = None,
    table: str = "scores.csv.gz",
) -> pd.DataFrame:  # fmt: skip
    """Return the judged explanations there are; those of the profile's own network are made.

    Rows are those of :func:`explain_fold`, with the columns network ("own", the profile's, or
    "narrow") and fold, from the folders in `explanations`: those of other folds and of the narrow
    network as they are, some methods or all. Those of a recorded study go before.

    Parameters
    ----------
    table : or "rivals.csv", the rows of :func:`progress`.
    """
    found, widths = [], {"own": profile.network, "narrow": NARROW}
    for network_name, fold in itertools.product(widths, sorted(data.clips.fold.unique())):
        own = replace(variant(profile, test_fold=int(fold)), network=widths[network_name])
        if network_name == "narrow" and NARROW == profile.network:
            continue
        name = experiments.name_of(own)
        path = explanations / name / table
        known = recorded and recorded / "explanations" / name
        if known and (known / "scores.csv.gz").is_file():
            path = known / table
        elif own == profile:
            explain_fold(data, profile, runs, path.parent)
        if path.is_file():
            judged = read_table(path, NUMBERS[table], ["method"])
            found.append(judged.assign(network=network_name, fold=fold))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()
