"""Commands beside the notebooks: is a folder fit, runs of networks, and measures of them."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from esc_lib.config import NARROW, PROFILES, RECIPES, Profile, get_profile, variant
from esc_lib.data import decoding, prepare, read_clips
from esc_lib.data.clips import WAVEFORMS, Data, open_data
from esc_lib.data.splits import PROTOCOLS
from esc_lib.machine.fingerprint import ROOT
from esc_lib.machine.provenance import checksum_of
from esc_lib.models.peers import PEERS
from esc_lib.study import find, root

GROUPS = ("folds", "protocols", "ablation", "peers")  # of notebook 12


def verify(folder: str | None, profile: str) -> None:
    """Read the table, decode every clip and print what was found.

    Raises
    ------
    ValueError, OSError
        With one sentence, naming the file, if the study could not run on the folder.
    """
    settings = get_profile(profile)
    clips = read_clips(prepare(profile, folder), esc10_only=settings.esc10_only)
    own = settings.front_end
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, WAVEFORMS)
        report = decoding.decode(clips, own.sr, own.n_samples, file).report
    print("\n".join(decoding.describe(clips, report)))


def train(options: argparse.Namespace) -> None:
    """Do the runs of all chosen folds and seeds that are not done yet, or take recorded ones.

    Under ``fabric run`` several devices share each run.

    Raises
    ------
    ValueError, OSError
        With one sentence if the study's first notebook did not run, or a setting is wrong.
    """
    if options.narrow and options.architecture != "se_cnn":
        raise ValueError(f"train: --narrow is a width of se_cnn, not of {options.architecture}.")
    profiles = _networks(options, architecture=options.architecture)
    if not options.start:
        return _runs(options, profiles)
    from esc_lib.training.runs import adopt

    artifacts = _artifacts(options)
    data = _clips(options)
    for profile in profiles:
        print(adopt(options.start, data, profile, artifacts / "runs"), flush=True)


def evidence(options: argparse.Namespace) -> None:
    """Do the runs of some comparisons of the profile."""
    from esc_lib.training.comparisons import plan

    planned = plan(get_profile(options.profile), set(_clips(options).clips.fold))
    _runs(options, [item.profile for item in planned if item.group in options.groups])


def recipe(options: argparse.Namespace) -> None:
    """Do the runs by which a recipe is chosen on validation clips.

    Runs that ``results/`` holds of these very clips are not done again.
    """
    from esc_lib.training.recipe_search import plan
    from esc_lib.training.runs import find_recorded

    data = _clips(options)
    recorded, checksum = ROOT / "results" / options.profile, checksum_of(data.waveforms)
    planned = plan(get_profile(options.profile))
    _runs(options, [each for each in planned if not find_recorded(each, recorded, checksum)])


def _runs(options: argparse.Namespace, profiles: list[Profile]) -> None:
    from esc_lib.training import runs  # Lightning Fabric takes a while to import

    artifacts = _artifacts(options)
    data = _clips(options)
    for run in runs.carry_out(data, profiles, artifacts / "runs", options.scheduler, options.jobs):
        print(run, flush=True)


def hear(options: argparse.Namespace) -> None:
    """Explain one sound file by a recorded network, in a page to listen to.

    Raises
    ------
    ValueError, OSError
        With one sentence if file, network or class cannot be had.
    """
    from esc_lib.explain import hear

    page = Path(options.page or Path(options.sound).with_suffix(".html").name)
    print(hear.hear(Path(options.sound), Path(options.model), page, options.target,
                    method=options.method))  # fmt: skip
    print(page)


def run(options: argparse.Namespace) -> None:
    """Execute notebooks in batch, and before them those that they read."""
    from esc_lib.study import alone
    from esc_lib.study.options import Options

    given = {name.upper(): str(getattr(options, name) or "")
             for name in ("profile", "data", "start", "epochs")}  # fmt: skip
    alone.run(Options.of_environment({"JOBS": "1"} | given), options.notebooks)


def keep(options: argparse.Namespace) -> None:
    """Put finished runs, narrow networks, tables and some executed pages into ``results/``."""
    from esc_lib.study import record

    artifacts, target = _artifacts(options), ROOT / "results" / options.profile
    record.keep(artifacts, target, earlier=target)
    pages = [artifacts.parent / "notebooks" / f"{name}.ipynb" for name in options.pages]
    if pages:
        record.keep_pages(artifacts, pages, target)
    record.check_sizes(target)
    print(target)


def explain(options: argparse.Namespace) -> None:
    """Explain the test decisions of the chosen networks by every method, as notebook 08 does."""
    from esc_lib.explain import explain_folds

    _measure(options, partial(explain_folds, only=options.only), "explanations")


def probe(options: argparse.Namespace) -> None:
    """Measure what hidden layers do, and random ones, in networks that were trained."""
    from esc_lib.probing import probe_networks

    _measure(options, probe_networks, "probing")


def portraits(options: argparse.Namespace) -> None:
    """Draw the portraits of classes in networks that were trained, and judge them on test clips."""
    from esc_lib.explain.gallery import examine_networks

    _measure(options, examine_networks, "portraits")


def shortcuts(options: argparse.Namespace) -> None:
    """Judge networks on test clips from which a cue of their making was taken."""
    from esc_lib.probing.shortcuts import measure_networks

    _measure(options, measure_networks, "shortcuts")


def _measure(options: argparse.Namespace, measure: Callable, folder: str) -> None:
    """Measure all chosen networks, and print where what was found lies.

    Raises
    ------
    ValueError, OSError
        With one sentence if a network was not trained.
    """
    artifacts = _artifacts(options)
    data = _clips(options)
    given = artifacts / "runs", artifacts / folder, options.scheduler, options.jobs
    for path in measure(data, _networks(options), *given):
        print(path, flush=True)


def _networks(options: argparse.Namespace, **changes) -> list[Profile]:
    """Return the profiles of all chosen seeds, folds, widths and trainings."""
    usual = get_profile(options.profile)
    if options.narrow:
        usual = replace(usual, network=NARROW)
    if options.recipe:
        changes["recipe"] = RECIPES[options.recipe]
    changes |= {name: getattr(options, name) for name in ("protocol", "epochs")
                if getattr(options, name)}  # fmt: skip
    folds = options.folds or sorted(set(_clips(options).clips.fold))
    return [
        variant(usual, test_fold=fold, seed=seed, **changes)
        for seed in options.seeds
        for fold in folds
    ]


def _artifacts(options: argparse.Namespace) -> Path:
    return root(options.profile, options.artifacts).resolve()


def _clips(options: argparse.Namespace) -> Data:
    return open_data(find(_artifacts(options), "01_data"))


def _count(text: str) -> int:
    """Return a whole number that is not negative; argparse says what is not one."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)


def _positive(text: str) -> int:
    """Return a whole number above 0."""
    if not _count(text):
        raise argparse.ArgumentTypeError("0 is too few")
    return int(text)


def _study_command(commands, run, help: str, networks: bool = True) -> argparse.ArgumentParser:
    """Add a command that does independent pieces of a study, of chosen networks or by a plan."""
    command = commands.add_parser(run.__name__, help=help)
    command.add_argument("--profile", default="demo", choices=PROFILES)
    command.add_argument("--artifacts", default="", help="default: build/<profile>/artifacts")
    command.add_argument("--jobs", type=_count, default=0, help="at once; default: one per core")
    command.add_argument("--scheduler", default="", help="of a Dask cluster, as tcp://host:8786")
    if networks:
        command.add_argument("--folds", type=_count, nargs="+", help="default: all")
        command.add_argument("--seeds", type=_count, nargs="+", default=[0])
        command.add_argument("--narrow", action="store_true", help="a quarter of the channels")
        command.add_argument("--recipe", choices=RECIPES, help="default: the profile's")
        command.add_argument("--protocol", choices=PROTOCOLS, help="default: the profile's")
        command.add_argument("--epochs", type=_positive, help="default: the profile's")
    command.set_defaults(run=run)
    return command


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m esc_lib", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("verify", help="decode every clip of a folder and report")
    command.add_argument("folder", nargs="?", help="holds audio/ and meta/esc50.csv")
    command.add_argument("--profile", default="esc50", choices=PROFILES)
    command.set_defaults(run=lambda options: verify(options.folder, options.profile))
    command = commands.add_parser("run", help="run notebooks, and before them what they read")
    command.add_argument("notebooks", nargs="+", metavar="notebook", help="05, or the whole name")
    command.add_argument("--profile", default="demo", choices=PROFILES)
    command.add_argument("--data", help="folder of the clips; default: made or downloaded")
    command.add_argument("--start", help="recorded study whose weights are taken, as results/esc10")
    command.add_argument("--epochs", type=_positive, help="default: the profile's")
    command.set_defaults(run=run)
    command = _study_command(commands, train, "train and test on folds, beside notebook 03")
    command.add_argument("--architecture", default="se_cnn", choices=["se_cnn", *PEERS])
    command.add_argument("--start", help="recorded study whose weights are taken, as results/esc10")
    command = _study_command(commands, evidence, "do the runs that notebook 12 compares", False)
    command.add_argument("--groups", nargs="+", default=["folds"], choices=GROUPS)
    _study_command(commands, recipe, "do the runs that choose how to train", False)
    command = _study_command(commands, explain, "explain the decisions that notebook 08 compares")
    command.add_argument("--only", nargs="+", default=[], help="methods, as 'components' Grad-CAM")
    _study_command(commands, probe, "measure hidden layers as notebook 14 does")
    _study_command(commands, portraits, "draw and judge the portraits of notebook 15")
    _study_command(commands, shortcuts, "take cues of their making out of test clips")
    command = _study_command(commands, keep, "put finished runs and tables into results/", False)
    command.add_argument("--pages", nargs="+", default=[], help="executed, as 17_planted_cue")
    command = commands.add_parser("hear", help="explain a sound file: a page to listen to")
    command.add_argument("sound", help="a file that libsndfile reads, as wav, flac, ogg or mp3")
    command.add_argument("--model", default=str(ROOT / "results" / "esc10"), help="recorded study")
    command.add_argument("--target", default="", help="class explained; default: the decision")
    command.add_argument("--method", default="integrated gradients")
    command.add_argument("--page", default="", help="default: the sound's name with .html")
    command.set_defaults(run=hear)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except ModuleNotFoundError as error:
        extras = "study, deploy, cluster or notebooks"
        print(f"{error.name} is not installed; it comes with an extra of esc-lib: {extras}.",
              file=sys.stderr)  # fmt: skip
        return 1
    except (ValueError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
