"""ESC-50 as its makers publish it: fetched, known by its classes, its classes grouped.

References
----------
piczak2015esc; https://github.com/karolpiczak/ESC-50 (CC BY-NC 3.0, the ESC-10 subset CC BY 3.0).
"""

import hashlib
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import soundfile
from tqdm import tqdm

from esc_lib.config import Profile, get_profile
from esc_lib.data.archives import unpack
from esc_lib.data.table import read_clips
from esc_lib.machine.files import write_atomically

COMMIT = "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6"  # of the official repository
ARCHIVE_URL = f"https://github.com/karolpiczak/ESC-50/archive/{COMMIT}.zip"
ARCHIVE_ROOT = f"ESC-50-{COMMIT}"
CHECKSUM = "ESC-50.sha256"  # of all samples, as they were when they were first downloaded
OFFICIAL = (2000, 50, 5)  # clips, classes, folds
CLIP_SAMPLES, CLIP_SR = 220_500, 44_100

CATEGORIES = (  # by target
    "dog rooster pig cow frog cat hen insects sheep crow "
    "rain sea_waves crackling_fire crickets chirping_birds "
    "water_drops wind pouring_water toilet_flush thunderstorm "
    "crying_baby sneezing clapping breathing coughing "
    "footsteps laughing brushing_teeth snoring drinking_sipping "
    "door_wood_knock mouse_click keyboard_typing door_wood_creaks can_opening "
    "washing_machine vacuum_cleaner clock_alarm clock_tick glass_breaking "
    "helicopter chainsaw siren car_horn engine train church_bells airplane fireworks hand_saw"
).split()
MAJOR_CATEGORIES = (
    "Animals",
    "Natural soundscapes and water",
    "Human, non-speech",
    "Interior, domestic",
    "Exterior, urban",
)

# The thesis speaks of five groups that ESC-50 does not have (section 4.3.3); this is our reading.
THESIS_GROUPS = {
    "speech: human voice": (20, 21, 23, 24, 26, 28),
    "music: tonal signals": (37, 42, 43, 46),
    "noise: weather and water": (10, 11, 12, 15, 16, 17, 18, 19),
    "animals": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14),
    "machinery": (35, 36, 40, 41, 44, 45, 47, 49),
}


def fetch(cache: str | Path) -> Path:
    """Download and unpack the official archive (about 600 MB) in `cache`, once; return its folder.

    GitHub packs an archive anew from time to time, so that its bytes change: its content is checked
    instead, what a clip is and, from the second download on, every sample. An interrupted download
    or unpacking starts clean the next time and never leaves a half-filled folder.

    Raises
    ------
    OSError : the download fails.
    ValueError : the archive does not hold the expected clips, which are then named; it is kept.
    """
    import pooch

    cache = Path(cache)
    folder = cache / "ESC-50"
    if folder.is_dir():
        return folder
    try:
        archive = Path(
            pooch.retrieve(ARCHIVE_URL, None, fname="ESC-50.zip", path=cache, progressbar=True)
        )
    except Exception as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise OSError(
            f"fetch: {ARCHIVE_URL} could not be downloaded ({reason}); check the connection and "
            f"the space in {cache} and run again, or give your own copy as DATA=folder."
        ) from error
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        unpacked = unpack(archive, Path(scratch), ARCHIVE_ROOT)
        try:
            _check_content(unpacked, cache / CHECKSUM)
        except (ValueError, OSError) as error:
            raise ValueError(
                f"fetch: {archive} does not hold the expected clips: {error} It is kept; delete it "
                "to download it again, or give your own copy as DATA=folder."
            ) from None
        os.replace(unpacked, folder)
    return folder


def _check_content(folder: Path, checksum: Path) -> None:
    """Check that a folder holds ESC-50, and the samples that were found the first time."""
    clips = read_clips(folder)
    counts = len(clips), *(clips[column].nunique() for column in ("target", "fold"))
    if counts != OFFICIAL:
        raise ValueError(f"clips, classes and folds are {counts}; expected {OFFICIAL}.")
    if not is_esc50(clips):
        raise ValueError("its classes are not those of ESC-50.")
    found = hashlib.sha256()
    for path in tqdm(clips.path, desc="checking", unit="clip"):
        samples, sr = soundfile.read(path, dtype="int16")
        if samples.shape != (CLIP_SAMPLES,) or sr != CLIP_SR:
            raise ValueError(
                f"{Path(path).name} has {samples.shape} samples at {sr} Hz; expected "
                f"{CLIP_SAMPLES} at {CLIP_SR} Hz."
            )
        found.update(samples.tobytes())
    digest = found.hexdigest()
    if not checksum.is_file():
        write_atomically(checksum, lambda path: path.write_text(digest + "\n"))
    elif checksum.read_text().strip() != digest:
        raise ValueError(f"its samples are not those of the first download, noted in {checksum}.")


def is_esc50(clips: pd.DataFrame) -> bool:
    """Say whether classes are called and numbered as in ESC-50, all or some of them."""
    named = clips.target.map(dict(enumerate(CATEGORIES)))
    return bool((named == clips.category).all())


def labelled(profile: Profile, clips: pd.DataFrame) -> Profile:
    """Return a profile with the name and licence of these clips, if they are not its own."""
    if is_esc50(clips):
        known = get_profile("esc50") if profile.procedural else profile
    elif _is_procedural(clips):
        known = get_profile("demo")
    else:
        return replace(profile, dataset_label="clips of one's own", licence="its makers'")
    return replace(profile, dataset_label=known.dataset_label, licence=known.licence)


def major_category(clips: pd.DataFrame) -> pd.Series:
    """Return the major category of each clip; other classes than ESC-50's stand for themselves."""
    return _group(clips, {target: MAJOR_CATEGORIES[target // 10] for target in range(50)})


def thesis_group(clips: pd.DataFrame) -> pd.Series:
    """Return the thesis's group of each clip, missing where none fits.

    Other classes than ESC-50's stand for themselves.
    """
    return _group(clips, {t: name for name, targets in THESIS_GROUPS.items() for t in targets})


def _group(clips: pd.DataFrame, of_target: dict[int, str]) -> pd.Series:
    return clips.target.map(of_target) if is_esc50(clips) else clips.category


def _is_procedural(clips: pd.DataFrame) -> bool:
    from esc_lib.data.demo_sources import CLASSES  # SciPy takes a while to import

    return set(clips.category) <= {each.name for each in CLASSES}
