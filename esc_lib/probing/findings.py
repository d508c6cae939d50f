"""What was found, in computed sentences: each names its controls, and says what it beats."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from esc_lib.probing import scores
from esc_lib.probing.bases import CHANNELS

RANDOM = "random convolutions"


@dataclass(frozen=True)
class Claim:
    """A number of the trained network's layer, and what it is held against."""

    says: str  # what it is about, before the value
    measure: str
    what: str
    # control in words to (what, network, version) of its score
    controls: Mapping[str, tuple[str, str, str]]


def _same(what: str, versions: Mapping[str, str]) -> dict[str, tuple[str, str, str]]:
    """Return controls within the network, words to version, and that of random convolutions."""
    own = {words: (what, "trained", version) for words, version in versions.items()}
    return own | {RANDOM: (what, "random", "own")}


CLAIMS = {
    "meaning": Claim(
        "What an atom claims was taken out of the sound, and its channel fell further than a share "
        "of the other channels of", "meaning", "optimum",
        _same("optimum", {"columns dealt among channels": "dealt"}),
    ),
    "effect": Claim(
        "Channels were silenced one by one; with what that did, gradient x activation has a rank "
        "correlation of", "effect", CHANNELS,
        _same(CHANNELS, {"activation alone": "activation"}),
    ),
    "erasing": Claim(
        "Channels were silenced until half of a class was lost; that class was lost alone (1) or "
        "with all others (0) by", "erasing", CHANNELS,
        _same(CHANNELS, {"a random order": "random", "order by activation": "by activation"}),
    ),
    "spectrum": Claim(
        "Of the spectrum's shape, level taken out, the channels tell a share of", "spectrum",
        CHANNELS, _same(CHANNELS, {}),
    ),
    "sparse_spectrum": Claim(
        "As many sparse codes as channels tell", "spectrum", "sparse 1x",
        {"the channels": (CHANNELS, "trained", "own"),
         "random directions": ("random 1x", "trained", "own"),
         RANDOM: ("sparse 1x", "random", "own")},
    ),
    "wide_spectrum": Claim(
        "Four times as many tell", "spectrum", "sparse 4x",
        {"the channels": (CHANNELS, "trained", "own"),
         "random directions": ("random 4x", "trained", "own"),
         RANDOM: ("sparse 4x", "random", "own")},
    ),
    "sparse_meaning": Claim(
        "An atom over sparse codes means its code by", "meaning", "sparse 1x",
        {"atoms over channels": ("optimum", "trained", "own")}
        | _same("sparse 1x", {"columns dealt among codes": "dealt"}),
    ),
}  # fmt: skip


def compared(by_clip: pd.DataFrame, claims: Mapping[str, Claim] = CLAIMS) -> pd.DataFrame:
    """Return ``scores.compare`` of every claim and control, with the verdict in words.

    What was not measured is left out.
    """
    rows, known = {}, set(by_clip[scores.KEYS].itertuples(index=False, name=None))
    for key, claim in claims.items():
        own = claim.measure, claim.what, "trained", "own"
        for words, control in claim.controls.items():
            if {own, other := (claim.measure, *control)} <= known:
                found = scores.compare(by_clip, own, other)
                rows[key, words] = found.to_dict() | {"verdict": scores.verdict(found)}
    table = pd.DataFrame.from_dict(rows, "index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["claim", "control"])
    return table


def everything(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return all comparisons of some networks' tables: of :data:`CLAIMS`, and of stability."""
    table = compared(scores.by_clip(tables))
    if "stability" not in tables or tables["stability"].empty:
        return table
    return with_stability(table, scores.stable(tables["stability"]))


def unfit(examined: pd.DataFrame) -> list[str]:
    """Return the claims whose measure did not see the glass box, of ``examination.examine``."""
    failed = set(examined.index[[used is False for used in examined.used]])
    return [key for key, claim in CLAIMS.items() if (claim.measure, claim.what) in failed]


def with_stability(table: pd.DataFrame, stable: pd.DataFrame) -> pd.DataFrame:
    """Return the comparisons with those of units found again by another seed, a row per basis."""
    found = stable.assign(verdict=[scores.verdict(row) for _, row in stable.iterrows()])
    found.index = pd.MultiIndex.from_tuples(
        [(f"stability, {basis}", "untrained networks") for basis in found.index],
        names=table.index.names,
    )
    return pd.concat([table, found[[name for name in table if name in found]]])


def sentence(claim: str, table: pd.DataFrame, used: bool = True) -> str:
    """Say what a claim came to, from the rows of :func:`compared`.

    What the glass box showed unfit is said to be so, and what was not measured.
    """
    if claim not in table.index.get_level_values("claim"):
        return f"This build does not measure it ({claim.replace('_', ' ')})."
    rows = table.loc[claim]
    if claim in CLAIMS:
        says = CLAIMS[claim].says
    else:
        basis = claim.removeprefix("stability, ")
        says = f"Of the units of two seeds ({basis}), level taken out, those found again are"
    against = [
        f"{row.verdict} {words} ({row.control:.2f}; difference {row.difference:.2f}, "
        f"{row.low:.2f} to {row.high:.2f})"
        for words, row in rows.iterrows()
    ]
    listed = " and ".join([", ".join(against[:-1]), against[-1]] if len(against) > 1 else against)
    unfit = "" if used else " The glass box shows that this measure cannot tell: it is not used."
    return f"{says} {rows.value.iloc[0]:.2f}. This {listed}.{unfit}"
