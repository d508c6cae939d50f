"""How attention changes from layer to layer: several networks on the same clips, in words too."""

from __future__ import annotations

import numpy as np
import pandas as pd

from esc_lib.companions.transformer import attention
from esc_lib.companions.transformer.network import SpectrogramAST
from esc_lib.companions.transformer.study import excerpts
from esc_lib.config import Profile
from esc_lib.data.clips import Data
from esc_lib.evaluation.intervals import mean_interval, source_draws

CLEAR = 0.05  # a change by less than this share of its scale is none


def look(
    networks: dict[str, SpectrogramAST], data: Data, profile: Profile, rows: np.ndarray
) -> pd.DataFrame:
    """Measure where every head of some networks looks in the middle excerpts of clips.

    Returns
    -------
    DataFrame like that of ``attention.measure_clips``, with network and src_file.
    """
    views = excerpts(data, profile.front_end, rows, profile.transformer.n_frames).flatten(0, 1)
    sources = data.clips.src_file.to_numpy()[rows]
    tables = []
    for name, network in networks.items():
        table = attention.measure_clips(network, views, profile.front_end)
        tables.append(table.assign(network=name, src_file=sources[table["clip"]]))
    return pd.concat(tables, ignore_index=True)


def depth(measured: pd.DataFrame, layers: tuple[int, ...] = (1, 4, 8)) -> pd.DataFrame:
    """Say how attention changes from the first to the last of some layers.

    Parameters
    ----------
    measured : DataFrame as from :func:`look`, of any number of folds (column fold).
    layers : tuple of int, counted from 1.

    Returns
    -------
    DataFrame, index (network, measure): the mean over heads and clips at each layer ("l = 1"), and
    change, low, high: last minus first, with the 95 % interval over source recordings.
    """
    rows = {}
    for name, table in measured.groupby("network", sort=False):
        clips = table.groupby(["fold", "clip", "src_file", "layer"], as_index=False)[
            list(attention.MEASURES)
        ].mean()
        draws = None
        for measure in attention.MEASURES:
            wide = clips.pivot_table(
                index=["fold", "clip", "src_file"], columns="layer", values=measure
            )
            if draws is None:
                draws = source_draws(wide.index.get_level_values("src_file").to_numpy())
            change = (wide[layers[-1]] - wide[layers[0]]).to_numpy()
            found = mean_interval(change, draws)
            rows[name, measure] = {f"l = {layer}": wide[layer].mean() for layer in layers} | dict(
                zip(("change", "low", "high"), found, strict=True)
            )
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["network", "measure"])


def in_words(change: float, low: float, high: float, scale: float) -> str:
    """Say what a change is: it "grows", "shrinks" or "hardly changes".

    Parameters
    ----------
    change, low, high : float, the change and its interval.
    scale : float, what counts as large: the measure of a head that looks at all patches alike. A
        change below :data:`CLEAR` of it is small, however narrow its interval.
    """
    if low <= 0 <= high or abs(change) < CLEAR * scale:
        return "hardly changes"
    return "grows" if change > 0 else "shrinks"
