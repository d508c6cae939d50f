"""What is kept beside a number: settings, data, versions, machine; files whole or not at all."""

import hashlib
import json
import subprocess

import pytest
import torch

from esc_lib.config import PROFILES
from esc_lib.machine import files, provenance


def test_save_json_is_all_or_nothing(tmp_path):
    path = tmp_path / "run.json"
    files.save_json(path, {"profile": "demo", "threads": 2})
    before = path.read_text()
    assert json.loads(before) == {"profile": "demo", "threads": 2} and before.endswith("\n")
    with pytest.raises(TypeError):
        files.save_json(path, {"profile": object()})
    assert path.read_text() == before and len(list(tmp_path.iterdir())) == 1


def test_provenance_tells_settings_data_versions_and_hardware(tmp_path):
    waveforms = torch.arange(12, dtype=torch.int16).view(3, 4)
    found = provenance.provenance(PROFILES["demo"].as_dict(), waveforms, wall_s=12.345)
    assert set(found) == {
        "profile", "waveforms_sha256", "commit", "python", "versions", "device", "threads",
        "wall_s",
    }  # fmt: skip
    assert found["profile"]["front_end"]["sr"] == 16_000 and found["profile"]["name"] == "demo"
    content = waveforms.numpy().tobytes()
    assert found["waveforms_sha256"] == hashlib.sha256(content).hexdigest()
    assert {"torch", "numpy", "librosa"} <= set(found["versions"])
    assert found["threads"] >= 1 and found["wall_s"] == 12.3
    assert all(found[name] for name in ("commit", "python", "device"))
    files.save_json(tmp_path / "run.json", found)
    assert json.loads((tmp_path / "run.json").read_text())["commit"] == found["commit"]


@pytest.mark.parametrize(
    "error", [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")]
)
def test_provenance_outside_a_repository(monkeypatch, error):
    def run(*_arguments, **_options):
        raise error

    monkeypatch.setattr(provenance.subprocess, "run", run)
    waveforms = torch.zeros(1, 3, dtype=torch.int16)
    assert provenance.provenance(PROFILES["demo"].as_dict(), waveforms, 1.0)["commit"] == "unknown"
