"""Where the heads of a spectrogram transformer look: in seconds, octaves, mel bands and nats."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import torch

from esc_lib.companions.transformer.network import (
    N_SPECIAL,
    SpectrogramAST,
    grid_size,
    input_values_of,
)
from esc_lib.config import FrontEnd
from esc_lib.evaluation.intervals import mean_interval, source_draws
from esc_lib.sound.log_mel import mel_frequencies_hz

MEASURES = ("time_s", "octaves", "mel_bands", "entropy_nat")
CLEAR = 0.05  # a change by less than this share of its scale is none


@dataclass(frozen=True)
class PatchGrid:
    """Where the patches of a spectrogram lie.

    Patches are counted from the lowest bands upwards, all of one row of bands first; token
    ``2 + patch`` is patch ``patch``.
    """

    rows: int  # patches along mel
    columns: int  # patches along the frames
    size: int  # of a patch, in bands and frames
    step: int  # to the next one
    settings: FrontEnd  # for Hz and s

    @classmethod
    def of(cls, network: SpectrogramAST, settings: FrontEnd, n_frames: int) -> Self:
        """Return the grid of a network on spectrograms of `n_frames`.

        ValueError if the network steps differently along frequency and time.
        """
        config = network.config
        if config.frequency_stride != config.time_stride:
            raise ValueError(
                f"PatchGrid.of: steps of {config.frequency_stride} bands and {config.time_stride} "
                "frames differ; give a network with one step."
            )
        rows, columns = grid_size(config, settings.n_mels, n_frames)
        return cls(rows, columns, config.patch_size, config.time_stride, settings)

    def __len__(self) -> int:
        return self.rows * self.columns

    def patch(self, row: int, column: int) -> int:
        """Return the number of the patch in a row and a column; ValueError outside the grid."""
        if not (0 <= row < self.rows and 0 <= column < self.columns):
            raise ValueError(
                f"PatchGrid.patch: row {row}, column {column} lie outside {self.rows} rows and "
                f"{self.columns} columns."
            )
        return row * self.columns + column

    def corner(self, patch: int) -> tuple[int, int]:
        """Return the lowest band and the first frame of a patch."""
        row, column = divmod(int(patch), self.columns)
        return row * self.step, column * self.step

    def centres(self) -> pd.DataFrame:
        """Return where the middles lie, a row per patch: band, hz, time_s.

        Bands and frames span from their number to the next, as on the axes of the figures: the
        middle of a patch of 16 bands from band 0 lies at band 8.
        """
        corners = np.array([self.corner(patch) for patch in range(len(self))])
        band, frame = (corners + self.size / 2).T
        centres_hz = mel_frequencies_hz(self.settings).numpy()
        hz = np.interp(band, np.arange(len(centres_hz)) + 0.5, centres_hz)
        return pd.DataFrame({"band": band, "hz": hz, "time_s": frame * self.settings.frame_s})

    def distances(self) -> dict[str, torch.Tensor]:
        """Return how far the middles of any two patches lie apart, each (patches, patches).

        Keys are the first three of :data:`MEASURES`: seconds, octaves, mel bands.
        """
        centres = self.centres()
        axes = (centres.time_s, np.log2(centres.hz), centres.band)
        places = [torch.tensor(axis.to_numpy()) for axis in axes]
        return {name: (p[:, None] - p[None]).abs() for name, p in zip(MEASURES[:3], places)}


def loudest_patches(log_mel: torch.Tensor, grid: PatchGrid, n: int) -> list[int]:
    """Return patches worth asking about: the loudest of each of `n` ranges of frequency, upwards.

    ValueError if the grid has fewer than `n` rows.
    """
    if not 1 <= n <= grid.rows:
        raise ValueError(f"loudest_patches: n={n}; give a number from 1 to {grid.rows} rows.")
    cut = log_mel.unfold(0, grid.size, grid.step).unfold(1, grid.size, grid.step)
    levels = cut.mean(dim=(2, 3)).flatten()  # (rows * columns,)
    ranges = np.array_split(np.arange(len(grid)).reshape(grid.rows, -1), n)
    return [int(patches.flat[levels[patches.ravel()].argmax()]) for patches in ranges]


# ------------------------------------------------------------------------------------- measures


@torch.no_grad()
def attentions(network: SpectrogramAST, features: torch.Tensor) -> torch.Tensor:
    """Return the attention of every layer and head, without dropout, on the CPU.

    It maps (batch, 1, mel, frames) to (layers, batch, heads, tokens, tokens), whose last axis sums
    to 1. Row is the token that asks, column the one it looks at; the first two are class and
    distillation token. A clip of 500 patches takes 64 MB with 8 layers of 8 heads: give a few at a
    time. The network's mode and its way to compute attention are restored.
    """
    was_training, usual = network.training, network.config._attn_implementation
    network.eval()
    network.network.set_attn_implementation("eager")  # the fast ways do not hand out weights
    try:
        device = next(network.parameters()).device
        found = network.encoder(input_values_of(features).to(device), output_attentions=True)
    finally:
        network.network.set_attn_implementation(usual)
        network.train(was_training)
    return torch.stack([layer.float().cpu() for layer in found.attentions])


def between_patches(attention: torch.Tensor) -> torch.Tensor:
    """Leave class and distillation token out of (..., tokens, tokens); rows sum to 1 again.

    A row that looked at the two tokens only is 0.
    """
    among = attention[..., N_SPECIAL:, N_SPECIAL:]
    return among / among.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(among.dtype).tiny)


def mean_distance(among: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    """Return how far a head looks, sum_k A[q, k] d[q, k], as a mean over the patches q that ask.

    Rows of (..., patches, patches) sum to 1; the unit is that of the distances, (patches, patches).
    As in dosovitskiy2021vit, appendix D.7.
    """
    return (among * distances.to(among)).sum(dim=-1).mean(dim=-1)


def measure(attention: torch.Tensor, grid: PatchGrid) -> pd.DataFrame:
    """Measure how far and how widely every head looks, by the outcome of :func:`attentions`.

    It returns a row per layer, clip and head, all counted from 1 but clips from 0: layer, clip,
    head, and :data:`MEASURES`, means over the patches that ask. An entropy of 0 looks at one patch
    only, the logarithm of the number of patches at all alike. ValueError if the grid has another
    number of patches.
    """
    if attention.shape[-1] != N_SPECIAL + len(grid):
        raise ValueError(
            f"measure: attention among {attention.shape[-1] - N_SPECIAL} patches, but the grid has "
            f"{len(grid)}; make it for the same number of frames."
        )
    among = between_patches(attention)
    values = {name: mean_distance(among, d) for name, d in grid.distances().items()}
    values["entropy_nat"] = torch.special.entr(among).sum(dim=-1).mean(dim=-1)
    layer, clip, head = np.indices(attention.shape[:3]).reshape(3, -1)
    places = {"layer": layer + 1, "clip": clip, "head": head + 1}
    return pd.DataFrame(places | {name: v.flatten().numpy() for name, v in values.items()})


def measure_clips(
    network: SpectrogramAST, features: torch.Tensor, settings: FrontEnd, batch: int = 4
) -> pd.DataFrame:
    """Return :func:`measure`'s table of many clips, (clips, 1, mel, frames), a few at a time."""
    grid = PatchGrid.of(network, settings, features.shape[3])
    tables = [measure(attentions(network, part), grid) for part in features.split(batch)]
    shifted = [t.assign(clip=t["clip"] + batch * place) for place, t in enumerate(tables)]
    return pd.concat(shifted, ignore_index=True)


def per_head(measured: pd.DataFrame) -> pd.DataFrame:
    """Average :func:`measure`'s table over clips: a row per layer and head."""
    return measured.groupby(["layer", "head"], as_index=False)[list(MEASURES)].mean()


def uniform(grid: PatchGrid) -> dict[str, float]:
    """Return :data:`MEASURES` of a head that looks at all patches alike."""
    among = torch.full((len(grid), len(grid)), 1 / len(grid), dtype=torch.double)
    values = {name: float(mean_distance(among, d)) for name, d in grid.distances().items()}
    return values | {"entropy_nat": float(np.log(len(grid)))}


# ----------------------------------------------------------------------- from layer to layer


def depth(measured: pd.DataFrame, layers: tuple[int, ...] = (1, 4, 8)) -> pd.DataFrame:
    """Say how attention changes from the first to the last of some layers, counted from 1.

    `measured` is as from ``Study.look``, of any number of folds (column fold). The index is
    (network, measure), columns are the mean over heads and clips at each layer ("l = 1"), and
    change, low, high: last minus first, with the 95 % interval over source recordings.
    """
    rows = {}
    for network, table in measured.groupby("network", sort=False):
        means = table.pivot_table(  # over heads
            index=["fold", "clip", "src_file"], columns="layer", values=list(MEASURES)
        ).astype(float)
        draws = source_draws(means.index.get_level_values("src_file").to_numpy())
        for name in MEASURES:
            at = means[name]
            change = mean_interval((at[layers[-1]] - at[layers[0]]).to_numpy(), draws)
            row = {f"l = {layer}": at[layer].mean() for layer in layers}
            rows[network, name] = row | dict(zip(("change", "low", "high"), change))
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["network", "measure"])


def in_words(change: float, low: float, high: float, scale: float) -> str:
    """Say what a change is: it "grows", "shrinks" or "hardly changes".

    `scale` is what counts as large: the measure of a head that looks at all patches alike. A change
    below :data:`CLEAR` of it is small, however narrow its interval.
    """
    if low <= 0 <= high or abs(change) < CLEAR * scale:
        return "hardly changes"
    return "grows" if change > 0 else "shrinks"
