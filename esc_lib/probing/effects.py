"""Does a channel matter? How many must go before a class is lost, and what else is lost with it?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from esc_lib.probing.behind import Behind

STEPS = 16  # numbers of units that are tried, from one to all, evenly spaced in ratio
RANDOM = 3  # random orders


def ranked(behind: Behind, classes: torch.Tensor, seed: int = 0) -> pd.DataFrame:
    """Return how units rank by what they are expected to do, against what they really do.

    The decision explained is that of each clip's class, int (clips,). A row per clip: units that
    are active in it, and rank correlations of their real effects with gradient x activation (own);
    with it dealt among units (dealt), and with their activation alone (activation). A clip with
    fewer than three active units, or where they do nothing, is left out.
    """
    real, expected = behind.effects(classes).numpy(), behind.expected(classes).numpy()
    mean, rng, rows = behind.codes.mean(dim=2).numpy(), np.random.default_rng(seed), []
    active = behind.codes.amax(dim=2).numpy() > 0
    for clip, units in enumerate(active):
        effect, guess = real[clip, units], expected[clip, units]
        if units.sum() < 3 or not (np.ptp(effect) and np.ptp(guess)):
            continue
        others = {"own": guess, "dealt": rng.permutation(guess), "activation": mean[clip, units]}
        row = {name: spearmanr(effect, other).statistic for name, other in others.items()}
        rows.append({"clip": clip, "units": int(units.sum())} | row)
    return pd.DataFrame(rows)


Orders = list[tuple[str, np.ndarray]]  # name, and units in order for each class, (classes, units)


def orders(behind: Behind, labels: np.ndarray, seed: int = 0) -> Orders:
    """Return the orders in which units go, from training clips.

    By their mean effect on the class in its clips, the largest first; by their mean activation
    there; and some at random.
    """
    n_classes, rng = int(labels.max()) + 1, np.random.default_rng(seed)
    effect = behind.effects(torch.from_numpy(labels)).numpy()
    activation = behind.codes.mean(dim=2).numpy()
    by_class = [labels == of_class for of_class in range(n_classes)]
    found = [
        np.stack([each[own].mean(axis=0) for own in by_class]) for each in (effect, activation)
    ]
    found += [rng.random(found[0].shape) for _ in range(RANDOM)]
    names = ["by effect", "by activation"] + RANDOM * ["random"]
    return [(name, np.argsort(-each, kind="stable")) for name, each in zip(names, found)]


def erase(
    behind: Behind, labels: np.ndarray, orders: Orders
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Take units away, class by class, until half of its clips that were recognised are lost.

    Numbers of units that are tried grow by a constant ratio; the first that suffices is taken.

    Returns
    -------
    classes : a row per order and class: needed, units that went, and units, all there are; before
        and after, the class's recall. A class of which nothing was recognised is left out; one that
        is said when all units are gone has no number.
    clips : a row per order and clip: before, whether it was recognised; after, the share of the
        *other* classes whose loss leaves it recognised, missing where none is lost.

    Raises
    ------
    ValueError : no clip is recognised to begin with.
    """
    n_units = behind.codes.shape[1]
    numbers = np.unique(np.geomspace(1, n_units, STEPS).round().astype(int))
    every = np.arange(len(labels))
    (before,) = _right(behind, labels, every, [[]])
    if not before.any():
        raise ValueError("erase: none of the clips is recognised; there is no class to lose.")
    classes, clips = [], []
    for name, by_class in orders:
        kept = []
        for of_class, units in enumerate(by_class):
            own = np.flatnonzero(labels == of_class)
            n_before = before[own].sum()
            if not n_before:
                continue
            left = _right(behind, labels, own, [units[:n] for n in numbers]).sum(axis=1)
            lost = left <= n_before / 2
            first = lost.argmax()
            classes.append({
                "order": name, "class": of_class, "units": n_units,
                "needed": numbers[first] if lost.any() else np.nan,
                "before": n_before / len(own), "after": left[first] / len(own),
            })  # fmt: skip
            if lost.any():
                (right,) = _right(behind, labels, every, [units[: numbers[first]]])
                kept.append(np.ma.masked_array(right, labels == of_class))
        after = np.ma.stack(kept).mean(axis=0).filled(np.nan) if kept else np.nan
        clips.append(pd.DataFrame({"order": name, "clip": every, "before": before, "after": after}))
    return pd.DataFrame(classes), pd.concat(clips, ignore_index=True)


def _right(
    behind: Behind, labels: np.ndarray, clips: np.ndarray, gone: Sequence[Sequence[int]]
) -> np.ndarray:
    """Return which of some clips are recognised without each set of units, bool (sets, clips)."""
    without = torch.zeros(len(gone), 1, behind.codes.shape[1], dtype=torch.bool)
    for silent, units in zip(without, gone, strict=True):
        silent[:, torch.as_tensor(units, dtype=torch.long)] = True
    places = torch.from_numpy(np.tile(clips, len(gone)))
    each = without.expand(-1, len(clips), -1).flatten(0, 1)  # (sets * clips, units)
    decided = behind.logits(places, each).argmax(dim=1).numpy()
    return decided.reshape(len(gone), -1) == labels[clips]
