"""Beside the scores: how settings were found on validation clips, and randomised weights.

References
----------
adebayo2018sanity, section 3, for weights randomised in cascade.
"""

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from operator import methodcaller

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from esc_lib.explain.components import Choice
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.heatmaps import Shape
from esc_lib.explain.judge import judge
from esc_lib.explain.methods import METHODS, names_of
from esc_lib.explain.scores import CRITERION, ENERGY, FIVE, similarity
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
        judged = pd.concat([judge(case, make(case)) for case in cases])
        shown = (*FIVE, ENERGY, CRITERION)
        rows.append({score.name: float(score(judged).mean()) for score in shown})
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


def rival_shapes() -> Options:
    """Return every rival that gives heat maps with several ways to make a mask of them.

    Maps on a layer's coarse grid are not smoothed: they come smooth.
    """
    heat, options = cache(lambda name, explainer: METHODS[name].make(explainer)), {}
    shapes = {name: METHODS[name].shape for name in names_of("rival")}
    for name, usual in shapes.items():
        if usual is None:  # it makes masks of its own
            continue
        widths = (1, 9) if usual.width > 1 else (1,)
        tried = [Shape(exponent, width) for exponent in (0.125, 0.25, 0.5) for width in widths]
        for shape in (*tried, replace(usual, floor=Choice.floor)):
            label = f"exponent {shape.exponent:g}, width {shape.width}, floor {shape.floor:g}"
            options[f"{name}, {label}"] = (
                lambda explainer, name=name, shape=shape: shape.mask(heat(name, explainer))
            )
    return options


# -------------------------------------------------------------------------- is it to be believed


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
