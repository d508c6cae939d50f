"""``python -m esc_lib verify``: is a folder fit for the study?  ``train``: runs of the study."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from esc_lib.config import PROFILES, RECIPES, get_profile
from esc_lib.data import decoding, esc50, prepare
from esc_lib.data.clips import WAVEFORMS, open_data
from esc_lib.machine.fingerprint import ROOT
from esc_lib.machine.provenance import checksum_of
from esc_lib.study import find, root


def verify(folder: str | None, profile: str) -> None:
    """Read the table, decode every clip and print what was found.

    Raises
    ------
    ValueError, OSError
        With one sentence, naming the file, if the study could not run on the folder.
    """
    settings = get_profile(profile)
    clips = esc50.read_clips(prepare(profile, folder), esc10_only=settings.esc10_only)
    own = settings.front_end
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, WAVEFORMS)
        report = decoding.decode(clips, own.sr, own.n_samples, file).report
    print("\n".join(decoding.describe(clips, report)))


def train(options: argparse.Namespace) -> None:
    """Do the runs of all chosen folds and seeds that are not done yet, one after another.

    Any number of these commands may share the work, each with its own folds or seeds; under
    ``fabric run`` several devices share one run.

    Raises
    ------
    ValueError, OSError
        With one sentence if the study's first notebook did not run, or a setting is wrong.
    """
    from esc_lib.training import runs  # Lightning Fabric takes a while to import

    artifacts = root(options.profile, options.artifacts)
    data = open_data(find(artifacts, "01_data"))
    changes = {"recipe": RECIPES[options.recipe], "protocol": options.protocol}
    changes |= {"architecture": options.architecture}
    if options.epochs:
        changes["epochs"] = options.epochs
    for seed in options.seeds:
        for fold in options.folds:
            settings = runs.variant(
                get_profile(options.profile), test_fold=fold, seed=seed, **changes
            )
            print(runs.run(data, settings, artifacts / "runs"), flush=True)


def evidence(options: argparse.Namespace) -> None:
    """Do the runs of one comparison of the profile, or every n-th of them."""
    from esc_lib.training.comparisons import carry_out, plan

    artifacts = root(options.profile, options.artifacts)
    data = open_data(find(artifacts, "01_data"))
    first, step = (int(number) for number in options.share.split("/"))
    planned = [p for p in plan(get_profile(options.profile)) if p.group in options.groups]
    for item in planned[first - 1 :: step]:
        carry_out([item], data, artifacts / "runs")
        print(f"{item.group}, {item.label}, fold {item.profile.test_fold}: done", flush=True)


def recipe(options: argparse.Namespace) -> None:
    """Do the runs by which a recipe is chosen on validation clips, or every n-th of them.

    Runs that ``results/`` holds of these very clips are not done again.
    """
    from esc_lib.training import runs
    from esc_lib.training.recipe_search import plan

    artifacts = root(options.profile, options.artifacts)
    data = open_data(find(artifacts, "01_data"))
    first, step = (int(number) for number in options.share.split("/"))
    recorded, checksum = ROOT / "results" / options.profile, checksum_of(data.waveforms)
    for settings in plan(get_profile(options.profile))[first - 1 :: step]:
        found = runs.find_recorded(settings, recorded, checksum)
        print(found or runs.run(data, settings, artifacts / "runs"), flush=True)


def explain(options: argparse.Namespace) -> None:
    """Explain the test decisions of the chosen folds by every method, as notebook 08 compares them.

    Raises
    ------
    ValueError, OSError
        With one sentence if a fold's network was not trained.
    """
    from esc_lib.explain import explain_fold
    from esc_lib.training.runs import variant

    artifacts = root(options.profile, options.artifacts)
    data = open_data(find(artifacts, "01_data"))
    for fold in options.folds:
        settings = variant(get_profile(options.profile), test_fold=fold)
        folder = artifacts / "explanations" / f"fold{fold}"
        judged = explain_fold(data, settings, artifacts / "runs", folder, options.only)
        print(f"{folder}: {len(judged)} rows", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m esc_lib", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("verify", help="decode every clip of a folder and report")
    command.add_argument("folder", nargs="?", help="holds audio/ and meta/esc50.csv")
    command.add_argument("--profile", default="esc50", choices=PROFILES)
    command.set_defaults(run=lambda options: verify(options.folder, options.profile))
    command = commands.add_parser("train", help="train and test on folds, beside notebook 03")
    command.add_argument("--profile", default="demo", choices=PROFILES)
    command.add_argument("--artifacts", default="", help="default: build/<profile>/artifacts")
    command.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    command.add_argument("--seeds", type=int, nargs="+", default=[0])
    command.add_argument("--recipe", default="strong", choices=RECIPES)
    command.add_argument("--protocol", default="source_grouped")
    command.add_argument("--architecture", default="se_cnn")
    command.add_argument("--epochs", type=int, help="default: the profile's")
    command.set_defaults(run=train)
    command = commands.add_parser("evidence", help="do the runs that notebook 12 compares")
    command.add_argument("--profile", default="demo", choices=PROFILES)
    command.add_argument("--artifacts", default="", help="default: build/<profile>/artifacts")
    command.add_argument("--groups", nargs="+", default=["folds"], help="or protocols ...")
    command.add_argument("--share", default="1/1", help="2/4: the second of four processes")
    command.set_defaults(run=evidence)
    command = commands.add_parser("recipe", help="do the runs that choose how to train")
    command.add_argument("--profile", default="demo", choices=PROFILES)
    command.add_argument("--artifacts", default="", help="default: build/<profile>/artifacts")
    command.add_argument("--share", default="1/1", help="2/4: the second of four processes")
    command.set_defaults(run=recipe)
    command = commands.add_parser("explain", help="explain the decisions that notebook 08 compares")
    command.add_argument("--profile", default="demo", choices=PROFILES)
    command.add_argument("--artifacts", default="", help="default: build/<profile>/artifacts")
    command.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    command.add_argument("--only", nargs="+", default=[], help="methods, as 'components' Grad-CAM")
    command.set_defaults(run=explain)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
