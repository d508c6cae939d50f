"""Scores of explanations: what the network makes of what a mask keeps, and of what it removes.

p, o, m: the probability of the explained class, which is the class predicted for the input, on
the input, on the masked-in sound and on the masked-out sound, arrays of shape (clips,). Log-odds
are ln(p / (1 - p)), see :mod:`second_judges`.

References
----------
paissan2024lmac, section 4.1, for the set; chattopadhay2018gradcampp for AI and AD;
hurley2009comparing for the Gini index; leroux2019sdr for SI-SDR.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.special import logit

from esc_lib.evaluation.intervals import mean_interval, source_draws
from esc_lib.explain.second_judges import CLIP

ARROWS = {"higher": " ↑", "lower": " ↓", "neither": ""}


def gain(judged: pd.DataFrame) -> np.ndarray:
    """Return by how much the log-odds of the class rise from the clip to what is kept."""
    p, o = (judged[name].clip(CLIP, 1 - CLIP) for name in ("p", "o"))
    return logit(o) - logit(p)


def average_precision(
    maps: torch.Tensor, wanted: torch.Tensor, heard: torch.Tensor
) -> torch.Tensor:
    """Return the average precision of maps' values against wanted points, among those heard.

    All are (clips, mel, frames), the latter two bool; NaN where no point is wanted.
    """
    from sklearn.metrics import average_precision_score  # takes a while to import

    found = []
    for one, right, inside in zip(maps.cpu(), wanted.cpu(), heard.cpu(), strict=True):
        truth = right[inside].numpy()
        found.append(
            average_precision_score(truth, one[inside].numpy()) if truth.any() else np.nan
        )
    return torch.tensor(found, device=maps.device)


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
    from scipy.stats import rankdata  # takes a while to import

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
CRITERION = Score(
    "criterion",
    lambda t: sum(score(t) / score.range[1] for score in (*FIVE[:1], *FIVE[2:])) - FIVE[1](t) / 100,
    "higher", (-2, 4), "criterion",
)  # what methods are tuned by; no score alone: each can be had for nothing
ENERGY = Score("energy", lambda t: t.energy, "neither", (0, np.inf), "energy kept")
ANY = (-np.inf, np.inf)
GAIN = Score("gain", lambda t: gain(t), "higher", ANY, "rise of the log-odds")
SCORES = {
    score.name: score
    for score in (
        *FIVE,
        CRITERION,
        GAIN,
        Score(
            "specificity", lambda t: gain(t) - t.gain_wrong, "higher", ANY,
            "rise of the log-odds above that of a wrong class",
        ),
        Score("turned", lambda t: 100.0 * t.turned, "lower", (0, 100), "decided wrongly (%)"),
        Score("lift", lambda t: t.si_sdr - t.si_sdr_input, "higher", ANY, "SI-SDR (dB)"),
        Score("precision", lambda t: t.precision, "higher", (0, 1), "average precision"),
        Score("pointed", lambda t: 100.0 * t.pointed, "higher", (0, 100), "maxima on it (%)"),
        Score("budget", lambda t: 100.0 * t.stays, "higher", (0, 100), "decisions kept (%)"),
        Score("kept", lambda t: t.kept, "higher", ANY, "log-odds, parts of the energy kept"),
        Score("lost", lambda t: t.lost, "lower", ANY, "log-odds, parts of the energy removed"),
        ENERGY,
        Score("SPS", lambda t: t.sparseness, "higher", (0, 1), "Gini index of the mask"),
        Score("COMP", lambda t: t.complexity, "lower", (0, np.inf), "entropy of the mask (nats)"),
    )
}  # fmt: skip


def of_judge(name: str) -> Score:
    """Return the score that a second judge gives."""
    label = f"rise of the log-odds, {name}"
    return Score(f"gain {name}", lambda t: t[f"gain {name}"], "higher", ANY, label)


def right_by(name: str) -> Score:
    """Return whether a second judge, of what is kept, is right at the label."""
    label = f"right, {name} (%)"
    own = f"class {name}"
    return Score(f"right {name}", lambda t: 100.0 * (t[own] == t.label), "higher", (0, 100), label)


def judges_in(judged: pd.DataFrame) -> list[str]:
    """Return the names of the second judges that judged."""
    return [name.removeprefix("class ") for name in judged if name.startswith("class ")]


def shown(table: pd.DataFrame):
    """Return a table with a column per score as a page shows it, with arrows to the better side."""
    headings = {name: score.heading for name, score in SCORES.items()}
    return table.rename(columns=headings).style.format("{:.2f}", na_rep="")


# -------------------------------------------------------------------------------------- tables


def summary(judged: pd.DataFrame, shown: Sequence[Score]) -> pd.DataFrame:
    """Return the mean of scores by method, with 95 % intervals over source recordings.

    Clips whose score is not known are left out. Columns: (score, "mean" | "low" | "high" | "n");
    methods in their first order.
    """
    values = {score.name: score(judged) for score in shown}
    return _table(judged[["method", "source"]].assign(**values), list(values))


def against(judged: pd.DataFrame, reference: str, shown: Sequence[Score]) -> pd.DataFrame:
    """Return by how much methods differ from one of them on the same clips, as :func:`summary`."""
    clip = ["network", "fold", "condition", "row"]
    values = {score.name: score(judged) for score in shown}
    table = judged[[*clip, "method", "source"]].assign(**values)
    known = table[table.method == reference].drop(columns=["method", "source"])
    both = table[table.method != reference].merge(known, on=clip, suffixes=("", " there"))
    for name in values:
        both[name] -= both.pop(f"{name} there")
    return _table(both, list(values))


def _table(values: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    rows, keys = {}, ("mean", "low", "high", "n")
    for method, table in values.groupby("method", sort=False):
        rows[method] = {}
        for name in names:
            known = table[table[name].notna()]
            found = (np.nan,) * 3
            if len(known):
                draws = source_draws(known.source.to_numpy(), n_draws=1000)
                found = mean_interval(known[name].to_numpy(float), draws)
            row = zip(keys, (*found, len(known)), strict=True)
            rows[method] |= {(name, key): x for key, x in row}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")
