"""What each layer makes of whole clips: one point per clip, its neighbours, and maps of them.

An embedding is an array, shape (clips, channels); classes, as indices, and the names of source
recordings are arrays, shape (clips,). Near is a high cosine.

References
----------
vandermaaten2008tsne, mcinnes2018umap, venna2001neighborhood
"""

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from esc_lib.data.clips import Data
from esc_lib.evaluation.intervals import accuracy_interval, mean_interval, source_draws
from esc_lib.layers.hooks import stream
from esc_lib.machine.hardware import torch_threads
from esc_lib.models.se_cnn import BLOCKS, SECNN
from esc_lib.sound import audio
from esc_lib.sound.log_mel import LogMel

LAYERS = {block: f"block {block[-1]}" for block in BLOCKS} | {"relu": "fc1"}  # name for readers
METHODS = ("t-SNE", "UMAP")
NEIGHBOURS = 5
EXCERPT_S, EXCERPT_SR, FADE_S = 1.5, 16_000, 0.01


def evenly(classes: np.ndarray, at_most: int) -> np.ndarray:
    """Draw positions of at most `at_most` clips, in order, no class preferred."""
    order = np.random.default_rng(0).permutation(len(classes))
    rank_in_class = pd.Series(order).groupby(np.asarray(classes)[order]).cumcount()
    return np.sort(order[np.argsort(rank_in_class.to_numpy(), kind="stable")[:at_most]])


def embed(model: SECNN, front_end: LogMel, data: Data, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return each layer's embedding of whole clips: its output, averaged over mel and frames.

    Layers are the five blocks, and the hidden layer fc1 after its ReLU, >= 0, which the last
    linear layer reads; the keys are their names for readers.
    """
    found, done = {}, 0
    for batch, _, outputs in stream(model, front_end, data, rows, list(LAYERS)):
        for layer, name in LAYERS.items():
            values = outputs[layer].float()
            values = values.reshape(*values.shape[:2], -1).mean(dim=2)
            if name not in found:  # no small arrays between the large blocks that are freed
                found[name] = np.empty((len(rows), values.shape[1]), np.float32)
            found[name][done : done + len(batch)] = values.cpu()
        done += len(batch)
    return found


# ------------------------------------------------------------------------------------ neighbours


def neighbours_right(
    embedding: np.ndarray, labels: np.ndarray, sources: np.ndarray, k: int = NEIGHBOURS
) -> np.ndarray:
    """Say of each clip whether its `k` nearest neighbours vote for its class, bool (clips,).

    Clips cut from the same source recording do not vote. A tie goes to the class whose first
    neighbour is nearer.

    Raises
    ------
    ValueError : a clip has fewer than `k` others that may vote.
    """
    from sklearn.metrics.pairwise import cosine_similarity

    _, source = np.unique(sources, return_inverse=True)
    same = source[:, None] == source
    if len(same) - same.sum(axis=1).max() < k:
        raise ValueError(
            f"neighbours_right: a clip has fewer than k={k} clips of other recordings; "
            "give more clips or a smaller k."
        )
    similarity = np.where(same, -np.inf, cosine_similarity(embedding))
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    votes = np.zeros((len(labels), labels.max() + 1))
    for rank in range(k):  # the fractions sum to less than one vote: they only part ties
        votes[np.arange(len(labels)), labels[nearest[:, rank]]] += 1 + 0.5 ** (rank + 1)
    return votes.argmax(axis=1) == labels


def nearest(queries: np.ndarray, bank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each query the nearest row of a bank and its cosine, both of shape (queries,).

    Both hold embeddings; the bank may be large. A cosine is 0 where one of the two is zero
    everywhere.

    Raises
    ------
    ValueError : the bank has no rows, or rows of another length.
    """
    from sklearn.metrics import pairwise_distances_argmin_min

    if not len(bank) or bank.shape[1:] != queries.shape[1:]:
        raise ValueError(
            f"nearest: a bank of shape {bank.shape} for queries of shape {queries.shape}; "
            "give a bank of the same layer with at least one clip."
        )
    rows, distances = pairwise_distances_argmin_min(queries, bank, metric="cosine")
    return rows, 1 - distances


def nearest_of_class(
    queries: np.ndarray, classes: np.ndarray, bank: np.ndarray, bank_classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Do as :func:`nearest`, each query within a class of its own, ``classes``."""
    rows, cosines = np.empty(len(queries), int), np.empty(len(queries))
    for of_class in np.unique(classes):
        asked, members = classes == of_class, np.flatnonzero(bank_classes == of_class)
        found, cosines[asked] = nearest(queries[asked], bank[members])
        rows[asked] = members[found]
    return rows, cosines


def examples(
    decisions: pd.DataFrame, queries: np.ndarray, bank: np.ndarray, classes: np.ndarray
) -> pd.DataFrame:
    """Return the decisions with the clips of the bank that explain them by example.

    Decisions have a row per query, with predicted and other (class indices). New columns are
    nearest_class, of the nearest clip of all; nearest_ and cosine_ followed by predicted and by
    other, the nearest clip of that class (row of the bank) and its cosine.
    """
    found = {"nearest_class": classes[nearest(queries, bank)[0]]}
    for name in ("predicted", "other"):
        asked = decisions[name].to_numpy()
        rows, cosines = nearest_of_class(queries, asked, bank, classes)
        found |= {f"nearest_{name}": rows, f"cosine_{name}": cosines}
    return decisions.assign(**found)


def agreement(decisions: pd.DataFrame) -> pd.DataFrame:
    """Count how often the nearest clip belongs to the class that was predicted.

    Decisions have nearest_class, predicted and label (class indices), a row per clip.

    Returns
    -------
    DataFrame, rows "wrong" and "right" (decisions): clips; how many have the nearest clip of the
        predicted class; of the true class; and the share of the former in percent, with its Wilson
        interval (95 %, which takes clips for independent). Without clips the share is missing, and
        the interval holds everything.
    """
    right = decisions.predicted == decisions.label
    rows = {}
    for name, chosen in (("wrong", decisions[~right]), ("right", decisions[right])):
        n, found = len(chosen), int((chosen.nearest_class == chosen.predicted).sum())
        low, high = accuracy_interval(found, n) if n else (0.0, 1.0)
        rows[name] = {
            "clips": n,
            "of the predicted class": found,
            "of the true class": int((chosen.nearest_class == chosen.label).sum()),
            "share (%)": 100 * found / n if n else np.nan,
            "low (%)": 100 * low,
            "high (%)": 100 * high,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


# ------------------------------------------------------------------------------------------ maps


def lay_out(embedding: np.ndarray, method: str) -> np.ndarray:
    """Return a map of the clips in the plane, shape (clips, 2), from cosine distances.

    t-SNE and UMAP have their usual settings; the map is the same every time.

    Raises
    ------
    ValueError : the method is unknown.
    """
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors

    n = len(embedding)
    if method == "t-SNE":
        with threadpool_limits(1):  # sums over several threads have no fixed order
            return TSNE(
                perplexity=min(30, (n - 1) / 3), metric="cosine", init="pca", random_state=0
            ).fit_transform(embedding)
    if method != "UMAP":
        raise ValueError(f"lay_out: method={method!r}, expected one of {', '.join(METHODS)}.")
    k = min(15, n - 1)
    # its own search for neighbours would be compiled first, which takes longer than all the rest
    found = NearestNeighbors(n_neighbors=k, metric="cosine").fit(embedding).kneighbors(embedding)
    # it sets the number of threads of the whole process, on which torch's last digits depend
    with torch_threads(torch.get_num_threads()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)  # not needed
        warnings.filterwarnings("ignore", "precomputed_knn", UserWarning)  # no use for new clips
        from umap import UMAP  # its import takes seconds

        return UMAP(
            n_neighbors=k, metric="cosine", precomputed_knn=(found[1], np.float32(found[0])),
            random_state=0, n_jobs=1,
        ).fit_transform(embedding)  # fmt: skip


def all_maps(embeddings: Mapping[str, np.ndarray]) -> dict[str, dict]:
    """Return method to layer to map, shape (clips, 2).

    Directions in such a map mean nothing: each is turned or mirrored to lie as the last layer's
    t-SNE map does, so that clips keep their place where they can.
    """
    from scipy.linalg import orthogonal_procrustes

    last = None
    maps: dict[str, dict] = {method: {} for method in METHODS}
    for method in METHODS:
        for name in reversed(embeddings):
            places = lay_out(embeddings[name], method)
            places = places - places.mean(axis=0)
            last = places if last is None else last
            maps[method][name] = places @ orthogonal_procrustes(places, last)[0]
    return {method: dict(reversed(of_layer.items())) for method, of_layer in maps.items()}


def measure(
    embeddings: Mapping[str, np.ndarray],
    maps: Mapping[str, Mapping[str, np.ndarray]],
    labels: np.ndarray,
    sources: np.ndarray,
) -> pd.DataFrame:
    """Return how well each layer parts the classes, and how far its maps can be trusted.

    Returns
    -------
    DataFrame, a row per layer: channels; the share of clips whose neighbours vote for their class
        (%), with the ends of its 95 % interval over source recordings; and the trustworthiness of
        each method's map, in [0, 1], higher is better: 1 where neighbours in the map were
        neighbours in the layer.
    """
    from sklearn.manifold import trustworthiness

    draws = source_draws(sources)
    rows = {}
    for name, embedding in embeddings.items():
        right = neighbours_right(embedding, labels, sources)
        share, low, high = mean_interval(100.0 * right, draws)
        rows[name] = {"channels": embedding.shape[1], "right": share, "low": low, "high": high}
        for method, of_layer in maps.items():
            rows[name][method] = trustworthiness(
                embedding, of_layer[name], n_neighbors=NEIGHBOURS, metric="cosine"
            )
    return pd.DataFrame.from_dict(rows, orient="index")


def excerpts(data: Data, rows: np.ndarray, sr: int) -> tuple[list[np.ndarray], int]:
    """Return the loudest part of each clip, for quick listening, and its sample rate.

    Clips of more than 16 kHz are resampled to it. Parts are (samples,), full scale 1, faded at both
    ends.
    """
    low_sr = min(sr, EXCERPT_SR)
    parts = []
    for row in rows:
        waveform = data.waveforms[row, : int(data.n_valid[row])].cpu().numpy() / 32768
        part = audio.resample(audio.loudest(waveform, round(EXCERPT_S * sr)), sr, low_sr).copy()
        fade = np.linspace(0, 1, min(round(FADE_S * low_sr), len(part)))
        part[: len(fade)] *= fade
        part[len(part) - len(fade) :] *= fade[::-1]
        parts.append(part)
    return parts, low_sr
