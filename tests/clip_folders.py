"""Small folders in ESC-50's official layout, for tests of whoever reads them."""

import numpy as np
import pandas as pd
import soundfile

CATEGORIES = (
    "dog rooster pig cow frog cat hen insects sheep crow "
    "rain sea_waves crackling_fire crickets chirping_birds water_drops wind pouring_water "
    "toilet_flush thunderstorm "
    "crying_baby sneezing clapping breathing coughing footsteps laughing brushing_teeth snoring "
    "drinking_sipping "
    "door_wood_knock mouse_click keyboard_typing door_wood_creaks can_opening washing_machine "
    "vacuum_cleaner clock_alarm clock_tick glass_breaking "
    "helicopter chainsaw siren car_horn engine train church_bells airplane fireworks hand_saw"
).split()
ESC10_TARGETS = (0, 1, 10, 11, 12, 20, 21, 38, 40, 41)
COLUMNS = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
ENCODING = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}


def official_rows(targets=range(50), folds=(1, 2)):
    """Return the table of a small ESC-50: one clip per class and fold, the csv's columns."""
    rows = []
    for fold in folds:
        for target in targets:
            src_file = 100000 + 1000 * fold + target
            rows.append((f"{fold}-{src_file}-A-{target}.wav", fold, target, CATEGORIES[target],
                         target in ESC10_TARGETS, src_file, "A"))  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def sound(n_samples, sr=16000, hz=500.0, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(n_samples) / sr)).astype(np.float32)


def write_clip(folder, filename, waveform, sr=16000, ending=".wav"):
    path = (folder / "audio" / filename).with_suffix(ending)
    container, subtype = ENCODING[ending]
    soundfile.write(path, waveform, sr, format=container, subtype=subtype)
    return path


def write_layout(folder, rows, endings=(".wav",)):
    """Write audio/ and meta/esc50.csv; the endings take turns."""
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    rows.to_csv(folder / "meta" / "esc50.csv", index=False)
    for i, filename in enumerate(rows.filename):
        write_clip(folder, filename, sound(400), ending=endings[i % len(endings)])
    return folder


def change_table(folder, change):
    table = folder / "meta" / "esc50.csv"
    table.write_text(change(table.read_text(encoding="utf-8")), encoding="utf-8")
