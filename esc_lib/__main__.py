"""``python -m esc_lib verify [folder]``: is this folder fit for the study?"""

from __future__ import annotations

import argparse
import sys

from esc_lib import datasets
from esc_lib.config import PROFILES, get_profile
from esc_lib.datasets import esc50


def verify(folder: str | None, profile: str) -> None:
    """Read the table, decode every clip and print what was found.

    Raises
    ------
    ValueError, OSError
        With one sentence, naming the file, if the study could not run on the folder.
    """
    settings = get_profile(profile)
    clips = esc50.read_clips(datasets.prepare(profile, folder), esc10_only=settings.esc10_only)
    decoded = esc50.decode(clips, settings.front_end.sr, settings.front_end.n_samples)
    print("\n".join(esc50.describe(clips, decoded.report)))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m esc_lib", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("verify", help="decode every clip of a folder and report")
    command.add_argument("folder", nargs="?", help="holds audio/ and meta/esc50.csv")
    command.add_argument("--profile", default="esc50", choices=PROFILES)
    options = parser.parse_args(arguments)
    try:
        verify(options.folder, options.profile)
    except (ValueError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
