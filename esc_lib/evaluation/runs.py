"""Training runs compared: accuracy over folds and seeds, optimism of a protocol, differences."""

import numpy as np
import pandas as pd

from esc_lib.evaluation.intervals import accuracy, paired_difference, source_draws


def accuracy_table(judged: pd.DataFrame, part: str) -> pd.DataFrame:
    """Return accuracy in percent per label: mean and sd over runs, pooled with its interval.

    Clips that several seeds judged count once per seed in the mean; the pooled accuracy (95 %, over
    source recordings) counts each clip once, with the share of the seeds that got it right.

    Parameters
    ----------
    judged : a row per run and clip: label, part, fold, seed, filename, src_file, right,
        right_whole.
    """
    rows = {}
    for label, table in judged[judged.part == part].groupby("label", sort=False):
        by_run = 100 * table.groupby(["fold", "seed"]).right.mean()
        clips = table.groupby(["fold", "filename", "src_file"])[["right", "right_whole"]].mean()
        pooled, low, high = accuracy(clips.right, clips.index.get_level_values("src_file"))
        rows[label] = {
            "runs": len(by_run),
            "mean": by_run.mean(),
            "sd": by_run.std(),  # none of a single run
            "clips": len(clips),
            "pooled": pooled,
            "low": low,
            "high": high,
            "whole clip": 100 * clips.right_whole.mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def optimism(judged: pd.DataFrame) -> pd.DataFrame:
    """Return by how many points validation flatters the test, for each of two protocols.

    Intervals (95 %) are percentiles of a bootstrap over source recordings. The row "difference" is
    random clips minus source-grouped, from the same draws.

    Parameters
    ----------
    judged : as for :func:`accuracy_table`; labels are "source_grouped" and "random_clips".
    """
    protocols = ("source_grouped", "random_clips")
    right = judged.right.to_numpy(float)
    cell = {
        (label, part): ((judged.label == label) & (judged.part == part)).to_numpy()
        for label in protocols
        for part in ("validation", "test")
    }

    def gaps(weight: np.ndarray) -> dict[str, float]:
        share = {
            key: 100 * np.average(right[rows], weights=weight[rows]) for key, rows in cell.items()
        }
        gap = {label: share[label, "validation"] - share[label, "test"] for label in protocols}
        return gap | {"difference": gap["random_clips"] - gap["source_grouped"]}

    weights = source_draws(judged.src_file.to_numpy())
    draws = pd.DataFrame(gaps(weight) for weight in weights)
    found = pd.DataFrame({"optimism": gaps(np.ones(len(judged)))})
    found[["low", "high"]] = draws.quantile([0.025, 0.975]).T
    return found


def against(judged: pd.DataFrame, base: str, part: str = "validation") -> pd.DataFrame:
    """Return each label's accuracy and its difference from `base`, in points, clip by clip.

    The interval (95 %) of the difference is over the source recordings of the clips that both have
    judged; a clip judged by several seeds counts once, with their mean.
    """
    table = judged[judged.part == part]
    clip = ["fold", "filename", "src_file"]
    wide = table.pivot_table(index=clip, columns="label", values="right", sort=False).astype(float)
    rows = {}
    for label in wide:
        both = wide.index[wide[[label, base]].notna().all(axis=1)]
        one, other = wide.loc[both, label], wide.loc[both, base]
        found = paired_difference(one, other, both.get_level_values("src_file"))
        rows[label] = {"accuracy": 100 * wide[label].mean()}
        rows[label] |= dict(zip(("difference", "low", "high"), found, strict=True))
        rows[label]["clips"] = len(both)
    return pd.DataFrame.from_dict(rows, orient="index")
