"""The remedy for a torchaudio that was built for another torch."""

import pytest

from esc_lib.machine import torchaudio_setup


@pytest.mark.parametrize(
    ("errors", "says", "names"),
    [
        ([""], "nothing to do", ["a.so"]),
        (["OSError: no CUDA", ""], "1 CUDA shared objects set aside", ["a.so.disabled"]),
    ],
)
def test_torchaudio_remedy_renames_on_that_error_alone(tmp_path, monkeypatch, errors, says, names):
    (tmp_path / "a.so").touch()
    monkeypatch.setattr(torchaudio_setup, "import_error", lambda: errors.pop(0))
    assert says in torchaudio_setup.set_up(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == names


@pytest.mark.parametrize("errors", [["ImportError: x"], ["OSError: x", "OSError: y"]])
def test_torchaudio_remedy_that_does_not_help_is_undone(tmp_path, monkeypatch, errors):
    (tmp_path / "a.so").touch()
    monkeypatch.setattr(torchaudio_setup, "import_error", lambda: errors.pop(0))
    with pytest.raises(RuntimeError, match="reinstall torch and torchaudio"):
        torchaudio_setup.set_up(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.so"]
