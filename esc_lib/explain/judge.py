"""Explanations judged by the sound a mask makes: what is heard is what the network is given."""

import numpy as np
import pandas as pd
import torch

from esc_lib.explain import scores
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.masks import cut_out
from esc_lib.explain.relevance import of_target


def judge(explainer: Explainer, mask: torch.Tensor) -> pd.DataFrame:
    """Return what the network makes of what masks, (clips, mel, frames), keep and remove, by clip.

    Columns: p, o, m; p_twice and o_twice for the recipe that takes the softmax twice; same, whether
    the decision stays; energy, kept of the input's; sparseness, complexity; si_sdr in dB of the
    masked-in sound, and of the input, against the labelled one, where it is known.
    """
    inputs, given, targets = explainer.inputs, explainer.given, explainer.targets
    kept = cut_out(explainer.front_end, inputs.waveforms, mask)
    removed = cut_out(explainer.front_end, inputs.waveforms, 1 - mask)
    inside, outside = explainer.probabilities(kept), explainer.probabilities(removed)

    def chosen(values: torch.Tensor) -> np.ndarray:
        return of_target(values, targets).double().cpu().numpy()

    table = pd.DataFrame(
        {
            "p": chosen(given),
            "o": chosen(inside),
            "m": chosen(outside),
            "p_twice": chosen(given.softmax(dim=1)),
            "o_twice": chosen(inside.softmax(dim=1)),
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
