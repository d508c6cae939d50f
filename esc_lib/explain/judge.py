"""Explanations judged by the sound a mask makes: what is heard is what the network is given."""

from dataclasses import replace

import pandas as pd
import torch

from esc_lib.explain import scores
from esc_lib.explain.conditions import BATCH
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.masks import cut_out
from esc_lib.explain.relevance import of_target


def judge(explainer: Explainer, mask: torch.Tensor) -> pd.DataFrame:
    """Return what the network makes of what masks, (clips, mel, frames), keep and remove, by clip.

    Columns: p, o, m; p_twice and o_twice for the recipe that takes the softmax twice; same, whether
    the decision stays; energy, kept of the input's; sparseness, complexity; si_sdr in dB of the
    masked-in sound, and of the input, against the labelled one, where it is known.
    """
    given, targets, found = explainer.given, explainer.targets, []
    for places in torch.arange(len(mask)).split(BATCH):
        part = replace(explainer, inputs=explainer.inputs.only(places), classes=targets[places])
        found.append(_judge(part, given[places], mask[places]))
    return pd.concat(found, ignore_index=True)


def _judge(explainer: Explainer, given: torch.Tensor, mask: torch.Tensor) -> pd.DataFrame:
    """Judge as many clips as sounds are made of at a time."""
    inputs, targets = explainer.inputs, explainer.targets
    kept = cut_out(explainer.front_end, inputs.waveforms, mask)
    removed = cut_out(explainer.front_end, inputs.waveforms, 1 - mask)
    inside, outside = explainer.probabilities(kept), explainer.probabilities(removed)

    found = {
        "p": of_target(given, targets).double(),
        "o": of_target(inside, targets).double(),
        "m": of_target(outside, targets).double(),
        "p_twice": of_target(given.softmax(dim=1), targets).double(),
        "o_twice": of_target(inside.softmax(dim=1), targets).double(),
        "same": inside.argmax(dim=1) == targets,
        "energy": scores.kept_energy(kept, inputs.waveforms),
        "sparseness": scores.sparseness(mask),
        "complexity": scores.complexity(mask),
    }
    if inputs.wanted is not None:
        found["si_sdr"] = scores.si_sdr(kept, inputs.wanted)
        found["si_sdr_input"] = scores.si_sdr(inputs.waveforms, inputs.wanted)
    return pd.DataFrame({name: values.cpu().numpy() for name, values in found.items()})
