"""Styles and scripts of elements: files of their own that travel with the package."""

import shutil
import subprocess
import tomllib
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path

import pytest
import tinycss2

from esc_lib.figures import html
from esc_lib.figures.html.page import element

FILES = sorted(
    file.name for file in resources.files(html).iterdir() if file.name.endswith((".css", ".js"))
)


def test_an_element_has_its_styles_before_it_and_its_scripts_behind_it():
    text = element("<p>body</p>", "explorer.css", "explorer.js").data
    folder = resources.files(html)
    style, script = ((folder / f"explorer.{k}").read_text("utf-8") for k in ("css", "js"))
    assert text == f"<style>\n{style}</style><p>body</p><script>\n{script}</script>"


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_packaged_used_and_cannot_end_its_element(name):
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    packaged = project["tool"]["setuptools"]["package-data"]["esc_lib.figures.html"]
    assert any(fnmatch(name, pattern) for pattern in packaged)
    folder = resources.files(html)
    assert "</" not in (folder / name).read_text("utf-8")
    modules = [file for file in folder.iterdir() if file.name.endswith(".py")]
    assert sum(f'"{name}"' in module.read_text("utf-8") for module in modules) == 1


def errors_of(rules):
    """Yield what a style's parser did not understand, in nested blocks too."""
    for rule in rules:
        if rule.type == "error":
            yield rule.message
        elif rule.type in ("qualified-rule", "at-rule") and rule.content:
            inner = tinycss2.parse_blocks_contents(rule.content, skip_whitespace=True)
            yield from errors_of(inner)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".css")])
def test_styles_hold_no_errors(name):
    text = (resources.files(html) / name).read_text("utf-8")
    rules = tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True)
    assert rules and list(errors_of(rules)) == []


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
def test_scripts_hold_no_errors(name):
    if shutil.which("node") is None:
        pytest.skip("node is not on this machine; the browser tests run the scripts")
    with resources.as_file(resources.files(html) / name) as script:
        done = subprocess.run(["node", "--check", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
