"""Every measure put to the glass box first: what cannot see what is known there is not used."""

from dataclasses import replace

import pandas as pd
import torch

from esc_lib.config import Dictionaries, Network, Probing, Profile
from esc_lib.data.clips import Data
from esc_lib.probing import scores
from esc_lib.probing.bases import CHANNELS, names_of
from esc_lib.probing.glass_box import CHANNELS as N_CHANNELS
from esc_lib.probing.glass_box import LevelFrontEnd, clips, glass_box
from esc_lib.probing.measure import UNTRAINED, every_measure, stability
from esc_lib.probing.subject import Subject, some_of
from esc_lib.probing.untrained import random_network
from esc_lib.sound.log_mel import LogMel

REACHED = 0.9  # a measure's least value there; its null may be as far from nothing as that from 1
LAYER, BOX = "conv_block4", "glass box"
SETTINGS = Probing(clips=6, units=8, steps=200, widths=(1,))
DICTIONARIES = Dictionaries(epochs=100)
NULL = {"erasing": "random"}  # the version of a score that is its null; of the others "dealt"


def examine(profile: Profile) -> pd.DataFrame:
    """Return what every measure finds in the glass box, a row per measure and thing.

    Columns: value; null, the value where channels are dealt (erasing: where they go at random;
    stability: of untrained networks); used, whether both are as they should be. Only channels are
    known in the box: rows of other bases, which say how much of it they pass on, have None there.
    """
    front_end, data = LevelFrontEnd(profile.front_end), clips(profile.front_end)
    box = _box(data, front_end)
    by_clip = scores.by_clip(every_measure({BOX: box})).groupby(scores.KEYS, sort=False)
    found = by_clip.part.sum() / by_clip.whole.sum()
    rows = {
        (measure, what): (value, found[measure, what, BOX, NULL.get(measure, "dealt")])
        for (measure, what, _, version), value in found.items()
        if version == "own"
    }
    freely = box.meaning(CHANNELS, area=1.0).groupby("dictionary")[["own", "dealt"]].mean()
    rows |= {("meaning", f"{name}, no limit of area"): tuple(row) for name, *row in
             freely.itertuples()}  # fmt: skip
    other = _box(data, front_end, torch.randperm(N_CHANNELS, generator=torch.manual_seed(0)))
    share = stability(box, other, _untrained(data, profile), [CHANNELS]).iloc[0]
    rows["stability", CHANNELS] = share.trained, share.untrained
    table = pd.DataFrame.from_dict(rows, "index", columns=["value", "null"])
    table.index = pd.MultiIndex.from_tuples(rows, names=["measure", "what"])
    unknown = {*names_of(SETTINGS)[1:], ("layer", CHANNELS)}
    table["used"] = [
        None if what in unknown or (measure, what) in unknown
        else bool(value >= REACHED and null <= _most(measure))
        for (measure, what), (value, null) in rows.items()
    ]  # fmt: skip
    return table.sort_index(level=0, sort_remaining=False)


def _most(measure: str) -> float:
    """Return how high a measure's null may be."""
    nothing = scores.MEASURES[measure].nothing
    return 1 - REACHED + nothing if nothing is not None else REACHED


def _box(data: Data, front_end: LevelFrontEnd, order: torch.Tensor | None = None) -> Subject:
    box, own = glass_box(data, front_end, order)
    few = some_of(own, SETTINGS, seed=0)
    return Subject(box, front_end, own, LAYER, SETTINGS, DICTIONARIES, 0, few)


def _untrained(data: Data, profile: Profile) -> list[Subject]:
    """Return networks without training that have as many channels."""
    network = Network((8, 8, 16, N_CHANNELS, 8), hidden=8)
    small, front_end = replace(profile, network=network), LogMel(profile.front_end)
    return [
        Subject(random_network(data, small, seed, head=False), front_end, data, LAYER, SETTINGS,
                DICTIONARIES, seed, data.split.test)
        for seed in range(UNTRAINED)
    ]  # fmt: skip
