"""Anybody's classifier, asked about sounds that are filtered on a grid of bands and frames.

A model is any function of waves, (batch, samples), that returns one number per class. Where it lets
gradients through it is asked for them, where not it is only listened to.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from esc_lib.explain.relevance import log_odds as of_logits
from esc_lib.explain.relevance import of_target
from esc_lib.explain.second_judges import CLIP
from esc_lib.sound.grid import Grid

OUTPUTS = ("logits", "probabilities", "independent")
RANGE_DB = 80.0  # silence is this far below a sound's loudest point
STEPS = 10  # of a path of gradients
SILENT = 10 ** (-RANGE_DB / 20)


@dataclass
class Asked:
    """A model and how it is asked: what its numbers are, and in which bands and frames."""

    model: Callable[[torch.Tensor], torch.Tensor]
    grid: Grid
    output: str = "logits"  # of `OUTPUTS`
    batch_size: int = 8

    @property
    def device(self) -> torch.device:
        """Where the model is, or the processor."""
        parameters = self.model.parameters() if isinstance(self.model, nn.Module) else ()
        return next((each.device for each in parameters), torch.device("cpu"))

    def __call__(self, waves: torch.Tensor) -> torch.Tensor:
        """Return what the model says, float32 (batch, classes), and check that it is as announced.

        Raises
        ------
        ValueError
            If it is no such table, not finite, or not what `output` says.
        """
        with _in_evaluation(self.model):
            out = self.model(waves)
        out = torch.from_numpy(out) if isinstance(out, np.ndarray) else out
        if not torch.is_tensor(out) or out.shape[:-1] != waves.shape[:1] or out.shape[-1] < 2:
            seen = tuple(out.shape) if torch.is_tensor(out) else type(out).__name__
            raise ValueError(
                f"the model returned {seen} for {len(waves)} sounds; a float tensor "
                "(batch, classes) of at least two classes is needed: wrap it in a function."
            )
        out = out.float()
        values = out.detach()
        if not values.isfinite().all():
            raise ValueError(
                "the model returned values that are not finite; it has to bear silence, too."
            )
        shares = bool((values >= 0).all() and (values <= 1 + 1e-4).all())
        whole = shares and bool(((values.sum(dim=1) - 1).abs() < 1e-3).all())
        if self.output == "logits" and whole:
            raise ValueError(
                "the model returned rows between 0 and 1 that sum to 1; say output='probabilities'."
            )
        if self.output == "probabilities" and not whole:
            raise ValueError(
                "output='probabilities', but rows do not lie between 0 and 1 and sum to 1; say "
                "output='logits', or 'independent' for one probability per class."
            )
        if self.output == "independent" and not shares:
            raise ValueError("output='independent', but values do not lie between 0 and 1.")
        return out

    def log_odds(self, out: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the log-odds of each sound's class, (batch,), of what the model says."""
        if self.output == "logits":
            return of_logits(out, targets)
        return of_target(out, targets).clamp(CLIP, 1 - CLIP).logit()

    def probabilities(self, out: torch.Tensor) -> torch.Tensor:
        """Return probabilities, (batch, classes), of what the model says."""
        return out.softmax(dim=1) if self.output == "logits" else out

    @torch.no_grad()
    def listen(self, waves: torch.Tensor) -> torch.Tensor:
        """Return what the model says of any number of sounds, (sounds, classes)."""
        return torch.cat([self(some) for some in waves.split(self.batch_size)])

    def slope(self, waves: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the log-odds by the logarithm of a mask, (batch, bands, frames).

        Raises
        ------
        ValueError
            If no gradient comes back from the model.
        """
        mask = mask.detach().requires_grad_()
        with torch.enable_grad():
            out = self(self.grid.apply(waves, mask))
            if not out.requires_grad:
                raise ValueError(
                    "the model lets no gradient through; choose method='occlusion', which only "
                    "listens."
                )
            (found,) = torch.autograd.grad(self.log_odds(out, targets).sum(), mask)
        return found * mask.detach()

    def lets_gradients_through(self, wave: torch.Tensor) -> bool:
        """Say whether a sound's gradient can be had, (1, samples)."""
        with torch.enable_grad():
            try:
                out = self(wave.detach().clone().requires_grad_())
            except RuntimeError:  # as of a numpy array that would need a gradient
                return False
        return out.requires_grad


@contextmanager
def _in_evaluation(model) -> Iterator[None]:
    """Have a module's dropout and batch normalisation at rest, and leave it as it was."""
    moving = [m for m in model.modules() if m.training] if isinstance(model, nn.Module) else []
    for module in moving:
        module.training = False
    try:
        yield
    finally:
        for module in moving:
            module.training = True


# ---------------------------------------------------------------- relevance, (batch, bands, frames)


def gradient(asked: Asked, waves: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return by how much the log-odds rise as a band and frame gets louder, per neper (8.7 dB)."""
    return asked.slope(waves, targets, _ones(asked, waves))


def integrated_gradients(asked: Asked, waves: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return what each band and frame adds on the way from silence to the sound.

    The way goes in decibels: all points rise from `RANGE_DB` below the loudest one to their level.
    Their sum is the difference of the log-odds at both ends, up to the steps, which are placed and
    weighted after Gauss and Legendre.

    References
    ----------
    sundararajan2017axiomatic, of the gains of bands and frames.
    """
    level = asked.grid.magnitude(waves)
    level = level / level.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    above = (level.clamp_min(SILENT) / SILENT).log()  # nepers
    rule = np.polynomial.legendre.leggauss(STEPS)
    places, weights = (torch.from_numpy(each).to(above) / 2 for each in rule)
    at_once, total = max(1, asked.batch_size // len(waves)), 0
    for place, weight in zip(places.split(at_once), weights.split(at_once), strict=True):
        masks = torch.exp((place - 0.5)[:, None, None, None] * above).flatten(0, 1)
        n = len(place)
        slopes = asked.slope(waves.repeat(n, 1), targets.repeat(n), masks)
        total = total + torch.einsum("n,n...->...", weight, slopes.unflatten(0, (n, -1)))
    return total * above


def occlusion(
    asked: Asked, waves: torch.Tensor, targets: torch.Tensor, budget_s: float = 60.0,
    cells: int = 0,
) -> torch.Tensor:
    """Return by how much the log-odds fall while one cell of bands and frames is silent.

    There are at most so many `cells` in a sound, which gives the same map every time; 0: as many as
    `budget_s` seconds allow for all sounds together. A cell is at least a band and 0.1 s; nothing
    but the model's answers is needed.

    References
    ----------
    zeiler2014visualizing
    """
    grid, (bands, frames) = asked.grid, asked.grid.shape(waves.shape[1])
    started = time.perf_counter()
    usual = asked.log_odds(asked.listen(waves), targets)
    # filtering costs as well; it is counted as once more
    a_sound = 2 * (time.perf_counter() - started) / len(waves)
    most = cells or max(16, int(budget_s / max(a_sound * len(waves), 1e-6)))
    high, wide = _cells(bands, frames, max(1, round(0.1 * grid.sr / grid.hop_length)), most)
    places = [(b, t) for b in range(0, bands, high) for t in range(0, frames, wide)]
    found = torch.zeros(len(waves), bands, frames, device=waves.device)
    bar = tqdm(total=len(places) * len(waves), desc="occlusion", unit="sound", leave=False)
    with torch.no_grad(), bar:
        for clip, (wave, target, before) in enumerate(zip(waves, targets, usual, strict=True)):
            for first in range(0, len(places), asked.batch_size):
                some = places[first : first + asked.batch_size]
                mask = waves.new_ones(len(some), bands, frames)
                for one, (b, t) in zip(mask, some, strict=True):
                    one[b : b + high, t : t + wide] = 0
                sounds = grid.apply(wave.expand(len(some), -1), mask)
                after = asked.log_odds(asked(sounds), target.expand(len(some)))
                for fall, (b, t) in zip(before - after, some, strict=True):
                    found[clip, b : b + high, t : t + wide] = fall
                bar.update(len(some))
    return found


def _cells(bands: int, frames: int, narrow: int, most: int) -> tuple[int, int]:
    """Return bands and frames of a cell, so that there are at most so many cells."""
    high, wide = 1, narrow
    while math.ceil(bands / high) * math.ceil(frames / wide) > most:
        if bands / high > frames / wide:
            high *= 2
        else:
            wide *= 2
    return high, wide


def _ones(asked: Asked, waves: torch.Tensor) -> torch.Tensor:
    return waves.new_ones(len(waves), *asked.grid.shape(waves.shape[1]))
