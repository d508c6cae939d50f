"""Beside the scores: how settings were found on validation clips, curves of insertion and deletion,
randomised weights, other ways to fill what a mask takes out.

References
----------
petsiuk2018rise, section 4, for the curves, here in the sound: what is out is silent;
adebayo2018sanity, section 3, for weights randomised in cascade.
"""

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from operator import methodcaller

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from esc_lib.explain.components import Choice, Fitted
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.heatmaps import Shape
from esc_lib.explain.judge import judge
from esc_lib.explain.masks import cut_out
from esc_lib.explain.methods import METHODS, names_of
from esc_lib.explain.relevance import of_target
from esc_lib.explain.scores import ENERGY, FIVE, criterion, similarity
from esc_lib.models.se_cnn import BLOCKS

Options = Mapping[Hashable, Callable[[Explainer], torch.Tensor]]  # name to a maker of masks
STAGES = (
    ("fc2",),
    ("fc1",),
    ("se4", "conv_block5"),
    ("se3", "conv_block4"),
    ("se2", "conv_block3"),
    ("se1", "conv_block2", "conv_block1"),
)  # from the output to the input

# --------------------------------------------------------------------------- how it was tuned


def try_options(cases: Sequence[Explainer], options: Options) -> pd.DataFrame:
    """Judge several masks per decision: the five scores, energy and criterion, a row per option.

    They are means over the cases: validation clips, an Explainer per condition.
    """
    rows = []
    for make in tqdm(options.values(), desc="trying"):
        judged = pd.concat(
            [judge(case, make(case)).assign(condition=case.inputs.condition) for case in cases]
        )
        means = {score.name: float(score(judged).mean()) for score in (*FIVE, ENERGY)}
        rows.append(means | {"criterion": criterion(judged)})
    return pd.DataFrame(rows, index=pd.Index(list(options)))


def neighbours(choice: Choice) -> Options:
    """Return the choice and those that differ from it in one thing."""
    others = {
        "blocks": (BLOCKS[2:3], BLOCKS[3:4], BLOCKS[4:], BLOCKS[2:], BLOCKS[1:]),
        "relevance": ("bands", "channels"),
        "exponent": (0.35, 0.5, 1.0),
        "floor": (0.0, 0.3, 0.5),
    }
    changes = [{}] + [{key: value} for key, values in others.items() for value in values]
    options = {}
    for one in (replace(choice, **change) for change in changes):
        blocks = "+".join(block[-1] for block in one.blocks)
        shape = f"exponent {one.exponent:g}, floor {one.floor:g}"
        options[f"blocks {blocks}, {one.relevance}, {shape}"] = methodcaller("components", one)
    return options


def every_dictionary(fitted: Fitted, choice: Choice) -> Options:
    """Return each layer with each of its dictionaries."""
    choices = {key: replace(choice, blocks=key[:1], dictionary=key[1]) for key in fitted}
    return {key: methodcaller("components", one) for key, one in choices.items()}


def rival_shapes() -> Options:
    """Return every rival with several ways to make its heat map a mask.

    Maps on a layer's coarse grid are not smoothed: they come smooth.
    """
    heat, options = cache(lambda name, explainer: METHODS[name].make(explainer)), {}
    for name in names_of("rival"):
        usual = METHODS[name].shape
        widths = (1, 9) if usual.width > 1 else (1,)
        shapes = [Shape(exponent, width) for exponent in (0.125, 0.25, 0.5) for width in widths]
        for shape in (*shapes, replace(usual, floor=Choice.floor)):
            label = f"exponent {shape.exponent:g}, width {shape.width}, floor {shape.floor:g}"
            options[f"{name}, {label}"] = (
                lambda explainer, name=name, shape=shape: shape.mask(heat(name, explainer))
            )
    return options


# -------------------------------------------------------------------------- is it to be believed


def by_rank(heat: torch.Tensor, kept: float) -> torch.Tensor:
    """Return 1 at the `kept` share of points with the highest values, (clips, mel, frames)."""
    n_points = heat[0].numel()
    order = heat.flatten(1).argsort(dim=1, descending=True, stable=True)
    chosen = torch.zeros_like(order, dtype=heat.dtype)
    chosen.scatter_(1, order[:, : round(kept * n_points)], 1.0)
    return chosen.reshape(heat.shape)


def curve(
    explainer: Explainer, heat: torch.Tensor, *, insert: bool, n_steps: int = 8
) -> np.ndarray:
    """Return the probability of the explained class while the highest points of `heat` come or go.

    Points are added to silence, or taken out of the clip: shares 0, 1 / n_steps, ..., 1 of them,
    shape (clips, n_steps + 1).
    """
    found = []
    for step in range(n_steps + 1):
        mask = by_rank(heat, step / n_steps)
        mask = mask if insert else 1 - mask
        sounds = cut_out(explainer.front_end, explainer.inputs.waveforms, mask)
        given = explainer.probabilities(sounds)
        found.append(of_target(given, explainer.targets).cpu().numpy())
    return np.stack(found, axis=1)


def randomised(model: nn.Module, fresh: nn.Module, n_stages: int) -> nn.Module:
    """Return a copy of the model whose last `n_stages` of `STAGES` have the weights of `fresh`."""
    copied = copy.deepcopy(model)
    for stage in STAGES[:n_stages]:
        for name in stage:
            copied.get_submodule(name).load_state_dict(fresh.get_submodule(name).state_dict())
    return copied.eval()


def randomisation(explainer: Explainer, fresh: nn.Module, masks: Options) -> pd.DataFrame:
    """Return how similar masks stay while the weights become `fresh` ones from the output down.

    An explanation that does not change when the network forgets does not explain the network. Its
    dictionaries and its classes stay. A row per clip and stage; columns stage (the last layer
    randomised), clip, and each method's rank correlation with its mask of the trained network.
    """
    trained = {name: make(explainer) for name, make in masks.items()}
    rows = []
    for n_stages in tqdm(range(1, len(STAGES) + 1), desc="randomising"):
        other = replace(explainer, model=randomised(explainer.model, fresh, n_stages))
        found = {name: similarity(trained[name], make(other)) for name, make in masks.items()}
        stage = pd.DataFrame(found).assign(stage=STAGES[n_stages - 1][-1])
        rows.append(stage.rename_axis("clip").reset_index())
    return pd.concat(rows, ignore_index=True)


def fills(
    explainer: Explainer,
    masks: Mapping[str, torch.Tensor],
    floors_db: Sequence[float] = (-np.inf, -40.0, -20.0),
) -> pd.DataFrame:
    """Return the five scores with other values in the place of what a mask takes out.

    A row per method, kind of mask (soft, or binary with the same area) and its least gain in dB;
    -inf is silence, which the front end floors at `top_db` below the sound's own maximum.
    """
    options = {}
    for method, soft in masks.items():
        for kind, mask in (("soft", soft), ("binary", by_rank(soft, float(soft.mean())))):
            for db in floors_db:
                floor = 10 ** (db / 20)
                filled = floor + (1 - floor) * mask
                options[method, kind, db] = lambda _, filled=filled: filled
    found = try_options([explainer], options)[[score.name for score in FIVE]]
    return found.rename_axis(["method", "mask", "floor (dB)"]).reset_index()
