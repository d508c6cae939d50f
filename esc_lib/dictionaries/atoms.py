"""What the atoms of a dictionary are: centres, classes that use them, sources that they match.

A dictionary `w` is (freq, atoms). The use of the atoms in clips is (clips, atoms), >= 0, the names
of the clips' classes and of the groups that these belong to are (clips,); clips without a group
(NaN) are left out.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from esc_lib.data.demo_sources import source_spectra
from esc_lib.sound.log_mel import LogMel, mel_frequencies_hz

LEVEL = 0.05  # of a test against chance


def sort_by_centre(w: np.ndarray) -> np.ndarray:
    """Return the order of the atoms by spectral centroid, (atoms,) indices, silent atoms last."""
    return np.argsort(centre_hz(w, np.arange(len(w))), kind="stable")  # it puts NaN last


def centre_hz(w: np.ndarray, frequencies_hz: np.ndarray) -> np.ndarray:
    """Return each atom's spectral centroid in Hz, (atoms,); NaN if silent."""
    total = w.sum(axis=0)
    centroid = frequencies_hz @ w / np.maximum(total, 1e-30)
    return np.where(total > 0, centroid, np.nan)


def used(w: np.ndarray) -> np.ndarray:
    """Return which atoms reach a hundredth of the highest weight, bool (atoms,).

    With the rows of H on one level, the others add next to nothing.
    """
    return w.max(axis=0) >= 0.01 * w.max()


# --------------------------------------------------------------------- the groups that use them


def group_scores(use: np.ndarray, group: np.ndarray, classes: np.ndarray) -> pd.DataFrame:
    """Score how much more each atom is used in a group of classes than in all others.

    There is a row per group and a column per atom: the mean of its classes less that of the others,
    in standard deviations over classes; 0 for an atom that never varies. A class counts once,
    however many clips it has.

    Raises
    ------
    ValueError : there are fewer than two groups, or a class belongs to several.
    """
    standard, names, label = _of_classes(use, group, classes)
    difference = _scores(standard, label) * _spread(label)[:, None]
    return pd.DataFrame(difference, index=names)


def significance(
    use: np.ndarray, group: np.ndarray, classes: np.ndarray, n_draws: int = 5000, seed: int = 0
) -> pd.DataFrame:
    """Return how often chance alone would give scores as large as those of :func:`group_scores`.

    A group is a set of classes, and any set of classes differs in something. So the groups are
    dealt out anew to whole classes, `n_draws` times: clips of a class, whatever recordings they
    come from, do not say what a group is.

    Returns
    -------
    DataFrame, a row per group, a column per atom: the p-value of the score's size, corrected for
        looking at all groups and atoms at once; 1 for an atom that never varies. It cannot fall
        below that of :func:`least_p`.

    Raises
    ------
    ValueError : as for :func:`group_scores`.

    Notes
    -----
    p = (1 + draws whose largest |z| over all groups and atoms reaches the observed |z|)
    / (1 + draws), the single-step maximum statistic; z is the score over sqrt(1 / n + 1 / (N - n))
    for n of N classes, so that small groups do not set the bar for large ones.

    References
    ----------
    westfall1993resampling
    """
    standard, names, label = _of_classes(use, group, classes)
    rng = np.random.default_rng(seed)
    draws = rng.permuted(np.tile(label, (n_draws, 1)), axis=1)
    blocks = np.split(draws, range(32, n_draws, 32))  # many draws a product, in little memory
    largest = np.concatenate([np.abs(_scores(standard, d)).max(axis=(1, 2)) for d in blocks])
    largest.sort()
    # a little less, so that equal scores tie in spite of rounding
    observed = np.abs(_scores(standard, label)) - 1e-9
    n_reached = n_draws - np.searchsorted(largest, observed)
    return pd.DataFrame((1 + n_reached) / (1 + n_draws), index=names)


def passing(uses: Sequence[np.ndarray], group: np.ndarray, classes: np.ndarray) -> dict:
    """Return how many pairs of atom and group pass :func:`significance`, at 5 %.

    The first of `uses` is the trained network's; the least and the most of the others, untrained
    ones, say how many pass without training. Beside them stand the number of pairs and the smallest
    p-value that any could have.
    """
    tested = [significance(use, group, classes) for use in uses]
    trained, *others = (int((p < LEVEL).to_numpy().sum()) for p in tested)
    return {
        "pairs": tested[0].size,
        "trained": trained,
        "untrained, least": min(others),
        "untrained, most": max(others),
        "least p possible": least_p(group, classes).min(),
    }


def least_p(group: np.ndarray, classes: np.ndarray) -> pd.Series:
    """Return the smallest p-value that an atom of each group can have, however clear its score.

    Of the ways to choose n of N classes, one is the group itself, and each of the m groups of that
    size can be dealt it: m / binomial(N, n). Half of all classes can also be dealt the other half,
    of which the size of a score is the same: 2 / binomial(N, n). With few classes a small group
    cannot be found; where every group is one class, nothing can.
    """
    _, names, label = _of_classes(np.zeros((len(group), 1)), group, classes)
    n_classes, sizes = len(label), np.bincount(label)
    ways = [2 if 2 * n == n_classes else (sizes == n).sum() for n in sizes]
    least = [m / math.comb(n_classes, n) for m, n in zip(ways, sizes, strict=True)]
    return pd.Series(least, index=names)


def verdict(p: pd.DataFrame, least: pd.Series) -> str:
    """Say in words what :func:`significance` found, at 5 %, and whether it could find anything.

    Examples
    --------
    >>> p = pd.DataFrame({0: [0.03, 1.0], 1: [0.4, 0.2]}, ["animals", "music"])
    >>> verdict(p, pd.Series([0.01, 0.01], ["animals", "music"]))
    '1 of 4 pairs of atom and group passes'
    """
    passed = int((p < LEVEL).to_numpy().sum())
    if passed:
        return f"{passed} of {p.size} pairs of atom and group {'passes' if passed == 1 else 'pass'}"
    able = int((least < LEVEL).sum())
    if not able:
        return "no pair of atom and group passes, and with so few classes none could"
    of = "any group" if able == len(least) else f"{able} of the {len(least)} groups"
    return f"no pair of atom and group passes, though with these classes {of} could"


def _of_classes(
    use: np.ndarray, group: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each class's mean use, standardised over classes; the groups' names; each one's index.

    Clips without a group (NaN) are left out.
    """
    named = ~pd.isna(group)
    group, classes = group[named].astype(str), classes[named]
    of_class = pd.Series(group).groupby(classes).unique()
    if (of_class.map(len) > 1).any():
        raise ValueError(
            f"atoms: class {of_class.index[of_class.map(len) > 1][0]} belongs to several groups; "
            "groups are sets of classes."
        )
    names, label = np.unique(np.array([own[0] for own in of_class]), return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"atoms: group holds {len(names)} group(s), expected at least 2; "
            "give clips of several groups."
        )
    use = pd.DataFrame(use[named].astype(float)).groupby(classes).mean().to_numpy()
    # the deviation of equal values is not 0 but rounding noise
    varies = np.ptp(use, axis=0) > 1e-9 * np.abs(use).max(axis=0)
    deviation = np.where(varies, use.std(axis=0), 1.0)
    return np.where(varies, (use - use.mean(axis=0)) / deviation, 0.0), names, label


def _spread(label: np.ndarray) -> np.ndarray:
    """Return sqrt(1 / n + 1 / (N - n)) of each group of n classes."""
    n = np.bincount(label)
    return np.sqrt(1 / n + 1 / (len(label) - n))


def _scores(standard: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return z, (..., groups, atoms), of standardised use and the groups' indices, (..., classes).

    It is the difference of means over :func:`_spread`. The sums inside and outside a group cancel,
    so that the first gives both means.
    """
    inside = (label[..., None, :] == np.arange(label.max() + 1)[:, None]).astype(float)
    spread = _spread(label if label.ndim == 1 else label[0])  # a deal keeps the sizes
    return np.tensordot(inside, standard, axes=1) * spread[:, None]


# ------------------------------------------------------------------------ the sources they match


def source_templates(front_end: LogMel) -> pd.DataFrame:
    """Return the mel magnitude spectrum that each procedural source shows behind a front end.

    Columns, with the index in Hz, compare with the atoms of a dictionary of V: the root of each
    source's mel power at frequency factor 1, scaled to unit norm.

    Examples
    --------
    >>> from esc_lib.config import get_profile
    >>> source_templates(LogMel(get_profile("demo").front_end)).shape
    (64, 12)
    """
    from sklearn.preprocessing import normalize  # takes a while to import

    settings = front_end.settings
    bins_hz = np.fft.rfftfreq(settings.n_fft, 1 / settings.sr)
    spectra = source_spectra(bins_hz, resolution_hz=0.6 * settings.sr / settings.win_length)
    mel_power = front_end.mel_basis.cpu().numpy() @ spectra.to_numpy()
    bands_hz = pd.Index(mel_frequencies_hz(settings).numpy(), name="hz")
    return pd.DataFrame(normalize(np.sqrt(mel_power), axis=0), bands_hz, spectra.columns)


def match(w: np.ndarray, templates: pd.DataFrame) -> pd.DataFrame:
    """Give every source an atom of its own, so that they are as similar as can be in total.

    Templates are those of :func:`source_templates`. For each source come ``atom``, its column of
    `w`, and ``cosine``, their similarity in [0, 1], higher is better; a silent atom has cosine 0.
    The sum of the cosines is the largest that any one-to-one assignment reaches.

    Raises
    ------
    ValueError : `w` and the templates differ in bands, or there are fewer atoms than templates.

    References
    ----------
    kuhn1955hungarian; SciPy solves it by crouse2016implementing.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.preprocessing import normalize

    if len(w) != len(templates):
        raise ValueError(
            f"match: w has {len(w)} bands and templates {len(templates)}; "
            "make the templates with the front end of the dictionary."
        )
    if w.shape[1] < templates.shape[1]:
        raise ValueError(
            f"match: w has {w.shape[1]} atoms, fewer than the {templates.shape[1]} templates; "
            "use a layer with more channels or select columns of the templates."
        )
    cosine = normalize(templates.to_numpy(), axis=0).T @ normalize(w, axis=0)  # (sources, atoms)
    source, atom = linear_sum_assignment(cosine, maximize=True)
    return pd.DataFrame({"atom": atom, "cosine": cosine[source, atom]}, index=templates.columns)
