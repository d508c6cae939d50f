"""All benchmarks in one run, and one table of their ratios: ``python -m benchmarks``.

Every script is a process of its own, one after the other. What they found goes to
``results/benchmarks.json``, and from there to the page "How fast, how large" of the book.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import page
from esc_lib.machine.files import save_json

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "results" / "benchmarks.json"
NARROW = ["--channels", "4", "8", "8", "8", "8"]
# script to what is added in a usual run, and in one that only shows that all of them run
SCRIPTS: dict[str, tuple[list[str], list[str]]] = {
    "front_end": ([], ["--clips", "2", "--batch", "2"]),
    "training_step": (
        ["--repeats", "5", "--batch", "16", "--warmup", "1"],
        ["--steps", "1", "--warmup", "1", "--batch", "2", *NARROW],
    ),
    "peak": ([], ["--sizes", "64", "96", "--batch", "2", *NARROW]),
    "explanation": ([], NARROW),
    "exact_solver": ([], ["--freq", "6", "--atoms", "12", "--frames", "260"]),
    "memory": (
        [], ["--clips", "40", "80", "--full", "--steps", "predictions", "decoding", *NARROW]
    ),
}  # fmt: skip


def measure(script: str, options: list[str]) -> dict:
    """Run a script and return what it saves; stop with its last line if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.json")
        command = [sys.executable, "-m", f"benchmarks.{script}", *options, "--json", str(file)]
        status = subprocess.run(command, cwd=ROOT).returncode
        if status:
            sys.exit(f"benchmarks: {script} failed with status {status}; nothing was recorded.")
        return json.loads(file.read_text(encoding="utf-8"))


def main() -> None:
    """Run from the command line."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument(
        "--scripts", choices=SCRIPTS, nargs="+", default=list(SCRIPTS),
        help="run these only; what the record holds of the others stays",
    )  # fmt: skip
    options.add_argument("--quick", action="store_true", help="at their smallest, nothing recorded")
    arguments = options.parse_args()

    record = {}
    if RECORD.is_file() and not arguments.quick:
        record = json.loads(RECORD.read_text(encoding="utf-8"))
    for script in arguments.scripts:
        usual, quick = SCRIPTS[script]
        print(f"----- {script}", flush=True)
        record[script] = measure(script, ["--repeats", "1", *quick] if arguments.quick else usual)
    record = {script: record[script] for script in SCRIPTS if script in record}
    print("-----", page.ratios(record).to_string(index=False), sep="\n")
    if not arguments.quick:
        save_json(RECORD, record)
        page.write(record, ROOT / "book")


if __name__ == "__main__":
    main()
