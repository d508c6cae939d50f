"""What the decoded clips show: the set's characteristics."""

import pandas as pd

from esc_lib.data import decoding


def test_characteristics_are_counted():
    clips = pd.DataFrame(
        {"path": ["a.wav", "b.wav", "c.ogg"], "category": ["hum", "hum", "bell"], "fold": [1, 2, 2]}
    )
    verification = pd.DataFrame(
        {"sr": [16000, 16000, 44100], "duration_s": [5.0, 5.0, 2.5], "channels": [2, 1, 6]}
    )
    table = decoding.characteristics(clips, verification).measured
    assert table["audio format"] == "OGG, WAV"
    assert table["sample rate (Hz)"] == "16,000, 44,100"
    assert table["channels"] == "mono, stereo, 6 channels"
    assert (table["clips"], table["classes"], table["folds"]) == ("3", "2", "2")
    assert table["clips per class"] == "1 to 2"
    assert table["duration (s), median"] == "5.00"
    assert table["duration (s), range"] == "2.50 to 5.00"
    assert table["clips of another duration"] == "1"
