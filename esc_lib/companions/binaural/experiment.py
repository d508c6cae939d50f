"""One study of binaural hearing: its scenes, a BAST, and rivals that hear the same scenes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from esc_lib.companions.binaural import cues, judging, rooms, training
from esc_lib.companions.binaural.heads import Head
from esc_lib.companions.binaural.network import BAST, BASTSettings
from esc_lib.companions.binaural.rendering import (
    Excerpts,
    Renderer,
    cut_excerpts,
    draw_scenes,
    targets,
)
from esc_lib.companions.binaural.rooms import ANECHOIC, LECTURE_HALL, Places
from esc_lib.config import Binaural
from esc_lib.data.clips import Data
from esc_lib.machine.files import write_atomically
from esc_lib.machine.fingerprint import fingerprint

ROOMS = ("anechoic", "hall, known seats", "hall, new seats")
RIVALS: dict[str, tuple[Callable, str]] = {
    "look-up (time, level)": (cues.simple_cues, ""),
    "neighbours (time, level)": (cues.simple_cues, "neighbours"),
    "neighbours (all cues)": (cues.rich_cues, "neighbours"),
    "trees (levels only)": (cues.level_cues, "trees"),
    "trees (all cues)": (cues.rich_cues, "trees"),
}
LEVELS_ONLY, STRONGEST = "trees (levels only)", "trees (all cues)"
PUBLISHED_M = {
    ("subtract", False): 57.14,
    ("subtract", True): 38.25,
    ("concatenate", False): 76.04,
}
PUBLISHED_DEG = 1.29  # mean error of the best form: subtract, separate, hybrid


@dataclass(frozen=True)
class Study:
    """What all systems hear.

    Attributes
    ----------
    head : Head
    excerpts : Excerpts
    places : Places, seats that only the test hears last.
    known, new : tuples, numbers of the seats in the hall.
    renderer : Renderer, on the CPU.
    """

    head: Head
    excerpts: Excerpts
    places: Places
    known: tuple[int, ...]
    new: tuple[int, ...]
    renderer: Renderer


def make_study(data: Data, sr: int, settings: Binaural, head: Head, folder: Path) -> Study:
    """Cut the clips, of `sr` Hz, and compute the responses of all places, or find them computed.

    Parameters
    ----------
    folder : Path, where responses are kept in a file named after the head, its places and the code.
    """
    n_seats = settings.seats + settings.new_seats
    known = (ANECHOIC, LECTURE_HALL, settings.azimuths, n_seats, head.responses)
    file = folder / f"places_{fingerprint(*known, code=rooms.__file__)}.npz"
    if file.is_file():
        with np.load(file, allow_pickle=False) as kept:
            table = pd.DataFrame({name: kept[name] for name in ("room", "seat")})
            places = Places(table, kept["azimuths"], kept["responses"])
    else:
        places = rooms.prepare_places([ANECHOIC, LECTURE_HALL], head, settings.azimuths, n_seats)
        arrays = {"azimuths": places.azimuths, "responses": places.responses}
        arrays |= {"room": places.table.room.to_numpy("U"), "seat": places.table.seat.to_numpy()}
        write_atomically(file, lambda scratch: _save(scratch, arrays))
    excerpts = cut_excerpts(data, sr, settings.excerpts)
    known = tuple(range(settings.seats))
    new = tuple(range(settings.seats, n_seats))
    return Study(head, excerpts, places, known, new, Renderer(excerpts, places))


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)


def draw(study: Study, part: str, rounds: int, seed: int = 0) -> pd.DataFrame:
    """Draw scenes at known seats and at new ones, as many in each of :data:`ROOMS`.

    Returns
    -------
    DataFrame as ``rendering.draw_scenes`` returns it, with the names of
    :data:`ROOMS` as rooms.
    """
    drawn = []
    for seats, name, kept in ((study.known, ROOMS[1], True), (study.new, ROOMS[2], False)):
        scenes = draw_scenes(study.excerpts, study.places, part, rounds, seats, seed)
        in_hall = scenes.room == LECTURE_HALL.name
        named = scenes.assign(room=np.where(in_hall, name, ROOMS[0]))
        drawn.append(named if kept else named[in_hall])
    return pd.concat(drawn, ignore_index=True)


def of_settings(settings: Binaural, fusion: str = "", shared: bool | None = None) -> BASTSettings:
    """Return the sizes of a network, with another fusion or sharing of encoders if given."""
    return BASTSettings(
        width=settings.width,
        layers=settings.layers,
        heads=settings.heads,
        head_width=settings.head_width,
        hidden=settings.hidden,
        stride=settings.stride,
        fusion=fusion or settings.fusion,
        shared=settings.shared if shared is None else shared,
        dropout=settings.dropout,
    )


def parameters_m(settings: BASTSettings) -> float:
    """Return the number of parameters in millions, without making them."""
    with torch.device("meta"):
        model = BAST(settings)
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def sizes(settings: Binaural) -> pd.DataFrame:
    """Return parameters in millions of every form: published, at that size, and as trained here."""
    rows = {}
    for fusion in ("subtract", "add", "concatenate"):
        for shared in (False, True):
            form = BASTSettings(fusion=fusion, shared=shared)
            rows[fusion, "shared" if shared else "separate"] = {
                "published": PUBLISHED_M.get((fusion, shared), np.nan),
                "full size": parameters_m(form),
                "this build": parameters_m(of_settings(settings, fusion, shared)),
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["fusion", "encoders"])


def learn(
    study: Study,
    settings: Binaural,
    folder: Path,
    variant: tuple[str, bool, str] | None = None,
    epochs: int = 0,
) -> training.Fit:
    """Train a BAST at the known seats, or find it trained.

    Parameters
    ----------
    study : Study
    settings : Binaural
    folder : Path, where runs are kept.
    variant : (fusion, shared, loss); default: that of the settings.
    epochs : int; default: that of the settings.

    Notes
    -----
    On a CPU in float32: on so small matrices bfloat16 takes twice as long.
    """
    fusion, shared, loss = variant or (settings.fusion, settings.shared, settings.loss)
    recipe = training.Recipe(
        loss=loss,
        epochs=epochs or settings.epochs,
        batch_size=settings.batch_size,
        per_excerpt=settings.per_excerpt,
        learning_rate=settings.learning_rate,
        seats=study.known,
    )
    precision = None if torch.accelerator.is_available() else "32-true"
    network = of_settings(settings, fusion, shared)
    return training.fit(study.excerpts, study.places, network, recipe, folder, precision)


def judge_network(study: Study, model: BAST, scenes: pd.DataFrame) -> pd.DataFrame:
    """Return the verdicts of ``judging.judge`` on a network."""
    points = training.estimate(model, study.renderer, scenes)
    return judging.judge(scenes, judging.azimuth_of(points.numpy()))


def judge_rivals(
    study: Study, settings: Binaural, asked: dict[str, pd.DataFrame]
) -> dict[str, dict[str, pd.DataFrame]]:
    """Let the rivals learn from training scenes and return their verdicts.

    Parameters
    ----------
    study : Study
    settings : Binaural, for the number of training scenes.
    asked : name to scenes.

    Returns
    -------
    dict, name to rival to verdicts.
    """
    train = draw_scenes(study.excerpts, study.places, "train", settings.cue_rounds, study.known)
    truth = targets(train).numpy()
    heard: dict[Callable, dict[str, np.ndarray]] = {}
    found: dict[str, dict[str, pd.DataFrame]] = {name: {} for name in asked}
    for rival, (read, kind) in RIVALS.items():
        if read not in heard:
            heard[read] = {
                name: cues.of_batches(study.renderer.batches(scenes), read)
                for name, scenes in {"": train, **asked}.items()
            }
        machine = cues.localiser(kind).fit(heard[read][""], truth) if kind else None
        for name, scenes in asked.items():
            of_scenes = heard[read][name]
            if machine is None:
                azimuths = cues.look_up(of_scenes, study.head)
            else:
                azimuths = judging.azimuth_of(machine.predict(of_scenes))
            found[name][rival] = judging.judge(scenes, azimuths)
    return found


def errors(judged: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return a row per room and system.

    Parameters
    ----------
    judged : system to verdicts, all on the same scenes.

    Returns
    -------
    DataFrame, index room and system: error, low, high (mean and 95 % interval, degrees), median,
    folded (degrees; front and back taken for the same), confused (%, front for back) and scenes.
    """
    rows = {}
    for system, table in judged.items():
        means, confused = (judging.summary(table, "room", v) for v in ("error_deg", "confused"))
        for room, of_room in table.groupby("room"):
            rows[room, system] = {
                "error": means["mean"][room],
                "low": means.low[room],
                "high": means.high[room],
                "median": of_room.error_deg.median(),
                "folded": of_room.folded_deg.mean(),
                "confused": 100 * confused["mean"].get(room, np.nan),
                "scenes": len(of_room),
            }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["room", "system"])
    return table.sort_index(level="room", sort_remaining=False)


def against(judged: dict[str, pd.DataFrame], reference: str) -> pd.DataFrame:
    """Return by how much each system's error exceeds that of `reference`, room by room.

    Returns
    -------
    DataFrame, index room and system: difference, low, high, degrees, over source recordings.
    """
    rows = {}
    for system, table in judged.items():
        for room, of_room in table.groupby("room"):
            if system != reference:
                same = judged[reference].loc[of_room.index]
                rows[room, system] = judging.paired(same, of_room)
    columns = ["difference", "low", "high"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.index = pd.MultiIndex.from_tuples(table.index, names=["room", "system"])
    return table.sort_index(level="room", sort_remaining=False)


def around(study: Study, excerpt: int, n: int = 8, gap_s: float = 0.1) -> dict[str, np.ndarray]:
    """Lead an excerpt around the head, anticlockwise from ahead, in both rooms.

    Returns
    -------
    dict, room to float array, shape (samples, 2), peak 0.9 over both rooms.
    """
    places = study.places
    found = {}
    for place in (0, 1):  # without walls, and the first seat of the hall
        azimuth = np.arange(n) * len(places.azimuths) // n
        heard = study.renderer(
            pd.DataFrame({"excerpt": excerpt, "place": place, "azimuth": azimuth})
        )
        heard = torch.nn.functional.pad(heard, (0, round(gap_s * study.head.sr)))
        found[places.table.room[place]] = heard.permute(0, 2, 1).flatten(0, 1).numpy()
    peak = max(np.abs(heard).max() for heard in found.values())
    return {room: 0.9 * heard / peak for room, heard in found.items()}


def same_sound(study: Study, excerpt: int, azimuth_deg: float) -> pd.DataFrame:
    """Return two scenes, an excerpt at an azimuth in each room, for a picture."""
    azimuth = int(np.argmin(judging.angular_error_deg(study.places.azimuths, azimuth_deg)))
    scenes = pd.DataFrame({"excerpt": excerpt, "place": [0, 1], "azimuth": azimuth})
    row = study.excerpts.table.loc[excerpt]
    return scenes.assign(
        azimuth_deg=study.places.azimuths[azimuth],
        room=study.places.table.room[:2].to_numpy(),
        **row[["filename", "src_file", "category", "part"]].to_dict(),
    )
