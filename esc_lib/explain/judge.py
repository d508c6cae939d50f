"""Explanations judged by the sound a mask makes: what is heard is what the network is given."""

import numpy as np
import pandas as pd
import torch

from esc_lib.explain import scores
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.masks import cut_out


def judge(explainer: Explainer, mask: torch.Tensor) -> pd.DataFrame:
    """Return what the network makes of what the masks keep and remove, a row per clip.

    Parameters
    ----------
    mask : tensor, shape (clips, mel, frames), in [0, 1].

    Returns
    -------
    DataFrame with p, o, m; p_twice and o_twice for the recipe that takes the softmax twice; same,
        whether the decision stays; energy, kept of the input's; sparseness, complexity; si_sdr in
        dB of the masked-in sound against the labelled one, where it is known.
    """
    inputs, given, targets = explainer.inputs, explainer.given, explainer.targets
    kept = cut_out(explainer.front_end, inputs.waveforms, mask)
    removed = cut_out(explainer.front_end, inputs.waveforms, 1 - mask)
    inside, outside = explainer.probabilities(kept), explainer.probabilities(removed)

    def of_target(values: torch.Tensor) -> np.ndarray:
        return values.gather(1, targets[:, None])[:, 0].double().cpu().numpy()

    table = pd.DataFrame(
        {
            "p": of_target(given),
            "o": of_target(inside),
            "m": of_target(outside),
            "p_twice": of_target(given.softmax(dim=1)),
            "o_twice": of_target(inside.softmax(dim=1)),
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
