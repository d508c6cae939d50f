"""How well dictionaries do on clips they have not seen, clip by clip, beside their controls.

Squared errors of clips stand in a table with a row per test clip and a column per way to come by
W and H; ``draws`` are those of ``evaluation.source_draws`` for the same clips.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from esc_lib.data.clips import Data
from esc_lib.dictionaries import stand_ins
from esc_lib.dictionaries.fitting import LayerFits, step_between_bands
from esc_lib.dictionaries.gather import Gathered


def squared_error_by_clip(w: torch.Tensor, v: torch.Tensor, h: torch.Tensor) -> np.ndarray:
    """Return ||V - WH||^2 per clip, (clips,), of (freq, atoms) and (clips, ..., frames)."""
    return (v.double() - w @ h.double()).square().sum(dim=(1, 2)).numpy()


def by_clip(
    fitted: LayerFits, layer: str, parts: Mapping[str, Gathered], data: Data
) -> pd.DataFrame:
    """Return the squared errors of a layer's dictionaries and of all stand-ins for its H.

    Beside them stands the energy of V. The test part has kept the layer's H.
    """
    v = {part: parts[part].v(layer) for part in ("train", "test")}
    table = {"energy": v["test"].double().square().sum(dim=(1, 2)).numpy()}
    for name, w in fitted.dictionaries().items():
        table[name] = squared_error_by_clip(w * fitted.scale, v["test"], parts["test"].h[layer])
    return pd.DataFrame(table).join(stand_ins.squared_errors(v, data))


def scores(
    table: pd.DataFrame, columns: Sequence[str], below: str, draws: np.ndarray, score=np.sqrt
) -> pd.DataFrame:
    """Return value, low and high (95 % interval over source recordings) of columns, a row each.

    The value is the score of the ratio of sums of the column and of `below`. By default its root:
    over the energy of V the relative error, over the optimum how many times its error.
    """
    values, divisor = table[list(columns)].to_numpy(), table[below].to_numpy()
    drawn = score((draws @ values) / (draws @ divisor)[:, None])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    value = score(values.sum(axis=0) / divisor.sum())
    return pd.DataFrame({"value": value, "low": low, "high": high}, list(columns))


def outputs(fitted: LayerFits, part: Gathered, layer: str) -> dict[str, pd.DataFrame]:
    """Return what each dictionary's output is made of, clip by clip, and V itself as "V".

    Columns: energy and upper (that in the upper half of the mel bands); surplus and missing, the
    energy of what the output has too much and too little; target, the energy of V.
    """
    v, h = part.v(layer).double(), part.h[layer].double() * fitted.scale[:, None]
    made = {"V": v} | {name: w @ h for name, w in fitted.dictionaries().items()}
    return {
        name: pd.DataFrame(
            {
                column: values.square().sum(dim=(1, 2)).numpy()
                for column, values in {
                    "energy": output,
                    "upper": output[:, v.shape[1] // 2 :],
                    "surplus": (output - v).clamp_min(0),
                    "missing": (output - v).clamp_max(0),
                    "target": v,
                }.items()
            }
        )
        for name, output in made.items()
    }


def character(fitted: LayerFits, made: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return what the thesis says of each model's atoms and output (4.3.2, 4.3.4), as numbers.

    Returns
    -------
    DataFrame, a row for V and for each dictionary: the step between neighbouring bands of W (root
        mean square, relative to W's); of all clips' :func:`outputs`, upper relative to energy,
        surplus and missing relative to that of V.
    """
    sums = pd.DataFrame({name: table.sum() for name, table in made.items()}).T
    step = {name: step_between_bands(w) for name, w in fitted.dictionaries().items()}
    return pd.DataFrame(
        {
            "step between bands": pd.Series(step),
            "upper": sums.upper / sums.energy,
            "surplus": sums.surplus / sums.target,
            "missing": sums.missing / sums.target,
        }
    ).loc[list(made)]
