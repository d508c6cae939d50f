"""How far off: angular errors, mixed-up front and back, tables with intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd

from esc_lib.evaluation.intervals import mean_interval, source_draws

ASIDE_DEG = 15.0  # so near the axis through the ears, front and back are next to each other


def azimuth_of(points: np.ndarray) -> np.ndarray:
    """Return the azimuth of points (x, y), degrees in [0, 360), shape (scenes,)."""
    return np.rad2deg(np.arctan2(points[:, 1], points[:, 0])) % 360


def angular_error_deg(estimated: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the angle between azimuths in degrees, in [0, 180]; less is better."""
    return np.abs((np.asarray(estimated) - np.asarray(true) + 180) % 360 - 180)


def mirrored(azimuths: np.ndarray) -> np.ndarray:
    """Return the azimuth on the other side of the axis through the ears, in [0, 360)."""
    return (180 - np.asarray(azimuths)) % 360


def front_back_confused(estimated: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Say whether an estimate is nearer to the mirror image of the truth; 0 or 1, or NaN.

    It is NaN where the truth is within 15 degrees of the axis through the ears: there the question
    has no meaning.
    """
    nearer = angular_error_deg(estimated, mirrored(true)) < angular_error_deg(estimated, true)
    aside = np.abs(np.cos(np.deg2rad(true))) < np.sin(np.deg2rad(ASIDE_DEG + 1e-6))
    return np.where(aside, np.nan, nearer)


def judge(scenes: pd.DataFrame, estimated_deg: np.ndarray) -> pd.DataFrame:
    """Return the scenes with estimated_deg and four verdicts.

    Verdicts: error_deg; confused (see :func:`front_back_confused`); folded_deg, the error after
    front and back are taken for the same; side, whether left and right are right (NaN within 15
    degrees of the middle).
    """
    true = scenes.azimuth_deg.to_numpy(float)
    error = angular_error_deg(estimated_deg, true)
    lateral = np.sin(np.deg2rad(true))
    middle = np.abs(lateral) < np.sin(np.deg2rad(ASIDE_DEG + 1e-6))
    same = np.sign(np.sin(np.deg2rad(estimated_deg))) == np.sign(lateral)
    return scenes.assign(
        estimated_deg=np.asarray(estimated_deg, float) % 360,
        error_deg=error,
        confused=front_back_confused(estimated_deg, true),
        folded_deg=np.minimum(error, angular_error_deg(mirrored(estimated_deg), true)),
        side=np.where(middle, np.nan, same),
    )


def summary(
    judged: pd.DataFrame,
    by: str | list[str],
    value: str = "error_deg",
    n_draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the mean of a verdict per group with its 95 % interval over source recordings.

    Parameters
    ----------
    judged : DataFrame, as :func:`judge` returns it.
    by : column or columns, for example "room" or "azimuth_deg".
    value : column; scenes where it is NaN are left out.
    n_draws, seed : of the bootstrap: all scenes of a recording are drawn together.

    Returns
    -------
    DataFrame, index by group: mean, low, high, scenes.
    """
    rows = {}
    for group, table in judged.dropna(subset=[value]).groupby(by, sort=True):
        draws = source_draws(table.src_file.to_numpy(), n_draws, seed)
        mean, low, high = mean_interval(table[value].to_numpy(float), draws)
        rows[group] = {"mean": mean, "low": low, "high": high, "scenes": len(table)}
    found = pd.DataFrame.from_dict(rows, orient="index")
    return found.rename_axis(by if isinstance(by, list) else [by])


def paired(
    first: pd.DataFrame, second: pd.DataFrame, value: str = "error_deg", n_draws: int = 1000
) -> tuple[float, float, float]:
    """Return by how much the second mean exceeds the first on the same scenes, and its interval.

    Raises
    ------
    ValueError
        If the two tables judge different scenes.
    """
    same = ["excerpt", "place", "azimuth"]
    if len(first) != len(second) or (first[same].to_numpy() != second[same].to_numpy()).any():
        raise ValueError("paired: the tables judge different scenes; give the same scenes to both.")
    difference = second[value].to_numpy(float) - first[value].to_numpy(float)
    kept = ~np.isnan(difference)
    draws = source_draws(first.src_file.to_numpy()[kept], n_draws)
    return mean_interval(difference[kept], draws)


def confusion(judged: pd.DataFrame, azimuths: np.ndarray) -> np.ndarray:
    """Return how often each true azimuth (row) was heard at each (column); rows sum to one.

    Estimates go to the nearest of `azimuths`, which lie evenly around the head from 0. A row
    without scenes is zero.
    """
    n = len(azimuths)
    counts = np.zeros((n, n))
    rows, columns = (
        np.round(judged[name].to_numpy(float) * n / 360).astype(int) % n
        for name in ("azimuth_deg", "estimated_deg")
    )
    np.add.at(counts, (rows, columns), 1)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
