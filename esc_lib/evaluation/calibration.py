"""Whether the classifier is right as often as it says: reliability, scores, one temperature.

Everywhere `confidence` is the probability of the predicted class and `right` says whether that is
the true one, both of shape (clips,); `probabilities` has the shape (clips, classes), `labels`,
int, the shape (clips,).

References
----------
guo2017calibration, naeini2015obtaining, brier1950verification, broecker2007increasing
"""

import numpy as np
import pandas as pd
from scipy.special import softmax

from esc_lib.evaluation.intervals import accuracy_interval, mean_interval

N_BINS = 10  # bins of confidence, equally wide
FLOOR = 5e-7  # probabilities are recorded with six decimals; 0 stands for less than this


def reliability(confidence: np.ndarray, right: np.ndarray, n_bins: int = N_BINS) -> pd.DataFrame:
    """Return accuracy against confidence, a row per bin of confidence.

    Parameters
    ----------
    n_bins : equally wide; a bin holds its lower edge, the last one both.

    Returns
    -------
    DataFrame: low and high edge, clips, confidence (mean), accuracy, and its Wilson interval over
    clips (95 %), "accuracy low" and "accuracy high"; missing where a bin is empty.
    """
    edges = np.linspace(0, 1, n_bins + 1)
    bins = _bins(confidence, n_bins)
    rows = []
    for index in range(n_bins):
        here = bins == index
        row = {"low": edges[index], "high": edges[index + 1], "clips": int(here.sum())}
        if here.any():
            low, high = accuracy_interval(int(right[here].sum()), int(here.sum()))
            row |= {"confidence": confidence[here].mean(), "accuracy": right[here].mean()}
            row |= {"accuracy low": low, "accuracy high": high}
        rows.append(row)
    columns = ["low", "high", "clips", "confidence", "accuracy", "accuracy low", "accuracy high"]
    return pd.DataFrame(rows, columns=columns)


def calibration_error(confidence: np.ndarray, right: np.ndarray, n_bins: int = N_BINS) -> float:
    r"""Return the expected calibration error, in [0, 1], less is better.

    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{n} \, |\text{accuracy}_b - \text{confidence}_b|

    over bins of confidence :math:`b` with :math:`n_b` of the :math:`n` clips. It errs upwards: a
    bin's accuracy misses its confidence by chance, and either way counts as error. Drawing clips
    again adds to that, so the bootstrap gives no interval; see :func:`error_if_calibrated`.

    References
    ----------
    naeini2015obtaining
    """
    return float(_errors(confidence, right[None], n_bins)[0])


def error_if_calibrated(
    confidence: np.ndarray, right: np.ndarray, n_draws: int = 5000
) -> tuple[float, float]:
    """Return what the calibration error of a calibrated classifier would be by chance.

    It has the same confidences and is right on each clip with that probability, one clip
    independent of the next; clips of one recording are not, which makes p too small.

    Returns
    -------
    mean : of its calibration error.
    p : share of such classifiers whose error is no less than the observed one.

    References
    ----------
    broecker2007increasing
    """
    rng = np.random.default_rng(0)
    errors = _errors(confidence, rng.random((n_draws, len(confidence))) < confidence, N_BINS)
    observed = calibration_error(confidence, right)
    return float(errors.mean()), float((1 + (errors >= observed).sum()) / (1 + n_draws))


def brier(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return each clip's squared distance to the truth, summed over classes: 0 (best) to 2.

    References
    ----------
    brier1950verification
    """
    return ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1)


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return minus the natural logarithm of each clip's true class: 0 is best, ln K guessing."""
    return -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], FLOOR))


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities with their logarithms divided by a temperature, shape unchanged.

    Above 1 it softens, below 1 it sharpens; which class comes first stays as it was.
    """
    return softmax(np.log(np.maximum(probabilities, FLOOR)) / temperature, axis=1)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature of least negative log-likelihood, between 0.05 and 20.

    The clips are to be some that nothing else is judged on.

    References
    ----------
    guo2017calibration
    """
    from scipy.optimize import minimize_scalar


    def loss(log_temperature: float) -> float:
        scaled = tempered(probabilities, np.exp(log_temperature))
        return negative_log_likelihood(scaled, labels).mean()

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x))


def compare(
    labels: np.ndarray, before: np.ndarray, after: np.ndarray, draws: np.ndarray
) -> pd.DataFrame:
    """Return means over clips that tell calibration without bins, before and after a change.

    Parameters
    ----------
    before, after : probabilities.
    draws : array, shape (draws, clips), as ``intervals.source_draws`` returns it.

    Returns
    -------
    DataFrame, a row per score: before, after, change (after - before), each followed by the ends
    of its 95 % interval, " low" and " high". Confidence - accuracy is best at 0.
    """

    def scores(probabilities: np.ndarray) -> dict[str, np.ndarray]:
        right = probabilities.argmax(axis=1) == labels
        return {
            "confidence - accuracy": probabilities.max(axis=1) - right,
            "Brier score": brier(probabilities, labels),
            "negative log-likelihood": negative_log_likelihood(probabilities, labels),
        }

    first, second = scores(before), scores(after)
    rows = {}
    for name in first:
        rows[name] = {}
        change = second[name] - first[name]
        for what, each in (("before", first[name]), ("after", second[name]), ("change", change)):
            _, low, high = mean_interval(each, draws)
            rows[name] |= {what: each.mean(), f"{what} low": low, f"{what} high": high}
    return pd.DataFrame.from_dict(rows, orient="index")


def _errors(confidence: np.ndarray, right: np.ndarray, n_bins: int) -> np.ndarray:
    """Return a calibration error per row of `right`, shape (draws, clips)."""
    gaps = (right - confidence) @ np.eye(n_bins)[_bins(confidence, n_bins)]  # (draws, bins)
    return np.abs(gaps).sum(axis=1) / len(confidence)


def _bins(confidence: np.ndarray, n_bins: int) -> np.ndarray:
    return np.digitize(confidence, np.linspace(0, 1, n_bins + 1)[1:-1])
