"""What a study was asked to do, and where its files lie."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from esc_lib.config import PROFILES
from esc_lib.machine.fingerprint import ROOT
from esc_lib.study.parameters import COMPANIONS, fault_of_record

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Options:
    """A study in ``build/<profile>``, or the book of a recorded one in ``build/reference``.

    Attributes
    ----------
    profile : str
    data : folder of the clips; None: made or fetched.
    epochs : int; 0: the profile's.
    start : folder of a recorded study whose weights are used instead of training; None: trained.
    reference : names of the recorded studies to build the book of, those first whose pages come
        before the others'; empty: none.
    companions : parameter of notebooks 10, 11 and 19 to path.
    jobs : int, notebooks that run at once; the machine's cores are shared out among them.
    """

    profile: str = "demo"
    data: Path | None = None
    epochs: int = 0
    start: Path | None = None
    reference: tuple[str, ...] = ()
    companions: dict[str, Path] = field(default_factory=dict)
    jobs: int = 1

    @classmethod
    def of_environment(cls, given: Mapping[str, str] = os.environ):
        """Read PROFILE, DATA, EPOCHS, START, REFERENCE, JOBS, and HRIR ... of :data:`COMPANIONS`.

        Without JOBS, the short notebooks of the generated clips run on a core each; on real clips
        one runs after the other, with all cores or the accelerator to itself.

        Raises
        ------
        ValueError
            With one sentence, if one of them cannot be.
        """
        profile = given.get("PROFILE") or "demo"
        if profile not in PROFILES:
            raise ValueError(f"PROFILE={profile} is unknown; choose one of {', '.join(PROFILES)}.")
        numbers = {name: given[name] for name in ("EPOCHS", "JOBS") if given.get(name)}
        for name, text in numbers.items():
            if not (text.isdecimal() and int(text) > 0):
                raise ValueError(f"{name}={text} is not a whole number above 0, as in {name}=2.")
        short = PROFILES[profile].procedural
        jobs = int(numbers.get("JOBS") or (CORES if short else 1))
        paths = {
            name: Path(given[name.upper()]).expanduser().resolve()
            for name in ("data", "start", *COMPANIONS)
            if given.get(name.upper())
        }
        if "data" in paths and not paths["data"].is_dir():
            raise ValueError(f"DATA={given['DATA']} is not a folder; see data/README.md.")
        if "start" in paths and (fault := fault_of_record(paths["start"], profile)):
            raise ValueError(f"START={given['START']} {fault}; give a study as results/esc10.")
        companions = {name: paths[name] for name in COMPANIONS if name in paths}
        for name, place in companions.items():
            if not place.exists():
                raise ValueError(f"{name.upper()}={place} does not exist; see data/README.md.")
        options = cls(
            profile, paths.get("data"), int(numbers.get("EPOCHS", 0)), paths.get("start"),
            tuple((given.get("REFERENCE") or "").split()), companions, jobs,
        )  # fmt: skip
        for study in options.recorded:
            if not any(study.glob("notebooks/*.ipynb")):
                raise ValueError(
                    f"{study} has no notebooks; record the study: make record PROFILE=..."
                )
        return options

    @property
    def threads(self) -> int:
        """Processor threads of each notebook."""
        return max(1, CORES // self.jobs)

    @property
    def build(self) -> Path:
        """The folder of everything that is made."""
        return ROOT / "build" / ("reference" if self.reference else self.profile)

    @property
    def recorded(self) -> list[Path]:
        """The recorded studies whose book is built."""
        return [ROOT / "results" / name for name in self.reference]

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
        """Notebooks that no record holds."""
        if not self.recorded:
            return []
        stems = [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))]
        return [stem for stem in stems if not self.executed(stem).is_file()]

    def executed(self, stem: str) -> Path:
        """Return where the executed notebook goes; it is also the sign that it ran."""
        places = [folder / "notebooks" / f"{stem}.ipynb" for folder in (*self.recorded, self.build)]
        return next((place for place in places if place.is_file()), places[-1])
