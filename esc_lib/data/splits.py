"""Which clips train, validate and test: folds, source-grouped validation, leakage report.

References
----------
piczak2015esc for the folds; the maintainer's issues 9 and 18 for validation on whole recordings.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

COMPARED = ("source_grouped", "random_clips")
PROTOCOLS = (*COMPARED, "whole_fold", "no_validation", "no_test")


@dataclass(frozen=True)
class Split:
    """Row numbers of the training, validation and test clips."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(
    clips: pd.DataFrame,
    test_fold: int,
    *,
    protocol: str = "source_grouped",
    validation_share: float = 0.2,
    seed: int = 0,
) -> Split:
    """Hold out one fold for the test, and a share of the other folds' clips for validation.

    Parameters
    ----------
    protocol : "source_grouped" keeps every source recording on one side, classes balanced;
        "random_clips" is the thesis's cut, stratified, blind to source recordings; "whole_fold"
        validates on the fold after the test fold, three train, and has no share or seed;
        "no_validation" trains on all there is outside the test fold, as published accuracies do;
        "no_test" is "source_grouped" without the test clips, for choices made beforehand.

    Raises
    ------
    ValueError : the fold or the protocol does not exist, or the share is not in (0, 0.5].

    Notes
    -----
    A recording that straddles the test fold and another one (four do in ESC-50) leaves training
    and validation, except under "random_clips"; one that straddles the validation fold of
    "whole_fold" leaves training.
    """
    from sklearn.model_selection import StratifiedGroupKFold, train_test_split

    folds = sorted(clips.fold.unique().tolist())
    if test_fold not in folds:
        raise ValueError(
            f"split: test_fold={test_fold}, expected one of {folds}; change it in the profile."
        )
    if protocol not in PROTOCOLS:
        raise ValueError(f"split: protocol={protocol!r}, expected one of {', '.join(PROTOCOLS)}.")
    if not 0 < validation_share <= 0.5:
        raise ValueError(
            f"split: validation_share={validation_share}, expected above 0 and at most 0.5."
        )
    fold, source = clips.fold.to_numpy(), clips.src_file.to_numpy()
    test, rest = np.flatnonzero(fold == test_fold), np.flatnonzero(fold != test_fold)
    if protocol == "random_clips":
        train, validation = train_test_split(
            rest, test_size=validation_share, stratify=clips.label.iloc[rest], random_state=seed
        )
        return Split(np.sort(train), np.sort(validation), test)
    rest = rest[~np.isin(source[rest], source[test])]
    if protocol == "no_validation":
        return Split(rest, rest[:0], test)
    if protocol == "whole_fold":
        following = folds[(folds.index(test_fold) + 1) % len(folds)]
        validation = rest[fold[rest] == following]
        return Split(rest[~np.isin(source[rest], source[validation])], validation, test)
    grouped = StratifiedGroupKFold(round(1 / validation_share), shuffle=True, random_state=seed)
    train, validation = next(grouped.split(rest, clips.label.iloc[rest], groups=source[rest]))
    return Split(rest[train], rest[validation], test[:0] if protocol == "no_test" else test)


def check(clips: pd.DataFrame, test_fold: int, validation_share: float = 0.2) -> None:
    """Split clips as notebook 01 and the runs on all folds will.

    Raises
    ------
    ValueError
        If a fold cannot be tested, naming it and the class that lacks clips.
    """
    folds = sorted(clips.fold.unique().tolist())
    if len(folds) < 2:
        raise ValueError(f"split: all clips are of fold {folds[0]}; at least two folds are needed.")
    for fold in dict.fromkeys((test_fold, *folds)):
        for protocol in COMPARED:
            options = {"protocol": protocol, "validation_share": validation_share}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of small classes: judged below
                try:
                    parts = split(clips, fold, **options)
                except ValueError as error:
                    if str(error).startswith("split:"):
                        raise
                    raise ValueError(_too_few(clips, fold, protocol)) from None
            for name in ("train", "test"):
                has = clips.category.iloc[getattr(parts, name)]
                lacks = clips.category[~clips.category.isin(has)]
                if len(lacks):
                    raise ValueError(
                        f"split: with fold {fold} tested, class {lacks.iloc[0]!r} has no "
                        f"{'training' if name == 'train' else 'test'} clip ({protocol}); give it "
                        "clips of more recordings and folds, or leave the class out."
                    )


def _too_few(clips: pd.DataFrame, fold: int, protocol: str) -> str:
    """Say which class cannot be split outside a test fold."""
    rest = clips[clips.fold != fold]
    counts = rest.groupby("category")["filename"].count()
    counts = counts.reindex(clips.category.unique(), fill_value=0)
    recordings = rest.src_file.nunique()
    return (
        f"split: with fold {fold} tested, validation cannot be held back ({protocol}): the other "
        f"folds have {len(rest)} clips of {recordings} recordings, and of class "
        f"{counts.idxmin()!r} {counts.min()}; give more clips, or right src_file."
    )


def name_parts(clips: pd.DataFrame, parts: Split) -> pd.Series:
    """Return "train", "validation", "test" or "unused" for every clip."""
    names = pd.Series("unused", index=clips.index, name="part")
    for part in ("train", "validation", "test"):
        names.iloc[getattr(parts, part)] = part
    return names


def shared_sources(clips: pd.DataFrame) -> pd.Series:
    """Return for every clip whether another clip was cut from the same source recording."""
    return clips.src_file.duplicated(keep=False)


def straddling_sources(clips: pd.DataFrame) -> pd.DataFrame:
    """Return the clips of those source recordings that stand in more than one fold."""
    n_folds = clips.groupby("src_file").fold.transform("nunique")
    return clips[n_folds > 1].sort_values(["src_file", "fold"])


def leaked_share(clips: pd.DataFrame, parts: Split) -> float:
    """Return the share of validation clips with a training clip from the same recording."""
    sources = clips.src_file.iloc[parts.train]
    return float(clips.src_file.iloc[parts.validation].isin(sources).mean())
