"""Tables of many clips and networks to numbers with intervals, and to what they beat.

A score is kept by clip, as a part and a whole: their sums over clips make its value, so that a mean
(whole 1) and a share of variance are drawn alike. A clip that several networks were measured on
counts once, with all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from esc_lib.evaluation.intervals import source_draws
from esc_lib.probing.bases import CHANNELS


@dataclass(frozen=True)
class Measure:
    """What a measure asks, on which scale: 1 is all there is to find."""

    question: str
    label: str
    nothing: float | None  # its value where nothing is to be found; None: that of its null


MEASURES = {
    "meaning": Measure("Does an atom mean its unit?", "percentile of the unit's fall", 0.5),
    "effect": Measure(
        "Does gradient x activation say what a unit does?", "rank correlation with the change", 0.0
    ),
    "erasing": Measure(
        "Is a class lost alone?", "1 - fall of the others / fall of the class (recall)", None
    ),
    "spectrum": Measure("Does the layer hold the spectrum's shape?", "variance explained", 0.0),
    "layer": Measure("Do a few numbers tell the layer?", "variance explained", 0.0),
    "stability": Measure(
        "Does another seed find the same units?", "share of matched units above chance", 0.0
    ),
}
KEYS = ["measure", "what", "network", "version"]


def by_clip(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return all scores but stability, a row per measure, thing, network, version and clip.

    Thing (what) is a basis, or a dictionary over the channels. Version is "own", or a control
    within the network: "dealt"; "activation"; orders for erasing, of which "own" is that by effect.
    """
    held, meanings = tables["held"], tables["meanings"]
    alone = meanings.basis == CHANNELS
    found = [
        _long(meanings.assign(
            measure="meaning", what=meanings.dictionary.where(alone, meanings.basis)
        ), ["own", "dealt"]),
        _long(tables["effects"].assign(measure="effect", what=tables["effects"].basis),
              ["own", "dealt", "activation"]),
        *(
            held.assign(what=held.basis, version=version, part=held[whole] - held[rest],
                        whole=held[whole])
            for version, rest, whole in (("own", "residual", "total"),
                                         ("dealt", "dealt", "dealt_total"))
        ),
        _selectivity(tables["classes"], tables["clips"]),
    ]  # fmt: skip
    kept = [*KEYS, "filename", "source", "part", "whole"]
    table = pd.concat([each[kept] for each in found]).dropna()
    return table.groupby(kept[:-2], as_index=False, sort=False)[["part", "whole"]].sum()


def _long(table: pd.DataFrame, versions: list[str]) -> pd.DataFrame:
    same = [name for name in table if name not in versions]
    return table.melt(same, versions, "version", "part").assign(whole=1.0)


def _selectivity(classes: pd.DataFrame, clips: pd.DataFrame) -> pd.DataFrame:
    """Return by clip: 1 if it stays recognised while others' classes are lost, 0 if it goes so too.
    """
    lost = classes.dropna(subset="needed")
    keys = ["network", "basis", "order"]
    own = (lost.before - lost.after).groupby([lost[key] for key in keys]).mean().rename("own")
    fall = (clips.before.astype(float) - clips.after).rename("fall")
    table = clips.assign(fall=fall).join(own, on=keys)
    version = table.order.replace("by effect", "own")
    return table.assign(
        measure="erasing", what=table.basis, version=version, part=1 - table.fall / table.own,
        whole=1.0,
    )  # fmt: skip


def values(scores: pd.DataFrame) -> pd.DataFrame:
    """Return each score's value, with its 95 % interval over source recordings, and clips."""
    rows = {key: _interval(own.part, own.whole, own.source) for key, own in scores.groupby(
        KEYS, sort=False)}  # fmt: skip
    table = pd.DataFrame.from_dict(rows, "index", columns=["value", "low", "high", "clips"])
    table.index = pd.MultiIndex.from_tuples(rows, names=KEYS)
    return table


def compare(scores: pd.DataFrame, one: tuple, other: tuple) -> pd.Series:
    """Return how one score differs from another on the clips that both have.

    Both are (measure, what, network, version). The series has value and control; their difference
    with its 95 % interval, low and high, over source recordings; and clips.
    """
    table = scores.set_index(KEYS).sort_index()
    clips = ["filename", "source"]
    both = table.loc[[one]].merge(table.loc[[other]], on=clips, suffixes=("_one", "_other"))
    draws = source_draws(both.source.to_numpy())
    drawn = [
        (draws @ both[f"part_{name}"]) / (draws @ both[f"whole_{name}"])
        for name in ("one", "other")
    ]
    own, control = (
        both[f"part_{name}"].sum() / both[f"whole_{name}"].sum() for name in ("one", "other")
    )
    low, high = np.percentile(drawn[0] - drawn[1], [2.5, 97.5])
    return pd.Series({
        "value": own, "control": control, "difference": own - control, "low": low, "high": high,
        "clips": len(both),
    })  # fmt: skip


def stable(stability: pd.DataFrame) -> pd.DataFrame:
    """Return the share of units found again, a row per basis, in the columns of :func:`compare`.

    The control is the share of untrained networks' units; the interval that of the difference, the
    mean over pairs of networks in each draw of recordings.
    """
    mean = stability.groupby(["basis", "draw"], sort=False).mean(numeric_only=True)
    rows = {}
    for basis, own in mean.groupby("basis", sort=False):
        gap = own.trained - own.untrained
        low, high = np.percentile(gap.iloc[1:], [2.5, 97.5])
        first = own.iloc[0]
        rows[basis] = {
            "value": first.trained, "control": first.untrained, "difference": gap.iloc[0],
            "low": low, "high": high,
            **first[["bar", "correlation", "by_chance", "units"]],
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, "index")


def needed(classes: pd.DataFrame) -> pd.DataFrame:
    """Return the share of units that must go before half a class is lost, in percent.

    A row per network, basis and order, with its 95 % interval over classes, those that are lost.
    """
    classes = classes.dropna(subset="needed")
    share = classes.assign(part=100 * classes.needed / classes.units, whole=1.0)
    keys = ["network", "basis", "order"]
    mean = share.groupby([*keys, "class"], as_index=False, sort=False)[["part", "whole"]].mean()
    rows = {key: _interval(own.part, own.whole, own["class"]) for key, own in mean.groupby(
        keys, sort=False)}  # fmt: skip
    table = pd.DataFrame.from_dict(rows, "index", columns=["value", "low", "high", "classes"])
    table.index = pd.MultiIndex.from_tuples(rows, names=keys)
    return table


def _interval(part: pd.Series, whole: pd.Series, groups: pd.Series) -> tuple:
    draws = source_draws(groups.to_numpy())
    drawn = (draws @ part.to_numpy()) / (draws @ whole.to_numpy())
    return part.sum() / whole.sum(), *np.percentile(drawn, [2.5, 97.5]), len(part)


def verdict(found: pd.Series) -> str:
    """Say in words whether what was compared beats its control: where the interval lies."""
    if found.low > 0:
        return "beats"
    return "is worse than" if found.high < 0 else "does not beat"
