"""Is a map true? Hide what it marks, and see whether the network loses its way."""

import numpy as np
import pandas as pd
import torch

from esc_lib.companions.binaural.judging import N_DRAWS, angular_error_deg, azimuth_of
from esc_lib.companions.binaural.network import BAST, estimate
from esc_lib.evaluation.intervals import mean_interval, source_draws

FILLS = ("flat", "both ears")
N_SHIFTS = 5  # random places that a mask is moved to; their errors are averaged
ERROR, GAIN = ("error_deg", "low", "high"), ("gain_deg", "gain_low", "gain_high")


def marked(maps: np.ndarray, share: float) -> np.ndarray:
    """Return where each map of (scenes, bins, frames) is highest: a `share` of the pixels, bool."""
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
    """Return standardised spectrograms with the masked places hidden in both ears alike.

    "flat" puts the mean level, 0, there; "both ears" the mean of the two ears, which takes the
    difference between them away and leaves the sound.
    """
    if fill not in FILLS:
        raise ValueError(f"hide: fill={fill!r}, expected one of {', '.join(FILLS)}.")
    inside = torch.from_numpy(masks)[:, None].to(spectrograms.device)
    mean = spectrograms.mean(dim=1, keepdim=True)
    return torch.where(inside, 0.0 * mean if fill == "flat" else mean, spectrograms)


def masking_table(
    model: BAST,
    spectrograms: torch.Tensor,
    scenes: pd.DataFrame,
    maps: dict[str, np.ndarray],
    share: float,
    fill: str = "flat",
) -> pd.DataFrame:
    """Return angular errors after places were hidden: marked ones, unmarked ones, moved masks.

    Of (scenes, 2, bins, frames), `share` in (0, 1) is hidden as :func:`hide` does; `scenes` have
    azimuth_deg and src_file. `maps`, (scenes, bins, frames), are what is tested, and its rivals.

    Returns
    -------
    DataFrame, index "nothing" and then the maps: error_deg, low, high (marked places hidden),
    moved_deg (masks moved), lowest_deg (as many of the least marked hidden), gain_deg, gain_low,
    gain_high: how much more the marked places cost than moved ones; a true map gains more than 0.
    Intervals are 95 %, over source recordings.
    """
    draws = source_draws(scenes.src_file.to_numpy(), N_DRAWS)
    true = scenes.azimuth_deg.to_numpy(float)

    def without(masks: np.ndarray) -> np.ndarray:
        seen = hide(spectrograms, masks, fill).split(64)
        return angular_error_deg(azimuth_of(estimate(model, seen).numpy()), true)

    whole = without(np.zeros((1, 1, 1), bool))
    rows = {"nothing": dict(zip(ERROR, mean_interval(whole, draws)))}
    for name, values in maps.items():
        rng = np.random.default_rng(0)
        masks = marked(values, share)
        hidden = without(masks)
        moved = np.mean([without(elsewhere(masks, rng)) for _ in range(N_SHIFTS)], axis=0)
        rows[name] = {
            **dict(zip(ERROR, mean_interval(hidden, draws))),
            "moved_deg": moved.mean(),
            "lowest_deg": without(marked(-values, share)).mean(),
            **dict(zip(GAIN, mean_interval(hidden - moved, draws))),
        }
    return pd.DataFrame.from_dict(rows, orient="index")
