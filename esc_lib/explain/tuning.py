"""Variants of the methods, judged on validation clips: how the settings were found."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from esc_lib.explain.comparison import judge, probabilities
from esc_lib.explain.inputs import Inputs
from esc_lib.explain.methods import SHAPES, Choice, Explainer, Fitted, Shape
from esc_lib.explain.table import FIVE, SCORES, criterion
from esc_lib.models.se_cnn import BLOCKS
from esc_lib.sound.log_mel import LogMel

Options = Mapping[Hashable, Callable[[Explainer], torch.Tensor]]


def try_options(
    model: nn.Module,
    front_end: LogMel,
    fitted: Fitted,
    cases: Sequence[Inputs],
    options: Options,
) -> pd.DataFrame:
    """Judge several masks per decision on validation clips, a row per option.

    Parameters
    ----------
    cases : Inputs of validation clips, one per condition.
    options : name to a function that makes masks of an explainer.

    Returns
    -------
    DataFrame, index option; the five scores, energy, and criterion, means over the cases.
    """
    given = [probabilities(model, front_end, case.waveforms, case.n_valid) for case in cases]
    explainers = [
        Explainer(model, front_end, fitted, case, p.argmax(dim=1))
        for case, p in zip(cases, given, strict=True)
    ]
    rows = {}
    for name, make in tqdm(options.items(), desc="trying"):
        judged = pd.concat(
            [
                judge(model, front_end, explainer.inputs, p, make(explainer)).assign(
                    condition=explainer.inputs.condition
                )
                for explainer, p in zip(explainers, given, strict=True)
            ]
        )
        found = {key: float(SCORES[key](judged).mean()) for key in (*FIVE, "energy")}
        rows[name] = found | {"criterion": criterion(judged)}
    return pd.DataFrame(list(rows.values()), index=pd.Index(list(rows)))


def neighbours(choice: Choice) -> Options:
    """Return the choice and those that differ from it in one thing."""
    others = [choice]
    for blocks in (BLOCKS[2:3], BLOCKS[3:4], BLOCKS[4:], BLOCKS[2:], BLOCKS[1:]):
        others.append(replace(choice, blocks=blocks))
    others += [replace(choice, relevance=kind) for kind in ("bands", "channels")]
    others += [replace(choice, exponent=exponent) for exponent in (0.35, 0.5, 1.0)]
    others += [replace(choice, floor=floor) for floor in (0.0, 0.3, 0.5)]

    def name(other: Choice) -> str:
        blocks = "+".join(block[-1] for block in other.blocks)
        shape = f"exponent {other.exponent:g}, floor {other.floor:g}"
        return f"blocks {blocks}, {other.relevance}, {shape}"

    return {name(other): _components(other) for other in others}


def every_dictionary(fitted: Fitted, choice: Choice) -> Options:
    """Return each layer with each of its dictionaries."""
    return {
        (block, dictionary): _components(replace(choice, blocks=(block,), dictionary=dictionary))
        for block, dictionary in fitted
    }


def rival_shapes() -> Options:
    """Return every rival with several ways to make its heat map a mask.

    Maps on a layer's coarse grid are not smoothed: they come smooth.
    """
    heats: dict[tuple[int, str], torch.Tensor] = {}

    def make(explainer: Explainer, name: str, shape: Shape) -> torch.Tensor:
        key = id(explainer), name
        if key not in heats:
            heats[key] = explainer.heat(name)
        return shape.mask(heats[key])

    options: dict[Hashable, Callable[[Explainer], torch.Tensor]] = {}
    for name, usual in SHAPES.items():
        widths = (1, 9) if usual.width > 1 else (1,)
        shapes = [Shape(exponent, width) for exponent in (0.125, 0.25, 0.5) for width in widths]
        for shape in (*shapes, replace(usual, floor=Choice.floor)):
            label = f"exponent {shape.exponent:g}, width {shape.width}, floor {shape.floor:g}"
            options[f"{name}, {label}"] = (
                lambda explainer, name=name, shape=shape: make(explainer, name, shape)
            )
    return options


def _components(choice: Choice) -> Callable[[Explainer], torch.Tensor]:
    return lambda explainer: explainer.components(choice)
