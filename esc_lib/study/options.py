"""What a study was asked to do, and where its files lie."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from esc_lib.config import PROFILES
from esc_lib.machine.fingerprint import ROOT

COMPANIONS = ("hrir", "spoken", "written", "sub_urmp")  # data of notebooks 10 and 11


@dataclass(frozen=True)
class Options:
    """A study in ``build/<profile>``, or the book of a recorded one in ``build/reference``.

    Attributes
    ----------
    profile : str
    data : folder of the clips; None: made or fetched.
    epochs : int; 0: the profile's.
    start : folder of a recorded study whose weights are used instead of training; None: trained.
    reference : name of the recorded study to build the book of; empty: none.
    companions : parameter of notebooks 10 and 11 to path.
    """

    profile: str = "demo"
    data: Path | None = None
    epochs: int = 0
    start: Path | None = None
    reference: str = ""
    companions: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def of_environment(cls, given: Mapping[str, str] = os.environ):
        """Read PROFILE, DATA, EPOCHS, START, REFERENCE, HRIR, SPOKEN, WRITTEN and SUB_URMP.

        Raises
        ------
        ValueError
            With one sentence, if one of them cannot be.
        """
        profile, epochs = given.get("PROFILE") or "demo", given.get("EPOCHS") or "0"
        if profile not in PROFILES:
            raise ValueError(f"PROFILE={profile} is unknown; choose one of {', '.join(PROFILES)}.")
        if given.get("EPOCHS") and not (epochs.isdecimal() and int(epochs) > 0):
            raise ValueError(f"EPOCHS={epochs} is not a whole number above 0, as in EPOCHS=30.")
        paths = {
            name: Path(given[name.upper()]).expanduser().resolve()
            for name in ("data", "start", *COMPANIONS)
            if given.get(name.upper())
        }
        if "start" in paths and not paths["start"].is_dir():
            raise ValueError(
                f"START={given['START']} is not a folder; give a recorded study, as results/esc10."
            )
        companions = {name: paths[name] for name in COMPANIONS if name in paths}
        for name, place in companions.items():
            if not place.exists():
                raise ValueError(f"{name.upper()}={place} does not exist; see data/README.md.")
        options = cls(
            profile, paths.get("data"), int(epochs), paths.get("start"),
            given.get("REFERENCE") or "", companions,
        )  # fmt: skip
        if options.recorded and not options.sources:
            raise ValueError(
                f"{options.recorded} has no notebooks; record the study: make record PROFILE=..."
            )
        return options

    @property
    def build(self) -> Path:
        """The folder of everything that is made."""
        return ROOT / "build" / ("reference" if self.reference else self.profile)

    @property
    def recorded(self) -> Path | None:
        """The recorded study whose book is built."""
        return ROOT / "results" / self.reference if self.reference else None

    @property
    def artifacts(self) -> Path:
        """The folder in which notebooks hand over."""
        return self.build / "artifacts"

    @property
    def sources(self) -> dict[str, Path]:
        """Every notebook, as it is edited; those that the record lacks are left out of its book."""
        every = {p.stem: p for p in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))}
        return {stem: path for stem, path in every.items() if stem not in self.lacking}

    @property
    def lacking(self) -> list[str]:
        """Notebooks younger than the record."""
        if not self.recorded:
            return []
        stems = [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))]
        return [s for s in stems if not (self.recorded / "notebooks" / f"{s}.ipynb").is_file()]

    def executed(self, stem: str) -> Path:
        """Return where the executed notebook goes; it is also the sign that it ran."""
        return (self.recorded or self.build) / "notebooks" / f"{stem}.ipynb"
