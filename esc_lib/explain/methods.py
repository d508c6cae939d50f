"""Every way to explain a decision, as one mask per clip: ours, its variants, rivals, controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import nn

from esc_lib.dictionaries.atoms import used
from esc_lib.explain import rivals
from esc_lib.explain.components import Asked, Components, ask
from esc_lib.explain.gradcam import gradcam
from esc_lib.explain.inputs import Inputs
from esc_lib.explain.relevance import of_atoms, to_one_level
from esc_lib.models.se_cnn import BLOCKS
from esc_lib.sound.log_mel import LogMel

OURS = "components"
CONTROLS = ("constant", "shuffled", "random mask", "random atoms", "another clip's", "negative")


@dataclass(frozen=True)
class Choice:
    """How components explain; the defaults were found on validation clips (notebook 08).

    Attributes
    ----------
    blocks : layers whose masks are averaged.
    dictionary : a constrained model's name, "optimum" (squared error) or "Kullback-Leibler".
    relevance : "bands" (the sound's gradient, shared out among atoms), "channels" (gradient times
        activation) or "both", each on one level, added.
    exponent : float, below 1 softens the mask.
    floor : float, the least share of the magnitude that is kept anywhere. The front end
        standardises each clip, so a hole that is silent moves all the rest; 0.4 is 8 dB down.
    """

    blocks: tuple[str, ...] = BLOCKS
    dictionary: str = "MelBasisTransform"
    relevance: str = "both"
    exponent: float = 0.7
    floor: float = 0.4


@dataclass(frozen=True)
class Shape:
    """How a rival's heat map becomes a mask, see :func:`rivals.as_mask`; found as ours was."""

    exponent: float = 0.125
    width: int = 9
    floor: float = 0.0

    def mask(self, heat: torch.Tensor) -> torch.Tensor:
        """Return masks of heat maps, both (clips, mel, frames)."""
        return rivals.as_mask(heat, self.exponent, self.width).clamp_min(self.floor)


SHAPES: dict[str, Shape] = {
    "Grad-CAM": Shape(width=1, floor=Choice.floor),
    "saliency": Shape(),
    "SmoothGrad": Shape(),
    "integrated gradients": Shape(),
    "Deep Feature Factorization": Shape(width=1),
}

Fitted = dict[tuple[str, str], Components]  # (block, dictionary) to components


@dataclass
class Explainer:
    """All methods for some decisions of one network; what they share is computed once.

    Attributes
    ----------
    model, front_end : in evaluation mode.
    fitted : (block, dictionary) to Components.
    inputs : Inputs
    targets : int tensor, shape (clips,), the class explained: the one predicted.
    """

    model: nn.Module
    front_end: LogMel
    fitted: Fitted
    inputs: Inputs
    targets: torch.Tensor
    choice: Choice = field(default_factory=Choice)

    @cached_property
    def features(self) -> torch.Tensor:
        """What the network sees, shape (clips, 1, mel, frames)."""
        return self.front_end.features(self.inputs.waveforms, self.inputs.n_valid)

    @cached_property
    def asked(self) -> Asked:
        """What our method reads, of all blocks that have a dictionary."""
        blocks = tuple(block for block in BLOCKS if any(block == at for at, _ in self.fitted))
        return ask(
            self.model, self.front_end, self.inputs.waveforms, self.inputs.n_valid, self.targets,
            blocks,
        )  # fmt: skip

    def relevance(self, components: Components, kind: str) -> torch.Tensor:
        """Return how much each atom speaks for the class, shape (clips, atoms, frames)."""
        block, asked = components.layer, self.asked
        bands = of_atoms(asked.bands, components.w, components.level(asked.h[block]))
        if kind == "bands":
            return bands
        if kind == "channels":
            return asked.channels[block]
        return to_one_level(bands) + to_one_level(asked.channels[block])

    def components(
        self,
        choice: Choice | None = None,
        alter: Callable[[torch.Tensor, Components], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return our masks, (clips, mel, frames): the share of the atoms that speak for the class.

        Parameters
        ----------
        choice : Choice, default: the explainer's own.
        alter : function of the kept atoms, (clips, atoms, frames) in {0, 1}, and the components:
            other atoms instead, for controls.
        """
        choice, masks = choice or self.choice, []
        for block in choice.blocks:
            fitted = self.fitted[block, choice.dictionary]
            keep = (self.relevance(fitted, choice.relevance) > 0).float()
            if alter is not None:
                keep = alter(keep, fitted)
            n_frames = self.front_end.settings.n_frames
            masks.append(fitted.mask(self.asked.h[block], keep, n_frames))
        return (torch.stack(masks).mean(dim=0) ** choice.exponent).clamp_min(choice.floor)

    def heat(self, name: str) -> torch.Tensor:
        """Return a rival's heat map, (clips, mel, frames) or a layer's grid, >= 0."""
        if name == "Grad-CAM":
            return gradcam(self.model, "conv_block5", self.features, self.targets)
        if name == "Deep Feature Factorization":
            return rivals.deep_feature_factorization(
                self.model, "conv_block5", self.features, self.targets
            )
        of = {
            "saliency": rivals.saliency,
            "SmoothGrad": rivals.smoothgrad,
            "integrated gradients": rivals.integrated_gradients,
        }
        return of[name](self.model, self.features, self.targets)

    def control(self, name: str, seed: int = 0) -> torch.Tensor:
        """Return the masks of a control: ours, with what matters taken out of them."""
        generator = torch.Generator().manual_seed(seed)
        if name in ("constant", "shuffled", "random mask"):
            make = {"shuffled": rivals.shuffled, "random mask": rivals.random_like}
            mask = self.components()
            return make[name](mask, generator) if name in make else rivals.constant(mask)
        if name == "random atoms":
            return self.components(
                alter=lambda keep, fitted: rivals.random_atoms(
                    keep, torch.from_numpy(used(fitted.w.cpu().numpy())), generator
                )
            )
        if name == "another clip's":
            other = self._of_another_class()
            return self.components(alter=lambda keep, fitted: keep[other])
        if name == "negative":
            return self.components(alter=lambda keep, fitted: 1 - keep)
        raise ValueError(f"control: {name!r} is unknown; choose one of {', '.join(CONTROLS)}.")

    def ideal(self) -> torch.Tensor:
        """Return the mask of one who knows both sounds, (clips, mel, frames)."""
        parts = (self.inputs.wanted, self.inputs.unwanted)
        return rivals.ideal(*(self.front_end.mel_power(part).sqrt() for part in parts))

    def _of_another_class(self) -> torch.Tensor:
        """Return for each clip the next one that is explained for another class, if there is."""
        n = len(self.targets)
        away = torch.arange(1, n, device=self.targets.device)
        ahead = (torch.arange(n, device=away.device)[:, None] + away) % n  # (clips, others)
        differs = self.targets[ahead] != self.targets[:, None]
        return ahead.gather(1, differs.float().argmax(dim=1, keepdim=True))[:, 0]


def methods(explainer: Explainer, shapes: dict[str, Shape] | None = None) -> dict[str, Callable]:
    """Return all methods of the comparison, name to a function that returns the masks."""
    choice, shapes = explainer.choice, shapes or SHAPES
    found = {OURS: explainer.components}
    for block in BLOCKS:
        name = f"block {block[-1]}, {choice.dictionary}"
        found[name] = _with(explainer, replace(choice, blocks=(block,)))
    for block, dictionary in explainer.fitted:
        if dictionary != choice.dictionary:
            variant = replace(choice, blocks=(block,), dictionary=dictionary)
            found[f"block {block[-1]}, {dictionary}"] = _with(explainer, variant)
    for name, shape in shapes.items():
        found[name] = _shaped(explainer, name, shape)
    for name in CONTROLS:
        found[f"control: {name}"] = _control(explainer, name)
    if explainer.inputs.wanted is not None:
        found["oracle"] = explainer.ideal
    return found


def _with(explainer: Explainer, choice: Choice) -> Callable:
    return lambda: explainer.components(choice)


def _shaped(explainer: Explainer, name: str, shape: Shape) -> Callable:
    return lambda: shape.mask(explainer.heat(name))


def _control(explainer: Explainer, name: str) -> Callable:
    return lambda: explainer.control(name)
