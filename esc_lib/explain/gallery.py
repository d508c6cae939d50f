"""Portraits of networks' classes, drawn and judged network by network, and what they say."""

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pandas as pd

from esc_lib.config import Profile
from esc_lib.data.clips import Data
from esc_lib.dictionaries.fitting import fit_layer
from esc_lib.dictionaries.gather import gather
from esc_lib.evaluation.intervals import mean_interval, source_draws
from esc_lib.explain import folds
from esc_lib.explain.components import Components
from esc_lib.explain.conditions import take
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.portraits import ENERGY, OURS, Portraits, draw, judge_portraits
from esc_lib.machine import pieces
from esc_lib.machine.files import write_atomically
from esc_lib.machine.hardware import best_device
from esc_lib.machine.reading import read_table
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import runs as experiments

ENDS = ("mean", "low", "high")


def examine(data: Data, profile: Profile, runs: Path, folder: Path) -> Portraits:
    """Draw the portraits of a trained network's classes, and judge them on its test clips.

    The table of :func:`judge_portraits`, with source, label and fold, goes to `folder`, as
    ``<name of the run>.csv.gz``.

    Raises
    ------
    FileNotFoundError
        If the network was not trained.
    """
    data = experiments.split_for(data, profile)
    model, device = folds.open_network(runs, data, profile)[1], best_device()
    front_end, layer = LogMel(profile.front_end).to(device), profile.dictionaries.layer
    rows, train = data.split.test, data.split.train
    sums = gather(model, front_end, data, train, [layer]).statistics[layer]
    found = fit_layer(sums, profile.dictionaries, profile.training.seed, models=())
    fitted = Components(layer, found.optimum.float(), found.scale.float()).to(device)
    explainer = Explainer(
        model, front_end, {(layer, "optimum"): fitted},
        take(data, rows, "clean", profile.front_end.sr, device),
        judges=folds.panel(data, profile, runs, front_end),
    )  # fmt: skip
    drawn, labels = draw(explainer, data, fitted), data.labels.numpy()[rows]
    table = judge_portraits(explainer, drawn, labels)
    known = pd.DataFrame({"row": rows, "label": labels, "source": data.clips.src_file.iloc[rows]})
    table = table.merge(known, on="row").assign(fold=profile.test_fold)
    path = folder / f"{experiments.name_of(profile)}.csv.gz"
    write_atomically(path, partial(table.round(4).to_csv, index=False, **folds.PACKED))
    return drawn


def examine_networks(
    data: Data, profiles: Iterable[Profile], runs: Path, folder: Path, scheduler: str = "",
    jobs: int = 0,
) -> list[Path]:  # fmt: skip
    """Do :func:`examine` for several networks at once, and return where their tables are.

    Parameters
    ----------
    scheduler, jobs : as for ``pieces.carry_out``.
    """
    return pieces.carry_out(
        partial(_examined, data, runs, folder), profiles, "networks", scheduler, jobs
    )


def _examined(data: Data, runs: Path, folder: Path, profile: Profile) -> Path:
    examine(data, profile, runs, folder)
    return folder / f"{experiments.name_of(profile)}.csv.gz"


def collect(folder: Path, recorded: Path | None = None) -> pd.DataFrame:
    """Return the judged portraits of all networks there are; those of a recorded study go before.

    The column network is the name of the run without its fold.
    """
    found = {}
    for place in (folder, recorded and recorded / "portraits"):
        found |= {path.name: path for path in sorted(place.glob("*.csv.gz"))} if place else {}
    tables = [
        read_table(path, ["kept", "gain_wrong"], ["method"]).assign(
            network=re.sub(r"-fold\d+|\.csv\.gz", "", name)
        )
        for name, path in found.items()
    ]
    return pd.concat(tables, ignore_index=True)


def compare(judged: pd.DataFrame) -> pd.DataFrame:
    """Return what is kept, by method and number of atoms, with 95 % intervals over recordings.

    Columns: (score, "mean" | "low" | "high"); scores are stays and turned in percent, kept,
    gain_wrong and the second judges' gains.
    """
    judged = judged.assign(stays=100.0 * judged.stays, turned=100.0 * judged.turned)
    scores = ["stays", "turned", "kept", "gain_wrong"]
    scores += [name for name in judged if name.startswith("gain ")]
    rows = {}
    for key, table in judged.groupby(["method", "n"]):
        draws = source_draws(table.source.to_numpy(), n_draws=1000)
        rows[key] = {
            (score, end): value
            for score in scores
            for end, value in zip(ENDS, mean_interval(table[score].to_numpy(float), draws))
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["method", "n"])


def ahead(judged: pd.DataFrame, score: str, n: int) -> pd.DataFrame:
    """Return by how much portraits of n atoms differ from each control, clip by clip.

    Columns are mean, low, high (95 %, over recordings) of the difference in `score`.
    """
    clip, of_size = ["fold", "row"], judged[judged.n.isin([0, n])]
    tables = {name: t.set_index(clip) for name, t in of_size.groupby("method")}
    ours, rows = tables.pop(OURS), {}
    for name, table in tables.items():
        gap = ours[score].astype(float) - table[score].astype(float).reindex(ours.index)
        draws = source_draws(ours.source.to_numpy(), n_draws=1000)
        rows[name] = dict(zip(ENDS, mean_interval(gap.to_numpy(), draws)))
    return pd.DataFrame.from_dict(rows, orient="index")


def sentence(judged: pd.DataFrame, n: int = 5) -> str:
    """Say whether the portraits of n atoms keep what their controls do not."""
    table, gaps = compare(judged), ahead(judged, "stays", n) * 100
    own = table.loc[OURS, n]
    beaten = [name for name, gap in gaps.iterrows() if gap.low > 0]
    others = [
        f"{name} ({gap['mean']:+.0f}, {gap.low:+.0f} to {gap.high:+.0f})"
        for name, gap in gaps.iterrows()
    ]
    verdict = "ahead of every control" if len(beaten) == len(gaps) else (
        f"ahead of {', '.join(beaten)} alone" if beaten else "ahead of no control"
    )  # fmt: skip
    return (
        f"with {n} atoms per class, chosen on training clips, and {100 * ENERGY:.0f} % of a clip's "
        f"energy the network stays with the label in {own['stays', 'mean']:.0f} % of test clips "
        f"({own['stays', 'low']:.0f} to {own['stays', 'high']:.0f}); the portrait of a wrong class "
        f"turns {own['turned', 'mean']:.0f} % of them to it. In points against the controls: "
        f"{'; '.join(others)}: {verdict}"
    )
