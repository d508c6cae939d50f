"""A dictionary over a hidden layer of anybody's model, and what its atoms say to a decision."""

from dataclasses import dataclass

import torch
from torch import nn

from esc_lib.dictionaries.solvers import solve_exact
from esc_lib.dictionaries.statistics import Statistics, atom_scale, relative_error
from esc_lib.explain.asked import Asked
from esc_lib.explain.components import Components
from esc_lib.explain.relevance import to_one_level
from esc_lib.layers.hooks import record

LAYOUTS = ("b c f t", "b c t f", "b c t", "b t c")  # batch, channels, frequency, time


@dataclass(frozen=True)
class LayerDictionary(Components):
    """V is about W H: spectra W for the channels H of a layer, averaged over frequency.

    A channel that is negative at times stands for two atoms, its positive and its negative part.
    The layer's frames divide the sound evenly, however many they are.
    """

    layout: str
    signed: bool  # whether channels were split
    error: float  # ||V - W H|| / ||V|| on the sounds that it was fitted to

    @staticmethod
    def summed(bands: torch.Tensor, n_frames: int) -> torch.Tensor:
        """Sum (batch, bands, frames) over what each of a layer's frames stands for."""
        return bands.shape[-1] / n_frames * nn.functional.adaptive_avg_pool1d(bands, n_frames)

    @staticmethod
    def stretched(values: torch.Tensor, n_frames: int) -> torch.Tensor:
        """Interpolate a layer's frames to the grid's, linear between centres."""
        return nn.functional.interpolate(values, n_frames, mode="linear", align_corners=False)

    def spread(self, h: torch.Tensor, relevance: torch.Tensor, n_frames: int) -> torch.Tensor:
        """Return the atoms' relevance where their spectra are, (batch, bands, n_frames)."""
        level = self.level(h)
        by_band = self.w @ (level * relevance) / (self.w @ level + 1e-12)
        return self.stretched(by_band, n_frames)


def fit(asked: Asked, waves: torch.Tensor, layer: str, layout: str) -> LayerDictionary:
    """Fit the best non-negative W to sounds, (batch, samples), with H read off a layer.

    Raises
    ------
    ValueError
        If the model is no module, has no such layer, or the layer's output is not laid out so.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"fit: layout={layout!r}; choose one of {', '.join(LAYOUTS)}.")
    read = [_read(asked, some, layer, layout) for some in waves.split(asked.batch_size)]
    signed = any(bool((h < 0).any()) for h in read)
    total = None
    for some, h in zip(waves.split(asked.batch_size), read, strict=True):
        h = _parts(h, signed)
        v = nn.functional.adaptive_avg_pool1d(_magnitude(asked, some), h.shape[2])
        statistics = Statistics.of(v, h)
        total = statistics if total is None else total + statistics
    scale = atom_scale(total)
    scaled = total.scaled(scale)
    w = solve_exact(scaled)
    error = relative_error(w, scaled)
    w, scale = (each.float().to(asked.device) for each in (w, scale))
    return LayerDictionary(layer, w, scale, layout, signed, error)


def explain(
    asked: Asked, waves: torch.Tensor, targets: torch.Tensor, slope: torch.Tensor,
    dictionary: LayerDictionary,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Return H and how much each atom speaks for the class, both (batch, atoms, layer's frames).

    What the sound says, the slope shared out among atoms as they share in W H, and what the layer
    says, gradient times activation, each on one level.

    Parameters
    ----------
    slope : of the log-odds by the logarithm of a gain, (batch, bands, frames).
    """
    layer = dictionary.layer
    with record(asked.model, [layer], keep_graph=True) as maps, torch.enable_grad():
        odds = asked.log_odds(asked(waves.clone().requires_grad_()), targets).sum()
    (gradient,) = torch.autograd.grad(odds, maps[layer])
    channels = _arranged(maps[layer].detach(), layer, dictionary.layout, len(waves))
    change = _arranged(gradient * maps[layer].detach(), layer, dictionary.layout, len(waves))
    h = _parts(channels, dictionary.signed)
    change = change.sum(dim=2)
    if dictionary.signed:  # the change belongs to the part that is active
        positive = channels.mean(dim=2) > 0
        change = torch.cat([change * positive, change * ~positive], dim=1)
    return h, to_one_level(dictionary.relevance(slope, h)) + to_one_level(change)


def _magnitude(asked: Asked, waves: torch.Tensor) -> torch.Tensor:
    found = asked.grid.magnitude(waves)
    return found / found.amax(dim=(1, 2), keepdim=True).clamp_min(1e-10)


def _read(asked: Asked, waves: torch.Tensor, layer: str, layout: str) -> torch.Tensor:
    """Return a layer's channels, (batch, channels, frames)."""
    if not isinstance(asked.model, nn.Module):
        raise ValueError(
            f"fit: a {type(asked.model).__name__} has no layers; give the torch module itself."
        )
    with record(asked.model, [layer]) as maps, torch.no_grad():
        asked(waves)
    return _arranged(maps.get(layer), layer, layout, len(waves)).mean(dim=2)


def _arranged(output, layer: str, layout: str, n: int) -> torch.Tensor:
    """Return a layer's output as (batch, channels, frequency, time), one frequency if it has none.

    Raises
    ------
    ValueError
        If it is not laid out so, saying what was seen.
    """
    names = layout.split()
    fits = torch.is_tensor(output) and output.ndim == len(names) and len(output) == n
    if not fits:
        seen = tuple(output.shape) if torch.is_tensor(output) else type(output).__name__
        raise ValueError(
            f"layer {layer!r} gives {seen} for {n} sounds, not {layout!r}; name one of "
            f"{', '.join(LAYOUTS)} that it has, or another layer."
        )
    if "f" not in names:
        output, names = output.unsqueeze(-1), [*names, "f"]
    found = output.permute(*(names.index(axis) for axis in "bcft")).float()
    if found.shape[3] < 2:
        raise ValueError(
            f"layer {layer!r} gives {tuple(output.shape)}: one frame is no course in time; choose "
            "an earlier layer."
        )
    return found


def _parts(h: torch.Tensor, signed: bool) -> torch.Tensor:
    """Return non-negative rows of H, (batch, atoms, frames) of (batch, channels[, 1], frames)."""
    h = h.mean(dim=2) if h.ndim == 4 else h
    return torch.cat([h.clamp_min(0), (-h).clamp_min(0)], dim=1) if signed else h
