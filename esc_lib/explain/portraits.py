"""Portraits of classes: a few atoms per class, chosen on training clips, applied to others.

On a new clip no gradient is asked for and no network decides what is kept: the atoms' share of W H
says where the class should be. Every method, and every control, keeps the same share of the clip's
energy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from esc_lib.data.clips import Data
from esc_lib.dictionaries.atoms import used
from esc_lib.explain.components import Components
from esc_lib.explain.conditions import take
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.judge import by_energy
from esc_lib.explain.masks import cut_out
from esc_lib.explain.relevance import log_odds as log_odds_of_logits
from esc_lib.explain.relevance import of_target
from esc_lib.explain.second_judges import log_odds
from esc_lib.layers.hooks import mel_magnitude, record, reduce_frequency
from esc_lib.machine.hardware import autocast

SIZES = (1, 2, 5, 10)  # atoms of a portrait
POOL = 12  # atoms among which a portrait is chosen: those that speak most for the class
ENERGY = 0.2  # share of a clip's energy that is kept
AT_MOST = 12  # training clips of a class
OURS = "portrait"


@dataclass(frozen=True)
class Portraits:
    """What is known of every class, all of it from training clips."""

    fitted: Components
    atoms: torch.Tensor  # int, (classes, atoms), the first n are the portrait of n atoms
    spectra: torch.Tensor  # (classes, mel), mean magnitude over that of all classes
    gradients: torch.Tensor  # (classes, mel), mean relevance of each band


@torch.no_grad()
def activations(explainer: Explainer, layer: str) -> torch.Tensor:
    """Return a layer's H, (clips, atoms, frames), from a forward pass alone."""
    found = []
    for features in explainer.features.split(16):
        with record(explainer.model, (layer,)) as maps, autocast(features.device):
            explainer.model(features)
        found.append(reduce_frequency(maps[layer].float()))
    return torch.cat(found)


def choose(explainer: Explainer, fitted: Components) -> list[int]:
    """Choose the atoms of one class, greedily, on training clips of it, all explained for it.

    The next atom is the one with which the class's log-odds on what is kept are highest.
    """
    h = activations(explainer, fitted.layer)
    speaks = explainer.relevance(fitted, "both").sum(dim=2).mean(dim=0)
    speaks[torch.from_numpy(~used(fitted.w.cpu().numpy()))] = -torch.inf
    pool, chosen = speaks.topk(min(POOL, len(speaks))).indices.tolist(), []
    while len(chosen) < min(max(SIZES), len(pool)):
        kept = {}
        for atom in pool:
            if atom not in chosen:
                heat = _heat(explainer, fitted, h, torch.tensor([[*chosen, atom]] * len(h)))
                (mask,) = by_energy(explainer, heat, [ENERGY])
                kept[atom] = _log_odds_of_power(explainer, explainer.power * mask)
        chosen.append(max(kept, key=kept.get))
    return chosen


@torch.no_grad()
def _log_odds_of_power(explainer: Explainer, power: torch.Tensor) -> float:
    """Return the mean log-odds of the classes explained, from mel powers (clips, mel, frames)."""
    features = explainer.front_end.features_of_power(power, explainer.inputs.n_valid)
    with autocast(features.device):
        logits = explainer.model(features).float()
    return float(log_odds_of_logits(logits, explainer.targets).clamp(-7, 7).mean())


def _heat(
    explainer: Explainer, fitted: Components, h: torch.Tensor, atoms: torch.Tensor
) -> torch.Tensor:
    """Return the share of W H that atoms, int (clips, n), have: (clips, mel, frames)."""
    keep = torch.zeros(len(h), h.shape[1], 1, device=h.device)
    keep.scatter_(1, atoms[..., None].to(h.device), 1.0)
    return fitted.mask(h, keep, explainer.front_end.settings.n_frames)


def draw(explainer: Explainer, data: Data, fitted: Components) -> Portraits:
    """Choose the portraits of all classes on the training clips.

    Parameters
    ----------
    explainer : of the network; its inputs do not matter.
    """
    train, labels = data.split.train, data.labels.numpy()[data.split.train]
    sr, device = explainer.front_end.settings.sr, explainer.inputs.waveforms.device
    atoms, spectra, gradients = [], [], []
    for label in range(len(data.class_names)):
        rows = train[labels == label][:AT_MOST]
        classes = torch.full((len(rows),), label, device=device)
        inputs = take(data, rows, "clean", sr, device)
        of_class = replace(explainer, inputs=inputs, classes=classes)
        atoms.append(choose(of_class, fitted))
        spectra.append(mel_magnitude(of_class.front_end, inputs.waveforms).mean(dim=(0, 2)))
        gradients.append(of_class.bands.mean(dim=(0, 2)))
    mean = torch.stack(spectra)
    mean = mean / mean.mean(dim=0).clamp_min(1e-12)
    return Portraits(fitted, torch.tensor(atoms), mean, torch.stack(gradients))


def heats(
    explainer: Explainer, portraits: Portraits, classes: torch.Tensor, n: int, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Return where classes, int (clips,), should be: by their portraits of n atoms, and controls.

    Names to (clips, mel, frames). The controls are n atoms drawn at random, the same atoms with H =
    1 and with the rows of H dealt out among channels; without atoms, the class's mean spectrum and
    mean gradient.
    """
    fitted, n_frames = portraits.fitted, explainer.front_end.settings.n_frames
    h, own = activations(explainer, fitted.layer), portraits.atoms[classes.cpu()][:, :n]
    generator = torch.Generator().manual_seed(seed)
    index = torch.from_numpy(used(fitted.w.cpu().numpy()).nonzero()[0])
    drawn = torch.stack([
        index[torch.randperm(len(index), generator=generator)[:n]] for _ in classes
    ])  # fmt: skip
    dealt = torch.randperm(h.shape[1], generator=generator)
    level = torch.where(fitted.scale > 0, 1 / fitted.scale, 0.0)[:, None]
    found = {
        OURS: (h, own),
        "random atoms": (h, drawn),
        "H = 1": (level.expand_as(h), own),
        "H permuted": ((h / level.clamp_min(1e-30))[:, dealt] * level, own),
    }
    made = {name: _heat(explainer, fitted, *given) for name, given in found.items()}
    static = {"mean spectrum": portraits.spectra, "mean gradient": portraits.gradients}
    for name, of_class in static.items():
        made[name] = of_class.to(h.device)[classes][..., None].expand(-1, -1, n_frames)
    return made


def judge_portraits(
    explainer: Explainer, portraits: Portraits, labels: np.ndarray, seed: int = 0
) -> pd.DataFrame:
    """Judge what portraits keep of test clips, and what those of a wrong class keep.

    Returns
    -------
    DataFrame, a row per clip, number of atoms and method (those without atoms once, n = 0): kept,
        the change of the label's log-odds, stays, whether the network decides for the label on what
        is kept, "gain <judge>" as in ``judge.judge``, and of the portrait of a random other class:
        turned, whether the network then decides for that one, gain_wrong.
    """
    targets = torch.from_numpy(labels).to(explainer.inputs.waveforms.device)
    rng, n_classes = np.random.default_rng(seed), len(portraits.atoms)
    wrong = torch.from_numpy((labels + rng.integers(1, n_classes, len(labels))) % n_classes)
    rows, asked = [], explainer.asked_for(targets)
    for n in SIZES:
        own, other = (heats(asked, portraits, c.to(targets), n) for c in (targets, wrong))
        for name, heat in own.items():
            with_atoms = not name.startswith("mean ")
            if with_atoms or n == SIZES[0]:
                found = _judge(asked, heat, other[name], wrong.to(targets))
                rows.append(found.assign(method=name, n=n if with_atoms else 0))
    return pd.concat(rows, ignore_index=True)


def _judge(
    explainer: Explainer, own: torch.Tensor, other: torch.Tensor, wrong: torch.Tensor
) -> pd.DataFrame:
    targets, inputs, front_end = explainer.targets, explainer.inputs, explainer.front_end
    sounds = []
    for heat in (own, other):
        (mask,) = by_energy(explainer, heat, [ENERGY])
        sounds.append(cut_out(front_end, inputs.waveforms, mask))
    right, against = (explainer.probabilities(sound) for sound in sounds)
    before = log_odds(explainer.given)
    columns: Mapping[str, torch.Tensor] = {
        "kept": of_target(log_odds(right) - before, targets),
        "stays": right.argmax(dim=1) == targets,
        "gain_wrong": of_target(log_odds(against) - before, wrong),
        "turned": against.argmax(dim=1) == wrong,
    }
    for name, ask in explainer.judges.items():
        rise = log_odds(ask(sounds[0], inputs.n_valid)) - log_odds(explainer.heard[name])
        columns |= {f"gain {name}": of_target(rise, targets)}
    table = pd.DataFrame({name: values.cpu().numpy() for name, values in columns.items()})
    return table.assign(row=inputs.rows)
