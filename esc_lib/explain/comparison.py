"""All methods on the same decisions: one row per clip, condition and method.

Everything is judged by the sound a mask makes, not by the mask: what a person hears is what the
network is given.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from esc_lib.config import Dictionaries, Profile
from esc_lib.data.clips import Data
from esc_lib.dictionaries import gather, models, solvers
from esc_lib.dictionaries.models import MODELS
from esc_lib.explain import components, scores
from esc_lib.explain.components import KL, Components, fit_divergence, fit_squared
from esc_lib.explain.inputs import CONDITIONS, Inputs, take
from esc_lib.explain.masks import cut_out
from esc_lib.explain.methods import OURS, Choice, Explainer, Fitted, methods
from esc_lib.machine.files import made_once, save_json, write_atomically
from esc_lib.machine.fingerprint import fingerprint
from esc_lib.machine.hardware import autocast, best_device
from esc_lib.models.se_cnn import BLOCKS
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import runs as experiments
from esc_lib.training.checkpoint import load

BATCH = 16
IN_NOISE = (
    OURS, "Grad-CAM", "saliency", "Deep Feature Factorization", "control: constant",
    "control: random mask", "control: random atoms", "control: another clip's", "oracle",
)  # fmt: skip


@torch.no_grad()
def probabilities(
    model: nn.Module, front_end: LogMel, waveforms: torch.Tensor, n_valid: torch.Tensor
) -> torch.Tensor:
    """Return what the network makes of whole clips, shape (clips, classes)."""
    found = []
    for some, lengths in zip(waveforms.split(BATCH), n_valid.split(BATCH), strict=True):
        features = front_end.features(some, lengths)
        with autocast(features.device):
            found.append(model(features).float().softmax(dim=1))
    return torch.cat(found)


def judge(
    model: nn.Module, front_end: LogMel, inputs: Inputs, given: torch.Tensor, mask: torch.Tensor
) -> pd.DataFrame:
    """Return what the network makes of what the masks keep and remove, a row per clip.

    Parameters
    ----------
    model, front_end : in evaluation mode.
    inputs : Inputs
    given : tensor, shape (clips, classes), probabilities of the inputs; the class with the highest
        is the one explained.
    mask : tensor, shape (clips, mel, frames), in [0, 1].

    Returns
    -------
    DataFrame with p, o, m; p_twice and o_twice for the recipe that takes the softmax twice; same,
        whether the decision stays; energy, kept of the input's; sparseness, complexity; si_sdr in
        dB of the masked-in sound against the labelled one, where it is known.
    """
    targets = given.argmax(dim=1)
    kept = cut_out(front_end, inputs.waveforms, mask)
    removed = cut_out(front_end, inputs.waveforms, 1 - mask)
    inside = probabilities(model, front_end, kept, inputs.n_valid)
    outside = probabilities(model, front_end, removed, inputs.n_valid)

    def of_target(values: torch.Tensor) -> np.ndarray:
        return values.gather(1, targets[:, None])[:, 0].double().cpu().numpy()

    table = pd.DataFrame(
        {
            "p": of_target(given),
            "o": of_target(inside),
            "m": of_target(outside),
            "p_twice": of_target(scores.softmax_again(given)),
            "o_twice": of_target(scores.softmax_again(inside)),
            "same": (inside.argmax(dim=1) == targets).cpu().numpy(),
            "energy": scores.kept_energy(kept, inputs.waveforms).cpu().numpy(),
            "sparseness": scores.sparseness(mask).cpu().numpy(),
            "complexity": scores.complexity(mask).cpu().numpy(),
        }
    )
    if inputs.wanted is not None:
        table["si_sdr"] = scores.si_sdr(kept, inputs.wanted).cpu().numpy()
        table["si_sdr_input"] = scores.si_sdr(inputs.waveforms, inputs.wanted).cpu().numpy()
    return table


def fit(
    path: Path,
    model: nn.Module,
    front_end: LogMel,
    data: Data,
    profile: Profile,
    compared: Sequence[str] = (),
) -> Fitted:
    """Read the blocks' H on training clips and fit dictionaries, or open what was found before.

    Every block gets the dictionary of our ``Choice``, and that of least divergence.

    Parameters
    ----------
    path : Path, where H is kept, and the dictionaries of every block beside it.
    compared : blocks that get the other dictionaries of least squared error, too; these are quick
        to fit, and are not kept.
    """
    train = gather.gather_once(
        path, model, front_end, data, data.split.train, BLOCKS, keep=BLOCKS
    )
    own, seed = profile.dictionaries, profile.training.seed
    known = (own, seed, Choice.dictionary, path.read_bytes())
    identity = fingerprint(*known, code=[models.__file__, solvers.__file__, components.__file__])

    def make() -> dict:
        return {"fitted": {key: vars(one) for key, one in _fit(train, own, seed).items()}}

    kept = made_once(path.with_name("dictionaries.pt"), identity, make)
    fitted = {key: Components(**one) for key, one in kept["fitted"].items()}
    for block in compared:
        found = fit_squared(train.statistics[block], block, own, seed)
        fitted |= {(block, name): one for name, one in found.items()}
    device = next(model.parameters()).device
    return {key: one.to(device) for key, one in fitted.items()}


def _fit(train: gather.Gathered, own: Dictionaries, seed: int) -> Fitted:
    fitted: Fitted = {}
    chosen = [model for model in MODELS if model.__name__ == Choice.dictionary]
    for block in BLOCKS:
        found = fit_squared(train.statistics[block], block, own, seed, chosen, solve=False)
        fitted |= {(block, KL): fit_divergence(train, block)}
        fitted |= {(block, name): one for name, one in found.items()}
    return fitted


def explain_fold(
    data: Data, profile: Profile, runs: Path, folder: Path, only: Sequence[str] = ()
) -> pd.DataFrame:
    """Explain the decisions on the profile's test fold by every method, unless it was done before.

    A run that is stopped goes on with the next method.

    Parameters
    ----------
    data : Data
    profile : Profile, with the test fold.
    runs : Path of the trained runs.
    folder : Path, for this fold's ``scores.csv`` and what it needs.
    only : names of methods, none of them with other dictionaries of least squared error; default:
        all methods.

    Raises
    ------
    FileNotFoundError
        If the fold's network was not trained.
    """
    weights = runs / experiments.name_of(profile) / "model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(
            f"explain_fold: {weights} is missing; train the fold first, as with "
            f"python -m esc_lib train --profile {profile.name} --folds {profile.test_fold}."
        )
    data = experiments.split_for(data, profile)
    device = best_device()
    model = load(weights, profile, data.class_names)
    front_end = LogMel(profile.front_end).to(device)
    folder.mkdir(parents=True, exist_ok=True)
    path, note = folder / "scores.csv", folder / "identity.json"
    identity = fingerprint(weights.read_bytes(), code=__file__)
    done = pd.DataFrame({"condition": [], "method": []})
    if path.is_file() and note.is_file():
        noted = json.loads(note.read_text(encoding="utf-8"))
        if noted["identity"] == identity:
            done = pd.read_csv(path)
            if noted["complete"]:
                return done
    save_json(note, {"identity": identity, "complete": False})
    compared = () if only else (profile.dictionaries.layer,)
    fitted = fit(folder / "hidden.pt", model, front_end, data, profile, compared)
    for condition in CONDITIONS:
        inputs = take(data, data.split.test, condition, profile.front_end.sr, device=device)
        given = probabilities(model, front_end, inputs.waveforms, inputs.n_valid)
        explainer = Explainer(model, front_end, fitted, inputs, given.argmax(dim=1))
        for name, mask in tqdm(methods(explainer).items(), desc=f"explaining, {condition}"):
            if (only and name not in only) or (condition == "white noise" and name not in IN_NOISE):
                continue
            if ((done.condition == condition) & (done.method == name)).any():
                continue
            started = time.perf_counter()
            masks = mask()
            seconds = time.perf_counter() - started
            table = judge(model, front_end, inputs, given, masks)
            rows = inputs.rows
            table = table.assign(
                condition=condition, method=name, row=rows, seconds=seconds / len(rows),
                filename=data.clips.filename.iloc[rows].to_numpy(),
                source=data.clips.src_file.iloc[rows].to_numpy(),
                label=data.labels[rows].numpy(), predicted=given.argmax(dim=1).cpu().numpy(),
            )  # fmt: skip
            # an empty table would make the rows' numbers and the decisions floats and objects
            done = pd.concat([done, table], ignore_index=True) if len(done) else table
            kept = done.round(6)
            write_atomically(path, lambda scratch, kept=kept: kept.to_csv(scratch, index=False))
    save_json(note, {"identity": identity, "complete": not only})
    return done


def collect(
    data: Data, profile: Profile, runs: Path, explanations: Path, recorded: Path | None = None
) -> pd.DataFrame:
    """Return the judged explanations of all folds there are; the profile's own is made if need be.

    Parameters
    ----------
    data, profile, runs : as for :func:`explain_fold`.
    explanations : Path of the study's folders ``fold<k>/``. Other folds are taken as they are, some
        methods or all.
    recorded : Path of a recorded study, whose ``explanations/fold<k>.csv`` go before.

    Returns
    -------
    DataFrame, rows as of :func:`explain_fold`, with the column fold.
    """
    found = {}
    for fold in sorted(int(fold) for fold in data.clips.fold.unique()):
        places = [explanations / f"fold{fold}" / "scores.csv"]
        if recorded:
            places.insert(0, recorded / "explanations" / f"fold{fold}.csv")
        there = next((path for path in places if path.is_file()), None)
        if there and (there != places[-1] or fold != profile.test_fold):
            found[fold] = pd.read_csv(there)
        elif fold == profile.test_fold:
            found[fold] = explain_fold(data, profile, runs, places[-1].parent)
    return pd.concat([judged.assign(fold=fold) for fold, judged in found.items()])
