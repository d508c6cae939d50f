"""What stands in a file is read, or refused in one sentence that names the file."""

import gzip
import json
import pickle
import re

import pandas as pd
import pytest
import torch

from esc_lib.machine.reading import read_json, read_table, read_tensors

OBJECT = json.dumps({"identity": "x", "profile": {"a": 1}}).encode()
TABLE = b"filename,fold\na.wav,1\nb.wav,2\n"
PACKED = gzip.compress(TABLE, mtime=0)


class Runs:
    """An object whose pickle runs code where it is read."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


JSONS = {
    "no JSON": OBJECT[:-4],
    "no text": b"\xff\xfe\x00",
    "nested without end": b"[" * 100_000,
    "a list": b"[1]",
    "a number": b"1",
    "a key is missing": b'{"identity": "x"}',
    "another type": b'{"identity": "x", "profile": "a"}',
    "empty": b"",
}
TABLES = {
    "empty": ("t.csv", b""),
    "no text": ("t.csv", b"\xff\xfe\x00\x81,"),
    "a row too long": ("t.csv", TABLE + b"c,1,2,3\n"),
    "a column is missing": ("t.csv", b"filename,x\na,1\n"),
    "words for numbers": ("t.csv", TABLE + b"c.wav,first\n"),
    "cut short": ("t.csv.gz", PACKED[:-12]),
    "changed": ("t.csv.gz", PACKED[:15] + b"\x00\x01\x02" + PACKED[18:]),
    "not packed": ("t.csv.gz", TABLE),
}


def refused(read, path):
    with pytest.raises(ValueError, match=rf"^read: {re.escape(str(path))} .*; restore") as said:
        read(path)
    assert "\n" not in str(said.value) and len(str(said.value)) < 400 + len(str(path))


@pytest.mark.parametrize("case", JSONS)
def test_json_that_is_not_what_it_should_be_is_refused(case, tmp_path):
    path = tmp_path / "run.json"
    path.write_bytes(OBJECT)
    assert read_json(path, identity=str, profile=dict)["profile"] == {"a": 1}
    path.write_bytes(JSONS[case])
    refused(lambda path: read_json(path, identity=str, profile=dict), path)


@pytest.mark.parametrize("case", TABLES)
def test_tables_that_are_not_what_they_should_be_are_refused(case, tmp_path):
    (tmp_path / "good.csv.gz").write_bytes(PACKED)
    good = read_table(tmp_path / "good.csv.gz", ["fold"], ["filename"])
    pd.testing.assert_frame_equal(good, pd.DataFrame({"filename": ["a.wav", "b.wav"],
                                                      "fold": [1, 2]}))  # fmt: skip
    name, content = TABLES[case]
    (tmp_path / name).write_bytes(content)
    refused(lambda path: read_table(path, ["fold"], ["filename"]), tmp_path / name)


def test_a_missing_file_is_named_by_the_system(tmp_path):
    for read in (read_json, read_table, read_tensors):
        with pytest.raises(FileNotFoundError, match="nothing"):
            read(tmp_path / "nothing")


@pytest.mark.parametrize("case", ["a pickle", "an object in it", "text", "cut short", "empty"])
@pytest.mark.parametrize("options", [{}, {"mmap": True}], ids=["", "mapped"])
def test_states_hold_tensors_and_nothing_that_runs(case, options, tmp_path):
    path = tmp_path / "state.pt"
    torch.save({"w": torch.arange(1000.0)}, path)
    assert read_tensors(path, **options)["w"][7] == 7
    if case == "an object in it":
        torch.save({"w": Runs()}, path)
    else:
        contents = {"a pickle": pickle.dumps(Runs(), 2), "text": b"a text", "empty": b""}
        path.write_bytes(contents.get(case, path.read_bytes()[:-900]))
    refused(lambda path: read_tensors(path, **options), path)
