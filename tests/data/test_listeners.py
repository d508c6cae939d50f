"""What people heard: read from the official workbook, or from a plain table."""

import pandas as pd
import pytest

from esc_lib.data.listeners import read_answers

CLIPS = pd.DataFrame(
    {
        "filename": ["1-100-A-0.wav", "1-100-B-0.wav", "2-7-A-30.wav", "3-9-A-26.wav"],
        "category": ["dog", "dog", "door_wood_knock", "drinking_sipping"],
        "label": [0, 0, 2, 1],
        "src_file": [100, 100, 7, 9],
    }
)
SAID = [
    ("1-100-A.ogg", "Dog", "Dog"),
    ("1-100-A.ogg", "Dog", "Door knock"),
    ("2-7-A.ogg", "Door knock", "Drinking - sipping"),
    ("3-9-A.ogg", "Drinking - sipping", "Helicopter"),
    ("5-5-A.ogg", "Helicopter", "Dog"),  # of no clip here
]


def write(folder, said, name="meta/esc50-human.xlsx"):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    table = pd.DataFrame(said, columns=["Recording", "Ground truth", "Worker prediction"])
    if path.suffix == ".csv":
        table.set_axis(["filename", "category", "answer"], axis=1).to_csv(path, index=False)
    else:
        table.to_excel(path, sheet_name="Raw data", index=False)
    return path


@pytest.mark.parametrize("name", ["meta/esc50-human.xlsx", "answers.csv"])
def test_answers_find_their_clips_and_classes(tmp_path, name):
    found = read_answers(write(tmp_path, SAID, name), CLIPS)
    assert found.row.tolist() == [0, 0, 2, 3]
    assert found.label.tolist() == [0, 0, 2, 1]
    assert found.src_file.tolist() == [100, 100, 7, 9]
    assert found.answer.tolist() == [0, 2, 1, -1]  # what is no class here is none


def test_another_truth_is_refused(tmp_path):
    path = write(tmp_path, [*SAID[:2], ("3-9-A.ogg", "Dog", "Dog")])
    with pytest.raises(ValueError, match=r"esc50-human.xlsx is not about these clips \(3-9-A.ogg"):
        read_answers(path, CLIPS)
    with pytest.raises(ValueError, match="not about these clips"):
        read_answers(write(tmp_path, SAID[-1:]), CLIPS)


def test_a_table_of_something_else_is_refused(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text("filename,label\na,b\n")
    with pytest.raises(ValueError, match="answers.csv lacks answer, category; give the official"):
        read_answers(path, CLIPS)
