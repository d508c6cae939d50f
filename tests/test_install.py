"""What a plain installation has to do: explain a model of one's own, without the study's extras."""

import re
import subprocess
import sys
import tomllib

import pytest

from esc_lib.machine.fingerprint import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
NAMES = {"umap-learn": "umap", "dask-jobqueue": "dask_jobqueue"}


def modules_of(*extras):
    """Return the modules that extras bring, as they are imported."""
    lines = [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    names = [re.split(r"[\[<>=]", line)[0] for line in lines]
    return {NAMES.get(name, name) for name in names if name != "esc-lib"}


def test_a_plain_installation_is_small():
    assert len(PROJECT["dependencies"]) <= 15


BLOCKED = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.split(".")[0])

sys.meta_path.insert(0, Missing())
{code}
"""
USE = """
import torch
from esc_lib.explain import SoundExplainer

def model(waves):
    loud = (waves.square().mean(dim=1) + 1e-6).log()
    return torch.stack([torch.zeros_like(loud), loud], dim=1)

explanation = SoundExplainer(model, sr=8000).attribute(torch.randn(2, 8000))
assert len(explanation.score()) == 3 and "<audio" in explanation.show().data
import esc_lib.explain.hear
print("explained", not {"sklearn", "captum", "lightning_fabric"} & set(sys.modules))
"""
MISSING = """
from esc_lib.__main__ import main
import esc_lib.data.folders
esc_lib.data.folders.esc50.fetch = lambda cache: __import__("pooch")
sys.exit(main(["verify"]))
"""


@pytest.mark.parametrize(("code", "out", "err", "status"), [
    (USE, "explained True", "", 0),
    (MISSING, "", "pooch is not installed; it comes with an extra of esc-lib: study", 1),
])  # fmt: skip
def test_models_are_explained_without_the_extras(code, out, err, status):
    names = modules_of("study", "deploy", "cluster", "notebooks") - {"ipykernel"}
    if status == 0:
        names -= {"pooch"}  # librosa needs it, too
    text = BLOCKED.format(names=sorted(names), code=code)
    run = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == status, run.stderr
    assert out in run.stdout and err in run.stderr and "Traceback" not in run.stderr
