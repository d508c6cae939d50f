"""How far off: angular errors, mixed-up front and back, tables with intervals."""

import numpy as np
import pandas as pd

from esc_lib.evaluation.intervals import mean_interval, source_draws

N_DRAWS = 1000  # of an interval
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

    NaN where the question has no meaning: the truth within 15 degrees of the axis through the ears.
    """
    nearer = angular_error_deg(estimated, mirrored(true)) < angular_error_deg(estimated, true)
    aside = np.abs(np.cos(np.deg2rad(true))) < np.sin(np.deg2rad(ASIDE_DEG + 1e-6))
    return np.where(aside, np.nan, nearer)


def judge(scenes: pd.DataFrame, estimated_deg: np.ndarray) -> pd.DataFrame:
    """Return the scenes with estimated_deg and three verdicts: error_deg, confused, folded_deg.

    See :func:`front_back_confused`; the last is the error with front and back taken for the same.
    """
    true = scenes.azimuth_deg.to_numpy(float)
    error = angular_error_deg(estimated_deg, true)
    return scenes.assign(
        estimated_deg=np.asarray(estimated_deg, float) % 360,
        error_deg=error,
        confused=front_back_confused(estimated_deg, true),
        folded_deg=np.minimum(error, angular_error_deg(mirrored(estimated_deg), true)),
    )


def _interval(values: np.ndarray, sources: pd.Series) -> tuple[float, float, float]:
    """Return the mean and its 95 % interval: all scenes of a recording are drawn together."""
    return mean_interval(np.asarray(values), source_draws(sources.to_numpy(), N_DRAWS))


def summary(judged: pd.DataFrame, by: str | list[str]) -> pd.DataFrame:
    """Return the mean error per group of scenes with its interval, degrees: mean, low, high."""
    rows = {
        group: dict(zip(("mean", "low", "high"), _interval(table.error_deg, table.src_file)))
        for group, table in judged.groupby(by)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(by)


def errors(judged: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return a table by room and system of the systems' verdicts.

    Columns: error, low, high (mean and 95 % interval, degrees), median, folded (degrees; front and
    back taken for the same), confused (%, front for back) and scenes.
    """
    rows = {}
    for system, table in judged.items():
        for room, of_room in table.groupby("room"):
            mean = _interval(of_room.error_deg, of_room.src_file)
            rows[room, system] = {
                **dict(zip(("error", "low", "high"), mean)),
                "median": of_room.error_deg.median(),
                "folded": of_room.folded_deg.mean(),
                "confused": 100 * of_room.confused.mean(),
                "scenes": len(of_room),
            }
    return _by_room(rows)


def against(judged: dict[str, pd.DataFrame], reference: str) -> pd.DataFrame:
    """Return by how much systems' errors exceed that of `reference`, by room and system.

    Columns: difference, low, high, in degrees. ValueError if a system judges other scenes.
    """
    names = ("difference", "low", "high")
    rows = {
        (room, system): dict(zip(names, paired(judged[reference].loc[of_room.index], of_room)))
        for system, table in judged.items()
        if system != reference
        for room, of_room in table.groupby("room")
    }
    return _by_room(rows)


def paired(first: pd.DataFrame, second: pd.DataFrame) -> tuple[float, float, float]:
    """Return by how much the second's mean error exceeds the first's, and the interval."""
    same = ["excerpt", "place", "azimuth"]
    if len(first) != len(second) or (first[same].to_numpy() != second[same].to_numpy()).any():
        raise ValueError("paired: the tables judge different scenes; give the same scenes to both.")
    return _interval(second.error_deg.to_numpy() - first.error_deg.to_numpy(), first.src_file)


def _by_room(rows: dict[tuple[str, str], dict]) -> pd.DataFrame:
    """Return a table of rows by room and system; in a room, systems stay in their order."""
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["room", "system"])
    return table.sort_index(level="room", sort_remaining=False)


def confusion(judged: pd.DataFrame, azimuths: np.ndarray) -> np.ndarray:
    """Return how often each true azimuth (row) was heard at each (column); rows sum to one.

    Estimates go to the nearest of `azimuths`, which lie evenly around the head from 0. A row
    without scenes is zero.
    """
    n = len(azimuths)
    counts = np.zeros((n, n))
    degrees = judged[["azimuth_deg", "estimated_deg"]].to_numpy(float)
    np.add.at(counts, tuple(np.round(degrees * n / 360).astype(int).T % n), 1)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
