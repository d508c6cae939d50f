"""Make torchaudio importable beside a CPU build of torch.

``python -m esc_lib.machine.torchaudio_setup`` does it.

The torchaudio that the package index serves is a CUDA build. Beside a CPU build of torch its
compiled extension cannot be loaded, and the import raises OSError; so does every package that
imports torchaudio because it is installed. We use nothing of that extension, and torchaudio runs
without it. So, on that error alone, the shared objects in torchaudio's ``lib`` folder get the
suffix ``.disabled``. Where the builds match, nothing is touched. `make setup` runs this once.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

SUFFIX = ".disabled"
SHARED_OBJECTS = (".so", ".dylib", ".pyd", ".dll")


def import_error() -> str:
    """Import torchaudio in a fresh interpreter; return the last line of its error, or ''."""
    run = subprocess.run(
        [sys.executable, "-c", "import torchaudio"], capture_output=True, text=True, check=False
    )
    lines = run.stderr.strip().splitlines() or [f"exit status {run.returncode}"]
    return lines[-1] if run.returncode else ""


def set_up(folder: Path | None = None) -> str:
    """Rename the extension's shared objects if they keep torchaudio from being imported.

    Parameters
    ----------
    folder : torchaudio's ``lib``; default: where the installed package has it.

    Returns
    -------
    One line: what was found and done.

    Raises
    ------
    RuntimeError
        If torchaudio still cannot be imported; the shared objects then have their names again.
    """
    if folder is None:
        spec = importlib.util.find_spec("torchaudio")
        if spec is None or not spec.submodule_search_locations:
            return "torchaudio: not installed, nothing to do"
        folder = Path(spec.submodule_search_locations[0]) / "lib"
    error = import_error()
    if not error:
        return "torchaudio: imports as it is, nothing to do"
    renamed = []
    if error.startswith("OSError"):
        for path in sorted(folder.glob("*")):
            if path.suffix in SHARED_OBJECTS:
                renamed.append(path.rename(path.with_name(path.name + SUFFIX)))
        error = import_error()
    if error:
        for path in renamed:
            path.rename(path.with_name(path.name.removesuffix(SUFFIX)))
        raise RuntimeError(f"torchaudio: import fails with {error}; reinstall torch and torchaudio")
    return f"torchaudio: {len(renamed)} CUDA shared objects set aside, it now runs without them"


if __name__ == "__main__":
    try:
        print(set_up())
    except (RuntimeError, OSError) as problem:
        sys.exit(str(problem))
