"""What people heard in ESC-50: answers to all clips from the official crowdsourcing experiment.

References
----------
piczak2015esc, section 4.1; ``meta/esc50-human.xlsx`` of the official repository, sheet *Raw data*.
"""

from pathlib import Path

import pandas as pd

WORKBOOK = Path("meta", "esc50-human.xlsx")
COLUMNS = {"Recording": "filename", "Ground truth": "category", "Worker prediction": "answer"}
# Categories that the workbook names otherwise, spaces and capitals aside.
RENAMED = {
    "door_knock": "door_wood_knock", "door___wood_knock": "door_wood_knock",
    "door___wood_creaks": "door_wood_creaks", "drinking___sipping": "drinking_sipping",
    "insects_(flying)": "insects", "dog_bark": "dog", "baby_cry": "crying_baby",
}  # fmt: skip


def read_answers(place: str | Path, clips: pd.DataFrame) -> pd.DataFrame:
    """Return the answers to some clips, a row each: row, label, src_file, answer (a class index).

    Parameters
    ----------
    place : the workbook, or the same as ``.csv`` with the columns filename, category and answer.
    clips : as ``table.read_clips`` returns them; answers outside their classes are -1.

    Raises
    ------
    ValueError
        If it is not such a table, or not of these clips.
    """
    place = Path(place)
    if place.suffix == ".csv":
        table = pd.read_csv(place)
    else:
        table = pd.read_excel(place, sheet_name="Raw data").rename(columns=COLUMNS)
    missing = set(COLUMNS.values()) - set(table)
    if missing:
        raise ValueError(
            f"read_answers: {place} lacks {', '.join(sorted(missing))}; give the official "
            f"{WORKBOOK.name}, or a table with the columns {', '.join(COLUMNS.values())}."
        )
    # a clip is known by fold, recording and take; the workbook names older files, without a class
    key = clips.filename.str.extract(r"^(\d+-\d+-[A-Z])", expand=False)
    rows = pd.Series(range(len(clips)), index=key)
    table = table.assign(
        key=table.filename.astype(str).str.extract(r"(\d+-\d+-[A-Z])", expand=False)
    )
    table = table[table.key.isin(key)]
    found = rows.loc[table.key].to_numpy()
    labels = clips.drop_duplicates("label").set_index("category").label
    named, answers = (
        table[column].str.strip().str.lower().str.replace(r"[ -]", "_", regex=True).replace(RENAMED)
        for column in ("category", "answer")
    )
    wrong = named.to_numpy() != clips.category.to_numpy()[found]
    if wrong.any() or not len(table):
        which = table.filename.iloc[wrong.argmax()] if len(table) else "no clip"
        raise ValueError(f"read_answers: {place} is not about these clips ({which}).")
    return pd.DataFrame(
        {
            "row": found,
            "label": clips.label.to_numpy()[found],
            "src_file": clips.src_file.to_numpy()[found],
            "answer": answers.map(labels).fillna(-1).astype(int).to_numpy(),
        }
    )
