"""Reading the table of clips as people's programs write it, and finding the files that it lists."""

import re
import shutil
import unicodedata

import pandas as pd
import pytest
import soundfile
from clip_folders import (
    COLUMNS,
    ESC10_TARGETS,
    change_table,
    official_rows,
    sound,
    write_clip,
    write_layout,
)

from esc_lib.data.table import read_clips


@pytest.fixture
def folder(tmp_path):
    """Six clips: dog, rooster and rain in two folds."""
    return write_layout(tmp_path / "set", official_rows(targets=(0, 1, 10)))


@pytest.fixture(scope="module")
def fifty(tmp_path_factory):
    """A whole small ESC-50, stored as people store it: some wav, some flac, some ogg."""
    folder = tmp_path_factory.mktemp("esc") / "ESC-50-master"
    return write_layout(folder, official_rows(), endings=(".wav", ".flac", ".ogg"))


def test_table_is_read_with_paths_and_labels(fifty):
    clips = read_clips(fifty)
    assert list(clips) == [*COLUMNS, "path", "label"] and len(clips) == 100
    assert (clips.label == clips.target).all()
    for filename, path in zip(clips.filename, clips.path, strict=True):
        assert filename.removesuffix(".wav") in path and soundfile.info(path).frames == 400
    assert {path.rpartition(".")[2] for path in clips.path} == {"wav", "flac", "ogg"}


def test_folder_may_be_given_as_text(fifty):
    pd.testing.assert_frame_equal(read_clips(str(fifty)), read_clips(fifty))


def test_esc10_subset_has_labels_0_to_9_in_the_order_of_targets(fifty):
    clips = read_clips(fifty, esc10_only=True)
    assert len(clips) == 20 and clips.esc10.all()
    assert clips.index.tolist() == list(range(20))
    labels = dict(zip(clips.target, clips.label, strict=True))
    assert labels == {target: label for label, target in enumerate(ESC10_TARGETS)}


def test_the_named_file_comes_before_a_compressed_one(folder):
    name = "1-101000-A-0.wav"
    write_clip(folder, name, sound(400), ending=".flac")
    clips = read_clips(folder)
    assert clips.path[clips.filename == name].item() == str(folder / "audio" / name)


@pytest.mark.parametrize("missing", ["", "meta"])
def test_folder_without_a_table_is_named(folder, missing):
    shutil.rmtree(folder / missing)
    with pytest.raises(
        FileNotFoundError, match=r"^read_clips: folder .*set has no meta/esc50\.csv; point DATA"
    ):
        read_clips(folder)


def test_folder_without_audio_is_named(folder):
    shutil.rmtree(folder / "audio")
    with pytest.raises(
        FileNotFoundError, match=r"^read_clips: folder .*set has no audio/ folder; point DATA"
    ):
        read_clips(folder)


def test_missing_clip_is_named(folder):
    (folder / "audio" / "2-102001-A-1.wav").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"^read_clips: clip 2-102001-A-1\.wav is listed in meta/esc50\.csv but missing in "
        r".*audio \(also as \.flac or \.ogg\); restore it or remove its row\.$",
    ):
        read_clips(folder)


@pytest.mark.parametrize("column", COLUMNS)
def test_missing_column_is_named(folder, column):
    table = folder / "meta" / "esc50.csv"
    pd.read_csv(table).drop(columns=column).to_csv(table, index=False)
    with pytest.raises(
        ValueError,
        match=rf"^read_clips: .*esc50\.csv lacks the column\(s\) {column}; expected filename, fold",
    ):
        read_clips(folder)


@pytest.mark.parametrize("line", [2, 5, 7])
@pytest.mark.parametrize("column", COLUMNS)
def test_empty_field_is_named_by_its_line(folder, column, line):
    def empty(text):
        lines = text.splitlines()
        fields = lines[line - 1].split(",")
        fields[COLUMNS.index(column)] = ""
        lines[line - 1] = ",".join(fields)
        return "\n".join(lines) + "\n"

    change_table(folder, empty)
    with pytest.raises(ValueError, match=rf"esc50\.csv has an empty field in line {line}; fill"):
        read_clips(folder)


def test_lines_are_counted_as_an_editor_counts_them(folder):
    def empty_below_a_blank_line(text):
        header, first, *rest = text.splitlines()
        rest[1] = rest[1].replace("rain", "")
        return "\n".join([header, first, "", *rest]) + "\n\n"

    change_table(folder, empty_below_a_blank_line)
    with pytest.raises(ValueError, match=r"has an empty field in line 5; fill it in\.$"):
        read_clips(folder)


def test_blank_lines_alone_do_no_harm(folder):
    whole = read_clips(folder)
    change_table(folder, lambda text: text.replace("\n", "\n\n"))
    pd.testing.assert_frame_equal(read_clips(folder), whole)


def test_clip_listed_twice_is_named(folder):
    change_table(folder, lambda text: text + text.splitlines()[3] + "\n")
    with pytest.raises(ValueError, match=r"esc50\.csv lists 1-101010-A-10\.wav twice; remove one"):
        read_clips(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"esc50\.csv is not a csv table \("),
        (b"\xff\xfe\x00binary", r"esc50\.csv is not a csv table \("),
        (b'filename,fold\n"1-1-A-0.wav,1\n', r"esc50\.csv is not a csv table \("),
        (b"a,b\n1,2\n1,2,3\n", r"esc50\.csv is not a csv table \("),
        (",".join(COLUMNS).encode() + b"\n", r"esc50\.csv lists no clips for this profile\."),
    ],
)
def test_table_without_rows_is_named(folder, content, message):
    (folder / "meta" / "esc50.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_clips(folder)


def test_no_clips_for_the_profile(folder):
    change_table(folder, lambda text: text.replace("True", "False"))
    assert len(read_clips(folder)) == 6
    with pytest.raises(ValueError, match=r"esc50\.csv lists no clips for this profile\.$"):
        read_clips(folder, esc10_only=True)


# ------------------------------------------------------------------------ what programs make of it


def as_written(rows, name):
    """Return the bytes of a table as a spreadsheet saves it."""
    return {
        "semicolons": rows.to_csv(index=False, sep=";").encode(),
        "tabs": rows.to_csv(index=False, sep="\t").encode(),
        "a line that says sep=": b"sep=,\r\n" + rows.to_csv(index=False).encode(),
        "blanks after commas": rows.to_csv(index=False).replace(",", ", ").encode(),
        "a byte order mark": rows.to_csv(index=False).encode("utf-8-sig"),
        "UTF-16": rows.to_csv(index=False).encode("utf-16"),
        "Windows's line ends": rows.to_csv(index=False).replace("\n", "\r\n").encode(),
        "esc10 as 1 and 0": rows.assign(esc10=rows.esc10.astype(int)).to_csv(index=False).encode(),
        "esc10 in capitals": rows.to_csv(index=False).replace("True", "TRUE").encode(),
        "numbers with a point": rows.assign(fold=rows.fold * 1.0).to_csv(index=False).encode(),
        "all in quotes": rows.to_csv(index=False, quoting=1).encode(),
    }[name]


@pytest.mark.parametrize("name", [
    "semicolons", "tabs", "a line that says sep=", "blanks after commas", "a byte order mark",
    "UTF-16", "Windows's line ends", "esc10 as 1 and 0", "esc10 in capitals",
    "numbers with a point", "all in quotes",
])  # fmt: skip
def test_the_same_table_is_read_however_it_was_saved(folder, name):
    whole, rows = read_clips(folder), official_rows(targets=(0, 1, 10))
    (folder / "meta" / "esc50.csv").write_bytes(as_written(rows, name))
    pd.testing.assert_frame_equal(read_clips(folder), whole)


def test_lines_are_counted_below_a_line_that_says_sep(folder):
    change_table(folder, lambda text: "sep=,\n" + text.replace("rain", "", 1))
    with pytest.raises(ValueError, match=r"has an empty field in line 5; fill it in\.$"):
        read_clips(folder)


def test_text_stays_text(folder):
    rows = official_rows(targets=(0, 1, 10))
    names = {"dog": "007", "rooster": "NA", "rain": "1e3"}
    rows = rows.assign(category=rows.category.map(names), take="0", src_file=["07", "7", *"abcd"])
    rows.to_csv(folder / "meta" / "esc50.csv", index=False)
    clips = read_clips(folder)
    assert clips.category.tolist() == 2 * ["007", "NA", "1e3"]
    assert clips["take"].tolist() == ["0"] * 6
    assert clips.src_file.tolist() == ["07", "7", *"abcd"]


def test_recordings_that_are_numbers_are_read_as_numbers(folder):
    assert read_clips(folder).src_file.dtype == "int64"  # their order decides how clips are split


@pytest.mark.parametrize(("column", "values", "message"), [
    ("category", ["dog", "Dog"], r"gives target 0 more than one category, 'dog' and 'Dog'"),
    ("target", [0, 2], r"gives category 'dog' more than one target, 0 and 2"),
])  # fmt: skip
def test_contradictions_are_named(folder, column, values, message):
    rows = official_rows(targets=(0, 1, 10))
    rows.loc[rows.category == "dog", column] = values
    rows.to_csv(folder / "meta" / "esc50.csv", index=False)
    with pytest.raises(ValueError, match=message):
        read_clips(folder)


# ----------------------------------------------------------------------- how files may be called


def moved(folder, rename):
    for path in list((folder / "audio").iterdir()):
        target = folder / "audio" / rename(path.name)
        target.parent.mkdir(exist_ok=True)
        path.rename(target)


@pytest.mark.parametrize("rename", [
    str.upper, lambda name: name.replace(".wav", ".WAV"), lambda name: f"fold{name[0]}/{name}",
])  # fmt: skip
def test_files_are_found_in_capitals_and_in_folders(folder, rename):
    moved(folder, rename)
    clips = read_clips(folder)
    for filename, path in zip(clips.filename, clips.path, strict=True):
        assert path == str(folder / "audio" / rename(filename))


def test_a_folder_may_stand_in_the_table(folder):
    moved(folder, lambda name: f"fold{name[0]}/{name}")
    change_table(folder, lambda text: re.sub(r"^(\d)-", r"fold\1/\1-", text, flags=re.MULTILINE))
    assert all(f"fold{c.fold}/" in c.path for c in read_clips(folder).itertuples())


def test_one_name_in_two_folders_is_refused_unless_the_table_says_which(folder):
    moved(folder, lambda name: f"one/{name}")
    (folder / "audio" / "two").mkdir()
    write_clip(folder, "two/1-101000-A-0.wav", sound(400))
    with pytest.raises(ValueError, match="is in more than one folder below .*, one and two; write"):
        read_clips(folder)
    change_table(folder, lambda text: text.replace("\n1-101000-A-0", "\ntwo/1-101000-A-0"))
    assert read_clips(folder).path[0] == str(folder / "audio" / "two" / "1-101000-A-0.wav")


def test_accents_are_found_as_every_system_writes_them(folder):
    moved(folder, lambda name: unicodedata.normalize("NFD", f"clé{name}"))
    change_table(folder, lambda text: text.replace("\n1-", "\nclé1-").replace("\n2-", "\nclé2-"))
    assert len(read_clips(folder)) == 6


def test_what_file_managers_leave_behind_is_no_clip(folder):
    whole = read_clips(folder)
    for name in (".DS_Store", "._1-101000-A-0.wav", "Thumbs.db", "desktop.ini", "notes.txt"):
        (folder / "audio" / name).write_bytes(b"\0\5\x16\7")
    (folder / "audio" / "__MACOSX").mkdir()
    write_clip(folder, "__MACOSX/1-101000-A-0.wav", sound(400))
    (folder / "audio" / "gone.wav").symlink_to("/nowhere/at/all.wav")
    pd.testing.assert_frame_equal(read_clips(folder), whole)


def test_one_file_for_two_rows_is_refused(folder):
    change_table(folder, lambda text: text.replace("2-102000-A-0.wav", "1-101000-A-0.flac"))
    (folder / "audio" / "2-102000-A-0.wav").unlink()
    with pytest.raises(ValueError, match="lists 1-101000-A-0.wav and 1-101000-A-0.flac, which are"):
        read_clips(folder)


@pytest.mark.parametrize("name", ["../secret.wav", "/etc/secret.wav"])
def test_no_file_outside_the_folder_is_taken(folder, tmp_path, name):
    write_layout(tmp_path / "other", official_rows(targets=(0,)))
    shutil.copy(tmp_path / "other" / "audio" / "1-101000-A-0.wav", folder / "secret.wav")
    change_table(folder, lambda text: text.replace("1-101000-A-0.wav", name))
    with pytest.raises(FileNotFoundError, match="secret.wav is listed in .* but missing"):
        read_clips(folder)
