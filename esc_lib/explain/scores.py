"""Scores of explanations: what the network makes of what a mask keeps, and of what it removes.

p, o, m: the probability of the explained class, which is the class predicted for the input, on
the input, on the masked-in sound and on the masked-out sound, arrays of shape (clips,).

References
----------
paissan2024lmac, section 4.1, for the set; chattopadhay2018gradcampp for AI and AD;
hurley2009comparing for the Gini index; leroux2019sdr for SI-SDR.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata

from esc_lib.evaluation.intervals import mean_interval, source_draws
from esc_lib.explain.conditions import CONDITIONS

ARROWS = {"higher": " ↑", "lower": " ↓", "neither": ""}


def drop(p: np.ndarray, o: np.ndarray) -> np.ndarray:
    """Return the relative loss of probability in percent; the mean is AD."""
    return 100 * np.maximum(0, p - o) / p


def sparseness(maps: torch.Tensor) -> torch.Tensor:
    """Return the Gini index of each map's absolute values, (clips,) of (clips, mel, frames).

    0 where all are equal, as they are in a map that is zero everywhere.
    """
    values = maps.abs().flatten(1).double().sort(dim=1).values
    n = values.shape[1]
    rank = torch.arange(1, n + 1, dtype=torch.float64, device=maps.device)
    total = values.sum(dim=1).clamp_min(1e-30)
    gini = ((2 * rank - n - 1) * values).sum(dim=1) / (n * total)
    return gini.float()


def complexity(maps: torch.Tensor) -> torch.Tensor:
    """Return the entropy of each map's absolute values in nats, shape (clips,).

    At most ln(mel * frames), which an even map has; the grid has to be named with the number.
    """
    values = maps.abs().flatten(1).double()
    share = values / values.sum(dim=1, keepdim=True).clamp_min(1e-30)
    return torch.special.entr(share).sum(dim=1).float()


def si_sdr(estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the scale-invariant signal-to-distortion ratio in dB, (clips,), of (clips, samples).

    Any gain of the estimate is free; silence has -inf.
    """
    estimate, target = estimate.double(), target.double()
    energy = target.square().sum(dim=1, keepdim=True).clamp_min(1e-30)
    wanted = (estimate * target).sum(dim=1, keepdim=True) / energy * target
    distortion = (estimate - wanted).square().sum(dim=1)
    return (10 * (wanted.square().sum(dim=1) / distortion.clamp_min(1e-30)).log10()).float()


def kept_energy(sounds: torch.Tensor, waveforms: torch.Tensor) -> torch.Tensor:
    """Return the energy of each sound over its clip's, shape (clips,); 0 for silence."""
    return sounds.square().sum(dim=1) / waveforms.square().sum(dim=1).clamp_min(1e-12)


def area(curve: np.ndarray) -> np.ndarray:
    """Return the mean height of curves at even steps, trapezoidal, (...,) of (..., steps)."""
    return (curve[..., 1:] + curve[..., :-1]).mean(axis=-1) / 2


def map_correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation between two maps of each clip, NaN where one is constant."""
    first, second = (maps.reshape(len(maps), -1) for maps in (first, second))
    varied = (np.ptp(first, axis=1) > 0) & (np.ptp(second, axis=1) > 0)
    found = np.full(len(first), np.nan)
    for clip in np.flatnonzero(varied):
        found[clip] = np.corrcoef(first[clip], second[clip])[0, 1]
    return found


def similarity(one: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    """Return the rank correlation of two sets of maps, clip by clip, (clips,); 0 if one is flat.

    References
    ----------
    adebayo2018sanity (Spearman's correlation of explanations before and after randomisation).
    """
    ranks = (rankdata(maps.flatten(1).cpu().numpy(), axis=1) for maps in (one, other))
    return np.nan_to_num(map_correlations(*ranks))


# ---------------------------------------------------------------------------- how they are read


@dataclass(frozen=True)
class Score:
    """A number about each explanation, and how to read it."""

    name: str
    of: Callable[[pd.DataFrame], np.ndarray]  # a value per clip of what :func:`judge.judge` returns
    better: str  # "higher", "lower" or "neither"
    range: tuple[float, float]  # the lowest and the highest value there can be
    label: str  # in words, for an axis

    def __call__(self, judged: pd.DataFrame) -> np.ndarray:
        """Return the value of each clip, shape (clips,)."""
        return np.asarray(self.of(judged))

    @property
    def heading(self) -> str:
        """Its name with an arrow to the better side."""
        return self.name + ARROWS[self.better]

    def best(self, values: pd.Series) -> Hashable:
        """Return whose value is the best one."""
        return values.idxmin() if self.better == "lower" else values.idxmax()


FIVE = (
    Score("AI", lambda t: 100.0 * (t.o > t.p), "higher", (0, 100), "clips that gain (%)"),
    Score("AD", lambda t: drop(t.p, t.o), "lower", (0, 100), "drop (%)"),
    Score(
        "AG", lambda t: 100 * np.maximum(0, t.o - t.p) / np.maximum(1 - t.p, 1e-12), "higher",
        (0, 100), "gain (%)",
    ),  # the share of the doubt, 1 - p, that goes
    Score("FF", lambda t: t.p - t.m, "higher", (-1, 1), "probability removed"),
    Score("Fid-In", lambda t: t.same.astype(float), "higher", (0, 1), "decisions kept"),
)  # fmt: skip
ENERGY = Score("energy", lambda t: t.energy, "neither", (0, np.inf), "energy kept")
SCORES = {
    score.name: score
    for score in (
        *FIVE,
        # A widely used recipe takes the softmax of probabilities. Such a drop cannot exceed
        # 1 - 1 / e, 63.2 %, which it has where certainty turns into certainty of another class;
        # with 50 classes, and all others alike, 62.7 %. Here beside the textbook's only.
        Score(
            "AD, softmax twice", lambda t: drop(t.p_twice, t.o_twice), "lower",
            (0, 100 * (1 - np.exp(-1))), "drop, softmax taken twice (%)",
        ),
        ENERGY,
        Score("SPS", lambda t: t.sparseness, "higher", (0, 1), "Gini index of the mask"),
        Score("COMP", lambda t: t.complexity, "lower", (0, np.inf), "entropy of the mask (nats)"),
    )
}  # fmt: skip
# these two read a curve, shape (clips, steps)
INSERTION = Score("insertion", area, "higher", (0, 1), "probability of the class")
DELETION = Score("deletion", area, "lower", (0, 1), "probability of the class")

# On ESC-50, inputs mixed with another clip, speech or white noise, another network: the table of
# SpeechBrain's recipe, whose AD takes the softmax twice.
PUBLISHED = {
    "L-MAC": {"AI": 61.62, "AD": 3.83, "AG": 33.48, "FF": 0.40, "Fid-In": 0.82},
    "L2I": {"AI": 6.75, "AD": 25.93, "AG": 1.25, "FF": 0.26, "Fid-In": 0.01},
}  # paissan2024lmac; parekh2022listen


def shown(table: pd.DataFrame):
    """Return a table with a column per score as a page shows it, with arrows to the better side."""
    headings = {name: score.heading for name, score in SCORES.items()}
    return table.rename(columns=headings).style.format("{:.2f}", na_rep="")


# -------------------------------------------------------------------------------------- tables


def summary(judged: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of every score by method, with 95 % intervals over source recordings.

    `judged` is of one condition, and any folds. Columns: (score, "mean" | "low" | "high"), and
    ("clips", "n"); methods in their first order.
    """
    rows = {}
    for method, table in judged.groupby("method", sort=False):
        draws = source_draws(table.source.to_numpy(), n_draws=1000)
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
        ai, ad, ag, ff, fid_in = (score(table).mean() for score in FIVE)
        found.append((ai + ag - ad) / 100 + ff + fid_in)
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


def ranking(judged: pd.DataFrame, ours: str, ms: pd.Series) -> pd.DataFrame:
    """Return the methods by :func:`criterion`, best first, with what one explanation costs.

    It goes by clean clips and those mixed with another; methods not judged in both are left out.
    Beside it that of `ours` on the clips this method has, clips, energy kept, and `ms`, where it is
    known.
    """
    clip, conditions = ["fold", "condition", "row"], CONDITIONS[:2]
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
            "ms per clip": ms.get(method, np.nan),
        }
    found = pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")
    return found.sort_values("criterion", ascending=False)
