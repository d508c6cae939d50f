"""How much a layer's codes hold: of the layer itself, and of the spectrum with level taken out.

What is returned has a row per test clip, `residual` and `total`: sums of squares, whose sums over
clips make 1 - residual / total, the variance explained.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from esc_lib.probing.bases import Basis
from esc_lib.probing.sparse import Sparse, frames_of, root_mean_square, strongest

DEPTH_DB = 80.0  # below the clip's peak: the front end's floor
HEARD_DB = 5.0  # a frame whose loudest band is no further above the floor is dropped
WEIGHTS = tuple(np.logspace(-1, 4, 6))  # of the ridge, for standardised codes


def decibel(v: torch.Tensor) -> torch.Tensor:
    """Return V, a magnitude, in dB below each clip's peak, floored: (clips, mel, frames)."""
    peak = v.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    return (20 * (v / peak).clamp_min(1e-12).log10()).clamp_min(-DEPTH_DB)


def shapes(v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return V's level-free shape, dB less each frame's mean over bands, and which frames count."""
    level = decibel(v)
    heard = level.amax(dim=1) > HEARD_DB - DEPTH_DB  # (clips, frames)
    return level - level.mean(dim=1, keepdim=True), heard


def level_free(values: torch.Tensor, v: torch.Tensor) -> np.ndarray:
    """Return values less what loudness explains, (clips, frames, units), by linear regression.

    Values, as H or codes, are (clips, units, frames), V is (clips, mel, frames). Loudness is the
    mean level of a frame in dB, its square, and the clip's mean of it; what never varies becomes 0.
    """
    level = decibel(v).mean(dim=1).double().numpy()  # (clips, frames)
    level = level - level.mean()
    clip = np.broadcast_to(level.mean(axis=1, keepdims=True), level.shape)
    known = np.stack([np.ones_like(level), level, level**2, clip], axis=-1).reshape(-1, 4)
    flat = frames_of(values).double().numpy()
    rest = flat - known @ np.linalg.lstsq(known, flat, rcond=None)[0]
    rest[:, flat.std(axis=0) < 1e-9] = 0
    return rest.reshape(*level.shape, -1)


def spectrum(
    v: Mapping[str, torch.Tensor], codes: Mapping[str, torch.Tensor], *others: torch.Tensor
) -> list[pd.DataFrame]:
    """Read the level-free shape of V off codes by ridge regression.

    V, (clips, mel, frames), and codes, (clips, units, frames), have the parts train, validation
    (which chooses the ridge's weight) and test. Returns a table for the test codes, and one for
    each of `others`, codes in their place. The total is about the mean training shape.
    """
    seen = {part: shapes(values) for part, values in v.items()}
    target = {part: _kept(shape, heard) for part, (shape, heard) in seen.items()}
    known = {part: _kept(codes[part], seen[part][1]) for part in ("train", "validation")}
    fits = [
        make_pipeline(StandardScaler(), Ridge(weight, solver="cholesky")) for weight in WEIGHTS
    ]
    errors = [
        np.square(
            fit.fit(known["train"], target["train"]).predict(known["validation"])
            - target["validation"]
        ).sum()
        for fit in fits
    ]
    best, heard = fits[int(np.argmin(errors))], seen["test"][1]
    about = target["test"] - target["train"].mean(axis=0)
    clip = np.repeat(np.arange(len(heard)), heard.sum(dim=1).numpy())
    return [
        _by_clip(target["test"] - best.predict(_kept(each, heard)), about, clip, len(heard))
        for each in (codes["test"], *others)
    ]


def _kept(values: torch.Tensor, heard: torch.Tensor) -> np.ndarray:
    """Return the frames that are heard, (frames, values) of (clips, values, frames)."""
    return frames_of(values)[heard.flatten()].double().numpy()


def layer(
    bases: Mapping[str, Basis], train: torch.Tensor, test: torch.Tensor, v: torch.Tensor, k: int
) -> pd.DataFrame:
    """Return how well `k` numbers a frame tell H beyond its loudness, a row per basis and clip.

    H of training and test clips is (clips, channels, frames), its channels brought to one root mean
    square; V, (clips, mel, frames), of the test clips gives the loudness that is taken out of H and
    of what is told. Of channels the k furthest from their mean are told; beside the bases stand the
    first k principal components, which are the same for all frames.
    """
    scale = root_mean_square(train)[:, None]
    known, mean = frames_of(train / scale), (train / scale).mean(dim=(0, 2))[:, None]
    about = test / scale - mean
    components = PCA(min(k, *known.shape), svd_solver="covariance_eigh").fit(known.numpy())
    w = torch.from_numpy(components.components_)
    rest = {"principal components": about - w.T @ (w @ about)}
    for name, basis in bases.items():
        if isinstance(basis, Sparse):
            rest[name] = (test - basis.rebuilt(test)) / scale
        else:
            furthest = strongest(frames_of(about.abs()), k) > 0
            rest[name] = about * ~furthest.unflatten(0, (len(about), -1)).transpose(1, 2)
    total = np.square(level_free(about, v)).sum(axis=(1, 2))
    return pd.concat([
        pd.DataFrame({
            "basis": name, "clip": range(len(test)),
            "residual": np.square(level_free(own, v)).sum(axis=(1, 2)), "total": total,
        })
        for name, own in rest.items()
    ], ignore_index=True)  # fmt: skip


def _by_clip(rest: np.ndarray, about: np.ndarray, clip: np.ndarray, n: int) -> pd.DataFrame:
    """Sum the squares of frames, (frames, values), up by clip."""
    sums = [np.bincount(clip, np.square(each).sum(axis=1), n) for each in (rest, about)]
    return pd.DataFrame({"residual": sums[0], "total": sums[1]}).rename_axis("clip").reset_index()
