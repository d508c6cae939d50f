"""One network whose layer is probed, and every measure of it: a table each, a row per clip."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from esc_lib.config import Dictionaries, Probing
from esc_lib.data.clips import Data
from esc_lib.dictionaries.fitting import fit_layer
from esc_lib.dictionaries.gather import Gathered, gather
from esc_lib.dictionaries.statistics import Statistics
from esc_lib.layers.embeddings import evenly
from esc_lib.probing import effects, reading
from esc_lib.probing.atoms import AREA, Claims, Listener, do_atoms_mean_units
from esc_lib.probing.bases import CHANNELS, Basis, basis_of, names_of
from esc_lib.probing.behind import Behind
from esc_lib.probing.reading import level_free
from esc_lib.probing.sparse import root_mean_square
from esc_lib.sound.log_mel import LogMel

PARTS = ("train", "validation", "test")


def some_of(data: Data, settings: Probing, seed: int) -> np.ndarray:
    """Return some test clips, no class preferred; for another seed others, to see more together."""
    test = np.roll(data.split.test, seed)
    return test[evenly(data.labels[test].numpy(), settings.clips)]


@dataclass(frozen=True, eq=False)
class Subject:
    """A network on its clips: fitted on training clips, chosen on validation, measured on test."""

    model: nn.Module  # with an SECNN's named parts, in evaluation mode
    front_end: LogMel
    data: Data
    layer: str
    settings: Probing
    dictionaries: Dictionaries
    seed: int
    few: np.ndarray  # test clips whose sound and maps are interfered with
    kept: dict[tuple[str, str], object] = field(default_factory=dict)  # what was made before

    def _once(self, kind: str, name: str, make: Callable[[], Any]) -> Any:
        if (kind, name) not in self.kept:
            self.kept[kind, name] = make()
        return self.kept[kind, name]

    def _hidden(self, part: str) -> Gathered:
        read = self.model, self.front_end, self.data, getattr(self.data.split, part), [self.layer]
        return self._once("hidden", part, partial(gather, *read, keep=[self.layer]))

    def h(self, part: str) -> torch.Tensor:
        """Return the layer's H of a part's clips, (clips, channels, frames)."""
        return self._hidden(part).h[self.layer]

    def v(self, part: str) -> torch.Tensor:
        """Return V of a part's clips on the layer's time grid, (clips, mel, frames)."""
        return self._hidden(part).v(self.layer)

    def basis(self, name: str) -> Basis:
        """Return a basis by its name: the channels, or fitted to training clips."""
        return self._once(
            "basis", name, lambda: basis_of(name, self.h("train"), self.settings, self.seed)
        )

    @property
    def own_bases(self) -> list[str]:
        """The names of the bases without the random ones."""
        return [name for name in names_of(self.settings) if not name.startswith("random")]

    def codes(self, basis: str, part: str) -> torch.Tensor:
        """Return the codes of a part's clips, (clips, units, frames)."""
        return self.basis(basis).codes(self.h(part))

    # -------------------------------------------------------------------------------- measures

    def held(self) -> pd.DataFrame:
        """Return what codes hold of the layer, and of the spectrum: see ``reading``.

        Columns dealt and dealt_total are residual and total where, on test clips only, channels, or
        units, have each other's values.
        """
        k, train, test = self.settings.active, self.h("train"), self.h("test")
        v = {part: self.v(part) for part in PARTS}
        bases = {name: self.basis(name) for name in names_of(self.settings)}
        scale = root_mean_square(train)[:, None]
        own, other = (
            reading.layer(bases, train, each, v["test"], k)
            for each in (test, scale * _dealt(test / scale))
        )
        found = [_beside(own, other).assign(measure="layer")]
        for name in bases:
            codes = {part: self.codes(name, part) for part in PARTS}
            own, other = reading.spectrum(v, codes, _dealt(codes["test"]))
            found.append(_beside(own, other).assign(measure="spectrum", basis=name))
        return self._named(pd.concat(found), self.data.split.test)

    def claims(self, basis: str) -> Claims:
        """Return the dictionaries over a basis: over the channels all, else the optimum."""
        codes, models = self.codes(basis, "train"), {} if basis == CHANNELS else {"models": ()}

        def fitted() -> Claims:
            sums = Statistics.of(self.v("train"), codes)
            return Claims.of(fit_layer(sums, self.dictionaries, self.seed, **models), codes)

        return self._once("claims", basis, fitted)

    def dead(self) -> pd.DataFrame:
        """Return the share of each basis' units that are silent on all training clips."""
        h, rows = self.h("train"), []
        for name in self.own_bases[1:]:
            own = self.basis(name)
            rows.append({"basis": name, "units": len(own.encoder), "active": own.k,
                         "dead": own.dead(h)})  # fmt: skip
        return pd.DataFrame(rows)

    def meanings(self) -> pd.DataFrame:
        """Return whether atoms mean their units: of channels all dictionaries, else the optimum."""
        return pd.concat([self.meaning(name) for name in self.own_bases], ignore_index=True)

    def meaning(self, basis: str, area: float = AREA) -> pd.DataFrame:
        """Return whether the atoms over one basis mean its units."""
        listener = Listener(self.model, self.front_end, self.layer, self.basis(basis))
        asked = self.data, self.few, self.settings.units, area
        table = do_atoms_mean_units(listener, self.claims(basis), *asked).assign(basis=basis)
        return self._named(table.drop(columns="row"), table.row.to_numpy())

    def effects(self) -> pd.DataFrame:
        """Return how units rank by what they are expected to do, against what they do."""
        found = []
        whole = self._behind(self.few)
        for name in self.own_bases:
            behind = whole.within(self.basis(name))
            decided = behind.whole.argmax(dim=1)
            found.append(effects.ranked(behind, decided).assign(basis=name))
        return self._named(pd.concat(found), self.few)

    def erased(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return what it takes to lose a class, and what else is lost: by class, and by clip."""
        classes, clips = [], []
        labels, train, test = self.data.labels.numpy(), self.data.split.train, self.data.split.test
        per_class = pd.Series(train).groupby(labels[train]).head(self.settings.per_class)
        some = per_class.to_numpy()
        known, unseen = self._behind(some), self._behind(test)
        for name in self.own_bases:
            orders = effects.orders(known.within(self.basis(name)), labels[some])
            within = unseen.within(self.basis(name))
            by_class, by_clip = effects.erase(within, labels[test], orders)
            classes.append(by_class.assign(basis=name))
            clips.append(by_clip.assign(basis=name))
        return pd.concat(classes), self._named(pd.concat(clips), test)

    def unseen(self, basis: str) -> np.ndarray:
        """Return level-free codes of test clips, (clips, frames, units)."""
        return level_free(self.codes(basis, "test"), self.v("test"))

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return what every measure of one network alone finds."""
        classes, clips = self.erased()
        return {
            "held": self.held(), "dead": self.dead(), "meanings": self.meanings(),
            "effects": self.effects(), "classes": classes, "clips": clips,
        }  # fmt: skip

    def _behind(self, rows: np.ndarray) -> Behind:
        return Behind.of(self.model, self.front_end, self.data, rows, self.layer)

    def _named(self, table: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
        """Name each row's clip and source recording, of all `rows` or of those in "clip"."""
        rows = rows[table.pop("clip").to_numpy()] if "clip" in table else rows
        clips = self.data.clips.iloc[rows]
        return table.assign(
            filename=clips.filename.to_numpy(), source=clips.src_file.to_numpy()
        ).reset_index(drop=True)


def _dealt(values: torch.Tensor) -> torch.Tensor:
    """Return (clips, units, frames) with units dealt, the same deal for all clips."""
    return values[:, torch.randperm(values.shape[1], generator=torch.Generator().manual_seed(0))]


def _beside(own: pd.DataFrame, dealt: pd.DataFrame) -> pd.DataFrame:
    return own.assign(dealt=dealt.residual, dealt_total=dealt.total)
