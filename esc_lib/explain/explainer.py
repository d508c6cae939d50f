"""The decisions of one network on some sounds, and how our components explain them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, Self

import torch
from torch import nn

from esc_lib.explain import relevance
from esc_lib.explain.components import Choice, Components, Fitted
from esc_lib.explain.conditions import BATCH, Inputs
from esc_lib.explain.second_judges import Judge, network
from esc_lib.layers.gates import BEFORE
from esc_lib.models.se_cnn import BLOCKS
from esc_lib.sound.log_mel import LogMel

SHARED = ("given", "features", "power")  # what of the same sounds is not computed twice
Layers = Mapping[str, tuple[torch.Tensor, torch.Tensor]]  # block to H and its channels' relevance


class Interpreter(Protocol):
    """A rival that was trained to explain one network."""

    def masks(self, explainer: "Explainer") -> torch.Tensor:
        """Return masks in [0, 1], (clips, mel, frames)."""


@dataclass(eq=False)
class Explainer:
    """Some decisions of one network; what the methods share is computed once."""

    model: nn.Module  # in evaluation mode, on the device of the inputs, as is the front end
    front_end: LogMel
    fitted: Fitted
    inputs: Inputs
    classes: torch.Tensor | None = None  # int, (clips,), to be explained; None: those predicted
    choice: Choice = Choice()
    # networks with random weights and the dictionaries over their layers, for a control
    untrained: tuple[tuple[nn.Module, Fitted], ...] = ()
    judges: Mapping[str, Judge] = field(default_factory=dict)  # asked beside the network
    learned: Mapping[str, "Interpreter"] = field(default_factory=dict)  # trained beside it

    @cached_property
    def targets(self) -> torch.Tensor:
        """The classes explained, int, shape (clips,)."""
        return self.given.argmax(dim=1) if self.classes is None else self.classes

    @torch.no_grad()
    def probabilities(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Return what the network makes of sounds as long as the inputs, (clips, classes)."""
        judge: Judge = network(self.model, self.front_end)
        parts = zip(waveforms.split(BATCH), self.inputs.n_valid.split(BATCH), strict=True)
        return torch.cat([judge(*some) for some in parts])

    @cached_property
    def given(self) -> torch.Tensor:
        """What the network makes of the inputs, shape (clips, classes)."""
        return self.probabilities(self.inputs.waveforms)

    @cached_property
    def heard(self) -> dict[str, torch.Tensor]:
        """What the second judges make of the inputs, each (clips, classes)."""
        sounds = self.inputs.waveforms, self.inputs.n_valid
        return {name: judge(*sounds) for name, judge in self.judges.items()}

    @cached_property
    def power(self) -> torch.Tensor:
        """The mel power of the inputs, shape (clips, mel, frames)."""
        return self.front_end.mel_power(self.inputs.waveforms)

    @cached_property
    def features(self) -> torch.Tensor:
        """What the network sees, shape (clips, 1, mel, frames)."""
        return self.front_end.features(self.inputs.waveforms, self.inputs.n_valid)

    @cached_property
    def read(self) -> relevance.Read:
        """One forward and backward pass, from which all that our masks need is read."""
        fitted = {block for block, _ in self.fitted}
        gates = {block: gate for gate, block in BEFORE.items() if hasattr(self.model, gate)}
        layers = {block: gates.get(block, block) for block in BLOCKS if block in fitted}
        sounds = self.inputs.waveforms, self.inputs.n_valid
        classes = self.targets if "given" in vars(self) else self.classes
        found = relevance.read(self.model, self.front_end, *sounds, classes, layers)
        vars(self).setdefault("given", found.given)
        return found

    def part(self, places: torch.Tensor) -> Self:
        """Return the explainer of the decisions at these places; what is known is not redone."""
        found = replace(self, inputs=self.inputs.only(places), classes=self.targets[places])
        known = vars(self)
        vars(found).update({name: known[name][places] for name in SHARED if name in known})
        if "heard" in known:
            vars(found)["heard"] = {name: each[places] for name, each in self.heard.items()}
        if "read" in known:
            vars(found)["read"] = self.read.only(places)
        return found

    def asked_for(self, classes: torch.Tensor) -> Self:
        """Return the explainer of other classes, int (clips,), of the same sounds."""
        found = replace(self, classes=classes)
        known = vars(self)
        vars(found).update({name: known[name] for name in (*SHARED, "heard") if name in known})
        return found

    @property
    def bands(self) -> torch.Tensor:
        """How much each band and frame speaks for the class, (clips, mel, frames)."""
        return self.read.bands

    @property
    def layers(self) -> Layers:
        """H and gradient times activation, both (clips, atoms, frames), of the fitted blocks.

        The latter is that of the gate behind a block where there is one, since its factor belongs
        to the channel's effect.
        """
        return self.read.layers

    def relevance(
        self, components: Components, kind: str, layers: Layers | None = None
    ) -> torch.Tensor:
        """Return how much each atom speaks for the class, (clips, atoms, frames), see Choice."""
        h, channels = (layers or self.layers)[components.layer]
        if kind == "channels":
            return channels
        bands = components.relevance(self.bands, h)
        if kind == "bands":
            return bands
        return relevance.to_one_level(bands) + relevance.to_one_level(channels)

    def components(
        self,
        choice: Choice | None = None,
        alter: Callable[[torch.Tensor, Components], torch.Tensor] | None = None,
        layers: Layers | None = None,
        fitted: Fitted | None = None,
    ) -> torch.Tensor:
        """Return our masks, (clips, mel, frames): the share of the atoms that speak for the class.

        For controls `alter` makes other atoms of them, (clips, atoms, frames) in {0, 1}, and
        `layers` and `fitted` stand in for those of the network.
        """
        choice, total = choice or self.choice, 0
        layers, every = layers or self.layers, fitted or self.fitted
        for block in choice.blocks:
            fitted = every[block, choice.dictionary]
            keep = (self.relevance(fitted, choice.relevance, layers) > 0).float()
            if alter is not None:
                keep = alter(keep, fitted)
            h, _ = layers[block]
            total = total + fitted.mask(h, keep, self.front_end.settings.n_frames)
        return (total / len(choice.blocks)).pow_(choice.exponent).clamp_min_(choice.floor)
