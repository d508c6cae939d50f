"""Every way to explain a decision, in one table. A new one is a function and a line in it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from operator import methodcaller

import numpy as np
import pandas as pd
import torch
from torch import nn

from esc_lib.explain import controls, heatmaps
from esc_lib.explain.components import Choice, Fitted
from esc_lib.explain.conditions import CONDITIONS, Inputs
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.heatmaps import Shape
from esc_lib.machine.timing import latency
from esc_lib.models.se_cnn import BLOCKS
from esc_lib.sound.log_mel import LogMel

OURS = "components"
SIGNED_IG = "integrated gradients, our shape"
# the control that takes the hidden layer away and keeps the rest: what ours has to beat
EQUALISER = "control: gradient equaliser"
UNTRAINED = "control: H of untrained networks"
LEARNED = ("L-MAC", "L2I")  # they need to be trained first


@dataclass(frozen=True)
class Method:
    """One way to explain decisions."""

    make: Callable[[Explainer], torch.Tensor]  # masks, or heat maps if they are still to be shaped
    kind: str  # "ours", "rival", "control" or "oracle" (needs to know what was mixed)
    shape: Shape | None = None  # of the mask that a heat map becomes; found as our Choice was
    main: bool = False  # judged by everything; others by the first two conditions' scores alone

    def masks(self, explainer: Explainer) -> torch.Tensor:
        """Return the masks of the explainer's decisions, (clips, mel, frames), in [0, 1]."""
        found = self.make(explainer)
        return self.shape.mask(found) if self.shape else found


def rival(heat: Callable, main: bool = False, **shape) -> Method:
    """Return the method of a function of model, features and targets that returns heat maps."""
    return Method(
        lambda explainer: heat(explainer.model, explainer.features, explainer.targets),
        "rival", Shape(**shape), main,
    )  # fmt: skip


def control(make: Callable[[Explainer], torch.Tensor], main: bool = True) -> Method:
    """Return the method of a function of an Explainer that explains nothing."""
    return Method(make, "control", main=main)


def _signed_integrated_gradients(explainer: Explainer) -> torch.Tensor:
    """Give a rival the shape of our mask: the sign of its relevance, our frames, our floor."""
    attribute = heatmaps.signed_integrated_gradients
    signed = attribute(explainer.model, explainer.features, explainer.targets)
    return controls.signs(explainer, signed)


def _learned(name: str, explainer: Explainer) -> torch.Tensor:
    """Return the masks of a rival that was trained beside the network."""
    return explainer.learned[name].masks(explainer)


METHODS: dict[str, Method] = {
    OURS: Method(Explainer.components, "ours", main=True),
    "Grad-CAM": rival(heatmaps.gradcam, main=True, width=1, floor=Choice.floor),
    "saliency": rival(heatmaps.saliency, main=True),
    "SmoothGrad": rival(heatmaps.smoothgrad),
    "integrated gradients": rival(heatmaps.integrated_gradients),
    "Deep Feature Factorization": rival(heatmaps.feature_factorization, main=True, width=1),
    "DeepLIFT": rival(heatmaps.deep_lift),
    "occluded bands": rival(heatmaps.occluded_bands, width=1, floor=Choice.floor),
    "occluded frames": rival(heatmaps.occluded_frames, width=1, floor=Choice.floor),
    **{name: Method(partial(_learned, name), "rival", main=True) for name in LEARNED},
    SIGNED_IG: Method(_signed_integrated_gradients, "rival"),
    EQUALISER: control(controls.equaliser),
    "control: equaliser per bin": control(partial(controls.equaliser, form="per bin"), False),
    "control: equaliser, static": control(partial(controls.equaliser, form="static"), False),
    "control: H = 1": control(controls.no_layer),
    "control: H permuted": control(controls.permuted),
    UNTRAINED: control(controls.untrained),
    "control: random atoms": control(controls.random_atoms),
    "control: another clip's": control(controls.another_clips, main=False),
    "control: negative": control(controls.negative, main=False),
    "control: random mask": control(controls.random_mask),
    "control: constant": control(controls.constant),
    "oracle": Method(controls.ideal, "oracle", main=True),
}


def for_sounds(name: str, model: nn.Module, front_end: LogMel, fitted: Fitted) -> Callable:
    """Return a method as ``SoundExplainer.attribute`` takes it, for a network of the study.

    Those that were trained beside a network, or know more than the sound, are none of them.
    """

    def masks(waves: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        n_valid = torch.full((len(waves),), waves.shape[1], device=waves.device)
        inputs = Inputs("clean", np.arange(len(waves)), waves, n_valid)
        mask = METHODS[name].masks(Explainer(model, front_end, fitted, inputs, targets))
        return mask, mask

    masks.__name__ = name
    return masks


def names_of(kind: str) -> list[str]:
    """Return the names of all methods of a kind."""
    return [name for name, method in METHODS.items() if method.kind == kind]


def compared(explainer: Explainer) -> dict[str, Method]:
    """Return the methods to compare on some decisions.

    Ours is followed by its variants: one part of the relevance, single blocks.
    """
    choice, inputs = explainer.choice, explainer.inputs
    variants = {f"relevance of {kind}": {"relevance": kind} for kind in ("bands", "channels")}
    variants |= {f"block {block[-1]} alone": {"blocks": (block,)} for block in BLOCKS}
    found = {OURS: METHODS[OURS]}
    for name, changes in variants.items():
        found[name] = Method(methodcaller("components", replace(choice, **changes)), "ours")
    return {
        name: method
        for name, method in (found | METHODS).items()
        if (method.main or inputs.condition in CONDITIONS[:2])
        and (method.kind != "oracle" or inputs.wanted is not None)
        and (name != UNTRAINED or explainer.untrained)
        and (name not in LEARNED or name in explainer.learned)
    }


def cost(explainer: Explainer, names: Collection[str], repeats: int = 3) -> pd.Series:
    """Return how long each of the methods named takes to decide on clips and explain it, in ms.

    Alone and warmed up: none finds what another has computed. Controls and oracles are left out.
    """
    given = explainer.model, explainer.front_end, explainer.fitted, explainer.inputs
    found = {
        name: latency(lambda method=method: method.masks(Explainer(*given)), repeats).median_ms
        for name, method in compared(explainer).items()
        if name in names and method.kind in ("ours", "rival")
    }
    return pd.Series(found, dtype=float)
