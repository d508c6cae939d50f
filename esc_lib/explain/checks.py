"""Checks that a mask's scores do not show: curves of insertion and deletion, randomised weights,
other ways to fill what a mask takes out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from esc_lib.explain import scores
from esc_lib.explain.comparison import judge, probabilities
from esc_lib.explain.inputs import Inputs
from esc_lib.explain.masks import cut_out
from esc_lib.explain.methods import Explainer
from esc_lib.explain.table import SCORES
from esc_lib.sound.log_mel import LogMel

STAGES = (
    ("fc2",),
    ("fc1",),
    ("se4", "conv_block5"),
    ("se3", "conv_block4"),
    ("se2", "conv_block3"),
    ("se1", "conv_block2", "conv_block1"),
)  # from the output to the input


def by_rank(heat: torch.Tensor, kept: float) -> torch.Tensor:
    """Return 1 at the `kept` share of points with the highest values, (clips, mel, frames)."""
    n_points = heat[0].numel()
    order = heat.flatten(1).argsort(dim=1, descending=True, stable=True)
    chosen = torch.zeros_like(order, dtype=heat.dtype)
    chosen.scatter_(1, order[:, : round(kept * n_points)], 1.0)
    return chosen.reshape(heat.shape)


def curve(
    model: nn.Module,
    front_end: LogMel,
    inputs: Inputs,
    targets: torch.Tensor,
    heat: torch.Tensor,
    *,
    insert: bool,
    n_steps: int = 8,
) -> np.ndarray:
    """Return the probability of the explained class while the highest points come or go.

    Parameters
    ----------
    model, front_end, inputs : as for :func:`comparison.judge`.
    targets : int tensor, shape (clips,).
    heat : tensor, shape (clips, mel, frames): the order of the points.
    insert : bool, True adds points to silence, False takes them out of the clip.
    n_steps : int

    Returns
    -------
    array, shape (clips, n_steps + 1), at shares 0, 1 / n_steps, ..., 1 of all points.

    References
    ----------
    petsiuk2018rise, section 4 (insertion and deletion); here in the sound: what is out is silent.
    """
    found = []
    for step in range(n_steps + 1):
        mask = by_rank(heat, step / n_steps)
        sounds = cut_out(front_end, inputs.waveforms, mask if insert else 1 - mask)
        given = probabilities(model, front_end, sounds, inputs.n_valid)
        found.append(given.gather(1, targets[:, None])[:, 0].cpu().numpy())
    return np.stack(found, axis=1)


def randomised(model: nn.Module, fresh: nn.Module, n_stages: int) -> nn.Module:
    """Return a copy of the model whose last `n_stages` of `STAGES` have the weights of `fresh`."""
    copied = copy.deepcopy(model)
    for stage in STAGES[:n_stages]:
        for name in stage:
            copied.get_submodule(name).load_state_dict(fresh.get_submodule(name).state_dict())
    return copied.eval()


def randomisation(
    explainer: Explainer,
    fresh: nn.Module,
    masks: Mapping[str, Callable[[Explainer], torch.Tensor]],
) -> pd.DataFrame:
    """Return how similar masks stay while the weights are randomised from the output down.

    An explanation that does not change when the network forgets does not explain the network.

    Parameters
    ----------
    explainer : Explainer of the trained network. Its dictionaries and its classes stay.
    fresh : nn.Module of the same shape with other, untrained weights.
    masks : name to a function that makes masks of an explainer.

    Returns
    -------
    DataFrame, a row per clip and stage; columns stage (the last layer randomised), clip, and the
        rank correlation of each method's mask with that of the trained network.

    References
    ----------
    adebayo2018sanity, section 3 (cascading randomisation).
    """
    trained = {name: make(explainer) for name, make in masks.items()}
    rows = []
    for n_stages in tqdm(range(1, len(STAGES) + 1), desc="randomising"):
        other = replace(explainer, model=randomised(explainer.model, fresh, n_stages))
        found = {
            name: scores.similarity(trained[name], make(other)) for name, make in masks.items()
        }
        stage = pd.DataFrame(found).assign(stage=STAGES[n_stages - 1][-1])
        rows.append(stage.rename_axis("clip").reset_index())
    return pd.concat(rows, ignore_index=True)


def fills(
    model: nn.Module,
    front_end: LogMel,
    inputs: Inputs,
    masks: Mapping[str, torch.Tensor],
    floors_db: Sequence[float] = (-np.inf, -40.0, -20.0),
) -> pd.DataFrame:
    """Return scores with other values in the place of what a mask takes out.

    Parameters
    ----------
    masks : method to masks, shape (clips, mel, frames).
    floors_db : the least gain of a mask in dB; -inf is silence, which the front end floors at
        `top_db` below the sound's own maximum.

    Returns
    -------
    DataFrame, a row per method, kind (soft, or binary with the same area) and floor.
    """
    given = probabilities(model, front_end, inputs.waveforms, inputs.n_valid)
    rows = []
    for method, soft in masks.items():
        area = float(soft.mean())
        for kind, mask in (("soft", soft), ("binary", by_rank(soft, area))):
            for floor_db in floors_db:
                floor = 10 ** (floor_db / 20)
                judged = judge(model, front_end, inputs, given, floor + (1 - floor) * mask)
                found = {name: float(SCORES[name](judged).mean()) for name in list(SCORES)[:5]}
                rows.append({"method": method, "mask": kind, "floor (dB)": floor_db} | found)
    return pd.DataFrame(rows)
