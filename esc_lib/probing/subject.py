"""One network whose layer is probed, and every measure of it: a table each, a row per clip."""

from dataclasses import dataclass, field
from functools import cached_property

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
    bases: dict[str, Basis] = field(default_factory=dict)  # those that were fitted, and the
    claimed: dict[str, Claims] = field(default_factory=dict)  # dictionaries over them

    @cached_property
    def hidden(self) -> dict[str, Gathered]:
        """V and the layer's H of each part."""
        read = self.model, self.front_end, self.data
        return {
            part: gather(*read, getattr(self.data.split, part), [self.layer], keep=[self.layer])
            for part in PARTS
        }

    def basis(self, name: str) -> Basis:
        """Return a basis by its name: the channels, or fitted to training clips."""
        if name not in self.bases:
            self.bases[name] = basis_of(name, self._h("train"), self.settings, self.seed)
        return self.bases[name]

    @property
    def own_bases(self) -> list[str]:
        """The names of the bases without the random ones."""
        return [name for name in names_of(self.settings) if not name.startswith("random")]

    def codes(self, basis: str, part: str) -> torch.Tensor:
        """Return the codes of a part's clips, (clips, units, frames)."""
        return self.basis(basis).codes(self._h(part))

    # -------------------------------------------------------------------------------- measures

    def held(self) -> pd.DataFrame:
        """Return what codes hold of the layer, and of the spectrum: see ``reading``.

        Columns dealt and dealt_total are residual and total where, on test clips only, channels, or
        units, have each other's values.
        """
        k, train, test = self.settings.active, self._h("train"), self._h("test")
        v = {part: self.hidden[part].v(self.layer) for part in PARTS}
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
        if basis not in self.claimed:
            codes = self.codes(basis, "train")
            sums = Statistics.of(self.hidden["train"].v(self.layer), codes)
            models = {} if basis == CHANNELS else {"models": ()}
            fits = fit_layer(sums, self.dictionaries, self.seed, **models)
            self.claimed[basis] = Claims.of(fits, codes)
        return self.claimed[basis]

    def dead(self) -> pd.DataFrame:
        """Return the share of each basis' units that are silent on all training clips."""
        h, rows = self._h("train"), []
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
        v = self.hidden["test"].v(self.layer)
        return level_free(self.codes(basis, "test"), v)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return what every measure of one network alone finds."""
        classes, clips = self.erased()
        return {
            "held": self.held(), "dead": self.dead(), "meanings": self.meanings(),
            "effects": self.effects(), "classes": classes, "clips": clips,
        }  # fmt: skip

    def _h(self, part: str) -> torch.Tensor:
        return self.hidden[part].h[self.layer]

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
