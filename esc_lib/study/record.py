"""The committed record of a study: what ``results/<profile>/`` holds, and how it gets there."""

from __future__ import annotations

import base64
import io
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
from PIL import Image

from esc_lib.config import NARROW, Profile, get_profile, variant
from esc_lib.data.clips import open_data
from esc_lib.machine.files import begin_folder, put_in_place, save_json
from esc_lib.machine.reading import must_hold, read_json, refuse
from esc_lib.study.chapter import find
from esc_lib.training import checkpoint
from esc_lib.training.runs import profile_of, record_of, settings_of

# folders of tables by network
MEASURED = ("explanations", "planted", "portraits", "probing", "shortcuts")
WEIGHTS = "model.safetensors"
# what nbformat raises
NOT_A_NOTEBOOK = ValueError, LookupError, AttributeError, TypeError, nbformat.ValidationError
RUN_FILES = ("run.json", "history.csv", "predictions.csv")
MAX_FILE_MB, MAX_CHECKPOINT_MB = 4.0, 45.0
COLOURS = 256  # of a figure in the record
MAX_CHANGE = 16  # of 255, in all but one pixel of a hundred; figures that change more stay as is


def record(profile: str, artifacts: Path, notebooks: list[Path], target: Path) -> None:
    """Gather a finished study: numbers, provenance, runs, executed notebooks, one checkpoint.

    Everything is laid out in a folder beside `target`, checked, and moved there as a whole.

    Parameters
    ----------
    artifacts : Path of the study's artefacts.
    notebooks : list of Path of its executed notebooks.
    target : Path, ``results/<profile>``.

    Raises
    ------
    ValueError
        If a file is larger than a light repository can carry.
    """
    scratch = begin_folder(target)
    keep_pages(artifacts, notebooks, scratch)
    trained = find(artifacts, "03_training")
    shutil.copy2(trained / "run.json", scratch / "run.json")
    keep(artifacts, scratch, earlier=target)
    names = open_data(find(artifacts, "01_data")).class_names
    _halve(trained / WEIGHTS, scratch / WEIGHTS, get_profile(profile), names)
    try:
        check_sizes(scratch)
    except ValueError:
        shutil.rmtree(scratch)
        raise
    put_in_place(scratch, target)


def keep_pages(artifacts: Path, notebooks: list[Path], target: Path) -> None:
    """Put executed notebooks and their numbers into a record; other pages' stay."""
    (target / "notebooks").mkdir(exist_ok=True)
    file = target / "metrics.json"
    metrics = read_metrics(file) if file.is_file() else {}
    for path in notebooks:
        notebook = with_light_figures(without_machine(path))
        own = read_metrics(find(artifacts, path.stem) / "metrics.json")
        kept = {name: row for name, row in metrics.items() if row["notebook"] != path.stem}
        metrics = kept | own
        nbformat.write(notebook, target / "notebooks" / path.name)
    save_json(file, metrics)


def read_metrics(file: Path) -> dict[str, dict]:
    """Return published numbers by name; ValueError names the file if one is none."""
    found = read_json(file)
    for row in found.values():
        must_hold(file, row, notebook=str)
    return found


def keep(artifacts: Path, target: Path, earlier: Path) -> None:
    """Put finished runs, tables and the weights of narrow networks into a record.

    Parameters
    ----------
    artifacts, target : of the study, and the record's folder.
    earlier : record of which all is kept that the study did not do anew; it may be the target.
    """
    names = open_data(find(artifacts, "01_data")).class_names
    for run in finished_runs(artifacts / "runs", earlier / "runs"):
        folder = target / "runs" / run.name
        for name in RUN_FILES:
            _copy(run / name, folder / name)
        settings = profile_of(run)
        if (run / WEIGHTS).is_file() and run != folder and keeps_weights(settings):
            _halve(run / WEIGHTS, folder / WEIGHTS, settings, names)
    for place, table in measured_tables(artifacts, earlier).items():
        _copy(table, target / place)


def keeps_weights(settings: Profile) -> bool:
    """Return whether a run's weights are recorded: narrow, trained as the profile trains."""
    usual = get_profile(settings.name)
    own = {"test_fold": usual.test_fold, "epochs": usual.training.epochs}
    if settings.training.protocol == "no_validation":  # as published accuracies
        own["protocol"] = usual.training.protocol
    return settings_of(variant(settings, **own)) == settings_of(replace(usual, network=NARROW))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source != target:
        shutil.copy2(source, target)


def _halve(source: Path, target: Path, settings: Profile, names: list[str]) -> None:
    """Write weights in half precision."""
    model = checkpoint.load(source, settings, names)
    checkpoint.save(target, model.half(), settings, names)


def finished_runs(own: Path, recorded: Path) -> list[Path]:
    """Return the folders of all finished runs, of the study and of the record it started from.

    A run that the study adopted is taken from the record: it was trained there.
    """
    runs = {}
    for folder in (recorded, own):
        for run in sorted(folder.iterdir()) if folder.is_dir() else ():
            finished = (run / "run.json").is_file()
            if finished and not (run.name in runs and "adopted_from" in record_of(run)):
                runs[run.name] = run
    return sorted(runs.values(), key=lambda run: run.name)


def measured_tables(own: Path, recorded: Path) -> dict[str, Path]:
    """Return the tables of every network that was measured, place in the record to file.

    What the study measured itself goes before what an earlier record holds.
    """
    return {
        path.relative_to(folder).as_posix(): path
        for folder in (recorded, own)
        for kind in MEASURED
        for path in sorted((folder / kind).rglob("*"))
        if path.name.endswith((".csv", ".csv.gz", "identity.json"))
    }


def without_machine(path: Path) -> nbformat.NotebookNode:
    """Read an executed notebook and leave out what is papermill's: times, and folders' names.

    Progress bars go, too, from cells whose tag keeps them off the page.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
    except NOT_A_NOTEBOOK as error:
        refuse(path, f"is no notebook ({error})")
    notebook.metadata.pop("papermill", None)
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        if "remove-stderr" in cell.metadata.get("tags", []):
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    return notebook


def with_light_figures(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Give the notebook's figures a palette where that can hardly be seen: a third of the bytes."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                png = light_figure(base64.b64decode(output.data["image/png"]))
                output.data["image/png"] = base64.b64encode(png).decode()
    return notebook


def light_figure(png: bytes) -> bytes:
    """Return the figure in 256 colours, or as it is if its colours would change visibly."""
    figure = Image.open(io.BytesIO(png)).convert("RGB")
    light = figure.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    change = np.abs(np.asarray(figure, np.int16) - np.asarray(light.convert("RGB"), np.int16))
    if np.percentile(change.max(axis=2), 99) > MAX_CHANGE:
        return png
    buffer = io.BytesIO()
    light.save(buffer, format="PNG", optimize=True)
    return min(png, buffer.getvalue(), key=len)


def check_sizes(folder: Path) -> None:
    """Raise ValueError, naming the file, if one is too large to be committed."""
    for path in folder.rglob("*"):
        if path.is_file():
            limit = MAX_CHECKPOINT_MB if path.suffix == ".safetensors" else MAX_FILE_MB
            size = path.stat().st_size / 1e6
            if size > limit:
                raise ValueError(
                    f"record: {path.name} has {size:.1f} MB, the limit is {limit:.0f} MB; "
                    "nothing was recorded."
                )
