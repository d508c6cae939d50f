"""The hidden layer taken away: what else can stand in the place of H, and what it knows of a clip.

An error says something of a layer where it is smaller than theirs. Their best W >= 0 needs no
solver: no two of their rows are ever active together, so each atom is fitted alone. Channels dealt
out anew are no control here: a W that is fitted afterwards absorbs the deal.

Everywhere V and H are dicts by part, to (clips, freq or atoms, frames).
"""

from collections.abc import Mapping

import pandas as pd
import torch
from torch.nn.functional import one_hot

from esc_lib.data.clips import Data
from esc_lib.dictionaries.statistics import Statistics

Parts = Mapping[str, torch.Tensor]

MEAN, CLIP, FRAME = "mean spectrum", "loudness per clip", "loudness per frame"
CLASS = "class spectra"
KNOWS = {
    MEAN: "nothing of the clip",
    CLIP: "one number a clip",
    FRAME: "one number a frame",
    CLASS: "the clip's label",
}


def stand_ins(v: Parts, data: Data) -> dict[str, dict[str, torch.Tensor]]:
    """Return what takes the place of H, by name and part.

    H = 1, one atom that is always on; loudness, the mean of V over bands (and frames); one atom a
    class, on in the clips of that label.
    """
    found: dict[str, dict] = {name: {} for name in KNOWS}
    for part, values in v.items():
        loudness = values.mean(dim=1, keepdim=True)
        labels = one_hot(data.labels[getattr(data.split, part)], len(data.class_names)).to(values)
        found[MEAN][part] = torch.ones_like(loudness)
        found[CLIP][part] = loudness.mean(dim=2, keepdim=True).expand_as(loudness)
        found[FRAME][part] = loudness
        found[CLASS][part] = labels[:, :, None].expand(-1, -1, values.shape[2])
    return found


def squared_errors(v: Parts, data: Data) -> pd.DataFrame:
    """Return ||V - WH||^2 of every test clip, a column per stand-in, W fitted on training clips."""
    found = {}
    for name, h in stand_ins(v, data).items():
        sums = Statistics.of(v["train"], h["train"])
        w = sums.cross / sums.gram.diagonal().clamp_min(1e-30)
        gap = v["test"].double() - w @ h["test"].double()
        found[name] = gap.square().sum(dim=(1, 2)).numpy()
    return pd.DataFrame(found)
