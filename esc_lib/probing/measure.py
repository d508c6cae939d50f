"""Networks probed as independent pieces: trained, and beside it random convolutions.

A network's folder, ``probing/<name of its run>/``, holds a table of each kind, a row per clip as
far as it has clips, and, written last, ``identity.json``.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pandas as pd
from torch import nn

from esc_lib.config import Profile, variant
from esc_lib.data.clips import Data
from esc_lib.evaluation.intervals import source_draws
from esc_lib.machine import pieces
from esc_lib.machine.files import save_json, write_atomically
from esc_lib.machine.fingerprint import fingerprint
from esc_lib.machine.hardware import best_device
from esc_lib.machine.reading import read_json, read_table
from esc_lib.probing.stability import stable_share
from esc_lib.probing.subject import Subject, some_of
from esc_lib.probing.untrained import random_network
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import runs as experiments
from esc_lib.training.checkpoint import load

# "stability" is missing where no network of the next seed was trained
TABLES = ("held", "dead", "meanings", "effects", "classes", "clips", "stability")
UNTRAINED = 4  # networks without training, whose pairs say what chance matches
DRAWS = 500  # of recordings, of which stability keeps each
LABELS = ("fold", "seed", "width")  # of the network, in every table
DIGITS = 6  # of numbers in tables

Tables = dict[str, pd.DataFrame]


def probe(data: Data, profile: Profile, runs: Path, probing: Path) -> Tables:
    """Probe the network of a profile's run, unless that was done before, and keep the tables.

    Raises
    ------
    FileNotFoundError
        If the network was not trained.
    """
    weights, folder = _weights(profile, runs), probing / experiments.name_of(profile)
    if not weights.is_file():
        raise FileNotFoundError(
            f"probe: {weights} is missing; train it first, as with "
            f"{experiments.how_to_train(profile)}."
        )
    following = variant(profile, seed=profile.training.seed + 1)
    partner = _weights(following, runs) if _weights(following, runs).is_file() else None
    files = [path.read_bytes() for path in (weights, partner) if path]
    identity = fingerprint(files, profile.probing, profile.dictionaries, code=__file__)
    note = folder / "identity.json"
    if note.is_file() and read_json(note).get("identity") == identity:
        return read_tables(folder)
    data = experiments.split_for(data, profile)
    first = 1000 + 100 * profile.test_fold + 10 * profile.training.seed  # of the random seeds
    subject = partial(_subject, data, profile)
    subjects = {
        "trained": subject(load(weights, profile, data.class_names)),
        "random": subject(random_network(data, profile, first), seed=first),
    }
    found = every_measure(subjects)
    if partner:
        other = load(partner, following, data.class_names)
        pair = _subject(experiments.split_for(data, following), following, other)
        chance = [
            subject(random_network(data, profile, first + i, head=False), seed=first + i)
            for i in range(1, UNTRAINED)
        ]
        one = subjects["trained"]
        found["stability"] = stability(one, pair, [subjects["random"], *chance], one.own_bases)
    width = profile.network.channels[0]
    label = {"fold": profile.test_fold, "seed": profile.training.seed, "width": width}
    for name, table in found.items():
        write = partial(table.assign(**label).round(DIGITS).to_csv, index=False, compression="gzip")
        write_atomically(folder / f"{name}.csv.gz", write)
    save_json(note, {"identity": identity})
    return read_tables(folder)


def every_measure(subjects: dict[str, Subject]) -> Tables:
    """Return the tables of some networks, by name, joined; their column network names them."""
    made = {name: subject.tables() for name, subject in subjects.items()}
    return {
        table: pd.concat([of[table].assign(network=name) for name, of in made.items()])
        for table in next(iter(made.values()))
    }


def stability(
    one: Subject, other: Subject, untrained: list[Subject], bases: Iterable[str]
) -> pd.DataFrame:
    """Return :func:`stability.stable_share` of two networks in some bases.

    Of four untrained networks two pairs set the bar, and the two others are the control.
    """
    sources = one.data.clips.src_file.iloc[one.data.split.test].to_numpy()
    draws, tables = source_draws(sources, DRAWS), []
    for basis in bases:
        first, second, *chance = (each.unseen(basis) for each in (one, other, *untrained))
        a, b, c, d = chance
        table = stable_share((first, second), [(a, b), (c, d)], [(a, c), (b, d)], draws)
        tables.append(table.assign(basis=basis))
    return pd.concat(tables, ignore_index=True)


def _weights(profile: Profile, runs: Path) -> Path:
    return runs / experiments.name_of(profile) / "model.safetensors"


def _subject(data: Data, profile: Profile, model: nn.Module, seed: int | None = None) -> Subject:
    own = profile.dictionaries
    front_end = LogMel(profile.front_end).to(best_device())
    few = some_of(data, profile.probing, profile.training.seed)
    seed = profile.training.seed if seed is None else seed
    return Subject(model, front_end, data, own.layer, profile.probing, own, seed, few)


def read_tables(folder: Path) -> Tables:
    """Return the tables of a folder, by name; those that are missing are left out."""
    files = {name: folder / f"{name}.csv.gz" for name in TABLES}
    return {n: read_table(file, LABELS) for n, file in files.items() if file.is_file()}


def probe_networks(
    data: Data, profiles: Iterable[Profile], runs: Path, probing: Path, scheduler: str = "",
    jobs: int = 0,
) -> list[Path]:  # fmt: skip
    """Do :func:`probe` for several networks at once, and return their folders.

    Parameters
    ----------
    scheduler, jobs : as for ``pieces.carry_out``.
    """
    work = partial(_probe_in, data, runs, probing)
    return pieces.carry_out(work, profiles, "networks", scheduler, jobs)


def _probe_in(data: Data, runs: Path, probing: Path, profile: Profile) -> Path:
    probe(data, profile, runs, probing)
    return probing / experiments.name_of(profile)


def by_width(tables: Tables) -> dict[int, Tables]:
    """Return the tables of networks as wide as each other, by channels of block 1, most first."""
    counts = tables["held"].groupby("width").run.nunique().sort_values(ascending=False)
    return {
        width: {name: table[table.width == width] for name, table in tables.items()}
        for width in counts.index
    }


def collect(
    data: Data, profile: Profile, runs: Path, probing: Path, recorded: Path | None = None
) -> Tables:
    """Return the tables of all networks that were probed, joined; column run names the network.

    A recorded study's go before; if nobody was probed, the profile's own network is.
    """
    found: dict[str, Tables] = {}
    for folder in (recorded / "probing" if recorded else None, probing):
        for note in sorted(folder.glob("*/identity.json")) if folder else ():
            found.setdefault(note.parent.name, read_tables(note.parent))
    if not found:
        found[experiments.name_of(profile)] = probe(data, profile, runs, probing)
    return {
        name: pd.concat([of[name].assign(run=run) for run, of in found.items() if name in of])
        for name in TABLES
        if any(name in of for of in found.values())
    }
