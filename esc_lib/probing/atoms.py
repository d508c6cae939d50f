"""Does an atom mean its channel? Take out of a sound what an atom claims; does its channel fall?

The points of the spectrogram are ranked by M_k, atom k's share of W H; those first in rank that
hold a tenth of the clip's energy, at most a tenth of all points, are taken out of the sound, which
goes through the network again. Channel k should then fall further than the others do. A basis'
units may take the channels' place.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.stats import percentileofscore
from torch import nn

from esc_lib.data.clips import Data
from esc_lib.dictionaries.fitting import LayerFits
from esc_lib.explain.conditions import BATCH
from esc_lib.explain.masks import cut_out, share, stretch
from esc_lib.layers.hooks import record, reduce_frequency
from esc_lib.machine.hardware import autocast
from esc_lib.probing.bases import Basis
from esc_lib.sound.log_mel import LogMel

ENERGY = 0.1  # of the clip, taken out
# ... or as many of its points, if these hold less: for its energy an atom in quiet bands would take
# out most of the clip, and with it every channel, as the glass box shows
AREA = 0.1
ACTIVE = 0.01  # of its mean over training clips: a unit below that is silent in a clip


@dataclass(frozen=True)
class Claims:
    """Dictionaries over the codes of a layer, and from when on a unit counts as active."""

    dictionaries: Mapping[str, torch.Tensor]  # name to (mel, units)
    scale: torch.Tensor  # (units,), that of the fits
    usual: torch.Tensor  # (units,), mean code over training clips

    @classmethod
    def of(cls, fits: LayerFits, codes: torch.Tensor):
        """Return the dictionaries that were fitted to codes of training clips."""
        found = {name: w.float() for name, w in fits.dictionaries().items()}
        return cls(found, fits.scale.float(), codes.mean(dim=(0, 2)))


@dataclass(frozen=True)
class Listener:
    """A layer that listens: what its units, in some basis, make of sounds."""

    model: nn.Module  # in evaluation mode, on the device of the front end
    front_end: LogMel
    layer: str
    basis: Basis

    @torch.no_grad()
    def codes(self, waveforms: torch.Tensor, n_valid: torch.Tensor) -> torch.Tensor:
        """Return codes, (clips, units, frames), of sounds, (clips, samples)."""
        features = self.front_end.features(waveforms, n_valid)
        with record(self.model, [self.layer]) as maps, autocast(features.device):
            self.model(features)
        return self.basis.codes(reduce_frequency(maps[self.layer].float()).cpu())


def first_in_rank(share: torch.Tensor, power: torch.Tensor, area: float = AREA) -> torch.Tensor:
    """Return the points of largest share that hold `ENERGY` of the clip's, at most `area` of all.

    Shares are (units, mel, frames), power is (mel, frames), the result is bool, with the shape of
    the shares; the point that reaches the energy goes, too.
    """
    order = share.flatten(1).argsort(dim=1, descending=True, stable=True)
    held = power.flatten()[order].cumsum(dim=1)
    before = held - power.flatten()[order]
    chosen = before < ENERGY * power.sum()
    chosen[:, int(area * power.numel()) :] = False
    return torch.zeros_like(chosen).scatter(1, order, chosen).reshape(share.shape)


def percentile(falls: np.ndarray, unit: int) -> float:
    """Return where a unit's fall lies among all others, in [0, 1]; ties count half."""
    others = np.delete(falls, unit)
    return percentileofscore(others, falls[unit], "mean") / 100


def do_atoms_mean_units(
    listener: Listener, claims: Claims, data: Data, rows: np.ndarray, units: int,
    area: float = AREA,
) -> pd.DataFrame:  # fmt: skip
    """Return how far units fall when what their atoms claim is taken out, by dictionary and clip.

    Returns
    -------
    DataFrame, a row per dictionary and clip of `rows`: units, how many were asked, at most `units`
        drawn of those that are active and have an atom; own, the mean percentile of their fall
        among the active ones, 1 if each falls furthest; dealt, the same with the columns of W dealt
        among units: the time at which a channel is loud says something by itself. A clip with fewer
        than two such units is left out.
    """
    device, found = next(listener.model.parameters()).device, []
    generator = torch.Generator().manual_seed(0)
    for row in rows:
        waveform, n_valid = data.batch([row], device)
        codes = listener.codes(waveform, n_valid)[0]  # (units, frames)
        power = listener.front_end.mel_power(waveform)[0].cpu()
        active = codes.mean(dim=1) > ACTIVE * claims.usual
        for name, w in claims.dictionaries.items():
            able = torch.nonzero(active & (w.amax(dim=0) > 0))[:, 0]
            asked = able[torch.randperm(len(able), generator=generator)[:units]]
            if len(asked) < 2:
                continue
            dealt = w.clone()
            dealt[:, able] = w[:, able[torch.randperm(len(able), generator=generator)]]
            result = {"dictionary": name, "row": row, "units": len(asked)}
            for kind, dictionary in (("own", w), ("dealt", dealt)):
                claimed = _shares(dictionary, codes * claims.scale[:, None], asked, power.shape[1])
                gone = first_in_rank(claimed, power, area)
                falls = _falls(listener, waveform, n_valid, gone, codes.mean(dim=1))
                result[kind] = np.mean([
                    percentile(fall[active].numpy(), int(active[:unit].sum()))
                    for unit, fall in zip(asked.tolist(), falls, strict=True)
                ])  # fmt: skip
            found.append(result)
    return pd.DataFrame(found)


def _shares(
    w: torch.Tensor, h: torch.Tensor, units: torch.Tensor, n_frames: int
) -> torch.Tensor:
    """Return M_k of some units in a clip, (units, mel, n_frames); H is (units, frames)."""
    keep = nn.functional.one_hot(units, len(h)).float()[:, :, None]
    return stretch(share(w, h.expand(len(units), -1, -1), keep), n_frames)


def _falls(
    listener: Listener, waveform: torch.Tensor, n_valid: torch.Tensor, gone: torch.Tensor,
    before: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """Return each unit's relative fall, (sounds, units), when points are taken out of a clip.

    Points are bool, (sounds, mel, frames); `before` is the mean code, (units,), of the clip.
    """
    after = []
    for some in gone.to(waveform.device).split(BATCH):  # as many masks of one sound as fit
        sounds = cut_out(listener.front_end, waveform, 1 - some.float())
        codes = listener.codes(sounds, n_valid.expand(len(some)))
        after.append(codes.mean(dim=2))
    return 1 - torch.cat(after) / before.clamp_min(1e-12)
