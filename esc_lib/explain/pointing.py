"""Where explanations point when the place of the reason is known.

A network was taught a cue, see ``planted``. In clips of other classes whose decision the cue turns,
the map's maximum should lie on it, and its points should stand above all others.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from esc_lib.config import NARROW, Profile
from esc_lib.data.clips import Data
from esc_lib.evaluation.intervals import accuracy, mean_interval, source_draws
from esc_lib.explain.components import fit
from esc_lib.explain.conditions import take
from esc_lib.explain.explainer import Explainer
from esc_lib.explain.folds import PACKED
from esc_lib.explain.methods import EQUALISER, METHODS, OURS
from esc_lib.explain.planted import Place, Planted, network
from esc_lib.layers.embeddings import evenly
from esc_lib.machine.files import write_atomically
from esc_lib.machine.reading import read_table
from esc_lib.sound.log_mel import LogMel
from esc_lib.training import runs as experiments
from esc_lib.training.checkpoint import load

TURNED = 80.0  # percent of other classes' clips whose decision the cue has to turn, else no test
TAUGHT, USUAL = "taught the cue", "not taught"
LOUDEST = "control: loudest point"
FILES = {  # name to how it is packed
    "clips.csv": {},
    "hits.csv.gz": PACKED | {"float_format": "%.4g"},
}
MOST, REHEARSED = 120, 36  # clips of a part at most, evenly drawn; of procedural ones
SCORES = ("cue", "decoy", "above")
ENDS = ("value", "low", "high")


def narrow(profile: Profile) -> Profile:
    """Return the profile with a network that is quickly trained anew: the narrow one, at most."""
    wide = profile.network.channels[0] > NARROW.channels[0]
    return replace(profile, network=NARROW) if wide else profile


def examine(
    data: Data, profile: Profile, runs: Path, folder: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Teach a network the cue, and judge explanations of it and of the usual one beside it.

    Both are trained unless that was done before; the tables of :func:`judged` go to `folder` as
    ``<run>/clips.csv`` and ``<run>/hits.csv.gz``.
    """
    profile = narrow(profile)
    data, name = experiments.split_for(data, profile), experiments.name_of(profile)
    planted = Planted.draw(data, profile.front_end.sr)
    usual = experiments.run(data, profile, runs) / "model.safetensors"
    networks = {
        TAUGHT: network(data, profile, planted, runs),
        USUAL: load(usual, profile, data.class_names),
    }
    tables = judged(data, profile, networks, planted, folder / name)
    for table, (file, options) in zip(tables, FILES.items(), strict=True):
        write_atomically(folder / name / file, partial(table.to_csv, index=False, **options))
    return tables


def collect(
    data: Data, profile: Profile, runs: Path, folder: Path, recorded: Path | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of :func:`examine`; those of a recorded study go before."""
    known = recorded and recorded / "planted" / experiments.name_of(narrow(profile))
    if known and all((known / file).is_file() for file in FILES):
        clips, hits = (read_table(known / file, words=["part", "src_file"]) for file in FILES)
        return clips, hits
    return examine(data, profile, runs, folder)


def judged(
    data: Data, profile: Profile, networks: Mapping[str, nn.Module], planted: Planted, folder: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Insert the cue into clips of other classes, and see where explanations of its effect point.

    Parameters
    ----------
    networks : the first was taught the cue; the others hear the same clips.
    folder : of the dictionaries over the networks' layers.

    Returns
    -------
    DataFrame, a row per clip that the network did not give the cue's class while it held the decoy
        alone: part, filename, src_file, and whether the cue turned it. Of validation and of test
        clips at most `MOST` are asked.
    DataFrame, a row per clip that was turned, network and method: what share of the map's maxima
        lies on the cue and on the decoy, and above which share of all points the cue's stand.
    """
    device, sr = next(networks[TAUGHT].parameters()).device, profile.front_end.sr
    front_end = LogMel(profile.front_end).to(device)
    fitted = {
        name: fit(folder / f"{name}.pt", model, front_end, data, profile)
        for name, model in networks.items()
    }
    clips, hits = [], []
    for part in ("validation", "test"):
        rows = getattr(data.split, part)
        rows = rows[data.labels[rows].numpy() != planted.label]
        rows = rows[evenly(data.labels[rows].numpy(), REHEARSED if profile.procedural else MOST)]
        before = take(data, rows, "clean", sr, device)
        before = replace(before, waveforms=planted.decoy.added_to(before.waveforms, rows, sr))
        after = replace(before, waveforms=planted.cue.added_to(before.waveforms, rows, sr))
        was, now = (
            Explainer(networks[TAUGHT], front_end, {}, each).targets.cpu() == planted.label
            for each in (before, after)
        )
        asked = data.clips.iloc[rows[~was]][["filename", "src_file"]]
        clips.append(asked.assign(part=part, turned=now[~was].numpy()))
        turned = torch.nonzero(now & ~was)[:, 0]
        for name, model in networks.items():
            explainer = Explainer(model, front_end, fitted[name], after.only(turned))
            found = _hits(explainer, planted).assign(part=part, network=name)
            hits.append(found.assign(src_file=data.clips.src_file.to_numpy()[found.row]))
    return pd.concat(clips, ignore_index=True), pd.concat(hits, ignore_index=True)


def maps() -> dict[str, Callable[[Explainer], torch.Tensor]]:
    """Return the methods asked: rivals' maps before they become masks, our masks, and loudness."""
    found = {
        name: method.make
        for name, method in METHODS.items()
        if name in (OURS, EQUALISER) or (method.kind == "rival" and method.shape)
    }
    return found | {LOUDEST: lambda explainer: explainer.power}


def _hits(explainer: Explainer, planted: Planted) -> pd.DataFrame:
    """Return a row per clip and method, see :func:`judged`."""
    rows, found = explainer.inputs.rows, []
    places = [
        [tone.place(explainer.front_end, row) for tone in (planted.cue, planted.decoy)]
        for row in rows
    ]
    for name, make in maps().items():
        for row, heat, (cue, decoy) in zip(rows, make(explainer), places, strict=True):
            scores = hit(heat, cue), hit(heat, decoy), above(heat, cue)
            found.append({"row": row, "method": name} | dict(zip(SCORES, scores, strict=True)))
    return pd.DataFrame(found)


def hit(heat: torch.Tensor, place: Place) -> float:
    """Return the share of one map's highest values, (mel, frames), that is at a place."""
    highest = heat == heat.max()
    return float(highest[place].sum() / highest.sum())


def above(heat: torch.Tensor, place: Place) -> float:
    """Return over which share of a map's points those at a place stand, on average; ties half."""
    points = heat.flatten().sort().values
    at = heat[place].flatten().contiguous()
    below = (torch.searchsorted(points, at) + torch.searchsorted(points, at, right=True)) / 2
    return float(below.float().mean() / len(points))


def summary(hits: pd.DataFrame, part: str = "test") -> pd.DataFrame:
    """Return each score in percent, with its interval over recordings.

    Index: method, network, score; columns value, low, high.
    """
    found = {}
    for (of_network, method), table in hits[hits.part == part].groupby(["network", "method"]):
        for score in SCORES:
            values, sources = table[score].to_numpy(float), table.src_file.to_numpy()
            if score == "above":  # no answers that are right or wrong
                ends = mean_interval(100 * values, source_draws(sources))
            else:
                ends = accuracy(values, sources)
            found[method, of_network, score] = dict(zip(ENDS, ends, strict=True))
    table = pd.DataFrame.from_dict(found, orient="index")
    return table.rename_axis(["method", "network", "score"])


def chosen(hits: pd.DataFrame) -> str:
    """Return the method that hits the cue most often in validation clips."""
    of_taught = hits[(hits.network == TAUGHT) & (hits.part == "validation")]
    return of_taught.groupby("method").cue.mean().idxmax()


def sentence(clips: pd.DataFrame, hits: pd.DataFrame) -> str:
    """Say whether an explanation points to the cue, in test clips."""
    of_test = clips[clips.part == "test"]
    turned, *_ = accuracy(of_test.turned.to_numpy(), of_test.src_file.to_numpy())
    known = f"the tone turns {turned:.0f} % of {len(of_test)} test clips of other classes"
    if turned < TURNED:
        return f"{known}, fewer than {TURNED:.0f} %, so the network does not go by it: no test"
    best, found = chosen(hits), summary(hits)
    own = found.loc[best].loc[TAUGHT]
    hit, decoy = own.loc["cue"], own.loc["decoy"]
    others = ", ".join(
        f"{name.removeprefix('control: ')} in {found.loc[(name, TAUGHT, 'cue'), 'value']:.0f} %"
        for name in (OURS, EQUALISER, "Grad-CAM")
    )
    return (
        f"{known}; the highest point of {best}, chosen on validation clips, lies on it in "
        f"{hit.value:.0f} % ({hit.low:.0f} to {hit.high:.0f} %) of those, on an equally loud decoy "
        f"in {decoy.value:.0f} %; that of {others}"
    )
