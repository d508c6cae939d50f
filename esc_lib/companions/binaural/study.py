"""One study of binaural hearing: its scenes, forms of a BAST, and rivals on the same scenes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from esc_lib.companions.binaural import cues, judging, rooms
from esc_lib.companions.binaural.heads import SR, Head
from esc_lib.companions.binaural.network import BAST, estimate
from esc_lib.companions.binaural.rendering import (
    Excerpts,
    Renderer,
    cut_excerpts,
    draw_scenes,
    targets,
)
from esc_lib.companions.binaural.rooms import ANECHOIC, LECTURE_HALL, Places
from esc_lib.companions.binaural.settings import FUSIONS, Settings
from esc_lib.companions.binaural.spectrograms import spectrograms
from esc_lib.data.clips import Data
from esc_lib.machine.files import made_once
from esc_lib.machine.fingerprint import fingerprint

ROOMS = ("anechoic", "hall, known seats", "hall, new seats")
# name: the cues that are heard, and what learns from them; without it they are looked up
RIVALS: dict[str, tuple[Callable, Callable | None]] = {
    "look-up (time, level)": (cues.simple_cues, None),
    "neighbours (time, level)": (cues.simple_cues, cues.neighbours),
    "neighbours (all cues)": (cues.rich_cues, cues.neighbours),
    "trees (levels only)": (cues.level_cues, cues.trees),
    "trees (all cues)": (cues.rich_cues, cues.trees),
}
LEVELS_ONLY, STRONGEST = "trees (levels only)", "trees (all cues)"
PUBLISHED_M = {("subtract", False): 57.14, ("subtract", True): 38.25, ("concatenate", False): 76.04}
PUBLISHED_DEG = 1.29  # mean error of the best form: subtract, separate, hybrid
GAP_S = 0.1  # between the steps of a walk around the head


@dataclass(frozen=True)
class Study:
    """What all systems hear: `renderer` puts `excerpts` at `places`, on the CPU.

    Of the hall's seats the first `settings.seats` are known, the others are for the test only.
    """

    settings: Settings
    head: Head
    excerpts: Excerpts
    places: Places
    renderer: Renderer


def make_study(data: Data, sr: int, settings: Settings, head: Head, folder: Path) -> Study:
    """Cut the clips, of `sr` Hz, and compute the responses of all places, or find them in a folder.

    They are kept there until the head, the places or the code of the rooms are others.
    """
    boxes, n_seats = [ANECHOIC, LECTURE_HALL], settings.seats + settings.new_seats
    identity = fingerprint(boxes, vars(head), settings.azimuths, n_seats, code=rooms.__file__)

    def make() -> dict:
        places = rooms.prepare_places(boxes, head, settings.azimuths, n_seats)
        return {
            **places.table.to_dict("list"),
            "azimuths": torch.from_numpy(places.azimuths),
            "responses": torch.from_numpy(places.responses),
        }

    kept = made_once(folder / "places.pt", identity, make)
    table = pd.DataFrame({name: kept[name] for name in ("room", "seat")})
    places = Places(table, kept["azimuths"].numpy(), kept["responses"].numpy())
    excerpts = cut_excerpts(data, sr, settings.excerpts)
    return Study(settings, head, excerpts, places, Renderer(excerpts, places))


def draw(study: Study, part: str, rounds: int) -> pd.DataFrame:
    """Draw scenes of :func:`rendering.draw_scenes`, as many in each of :data:`ROOMS`."""
    settings, drawn = study.settings, []
    known, new = range(settings.seats), range(settings.seats, settings.seats + settings.new_seats)
    for seats, name in ((known, ROOMS[1]), (new, ROOMS[2])):
        scenes = draw_scenes(study.excerpts, study.places, part, rounds, seats)
        in_hall = scenes.room == LECTURE_HALL.name
        named = scenes.assign(room=np.where(in_hall, name, ROOMS[0]))
        drawn.append(named if seats is known else named[in_hall])
    return pd.concat(drawn, ignore_index=True)


def variants(settings: Settings) -> dict[str, Settings]:
    """Return the forms that are compared after a short training, by name."""
    return {
        f"{fusion}, {'shared' if shared else 'separate'}, {loss}": replace(
            settings, fusion=fusion, shared=shared, loss=loss, epochs=settings.variant_epochs
        )
        for fusion, shared, loss in settings.variants
    }


def parameters_m(settings: Settings) -> float:
    """Return the number of parameters in millions, without making them."""
    with torch.device("meta"):
        model = BAST(settings)
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def sizes(settings: Settings) -> pd.DataFrame:
    """Return parameters in millions of every form: published, at that size, and as trained here."""
    rows = {}
    for fusion in FUSIONS:
        for shared in (False, True):
            form = {"fusion": fusion, "shared": shared}
            rows[fusion, "shared" if shared else "separate"] = {
                "published": PUBLISHED_M.get((fusion, shared), np.nan),
                "full size": parameters_m(Settings(**form)),
                "this build": parameters_m(replace(settings, **form)),
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["fusion", "encoders"])


def judge_network(study: Study, model: BAST, scenes: pd.DataFrame) -> pd.DataFrame:
    """Return the verdicts of :func:`judging.judge` on a network."""
    points = estimate(model, map(spectrograms, study.renderer.batches(scenes)))
    return judging.judge(scenes, judging.azimuth_of(points.numpy()))


def judge_rivals(study: Study, asked: dict[str, pd.DataFrame]) -> dict:
    """Let the rivals learn from training scenes; return name of scenes to rival to verdicts."""
    seats, rounds = range(study.settings.seats), study.settings.cue_rounds
    train = draw_scenes(study.excerpts, study.places, "train", rounds, seats)
    heard = {
        read: {
            name: np.concatenate([read(batch) for batch in study.renderer.batches(scenes)])
            for name, scenes in {"": train, **asked}.items()
        }
        for read in dict(RIVALS.values())
    }
    found: dict[str, dict[str, pd.DataFrame]] = {name: {} for name in asked}
    for rival, (read, make) in RIVALS.items():
        machine = make().fit(heard[read][""], targets(train).numpy()) if make else None
        for name, scenes in asked.items():
            if make:
                azimuths = judging.azimuth_of(machine.predict(heard[read][name]))
            else:
                azimuths = cues.look_up(heard[read][name], study.head)
            found[name][rival] = judging.judge(scenes, azimuths)
    return found


def around(study: Study, excerpt: int, n: int = 8) -> dict[str, np.ndarray]:
    """Lead an excerpt around the head, anticlockwise from ahead, in `n` steps.

    It returns room to float array, shape (samples, 2), peak 0.9 over both rooms.
    """
    places = study.places
    azimuth = np.arange(n) * len(places.azimuths) // n
    found = {}
    for place in (0, 1):  # without walls, and the first seat of the hall
        scenes = pd.DataFrame({"excerpt": excerpt, "place": place, "azimuth": azimuth})
        heard = torch.nn.functional.pad(study.renderer(scenes), (0, round(GAP_S * SR)))
        found[places.table.room[place]] = heard.permute(0, 2, 1).flatten(0, 1).numpy()
    peak = max(np.abs(heard).max() for heard in found.values())
    return {room: 0.9 * heard / peak for room, heard in found.items()}


def same_sound(study: Study, excerpt: int, azimuth_deg: float) -> pd.DataFrame:
    """Return two scenes, an excerpt at an azimuth in each room, for a picture."""
    azimuths = study.places.azimuths
    azimuth = int(np.argmin(judging.angular_error_deg(azimuths, azimuth_deg)))
    scenes = pd.DataFrame({"excerpt": excerpt, "place": [0, 1], "azimuth": azimuth})
    return scenes.assign(azimuth_deg=azimuths[azimuth], room=study.places.table.room[:2])
