"""What a fingerprint depends on: settings, data, and the code that is really used."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from edits import CODE, each_edit, pretend

from esc_lib.machine import fingerprint as module
from esc_lib.machine.fingerprint import fingerprint, imported_files, parse


@dataclass(frozen=True)
class Settings:
    rate: float = 0.1


PARTS = (
    Settings(),
    "text",
    None,
    np.arange(4.0),
    torch.arange(4.0),
    torch.arange(4.0, dtype=torch.bfloat16),
    pd.DataFrame({"a": [1, 2]}),
    {"a": torch.zeros(2)},
    [torch.zeros(2), 3],
    torch.nn.Linear(2, 1),
)
OTHERS = (
    Settings(0.2),
    "Text",
    0,
    np.arange(4),
    torch.arange(4.0).view(2, 2),
    torch.arange(1.0, 5.0, dtype=torch.bfloat16),
    pd.DataFrame({"a": [1, 3]}),
    {"b": torch.zeros(2)},
    [torch.zeros(2), torch.zeros(2), 3],
    torch.nn.Linear(2, 1),
)


def test_parts_may_come_one_after_the_other():
    one, same, other = (fingerprint(iter(np.arange(n).reshape(-1, 2))) for n in (6, 6, 8))
    assert one == same != other


@pytest.mark.parametrize("which", range(len(PARTS)))
def test_same_parts_agree_and_others_differ(which):
    one, other = PARTS[which], OTHERS[which]
    assert fingerprint(one) == fingerprint(one) != fingerprint(other)
    assert fingerprint(one, 1) != fingerprint(1, one)
    assert len({fingerprint(part) for part in (*PARTS, *OTHERS)}) == len(PARTS) + len(OTHERS)


@each_edit
def test_code_counts_with_what_it_imports_and_its_words_do_not(monkeypatch, edit):
    source = Path(module.__file__).parents[1] / "training" / "classifier.py"
    before = fingerprint(code=source)
    pretend(monkeypatch, "sound/log_mel_cpu", edit)  # by way of training, sound
    assert (fingerprint(code=source) == before) == (edit != CODE)


def test_code_that_is_not_imported_does_not_count(monkeypatch):
    source = Path(module.__file__).parents[1] / "training" / "classifier.py"
    before = fingerprint(code=source)
    for unused in ("figures/style", "data/esc50", "explain/masks"):
        pretend(monkeypatch, unused, CODE)
    assert fingerprint(code=source) == before


@pytest.mark.parametrize("name", ["slider.css", "slider.js"])
def test_styles_and_scripts_count_with_the_code_beside_them(tmp_path, name):
    source, beside = tmp_path / "slider.py", tmp_path / name
    source.write_text("a = 1")
    found = [fingerprint(code=source)]
    for text in ("p {}", "p { margin: 0 }"):
        beside.write_text(text)
        found.append(fingerprint(code=source))
    assert len(set(found)) == 3


FILES = {
    "esc_lib/__init__.py": "",
    "esc_lib/config.py": "",
    "esc_lib/sound/__init__.py": (
        "from esc_lib.sound import augment\n"
        "from esc_lib.sound.audio import read\n"
        "from esc_lib.sound.mel import LogMel as Mel\n"
    ),
    "esc_lib/sound/audio.py": "from esc_lib.config import FrontEnd",
    "esc_lib/sound/augment.py": "from esc_lib.sound.audio import read",
    "esc_lib/sound/mel.py": "",
    "esc_lib/alone.py": "import esc_lib.sound.audio",
}


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("import numpy", []),
        ("import esc_lib.config as c", ["config"]),
        ("from esc_lib.alone import x", ["alone", "config", "sound/audio"]),
        ("def f():\n    from esc_lib.sound.mel import LogMel", ["sound/mel"]),
        ("from esc_lib.sound import Mel", ["sound/mel"]),  # by the face
        ("from esc_lib import sound\nsound.Mel()", ["sound/mel"]),
        ("from esc_lib import sound as s\ns.read(1)", ["config", "sound/audio"]),
        ("from esc_lib.sound import augment", ["config", "sound/audio", "sound/augment"]),
        ("from esc_lib import sound\nf(sound)", ["config", "sound/audio", "sound/augment"]
         + ["sound/mel"]),
    ],
)  # fmt: skip
def test_files_are_those_that_define_what_is_used(tmp_path, source, files):
    for name, text in (FILES | {"05_x.py": source}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = imported_files(tmp_path / "05_x.py", tmp_path)
    assert found == sorted(tmp_path / "esc_lib" / f"{name}.py" for name in files)


def test_source_that_is_not_python_is_named(tmp_path):
    (tmp_path / "05_x.py").write_text("a = 1\nb = = 2\n")
    with pytest.raises(SystemExit, match=r"05_x.py line 2 is not valid Python"):
        parse(tmp_path / "05_x.py")


def test_the_task_graph_starts_without_the_large_libraries():
    command = "import esc_lib.machine.fingerprint, sys; print({'torch', 'pandas'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.stdout == "set()\n"
