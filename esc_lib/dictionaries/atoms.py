"""What the atoms of a dictionary are: centres, classes that use them, sources that they match.

A dictionary `w` is (freq, atoms). The use of the atoms in clips is (clips, atoms), >= 0, the names
of the clips' groups and source recordings are (clips,); clips without a group (NaN) are left out.
"""

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from sklearn.preprocessing import normalize

from esc_lib.data.demo_sources import source_spectra
from esc_lib.sound.log_mel import LogMel, mel_frequencies_hz


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


def group_scores(use: np.ndarray, group: np.ndarray) -> pd.DataFrame:
    """Score how much more each atom is used in a group of clips than in all others.

    There is a row per group and a column per atom: the difference of means in units of the atom's
    standard deviation over all clips; 0 for an atom that never varies.

    Raises
    ------
    ValueError : the clips belong to fewer than two groups.
    """
    standard, names, label = _standardised(use, group)
    return pd.DataFrame(_scores(standard, label), index=names)


def _standardised(use: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return use in deviations from its mean, the groups' names, and each clip's index in them."""
    named = ~pd.isna(group)
    use = use[named].astype(float)
    names, label = np.unique(group[named].astype(str), return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"atoms: group holds {len(names)} group(s), expected at least 2; "
            "give clips of several groups."
        )
    varies = np.ptp(use, axis=0) > 0  # the deviation of equal values is not 0 but rounding noise
    deviation = np.where(varies, use.std(axis=0), 1.0)
    return np.where(varies, (use - use.mean(axis=0)) / deviation, 0.0), names, label


def _scores(standard: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return scores, shape (..., groups, atoms), of standardised use and labels, (..., clips)."""
    inside = (label[..., None, :] == np.arange(label.max() + 1)[:, None]).astype(float)
    n_inside = inside.sum(axis=-1, keepdims=True)
    # the sums inside and outside a group cancel, so the first gives both means
    total = np.tensordot(inside, standard, axes=1)  # of a group's clips
    return total * (1 / n_inside + 1 / (len(standard) - n_inside))


def significance(
    use: np.ndarray, group: np.ndarray, sources: np.ndarray, n_draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Return how often chance alone would give scores as large as those of :func:`group_scores`.

    The groups are dealt out anew `n_draws` times. Clips of one recording resemble each other
    whatever their group, so they get a new group together. Where a recording holds clips of
    several groups, its clips of each group are one unit, as if they were recordings of their own.

    Returns
    -------
    DataFrame, a row per group, a column per atom, in [1 / (1 + n_draws), 1]: the p-value of the
        score's size, corrected for looking at all groups and atoms at once; 1 for an atom that
        never varies.

    Raises
    ------
    ValueError : the clips belong to fewer than two groups.

    Notes
    -----
    p = (1 + draws whose largest |score| over all groups and atoms reaches the observed |score|)
    / (1 + draws): the single-step maximum statistic. A draw shuffles the names of the groups over
    whole recordings, so a group keeps its number of recordings, not of clips. A group of few clips
    reaches large scores by chance, and the bar is the same for all groups.

    References
    ----------
    westfall1993resampling
    """
    standard, names, label = _standardised(use, group)
    unit = pd.DataFrame({"source": sources[~pd.isna(group)], "label": label})
    unit = unit.groupby(["source", "label"], sort=False, dropna=False).ngroup().to_numpy()
    label_of_unit = label[np.unique(unit, return_index=True)[1]]

    rng = np.random.default_rng(seed)
    draws = rng.permuted(np.tile(label_of_unit, (n_draws, 1)), axis=1)[:, unit]
    blocks = np.split(draws, range(32, n_draws, 32))  # many draws a product, in little memory
    largest = np.concatenate([np.abs(_scores(standard, d)).max(axis=(1, 2)) for d in blocks])
    largest.sort()
    # a little less, so that equal scores tie in spite of rounding
    observed = np.abs(_scores(standard, label)) - 1e-9
    n_reached = n_draws - np.searchsorted(largest, observed)
    return pd.DataFrame((1 + n_reached) / (1 + n_draws), index=names)


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
