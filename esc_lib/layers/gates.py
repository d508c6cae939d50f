"""What the SE gates do, and what the trained network loses without them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from esc_lib.evaluation.decisions import variance_between_classes
from esc_lib.evaluation.intervals import mean_interval
from esc_lib.models.se_cnn import GATES, SECNN

CLOSED_BELOW = 0.05  # a gate below this lets so little through that the channel counts as closed


def describe(gates: dict[str, np.ndarray], labels: np.ndarray) -> pd.DataFrame:
    """Return what each gate does, from its values over clips.

    Parameters
    ----------
    gates : gate name to its values, shape (clips, channels), as
        ``hooks.se_gates`` returns them.
    labels : int array, shape (clips,).

    Returns
    -------
    DataFrame, a row per gate: mean and sd over clips and channels; in percent the values that are
        closed (below `CLOSED_BELOW`), the channels that are so for every clip, the values at
        exactly one half (what a gate gives whose hidden units are all silent), and the variance
        between classes.
    """
    return pd.DataFrame(
        {
            gate: {
                "mean": values.mean(),
                "sd": values.std(),
                "closed (%)": 100 * (values < CLOSED_BELOW).mean(),
                "closed for every clip (%)": 100 * (values.max(axis=0) < CLOSED_BELOW).mean(),
                "at exactly 0.5 (%)": 100 * (values == 0.5).mean(),
                "variance between classes (%)": 100 * variance_between_classes(values, labels),
            }
            for gate, values in gates.items()
        }
    ).T


def variants(means: Mapping[str, np.ndarray]) -> dict[str, dict[str, float | np.ndarray]]:
    """Return what each gate, and all of them, are forced to, for :func:`activations.forced_logits`.

    Parameters
    ----------
    means : gate name to its mean value per channel over training clips, shape (channels,).

    Returns
    -------
    dict, "as trained" first, then "se1, open" and so on: open is 1 in every channel, half is 0.5,
        mean is `means`, which keeps a gate's weights and drops what it makes of the single clip.
    """
    forced: dict[str, dict] = {"as trained": {}}
    for name, gates in [*((gate, (gate,)) for gate in GATES), ("all", GATES)]:
        forced[f"{name}, mean"] = {gate: means[gate] for gate in gates}
        forced[f"{name}, half"] = dict.fromkeys(gates, 0.5)
        forced[f"{name}, open"] = dict.fromkeys(gates, 1.0)
    return forced


def compare(
    logits: Mapping[str, torch.Tensor], labels: np.ndarray, draws: np.ndarray
) -> pd.DataFrame:
    """Compare decisions on the same clips with those of the first entry.

    Parameters
    ----------
    logits : name to tensor, shape (clips, classes).
    labels : int array, shape (clips,).
    draws : array, shape (draws, clips), as ``intervals.source_draws`` returns it.

    Returns
    -------
    DataFrame, a row per entry: accuracy (%), its difference to the first entry (points, 95 %
        interval low to high), changed (clips with another decision), nll (negative log-likelihood
        of the true class, nats per clip) and its difference with nll_low and nll_high.
    """
    rows, first = {}, {}
    for name, values in logits.items():
        decided = values.argmax(dim=1).numpy()
        right = 100.0 * (decided == labels)
        nll = cross_entropy(values, torch.from_numpy(labels), reduction="none").numpy()
        first = first or {"decided": decided, "right": right, "nll": nll}
        difference, low, high = mean_interval(right - first["right"], draws)
        nll_difference, nll_low, nll_high = mean_interval(nll - first["nll"], draws)
        rows[name] = {
            "accuracy": right.mean(),
            "difference": difference,
            "low": low,
            "high": high,
            "changed": int((decided != first["decided"]).sum()),
            "nll": nll.mean(),
            "nll_difference": nll_difference,
            "nll_low": nll_low,
            "nll_high": nll_high,
        }
    return pd.DataFrame.from_dict(rows, orient="index").astype({"changed": int})


def share_of_parameters(model: SECNN) -> float:
    """Return the share of a network's parameters that its gates hold, in percent."""
    own = sum(p.numel() for gate in GATES for p in getattr(model, gate).parameters())
    return 100 * own / sum(p.numel() for p in model.parameters())


def verdict(row: pd.Series) -> str:
    """Say in words what a row of :func:`compare` shows: a loss counts where its interval does."""
    if row.high < 0:
        return "decisions get worse"
    if row.nll_low > 0:
        return "probabilities get worse, decisions not measurably"
    return "nothing gets measurably worse"
