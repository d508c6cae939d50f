"""A notebook at work: its settings, its data, its network, its folder, and what it publishes.

What computes is imported where it is used: the task graph reads this module, and starts at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from esc_lib.config import get_profile, get_recipe, shortened, variant
from esc_lib.machine.files import begin_folder, put_in_place
from esc_lib.machine.fingerprint import ROOT
from esc_lib.study import parameters
from esc_lib.study.metrics import Metric, publish

if TYPE_CHECKING:
    import pandas as pd

    from esc_lib.data.clips import Data
    from esc_lib.models.se_cnn import SECNN
    from esc_lib.sound.log_mel import LogMel

# What a chapter hands to a notebook, and the notebook that it comes from.
HANDED = {"data": "01_data", "model": "03_training"}


class Chapter:
    """One notebook of a study; notebooks hand over in ``build/<profile>/artifacts/NN_name/``.

    Parameters
    ----------
    notebook : str, as in "05_dictionaries".
    artifacts : str, where notebooks hand over; empty: below the project.
    epochs : of every training of the study, as ``config.shortened`` takes them.
    recipe : str, the name of how networks are trained; empty: the profile's.
    needs : packages that are imported late, where they are used.

    Raises
    ------
    ValueError
        Before anything is written, if there is no such profile or recipe, or
        ``parameters.check`` refuses what the notebook was given.

    Notes
    -----
    What the notebook writes into `folder` stands beside the finished folder of an earlier run and
    takes its place when :meth:`publish` is called: a run that fails leaves the earlier one whole.
    """

    def __init__(
        self,
        notebook: str,
        profile: str,
        artifacts: str = "",
        epochs: int = 0,
        recipe: str = "",
        needs: Sequence[str] = (),
    ):
        from esc_lib.figures import style
        from esc_lib.machine.hardware import best_device

        _must_have(notebook, needs)
        parameters.check(notebook, *parameters.session())
        self.settings = shortened(get_profile(profile), epochs)
        if recipe:
            self.settings = variant(self.settings, recipe=get_recipe(recipe))
        self.root = root(profile, artifacts)
        self._label(self.root / HANDED["data"])
        self.device = best_device()
        self.own = self.root / notebook
        self.folder = begin_folder(self.own)
        style.apply()

    def _label(self, folder: Path) -> None:
        """Have the name and licence of the clips at hand, once notebook 01 has read them."""
        from esc_lib.data.clips import open_clips
        from esc_lib.data.esc50 import labelled

        if (folder / "clips.csv").is_file():
            self.settings = labelled(self.settings, open_clips(folder))

    @property
    def cache(self) -> Path:
        """Return the folder of what this notebook need not compute again; it outlives runs."""
        return _made(self.root / "cache" / self.own.name)

    @property
    def runs(self) -> Path:
        """Return the folder of the study's training runs."""
        return _made(self.root / "runs")

    def read(self, notebook: str) -> Path:
        """Return the folder of an earlier notebook that ran to its end, as :func:`find` does."""
        return find(self.root, notebook)

    @cached_property
    def data(self) -> Data:
        """The clips, with the split of notebook 01."""
        from esc_lib.data.clips import open_data

        return open_data(self.read(HANDED["data"]))

    @cached_property
    def model(self) -> SECNN:
        """The network of notebook 03, in evaluation mode on the best device."""
        from esc_lib.training import checkpoint

        weights = self.read(HANDED["model"]) / "model.safetensors"
        return checkpoint.load(weights, self.settings, self.data.class_names).to(self.device)

    @cached_property
    def front_end(self) -> LogMel:
        """The front end, on the best device."""
        from esc_lib.sound.log_mel import LogMel

        return LogMel(self.settings.front_end).to(self.device)

    def publish(self, metrics: dict[str, Metric | float | str], **tables: pd.DataFrame) -> None:
        """Write and glue the notebook's numbers, and let its folder take the finished one's place.

        Parameters
        ----------
        metrics : as for ``metrics.publish``.
        tables : written as ``<name>.csv``.

        Raises
        ------
        ValueError
            If a value or an end of an interval is not finite.
        """
        for name, table in tables.items():
            table.to_csv(self.folder / f"{name}.csv")
        publish(self.folder, metrics, self.own.name)
        self.folder = put_in_place(self.folder, self.own)


def root(profile: str, folder: str = "") -> Path:
    """Return the artefact folder of a profile; `folder` overrides the default below the project.

    The project is what the working folder lies in, else the checkout that this package lies in.
    """
    get_profile(profile)
    if folder:
        return Path(folder).absolute()
    here = Path.cwd()
    places = here, *here.parents, ROOT
    project = next((p for p in places if (p / "dodo.py").is_file()), here)
    return project / "build" / profile / "artifacts"


def find(artifacts: Path, notebook: str) -> Path:
    """Return the folder of an earlier notebook that ran to its end.

    Raises
    ------
    FileNotFoundError
        If it did not, naming the notebook to run first.
    """
    folder = artifacts / notebook
    if not (folder / "metrics.json").is_file():
        raise FileNotFoundError(
            f"find: {folder.absolute()} is missing or incomplete; "
            f"run it first: python -m esc_lib run {notebook}, with the same --profile."
        )
    return folder


def _must_have(notebook: str, packages: Sequence[str]) -> None:
    if missing := [name for name in packages if find_spec(name) is None]:
        raise ModuleNotFoundError(
            f"{notebook}: {', '.join(missing)} not installed; pip install 'esc-lib[notebooks]'."
        )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
