"""A small checkout at work: moved or copied nothing runs again, and one process works at a time."""

import os
import resource
import shutil
import subprocess
import sys

import pytest
from clip_folders import official_rows, write_layout

from esc_lib.machine.files import hold
from esc_lib.machine.fingerprint import ROOT

NOTEBOOK = """\
# %% tags=["parameters"]
profile = "demo"
data_folder = ""

# %%
import os
from pathlib import Path

folder = Path("build/demo/artifacts/01_data")
folder.mkdir(parents=True, exist_ok=True)
(folder / "metrics.json").write_text("{}")
print("given", data_folder, Path(data_folder).is_dir())
"""


def doit(checkout, *arguments, **options):
    """Run the task graph of a checkout on clips that lie in it."""
    environment = os.environ | {"DATA": str(checkout / "clips"), "PROFILE": "demo", "JOBS": "1"}
    environment["PYTHONPATH"] = str(checkout)
    command = [sys.executable, "-m", "doit", *arguments]
    options |= {"cwd": checkout, "env": environment, "capture_output": True, "text": True}
    return subprocess.run(command, **options)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout with one notebook, which was executed."""
    here = tmp_path_factory.mktemp("first") / "study"
    shutil.copytree(ROOT / "esc_lib", here / "esc_lib", ignore=shutil.ignore_patterns("__pyc*"))
    for folder in ("notebooks", "book"):
        (here / folder).mkdir(parents=True)
    for name in ("dodo.py", "pyproject.toml"):
        shutil.copy2(ROOT / name, here)
    (here / "notebooks" / "01_data.py").write_text(NOTEBOOK)
    write_layout(here / "clips", official_rows(targets=(0, 1), folds=range(1, 7)))
    done = doit(here, "execute")
    assert done.returncode == 0 and "01_data: " in done.stdout, done.stderr
    return here


def test_a_checkout_that_was_copied_does_nothing_again(checkout, tmp_path):
    executed = checkout / "build" / "demo" / "notebooks" / "01_data.ipynb"
    assert "given clips True" in executed.read_text()
    copied = tmp_path / "elsewhere"
    shutil.copytree(checkout, copied)
    checkout.rename(checkout.with_name("gone"))
    try:
        done = doit(copied, "execute")
    finally:
        checkout.with_name("gone").rename(checkout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_who_comes_second_says_who_is_at_work_and_changes_nothing(checkout):
    build = checkout / "build" / "demo"
    before = (build / ".doit").stat().st_mtime_ns
    with hold(build / ".at_work"):
        second = doit(checkout, "execute")
    assert second.returncode == 1 and not second.stdout
    said = f"dodo.py: process {os.getpid()} is at work in {build}; wait for its end, or stop it\n"
    assert second.stderr == said
    assert (build / ".doit").stat().st_mtime_ns == before
    again = doit(checkout, "execute")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_records_that_cannot_be_written_stay_as_they_were(checkout):
    def no_large_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    records = checkout / "build" / "demo" / ".doit"
    before = records.read_bytes()
    done = doit(checkout, "execute", preexec_fn=no_large_files)
    assert (done.returncode, done.stderr) == (1, "dodo.py: [Errno 27] File too large\n")
    assert records.read_bytes() == before


def test_the_lock_of_a_dead_process_is_free(tmp_path):
    code = "import os, sys; from pathlib import Path; from esc_lib.machine.files import hold;"
    code += "lock = hold(Path(sys.argv[1])); print('held', flush=True); os.kill(os.getpid(), 9)"
    dead = subprocess.run([sys.executable, "-c", code, tmp_path / "lock"], cwd=ROOT,
                          capture_output=True, text=True)  # fmt: skip
    assert dead.stdout == "held\n" and dead.returncode == -9
    with hold(tmp_path / "lock") as lock:
        lock.seek(0)
        assert lock.read() == str(os.getpid())
        with pytest.raises(BlockingIOError, match=f"process {os.getpid()} is at work in"):
            hold(tmp_path / "lock")
