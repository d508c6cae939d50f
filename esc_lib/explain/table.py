"""Tables of judged explanations: scores with intervals, separation, what tuning goes by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from esc_lib.evaluation.intervals import mean_interval, source_draws
from esc_lib.explain import scores

SCORES: dict[str, Callable[[pd.DataFrame], np.ndarray]] = {
    "AI": lambda t: scores.increase(t.p.to_numpy(), t.o.to_numpy()),
    "AD": lambda t: scores.drop(t.p.to_numpy(), t.o.to_numpy()),
    "AG": lambda t: scores.gain(t.p.to_numpy(), t.o.to_numpy()),
    "FF": lambda t: scores.faithfulness(t.p.to_numpy(), t.m.to_numpy()),
    "Fid-In": lambda t: t.same.to_numpy(float),
    "AD, softmax twice": lambda t: scores.drop(t.p_twice.to_numpy(), t.o_twice.to_numpy()),
    "energy": lambda t: t.energy.to_numpy(),
    "SPS": lambda t: t.sparseness.to_numpy(),
    "COMP": lambda t: t.complexity.to_numpy(),
}

FIVE = ("AI", "AD", "AG", "FF", "Fid-In")

# On ESC-50, inputs mixed with another clip, speech or white noise, another network: the table of
# SpeechBrain's recipe, whose AD takes the softmax twice.
PUBLISHED = {
    "L-MAC": {"AI": 61.62, "AD": 3.83, "AG": 33.48, "FF": 0.40, "Fid-In": 0.82},
    "L2I": {"AI": 6.75, "AD": 25.93, "AG": 1.25, "FF": 0.26, "Fid-In": 0.01},
}  # paissan2024lmac; parekh2022listen


def summary(judged: pd.DataFrame, n_draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Return the mean of every score by method, with 95 % intervals over source recordings.

    Parameters
    ----------
    judged : rows of one condition, as :func:`explain_fold` returns them, of one fold or several.

    Returns
    -------
    DataFrame, a row per method in their first order; columns (score, "mean" | "low" | "high"),
        and ("clips", "n").
    """
    rows = {}
    for method, table in judged.groupby("method", sort=False):
        draws = source_draws(table.source.to_numpy(), n_draws, seed)
        row = {("clips", "n"): len(table)}
        for name, score in SCORES.items():
            found = mean_interval(score(table), draws)
            row |= {(name, key): x for key, x in zip(("mean", "low", "high"), found, strict=True)}
        rows[method] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def criterion(judged: pd.DataFrame) -> float:
    """Return what methods are tuned by: AI, AG, FF and Fid-In as shares, less AD, in [-2, 4].

    The mean over the conditions in the table. No score alone: each can be had for nothing.
    """
    found = []
    for _, table in judged.groupby("condition"):
        mean = {name: float(SCORES[name](table).mean()) for name in ("AI", "AD", "AG", "FF")}
        share = (mean["AI"] + mean["AG"] - mean["AD"]) / 100
        found.append(share + mean["FF"] + table.same.mean())
    return float(np.mean(found))


def separation(judged: pd.DataFrame) -> pd.DataFrame:
    """Return by how many dB a method lifts the labelled sound out of a mixture, where the decision
    was right: mean improvement of SI-SDR by condition (columns) and method (rows).
    """
    right = judged[(judged.label == judged.predicted) & judged.si_sdr.notna()]
    lifted = right.assign(lift=right.si_sdr - right.si_sdr_input)
    return lifted.pivot_table(
        index="method", columns="condition", values="lift", aggfunc="mean", sort=False
    )


def ranking(
    judged: pd.DataFrame, ours: str, conditions: tuple[str, ...] = ("clean", "other clip")
) -> pd.DataFrame:
    """Return the methods by :func:`criterion`, best first, with what an explanation costs.

    Methods that were not run in all of `conditions` are left out.

    Parameters
    ----------
    judged : rows of several folds, conditions and methods, with the column fold.
    ours : str, the method that the others are compared with, clip for clip.
    conditions : names of conditions.

    Returns
    -------
    DataFrame, index method; criterion; that of `ours` on the clips this method has; clips; energy
        kept; and ms per clip, for variants of one method the time beyond what they share.
    """
    clip = ["fold", "condition", "row"]
    of_interest = judged[judged.condition.isin(conditions)]
    reference = of_interest[of_interest.method == ours]
    rows = {}
    for method, found in of_interest.groupby("method", sort=False):
        if found.condition.nunique() < len(conditions):
            continue
        rows[method] = {
            "criterion": criterion(found),
            f"{ours}, same clips": criterion(reference.merge(found[clip], on=clip)),
            "clips": len(found) // len(conditions),
            "energy": found.energy.mean(),
            "ms per clip": 1000 * found.seconds.mean(),
        }
    found = pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")
    return found.sort_values("criterion", ascending=False)
