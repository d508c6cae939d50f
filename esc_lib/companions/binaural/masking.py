"""Is a map true? Hide what it marks, and see whether the network loses its way."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from esc_lib.companions.binaural.judging import angular_error_deg, azimuth_of
from esc_lib.companions.binaural.network import BAST
from esc_lib.evaluation.intervals import mean_interval, source_draws

FILLS = ("flat", "both ears")
ERROR, GAIN = ("error_deg", "low", "high"), ("gain_deg", "gain_low", "gain_high")


def marked(maps: np.ndarray, share: float) -> np.ndarray:
    """Return where each map is highest, bool, the same number of pixels in all of them.

    Parameters
    ----------
    maps : array, shape (scenes, bins, frames).
    share : float in (0, 1), of the pixels.
    """
    flat = maps.reshape(len(maps), -1)
    n = max(1, round(share * flat.shape[1]))
    top = np.argsort(-flat, axis=1, kind="stable")[:, :n]
    found = np.zeros(flat.shape, bool)
    np.put_along_axis(found, top, True, axis=1)
    return found.reshape(maps.shape)


def elsewhere(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move each mask by a random distance in frequency and time, around the edges.

    The moved mask hides as many pixels in patches of the same shapes: random pixels would be
    scattered, and harm a network that reads patches in another way.
    """
    bins, frames = masks.shape[1:]
    moved = [
        np.roll(mask, (rng.integers(bins // 4, bins - bins // 4), rng.integers(frames)), (0, 1))
        for mask in masks
    ]
    return np.stack(moved)


def hide(spectrograms: torch.Tensor, masks: np.ndarray, fill: str = "flat") -> torch.Tensor:
    """Return the spectrograms with the masked places hidden in both ears alike.

    Parameters
    ----------
    spectrograms : tensor, shape (scenes, 2, bins, frames), standardised.
    masks : bool array, shape (scenes, bins, frames).
    fill : "flat" puts the mean level, 0, there; "both ears" the mean of the two ears, which takes
        the difference between them away and leaves the sound.
    """
    if fill not in FILLS:
        raise ValueError(f"hide: fill={fill!r}, expected one of {', '.join(FILLS)}.")
    inside = torch.from_numpy(masks)[:, None].to(spectrograms.device)
    mean = spectrograms.mean(dim=1, keepdim=True)
    return torch.where(inside, 0.0 * mean if fill == "flat" else mean, spectrograms)


@torch.no_grad()
def masking_table(
    model: BAST,
    spectrograms: torch.Tensor,
    scenes: pd.DataFrame,
    maps: dict[str, np.ndarray],
    share: float = 0.2,
    fill: str = "flat",
    n_shifts: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Return angular errors after places were hidden: marked ones, unmarked ones, moved masks.

    Parameters
    ----------
    model : BAST
    spectrograms : tensor, shape (scenes, 2, bins, frames).
    scenes : DataFrame, with azimuth_deg and src_file of each.
    maps : name to array, shape (scenes, bins, frames): what is to be tested, and its rivals.
    share : float, of the pixels hidden.
    fill : see :func:`hide`.
    n_shifts : int, random places that every mask is moved to; their errors are averaged.
    seed : int

    Returns
    -------
    DataFrame, index "nothing" and then the maps: error_deg, low, high (marked places hidden),
    moved_deg (masks moved), lowest_deg (as many of the least marked hidden), gain_deg, gain_low,
    gain_high: how much more the marked places cost than moved ones; a true map gains more than 0.
    Intervals are 95 %, over source recordings.
    """
    draws = source_draws(scenes.src_file.to_numpy(), 1000, seed)
    true = scenes.azimuth_deg.to_numpy(float)

    def errors(masks: np.ndarray | None) -> np.ndarray:
        seen = spectrograms if masks is None else hide(spectrograms, masks, fill)
        return angular_error_deg(azimuth_of(_points(model, seen)), true)

    whole = errors(None)
    rows = {"nothing": dict(zip(ERROR, mean_interval(whole, draws)))}
    for name, values in maps.items():
        rng = np.random.default_rng(seed)
        masks = marked(values, share)
        hidden = errors(masks)
        moved = np.mean([errors(elsewhere(masks, rng)) for _ in range(n_shifts)], axis=0)
        rows[name] = {
            **dict(zip(ERROR, mean_interval(hidden, draws))),
            "moved_deg": moved.mean(),
            "lowest_deg": errors(marked(-values, share)).mean(),
            **dict(zip(GAIN, mean_interval(hidden - moved, draws))),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _points(model: BAST, spectrograms: torch.Tensor, batch_size: int = 64) -> np.ndarray:
    model.eval()
    device = next(model.parameters()).device
    parts = [model(batch.to(device)).float().cpu() for batch in spectrograms.split(batch_size)]
    return torch.cat(parts).numpy()
