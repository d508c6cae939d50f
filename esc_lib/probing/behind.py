"""What lies behind a layer, run alone: what the network says when units of the layer are silent.

A unit is silenced behind its gate: the maps that the gate passes on are scaled, channel by channel
and frame by frame, to what is left of H without the unit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import nn

from esc_lib.data.clips import Data
from esc_lib.explain.conditions import BATCH
from esc_lib.explain.relevance import log_odds
from esc_lib.layers.gates import BEFORE, resume
from esc_lib.layers.hooks import record, reduce_frequency
from esc_lib.models.se_cnn import SECNN
from esc_lib.probing.bases import Basis, Channels
from esc_lib.sound.log_mel import LogMel

AT_ONCE = 64  # maps behind the layer: they are small


@dataclass(frozen=True)
class Behind:
    """Some clips as a layer passes them on, in float32: small effects are differences."""

    model: SECNN  # in evaluation mode
    basis: Basis
    following: str  # the layer that reads the maps
    h: torch.Tensor  # (clips, channels, frames)
    maps: torch.Tensor  # (clips, channels, mel, frames), behind the gate

    @classmethod
    @torch.no_grad()
    def of(
        cls, model: SECNN, front_end: LogMel, data: Data, rows: np.ndarray, layer: str
    ) -> Self:
        """Run clips up to a layer and its gate; units are its channels, until asked for others."""
        device, h, maps = next(model.parameters()).device, [], []
        gate = next((gate for gate, block in BEFORE.items() if block == layer), layer)
        names = [name for name, _ in model.named_children()]
        model.eval()
        with record(model, [layer, gate]) as found:
            for some in np.array_split(rows, -(-len(rows) // BATCH)):
                model(front_end.features(*data.batch(some, device)))
                h.append(reduce_frequency(found[layer]).cpu())
                maps.append(found[gate].clone())
        following = names[names.index(gate) + 1]
        return cls(model, Channels(), following, torch.cat(h), torch.cat(maps))

    def within(self, basis: Basis) -> Self:
        """Return the same clips with the units of another basis."""
        return replace(self, basis=basis)

    @cached_property
    def codes(self) -> torch.Tensor:
        """The units' codes, (clips, units, frames)."""
        return self.basis.codes(self.h)

    @torch.no_grad()
    def logits(self, clips: torch.Tensor, gone: torch.Tensor) -> torch.Tensor:
        """Return what the network says of some clips without some units, (batch, classes).

        Clips are their places, int (batch,); units that go are bool, (batch, units).
        """
        found = []
        for its, silent in zip(clips.split(AT_ONCE), gone.split(AT_ONCE), strict=True):
            left = self.basis.left(self.h[its], silent)[:, :, None]  # (batch, channels, 1, frames)
            maps = self.maps[its] * left.to(self.maps.device)
            found.append(resume(self.model, self.following, maps).cpu())
        return torch.cat(found)

    @cached_property
    def whole(self) -> torch.Tensor:
        """What the network says with all units, (clips, classes)."""
        nothing = torch.zeros(self.codes.shape[:2], dtype=torch.bool)
        return self.logits(torch.arange(len(self.h)), nothing)

    @cached_property
    def pairs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Clip and unit, both int (pairs,), of every unit that is active in a clip."""
        return torch.nonzero(self.codes.amax(dim=2) > 0, as_tuple=True)

    def _each_alone(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield clips, and the units that go, of all pairs, some at a time."""
        for clip, unit in zip(*(each.split(AT_ONCE) for each in self.pairs), strict=True):
            yield clip, nn.functional.one_hot(unit, self.codes.shape[1]).bool()

    def effects(self, classes: torch.Tensor) -> torch.Tensor:
        """Return by how much each unit raises the log-odds of each clip's class, (clips, units).

        The real change: with all units, less with the one silenced; 0 where it is silent anyway.
        """
        whole = log_odds(self.whole, classes)
        without = [
            log_odds(self.logits(clip, gone), classes[clip]) for clip, gone in self._each_alone()
        ]
        clip, unit = self.pairs
        effect = whole[clip] - torch.cat(without)
        return torch.zeros(self.codes.shape[:2]).index_put_((clip, unit), effect)

    def expected(self, classes: torch.Tensor) -> torch.Tensor:
        """Return :meth:`effects` to first order: of channels, gradient x activation.

        References
        ----------
        shrikumar2017learning, section 2.2.
        """
        share = []  # of each channel and frame in the log-odds
        for maps, its in zip(self.maps.split(BATCH), classes.split(BATCH), strict=True):
            maps = maps.clone().requires_grad_()
            logits = resume(self.model, self.following, maps)
            (slope,) = torch.autograd.grad(log_odds(logits, its.to(maps.device)).sum(), maps)
            share.append((slope * maps.detach()).sum(dim=2).cpu())
        share = torch.cat(share)  # (clips, channels, frames)
        lost = [
            (share[clip] * (1 - self.basis.left(self.h[clip], gone))).sum(dim=(1, 2))
            for clip, gone in self._each_alone()
        ]
        return torch.zeros(self.codes.shape[:2]).index_put_(self.pairs, torch.cat(lost))
