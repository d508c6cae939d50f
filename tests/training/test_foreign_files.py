"""Weights and records of other people: used if they are what they say, refused if not."""

import gzip
import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from small_study import NAMES, PROFILE, make_data

from esc_lib.__main__ import main
from esc_lib.explain import folds, gallery, hear, pointing
from esc_lib.machine.files import made_once, save_json
from esc_lib.models.se_cnn import SECNN
from esc_lib.probing import measure, shortcuts
from esc_lib.study import record
from esc_lib.training import checkpoint, loop, runs

WEIGHT = "conv_block2.conv1.weight"
SETTINGS = json.loads(checkpoint._settings(PROFILE, NAMES))


def of_front_end(**changes):
    return SETTINGS | {"front_end": SETTINGS["front_end"] | changes}


def of_network(**changes):
    return SETTINGS | {"network": SETTINGS["network"] | changes}


# what weights may be, beside right: a change of the tensors, of the settings, or of the bytes
TENSORS = {
    "another shape": lambda t, name: t | {name: t[name][1:]},
    "one is missing": lambda t, name: {key: t[key] for key in t if key != name},
    "one too many": lambda t, name: t | {"other.weight": torch.ones(2)},
    "NaN": lambda t, name: t | {name: t[name] * torch.nan},
    "infinity": lambda t, name: t | {name: torch.full_like(t[name], torch.inf)},
    "too large for half precision": lambda t, name: t | {name: t[name].half() * torch.inf},
    "whole numbers": lambda t, name: t | {name: t[name].int()},
    "none at all": lambda t, name: {},
}
NOTES = {
    "no settings": {},
    "no JSON": {"settings": "{front_end"},
    "nested without end": {"settings": "[" * 100_000},
    "a list": {"settings": "[]"},
    "a part is missing": {"settings": json.dumps({"class_names": NAMES})},
}
BYTES = {
    "cut short": lambda content: content[:-100],
    "cut in the header": lambda content: content[:50],
    "text": lambda content: b"these are no weights",
    "empty": lambda content: b"",
    "a header without end": lambda content: b"\xff" * 7 + b"\x7f" + content[8:],
}
# what only somebody finds who takes the settings from the file
HEARD = {
    "a front end in words": of_front_end(n_fft="2048"),
    "a window of a gigabyte": of_front_end(n_fft=2**30, win_length=2**30),
    "no hop": of_front_end(hop_length=0),
    "bands above the sound": of_front_end(f_max_hz=1e9),
    "NaN for a frequency": of_front_end(f_max_hz=float("nan")),
    "channels in words": of_network(channels="wide"),
    "a billion channels": of_network(channels=[10**9] * 5),
    "four blocks": of_network(channels=[4, 8, 8, 8]),
    "channels below 0": of_network(channels=[-4] * 5),
    "another network": of_network(hidden=17),
    "classes without names": SETTINGS | {"class_names": 4},
    "a class too many": SETTINGS | {"class_names": [*NAMES, "fifth"]},
}
CASES = [(kind, case) for kind in (TENSORS, NOTES, BYTES, HEARD) for case in kind]
IDS = [case for _, case in CASES]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Return a recorded study: a finished run of a network that was not trained."""
    data, folder = make_data(), tmp_path_factory.mktemp("study")
    torch.manual_seed(0)
    model = SECNN(len(NAMES), PROFILE.network)
    run = folder / "runs" / runs.name_of(PROFILE)
    history = pd.DataFrame({"epoch": [1], "seconds": [0.5]})
    data.clips["fold"] = np.arange(40) // 4 % 5 + 1
    data.clips["src_file"] = np.arange(40)
    runs._finish(run, model, history, runs.split_for(data, PROFILE), PROFILE)
    known = {"identity": "x", "waveforms_sha256": "y", "profile": PROFILE.as_dict()}
    save_json(run / "run.json", known)
    shutil.copy2(run / "model.safetensors", folder / "model.safetensors")
    soundfile.write(folder / "clip.wav", np.sin(np.arange(4000.0)), 8000)
    return folder, data


def spoil(path, kind, case):
    tensors = load_file(path)
    if kind is TENSORS:
        name = next(each for each in tensors if each.endswith("weight") and tensors[each].dim() > 1)
        save_file(kind[case](tensors, name), path, {"settings": json.dumps(SETTINGS)})
    elif kind is NOTES:
        save_file(tensors, path, kind[case])
    elif kind is HEARD:
        save_file(tensors, path, {"settings": json.dumps(kind[case])})
    else:
        path.write_bytes(kind[case](path.read_bytes()))


def in_one_sentence(message, path):
    return str(path) in message and "\n" not in message and len(message) < 600


@pytest.mark.parametrize(("kind", "case"), CASES, ids=IDS)
def test_weights_that_are_none_are_refused_before_anything_is_written(
    good, tmp_path, capsys, kind, case
):
    folder, data = good
    study = shutil.copytree(folder, tmp_path / "study")
    weights = study / "model.safetensors"
    spoil(weights, kind, case)
    page = tmp_path / "page.html"
    page.write_text("before")
    command = ["hear", str(study / "clip.wav"), "--model", str(study), "--page", str(page)]
    assert main(command) == 1
    assert in_one_sentence(capsys.readouterr().err.strip(), weights)
    assert page.read_text() == "before"
    own = next(study.glob("runs/*/model.safetensors"))
    shutil.copy2(weights, own)
    before = tmp_path / "own" / runs.name_of(PROFILE)
    shutil.copytree(own.parent, before)
    (before / "model.safetensors").write_text("before")
    with pytest.raises(ValueError) as refused:
        runs.adopt(study, data, PROFILE, tmp_path / "own")
    assert in_one_sentence(str(refused.value), own)
    assert (before / "model.safetensors").read_text() == "before"


def test_good_weights_of_half_precision_are_taken(good, tmp_path):
    folder, data = good
    model, names = hear.open_network(folder)
    assert names == NAMES and not model.training
    assert runs.adopt(folder, data, PROFILE, tmp_path).is_dir()
    save = tmp_path / "model.safetensors"
    checkpoint.save(save, model.network.half(), PROFILE, NAMES)
    assert checkpoint.load(save, PROFILE, NAMES).fc2.weight.dtype == torch.float32


class Nothing(loop.Task):
    """A training that changes nothing, of a layer of some width."""

    n_steps = 1
    fabric = SimpleNamespace(is_global_zero=True, broadcast=bool, barrier=lambda: None)

    def __init__(self, width):
        self.layer = torch.nn.Linear(width, 1)

    def parts(self):
        return {"layer": self.layer}

    def step(self, epoch, step):
        return 1.0, {"train_loss": 0.5}


STATES = {
    "of another network": lambda state: state,
    "a part is missing": lambda state: state | {"parts": {}},
    "a part of another kind": lambda state: state | {"parts": {"layer": [1, 2]}},
    "no history": lambda state: {name: state[name] for name in ("parts", "progress")},
    "progress in words": lambda state: state | {"progress": {"step": "one"}},
    "a tensor": lambda state: torch.zeros(3),
}


@pytest.mark.parametrize("case", STATES)
def test_a_state_of_another_training_is_refused_and_kept(tmp_path, case):
    path = tmp_path / "state.pt"
    assert len(loop.train(Nothing(2), 1, path)) == 1
    torch.save(STATES[case](torch.load(path, weights_only=True)), path)
    before = path.read_bytes()
    with pytest.raises(ValueError) as refused:
        loop.train(Nothing(3 if case == "of another network" else 2), 2, path)
    assert in_one_sentence(str(refused.value), path)
    assert path.read_bytes() == before


def test_a_cache_that_holds_more_than_tensors_is_refused_and_kept(tmp_path):
    path = tmp_path / "cache.pt"
    torch.save({"identity": "x", "made": Nothing(2)}, path)
    before = path.read_bytes()
    with pytest.raises(ValueError) as refused:
        made_once(path, "x", lambda: pytest.fail("made"))
    assert in_one_sentence(str(refused.value), path) and path.read_bytes() == before


NAME = runs.name_of(PROFILE)
NARROW_NAME = runs.name_of(pointing.narrow(PROFILE))
CLIPS = SimpleNamespace(clips=pd.DataFrame({"fold": [1]}))
# the tables of a record: where each stands, and who reads it, of (own folder, recorded study)
TABLES = {
    f"explanations/{NAME}/scores.csv.gz": lambda own, study: folds.collect(
        CLIPS, PROFILE, own, own, study
    ),
    f"planted/{NARROW_NAME}/clips.csv": lambda own, study: pointing.collect(
        CLIPS, PROFILE, own, own, study
    ),
    f"portraits/{NAME}.csv.gz": gallery.collect,
    f"probing/{NAME}/held.csv.gz": lambda own, study: measure.collect(
        CLIPS, PROFILE, own, own, study
    ),
    f"shortcuts/{NAME}.csv": lambda own, study: shortcuts.collect(CLIPS, PROFILE, own, own, study),
    "metrics.json": lambda own, study: record.read_metrics(study / "metrics.json"),
    "notebooks/01_data.ipynb": lambda own, study: record.without_machine(
        study / "notebooks" / "01_data.ipynb"
    ),
}
BESIDE = {  # what else has to be there
    f"planted/{NARROW_NAME}/hits.csv.gz": gzip.compress(b"part,src_file\n"),
    f"probing/{NAME}/identity.json": b"{}",
}
CONTENTS = {
    "empty": b"", "no text": bytes(range(256)), "another table": b"a,b\n1,2\n", "JSON": b"[1, 2]",
    "words": b'{"accuracy": 3, "cells": 5}',
}  # fmt: skip


@pytest.mark.parametrize("case", CONTENTS)
@pytest.mark.parametrize("place", TABLES)
def test_tables_of_a_record_that_are_none_name_the_file(tmp_path, place, case):
    study, own = tmp_path / "study", tmp_path / "own"
    own.mkdir()
    for name, content in BESIDE.items() | {(place, CONTENTS[case])}:
        path = study / name
        path.parent.mkdir(parents=True, exist_ok=True)
        packed = name.endswith(".gz") and content[:1] != b"\x1f" and case != "no text"
        path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(ValueError) as refused:
        TABLES[place](own, study)
    assert in_one_sentence(str(refused.value), study / place)
    assert not any(own.iterdir())


EDITS = {
    "run.json": {
        "no JSON": lambda text: text[:-20],
        "no profile": lambda text: text.replace('"profile"', '"prof"'),
        "no checksum": lambda text: text.replace("waveforms_sha256", "sha256"),
        "a profile in words": lambda text: text.replace('"test_fold": 1', '"test_fold": "one"'),
        "settings missing": lambda text: text.replace('"front_end": {', '"front_end": 3, "x": {'),
    },
    "history.csv": {
        "no column": lambda text: text.replace("seconds", "hours"),
        "words": lambda text: text.replace("0.5", "half a second"),
        "empty": lambda text: "",
    },
    "predictions.csv": {
        "no column": lambda text: text.replace("whole_clip", "clip"),
        "words": lambda text: re.sub(r"(\d+\.wav),\d,", r"\1,first,", text),
        "a row cut short and one too long": lambda text: text + "a,1\n" + "b," * 99 + "\n",
    },
}
EDITED = [(name, case) for name, cases in EDITS.items() for case in cases]


@pytest.mark.parametrize(("name", "case"), EDITED)
def test_a_record_that_was_edited_names_the_file(good, tmp_path, name, case):
    folder, data = good
    study = shutil.copytree(folder, tmp_path / "study")
    (path,) = study.glob(f"runs/*/{name}")
    edited = EDITS[name][case](path.read_text())
    assert edited != path.read_text()
    path.write_text(edited)
    with pytest.raises(ValueError) as refused:
        if name == "predictions.csv":
            runs.judged_by(replace(PROFILE, evidence=replace(PROFILE.evidence, folds=(1,))),
                           tmp_path / "own", study)  # fmt: skip
        else:
            runs.find_recorded(PROFILE, study, "y")
            runs.adopt(study, data, PROFILE, tmp_path / "own")
    assert in_one_sentence(str(refused.value), path)
    assert not (tmp_path / "own").exists()
