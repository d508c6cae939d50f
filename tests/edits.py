"""Edits of the package's code, made up for a test: what they make stale, and what they do not."""

from pathlib import Path

import pytest

CODE = "code"
WORDS = "words"
each_edit = pytest.mark.parametrize("edit", [CODE, WORDS])


def pretend(monkeypatch, module: str, edit: str) -> None:
    """Let a file of the package read as if somebody had changed its code, or only its words."""
    read = Path.read_text

    def read_text(path, *arguments, **options):
        text = read(path, *arguments, **options)
        if not path.as_posix().endswith(f"esc_lib/{module}.py"):
            return text
        if edit == CODE:
            return text + "\nEDITED = True\n"
        return text.replace('"""', '"""In other words: ', 1) + "\n# a remark\n"

    monkeypatch.setattr(Path, "read_text", read_text)
